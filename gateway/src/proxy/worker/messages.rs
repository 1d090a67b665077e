//! What the control thread tells a worker, and what a worker tells it.

use gateway_common::source::Source;

use crate::{
    detect::Ask,
    limit::WouldRefuse,
    message::{Counted, GoodClient},
};

/// What a worker is told.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Order {
    /// Close the connections of a source, then say so.
    Close {
        ban: u64,
        source: Source,
        /// Whether the table of bans knows it, and so whether it was lifted meanwhile.
        known: bool,
    },
    /// Let go of connections whose client certificates were judged by authorities or lists that are no more.
    Reverify,
    Drain,
}

/// What a worker tells.
#[derive(Debug)]
pub(in crate::proxy) enum Event {
    Ask(Ask),
    /// Accepts no more connections.
    Retired,
    /// The connections of a banned source are gone.
    Closed {
        ban: u64,
        connections: u32,
    },
    /// Clients that were served with a valid token.
    Good(Vec<GoodClient>),
    /// What the bans in force have refused.
    Refused(Vec<(u64, u64)>),
    /// What the limit of addresses would have refused.
    WouldRefuse(WouldRefuse),
    /// What became of requests.
    Counted(Counted),
    /// It accepts.
    Ready,
}
