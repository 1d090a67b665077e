//! A quota that several machines share: what this machine may use up of a key without asking.
//!
//! Each machine tells the store how much of a key it has used up itself, as a sum, and hears the sum of the others. So
//! nothing is counted twice, however often a call is made again, and a store that has lost everything is told it again.
//! No request waits for the store: between two answers a machine may use up a part of what is left.
//!
//! *Invariant:* a machine that has heard of a key within [`FRESH`] uses up at most the larger of a portion and
//! `left / (4 * machines)` until the next answer; one that has not, a portion. While the store is away, each uses up at
//! most its share of what it knows to be left: together they never use up more than that.
//!
//! *Invariant:* what the store says never gives a key anything back that this machine knows to be used up, unless an operator
//! of some machine has said so: such a word is numbered, and has a tag by the cluster's secret, which the store does not know.
//! It counts once: its number is never forgotten before the period ends, neither for want of room nor in a restart.

use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::{
    QuotaCounts,
    seen::{Cap, PeerUsage},
    shard::{Newcomer, QuotaShard, lock},
};
use crate::{
    collections::{bounded::BoundedTable, mix::mix},
    os::clock::SECOND,
    policy::limit::shared::{
        Circle,
        queue::{self, WaitingQuota},
    },
    settings::limit::{Allowance, Limit},
};

/// How long the store's word counts as fresh, in nanoseconds.
const FRESH: u64 = SECOND;

/// How long this machine's share decides for a key that the store cannot count, in nanoseconds.
const ALONE: u64 = SECOND;

/// How long the store keeps a count after the end of the period, in nanoseconds: clocks differ.
const AFTER: u64 = 3_600 * SECOND;

/// The part of a quota that each machine may use up ahead of the store: one in so many, divided by the machines.
const PART: u64 = 20;

/// At least so many units, unless that is over a quarter of the quota, divided by the machines.
const LEAST: u64 = 8;

/// How long a store that answers an operator's word with another number is left alone, at least and at most, in
/// nanoseconds. It is asked again at once the first time: another operator may have come first.
const PAUSE: u64 = SECOND;
const LONGEST_PAUSE: u64 = 60 * SECOND;

/// The most keys of one part that wait for the end of that. About more, the store is asked when they are used next.
const MOST_LATER: usize = 1_024;

/// The most keys of one part whose words the guard is not told of yet. It does not hear of more.
const MOST_WORDS: usize = 1_024;

/// The highest number of a word that is believed of a store which shows no tag for it: they are milliseconds since 1970, and
/// numbers of the store's scripts, which are doubles.
const MOST_CLAIMED: u64 = 1 << 50;

/// One key that the store is asked about. If it is dropped without an answer, the key is asked about again.
#[derive(Debug)]
pub struct QuotaAsk {
    waiting: Option<WaitingQuota>,
}

/// What the store is told of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaCall {
    /// The count: the quota, its period and the key.
    pub name: String,
    /// What this machine has used up.
    pub units: u64,
    /// See [`QuotaTotal::generation`], or the number of the word that it brings; 0: this process knows none.
    pub generation: u64,
    /// The tag of that word; 0: there is none.
    pub tag: u64,
    /// An operator says that the units are all that was used up, on all machines.
    pub is_set: bool,
    /// When the count may be forgotten, in milliseconds.
    pub keep: u64,
    number: u32,
    set: u32,
}

/// What the store knows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaTotal {
    /// What this machine has used up.
    pub own: u64,
    /// What all others have.
    pub others: u64,
    /// The number of the last word of an operator on what is used up.
    pub generation: u64,
    /// What shows that it is one; 0: nothing.
    pub tag: u64,
}

impl queue::SharedQuota {
    /// `most`: what everybody has, or the members of a plan.
    pub(in crate::policy::limit) fn new(
        limit: &Limit,
        most: u64,
        circle: &Circle,
        counts: &Arc<QuotaCounts>,
    ) -> Arc<Self> {
        let Circle { nodes, place, asks, seal, .. } = circle;
        let counted = limit.counts().unwrap_or_default();
        let hash = digest::digest(&digest::SHA256, counted.as_bytes());
        let hash = HEXLOWER.encode(hash.as_ref().get(..4).unwrap_or_default());
        let name = format!("{}:{hash}", limit.name).into();
        let (nodes, portion) = (*nodes, portion(limit, most, *nodes));
        let (asks, seal, counts) = (Arc::clone(asks), Arc::clone(seal), Arc::clone(counts));
        Arc::new(Self { name, nodes, place: *place, most, portion, asks, seal, counts })
    }

