//! Decides which server of an upstream carries a request.

use std::{cell::Cell, time::Duration};

use super::{Failure, pool::Lease, server::Server};
use crate::proxy::{
    reject::{Refusal, Reject},
    settings::Upstream,
};

/// The servers of one upstream, seen from one worker.
pub(in crate::proxy) struct Group {
    servers: Box<[Server]>,
    turn: Cell<usize>,
}

impl Group {
    pub(in crate::proxy) fn new(settings: &Upstream) -> Self {
        let servers = settings.servers.iter().map(|address| Server::new(address, settings));
        Self { servers: servers.collect(), turn: Cell::new(0) }
    }

    /// Closes connections that were kept for long enough by `now`, or that the upstream has closed.
    pub(in crate::proxy) fn sweep(&self, now: u64) {
        self.servers.iter().for_each(|server| server.pool.sweep(now));
    }

    /// A connection that is ready for a request; a new one if it has to be `fresh`.
    pub(super) async fn lease(&self, fresh: bool, patience: Duration) -> Result<Lease, Failure> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut refusal = Refusal::new(Reject::UpstreamFailed, "no server");
        for offset in 0..self.servers.len() {
            let Some(server) = self.servers.get(turn.wrapping_add(offset) % self.servers.len()) else { break };
            match server.pool.lease(fresh, patience).await {
                Ok(lease) => return Ok(lease),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal.into())
    }
}
