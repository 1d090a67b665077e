//! Routes that fail for everybody at once: what counted before that was noticed is taken back.
//!
//! A deployment breaks a route, and for a moment it looks as if whoever asks first were to blame. Once [`FEW`] clients that
//! have proved who they are and were served on the route before fail in the same way, and nobody was served there since the
//! first of them failed, it is our fault since the last request that was served. What rules hold of that time, route and
//! status counts for nothing, and the guard is told which bans rest on it alone.
//!
//! *Invariant:* whatever a client causes, evidence from before the last request that was served on the route stays: a scan
//! of a route that works is never taken back. Memory is bounded, and no request waits for another one's failure.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use super::{discounts::UPSTREAMS_FAIL, standing::ROUTES};
use crate::{os::clock::SECOND, signal::Signal, web::request_id::RequestId};

/// So few clients are no crowd.
const FEW: usize = 3;

/// The most clients that are named.
pub const MAX_FAILING: usize = 64;

/// The most bans that are named.
pub const MAX_TAKEN_BACK: usize = 200;

/// The most routes that are looked at at once.
const MOST_OPEN: usize = 16;

/// The most faults that are remembered once they are over.
const MOST_OVER: usize = 32;

/// The most asks that are remembered.
const MOST_ASKED: usize = 1_024;

/// For how long an ask is remembered. The guard lifts nothing that is older.
pub const TAKEN_BACK_WITHIN: u64 = 600 * SECOND;

/// A fault that goes on is told again after so long.
const AGAIN: u64 = 5 * SECOND;

/// When a request was served is known by 2^24 ns, 17 ms: hot paths write it no more often.
const TICK: u32 = 24;

/// On which route an upstream failed, and how; 0: it is no answer of an upstream.
pub(super) type Place = u16;

pub(super) fn place(route: Option<usize>, signal: Signal) -> Place {
    let class = UPSTREAMS_FAIL.iter().position(|fails| *fails == signal);
    let number = route.zip(class).map(|(route, class)| 1 + class * ROUTES + route % ROUTES);
    number.and_then(|number| Place::try_from(number).ok()).unwrap_or(0)
}

/// What all evidence of a ban has in common: the place, and when the first of it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) place: Place,
    pub(super) first: u64,
}

/// Good clients fail together on a route: it is our fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OurFault {
    /// How they fail.
    pub signal: Signal,
    /// The route's name; the detector does not know it.
    pub route: String,
    /// Since when: `CLOCK_MONOTONIC`, nanoseconds.
    pub since: u64,
    /// Who fails, at most [`MAX_FAILING`].
    pub clients: Vec<Failing>,
    /// The bans that rest on it alone, at most [`MAX_TAKEN_BACK`].
    pub bans: Vec<AskedBan>,
}

/// A client that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

/// A ban that a rule has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBan {
    /// Of whom.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// The rule.
    pub rule: String,
    /// The last request of its evidence.
    pub request: RequestId,
}

#[derive(Debug)]
struct Open {
    place: Place,
    since: u64,
    last: u64,
    clients: Vec<Source>,
    /// When it was told last, and how many clients there were; `None`: it is no fault of ours yet.
    told: Option<(u64, usize)>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Open>,
    /// Place, since when and until when.
    over: VecDeque<(Place, u64, u64)>,
    asked: VecDeque<(Common, u64, AskedBan)>,
}

/// What is known of routes that fail.
#[derive(Debug)]
pub(super) struct Faults {
    /// When a request was served last on each route, in ticks; 0: never.
    served: Box<[AtomicU64]>,
    state: Mutex<State>,
    /// Whether anything was ever found: most of the time nothing is.
    is_any: AtomicBool,
}

impl Faults {
    pub(super) fn new() -> Self {
        let served = (0..ROUTES).map(|_| AtomicU64::new(0)).collect();
        Self { served, state: Mutex::default(), is_any: AtomicBool::new(false) }
    }

