//! The typed messages between the processes, small datagrams over `SOCK_SEQPACKET` socketpairs. This file has
//! those of guard and proxy; `observer`, `compiler` and `telemetry` have those of the
//! other processes.
//!
//! *Invariant:* a message is one datagram of at most [`MAX_BYTES`], carries the protocol's version, and is refused
//! whole if anything in it is off. The guard trusts nothing in a [`ToGuard`]: every field is bounded and checked again.
//!
//! A message keeps its name on the channel when its type is renamed: a proxy of another version speaks it too.

use std::{net::IpAddr, path::PathBuf};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use self::{
    cluster::StoreReport,
    credentials::CredentialChange,
    observer::anomalies::{Contributors, Deviations},
};
use crate::{
    policy::{
        auth::role_paths::UnseenRoles,
        detect::{BanRequest, Discounted, OurFault, ProfileRow},
        limit::{
            report::{LimitQuestion, LimitRow},
            spent::SpentBudgets,
        },
    },
    snapshot::explain,
    tls::TicketKeys,
};

pub(crate) mod bundle;
pub mod channel;
pub mod cluster;
pub mod compiler;
pub mod credentials;
pub mod observer;
pub mod telemetry;

mod bounds;
mod counts;
mod in_force;
mod key_sets;
mod plan_member;
mod upstreams;

pub(crate) use bounds::MAX_PATH;
pub use bounds::{Bounded, MAX_GOOD, MAX_SHADOWED, MAX_USED};
pub use counts::{ANSWERS, Counted, Lost, MAX_LABELS, add_counts, place_of_answer};
pub use in_force::{AllowInForce, BanInForce, CrawlerRanges, InForce, MAX_SLOWED, Probation, Slowed};
pub use key_sets::{KeptKeys, KeySetReport, MAX_KEPT, MAX_KEY_SETS, MAX_WHY};
pub use plan_member::{MAX_PLAN_MEMBERS, PlanMember};
pub use upstreams::{FailingServer, LONGEST_FAILURE, ServerState, UpstreamReport};

/// The largest message, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

pub use crate::os::seqpacket::MAX_DESCRIPTORS;

