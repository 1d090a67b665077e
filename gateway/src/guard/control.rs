//! Requests of the CLI to the guard, and the answers: one JSON object a line each way, over a Unix
//! socket. Who may open that, `guard.control_mode` says; who may ask what, `[[operator]]`.

use std::{collections::BTreeMap, net::IpAddr};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::{
    message::observer::{alert::AlertReport, anomalies::Anomalies},
    policy::{
        detect::ProfileRow,
        limit::report::{LimitQuestion, LimitRow},
    },
    settings::operators::Roles,
    snapshot::explain,
};

mod admin_token;
pub(crate) mod caller;
mod clamp;
pub mod client;
mod credentials;
mod crowdsec;
mod entry;
mod lists;
pub(crate) mod required;
pub mod server;
mod status;
mod traced;
pub(crate) mod watch;
mod whoami;
mod why;

pub use admin_token::{AdminToken, NewAdminToken};
pub use clamp::{ClampEntry, KernelBudgets, PlanEntry, TotalBudget};
pub use credentials::{ImportedKey, KeyMade, KeyPage, KeyShown, NewKey, RevocationPage, RevocationShown, TokensOf};
pub use crowdsec::CrowdsecStatus;
pub use entry::{AllowEntry, BlockEntry};
pub use lists::{ExportCursor, Exported, ImportEntry, ImportProgress, ListRefusal};
pub use status::{
    ANOTHER_GUARD, AuditState, BudgetStatus, CertificateEnd, DiskSpace, FeedFetch, FeedStatus, GuardStatus,
    InterfaceStatus, LogDrops, LostStatus, OriginCount, ProcessStatus, ReloadRefused, RequestsStatus, TopStatus,
    VerdictCount,
};
pub use traced::Traced;
pub use whoami::{Grant, Whoami};
pub use why::{AddressReport, BanHistory, Past, Score};