    fn served_at(&self, route: usize) -> Option<&AtomicU64> {
        self.served.get(route % ROUTES)
    }

    /// A request was served on a route.
    pub(super) fn served(&self, route: usize, now: u64) {
        let Some(served) = self.served_at(route) else { return };
        let tick = now >> TICK;
        if served.load(Ordering::Relaxed) < tick {
            served.store(tick, Ordering::Relaxed);
        }
    }

    /// A request of a client failed that has proved who it is and was served on this route before. What is to be told, if
    /// there is something new to tell.
    pub(super) fn failed(&self, route: usize, signal: Signal, source: Source, now: u64) -> Option<OurFault> {
        let since = self.served_at(route)?.load(Ordering::Relaxed) << TICK;
        let place = place(Some(route), signal);
        // Where nobody was ever served nothing has begun to fail. Another thread looks at the moment: the next failure does.
        if since == 0 || place == 0 {
            return None;
        }
        let mut state = self.state.try_lock().ok()?;
        let state = &mut *state;
        let known = state.open.iter().position(|open| open.place == place);
        let at = match known {
            Some(at) => at,
            None if state.open.len() < MOST_OPEN => {
                state.open.push(Open { place, since, last: now, clients: Vec::new(), told: None });
                state.open.len() - 1
            }
            None => {
                let oldest = state.open.iter().enumerate().min_by_key(|(_, open)| open.last)?.0;
                let open = state.open.get_mut(oldest)?;
                close(open, &mut state.over, since);
                open.place = place;
                oldest
            }
        };
        let open = state.open.get_mut(at)?;
        if open.since != since {
            // Somebody was served meanwhile.
            close(open, &mut state.over, since);
        }
        open.last = now;
        if !open.clients.contains(&source) && open.clients.len() < MAX_FAILING {
            open.clients.push(source);
        }
        let many = open.clients.len();
        let is_due = open.told.is_none_or(|(at, before)| now.saturating_sub(at) >= AGAIN || many >= 2 * before);
        if many < FEW || !is_due {
            return None;
        }
        open.told = Some((now, many));
        self.is_any.store(true, Ordering::Relaxed);
        let rests_on = |common: &Common| common.place == place && common.first >= since;
        let is_recent = |noted: u64| now.saturating_sub(noted) <= TAKEN_BACK_WITHIN;
        let bans = state.asked.iter().filter(|(common, noted, _)| rests_on(common) && is_recent(*noted));
        Some(OurFault {
            signal,
            route: String::new(),
            since,
            clients: open.clients.iter().map(|source| Failing { source: *source }).collect(),
            bans: bans.rev().take(MAX_TAKEN_BACK).map(|(.., ban)| ban.clone()).collect(),
        })
    }

    /// A rule asks for a ban all of whose evidence has this in common.
    pub(super) fn asked(&self, common: Common, noted: u64, ban: AskedBan) {
        let Ok(mut state) = self.state.lock() else { return };
        if state.asked.len() >= MOST_ASKED {
            state.asked.pop_front();
        }
        state.asked.push_back((common, noted, ban));
    }

    /// Whether anything that was noted somewhere may be our fault.
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Relaxed)
    }

    /// Which of these, each a place and when it was noted, are our fault.
    pub(super) fn are_ours(&self) -> impl Fn(Place, u64) -> bool {
        let state = self.state.lock();
        let spans: Vec<(Place, u64, u64)> = state.map_or_else(
            |_poisoned| Vec::new(),
            |state| {
                let open = state.open.iter().filter(|open| open.told.is_some());
                let open = open.map(|open| (open.place, open.since, u64::MAX));
                open.chain(state.over.iter().copied()).collect()
            },
        );
        move |place, noted| {
            place != 0 && spans.iter().any(|(at, since, until)| *at == place && (*since..=*until).contains(&noted))
        }
    }
}

