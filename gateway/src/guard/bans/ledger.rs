//! The bans in force: by number, by source and by their ends, with what was found out about each.
//!
//! *Invariant:* every ban in here has an end that is looked at, or none; numbers only grow.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
};

use gateway_common::{maps::NEVER, source::Source};

use crate::{
    guard::store::{BanRecord, StoreChange, StoreError},
    os::clock::Now,
};

/// How many ended bans there must be before the store is pruned again.
const PRUNE_EVERY: usize = 1_000;

/// How many bans end at once, in about a millisecond; the kernel ends them on time anyway.
const SWEEP: usize = 20;

/// The bans in force.
pub(super) struct Ledger {
    /// This boot's id: on another, monotonic times mean nothing.
    boot: String,
    in_force: BTreeMap<u64, BanRecord>,
    by_source: HashMap<Source, u64>,
    /// When bans end, the next first; what is no longer so is passed over.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    /// More has ended than was taken at once.
    is_sweeping: bool,
    /// Bans with figures that the store does not know yet.
    figures: BTreeSet<u64>,
    /// How often the proxy refused somebody because of a ban in force.
    refused: HashMap<u64, u64>,
    /// Rules in shadow that would ban the source of a shadow ban, too.
    would_ban: HashMap<u64, Vec<String>>,
    /// How many shadow entries of rules there are.
    shadows: usize,
    /// What the next ban is numbered by.
    next_id: u64,
    ended_since_prune: usize,
    counts: BTreeMap<Origin, BanCount>,
}

/// Where a ban comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    /// `guard`, `operator` or `rule`.
    pub(super) kind: String,
    /// The rule; empty: it was none.
    pub(super) rule: String,
    pub(super) shadow: bool,
}

/// How many bans have one origin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BanCount {
    pub(super) in_force: u64,
    /// Since the guard started.
    pub(super) begun: u64,
}

impl Ledger {
    /// Nothing is in force yet.
    pub(super) fn new(boot: String) -> Self {
        Self {
            boot,
            in_force: BTreeMap::new(),
            by_source: HashMap::new(),
            ends: BinaryHeap::new(),
            is_sweeping: false,
            figures: BTreeSet::new(),
            refused: HashMap::new(),
            would_ban: HashMap::new(),
            shadows: 0,
            next_id: 1,
            ended_since_prune: 0,
            counts: BTreeMap::new(),
        }
    }

    /// This boot's id.
    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// How many bans are in force.
    pub(super) fn len(&self) -> usize {
        self.in_force.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.in_force.is_empty()
    }

    /// Every ban, in the order of their numbers.
    pub(super) fn records(&self) -> impl DoubleEndedIterator<Item = &BanRecord> {
        self.in_force.values()
    }

    /// Those of smaller numbers than this, the largest first.
    pub(super) fn before(&self, id: u64) -> impl Iterator<Item = &BanRecord> {
        self.in_force.range(..id).rev().map(|(_, record)| record)
    }