    /// How many machines count together.
    pub(in crate::policy::limit) const fn nodes(&self) -> u64 {
        self.nodes
    }

    /// What this machine may use up of a key of which it does not know what the others have.
    pub(super) const fn share(&self) -> u64 {
        self.most.div_ceil(self.nodes)
    }

    /// Whether the store is to be told once more of all that it was told: it came back, and may have lost it.
    pub(in crate::policy::limit) fn retell(self: &Arc<Self>, now: u64) {
        let sessions = self.asks.sessions();
        if !self.asks.is_reachable() {
            return;
        }
        self.ask_later(now);
        if self.counts.sessions() == sessions {
            return;
        }
        for part in &self.counts.parts {
            let mut part = lock(part);
            if now >= part.ends {
                continue;
            }
            let number = part.number;
            let used = part.used.iter().filter(|(_, used)| !used.is_idle(number)).map(|(key, _)| *key);
            let seen = part.seen.iter().flat_map(BoundedTable::iter);
            let set = seen.filter(|(_, seen)| seen.number == number && seen.set != seen.set_told);
            let keys: Vec<u64> = used.chain(set.map(|(key, _)| *key)).collect();
            for key in keys {
                if !part.ask(self, key) {
                    // There is no room: the rest is told the next time.
                    return;
                }
            }
        }
        self.counts.note_sessions(sessions);
    }

    /// Asks about the keys whose pause is over.
    fn ask_later(self: &Arc<Self>, now: u64) {
        for part in &self.counts.parts {
            let mut part = lock(part);
            let later = std::mem::take(&mut part.later);
            let (paused, due): (Vec<u64>, Vec<u64>) = later.into_iter().partition(|key| part.is_paused(*key, now));
            part.later = paused;
            for key in due {
                part.ask(self, key);
            }
        }
    }

    /// A key has used up something: the store is to be told.
    pub(in crate::policy::limit) fn tell(self: &Arc<Self>, key: u64, now: u64) {
        if self.asks.is_reachable() {
            let mut part = self.counts.part(key, now);
            if !part.is_paused(key, now) {
                part.ask(self, key);
            }
        }
    }

    /// What is used up on other machines, as far as is known. The store is asked, so that more is known soon.
    pub(in crate::policy::limit) fn others(self: &Arc<Self>, key: u64, now: u64) -> Option<u64> {
        let mut part = self.counts.part(key, now);
        if self.asks.is_reachable() && !part.is_paused(key, now) {
            part.ask(self, key);
        }
        let number = part.number;
        let seen = part.seen.as_mut()?.find(key, &key)?;
        (seen.number == number && seen.answered > 0).then(|| seen.elsewhere())
    }
}

impl QuotaShard {
    /// What a key may use up here.
    pub(super) fn cap(&mut self, shared: &Arc<queue::SharedQuota>, key: u64, now: u64) -> Cap {
        let number = self.number;
        let before = self.used.find(key, &key).filter(|used| used.number == number).map_or(0, |used| used.units);
        let queue::SharedQuota { nodes, most, portion, asks, .. } = &**shared;
        let alone = Cap { most: shared.share(), others: 0 };
        let is_reachable = asks.is_reachable();
        let Some(seen) = self.seen(key, before) else {
            asks.count_alone();
            return alone;
        };
        let PeerUsage { base, answered, alone_until, is_asked, paused_until, .. } = *seen;
        let others = seen.elsewhere();
        let left = most.saturating_sub(others);
        let rest = left.saturating_sub(base);
        if !is_reachable || alone_until > now {
            asks.count_alone();
            let share = if answered == 0 { alone.most } else { base.saturating_add(rest.div_ceil(*nodes)) };
            return Cap { most: share.min(left), others };
        }
        let is_fresh = answered != 0 && now.saturating_sub(answered) < FRESH;
        let of_rest = if is_fresh { rest / nodes.saturating_mul(4) } else { 0 };
        let ahead = of_rest.max(*portion);
        let is_due = !is_fresh || before.saturating_sub(base).saturating_mul(2) >= ahead;
        if is_due && !is_asked && paused_until <= now {
            self.ask(shared, key);
        }
        Cap { most: base.saturating_add(ahead).min(left), others }
    }