/// What the CLI asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
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
        /// The feed whose content it becomes; empty: the list without a name; absent: it is added to that list.
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
        /// What [`ControlAnswer::Import`] said.
        id: u64,
        /// Line, source, seconds, reason.
        entries: Vec<ImportEntry>,
    },
    /// The list is complete: put it in force.
    BlockImportCommit {
        /// What [`ControlAnswer::Import`] said.
        id: u64,
        /// SHA-256 of the list, hexadecimal, for the record.
        digest: String,
        /// Nothing may be put in the place of what is there.
        #[serde(default)]
        allow_empty: bool,
    },
    /// The list is not put in force after all.
    BlockImportAbort {
        /// What [`ControlAnswer::Import`] said.
        id: u64,
        /// What is wrong with the list, for the record and for `status`; absent: nobody needs to know.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Find blocks in force, the youngest first, a page at a time.
    BlockFind {
        /// What their source, reason or actor holds, in whatever case; an address also finds networks around it. Empty:
        /// all.
        #[serde(default)]
        text: String,
        /// Where the page before ended.
        #[serde(default)]
        before: Option<u64>,
        /// At most so many.
        most: u16,
    },
    /// List everything that is blocked, a page at a time.
    BlockExport {
        /// Of this feed alone.
        feed: Option<String>,
        /// Where the page before ended.
        cursor: Option<ExportCursor>,
    },
    /// Fetch the list of a feed now.
    FeedRefresh {
        /// Which.
        name: String,
        /// Take what comes, however much is gone.
        #[serde(default)]
        accept: bool,
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
    /// List the sources whose budgets in the kernel are divided.
    ClampList,
    /// End a clamp.
    ClampDel {
        /// Exactly as it is listed.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// Explain an address.
    Why {
        /// Which.
        address: IpAddr,
    },
    /// How things are.
    Status,
    /// How things are, and the entries that count most.
    Top,
    /// Which sources and principals fail and ask most.
    Profiles {
        /// At most so many.
        most: u16,
    },
    /// What would become of a request or a token.
    Explain {
        /// What is asked.
        question: Box<explain::ExplainQuestion>,
    },
    /// What limits on requests have counted, or a change of it.
    Limit {
        /// What.
        question: LimitQuestion,
    },
    /// What was used up of quotas, or a change of it.
    Quota {
        /// What.
        question: LimitQuestion,
    },
    /// Read the configuration again.
    Reload {
        /// Tell what that would change, and change nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Become the program on disk.
    Upgrade,
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
    /// Make an API key.
    KeyNew(NewKey),
    /// Make a key in the place of another, which is good for some seconds more.
    KeyRotate {
        /// The key's id, or its name.
        what: String,
        /// So many seconds.
        overlap: u64,
        /// After how many seconds the new key expires; absent: when the one before does.
        #[serde(default)]
        seconds: Option<u64>,
    },
    /// Revoke API keys.
    KeyRevoke {
        /// A key's id, or a name: all keys of it.
        what: String,
        /// Why, for the record.
        reason: String,
    },
    /// Show API keys.
    KeyShow {
        /// A key's id, or a name.
        what: String,
    },
    /// List all API keys, a page at a time.
    KeyList {
        /// Where the page before ended.
        #[serde(default)]
        after: Option<(String, String)>,
    },
    /// Take over API keys that were made elsewhere.
    KeyImport {
        /// Some of them.
        keys: Vec<ImportedKey>,
    },
    /// Revoke tokens.
    TokenRevoke {
        /// Which.
        what: TokensOf,
        /// For how many seconds; absent: until it is lifted.
        #[serde(default)]
        seconds: Option<u64>,
        /// Why, for the record.
        reason: String,
    },
    /// List all revocations, a page at a time.
    TokenRevocations {
        /// Where the page before ended.
        #[serde(default)]
        after: u64,
    },
    /// Lift a revocation.
    TokenRevocationDel {
        /// Its number.
        number: u64,
    },
    /// Take links and pins out of the kernel.
    Detach,
    /// Undo [`Self::Detach`].
    Attach,
    /// List what is not usual.
    Anomalies,
    /// List alerts, silences and receivers.
    AlertList,
    /// Send a test to receivers of alerts.
    AlertTest {
        /// Which; absent: all.
        #[serde(default)]
        receiver: Option<String>,
    },
    /// Tell nobody of some alerts for a while.
    AlertSilence {
        /// Labels that they have, `alertname` among them; values as in `alert.where`.
        labels: BTreeMap<String, String>,
        /// For so many seconds.
        seconds: u64,
        /// Why, for people.
        reason: String,
    },
    /// End a silence.
    AlertUnsilence {
        /// Its number.
        id: u64,
    },
    /// Who asks, and what they may do here.
    Whoami,
    /// Make a token by which somebody commands the gateway over the admin listener.
    AdminTokenNew {
        /// Whose it is.
        name: String,
        /// What it lets its holder do.
        roles: Roles,
        /// After so many seconds it has expired.
        seconds: u64,
    },
    /// List these tokens.
    AdminTokenList,
    /// End one of these tokens.
    AdminTokenRevoke {
        /// Whose it is.
        name: String,
    },
}

const fn yes() -> bool {
    true
}

/// What the guard answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ControlAnswer {
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
    /// To [`ControlRequest::BlockList`].
    Blocks {
        /// In the order of their ids.
        entries: Vec<BlockEntry>,
        /// Lists in force, whose entries are not among them.
        #[serde(default)]
        lists: Vec<FeedStatus>,
        /// Why no packet is dropped in the kernel, and what to do about it; absent: packets are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unattached: Option<String>,
    },
    /// To [`ControlRequest::BlockFind`].
    Found {
        /// The youngest first.
        entries: Vec<BlockEntry>,
        /// Where the next page begins: so many were looked at that this page may have few, or none. Absent: that was all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
        /// How many are in force, found or not.
        in_force: u64,
    },
    /// To [`ControlRequest::BlockImportBegin`] and what follows it.
    Import(Box<ImportProgress>),
    /// To [`ControlRequest::BlockExport`].
    Exported {
        /// Blocks that were made one by one first, then feed by feed.
        entries: Vec<Exported>,
        /// Where the next page begins; absent: this was the last.
        next: Option<ExportCursor>,
    },
    /// To [`ControlRequest::AllowList`].
    Allows {
        /// Configured ones first.
        entries: Vec<AllowEntry>,
    },
    /// To [`ControlRequest::KeyNew`] and [`ControlRequest::KeyRotate`].
    KeyMade(Box<KeyMade>),
    /// To [`ControlRequest::KeyList`] and [`ControlRequest::KeyShow`].
    Keys(Box<KeyPage>),
    /// To [`ControlRequest::TokenRevocations`].
    Revocations(Box<RevocationPage>),
    /// To [`ControlRequest::ShadowReport`].
    Shadow {
        /// Limits first, then rules, then entries in the order of their ids.
        rows: Vec<Shadowed>,
    },
    /// To [`ControlRequest::Why`].
    Why(Box<AddressReport>),
    /// To [`ControlRequest::Status`].
    Status(Box<GuardStatus>),
    /// To [`ControlRequest::Top`].
    Top(Box<TopStatus>),
    /// To [`ControlRequest::Profiles`].
    Profiles {
        /// Who fails most in the last minute first, then who asks most.
        rows: Vec<ProfileRow>,
    },
    /// To [`ControlRequest::Limit`] and [`ControlRequest::Quota`].
    Limits {
        /// In the order of the limits' names, or of how often they refused.
        rows: Vec<LimitRow>,
        /// So many rows there are besides.
        #[serde(default)]
        more: u64,
    },
    /// To [`ControlRequest::ClampList`].
    Clamps {
        /// In the order of their sources.
        entries: Vec<ClampEntry>,
    },
    /// To [`ControlRequest::Explain`].
    Explained {
        /// What is said.
        explanation: Box<explain::Explanation>,
    },
    /// To [`ControlRequest::Anomalies`].
    Anomalies(Box<Anomalies>),
    /// To [`ControlRequest::AlertList`] and [`ControlRequest::AlertTest`].
    Alerts(Box<AlertReport>),
    /// To [`ControlRequest::Whoami`].
    Whoami(Box<Whoami>),
    /// To [`ControlRequest::AdminTokenNew`].
    AdminToken(Box<NewAdminToken>),
    /// To [`ControlRequest::AdminTokenList`].
    AdminTokens {
        /// In the order of their names.
        tokens: Vec<AdminToken>,
    },
}

impl ControlAnswer {
    /// Not done because whoever asks may not have it done.
    pub(crate) fn denied(message: String) -> Self {
        Self::Refused { code: DENIED.to_owned(), message }
    }
}

/// The code of [`ControlAnswer::Refused`] where whoever asks lacks a role.
pub const DENIED: &str = "denied";

/// The code of a refusal: no limit counts by such a key, or there is no limit of that name. It is wrong usage.
pub const UNKNOWN_KEY: &str = "unknown_key";

/// The code of [`ControlAnswer::Refused`] where whoever asks has shown no token that is in force.
pub const BAD_TOKEN: &str = "bad_token";

/// The code of [`ControlAnswer::Refused`] where whoever asks has to come again later.
pub const TOO_MANY: &str = "too_many";

/// What a shadow rule or a shadow entry would have hit, by what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// What promotes it: `rule.NAME`, `limit.address`, `route.NAME.allow_if`, `guard.packet_limit` and the like, or an
    /// entry's id.
    pub what: String,
    /// `rule`, `limit`, `route`, or the entry's source.
    pub name: String,
    /// How many sources it would block now, or refuse; absent: the kernel counts packets alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<u64>,
    /// How many principals it would have denied something; absent: it does not tell them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principals: Option<u64>,
    /// Packets that would have been dropped.
    pub packets: u64,
    /// Requests that would have been refused, since this guard started or the limit was configured.
    #[serde(default)]
    pub requests: u64,
    /// Clients among them that were served with a valid token lately; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_clients: Option<u64>,
}

#[cfg(test)]
mod tests;
