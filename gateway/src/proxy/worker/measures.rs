//! What one worker measures of requests by route and upstream, for the observer. Where there is no admin listener, nothing is measured.
//!
//! *Invariant:* measuring a request is a few additions in memory of this thread's own: no lock, no allocation but at the
//! first request of a route, and no look at a clock that somebody else has not taken.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use crate::{
    message::{
        ANSWERS, place_of_answer,
        telemetry::{Histogram, MAX_NAMES, OTHER},
    },
    policy::detect::{LIMITED, NO_ROUTE},
    snapshot::Snapshot,
};

/// The route of requests for `listener.health`.
const HEALTH: &str = "(health)";

/// How many kinds of handshakes there are.
const HANDSHAKES: usize = 7;

/// What became of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Handshake {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
    /// The client broke the rules, or showed a certificate that is not good.
    Bad,
    /// The client left.
    Gone,
    /// There is no certificate for the name, or the client does not take ours.
    NoCertificate,
    /// The client showed no certificate where one is needed.
    NoClientCertificate,
    /// It took too long.
    Slow,
}

impl Handshake {
    /// Every one, with the version or the reason that it is told by.
    pub(in crate::proxy) const ALL: [(Self, &str); HANDSHAKES] = [
        (Self::Tls12, "1.2"),
        (Self::Tls13, "1.3"),
        (Self::Bad, "bad_handshake"),
        (Self::Gone, "client_gone"),
        (Self::NoCertificate, "no_certificate"),
        (Self::NoClientCertificate, "no_client_certificate"),
        (Self::Slow, "slow"),
    ];

    /// Whether it succeeded.
    pub(in crate::proxy) const fn is_done(self) -> bool {
        matches!(self, Self::Tls12 | Self::Tls13)
    }
}

/// How a limit refuses, and what upstreams say in the same case.
pub(in crate::proxy) const LIMITED_STATUS: u16 = 429;

/// What one worker measures.
pub(in crate::proxy) struct Measures {
    /// By the index of the route; what is over [`MAX_NAMES`] shares the last.
    routes: Box<[RequestCounters]>,
    /// Requests that found no route.
    none: RequestCounters,
    /// Requests that a limit refused before a route was looked for.
    limited: RequestCounters,
    health: RequestCounters,
    /// By the index of the upstream.
    upstreams: Box<[RequestCounters]>,
    handshakes: [Cell<u64>; HANDSHAKES],
    authenticated: Cell<u64>,
}

/// Requests of one route, or to one upstream.
struct RequestCounters {
    name: Arc<str>,
    answers: [Cell<u64>; ANSWERS.len()],
    /// Of the answers those with [`LIMITED_STATUS`].
    limited: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Nanoseconds.
    sum: Cell<u64>,
    /// Made at the first request.
    buckets: OnceCell<Box<[Cell<u64>; Histogram::BUCKETS]>>,
}

/// What one worker has measured since the last time.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Delta {
    pub(in crate::proxy) routes: Vec<RequestsDelta>,
    pub(in crate::proxy) upstreams: Vec<RequestsDelta>,
    pub(in crate::proxy) handshakes: [u64; HANDSHAKES],
    pub(in crate::proxy) authenticated: u64,
}

/// What one worker has measured of a route or an upstream since the last time.
#[derive(Debug)]
pub(in crate::proxy) struct RequestsDelta {
    pub(in crate::proxy) name: Arc<str>,
    /// In the order of [`ANSWERS`].
    pub(in crate::proxy) answers: [u64; ANSWERS.len()],
    pub(in crate::proxy) limited: u64,
    pub(in crate::proxy) bytes_in: u64,
    pub(in crate::proxy) bytes_out: u64,
    pub(in crate::proxy) durations: Histogram,
}

/// Which route a request had.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum MeasuredRoute {
    /// It asked for `listener.health`.
    Health,
    /// A limit refused it before a route was looked for.
    Limited,
    None,
    /// An index into [`Snapshot::served`].
    Route(usize),
}

/// One request, as it is measured.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct MeasuredRequest {
    pub(in crate::proxy) route: MeasuredRoute,
    /// `None`: its client had left.
    pub(in crate::proxy) status: Option<u16>,
    /// Nanoseconds.
    pub(in crate::proxy) took: u64,
    /// Bytes of the bodies.
    pub(in crate::proxy) bytes_in: u64,
    pub(in crate::proxy) bytes_out: u64,
}

impl Measures {
    /// For the routes and upstreams of a snapshot.
    pub(in crate::proxy) fn new(snapshot: &Snapshot) -> Self {
        let routes = snapshot.served.iter().map(|route| &*route.template);
        let upstreams = snapshot.settings.upstreams.iter().map(|upstream| upstream.name.as_str());
        Self {
            routes: named(routes, snapshot.served.len()),
            none: RequestCounters::new(NO_ROUTE),
            limited: RequestCounters::new(LIMITED),
            health: RequestCounters::new(HEALTH),
            upstreams: named(upstreams, snapshot.settings.upstreams.len()),
            handshakes: Default::default(),
            authenticated: Cell::default(),
        }
    }