    /// What a key has used up on other machines, as far as is known.
    pub(super) fn elsewhere(&mut self, key: u64) -> u64 {
        let number = self.number;
        let seen = self.seen.as_mut().and_then(|seen| seen.find(key, &key)).filter(|seen| seen.number == number);
        seen.map_or(0, |seen| seen.elsewhere())
    }

    /// What is known of the other machines, in this period. `None`: there is no room.
    pub(super) fn seen(&mut self, key: u64, before: u64) -> Option<&mut PeerUsage> {
        let (number, capacity) = (self.number, self.used.capacity());
        let table = self.seen.get_or_insert_with(|| BoundedTable::new(capacity, u64::from(number) ^ key));
        if table.find(key, &key).is_none() {
            let fresh = PeerUsage { number, base: before, ..PeerUsage::default() };
            let is_settled = |seen: &PeerUsage| !seen.is_asked && seen.set == seen.set_told && seen.generation == 0;
            let may_go = |seen: &PeerUsage| seen.number != number || is_settled(seen);
            table.add(key, key, fresh, |_, seen| seen.answered, may_go);
        }
        let seen = table.find(key, &key)?;
        if seen.number != number {
            *seen = PeerUsage { number, base: before, ..PeerUsage::default() };
        }
        Some(seen)
    }

    /// Asks the store about a key. `false`: there is no room to wait.
    fn ask(&mut self, shared: &Arc<queue::SharedQuota>, key: u64) -> bool {
        let number = self.number;
        let before = self.used.find(key, &key).filter(|used| used.number == number).map_or(0, |used| used.units);
        // Where there is no room for what the store says, there is nobody to ask for.
        let Some(seen) = self.seen(key, before) else { return true };
        if !seen.is_asked {
            seen.is_asked = shared.asks.push_quota(WaitingQuota { shared: Arc::clone(shared), key });
        }
        seen.is_asked
    }

    /// Whether the store is left alone about a key.
    fn is_paused(&mut self, key: u64, now: u64) -> bool {
        let seen = self.seen.as_mut().and_then(|seen| seen.find(key, &key));
        seen.is_some_and(|seen| seen.paused_until > now)
    }

    /// The store has answered a word with another number, `tries` times in a row.
    fn ask_again(&mut self, shared: &Arc<queue::SharedQuota>, key: u64, tries: u8, now: u64) {
        if tries <= 1 {
            self.ask(shared, key);
            return;
        }
        let pause = (PAUSE << u32::from(tries - 2).min(6)).min(LONGEST_PAUSE);
        // Between half of it and all: machines do not come together.
        let pause = pause / 2 + mix(key ^ now) % (pause / 2);
        if let Some(seen) = self.seen.as_mut().and_then(|seen| seen.find(key, &key)) {
            seen.paused_until = now.saturating_add(pause);
        }
        if self.later.len() < MOST_LATER && !self.later.contains(&key) {
            self.later.push(key);
        }
    }

    /// The guard is to be told which word about a key was heard last.
    fn note_word(&mut self, key: u64) {
        if self.words.len() < MOST_WORDS && !self.words.contains(&key) {
            self.words.push(key);
        }
    }

    /// Takes keys about which words were heard, and the numbers of those.
    pub(super) fn take_words(&mut self) -> Vec<(u64, u64)> {
        let (number, keys) = (self.number, std::mem::take(&mut self.words));
        let Some(seen) = &mut self.seen else { return Vec::new() };
        let word = |key: u64| Some((key, seen.find(key, &key).filter(|seen| seen.number == number)?.generation));
        keys.into_iter().filter_map(word).filter(|(_, word)| *word > 0).collect()
    }

