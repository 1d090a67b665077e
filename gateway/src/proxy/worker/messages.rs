//! The messages between the control thread and a worker: commands one way, events the other.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use gateway_common::source::Source;

use super::measures::Delta;
use crate::{
    message::{Counted, GoodClient, PlanMember, telemetry::Trace},
    policy::{
        authz::shadow::ShadowDenials,
        detect::{BanRequest, OurFault},
        limit::ShadowRefusals,
    },
    proxy::generation::Compiled,
};

/// What the control thread has a worker do.
pub(in crate::proxy) enum WorkerCommand {
    /// Close the connections of a banned source, then tell it by [`WorkerEvent::Closed`].
    Close {
        ban: u64,
        source: Source,
        /// Whether the table of bans has it: then the table also tells whether it was lifted meanwhile.
        known: bool,
    },
    /// Serve another configuration, and by these listeners as well, then tell it by [`WorkerEvent::Configured`].
    Configure { compiled: Arc<Compiled>, sockets: Vec<(SocketAddr, TcpListener)> },
    /// Close the connections of everybody who is banned: what is in force was told anew.
    CloseBanned,
    /// Look at what is in flight: what clients proved themselves by was revoked.
    Recheck,
    /// Close connections whose client certificates were judged by authorities or revocation lists that were replaced.
    Reverify,
    /// Accept no more connections, and end once those that are left have ended.
    Drain,
}

/// What a worker tells the control thread.
#[derive(Debug)]
pub(in crate::proxy) enum WorkerEvent {
    /// A rule asks for a ban.
    BanRequest(BanRequest),
    /// Good clients fail together.
    OurFault(Box<OurFault>),
    /// It accepts no more connections.
    Retired,
    /// The connections of a banned source are gone.
    Closed { ban: u64, connections: u32 },
    /// Clients that were served with a valid token.
    Good(Vec<GoodClient>),
    /// Where members of plans have connections.
    PlanMembers(Vec<PlanMember>),
    /// How often each ban has refused a connection or request.
    Refused(Vec<(u64, u64)>),
    /// What a limit would have refused, were it enforced.
    WouldRefuse(Arc<str>, ShadowRefusals),
    /// What a requirement in shadow would have denied, were it enforced.
    WouldDeny(ShadowDenials),
    /// The counters since the last time.
    Counted(Counted),
    /// Requests that were traced.
    Traced(Vec<Trace>),
    /// What was measured since the last time, by configuration.
    Measured(Vec<Delta>),
    /// It serves another configuration.
    Configured,
    /// It runs, and accepts nothing yet.
    Started,
}
