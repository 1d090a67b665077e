//! Bandwidth: how many bytes of bodies pass in a second for each key. What is over it waits, and is never refused.
//!
//! A piece of a body is charged when it passes, and the next one waits until it is paid for. So what passes in a time is
//! exact but for one piece of each body.

use std::sync::Arc;

use super::{
    Limits,
    budget::Budgets,
    counter::Counter,
    key::{Hashed, LimitFacts},
    report::{self, LimitQuestion, LimitRow, LimitSum},
};
use crate::{
    identity::claim::ClaimPath,
    settings::{bandwidth, route::Route},
};

/// How operators are told of these limits.
const PREFIX: &str = "bandwidth.";

/// The bandwidths of a configuration.
#[derive(Debug, Default)]
pub struct Bandwidth {
    pub(super) upload: Option<Limits>,
    pub(super) download: Option<Limits>,
}

/// What a body is charged to.
#[derive(Debug)]
pub struct Pacers(Box<[(Arc<Counter>, u64)]>);

impl Pacers {
    /// So many bytes have passed at `now`. How long the next ones wait, in nanoseconds.
    #[must_use]
    pub fn pass(&self, bytes: u64, now: u64) -> u64 {
        self.0.iter().map(|(counter, key)| counter.pass(*key, bytes, now)).max().unwrap_or(0)
    }
}

impl Bandwidth {
    /// Compiles the bandwidths of a configuration. `kept`: the claims that identities keep. They go on with the counts
    /// of `before` once they are put in force.
    #[must_use]
    pub fn new(
        settings: &bandwidth::Settings,
        routes: &[Route],
        kept: &[ClaimPath],
        ipv6_prefix: u8,
        before: Option<&Self>,
    ) -> Self {
        let limits = |settings, before| Limits::new(settings, routes, kept, ipv6_prefix, before);
        Self {
            upload: limits(&settings.upload, before.and_then(|before| before.upload.as_ref())),
            download: limits(&settings.download, before.and_then(|before| before.download.as_ref())),
        }
    }

