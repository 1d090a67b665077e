//! Requests of the CLI to the guard, and the answers: one JSON object a line each way, over a Unix
//! socket. Who may open that, `guard.control_mode` says; who may ask what, `[[operator]]`.

use std::net::IpAddr;

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::request_id::RequestId;

pub(crate) mod caller;
pub mod client;
mod entry;
pub(crate) mod required;
pub mod server;
mod status;
pub(crate) mod watch;
mod whoami;

pub use entry::Entry;
pub use status::{
    AuditState, BanCount, Budget, CertificateEnd, Counted, Feed, Interface, LogDrops, Lost, ReloadRefused, Requests,
    Status, Top,
};
pub use whoami::{Grant, Whoami};

/// Which packets the kernel program is to write lines about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traced {
    /// Of whom, an address or a prefix; `None`: everybody's.
    pub source: Option<String>,
    /// Only those that are dropped or answered.
    pub drops_only: bool,
}

impl Traced {
    /// Of whom.
    ///
    /// # Errors
    /// The text is neither an address nor a prefix.
    pub fn source(&self) -> Result<Option<Source>, String> {
        let parse = |text: &String| text.parse::<Source>().map_err(|error| format!("{text:?}: {error}"));
        self.source.as_ref().map(parse).transpose()
    }
}

