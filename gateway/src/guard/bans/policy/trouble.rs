//! Good clients that fail, one by one and together.
//!
//! *Invariant:* at most [`MOST`] clients are kept in mind; over that, good clients are banned as others are.

use std::collections::{BTreeMap, HashMap};

use gateway_common::source::Source;

use super::good_clients::MOST;
use crate::{
    os::clock::{MINUTE, Now, SECOND},
    signal::Signal,
};

/// Failures within so long belong together.
const TOGETHER: u64 = 10 * MINUTE;

/// Fewer clients than this are no crowd.
const FEW: usize = 3;

/// A crowd is one of so many that are active.
const ONE_OF: usize = 50;

/// So many that fail on one route are a crowd, however many are active: no more of them are named.
const ENOUGH: usize = 32;

/// The most routes that are known to fail.
const MOST_ROUTES: usize = 64;

/// After so long it is known whether good clients fail on one route, in milliseconds.
const SETTLES: u64 = 5_000;

/// What nobody has told of for so long is over.
const SILENT: u64 = 30 * SECOND;

/// Good clients that fail.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct FailingClients {
    clients: HashMap<Source, Failure>,
    /// By what good clients fail together, and since when: milliseconds since the Unix epoch.
    together: BTreeMap<Signal, u64>,
    /// How they fail together on one route, and on which.
    routes: BTreeMap<(Signal, String), RouteFault>,
    /// When it was told last that they do on some route: milliseconds since the Unix epoch.
    told_of_routes: BTreeMap<Signal, u64>,
    /// How many good clients were active lately.
    active: usize,
}

/// Good clients fail together on one route.
#[derive(Clone, Copy, Debug)]
pub(in crate::guard::bans) struct RouteFault {
    /// Milliseconds since the Unix epoch.
    pub(in crate::guard::bans) since: u64,
    /// How many.
    pub(in crate::guard::bans) clients: usize,
    /// When it was told last: `CLOCK_MONOTONIC`, nanoseconds.
    heard: u64,
}

/// Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Failure {
    signal: Signal,
    since: u64,
    last: u64,
    /// It was served since.
    recovered: bool,
    ban: Option<u64>,
}

impl FailingClients {
    /// A rule asks for a ban of a good client by this signal. Since when it fails; `None`: there is no room to know that.
    pub(in crate::guard::bans) fn note(&mut self, source: Source, signal: Signal, now: u64) -> Option<u64> {
        if self.clients.len() >= MOST && !self.clients.contains_key(&source) {
            return None;
        }
        let fresh = Failure { signal, since: now, last: now, recovered: false, ban: None };
        let failure = self.clients.entry(source).or_insert(fresh);
        if now.saturating_sub(failure.last) > TOGETHER {
            *failure = Failure { ban: failure.ban, ..fresh };
        }
        // By whatever it fails, it goes on: who fails in turn by this and by that would begin anew each time.
        (failure.signal, failure.last, failure.recovered) = (signal, now, false);
        Some(failure.since)
    }

    /// A client was served: it fails no more. Since when it did is kept, or it could go on by being good in between.
    pub(in crate::guard::bans) fn recovered(&mut self, source: Source) {
        if let Some(failure) = self.clients.get_mut(&source) {
            failure.recovered = true;
        }
    }

    pub(in crate::guard::bans) fn banned(&mut self, source: Source, ban: u64) {
        if let Some(failure) = self.clients.get_mut(&source) {
            failure.ban = Some(ban);
        }
    }

    /// Which good clients fail by `signal`.
    pub(in crate::guard::bans) fn alike(&self, signal: Signal, now: u64) -> impl Iterator<Item = Source> {
        let all = self.clients.iter().filter(move |(_, failure)| failure.signal == signal);
        let alike = all.filter(move |(_, it)| !it.recovered && now.saturating_sub(it.last) <= TOGETHER);
        alike.map(|(source, _)| *source)
    }

    /// Whether so many that fail alike are a crowd: it is nothing that they do.
    pub(in crate::guard::bans) fn is_crowd(&self, clients: usize) -> bool {
        clients >= FEW.max(self.active / ONE_OF)
    }

    /// How many good clients fail by `signal`.
    pub(in crate::guard::bans) fn count(&self, signal: Signal, now: u64) -> usize {
        self.alike(signal, now).count()
    }

    /// Since when good clients fail together by `signal`, where they do: milliseconds since the Unix epoch.
    pub(in crate::guard::bans) fn together_since(&self, signal: Signal) -> Option<u64> {
        let of_routes = || self.routes().filter(|(by, ..)| *by == signal).map(|(.., fault)| fault.since).min();
        self.together.get(&signal).copied().or_else(of_routes)
    }

    /// By what good clients fail together, and since when.
    pub(in crate::guard::bans) fn together(&self) -> impl Iterator<Item = (Signal, u64)> {
        self.together.iter().map(|(signal, since)| (*signal, *since))
    }

    /// Good clients fail together by `signal`; which bans of them were made for it.
    pub(in crate::guard::bans) fn begin(&mut self, signal: Signal, unix_millis: u64) -> Vec<u64> {
        self.together.insert(signal, unix_millis);
        let alike = self.clients.values().filter(|failure| failure.signal == signal);
        alike.filter_map(|failure| failure.ban).collect()
    }

