//! What the guard and the proxy say to each other: small typed messages over one `SOCK_SEQPACKET` socketpair.
//!
//! *Invariant:* a message is one datagram of at most [`MAX_BYTES`], carries the protocol's version, and is refused
//! whole if anything in it is off. The guard trusts nothing in a [`ToGuard`]: every field is bounded and checked again.
//!
//! A message keeps its name on the channel when its type is renamed: a proxy of another version speaks it too.

use std::{net::IpAddr, path::PathBuf};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::{detect::BanRequest, log::drops::Counts, tls::Chain};

pub mod byte_stream;
pub mod channel;
pub mod delivery;
pub mod observer;
pub(crate) mod sealed;
pub mod telemetry;

mod bounds;
mod bundle;

pub use bounds::Bounded;

/// The largest message, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// The most file descriptors one message carries; the kernel's own limit is 253.
pub const MAX_DESCRIPTORS: usize = 200;

/// What the proxy tells the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuard {
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
    /// Clients that were served with a valid token since the last message; at most [`MAX_GOOD`], some may be missing.
    Good(Vec<GoodClient>),
    /// What was lost since the last message of this kind.
    Lost(Lost),
    /// How many requests and connections the proxy refused because of each ban since the last message; at most
    /// [`MAX_REFUSED`] bans, the rest is told later.
    Refused(Vec<(u64, u64)>),
    /// What became of requests since the last message of this kind.
    Counted(Box<Counted>),
    /// How an upstream is, once that has changed.
    Upstream(Box<UpstreamReport>),
    /// What `limit.address` would have refused since the last message, were it not in shadow mode.
    WouldRefuse {
        /// How many requests.
        requests: u64,
        /// Whose, as far as they were not told of before; some may be missing.
        sources: Vec<Shadowed>,
    },
    /// The live connections of a banned source are closed.
    Closed {
        /// The ban.
        ban: u64,
        /// How many connections.
        connections: u32,
    },
    /// Everything before this [`ToProxy::Barrier`] is in force.
    #[serde(rename = "Heard")]
    Ack {
        /// The number of the barrier.
        #[serde(rename = "mark")]
        number: u64,
    },
    /// What was asked for by [`ToProxy::Score`].
    Score {
        /// The number that it was asked for by.
        #[serde(rename = "mark")]
        number: u64,
        /// Rules that hold anything against the address, and how many signals each; at most [`MAX_SCORES`].
        scores: Vec<(String, u32)>,
    },
}

/// The longest reason that a proxy gives, in bytes.
pub const MAX_REASON: usize = 16 * 1_024;

/// What a proxy had no room or no time for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Asks for a ban.
    pub asks: u64,
    /// Lines of the access log, by why: in the order of [`DropReason::ALL`](crate::log::drops::DropReason::ALL).
    pub log_lines: Counts,
    /// Connections over `proxy.max_connections`.
    pub connections: u64,
    /// Connections and requests that came while the proxy was over `proxy.max_memory`.
    pub shed: u64,
    /// Bans and allowances that are not known at accept.
    pub at_accept: u64,
}

/// How answers are counted: by the first digit of their status; at last those that nobody waited for.
pub const ANSWERS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "client_left"];

/// The most labels of refusals. What is told beyond is ignored.
pub const MAX_LABELS: usize = 64;

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// In the order of [`ANSWERS`].
    pub answers: Vec<u64>,
    /// Refusals by their labels.
    pub refused: Vec<(String, u64)>,
    /// Signals, in the order of [`Signal::ALL`].
    pub signals: Vec<u64>,
    /// Connections of clients at this moment.
    pub connections: u64,
}

/// How the servers of an upstream are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamReport {
    /// Its name.
    pub name: String,
    /// Addresses as configured, and how each server is.
    pub servers: Vec<(String, ServerState)>,
    /// Requests that found no server to use.
    pub without_server: u64,
    /// Requests over `max_requests` or `max_pending`, refused.
    pub over_limit: u64,
    /// Tries after the first of a request.
    pub retries: u64,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Its health checks fail.
    Down,
    /// It failed too many requests in a row.
    Ejected,
    /// It came back and gets less than its share for a while.
    Slow,
    /// It is used.
    Up,
}

/// The most bans that one [`ToGuard::Refused`] names.
pub const MAX_REFUSED: usize = 1_000;

/// How `gateway shadow promote` names the limit of requests by address.
pub const ADDRESS_LIMIT: &str = "limit.address";

/// The most sources that are known to have been over a limit in shadow mode. Over that, their requests are counted alone.
pub const MAX_SHADOWED: usize = 16_384;

/// The most clients that one [`ToGuard::Good`] names.
pub const MAX_GOOD: usize = 500;

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
    /// The first message. Carries the [`Bundle`] as a sealed memory file, then the outputs of the access log that the
    /// guard opens.
    Start {
        /// How many workers, each with one socket per listener.
        workers: u16,
        /// How many [`Self::Listen`] messages follow.
        listeners: u16,
    },
    /// Carries another configuration, a [`Bundle`] as a sealed memory file: to be compiled while the one in force is
    /// served. Sockets of listeners that are new came before, by [`Self::Listen`].
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
    /// A source's ban is over: half as many signals ask for the next, for a while.
    Probation {
        /// Who.
        #[serde(with = "crate::text")]
        source: Source,
        /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
        until: u64,
    },
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
    /// To be answered with [`ToGuard::Ack`], in its turn: after [`Self::Drain`] once no connection is accepted any more.
    #[serde(rename = "Mark")]
    Barrier {
        /// Larger than any before.
        #[serde(rename = "mark")]
        number: u64,
    },
}

/// Everything that the proxy needs from the disk, read by the guard: the proxy opens no file of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Where the configuration was read from.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The files that it names, as it names them.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Bans in force: who, until when (`CLOCK_MONOTONIC`, nanoseconds).
    pub bans: Vec<BanInForce>,
    /// Allowances in force, configured and added.
    pub allows: Vec<AllowInForce>,
    /// Who is on probation.
    pub probations: Vec<Probation>,
    /// By which keys TLS sessions are resumed, as of now; `None`: by new ones.
    pub tickets: Option<Chain>,
    /// What operators have promoted, as `gateway shadow promote` names it.
    pub promoted: Vec<String>,
    /// By which key the access log hashes principals, where the configuration has none.
    pub log_key: [u8; 32],
}

/// A source that a limit in shadow mode would have refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

/// A source that was banned until a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    pub until: u64,
}

/// An allowance that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowInForce {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

/// A ban that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInForce {
    /// The ban.
    pub id: u64,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    pub expires: u64,
}

#[cfg(test)]
mod tests;
