//! What this guard and those of other machines tell each other, by way of the proxies: only they have a network.

use crate::{
    guard::{
        cluster::{PeerMessage, fact::ClusterFact},
        lifecycle::service::Service,
    },
    message::ToProxy,
    os::clock::Now,
};

impl Service<'_> {
    /// Tells the proxies what has changed, after every event; whether anything has.
    pub(super) fn relay(&mut self) -> bool {
        self.tell_peers();
        let notices = self.guard.notices();
        for message in &notices {
            self.supervisor.tell(message);
        }
        !notices.is_empty()
    }

    /// Tells other machines what this guard has decided.
    fn tell_peers(&mut self) {
        let mut facts = self.credentials.shared.take_changes();
        facts.extend(self.guard.take_facts());
        let settings = self.config.proxy.cluster.as_ref();
        let now = Now::read();
        if self.cluster.configure(settings, &self.config.guard.state_dir, now) {
            let (of_bans, of_revocations) = self.cluster.nodes();
            self.guard.forget_peers(&of_bans, now);
            self.share_credentials(of_revocations);
            self.reconsider_tickets();
        }
        facts.extend(self.ticket_changes());
        self.cluster.look_at_clock(now);
        for letter in self.cluster.letters(facts, now) {
            self.supervisor.tell(&ToProxy::Letter(letter));
        }
        if self.cluster.is_whole_due(now) {
            // Revocations first: they are what there has to be room for.
            let tickets = self.cluster.ticket_facts(self.watched.certificates.tickets.as_ref());
            let decided = self.credentials.shared.facts().chain(self.guard.own_facts(now));
            let facts = tickets.into_iter().chain(decided).collect();
            let page = if self.cluster.tells_keys() { self.credentials.shared.page() } else { Vec::new() };
            let is_paged = !page.is_empty();
            let (letters, told) = self.cluster.whole(facts, page, now);
            if is_paged {
                self.credentials.shared.page_told(told);
            }
            self.ask_for_page(now);
            let of = u16::try_from(letters.len()).unwrap_or(u16::MAX);
            for (part, letter) in (0..).zip(letters) {
                self.supervisor.tell(&ToProxy::WholeLetter(part, of, letter));
            }
        }
    }

    /// Once a second: tells the proxies whether it is known what other machines have revoked, where that counts.
    pub(super) fn tick_cluster(&mut self) {
        let is_stale = self.cluster.is_stale(Now::read());
        let is_told = self.supervisor.credentials.is_stale;
        // Again and again: a proxy of the guard before this one was told something else.
        if let Some(is_stale) = is_stale.or(is_told.then_some(false)) {
            if is_stale != is_told {
                tracing::warn!(is_stale, "whether it is known what other machines have revoked has changed");
            }
            // One that starts is told before it serves.
            self.supervisor.credentials.is_stale = is_stale;
            self.supervisor.tell(&ToProxy::RevocationsStale(is_stale));
        }
    }

    /// A proxy has letters of other machines.
    pub(super) fn hear_letters(&mut self, letters: &[Vec<u8>]) {
        let now = Now::read();
        for letter in letters {
            let (node, facts, is_whole) = match self.cluster.hear_letter(letter, now) {
                Some(PeerMessage::Change { node, facts }) => (node, facts, false),
                Some(PeerMessage::Whole { node, facts }) => (node, facts, true),
                None => continue,
            };
            let is_whole = is_whole && !facts.contains(&ClusterFact::Cut);
            let facts = facts.into_iter().filter(|fact| self.cluster.tells(fact));
            let (tickets, facts): (Vec<ClusterFact>, Vec<ClusterFact>) = facts.partition(ClusterFact::is_of_tickets);
            self.hear_tickets(&node, &tickets, is_whole, now);
            let facts = facts.into_iter();
            let (revocations, facts): (Vec<ClusterFact>, Vec<ClusterFact>) =
                facts.partition(ClusterFact::is_of_credentials);
            self.hear_revocations(&node, revocations, is_whole);
            if is_whole || !facts.is_empty() {
                let taken = self.guard.peer_says(&node, &facts, is_whole, now);
                self.cluster.note_taken(taken.changed, taken.refused);
            }
        }
    }
}