    /// Goes on with the counts of `before`.
    pub fn put_in_force(&self, settings: &bandwidth::Settings, before: &Self, now: u64) {
        for (limits, settings, before) in
            [(&self.upload, &settings.upload, &before.upload), (&self.download, &settings.download, &before.download)]
        {
            if let (Some(limits), Some(before)) = (limits, before) {
                limits.put_in_force(settings, before, now);
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.upload.is_none() && self.download.is_none()
    }

    /// What the request's body is charged to, and the response's. `None`: nothing.
    #[must_use]
    pub fn find(&self, facts: &LimitFacts<'_>) -> (Option<Pacers>, Option<Pacers>) {
        let find = |limits: &Option<Limits>| limits.as_ref().and_then(|limits| limits.pacers(facts));
        (find(&self.upload), find(&self.download))
    }

    /// What an operator asks for.
    #[must_use]
    pub fn answer(&self, question: &LimitQuestion, now: u64) -> Vec<LimitRow> {
        let rows = self.each().flat_map(|(direction, limits)| {
            let rows = report::answer(Some(limits), question, now);
            rows.into_iter().map(move |row| LimitRow { limit: format!("{PREFIX}{}.{direction}", row.limit), ..row })
        });
        rows.collect()
    }

    /// How many bytes each let pass, and how often some waited, with its direction.
    pub fn sums(&self) -> impl Iterator<Item = (&'static str, LimitSum)> {
        self.each().flat_map(|(direction, limits)| limits.sums().into_iter().map(move |sum| (direction, sum)))
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &Limits)> {
        let (upload, download) = (self.upload.as_ref(), self.download.as_ref());
        upload.map(|it| ("upload", it)).into_iter().chain(download.map(|it| ("download", it)))
    }
}

impl Limits {
    /// The counters of rates that a request has, whenever they would be asked.
    fn pacers(&self, facts: &LimitFacts<'_>) -> Option<Pacers> {
        let plan = facts.identity.and_then(|identity| super::plan::of(&self.plans, identity));
        let facts = LimitFacts { plan: plan.and_then(|plan| self.plans.get(plan)).map(|plan| &*plan.name), ..*facts };
        let of_route = [&self.routed, &self.authorized].map(|all| facts.route.and_then(|route| all.get(route)));
        let charges = self.arrived.iter().chain(of_route.into_iter().flatten().flat_map(|charges| charges.iter()));
        let mut hashed = Hashed::default();
        let pacers = charges.filter_map(|charge| {
            let limit = self.limits.get(charge.limit).filter(|limit| !limit.excepts(&facts))?;
            let (_, allowed) = limit.allowed(plan)?;
            let Budgets::Rate(counter, _) = &allowed.budgets else { return None };
            Some((Arc::clone(counter), self.hasher.key(&limit.by, &self.parts, &facts, &mut hashed)))
        });
        let pacers: Box<[_]> = pacers.collect();
        (!pacers.is_empty()).then_some(Pacers(pacers))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use gateway_common::source::Source;
    use http::HeaderMap;

    use super::*;
    use crate::{
        os::clock::SECOND,
        settings::limit::{self, Allowance, Cost, Except, KeyPart, Limit, Rate},
    };

    const PIECE: u64 = 16 * 1_024;

    fn bandwidth(rate: u64, burst: u64) -> Bandwidth {
        let limit = Limit {
            name: "all".to_owned(),
            by: vec![KeyPart::Address(None)],
            allowance: Allowance::Rate(Rate { units: rate, per: Duration::from_secs(1), burst }),
            cost: Cost::ResponseBytes,
            routes: None,
            weights: Vec::new(),
            except: Except::default(),
            capacity: 1_000,
            delay: Duration::ZERO,
            clamp: None,
            headers: false,
            shadow: false,
            shared: false,
            quota: None,
        };
        let download = limit::Settings { limits: vec![limit], ..limit::Settings::default() };
        Bandwidth::new(&bandwidth::Settings { download, ..bandwidth::Settings::default() }, &[], &[], 64, None)
    }

    fn pacers(bandwidth: &Bandwidth, address: &str) -> Pacers {
        let (address, headers): (IpAddr, _) = (address.parse().unwrap(), HeaderMap::new());
        let facts = LimitFacts {
            source: Source::of(address, 64),
            address,
            ja4: None,
            headers: &headers,
            target: None,
            route: None,
            identity: None,
            plan: None,
        };
        let (upload, download) = bandwidth.find(&facts);
        assert!(upload.is_none());
        download.unwrap()
    }

    /// How much passes in so many seconds by so many bodies at once, whose timers are up to a millisecond late.
    fn passed(rate: u64, burst: u64, bodies: usize, seconds: u64) -> u64 {
        let bandwidth = bandwidth(rate, burst);
        let mut due: Vec<(u64, Pacers)> = (0..bodies).map(|_| (SECOND, pacers(&bandwidth, "192.0.2.1"))).collect();
        let mut passed = 0;
        loop {
            let (at, pacers) = due.iter_mut().min_by_key(|(at, _)| *at).unwrap();
            if *at >= SECOND + seconds * SECOND {
                return passed;
            }
            passed += PIECE;
            // In whole milliseconds, as timers are.
            *at += pacers.pass(PIECE, *at).div_ceil(1_000_000) * 1_000_000 + 10_000;
        }
    }

    #[test]
    fn what_passes_is_exact_within_a_hundredth() {
        for (rate, burst, bodies) in [
            (64 << 10, 64 << 10, 1),
            (1 << 20, 1 << 20, 1),
            (10 << 20, 512 << 10, 1),
            (100 << 20, 10 << 20, 1),
            (1 << 20, 64 << 10, 7),
            (100 << 20, 5 << 20, 50),
        ] {
            let (seconds, got) = (10, passed(rate, burst, bodies, 10));
            let (least, most) = (rate * seconds * 99 / 100, (rate * seconds + burst) * 101 / 100);
            let most = most + PIECE * u64::try_from(bodies).unwrap();
            assert!((least..=most).contains(&got), "{rate} {burst} {bodies}: {got} is not in {least}..={most}");
        }
    }

    #[test]
    fn d05_small_bodies_pay_for_each_other() {
        let bandwidth = bandwidth(1 << 20, 1 << 20);
        let last = (0..1_000).fold(0, |_, _| pacers(&bandwidth, "192.0.2.1").pass(10 << 10, SECOND));
        // The last of 10 MB at a MiB/s with a burst of one second waits for about nine.
        assert!((8 * SECOND..9 * SECOND).contains(&last));
        assert!(pacers(&bandwidth, "192.0.2.1").pass(0, SECOND) > 8 * SECOND, "a new one waits before its first byte");
        assert_eq!(pacers(&bandwidth, "192.0.2.2").pass(0, SECOND), 0, "another address");
        assert_eq!(
            bandwidth.sums().next().map(|(way, sum)| (way, sum.counts.admitted)),
            Some(("download", 10_240_000))
        );
    }
}