    /// All words are to be told again.
    pub(super) fn retell_words(&mut self) {
        let number = self.number;
        let seen = self.seen.iter().flat_map(BoundedTable::iter);
        let heard = seen.filter(|(_, seen)| seen.number == number && seen.generation > 0);
        self.words = heard.map(|(key, _)| *key).take(MOST_WORDS).collect();
    }

    /// This machine has heard the word of this number about a key, before or in another process.
    pub(super) fn know_word(&mut self, key: u64, word: u64) {
        let number = self.number;
        let units = self.used.find(key, &key).filter(|used| used.number == number).map_or(0, |used| used.units);
        if let Some(seen) = self.seen(key, units) {
            seen.generation = seen.generation.max(word);
        }
    }

    /// An operator says what is used up: on all machines.
    pub(super) fn set_everywhere(&mut self, shared: &Arc<queue::SharedQuota>, key: u64, units: u64) {
        if let Some(seen) = self.seen(key, units) {
            (seen.base, seen.others, seen.excess) = (units, 0, 0);
            seen.set = seen.set.wrapping_add(1);
            (seen.tries, seen.paused_until) = (0, 0);
            self.ask(shared, key);
        }
    }
}

impl QuotaAsk {
    pub(in crate::policy::limit) const fn new(waiting: WaitingQuota) -> Self {
        Self { waiting: Some(waiting) }
    }

    /// What the store is to be told now. `None`: nothing any more.
    #[must_use]
    pub fn call(&self, now: u64) -> Option<QuotaCall> {
        let WaitingQuota { shared, key } = self.waiting.as_ref()?;
        let mut part = shared.counts.part(*key, now);
        let number = part.number;
        let units = part.used.find(*key, key).filter(|used| used.number == number).map_or(0, |used| used.units);
        let PeerUsage { generation, claimed, set, set_told, .. } = *part.seen(*key, units)?;
        let ends = part.ends;
        drop(part);
        let span = shared.counts.span(now);
        if span.ends != ends {
            // Another thread is in the next period already.
            return None;
        }
        let again = if span.again == 0 { String::new() } else { format!(".{}", span.again) };
        let name = format!("{}:{}{again}:{key:016x}", shared.name, span.end / 1_000);
        let is_set = set != set_told;
        // By the clock as well: a process that has not heard the words before this one does not say it under their number.
        let clock = span.end.saturating_sub_unsigned(span.ends.saturating_sub(now) / 1_000_000);
        let clock = u64::try_from(clock).unwrap_or(0);
        let last = generation.max(claimed.min(MOST_CLAIMED)).max(clock);
        let generation = if is_set { next_number(last, shared.place, shared.nodes) } else { generation };
        Some(QuotaCall {
            tag: shared.seal.tag(&name, generation),
            name,
            units,
            generation,
            is_set,
            keep: span.ends.saturating_sub(now).saturating_add(AFTER) / 1_000_000,
            number,
            set,
        })
    }

