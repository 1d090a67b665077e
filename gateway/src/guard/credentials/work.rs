//! What the writer of the store is asked, and what it has done: the guard's loop passes both on.

use std::os::fd::OwnedFd;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    behind::SeenRecord,
    rows::{KeyRow, RevocationRow},
    store::Unrecorded,
};
use crate::{
    guard::{
        bans::Refused,
        control::{ControlAnswer, ControlRequest},
    },
    message::credentials::CredentialChange,
    os::clock::Now,
    policy::auth::{
        api_key::{
            Tag,
            record::{KeyRecord, Profile},
        },
        revocation::Revoked,
    },
};

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum CredentialCommand {
    /// Make a key of this prefix.
    Make { prefix: String, name: String, profile: Profile, expires: Option<u64> },
    /// Make a key in the place of another, which is good for some seconds more.
    Rotate { prefix: String, what: String, overlap: u64, expires: Option<u64> },
    /// Revoke a key, or all keys of a name.
    RevokeKey { what: String, reason: String },
    /// Show a key, or all keys of a name.
    Show { what: String },
    /// Show a page of all keys.
    List { after: Option<(String, u64)> },
    /// Take over keys that were made elsewhere. The SHA-256 stands in the place of the hash.
    Import { keys: Vec<KeyRecord> },
    /// Revoke tokens, until a moment in seconds since the Unix epoch.
    Revoke { revoked: Revoked, expires: Option<u64>, reason: String },
    /// Show a page of all revocations.
    Revocations { after: u64 },
    /// Lift a revocation.
    Lift { number: u64 },
}

/// What the configuration asks for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ConfiguredCredentials {
    /// API keys, hashed with this pepper; `None`: with that of the state folder. And revocations.
    Keys(Option<Vec<u8>>),
    /// Nothing.
    Nothing,
    /// Revocations of tokens alone.
    Revocations,
}

/// What is said of API keys where the configuration has none.
pub(crate) const NO_KEYS: &str = "no API keys are configured: add `[api_keys]` to the configuration and reload";

impl ConfiguredCredentials {
    /// Whether there can be what an order is about.
    ///
    /// # Errors
    /// The configuration asks for nothing of it, and the store is not open.
    pub(crate) fn judge(&self, request: &ControlRequest) -> Result<(), Refused> {
        let what = match request {
            _ if *self != Self::Nothing => return Ok(()),
            ControlRequest::TokenRevocationDel { .. }
            | ControlRequest::TokenRevocations { .. }
            | ControlRequest::TokenRevoke { .. } => {
                "no tokens are configured, so none can be revoked: add `[jwt]` or `[introspection.NAME]`, and reload"
            }
            _ => NO_KEYS,
        };
        Err(Refused::new("not_configured", what))
    }
}

/// Work for the writer.
pub(crate) enum CredentialJob {
    /// An operator asks.
    Order { order: CredentialCommand, actor: String, now: Now, to: oneshot::Sender<ControlAnswer> },
    /// The configuration asks for this.
    Configure { wanted: ConfiguredCredentials, now: Now },
    /// There is a file of revocations that was not read yet: proxies that start do not know all that is revoked.
    AwaitFile(Now),
    /// The file of revocations says this. `is_whole`: all of it could be read, so what it does not say is lifted.
    File { revoked: Vec<Revoked>, is_whole: bool, now: Now },
    /// Proxies say when keys were used.
    Used(Vec<(u64, u64)>),
    /// The audit chain has these. It ends with this record.
    Recorded(Vec<i64>, SeenRecord),
    /// A minute is over. The audit chain ends with this record.
    Tidy(Now, SeenRecord),
    /// There have been many changes: all of it is to be handed to the next proxy.
    Gather(Now),
    /// These are the other machines of the cluster; none: there is no cluster, and nobody to be told anything.
    Share { nodes: Vec<String>, now: Now },
    /// Another machine says this.
    Peer { said: PeerSays, now: Now },
    /// The next page of the API keys that were made here, but for the newest.
    Page(Now),
}

/// What another machine says of revocations.
#[derive(Debug)]
pub(crate) struct PeerSays {
    /// Its name.
    pub(crate) node: String,
    /// It revokes these: what, until when (seconds since the Unix epoch), since when (milliseconds), and why.
    pub(crate) revoked: Vec<(Revoked, Option<u64>, u64, String)>,
    /// It revokes these no longer.
    pub(crate) restored: Vec<Revoked>,
    /// It has these API keys: each with when it was made (milliseconds) and by whom, hashed with the pepper of this check.
    pub(crate) keys: Vec<(KeyRecord, u64, String, Tag)>,
    /// It revokes nothing else.
    pub(crate) is_all: bool,
    /// By this number its whole is known again; `None`: it is a change.
    pub(crate) whole: Option<u64>,
}

/// What this machine revokes itself.
#[derive(Debug, Default)]
pub(crate) struct OwnRevocations {
    pub(crate) rows: Vec<RevocationRow>,
    /// There is more than others are told.
    pub(crate) is_more: bool,
    /// The API keys that were made here, the newest and those that have just changed, and what tells their pepper from others.
    pub(crate) keys: Vec<KeyRow>,
    pub(crate) pepper: Tag,
    /// There are more keys: others are told of them page by page.
    pub(crate) is_more_keys: bool,
}

