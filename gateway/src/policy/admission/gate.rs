//! The way to one upstream: so many requests at once, and a short queue for the rest, the highest class first, and within
//! a class each client in its turn (see [`queue`](super::queue)).
//!
//! *Invariant:* nobody overtakes a higher class, and the queue is bounded in number; whoever has a place in it leaves by
//! being let through, displaced or gone. A request that is let through leaves exactly once.

use super::{
    class::{Class, MAX_CLASSES},
    gradient::{Gradient, Sample},
    queue::Queue,
};
use crate::settings::upstream::Concurrency;

/// The shortest queue that is allowed where none is configured.
const SHORTEST: usize = 10;

/// What becomes of a request that comes.
#[derive(Debug, PartialEq, Eq)]
pub enum AdmissionDecision<W> {
    /// It goes on at once.
    Admitted,
    /// There is no room, and nobody waits who has less right to a place.
    Refused,
    /// It waits, and leaves the queue by this number. `displaced`: of a lower class, or of a client that has had its turn:
    /// it is refused.
    Waits {
        /// The number of its place in the queue.
        place: u64,
        /// Who made room for it.
        displaced: Option<W>,
    },
}

/// What a request that was let through has shown when it leaves.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// When it began, or was sent last: `CLOCK_MONOTONIC`, nanoseconds.
    pub began: u64,
    /// `None`: nothing about the upstream.
    pub sample: Option<Sample>,
}

/// How a gate is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateReport {
    /// Requests that may be in flight at once.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// How long a response takes without a queue, in nanoseconds; 0: not known.
    pub base: u64,
    /// Requests that were let through.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// The way to one upstream. `W` is whom to tell that waits.
#[derive(Debug)]
pub struct Gate<W> {
    limit: GateLimit,
    in_flight: u32,
    queue: [Queue<W>; MAX_CLASSES],
    waiting: usize,
    /// The longest that the queue may be; `None`: as many as are in flight.
    longest: Option<usize>,
    next_place: u64,
    admitted: u64,
    refused: u64,
}

#[derive(Debug)]
enum GateLimit {
    Adaptive(Box<Gradient>),
    Fixed(u32),
}

impl GateLimit {
    fn new(settings: &Concurrency, now: u64) -> Self {
        match settings.min == settings.max {
            true => Self::Fixed(settings.max),
            false => Self::Adaptive(Box::new(Gradient::new(settings.min, settings.max, now))),
        }
    }

    /// How many requests of a class may be in flight. The highest is not held back by the search for the best limit.
    fn of(&self, class: usize) -> u32 {
        match self {
            Self::Adaptive(gradient) if class == 0 => gradient.full_limit(),
            Self::Adaptive(gradient) => gradient.limit(),
            Self::Fixed(limit) => *limit,
        }
    }
}