    /// The store has answered a call.
    pub fn answered(mut self, call: &QuotaCall, total: QuotaTotal, now: u64) {
        let Some(WaitingQuota { shared, key }) = self.waiting.take() else { return };
        let mut part = shared.counts.part(key, now);
        let part = &mut *part;
        let number = part.number;
        let before = part.used.find(key, &key).filter(|used| used.number == number).map_or(0, |used| used.units);
        let Some(seen) = part.seen.as_mut().and_then(|seen| seen.find(key, &key)) else { return };
        seen.is_asked = false;
        if call.number != number || seen.number != number {
            return;
        }
        if seen.set != call.set {
            // An operator has said something else meanwhile.
            part.ask(&shared, key);
            return;
        }
        seen.claimed = seen.claimed.max(total.generation);
        let is_word = total.generation > seen.generation && total.tag == shared.seal.tag(&call.name, total.generation);
        if call.is_set && total.generation != call.generation {
            // The word of another operator came first, or the store says so: this one comes again under a higher number.
            seen.tries = seen.tries.saturating_add(1);
            let tries = seen.tries;
            if is_word {
                seen.generation = total.generation;
                part.note_word(key);
            }
            part.ask_again(&shared, key, tries, now);
            return;
        }
        // What a double loses is not to change a count.
        let is_same = total.own.abs_diff(call.units) <= call.units >> 50;
        // The store knows less: an operator of another machine has set the count, or it makes that up. It knows more: this
        // machine had told it more before it died than it has on the disk; or another process of this machine has told it,
        // of which the guard will tell, so that it is somebody else's until then.
        let is_less = !is_same && total.own < call.units;
        // An earlier version wrote numbers without tags.
        let is_untagged = total.tag == 0 && total.generation > 0 && seen.answered == 0;
        if is_less && !is_word && !is_untagged {
            shared.asks.disbelieve();
        }
        let is_more = total.own > call.units && seen.answered == 0 && shared.asks.is_first();
        let is_taken = is_less && is_word || !is_same && is_more;
        let own = if is_taken { total.own } else { call.units };
        seen.excess = if is_same { 0 } else { total.own.saturating_sub(own) };
        seen.others = if is_word { total.others } else { total.others.max(seen.others) };
        (seen.base, seen.answered, seen.alone_until) = (own, now, 0);
        if is_word {
            seen.generation = total.generation;
        }
        (seen.set_told, seen.tries, seen.paused_until) = (call.set, 0, 0);
        if is_word {
            part.note_word(key);
        }
        if !is_taken {
            return;
        }
        let after = own.saturating_add(before.saturating_sub(call.units));
        let (is_new, used) = part.find_or_add(key);
        if is_new != Newcomer::Shared {
            used.units = after;
            part.note_told(key);
        }
    }

    /// The store answers, and cannot count this key: this machine's share decides for some time.
    pub fn failed(mut self, now: u64) {
        let Some(WaitingQuota { shared, key }) = self.waiting.take() else { return };
        let mut part = shared.counts.part(key, now);
        if let Some(seen) = part.seen.as_mut().and_then(|seen| seen.find(key, &key)) {
            (seen.is_asked, seen.alone_until) = (false, now.saturating_add(ALONE));
        }
    }
}

impl Drop for QuotaAsk {
    fn drop(&mut self) {
        let Some(WaitingQuota { shared, key }) = self.waiting.take() else { return };
        let mut part = lock(shared.counts.place(key));
        if let Some(seen) = part.seen.as_mut().and_then(|seen| seen.find(key, &key)) {
            seen.is_asked = false;
        }
    }
}

/// How many units a machine may use up of a key that it has not heard of lately; `None`: it is not shared, or no quota.
#[must_use]
pub fn portion_of_quota(limit: &Limit, nodes: u64) -> Option<(u64, u64)> {
    match limit.allowance {
        Allowance::Quota(most) if limit.shared => Some((most, portion(limit, most, nodes))),
        _ => None,
    }
}

/// The number of a word that comes after the one of `last`. No two machines give the same: who hears another's number knows
/// that it is not the own.
const fn next_number(last: u64, place: u64, nodes: u64) -> u64 {
    let nodes = if nodes == 0 { 1 } else { nodes };
    let next = last.saturating_add(1);
    next.saturating_add((place % nodes + nodes - next % nodes) % nodes)
}

fn portion(limit: &Limit, most: u64, nodes: u64) -> u64 {
    let nodes = nodes.max(1);
    let least = most.div_ceil(nodes.saturating_mul(4)).min(LEAST);
    let heaviest = limit.weights.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
    (most / nodes.saturating_mul(PART)).max(least).max(heaviest).clamp(1, most.max(1))
}

#[cfg(test)]
mod tests {
    use super::next_number;

    #[test]
    fn no_two_machines_give_a_word_the_same_number() {
        for (last, place, nodes, expect) in [
            (0, 0, 1, 1),
            (7, 0, 0, 8),
            (0, 0, 3, 3),
            (0, 1, 3, 1),
            (0, 2, 3, 2),
            (3, 0, 3, 6),
            (3, 1, 3, 4),
            (5, 2, 3, 8),
        ] {
            assert_eq!(next_number(last, place, nodes), expect, "{last} {place} {nodes}");
        }
    }
}