    /// The numbers of all.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.in_force.keys().copied().collect()
    }

    /// The ban of this number.
    pub(super) fn get(&self, id: u64) -> Option<&BanRecord> {
        self.in_force.get(&id)
    }

    /// Whether a ban of this number is in force.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.in_force.contains_key(&id)
    }

    /// The ban of exactly this source.
    pub(super) fn find(&self, source: Source) -> Option<&BanRecord> {
        self.by_source.get(&source).and_then(|id| self.in_force.get(id))
    }

    /// Bans that an allowance of `source` lifts.
    pub(super) fn covered_by(&self, source: Source) -> Vec<u64> {
        self.in_force.values().filter(|record| source.covers(&record.source)).map(|record| record.id).collect()
    }

    /// How many shadow entries of rules there are.
    pub(super) const fn shadows(&self) -> usize {
        self.shadows
    }

    /// What the next ban is numbered by.
    pub(super) const fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The next ban gets a higher number than this.
    pub(super) const fn number_after(&mut self, id: u64) {
        self.next_id = id.saturating_add(1);
    }

    /// A ban is in force, or otherwise than before. Another one of the same source is not any more.
    pub(super) fn keep(&mut self, record: BanRecord) {
        if let Some(old) = self.by_source.insert(record.source, record.id).filter(|old| *old != record.id) {
            self.drop_record(old);
        }
        // Bans that ended early leave their ends behind.
        if self.ends.len() > 2 * self.in_force.len() + PRUNE_EVERY {
            self.ends = self.in_force.values().map(|record| Reverse((expiry(record), record.id))).collect();
        }
        self.ends.push(Reverse((expiry(&record), record.id)));
        self.shadows += usize::from(is_shadow_of_rule(&record));
        self.count(&record).in_force += 1;
        if let Some(before) = self.in_force.insert(record.id, record) {
            self.uncount(&before);
            self.shadows = self.shadows.saturating_sub(usize::from(is_shadow_of_rule(&before)));
        }
    }

    /// A ban is no longer in force; what it was.
    pub(super) fn remove(&mut self, id: u64) -> Option<BanRecord> {
        let record = self.drop_record(id)?;
        self.by_source.remove(&record.source);
        Some(record)
    }

    fn drop_record(&mut self, id: u64) -> Option<BanRecord> {
        self.figures.remove(&id);
        self.refused.remove(&id);
        self.would_ban.remove(&id);
        let record = self.in_force.remove(&id)?;
        self.uncount(&record);
        self.shadows = self.shadows.saturating_sub(usize::from(is_shadow_of_rule(&record)));
        Some(record)
    }

    /// A ban has begun that was not in force before.
    pub(super) fn note_begun(&mut self, record: &BanRecord) {
        self.count(record).begun += 1;
    }

    /// How many bans there are by their origin.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Origin, &BanCount)> {
        self.counts.iter()
    }

    fn count(&mut self, record: &BanRecord) -> &mut BanCount {
        let kind = record.actor.split(':').next().unwrap_or_default().to_owned();
        let origin = Origin { kind, rule: record.rule.clone().unwrap_or_default(), shadow: record.shadow };
        self.counts.entry(origin).or_default()
    }

    fn uncount(&mut self, record: &BanRecord) {
        let count = self.count(record);
        count.in_force = count.in_force.saturating_sub(1);
    }

    /// Some bans that have ended, and when.
    pub(super) fn ended(&mut self, now: Now) -> Vec<(u64, u64)> {
        let mut ended = Vec::new();
        while ended.len() < SWEEP
            && let Some(Reverse((at, id))) = self.ends.peek().copied()
            && at <= now.monotonic
        {
            self.ends.pop();
            if self.in_force.get(&id).is_some_and(|record| expiry(record) == at) && !ended.contains(&(at, id)) {
                ended.push((at, id));
            }
        }
        self.is_sweeping = ended.len() >= SWEEP;
        ended
    }

    /// Their ends could not be recorded: those that are still in force have ended yet.
    pub(super) fn put_back(&mut self, ended: Vec<(u64, u64)>) {
        let left = ended.into_iter().filter(|(_, id)| self.in_force.contains_key(id));
        self.ends.extend(left.map(Reverse));
        self.is_sweeping = false;
    }

    /// Whether more has ended than was taken at once.
    pub(super) const fn is_sweeping(&self) -> bool {
        self.is_sweeping
    }

    /// Whether the store is to be pruned once so many more have ended.
    pub(super) const fn is_prune_due(&self, more: usize) -> bool {
        self.ended_since_prune + more >= PRUNE_EVERY
    }

    /// So many have ended, and the store was pruned if that was due.
    pub(super) const fn note_ended(&mut self, many: usize) {
        self.ended_since_prune = if self.is_prune_due(many) { 0 } else { self.ended_since_prune + many };
    }

    /// How long a ban took from the offence to the kernel.
    pub(super) fn note_reaction(&mut self, id: u64, micros: u64) {
        if let Some(record) = self.in_force.get_mut(&id) {
            record.reaction_micros = Some(micros);
            self.figures.insert(id);
        }
    }

    /// How many connections were closed for a ban; only the first word of it counts.
    pub(super) fn note_closed(&mut self, id: u64, connections: u32) {
        if let Some(record) = self.in_force.get_mut(&id).filter(|record| record.connections_closed.is_none()) {
            record.connections_closed = Some(connections);
            self.figures.insert(id);
        }
    }

    /// How often more the proxy refused somebody because of a ban.
    pub(super) fn note_refused(&mut self, id: u64, more: u64) {
        if self.in_force.contains_key(&id) {
            let so_far = self.refused.entry(id).or_default();
            *so_far = so_far.saturating_add(more);
        }
    }

    /// How often the proxy refused somebody because of a ban.
    pub(super) fn refused(&self, id: u64) -> u64 {
        self.refused.get(&id).copied().unwrap_or(0)
    }

    /// Whether `source` has a shadow ban that this rule did not make.
    pub(super) fn is_in_shadow_for_another(&self, source: Source, rule: &str) -> bool {
        self.find(source).is_some_and(|record| record.shadow && record.rule.as_deref() != Some(rule))
    }

    /// This rule in shadow would ban `source`, too.
    pub(super) fn note_would_ban(&mut self, source: Source, rule: &str) {
        let Some(id) = self.by_source.get(&source) else { return };
        let rules = self.would_ban.entry(*id).or_default();
        if !rules.iter().any(|one| one == rule) {
            rules.push(rule.to_owned());
        }
    }

    /// Whether this rule made the ban, or would make it in shadow if there were none.
    pub(super) fn would_ban(&self, record: &BanRecord, rule: &str) -> bool {
        let others = || self.would_ban.get(&record.id).is_some_and(|rules| rules.iter().any(|one| one == rule));
        record.rule.as_deref() == Some(rule) || others()
    }

    /// Whether the store does not know all figures of a ban.
    pub(super) fn is_unsaved(&self, id: u64) -> bool {
        self.figures.contains(&id)
    }

    /// Some bans with figures that the store does not know yet.
    pub(super) fn unsaved(&self, most: usize) -> Vec<BanRecord> {
        self.figures.iter().take(most).filter_map(|id| self.in_force.get(id)).cloned().collect()
    }

    /// The store knows the figures of these.
    pub(super) fn saved(&mut self, ids: &[u64]) {
        self.figures.retain(|id| !ids.contains(id));
    }
}

const fn is_shadow_of_rule(record: &BanRecord) -> bool {
    record.shadow && record.rule.is_some()
}

/// When the kernel lets a source go: an unconfirmed ban ends at its deadline, whether or not a guard is alive then.
pub(super) fn expiry(record: &BanRecord) -> u64 {
    let whole = record.expires_monotonic.unwrap_or(NEVER);
    record.confirm.map_or(whole, |confirm| confirm.monotonic.min(whole))
}

/// Writes what was found out about a ban after it was made.
pub(super) fn write_figures(change: &StoreChange<'_>, record: &BanRecord) -> Result<(), StoreError> {
    if let Some(micros) = record.reaction_micros {
        change.reacted(record.id, micros)?;
    }
    record.connections_closed.map_or(Ok(()), |connections| change.closed(record.id, connections))
}
