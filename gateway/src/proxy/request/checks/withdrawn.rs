//! Whether a client may not be served, or no longer, though its request has begun: it is banned, or limited because of an
//! anomaly, or what proved its identity is revoked.

use crate::{
    os::clock::Now,
    proxy::{request::exchange::Exchange, timing::deadline},
    refusal::{Refusal, Reject},
};

impl Exchange {
    /// Whether the client is banned behind a trusted proxy: the kernel sees that proxy's packets alone. Counts the
    /// refusal on the ban.
    pub(in crate::proxy) fn is_banned(&self) -> bool {
        let client = &self.client;
        client.relay.is_some() && self.worker.shared.bans.refuses(client.address.ip(), deadline::now())
    }

    /// Refuses the request if its source is limited because of an anomaly and has had as many as it may have.
    pub(in crate::proxy) fn judge_slowed(&self, now: u64) -> Result<(), Refusal> {
        match self.worker.shared.bans.slowed.refuses(self.client.source, now) {
            None => Ok(()),
            Some(wait) => Err(Refusal {
                retry_after: Some(wait),
                policies: Box::new(["anomaly".into()]),
                ..Refusal::new(Reject::TooManyRequests, "limited because an anomaly comes from its source")
            }),
        }
    }

    /// Whether its client is to get nothing more of it but a refusal.
    pub(in crate::proxy::request) fn is_withdrawn(&self) -> bool {
        let tables = self.listener.snapshot().authenticators.tables();
        let is_old = tables.epoch() != self.epoch;
        let is_revoked = |identity| is_old && tables.is_revoked(identity, Now::read().unix_seconds());
        self.is_banned() || self.identity.as_deref().is_some_and(is_revoked)
    }

    /// Whether what proved the client's identity was revoked meanwhile.
    pub(in crate::proxy) fn is_revoked(&mut self) -> bool {
        let Some(identity) = &self.identity else { return false };
        let tables = self.listener.snapshot().authenticators.tables();
        let epoch = tables.epoch();
        if epoch == self.epoch {
            return false;
        }
        let is_revoked = tables.is_revoked(identity, Now::read().unix_seconds());
        if !is_revoked {
            self.epoch = epoch;
        }
        is_revoked
    }
}
