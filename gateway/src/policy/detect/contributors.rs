//! Who an anomaly comes from: what single sources and principals have asked for on each route, minute by minute, from
//! requests that are over.
//!
//! The observer knows what is usual, and no client. The proxy knows the clients, and not what is usual. When the observer says
//! which series deviates, the sources and principals that it comes from are named here, with requests as evidence. [`blame`]
//! says which of them may be to blame.
//!
//! *Invariant:* memory is bounded: `capacity` entries of a fixed size, and a few hundred routes. Whoever fails or asks most
//! is not pushed out by a crowd. A count may be too low where there is no room, and is never too high.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use blame::ClientRow;
use client_stats::ClientStats;
use deviating::{
    ALL_ROUTES, Completed, Contribution, Contributor, Deviating, LIMITED, LONGEST_NAME, MAX_NAMED, MAX_REQUESTS,
    NO_ROUTE, NamedContributor,
};
use distinct::DistinctSketch;
use gateway_common::source::Source;

use crate::{collections::bounded::Sharded, settings::anomalies::ClientMeasure, web::request_id::RequestId};

mod blame;
mod client_stats;
pub(super) mod deviating;
mod distinct;

#[cfg(test)]
mod tests;

/// The most routes whose sources and principals are counted: as many as the observer watches.
const MOST_ROUTES: usize = 252;

/// Minutes. Whether somebody was served before is known once requests were counted for so long.
const YOUNG: u64 = 30;

/// Whose statistics they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// Its hash.
    Principal(u64),
    Source(Source),
}

/// The statistics of all sources and principals, each on one route.
#[derive(Debug)]
pub(super) struct ContributorStats {
    /// By the hash of the route's name.
    all: Sharded<(u64, Who), ClientStats>,
    /// How many different ones there were on each route.
    distinct: Mutex<BTreeMap<Box<str>, [DistinctSketch; 2]>>,
    capacity: usize,
    seed: RandomState,
    /// The minute of the first request.
    first: AtomicU64,
}

impl ContributorStats {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            all: Sharded::new(capacity),
            distinct: Mutex::default(),
            capacity,
            seed: RandomState::new(),
            first: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// A request is over.
    pub(super) fn note(&self, completed: &Completed<'_>) {
        let route = self.seed.hash_one(completed.route);
        let is_new = self.fill((route, Who::Source(completed.source)), None, completed);
        let principal = completed.principal.map(|name| (name, self.seed.hash_one(name)));
        let is_new_principal =
            principal.is_some_and(|(name, hash)| self.fill((route, Who::Principal(hash)), Some(name), completed));
        if !is_new && !is_new_principal {
            return;
        }
        // Whoever was pushed out comes as somebody new: these tell them apart.
        self.first.fetch_min(completed.minute, Ordering::Relaxed);
        let source = self.seed.hash_one(completed.source);
        let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
        for of in [completed.route, ALL_ROUTES] {
            if !distinct.contains_key(of) {
                if distinct.len() >= MOST_ROUTES {
                    continue;
                }
                distinct.insert(of.into(), [DistinctSketch::NONE, DistinctSketch::NONE]);
            }
            let Some([sources, principals]) = distinct.get_mut(of) else { continue };
            if is_new {
                sources.note(source, completed.minute);
            }
            if let Some((_, hash)) = principal.filter(|_| is_new_principal) {
                principals.note(hash, completed.minute);
            }
        }
    }

    fn fill(&self, key: (u64, Who), name: Option<&str>, completed: &Completed<'_>) -> bool {
        let mut all = self.all.lock(&key);
        if let Some(stats) = all.find(&key) {
            return stats.note(completed);
        }
        let name = name.and_then(|name| name.get(..name.floor_char_boundary(LONGEST_NAME)));
        let mut stats = ClientStats::new(name.map(Into::into), completed);
        stats.note(completed);
        all.put(key, stats, |_, stats| stats.worth(completed.minute));
        true
    }