/// What the proxy tells the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuard {
    /// What a proxy says first to a guard that did not start it: to be answered with [`ToProxy::InForce`].
    Adopt {
        /// The number of the configuration that it serves.
        configuration: u64,
        /// How far it is.
        stage: Stage,
    },
    /// Every worker accepts connections.
    Ready,
    /// It cannot start: what is wrong, for the operator.
    Failed {
        /// One line.
        reason: String,
    },
    /// What came by [`ToProxy::Configure`] is compiled and can be served: it waits for [`ToProxy::Commit`].
    Configured {
        /// The number of the reload; 0: what the proxy was started with.
        reload: u64,
    },
    /// It cannot be served; the configuration before stays in force.
    NotConfigured {
        /// The number of the reload.
        reload: u64,
        /// Why, for the operator; at most [`MAX_REASON`] bytes.
        reason: String,
    },
    /// A rule asks for a ban.
    #[serde(rename = "Ask")]
    BanRequest(Box<BanRequest>),
    /// From whom something comes that is not usual: to [`ToProxy::Deviations`].
    Contributors(Box<Contributors>),
    /// Good clients fail together by what an upstream answers.
    OurFault(Box<OurFault>),
    /// Clients that were served with a valid token since the last message; at most [`MAX_GOOD`], some may be missing.
    Good(Vec<GoodClient>),
    /// Where members of plans that give budgets in the kernel have connections; each again after 20 seconds. At most
    /// [`MAX_PLAN_MEMBERS`], some may be missing.
    PlanMembers(Vec<PlanMember>),
    /// What was lost since the last message of this kind.
    Lost(Lost),
    /// How many requests and connections the proxy refused because of each ban since the last message; at most
    /// [`MAX_REFUSED`] bans, the rest is told later.
    Refused(Vec<(u64, u64)>),
    /// What became of requests since the last message of this kind.
    Counted(Box<Counted>),
    /// How an upstream is, once that has changed.
    Upstream(Box<UpstreamReport>),
    /// How the keys of an issuer are, after each fetch.
    KeySet(Box<KeySetReport>),
    /// Letters of guards of other machines, as they came.
    Letters(Vec<Vec<u8>>),
    /// How it is with the store between machines, once a second where there is a cluster.
    Store(Box<StoreReport>),
    /// The last good keys of an issuer, to be kept for the next proxy.
    FetchedKeys(Box<KeptKeys>),
    /// What a limit would have refused since the last message, were it not in shadow mode.
    WouldRefuse {
        /// Its name; of one on connections `connection_limit.NAME`.
        limit: String,
        /// How many requests.
        requests: u64,
        /// Whose, as far as they were not told of before; some may be missing.
        sources: Vec<ShadowedSource>,
    },
    /// What a requirement of a route in shadow would have denied since the last message.
    WouldDeny {
        /// What promotes it: `route.NAME.allow_if`.
        what: String,
        /// How many requests.
        requests: u64,
        /// Hashes of those whose they were, as far as they were not told of before; some may be missing.
        principals: Vec<u64>,
    },
    /// The live connections of a banned source are closed.
    Closed {
        /// The ban.
        ban: u64,
        /// How many connections.
        connections: u32,
    },
    /// Where roles are read from that no token has had, of many: all such paths, at most
    /// [`MOST`](crate::policy::auth::role_paths::MOST).
    UnseenRoles(Vec<UnseenRoles>),
    /// Everything before this [`ToProxy::Barrier`] is in force.
    #[serde(rename = "Heard")]
    Ack {
        /// The number of the barrier.
        #[serde(rename = "mark")]
        number: u64,
    },
    /// API keys that were used, and in which [`PERIOD`](crate::policy::auth::api_key::table::PERIOD) since the Unix epoch; at most
    /// [`MAX_USED`].
    KeysUsed(Vec<(u64, u32)>),
    /// What was asked for by [`ToProxy::Score`].
    Score {
        /// The number that it was asked for by.
        #[serde(rename = "mark")]
        number: u64,
        /// Rules that hold anything against the address, and how many signals each; at most [`MAX_SCORES`].
        scores: Vec<(String, u32)>,
        /// What limits have left for it; at most [`MAX_ROWS`](crate::policy::limit::report::MAX_ROWS).
        limits: Vec<LimitRow>,
        /// What it does, where that is kept.
        profile: Option<Box<ProfileRow>>,
        /// What does not count against it, and why.
        discounted: Option<Discounted>,
    },
    /// What was asked for by [`ToProxy::Profiles`].
    Profiles {
        /// The number that it was asked for by.
        number: u64,
        /// At most [`MAX_PROFILES`](crate::policy::detect::MAX_PROFILES); `None`: nothing is kept.
        rows: Option<Vec<ProfileRow>>,
    },
    /// What was asked for by [`ToProxy::Explain`].
    Explained {
        /// The number that it was asked for by.
        number: u64,
        /// What is said.
        explanation: Box<explain::Explanation>,
    },
    /// What was asked for by [`ToProxy::Limits`].
    Limits {
        /// The number that it was asked for by.
        number: u64,
        /// At most [`MAX_ROWS`](crate::policy::limit::report::MAX_ROWS).
        rows: Vec<LimitRow>,
        /// So many there are besides.
        more: u64,
    },
    /// The answer to [`ToProxy::Ping`], in its turn: the guard that has heard it has heard everything before it.
    Pong {
        /// The number of the ping.
        number: u64,
    },
    /// It cannot follow what the guard says is in force, and drains: another one has to take its place.
    Outdated {
        /// Why, for the operator; at most [`MAX_REASON`] bytes.
        reason: String,
    },
    /// A worker has come to a standstill. It drains with the others, and another proxy has to take its place.
    Stalled {
        /// Which, counted from 0.
        worker: u16,
    },
    /// What was used up of a quota.
    QuotaUsed(Box<crate::policy::limit::quotas::QuotaReport>),
    /// What was asked for by [`ToProxy::TellSpent`]: several of these.
    Spent {
        /// The number that it was asked for by.
        number: u64,
        /// Of one limit; `None`: that was all.
        budgets: Option<Box<SpentBudgets>>,
    },
}

/// The number by which a proxy knows the configuration that it was started with.
pub const STARTED_WITH: u64 = 0;

/// The longest reason that a proxy gives, in bytes.
pub const MAX_REASON: usize = 16 * 1_024;

/// How far a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Not every worker accepts connections yet.
    Starting,
    /// Every worker accepts connections.
    Serving,
    /// None does any more.
    Draining,
}

/// The most bans that one [`ToGuard::Refused`] names.
pub const MAX_REFUSED: usize = 1_000;

/// A client that was served, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GoodClient {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// A hash of the principal: tells principals apart, names none.
    pub principal: u64,
}

