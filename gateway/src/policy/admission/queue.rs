//! Who waits of one class, fair to clients: each goes on once in a round, however many of its requests come.
//!
//! A request is of the first round in which its client has none yet, and earlier rounds go first. A round begins with its
//! first request that goes on. Where there is no room, a request of a later round makes room for one of an earlier round.
//! A client that is refused stays behind by a round, and so comes first next time: clients that ask for the same get the
//! same, also where some come in step with those that leave. Whoever is new is of the next round: names that are used
//! once and thrown away are behind those that come again.
//!
//! *Invariant:* at most [`MOST_CLIENTS`] clients are remembered, and each is [`MOST_ROUNDS`] rounds ahead or behind at most.

use std::collections::{BTreeMap, HashMap};

/// The most clients that are remembered. Others are taken as new.
const MOST_CLIENTS: usize = 1_024;

/// How many rounds a client may be behind the others, or ahead of them.
const MOST_ROUNDS: u64 = 8;

/// The queue of one class. `W` is whom to tell that waits.
#[derive(Debug)]
pub(super) struct Queue<W> {
    /// By round, then by place: the client, and whom to tell.
    waiting: BTreeMap<(u64, u64), (u64, W)>,
    /// Clients, and the first round in which each has no request.
    clients: HashMap<u64, u64>,
    round: u64,
    /// In which round clients were forgotten last.
    tidied: u64,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), clients: HashMap::new(), round: MOST_ROUNDS, tidied: MOST_ROUNDS }
    }
}

impl<W> Queue<W> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The round of the next request of a client.
    fn round_of(&self, client: u64) -> u64 {
        let next = self.clients.get(&client).copied().unwrap_or(self.round + 1);
        next.max(self.round.saturating_sub(MOST_ROUNDS))
    }

    fn remember(&mut self, client: u64, next: u64) {
        let next = next.min(self.round + MOST_ROUNDS);
        if self.clients.len() < MOST_CLIENTS || self.clients.contains_key(&client) {
            self.clients.insert(client, next);
        }
    }

    /// A request waits from now on.
    pub(super) fn push(&mut self, client: u64, place: u64, waiter: W) {
        let round = self.round_of(client);
        self.remember(client, round + 1);
        self.waiting.insert((round, place), (client, waiter));
    }

    /// A request goes on at once. It counts only while some have to wait.
    pub(super) fn pass(&mut self, client: u64) {
        if !self.clients.is_empty() {
            let round = self.round_of(client);
            self.remember(client, round + 1);
            self.go_on(round);
        }
    }

    /// The next that goes on. `is_late`: of those of its round, the one that came last.
    pub(super) fn pop(&mut self, is_late: bool) -> Option<W> {
        let (round, first) = *self.waiting.keys().next()?;
        let last = self.waiting.range((round, first)..=(round, u64::MAX)).next_back().map(|(key, _)| *key);
        let (_, waiter) = self.waiting.remove(&last.filter(|_| is_late).unwrap_or((round, first)))?;
        self.go_on(round);
        Some(waiter)
    }

    fn go_on(&mut self, round: u64) {
        self.round = self.round.max(round);
        if self.round >= self.tidied + MOST_ROUNDS {
            self.tidied = self.round;
            let round = self.round;
            self.clients.retain(|_, next| *next + MOST_ROUNDS > round);
        }
    }

    /// There is no room for a request of this client: who makes room for it, of a later round.
    pub(super) fn displace_for(&mut self, client: u64) -> Option<W> {
        let own = self.round_of(client);
        self.waiting.keys().next_back().filter(|(round, _)| *round > own)?;
        self.displace()
    }

    /// Who makes room for a higher class: the last.
    pub(super) fn displace(&mut self) -> Option<W> {
        let ((round, _), (client, waiter)) = self.waiting.pop_last()?;
        self.take_back(client, round);
        Some(waiter)
    }

    /// A request that waited in this round does not go on.
    fn take_back(&mut self, client: u64, round: u64) {
        if let Some(next) = self.clients.get_mut(&client) {
            *next = next.saturating_sub(1).max(round.min(*next));
        }
    }

    /// A request of this client is refused.
    pub(super) fn refuse(&mut self, client: u64) {
        self.remember(client, self.round_of(client));
    }

    /// The request in this place is gone. `false`: it does not wait.
    pub(super) fn give_up(&mut self, place: u64) -> bool {
        let Some(key) = self.waiting.keys().find(|(_, known)| *known == place).copied() else { return false };
        let Some((client, _)) = self.waiting.remove(&key) else { return false };
        self.take_back(client, key.0);
        true
    }

    /// There is room for everybody: nobody is behind or ahead.
    pub(super) fn forget(&mut self) {
        if self.waiting.is_empty() && !self.clients.is_empty() {
            self.clients.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.clients.len()
    }
}