/// A fault is over, and may begin anew.
fn close(open: &mut Open, over: &mut VecDeque<(Place, u64, u64)>, since: u64) {
    if open.told.take().is_some() {
        if over.len() >= MOST_OVER {
            over.pop_front();
        }
        over.push_back((open.place, open.since, open.last));
    }
    open.clients.clear();
    open.since = since;
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000 * SECOND;
    const FAILS: Signal = Signal::UpstreamError;

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into(), 64)
    }

    fn asked(faults: &Faults, number: u32, route: usize, first: u64) {
        let common = Common { place: place(Some(route), FAILS), first };
        let ban = AskedBan { source: source(number), rule: "r".to_owned(), request: RequestId(number.into()) };
        faults.asked(common, first + SECOND, ban);
    }

    #[test]
    fn a_route_that_fails_for_all_is_our_fault() {
        let faults = Faults::new();
        let fail = |number, at| faults.failed(7, FAILS, source(number), at);
        assert_eq!(fail(1, START), None, "nobody was ever served");
        faults.served(7, START);
        let broken = START + SECOND;
        asked(&faults, 90, 7, broken);
        asked(&faults, 91, 8, broken);
        asked(&faults, 92, 7, START - 9 * SECOND);
        assert_eq!((fail(1, broken), fail(1, broken), fail(2, broken)), (None, None, None), "two clients are no crowd");
        let told = fail(3, broken + SECOND).unwrap();
        assert_eq!(told.clients.len(), 3);
        let bans: Vec<_> = told.bans.iter().map(|ban| ban.source).collect();
        assert_eq!(bans, [source(90)], "another route, and what was before the last that was served, stay");
        assert!(told.since <= START && told.since > START - SECOND);
        let is_ours = faults.are_ours();
        let here = place(Some(7), FAILS);
        assert!(is_ours(here, broken) && !is_ours(here, START - SECOND) && !is_ours(place(Some(8), FAILS), broken));
        assert!(!is_ours(place(Some(7), Signal::UpstreamNotFound), broken), "it fails otherwise");
        // Told again when there are twice as many, or after a while.
        assert_eq!((fail(4, broken + SECOND), fail(5, broken + SECOND)), (None, None));
        assert_eq!(fail(6, broken + SECOND).unwrap().clients.len(), 6);
        assert!(fail(6, broken + 7 * SECOND).is_some());
        // It works again: what counts from then on counts.
        faults.served(7, broken + 9 * SECOND);
        assert_eq!(fail(1, broken + 10 * SECOND), None);
        let is_ours = faults.are_ours();
        assert!(is_ours(here, broken + SECOND) && !is_ours(here, broken + 10 * SECOND));
    }

    #[test]
    fn who_is_served_between_failures_takes_nothing_back() {
        let faults = Faults::new();
        for number in 0..50 {
            let now = START + u64::from(number) * SECOND;
            faults.served(7, now);
            assert_eq!(faults.failed(7, FAILS, source(number), now + SECOND / 2), None);
        }
        assert!(!faults.is_any());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let faults = Faults::new();
        for number in 0..5_000_u32 {
            let route = usize::try_from(number).unwrap() % ROUTES;
            faults.served(route, START);
            asked(&faults, number, route, START);
            faults.failed(route, FAILS, source(number), START + SECOND + u64::from(number));
            faults.failed(0, FAILS, source(number), START + SECOND);
        }
        let state = faults.state.lock().unwrap();
        assert_eq!((state.open.len(), state.asked.len()), (MOST_OPEN, MOST_ASKED));
        assert!(state.over.len() <= MOST_OVER && state.open.iter().all(|open| open.clients.len() <= MAX_FAILING));
    }

    #[test]
    fn places_tell_routes_and_failures_apart() {
        let mut all: Vec<Place> = UPSTREAMS_FAIL
            .iter()
            .flat_map(|signal| (0..ROUTES).map(move |route| place(Some(route), *signal)))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), all[0]), (4 * ROUTES, 1));
        assert_eq!((place(None, FAILS), place(Some(1), Signal::ScanPath)), (0, 0));
    }
}