    /// Of each route, and of [`ALL_ROUTES`]: how many different sources and principals there were in a minute, summed over
    /// minutes.
    pub(super) fn distinct(&self) -> Vec<(String, [u64; 2])> {
        let distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
        distinct.iter().map(|(of, both)| (of.to_string(), both.each_ref().map(DistinctSketch::sum))).collect()
    }

    /// Whom a deviation comes from.
    pub(super) fn name(&self, deviating: &Deviating) -> Contribution {
        let (mut sources, mut principals) = (Vec::new(), Vec::new());
        for (who, row) in self.rows(deviating) {
            match who {
                Who::Source(_) => sources.push((who, row)),
                Who::Principal(_) => principals.push((who, row)),
            }
        }
        blame::judge(deviating.measure, deviating.alone, sources.iter_mut().map(|(_, row)| row).collect());
        let there = |rows: &[(Who, ClientRow)]| {
            u32::try_from(rows.iter().filter(|(_, row)| row.count > 0).count()).unwrap_or(u32::MAX)
        };
        let total = sources.iter().map(|(_, row)| u64::from(row.count)).sum();
        let counts = (there(&sources), there(&principals));
        // Principals that are as large as sources are told beside them.
        let mut all: Vec<_> = sources.into_iter().chain(principals).filter(|(_, row)| row.count > 0).collect();
        all.sort_by_key(|(who, row)| (std::cmp::Reverse(row.count), matches!(who, Who::Principal(_))));
        let named = all.into_iter().take(MAX_NAMED).filter_map(|(who, row)| self.contributor(deviating, who, &row));
        Contribution { total, sources: counts.0, principals: counts.1, named: named.collect() }
    }

    /// What everybody had, who had anything on the route or on any.
    fn rows(&self, deviating: &Deviating) -> HashMap<Who, ClientRow> {
        let (is_whole, is_none) = (deviating.of == ALL_ROUTES, [NO_ROUTE, LIMITED].contains(&&*deviating.of));
        let place = self.seed.hash_one(&*deviating.of);
        // Nobody is new to a process that has just begun.
        let is_young = deviating.since < self.first.load(Ordering::Relaxed).saturating_add(YOUNG);
        let mut rows: HashMap<Who, ClientRow> = HashMap::new();
        self.all.each(|(route, who), stats| {
            let is_here = is_whole || *route == place;
            // Nobody is ever served without a route: whether others are served is seen elsewhere.
            if !is_here && !is_none {
                return;
            }
            let counts = stats.at(deviating.minute);
            let row = rows.entry(*who).or_default();
            row.fares.add(counts);
            row.was_served |= is_young || (1..deviating.since).contains(&stats.served);
            if is_here {
                row.count = row.count.saturating_add(counts.of(deviating.measure));
            }
        });
        rows
    }

    /// What is told of one of them.
    fn contributor(&self, deviating: &Deviating, who: Who, row: &ClientRow) -> Option<Contributor> {
        let mut found: Option<(NamedContributor, Vec<RequestId>)> = None;
        let mut look = |stats: &ClientStats| {
            let latest = if deviating.measure == ClientMeasure::Requests { &stats.latest } else { &stats.failed };
            let named = match who {
                Who::Principal(_) => NamedContributor::Principal(stats.name.as_deref().unwrap_or_default().to_owned()),
                Who::Source(source) => NamedContributor::Source(source, stats.address, stats.relay),
            };
            let (_, requests) = found.get_or_insert_with(|| (named, Vec::new()));
            requests.extend(latest.list());
        };
        if deviating.of == ALL_ROUTES {
            self.all.each(|(_, other), stats| {
                if *other == who {
                    look(stats);
                }
            });
        } else {
            let key = (self.seed.hash_one(&*deviating.of), who);
            self.all.lock(&key).find(&key).map(|stats| look(stats))?;
        }
        let (who, mut requests) = found?;
        requests.truncate(MAX_REQUESTS);
        Some(Contributor { who, count: row.count.into(), requests, stands_out: row.stands_out })
    }
}
