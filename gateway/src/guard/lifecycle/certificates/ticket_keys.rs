//! Keys of TLS tickets in the guard's loop: they walk with the time, and proxies and other machines are told of them.

use crate::{
    guard::{cluster::fact::ClusterFact, lifecycle::service::Service},
    message::ToProxy,
    os::clock::Now,
    tls::{Chain, TicketKeys},
};

impl Service<'_> {
    /// The keys of this moment, for a proxy that starts.
    pub(in crate::guard::lifecycle) fn ticket_keys(&mut self) -> Option<TicketKeys> {
        let own = self.watched.certificates.chain(Now::read())?.clone();
        Some(TicketKeys { own, others: self.cluster.tickets.others(), forgets: false })
    }

    /// Once a second.
    pub(in crate::guard::lifecycle) fn tick_tickets(&mut self) {
        let now = Now::read();
        let is_new = self.watched.certificates.follow(now);
        if let Some(chain) = &self.watched.certificates.tickets {
            self.cluster.tickets.tick(chain, now);
        }
        if is_new {
            tracing::warn!("the clock was far ahead: TLS sessions are resumed by new keys");
            self.tell_ticket_keys(false);
        }
    }

    /// Tells every proxy by which keys sessions are resumed from now on.
    pub(in crate::guard::lifecycle) fn tell_ticket_keys(&mut self, forgets: bool) {
        if let Some(keys) = self.ticket_keys() {
            self.supervisor.bundle.tickets = Some(keys.clone());
            self.supervisor.tell(&ToProxy::TicketKeys(Box::new(TicketKeys { forgets, ..keys })));
        }
    }

    /// The cluster is another one.
    pub(in crate::guard::lifecycle) fn reconsider_tickets(&mut self) {
        let forgets = self.cluster.take_forgets_tickets();
        if forgets {
            self.watched.certificates.tickets = Chain::new(Now::read());
        }
        self.tick_tickets();
        self.tell_ticket_keys(forgets);
    }

    /// What other machines are to be told at once.
    pub(in crate::guard::lifecycle) fn ticket_changes(&mut self) -> Vec<ClusterFact> {
        let chain = self.watched.certificates.tickets.as_ref();
        chain.map(|chain| self.cluster.ticket_changes(chain)).unwrap_or_default()
    }

    /// Another machine says this.
    pub(in crate::guard::lifecycle) fn hear_tickets(
        &mut self,
        node: &str,
        facts: &[ClusterFact],
        is_whole: bool,
        now: Now,
    ) {
        if self.cluster.hear_tickets(node, facts, is_whole, now) {
            tracing::info!(node, "TLS sessions with another machine are resumed here by other keys");
            self.tell_ticket_keys(false);
        }
    }
}