    /// Whether so many that fail on one route are a crowd.
    pub(in crate::guard::bans) fn is_enough(&self, clients: usize) -> bool {
        clients >= (self.active / ONE_OF).clamp(FEW, ENOUGH)
    }

    /// Good clients fail together on a route; whether that is new.
    pub(in crate::guard::bans) fn hear_route(&mut self, signal: Signal, route: &str, clients: usize, now: Now) -> bool {
        let key = (signal, route.to_owned());
        self.told_of_routes.insert(signal, now.unix_millis);
        if let Some(known) = self.routes.get_mut(&key) {
            (known.clients, known.heard) = (clients.max(known.clients), now.monotonic);
            return false;
        }
        let fault = RouteFault { since: now.unix_millis, clients, heard: now.monotonic };
        let has_room = self.routes.len() < MOST_ROUTES;
        has_room && self.routes.insert(key, fault).is_none()
    }

    /// By what good clients fail together on no single route that is known, and since when. Whether it is one is known after
    /// [`SETTLES`].
    pub(in crate::guard::bans) fn elsewhere(&self, now: Now) -> impl Iterator<Item = (Signal, u64)> {
        // It may have been told a moment before.
        let has_route = |signal: &Signal, since: u64| {
            self.told_of_routes.get(signal).is_some_and(|told| told.saturating_add(SETTLES) >= since)
        };
        let is_settled = move |since: u64| now.unix_millis.saturating_sub(since) >= SETTLES;
        self.together().filter(move |(signal, since)| is_settled(*since) && !has_route(signal, *since))
    }

    /// On which routes good clients fail together, and how.
    pub(in crate::guard::bans) fn routes(&self) -> impl Iterator<Item = (Signal, &str, RouteFault)> {
        self.routes.iter().map(|((signal, route), fault)| (*signal, &**route, *fault))
    }

    /// Ends what nobody tells of any more.
    pub(in crate::guard::bans) fn end_routes(&mut self, now: u64) -> Vec<(Signal, String)> {
        let is_over = |fault: &RouteFault| now.saturating_sub(fault.heard) > SILENT;
        let over = self.routes.iter().filter(|(_, fault)| is_over(fault)).map(|(key, _)| key.clone()).collect();
        self.routes.retain(|_, fault| !is_over(fault));
        over
    }

    /// By what `source` failed last.
    pub(in crate::guard::bans) fn signal_of(&self, source: Source) -> Option<Signal> {
        self.clients.get(&source).map(|failure| failure.signal)
    }

    /// Forgets what is long past, where `active` good clients were active lately and `is_banned` says which bans are in
    /// force.
    pub(in crate::guard::bans) fn forget(&mut self, active: usize, is_banned: impl Fn(u64) -> bool, now: u64) {
        self.active = active;
        self.clients
            .retain(|_, failure| now.saturating_sub(failure.last) <= TOGETHER || failure.ban.is_some_and(&is_banned));
    }

    /// Whether so few fail alike that it is over. Half a crowd keeps it up, so that it does not come and go.
    pub(in crate::guard::bans) fn is_over(&self, clients: usize) -> bool {
        !self.is_crowd(clients.saturating_mul(2))
    }

    /// Good clients fail together by this no more.
    pub(in crate::guard::bans) fn end(&mut self, signal: Signal) {
        self.together.remove(&signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_by_one_thing_after_the_other_goes_on() {
        use Signal::{Forbidden, ForgedToken, UnknownRoute};
        let minute = MINUTE / SECOND;
        for (asks, expect) in [
            (&[(ForgedToken, 0), (ForgedToken, 50), (ForgedToken, 100)][..], 0),
            (&[(ForgedToken, 0), (UnknownRoute, 50), (ForgedToken, 100), (Forbidden, 150)], 0),
            (&[(ForgedToken, 0), (UnknownRoute, 10 * minute)], 0),
            // What is long past is another matter.
            (&[(ForgedToken, 0), (ForgedToken, 10 * minute + 1)], 10 * minute + 1),
            (&[(ForgedToken, 0), (UnknownRoute, 10 * minute + 1), (Forbidden, 12 * minute)], 10 * minute + 1),
        ] {
            let (mut trouble, source) = (FailingClients::default(), "192.0.2.7".parse().unwrap());
            let since = asks.iter().map(|(signal, at)| trouble.note(source, *signal, (1_000 + at) * SECOND));
            assert_eq!(since.last().flatten(), Some((1_000 + expect) * SECOND), "{asks:?}");
            // It counts among those that fail as it did last.
            let (last, at) = asks.last().unwrap();
            let alike = |signal| trouble.alike(signal, (1_000 + at) * SECOND).count();
            assert_eq!([ForgedToken, UnknownRoute, Forbidden].map(alike).iter().sum::<usize>(), 1, "{asks:?}");
            assert_eq!((alike(*last), trouble.signal_of(source)), (1, Some(*last)), "{asks:?}");
        }
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut trouble = FailingClients::default();
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
            trouble.note(source, Signal::ForgedToken, SECOND);
        }
        assert_eq!(trouble.clients.len(), MOST);
    }
}
