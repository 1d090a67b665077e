//! What machines tell each other of what their guards have decided.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::policy::auth::{
    api_key::{
        Tag,
        record::{KeyRecord, MOST, Profile},
    },
    revocation::Revoked,
};

/// The longest id, subject or issuer of what is revoked, in bytes.
pub(crate) const LONGEST_REVOKED: usize = 1_024;

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 200;

/// The longest name of who decided, in bytes: `rule:` and a name.
const LONGEST_ACTOR: usize = 80;

/// The length of a public key of X25519.
pub(crate) const BOX_BYTES: usize = 32;

/// The longest form of encrypted ticket keys, in bytes.
const LONGEST_SEALED: usize = 256;

/// The longest name of a machine, in bytes.
const LONGEST_NODE: usize = 255;

/// How actors begin that are other machines.
pub(crate) const ACTOR: &str = "cluster:";

/// One decision of another guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClusterFact {
    /// A source is always let through.
    Allow {
        #[serde(with = "crate::text")]
        source: Source,
        reason: String,
    },
    /// A source is blocked.
    Block {
        #[serde(with = "crate::text")]
        source: Source,
        /// When that began: milliseconds since the Unix epoch.
        started: u64,
        /// When it ends, likewise; `None`: once it is removed.
        until: Option<u64>,
        /// Who decided it there: `rule:NAME`, `operator:1000`.
        by: String,
        reason: String,
    },
    /// A source is no longer always let through.
    Disallow {
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// An operator has removed what blocked a source.
    Unblock {
        #[serde(with = "crate::text")]
        source: Source,
        /// When: milliseconds since the Unix epoch. What began later stays.
        at: u64,
    },
    /// Tokens, or an API key, are revoked.
    Revoke {
        revoked: Revoked,
        /// When that is over: seconds since the Unix epoch; `None`: once it is lifted there.
        expires: Option<u64>,
        /// When it was decided: milliseconds since the Unix epoch.
        at: u64,
        /// Who decided it there.
        by: String,
        reason: String,
    },
    /// That machine revokes this no longer.
    Restore { revoked: Revoked },
    /// There is this API key.
    Key {
        record: Box<KeyRecord>,
        /// When it was made: milliseconds since the Unix epoch.
        created: u64,
        /// Who made it there.
        by: String,
        /// What tells the pepper that it is hashed with from others.
        pepper: Tag,
    },
    /// In a whole: it was cut, so that nothing is lifted by it.
    Cut,
    /// In a whole: that machine revokes more than it tells here, so that nothing is lifted by it.
    MoreRevoked,
    /// To this key the others encrypt their ticket keys for that machine.
    TicketBox { key: [u8; BOX_BYTES] },
    /// The ticket keys of that machine, encrypted for the machine that they are for.
    TicketKeys { to: String, sealed: Vec<u8> },
}

impl ClusterFact {
    /// Cuts texts to what others take.
    pub(super) fn shortened(mut self) -> Self {
        match &mut self {
            Self::Allow { reason, .. } => shorten(reason, LONGEST_REASON),
            Self::Block { by, reason, .. } | Self::Revoke { by, reason, .. } => {
                shorten(by, LONGEST_ACTOR);
                shorten(reason, LONGEST_REASON);
            }
            Self::Key { by, .. } => shorten(by, LONGEST_ACTOR),
            Self::Cut
            | Self::Disallow { .. }
            | Self::MoreRevoked
            | Self::Restore { .. }
            | Self::TicketBox { .. }
            | Self::TicketKeys { .. }
            | Self::Unblock { .. } => {}
        }
        self
    }

    /// The same by the clock of this machine, which is ahead of the other one's by so many milliseconds. When tokens expire is
    /// the issuer's business.
    pub(super) fn shifted(mut self, millis: i64) -> Self {
        match &mut self {
            Self::Block { started, until, .. } => {
                *started = started.saturating_add_signed(millis);
                *until = until.map(|until| until.saturating_add_signed(millis));
            }
            Self::Unblock { at, .. } => *at = at.saturating_add_signed(millis),
            _ => {}
        }
        self
    }

    /// Whether it is as long as it may be, and in one line.
    pub(super) fn fits(&self) -> bool {
        let fits = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
        match self {
            Self::Allow { reason, .. } => fits(reason, LONGEST_REASON),
            Self::Block { by, reason, .. } => fits(by, LONGEST_ACTOR) && fits(reason, LONGEST_REASON),
            Self::Revoke { revoked, by, reason, .. } => {
                fits(by, LONGEST_ACTOR) && fits(reason, LONGEST_REASON) && is_tellable(revoked)
            }
            Self::Restore { revoked } => is_tellable(revoked),
            Self::Key { record, by, .. } => fits(by, LONGEST_ACTOR) && is_tellable_key(record),
            Self::TicketKeys { to, sealed } => fits(to, LONGEST_NODE) && sealed.len() <= LONGEST_SEALED,
            Self::Cut | Self::Disallow { .. } | Self::MoreRevoked | Self::TicketBox { .. } | Self::Unblock { .. } => {
                true
            }
        }
    }

    /// Whether it is about tokens and keys: none of the bans' business.
    pub(crate) const fn is_of_credentials(&self) -> bool {
        matches!(self, Self::Key { .. } | Self::MoreRevoked | Self::Restore { .. } | Self::Revoke { .. })
    }

    /// Whether it is about the keys of TLS tickets.
    pub(crate) const fn is_of_tickets(&self) -> bool {
        matches!(self, Self::TicketBox { .. } | Self::TicketKeys { .. })
    }

    /// How many bytes it takes in a letter.
    pub(super) fn size(&self) -> usize {
        postcard::to_stdvec(self).map_or(usize::MAX, |bytes| bytes.len())
    }
}

/// Whether a key is as any that an operator may make.
pub(crate) fn is_tellable_key(record: &KeyRecord) -> bool {
    let is_word = |text: &String| {
        !text.is_empty() && text.len() <= 255 && !text.contains(char::is_whitespace) && !text.contains(char::is_control)
    };
    let Profile { roles, sources, hosts, plan } = &record.profile;
    let lists = [roles.len(), sources.len(), hosts.len()];
    lists.iter().all(|count| *count <= MOST)
        && record.name.len() <= 255
        && !record.name.contains(char::is_control)
        && roles.iter().chain(hosts).chain(plan).all(is_word)
}

/// Whether a revocation is as short as others take it.
pub(crate) fn is_tellable(revoked: &Revoked) -> bool {
    let fits = |text: &str| text.len() <= LONGEST_REVOKED && !text.chars().any(char::is_control);
    match revoked {
        Revoked::Key(_) => true,
        Revoked::Issuer { issuer, .. } => fits(issuer),
        Revoked::Subject { issuer, subject, .. } => fits(issuer) && fits(subject),
        Revoked::Token { issuer, id } => fits(issuer) && fits(id),
        Revoked::Signer { issuer, kid } => fits(issuer) && fits(kid),
    }
}

fn shorten(text: &mut String, most: usize) {
    text.retain(|letter| !letter.is_control());
    text.truncate(text.floor_char_boundary(most));
}