/// What became of what another machine said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PeerOutcome {
    pub(crate) node: String,
    /// As in [`PeerSays::whole`].
    pub(crate) whole: Option<u64>,
    /// So much has changed here.
    pub(crate) changed: u64,
    /// So much was refused.
    pub(crate) refused: u64,
    /// So many API keys of it there was no room for.
    pub(crate) no_room: u64,
}

/// What the writer has done.
#[derive(Default)]
pub(crate) struct CredentialWork {
    /// What changes for the proxies.
    pub(crate) changes: Vec<CredentialChange>,
    /// All that proxies are to know, in the place of what they know.
    pub(crate) whole: Option<OwnedFd>,
    /// Proxies that run do not know of it yet.
    pub(crate) is_new: bool,
    /// What the configuration asks for is open, or cannot be opened at the moment.
    pub(crate) is_configured: bool,
    /// What the audit chain is to have.
    pub(crate) records: Vec<Unrecorded>,
    /// Whom to answer, once proxies know of the changes.
    pub(crate) answer: Option<(ControlAnswer, oneshot::Sender<ControlAnswer>)>,
    /// What an operator should know, if that may have changed.
    pub(crate) warnings: Option<Vec<String>>,
    /// What this machine revokes itself, if that may have changed and others are to know.
    pub(crate) own: Option<OwnRevocations>,
    /// A page of API keys that others are to know, and what tells their pepper from others.
    pub(crate) page: Option<(Vec<KeyRow>, Tag)>,
    /// What became of what another machine said.
    pub(crate) taken: Option<PeerOutcome>,
}

/// What an audit record says of a key.
pub(super) fn described<const N: usize>(record: &KeyRecord, others: [(&str, Value); N]) -> Value {
    use crate::policy::auth::api_key::{record::Network, text::KeyId};
    let mut members = serde_json::json!({
        "key": KeyId(record.id).to_string(),
        "name": record.name,
        "roles": record.profile.roles,
        "expires": record.expires.map(|seconds| crate::os::clock::rfc3339(seconds.saturating_mul(1_000))),
    });
    if let Some(members) = members.as_object_mut() {
        members.extend(others.map(|(name, value)| (name.to_owned(), value)));
        let sources = record.profile.sources.iter().map(|Network(source)| source.to_string());
        if !record.profile.sources.is_empty() {
            members.insert("from".to_owned(), sources.collect::<Vec<_>>().into());
        }
        if !record.profile.hosts.is_empty() {
            members.insert("hosts".to_owned(), record.profile.hosts.clone().into());
        }
        if let Some(plan) = &record.profile.plan {
            members.insert("plan".to_owned(), plan.as_str().into());
        }
        if members.get("expires").is_some_and(Value::is_null) {
            members.remove("expires");
        }
    }
    members
}

/// What an audit record, or an operator, is told of what is revoked.
pub(crate) fn revoked_text(revoked: &Revoked) -> String {
    use crate::policy::auth::api_key::text::KeyId;
    let since = |before: &Option<u64>| {
        before.map_or_else(String::new, |before| {
            format!(" issued before {}", crate::os::clock::rfc3339(before.saturating_mul(1_000)))
        })
    };
    match revoked {
        Revoked::Key(id) => format!("the API key {}", KeyId(*id)),
        Revoked::Issuer { issuer, before } => format!("all tokens of {issuer}{}", since(before)),
        Revoked::Subject { issuer, subject, before } => format!("the tokens of {subject} of {issuer}{}", since(before)),
        Revoked::Token { issuer, id } => format!("the token {id} of {issuer}"),
        Revoked::Signer { issuer, kid } => format!("what {issuer} has signed by its key {kid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_told_so() {
        use ConfiguredCredentials as C;
        let list = || ControlRequest::KeyList { after: None };
        let revoke = || ControlRequest::KeyRevoke { what: "a".to_owned(), reason: "a".to_owned() };
        let revocations = || ControlRequest::TokenRevocations { after: 0 };
        for (wanted, request, expect) in [
            (C::Nothing, list(), Some("`[api_keys]`")),
            (C::Nothing, revoke(), Some("`[api_keys]`")),
            (C::Nothing, revocations(), Some("`[jwt]`")),
            (C::Nothing, ControlRequest::TokenRevocationDel { number: 1 }, Some("`[jwt]`")),
            (C::Revocations, revocations(), None),
            // Keys from before are in the store, and can be revoked.
            (C::Revocations, list(), None),
            (C::Keys(None), list(), None),
        ] {
            let refused = wanted.judge(&request).err();
            assert_eq!(refused.as_ref().map(|refused| refused.code), expect.map(|_| "not_configured"), "{request:?}");
            assert!(refused.zip(expect).is_none_or(|(refused, says)| refused.message.contains(says)), "{request:?}");
        }
    }
}
