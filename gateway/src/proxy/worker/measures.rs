//! What one worker measures of requests by route, for the observer. Where there is no admin listener, nothing is measured.
//!
//! *Invariant:* measuring a request is a few additions in memory of this thread's own: no lock, no allocation but at the
//! first request of a route, and no look at a clock that somebody else has not taken.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use crate::{
    message::{
        ANSWERS,
        telemetry::{Histogram, MAX_NAMES, OTHER},
    },
    snapshot::Snapshot,
};

/// The route of requests that have none.
const NO_ROUTE: &str = "(none)";

/// What is measured of each route.
pub(in crate::proxy) struct Measures {
    /// By the index of the route; what is over [`MAX_NAMES`] shares the last.
    routes: Box<[RouteMeasures]>,
    /// Requests that found no route.
    none: RouteMeasures,
}

struct RouteMeasures {
    name: Arc<str>,
    answers: [Cell<u64>; ANSWERS.len()],
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Nanoseconds.
    sum: Cell<u64>,
    /// Made at the first request.
    buckets: OnceCell<Box<[Cell<u64>; Histogram::BUCKETS]>>,
}

/// What one worker has measured of a route since the last time.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) struct RouteDelta {
    pub(in crate::proxy) name: Arc<str>,
    /// In the order of [`ANSWERS`].
    pub(in crate::proxy) answers: [u64; ANSWERS.len()],
    pub(in crate::proxy) bytes_in: u64,
    pub(in crate::proxy) bytes_out: u64,
    pub(in crate::proxy) durations: Histogram,
}

/// One request, as it is measured.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Measured {
    /// An index into [`Snapshot::served`].
    pub(in crate::proxy) route: Option<usize>,
    /// `None`: its client had left.
    pub(in crate::proxy) status: Option<u16>,
    /// Nanoseconds.
    pub(in crate::proxy) took: u64,
    /// Bytes of the bodies.
    pub(in crate::proxy) bytes_in: u64,
    pub(in crate::proxy) bytes_out: u64,
}

impl Measures {
    /// For the routes of a snapshot.
    pub(in crate::proxy) fn new(snapshot: &Snapshot) -> Self {
        let names = snapshot.served.iter().map(|route| &*route.template).take(MAX_NAMES);
        let rest = (snapshot.served.len() > MAX_NAMES).then_some(OTHER);
        Self { routes: names.chain(rest).map(RouteMeasures::new).collect(), none: RouteMeasures::new(NO_ROUTE) }
    }

    /// A request was answered, or its client left.
    pub(in crate::proxy) fn note(&self, request: Measured) {
        let route = match request.route {
            None => &self.none,
            Some(route) => self.routes.get(route).or(self.routes.last()).unwrap_or(&self.none),
        };
        route.note(request);
    }

    /// What was measured since the last call, of routes that had requests.
    pub(in crate::proxy) fn take(&self) -> Vec<RouteDelta> {
        self.routes.iter().chain([&self.none]).filter_map(RouteMeasures::take).collect()
    }
}

impl RouteMeasures {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            answers: Default::default(),
            bytes_in: Cell::default(),
            bytes_out: Cell::default(),
            sum: Cell::default(),
            buckets: OnceCell::new(),
        }
    }

    fn note(&self, request: Measured) {
        let class = request.status.map_or(ANSWERS.len() - 1, |status| usize::from(status / 100).wrapping_sub(1));
        // A status that is none is in no class.
        let Some(answers) = self.answers.get(class) else { return };
        add(answers, 1);
        add(&self.bytes_in, request.bytes_in);
        add(&self.bytes_out, request.bytes_out);
        add(&self.sum, request.took);
        let buckets = self.buckets.get_or_init(|| Box::new([const { Cell::new(0) }; Histogram::BUCKETS]));
        if let Some(bucket) = buckets.get(Histogram::place(request.took)) {
            add(bucket, 1);
        }
    }

    fn take(&self) -> Option<RouteDelta> {
        let answers = self.answers.each_ref().map(Cell::take);
        if answers == [0; ANSWERS.len()] {
            return None;
        }
        let buckets = self.buckets.get().into_iter().flat_map(|buckets| buckets.iter().map(Cell::take));
        Some(RouteDelta {
            name: Arc::clone(&self.name),
            answers,
            bytes_in: self.bytes_in.take(),
            bytes_out: self.bytes_out.take(),
            durations: Histogram::new(self.sum.take(), buckets),
        })
    }
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get().wrapping_add(more));
}