/// What the CLI asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Block a source.
    BlockAdd {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
        /// How long; absent: `guard.default_ban`; 0: until removed.
        seconds: Option<u64>,
        /// Why, for people.
        reason: String,
        /// Count only.
        shadow: bool,
        /// Take it back after so many seconds unless [`Self::Confirm`] comes.
        #[serde(default)]
        confirm: Option<u64>,
        /// Good clients that it covers do not stand against it.
        #[serde(default)]
        force: bool,
    },
    /// What shadow entries and rules would have hit.
    ShadowReport,
    /// Enforce what is in shadow.
    ShadowPromote {
        /// An entry's id, `rule.NAME`, a limit's name, or `all`.
        what: String,
    },
    /// Put a new key in the place of the one that signs the audit chain.
    AuditRotateKey,
    /// Let rules ban again that are paused.
    Resume,
    /// Let a block stay that was added to be confirmed.
    Confirm {
        /// The ban; absent: the only one that waits.
        #[serde(default)]
        id: Option<u64>,
    },
    /// Remove a block.
    BlockDel {
        /// Exactly as it is listed.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// Remove all blocks.
    BlockFlush,
    /// List all blocks in force.
    BlockList,
    /// Begin to load a list. Nothing of it is in force before [`Self::BlockImportCommit`].
    BlockImportBegin {
        /// The feed whose content it becomes; absent: it is added to what was imported without a name.
        feed: Option<String>,
        /// How long its entries last that do not say so themselves; absent: until they are removed.
        seconds: Option<u64>,
        /// Count only.
        shadow: bool,
        /// Good clients that it names do not stand against their lines.
        #[serde(default)]
        force: bool,
    },
    /// Some entries of the list.
    BlockImportChunk {
        /// What [`Answer::Import`] said.
        id: u64,
        /// Line, source, seconds, reason.
        entries: Vec<ImportEntry>,
    },
    /// The list is complete: put it in force.
    BlockImportCommit {
        /// What [`Answer::Import`] said.
        id: u64,
        /// SHA-256 of the list, hexadecimal, for the record.
        digest: String,
        /// Nothing may be put in the place of what is there.
        #[serde(default)]
        allow_empty: bool,
    },
    /// List everything that is blocked, a page at a time.
    BlockExport {
        /// Of this feed alone.
        feed: Option<String>,
        /// Where the page before ended.
        cursor: Option<Cursor>,
    },
    /// Let a source through, whatever else is said.
    AllowAdd {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
        /// Why, for people.
        reason: String,
        /// Also if it is wider than a block may be.
        #[serde(default)]
        yes: bool,
    },
    /// Undo [`Self::AllowAdd`].
    AllowDel {
        /// Exactly as it is listed.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// List what is let through, configured and added.
    AllowList,
    /// Explain an address.
    Why {
        /// Which.
        address: IpAddr,
    },
    /// How things are.
    Status,
    /// How things are, and the entries that count most.
    Top,
    /// Read the configuration again.
    Reload,
    /// Tell what happens from now on, a line each, until either side goes away.
    Watch {
        /// Decisions. Who does not keep up with them is let go.
        #[serde(default = "yes")]
        decisions: bool,
        /// Samples of packets that were dropped or answered. Who does not keep up with them is told how many he missed.
        #[serde(default = "yes")]
        packets: bool,
        /// Lines of the kernel program about packets of a source.
        #[serde(default)]
        kernel: Option<Traced>,
    },
    /// Take links and pins out of the kernel.
    Detach,
    /// Undo [`Self::Detach`].
    Attach,
    /// Who asks, and what they may do here.
    Whoami,
}

const fn yes() -> bool {
    true
}

/// What the guard answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Done; what changed.
    Done {
        /// For people.
        message: String,
        /// How many entries changed.
        changed: u64,
    },
    /// Not done.
    Refused {
        /// What stands against it, as one word: `allowlisted`, `own_address`, `too_wide`, `full`, `not_found`, ...
        code: String,
        /// For people, with what would be right.
        message: String,
    },
    /// To [`Request::BlockList`].
    Blocks {
        /// In the order of their ids.
        entries: Vec<Entry>,
        /// Lists in force, whose entries are not among them.
        #[serde(default)]
        lists: Vec<Feed>,
    },
    /// To [`Request::BlockImportBegin`] and what follows it.
    Import(Box<Import>),
    /// To [`Request::BlockExport`].
    Exported {
        /// Blocks that were made one by one first, then feed by feed.
        entries: Vec<Exported>,
        /// Where the next page begins; absent: this was the last.
        next: Option<Cursor>,
    },
    /// To [`Request::AllowList`].
    Allows {
        /// Configured ones first.
        entries: Vec<Allow>,
    },
    /// To [`Request::ShadowReport`].
    Shadow {
        /// Limits first, then rules, then entries in the order of their ids.
        rows: Vec<Shadowed>,
    },
    /// To [`Request::Why`].
    Why(Box<Why>),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Top`].
    Top(Box<Top>),
    /// To [`Request::Whoami`].
    Whoami(Box<Whoami>),
}

impl Answer {
    /// Not done because whoever asks may not have it done.
    pub(crate) fn denied(message: String) -> Self {
        Self::Refused { code: DENIED.to_owned(), message }
    }
}

/// The code of [`Answer::Refused`] where whoever asks lacks a role.
pub const DENIED: &str = "denied";

/// What a shadow rule or a shadow entry would have hit, by what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// What promotes it: `rule.NAME`, `limit.address`, `guard.packet_limit` and the like, or an entry's id.
    pub what: String,
    /// `rule`, `limit`, or the entry's source.
    pub name: String,
    /// How many sources it would block now, or refuse; absent: the kernel counts packets alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<u64>,
    /// Packets that would have been dropped.
    pub packets: u64,
    /// Requests that would have been refused, since this guard started or the limit was configured.
    #[serde(default)]
    pub requests: u64,
    /// Clients among them that were served with a valid token lately; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_clients: Option<u64>,
}

/// An entry of a list: its line, its source, how many seconds it lasts, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportEntry(pub u32, #[serde(with = "crate::text")] pub Source, pub Option<u64>, pub Option<String>);

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Which.
    pub id: u64,
    /// The feed; empty: without a name.
    pub feed: String,
    /// Entries that were taken so far.
    pub taken: u64,
    /// Sources that were not listed before.
    pub added: u64,
    /// Sources that were listed before and still are.
    pub unchanged: u64,
    /// Sources that are not listed any more.
    pub removed: u64,
    /// Entries that must not be blocked.
    pub refused: u64,
    /// Those of the last chunk.
    pub refusals: Vec<Refusal>,
}

/// An entry that must not be blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which line of the list.
    pub line: u32,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// As in [`Answer::Refused`].
    pub code: String,
    /// As in [`Answer::Refused`].
    pub message: String,
}

/// Where a page of an export ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The feed's number; 0: blocks that were made one by one.
    pub feed: u32,
    /// The source that came last; absent: the feed is to begin.
    pub after: Option<String>,
}

/// An exported block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Seconds left; absent: until removed.
    pub seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// `rule:NAME`, `operator:UID`, `feed:NAME`.
    pub actor: String,
    /// Counted only.
    pub shadow: bool,
}

/// An allowlisted source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `config` or `operator:UID`.
    pub actor: String,
}

/// All that is known about an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Which.
    pub address: IpAddr,
    /// What happens to its packets: `blocked`, `shadow_blocked`, `allowed` or `passed`.
    pub verdict: String,
    /// The entry that decides, if one does.
    pub entry: Option<Entry>,
    /// The requests that were the evidence, oldest first.
    pub evidence: Vec<RequestId>,
    /// From the offence to the entry in the kernel, in microseconds.
    pub reaction_micros: Option<u64>,
    /// Connections that were closed when the entry was made.
    pub connections_closed: Option<u32>,
    /// Why it would not be banned: `allowlisted 10.0.0.0/8 (config)`, `own address`, ...
    pub shields: Vec<String>,
    /// How far each rule is from banning it, as the proxy says; empty where that is not known.
    #[serde(default)]
    pub score: Vec<Score>,
    /// What its past means for its next ban.
    #[serde(default)]
    pub standing: Standing,
    /// Earlier entries for it that have ended, newest first, at most 10.
    pub history: Vec<Past>,
    /// What happens next, as a sentence.
    pub next: String,
}

/// How far a rule is from banning an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// The rule's name.
    pub rule: String,
    /// What it counts, for people.
    pub of: String,
    /// So many signals are held against the address.
    pub held: u32,
    /// So many ban it, or list it where the rule is in shadow.
    pub needed: u32,
    /// Within so many seconds.
    pub within_seconds: u64,
    /// Whether the rule only counts.
    pub shadow: bool,
}

/// What an address's past means for its next ban.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Bans by rules that have ended and still count.
    pub earlier_bans: u64,
    /// How many times as long as its rule says the ban in force is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// How many times as long its next ban by a rule would be.
    pub next_factor: u32,
    /// For so many seconds half as many signals ask for its next ban.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation_seconds: Option<u64>,
    /// Principals that have been good there for a while.
    #[serde(default)]
    pub good_principals: u64,
    /// For so many seconds rules may not ban it, because an operator unbanned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unban_grace_seconds: Option<u64>,
}

/// An entry that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The ban's id.
    pub id: u64,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub actor: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub ended: String,
    /// `expired`, `removed by operator:UID`, `flushed by ...`, `replaced`.
    pub how: String,
    /// Packets dropped.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;