    /// A request was answered, or its client left.
    pub(in crate::proxy) fn note(&self, request: MeasuredRequest) {
        let route = match request.route {
            MeasuredRoute::Health => &self.health,
            MeasuredRoute::Limited => &self.limited,
            MeasuredRoute::None => &self.none,
            MeasuredRoute::Route(route) => self.routes.get(route).or(self.routes.last()).unwrap_or(&self.none),
        };
        route.note(request.status, request.took);
        add(&route.bytes_in, request.bytes_in);
        add(&route.bytes_out, request.bytes_out);
    }

    /// An upstream answered, after so many nanoseconds; `None`: it did not.
    pub(in crate::proxy) fn note_upstream(&self, upstream: usize, status: Option<u16>, took: u64) {
        if let Some(upstream) = self.upstreams.get(upstream).or(self.upstreams.last()) {
            upstream.note(status, took);
        }
    }

    /// A handshake is over.
    pub(in crate::proxy) fn note_handshake(&self, handshake: Handshake) {
        if let Some(count) = self.handshakes.get(handshake as usize) {
            add(count, 1);
        }
    }

    /// A client proved who it is.
    pub(in crate::proxy) fn note_authenticated(&self) {
        add(&self.authenticated, 1);
    }

    /// What was measured since the last call, of routes and upstreams that had requests.
    pub(in crate::proxy) fn take(&self) -> Delta {
        let routes = self.routes.iter().chain([&self.none, &self.limited, &self.health]);
        Delta {
            routes: routes.filter_map(RequestCounters::take).collect(),
            upstreams: self.upstreams.iter().filter_map(RequestCounters::take).collect(),
            handshakes: self.handshakes.each_ref().map(Cell::take),
            authenticated: self.authenticated.take(),
        }
    }
}

/// The first [`MAX_NAMES`] by name, the rest together.
fn named(names: impl Iterator<Item: AsRef<str>>, count: usize) -> Box<[RequestCounters]> {
    let rest = (count > MAX_NAMES).then(|| RequestCounters::new(OTHER));
    names.take(MAX_NAMES).map(|name| RequestCounters::new(name.as_ref())).chain(rest).collect()
}

impl RequestCounters {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            answers: Default::default(),
            limited: Cell::default(),
            bytes_in: Cell::default(),
            bytes_out: Cell::default(),
            sum: Cell::default(),
            buckets: OnceCell::new(),
        }
    }

    fn note(&self, status: Option<u16>, took: u64) {
        let Some(answers) = self.answers.get(place_of_answer(status)) else { return };
        add(answers, 1);
        add(&self.limited, u64::from(status == Some(LIMITED_STATUS)));
        add(&self.sum, took);
        let buckets = self.buckets.get_or_init(|| Box::new([const { Cell::new(0) }; Histogram::BUCKETS]));
        if let Some(bucket) = buckets.get(Histogram::place(took)) {
            add(bucket, 1);
        }
    }

    fn take(&self) -> Option<RequestsDelta> {
        let answers = self.answers.each_ref().map(Cell::take);
        if answers == [0; ANSWERS.len()] {
            return None;
        }
        let buckets = self.buckets.get().into_iter().flat_map(|buckets| buckets.iter().map(Cell::take));
        Some(RequestsDelta {
            name: Arc::clone(&self.name),
            answers,
            limited: self.limited.take(),
            bytes_in: self.bytes_in.take(),
            bytes_out: self.bytes_out.take(),
            durations: Histogram::new(self.sum.take(), buckets),
        })
    }
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get().wrapping_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handshake_has_its_place() {
        assert!(Handshake::ALL.iter().enumerate().all(|(place, (handshake, _))| *handshake as usize == place));
    }

    #[test]
    fn what_is_measured_is_taken_once() {
        let requests = RequestCounters::new("/");
        for (status, took) in [(Some(200), 1_000_000), (Some(404), 2_000_000), (None, 0), (Some(42), 7), (Some(700), 7)]
        {
            requests.note(status, took);
        }
        let delta = requests.take().unwrap();
        assert_eq!((delta.answers, delta.durations.count(), delta.durations.sum), ([0, 1, 0, 1, 0, 1], 3, 3_000_000));
        assert!(requests.take().is_none());
        for status in [500, 429, 403, 429] {
            requests.note(Some(status), 1);
        }
        let delta = requests.take().unwrap();
        assert_eq!((delta.durations.count(), delta.answers[3], delta.limited), (4, 3, 2));
    }

    #[test]
    fn names_are_bounded() {
        let names: Vec<String> = (0..MAX_NAMES + 5).map(|number| format!("/{number}")).collect();
        let requests = named(names.iter(), names.len());
        assert_eq!((requests.len(), &*requests.last().unwrap().name), (MAX_NAMES + 1, OTHER));
    }
}
