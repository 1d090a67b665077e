//! Decides what is known of one server of an upstream: by this worker its connections, by all workers how many
//! requests it has.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::SizeHint;

use super::{
    client::Broken,
    dial::Dialer,
    pool::{Lease, Pool},
    tls::Secure,
};
use crate::proxy::{
    settings::upstream::{self, Upstream},
    tls::{Swap, Tls},
};

/// What all workers know of the servers of one upstream.
pub(in crate::proxy) struct Standing {
    servers: Box<[Arc<Counts>]>,
    tls: Arc<Swap<Tls>>,
    /// Its position in the settings.
    index: usize,
}

/// What all workers know of one server.
#[derive(Default)]
pub(super) struct Counts {
    in_flight: AtomicU32,
}

/// One server, seen from one worker.
pub(super) struct Server {
    pub(super) pool: Rc<Pool>,
    counts: Arc<Counts>,
}

/// A request in flight at a server, until dropped.
pub(super) struct Place(Rc<Server>);

/// A request at its server: the connection, and the place among those in flight. Dropped: both are given up.
pub(in crate::proxy) struct Exchange {
    lease: Lease,
    _place: Option<Place>,
}

impl Standing {
    pub(in crate::proxy) fn new(settings: &Upstream, index: usize, tls: &Arc<Swap<Tls>>) -> Self {
        Self { servers: settings.servers.iter().map(|_| Arc::default()).collect(), tls: Arc::clone(tls), index }
    }

    /// One worker's view of each server.
    pub(super) fn servers(&self, settings: &Upstream) -> Box<[Rc<Server>]> {
        let server = |(server, counts): (&upstream::Server, &Arc<Counts>)| {
            let secure = settings.tls.as_ref();
            let secure = secure.and_then(|tls| Secure::new(&self.tls, self.index, tls, &server.address));
            let pool = Pool::new(Dialer::new(&server.address, secure), settings.max_idle, settings.idle);
            Rc::new(Server { pool: Rc::new(pool), counts: Arc::clone(counts) })
        };
        settings.servers.iter().zip(&self.servers).map(server).collect()
    }
}

impl Server {
    /// Requests in flight, of all workers.
    pub(super) fn load(&self) -> u32 {
        self.counts.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request.
    pub(super) fn enter(self: &Rc<Self>) -> Place {
        self.counts.in_flight.fetch_add(1, Ordering::Relaxed);
        Place(Rc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.counts.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exchange {
    pub(super) const fn new(lease: Lease, place: Option<Place>) -> Self {
        Self { lease, _place: place }
    }

    /// Whether the answer's body has been read to its end.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        self.lease.link.is_over()
    }

    /// How much of the answer's body is left.
    pub(in crate::proxy) fn left(&self) -> SizeHint {
        self.lease.link.left()
    }

    /// The next piece of the answer's body, or why it will never be whole. `None`: it is whole.
    pub(in crate::proxy) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        self.lease.link.poll_piece(cx).map_err(|broken| match broken {
            Broken::Answer(detail) => detail,
            Broken::Cut(_) | Broken::Gone { .. } | Broken::Off => "upstream broke off",
        })
    }

    /// As [`Lease::give_back`].
    #[must_use]
    pub(in crate::proxy) fn give_back(self) -> bool {
        self.lease.give_back()
    }
}
