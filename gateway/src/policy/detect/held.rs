//! Whose bucket of a rule a signal goes into, what is held against a source, and what is taken back of it.

use std::{hash::BuildHasher as _, net::IpAddr};

use gateway_common::source::Source;

use super::{Detector, MAX_SCORES, NumberedRule, ONE_CUSTOMER, Observed, observed::About};
use crate::settings::detect::{Distinct, GroupBy, Rule};

impl Detector {
    /// Whose bucket of a rule a signal goes into; `None`: nobody's, as that is not known.
    pub(super) fn about(&self, rule: &Rule, observed: &Observed<'_>) -> Option<About> {
        let Observed { source, address, principal, facts, .. } = *observed;
        Some(match rule.by {
            _ if rule.distinct == Some(Distinct::Sources) => About::Principal(self.seed.hash_one(principal?)),
            GroupBy::Source => About::Source(source),
            GroupBy::Prefix => About::Source(network(address)),
            GroupBy::Principal => About::Principal(self.seed.hash_one(principal?)),
            GroupBy::Ja4 => About::Ja4(self.seed.hash_one(facts.ja4?)),
            GroupBy::Session => About::Session(self.seed.hash_one((principal?, facts.session?))),
        })
    }

    /// The bucket of those that come again once a bucket is full. `who`: the hash of one of them.
    pub(super) fn trial(&self, full: (u64, About), who: u32) -> (u64, About) {
        (full.0, About::Trial(self.seed.hash_one((full.1, who))))
    }

    /// Takes a signal back that was noted: it was our own fault. `observed` tells as much of the request as was known then.
    pub fn take_back(&self, observed: &Observed<'_>) {
        let counted_by = self.counted_by.get(observed.signal as usize).into_iter().flatten();
        for NumberedRule { number, rule, .. } in counted_by.filter_map(|at| self.rules.get(*at)) {
            let Some(about) = self.about(rule, observed) else { continue };
            let (full, who) = ((*number, about), self.short_hash(observed.source));
            // Where others share the bucket, the request may also be what its source has tried since it is full.
            for key in [full, self.trial(full, who)] {
                if let Some(bucket) = self.buckets.lock(&key).find(&key) {
                    bucket.take_back(observed.id);
                }
            }
        }
    }

    /// What the rules hold against `source`: how much each, where there is anything.
    #[must_use]
    pub fn scores(&self, source: Source, now: u64) -> Vec<(String, u32)> {
        let held = |NumberedRule { number, rule, .. }: &NumberedRule| {
            let key = (*number, around(rule, source));
            let mut buckets = self.buckets.lock(&key);
            let bucket = buckets.find(&key)?;
            bucket.leak(rule, now);
            let held = u32::try_from(bucket.weight()).ok().filter(|held| *held > 0)?;
            Some((rule.name.clone(), held))
        };
        self.rules.iter().filter_map(held).take(MAX_SCORES).collect()
    }
}

/// The bucket of a rule that `source` fills, where that does not depend on more than the source.
fn around(rule: &Rule, source: Source) -> About {
    About::Source(if rule.by == GroupBy::Prefix { network(source.address()) } else { source })
}

/// The network that [`GroupBy::Prefix`] adds up.
fn network(address: IpAddr) -> Source {
    let length = if address.is_ipv4() { 24 } else { ONE_CUSTOMER };
    Source::network(address, length).unwrap_or_else(|| Source::of(address, ONE_CUSTOMER))
}