/// What the guard tells the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToProxy {
    /// A letter for the guards of other machines: encrypted and signed.
    Letter(Vec<u8>),
    /// Whether tokens and API keys are to be refused, as it is not known what other machines have revoked.
    RevocationsStale(bool),
    /// By which keys TLS sessions are resumed from now on.
    TicketKeys(Box<TicketKeys>),
    /// Which part, from 0, of how many of all that this guard has to say to them; it takes the place of what was said before.
    WholeLetter(u16, u16, Vec<u8>),
    /// The first message. Carries the [`Bundle`] as a sealed memory file, then the outputs of the access log that the
    /// guard opens.
    Start {
        /// How many workers, each with one socket per listener.
        workers: u16,
        /// How many [`Self::Listen`] messages follow.
        listeners: u16,
    },
    /// Carries another configuration, a [`Bundle`] as a sealed memory file: to be compiled while the one in force is
    /// served. Sockets of listeners that are new came before, by [`Self::Listen`]. Then carries what the guard has opened
    /// for the access log, in the order of the outputs, where these are others than before.
    Configure {
        /// Larger than any before.
        reload: u64,
    },
    /// What was compiled for this reload is in force from now on.
    Commit {
        /// The number of the reload; 0: what the proxy was started with.
        reload: u64,
    },
    /// What was compiled for this reload, or still is, never comes into force.
    Abort {
        /// The number of the reload.
        reload: u64,
    },
    /// Carries one listening socket per worker for one listener (more than one message of the same listener follow
    /// where there are over [`MAX_DESCRIPTORS`] workers; the descriptors then add up).
    Listen {
        /// Which listener: its position in the configuration.
        listener: u16,
    },
    /// A source was banned: close its connections, accept no more.
    Banned {
        /// The ban.
        id: u64,
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
        /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
        expires: u64,
    },
    /// A source is no longer banned.
    Lifted {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// A source is allowed, whatever around it is banned.
    Allowed {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// A source is no longer allowed by itself.
    Disallowed {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
    },
    /// Carries API keys and revocations as a file in memory: see [`credentials::CredentialReader`].
    Credentials {
        /// They are all that there is; else they are what has changed.
        replaces: bool,
    },
    /// Some API keys and revocations have changed.
    CredentialChanges(Vec<CredentialChange>),
    /// A source's ban is over: half as many signals ask for the next, for a while.
    Probation {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
        /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
        until: u64,
    },
    /// Carries everything that is in force, as [`InForce`] in a sealed memory file, in the place of what was in force
    /// before: an earlier guard may have told less, or more.
    InForce,
    /// Carries files of the [`Bundle`] that have changed, in the same form, as a sealed memory file: TLS goes on with
    /// them.
    Files,
    /// What is in shadow mode by the configuration is enforced all the same.
    Promoted {
        /// As `gateway shadow promote` names it.
        what: String,
    },
    /// The gateway is about to stop: go on serving, and say so to health checks.
    Stopping,
    /// Stop accepting, let requests in flight finish, then exit.
    Drain,
    /// Carries an output of the access log, opened anew.
    ReopenLogs {
        /// Its position among those that the guard opens.
        output: u16,
    },
    /// Carries the socket to an observer: what the proxy measures is told there from now on.
    Telemetry,
    /// To be answered with [`ToGuard::Score`]: what rules hold against an address.
    Score {
        /// Larger than any before.
        #[serde(rename = "mark")]
        number: u64,
        /// Whose.
        address: IpAddr,
    },
    /// Something is not usual: from whom does it come? To be answered with [`ToGuard::Contributors`], once for each.
    Deviations(Deviations),
    /// The requests of a source are limited.
    Slowed(Slowed),
    /// Another list of the ranges of a crawler has come.
    CrawlerRanges(CrawlerRanges),
    /// To be answered with [`ToGuard::Profiles`]: who fails and asks most.
    Profiles {
        /// Larger than any before.
        number: u64,
        /// At most so many.
        most: u16,
    },
    /// To be answered with [`ToGuard::Limits`]: what an operator asks of limits.
    Limits {
        /// Larger than any before.
        number: u64,
        /// What.
        question: LimitQuestion,
    },
    /// To be answered with [`ToGuard::Explained`]: what would become of a request or a token. Others are answered meanwhile.
    Explain {
        /// Larger than any before.
        number: u64,
        /// What is asked.
        question: Box<explain::ExplainQuestion>,
    },
    /// Another proxy has used up this of a quota.
    QuotaUsed(Box<crate::policy::limit::quotas::QuotaReport>),
    /// Carries what was used up of quotas, as a sealed memory file: as much at least counts from now on.
    Quotas,
    /// To be answered with [`ToGuard::Ack`], in its turn: after [`Self::Drain`] once no connection is accepted any more.
    #[serde(rename = "Mark")]
    Barrier {
        /// Larger than any before.
        #[serde(rename = "mark")]
        number: u64,
    },
    /// Once a second; to be answered with [`ToGuard::Pong`] at once, by whoever has not come to a standstill.
    Ping {
        /// Larger than any before.
        number: u64,
        /// The last answer that the guard has heard; 0: none yet.
        heard: u64,
    },
    /// To be answered with [`ToGuard::Spent`]: what budgets have spent, for the proxy that takes its place.
    TellSpent {
        /// Larger than any before.
        number: u64,
    },
    /// Carries what the proxy before has spent of budgets, as a list of [`SpentBudgets`] in a sealed memory file: as much
    /// at least is spent from now on.
    Spent,
}

/// Everything that the proxy needs from the disk, read by the guard: the proxy opens no file of its own.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// By this number guard and proxy know whether they mean the same configuration. No two have the same.
    pub number: u64,
    /// Where the configuration was read from.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The files that it names, as it names them.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What is in force besides.
    pub in_force: InForce,
    /// By which keys TLS sessions are resumed, as of now; `None`: by new ones.
    pub tickets: Option<TicketKeys>,
    /// By which key the access log hashes principals, where the configuration has none.
    pub log_key: [u8; 32],
    /// What keys of counters are made with, so that all proxies make the same.
    pub seed: Option<[u8; 16]>,
    /// The last good keys of issuers whose keys are fetched.
    pub keys: Vec<KeptKeys>,
    /// No other proxy of this machine serves.
    pub is_first: bool,
}

/// A source that a limit in shadow mode would have refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowedSource {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

#[cfg(test)]
mod tests;
