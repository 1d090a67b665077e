//! What the detector makes of routes that fail for everybody at once, and of upstreams that fail to others alike.

use std::hash::BuildHasher as _;

use gateway_common::source::Source;

use super::{
    Detector, UpstreamAnswer,
    discounts::{Discounted, seconds},
    faults::OurFault,
};
use crate::signal::Signal;

impl Detector {
    /// An upstream has answered `source`: whether good clients fail together by it, so that it is our fault, where there is
    /// something new to tell of that. To be asked before [`Self::judge_answer`]. The name of the route is left empty.
    #[must_use]
    pub fn our_fault(&self, answer: &UpstreamAnswer, source: Source, now: u64) -> Option<OurFault> {
        let (faults, standing) = (self.faults.as_ref()?, self.standing.as_ref()?);
        let signal = answer.signal().filter(|signal| *signal != Signal::Served && answer.is_identified)?;
        let is_known = standing.knows(answer.route, self.seed.hash_one(source), now);
        is_known.then(|| faults.failed(answer.route, signal, source, now))?
    }

    /// Which failures of the upstream at this place count against nobody, of those that a rule counts.
    #[must_use]
    pub fn discounted_of(&self, upstream: usize, now: u64) -> Vec<Discounted> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let all = standing.discounts.of_upstream(upstream, seconds(now));
        all.filter(|it| self.counts(it.signal)).collect()
    }

    /// Which failures of upstreams do not count against `source`, where a rule would count them.
    #[must_use]
    pub fn discounted(&self, source: Source, now: u64) -> Option<Discounted> {
        let discounts = &self.standing.as_ref()?.discounts;
        let found = discounts.of_source(self.seed.hash_one(source), seconds(now));
        found.filter(|it| self.counts(it.signal))
    }
}