impl<W> Gate<W> {
    /// A gate that nobody has passed. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn new(settings: &Concurrency, now: u64) -> Self {
        Self {
            limit: GateLimit::new(settings, now),
            in_flight: 0,
            queue: Default::default(),
            waiting: 0,
            longest: settings.queue,
            next_place: 0,
            admitted: 0,
            refused: 0,
        }
    }

    /// Goes on by other settings. Whoever is in flight or waits stays, and what was learnt does where it may.
    pub fn change(&mut self, settings: &Concurrency, now: u64) {
        self.longest = settings.queue;
        match &mut self.limit {
            GateLimit::Adaptive(gradient) if settings.min != settings.max => gradient.bound(settings.min, settings.max),
            limit => *limit = GateLimit::new(settings, now),
        }
    }

    /// A request of `client` comes. `waiter` is asked for where it has to wait.
    pub fn enter(&mut self, class: Class, client: u64, waiter: impl FnOnce() -> W) -> AdmissionDecision<W> {
        let class = class.place();
        let is_behind = self.queue.iter().take(class + 1).any(|queue| !queue.is_empty());
        if !is_behind && self.in_flight < self.limit.of(class) {
            self.in_flight += 1;
            self.admitted += 1;
            self.queue.get_mut(class).into_iter().for_each(|queue| queue.pass(client));
            return AdmissionDecision::Admitted;
        }
        let longest =
            self.longest.unwrap_or_else(|| usize::try_from(self.limit.of(0)).unwrap_or(SHORTEST).max(SHORTEST));
        let displaced = if self.waiting < longest {
            None
        } else {
            let lower = self.queue.iter_mut().skip(class + 1).rev().find(|queue| !queue.is_empty());
            // The one that came last.
            let displaced = match lower {
                Some(lower) => lower.displace(),
                None => self.queue.get_mut(class).and_then(|queue| queue.displace_for(client)),
            };
            self.refused += 1;
            let Some(displaced) = displaced else {
                self.queue.get_mut(class).into_iter().for_each(|queue| queue.refuse(client));
                return AdmissionDecision::Refused;
            };
            self.waiting -= 1;
            Some(displaced)
        };
        let place = self.next_place;
        self.next_place = self.next_place.wrapping_add(1);
        if let Some(queue) = self.queue.get_mut(class) {
            queue.push(client, place, waiter());
            self.waiting += 1;
        }
        AdmissionDecision::Waits { place, displaced }
    }

    /// A request that waited is gone: its client left, or its time is over, where it `is_refused`.
    pub fn give_up(&mut self, class: Class, place: u64, is_refused: bool) {
        let Some(queue) = self.queue.get_mut(class.place()) else { return };
        if queue.give_up(place) {
            self.waiting -= 1;
            self.refused += u64::from(is_refused);
        }
    }

    /// A request that was let through is over at `now`. `admit` tells those that wait that they go on; `false`: the one
    /// is gone.
    pub fn leave(&mut self, left: Departure, now: u64, admit: impl FnMut(W) -> bool) {
        if let (GateLimit::Adaptive(gradient), Some(sample)) = (&mut self.limit, left.sample) {
            gradient.note(sample, left.began, self.in_flight, now);
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.waiting == 0 && self.in_flight < (self.limit.of(0) / 2).max(1) {
            self.queue.iter_mut().for_each(Queue::forget);
        }
        self.go_on(admit);
    }

    /// Lets those through that there is room for.
    pub fn go_on(&mut self, mut admit: impl FnMut(W) -> bool) {
        while self.waiting > 0 {
            let Some(class) = self.queue.iter().position(|queue| !queue.is_empty()) else { break };
            if self.in_flight >= self.limit.of(class) {
                break;
            }
            let longest = self.waiting / 2;
            let Some(queue) = self.queue.get_mut(class) else { break };
            // Where more come than can be served, whoever came last is served in time, and others would not be.
            let Some(next) = queue.pop(class > 0 && queue.len() > longest.max(SHORTEST)) else { break };
            self.waiting -= 1;
            if admit(next) {
                self.in_flight += 1;
                self.admitted += 1;
            }
        }
    }

    /// How it is now.
    #[must_use]
    pub fn report(&self) -> GateReport {
        GateReport {
            limit: self.limit.of(0),
            in_flight: self.in_flight,
            waiting: u32::try_from(self.waiting).unwrap_or(u32::MAX),
            base: match &self.limit {
                GateLimit::Adaptive(gradient) => gradient.base(),
                GateLimit::Fixed(_) => 0,
            },
            admitted: self.admitted,
            refused: self.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::*;

    fn gate(limit: u32, queue: usize) -> Gate<u32> {
        Gate::new(&Concurrency { min: limit, max: limit, queue: Some(queue), wait: Duration::ZERO }, 0)
    }

    const NOTHING: Departure = Departure { began: 0, sample: None };

    /// A request of this class comes: let through, waiting, refused, or in the place of another.
    #[track_caller]
    fn come(gate: &mut Gate<u32>, class: u8, who: u32, expect: &str) -> u64 {
        match gate.enter(Class::at(class), who.into(), || who) {
            AdmissionDecision::Admitted => assert_eq!(expect, "in", "{who}"),
            AdmissionDecision::Refused => assert_eq!(expect, "refused", "{who}"),
            AdmissionDecision::Waits { place, displaced: None } => {
                assert_eq!(expect, "waits", "{who}");
                return place;
            }
            AdmissionDecision::Waits { place, displaced: Some(other) } => {
                assert_eq!(expect, format!("displaces {other}"), "{who}");
                return place;
            }
        }
        0
    }

    fn leave(gate: &mut Gate<u32>) -> Vec<u32> {
        let mut next = Vec::new();
        gate.leave(NOTHING, 0, |who| (next.push(who), true).1);
        next
    }

    #[test]
    fn the_highest_class_goes_first_and_the_lowest_makes_room() {
        let mut gate = gate(2, 3);
        come(&mut gate, 2, 1, "in");
        come(&mut gate, 2, 2, "in");
        come(&mut gate, 2, 3, "waits");
        come(&mut gate, 1, 4, "waits");
        come(&mut gate, 2, 5, "waits");
        come(&mut gate, 2, 6, "refused");
        come(&mut gate, 0, 7, "displaces 5");
        come(&mut gate, 1, 8, "displaces 3");
        come(&mut gate, 1, 9, "refused");
        come(&mut gate, 0, 10, "displaces 8");
        assert_eq!(leave(&mut gate), [7]);
        assert_eq!(leave(&mut gate), [10]);
        assert_eq!(leave(&mut gate), [4]);
        let report = gate.report();
        assert_eq!((report.in_flight, report.waiting, report.admitted, report.refused), (2, 0, 5, 5));
        assert!(leave(&mut gate).is_empty() && leave(&mut gate).is_empty() && leave(&mut gate).is_empty());
        assert_eq!(gate.report().in_flight, 0, "never less than none");
    }

    #[test]
    fn who_is_gone_takes_no_place() {
        let mut gate = gate(1, 9);
        come(&mut gate, 0, 1, "in");
        let second = come(&mut gate, 0, 2, "waits");
        come(&mut gate, 0, 3, "waits");
        come(&mut gate, 1, 4, "waits");
        gate.give_up(Class::at(0), second, true);
        gate.give_up(Class::at(0), second, true);
        // 3 is gone when it is told.
        let mut next = Vec::new();
        gate.leave(NOTHING, 0, |who| (next.push(who), who != 3).1);
        assert_eq!((next, gate.report().in_flight, gate.report().refused), (vec![3, 4], 1, 1));
    }

    #[test]
    fn another_limit_keeps_who_is_there() {
        let mut gate = gate(1, 9);
        come(&mut gate, 0, 1, "in");
        for who in 2..6 {
            come(&mut gate, 1, who, "waits");
        }
        gate.change(&Concurrency { min: 3, max: 3, queue: Some(1), wait: Duration::ZERO }, 0);
        let mut next = Vec::new();
        gate.go_on(|who| (next.push(who), true).1);
        assert_eq!((next, gate.report().in_flight, gate.report().waiting), (vec![2, 3], 3, 2));
        come(&mut gate, 1, 6, "refused");
        gate.change(&Concurrency { min: 1, max: 9, queue: None, wait: Duration::ZERO }, 0);
        assert_eq!(gate.report().limit, 9, "adaptive from now on");
    }

    /// Twice as many requests as can be served, of which the highest class is 30 %.
    #[test]
    fn at_twice_the_capacity_the_highest_class_is_served_whole() {
        let mut gate = gate(10, 10);
        let (mut refused, mut served, mut in_flight) = ([0_u32; 3], [0_u32; 3], VecDeque::new());
        for step in 0..20_000_u32 {
            // Two come for each that is done.
            for number in [step * 2, step * 2 + 1] {
                let class = u8::try_from(match number % 10 {
                    0 | 3 | 7 => 0,
                    1 | 4 | 8 => 1,
                    _ => 2_u32,
                })
                .unwrap();
                match gate.enter(Class::at(class), u64::from(step % 20), || u32::from(class)) {
                    AdmissionDecision::Admitted => in_flight.push_back(u32::from(class)),
                    AdmissionDecision::Refused => refused[usize::from(class)] += 1,
                    AdmissionDecision::Waits { displaced, .. } => {
                        displaced.into_iter().for_each(|class| refused[class as usize] += 1);
                    }
                }
            }
            if let Some(done) = in_flight.pop_front() {
                served[done as usize] += 1;
                gate.leave(NOTHING, 0, |class| (in_flight.push_back(class), true).1);
            }
        }
        assert_eq!(refused[0], 0, "{refused:?} {served:?}");
        assert!(served[0] > 11_900 && served[1] + served[2] > 7_900, "{served:?}");
        assert!(refused[1] > 0 && refused[2] > refused[1], "the lowest first: {refused:?}");
    }

    /// What each of fifty equal clients and a greedy one is served in so many milliseconds, at twice what can be served.
    /// Each comes in a rhythm of its own, which fits that of the upstream.
    fn served(greedy: u32, millis: u32) -> Vec<u32> {
        const CLIENTS: u32 = 50;
        let mut gate = gate(5, 10);
        let (mut served, mut busy) = (vec![0; CLIENTS as usize + 1], VecDeque::new());
        for now in 0..millis {
            while busy.front().is_some_and(|(until, _)| *until <= now) {
                let Some((_, client)) = busy.pop_front() else { break };
                served[client as usize] += 1;
                gate.leave(NOTHING, 0, |client| (busy.push_back((now + 20, client)), true).1);
            }
            let mut come = |client: u32| {
                if let AdmissionDecision::Admitted = gate.enter(Class::at(1), client.into(), || client) {
                    busy.push_back((now + 20, client));
                }
            };
            // Five of them every ten milliseconds.
            if now % 2 == 0 {
                come(now / 2 % CLIENTS);
            }
            (0..greedy).for_each(|_| come(CLIENTS));
        }
        served
    }

    fn jain(served: &[u32]) -> f64 {
        let (sum, squares) = served.iter().fold((0.0, 0.0), |(sum, squares), served| {
            let served = f64::from(*served);
            (sum + served, squares + served * served)
        });
        sum * sum / (squares * f64::from(u32::try_from(served.len()).unwrap()))
    }

    #[test]
    fn d05_equal_clients_get_equal_shares_of_what_is_short() {
        let all = served(0, 60_000);
        let (equal, _) = all.split_at(50);
        assert!(jain(equal) >= 0.99, "{equal:?}");
        assert!(equal.iter().sum::<u32>() >= 14_900, "no place stays empty: {equal:?}");
        // One that comes a hundred times as often as its share gets what the others get.
        let all = served(1, 60_000);
        let (equal, greedy) = all.split_at(50);
        assert!(jain(equal) >= 0.99, "{equal:?}");
        assert!(greedy[0] <= equal.iter().max().unwrap() * 5 / 4, "{greedy:?} {equal:?}");
    }

    #[test]
    fn d06_clients_without_end_are_not_remembered_and_keep_nobody_out() {
        let mut gate = gate(1, 10);
        let (mut served, mut busy) = (0, VecDeque::new());
        for client in 0..200_000_u32 {
            for who in [client + 2, u32::from(client % 4 == 0)] {
                if let AdmissionDecision::Admitted = gate.enter(Class::at(1), who.into(), || who) {
                    busy.push_back(who);
                }
            }
            if client % 2 == 0
                && let Some(done) = busy.pop_front()
            {
                served += u32::from(done == 1);
                gate.leave(NOTHING, 0, |who| (busy.push_back(who), true).1);
            }
        }
        assert!(served > 100, "who comes again is served: {served}");
        assert!(gate.queue.iter().all(|queue| queue.remembered() <= 1_024));
    }
}
