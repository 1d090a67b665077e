//! One worker: what a thread owns for itself. It has its own connections, upstream pools, counters and log buffer, so that
//! no request waits for another core.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use self::{counters::Counters, measures::Measures, messages::Event, shared::Shared};
use super::{bans::good_clients::GoodClients, connection::Connection, memory::slab::Slab, upstream::ServerGroup};
use crate::{client::Client, clock, detect::BanRequest, log::sink::Lines, message::ToGuard, request_id::RequestId};

pub(super) mod counters;
pub(super) mod measures;
pub(super) mod messages;
pub(super) mod shared;
pub(super) mod validators;

/// What one worker's thread owns.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) upstreams: Box<[ServerGroup]>,
    pub(super) lines: Lines,
    pub(super) draining: Cell<bool>,
    pub(super) good_clients: GoodClients,
    pub(super) counters: Counters,
    /// `None`: there is no admin listener.
    pub(super) measures: Option<Measures>,
    connections: RefCell<Slab<Rc<Connection>>>,
    events: mpsc::Sender<Event>,
    ids: Cell<u128>,
}

/// A connection that was admitted. It counts against the limits until it is dropped.
pub(super) struct Admitted {
    pub(super) connection: Rc<Connection>,
    worker: Rc<Worker>,
    place: usize,
}

/// Why a client gets no connection.
pub(super) enum NotAdmitted {
    /// It is banned.
    Banned,
    /// The proxy has too many connections, or is too large.
    Full,
    /// Its source has too many connections, which is an offence.
    OverPerSource(Rc<Connection>),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(self.place);
        self.worker.shared.leave(self.connection.client.get().source);
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, lines: Lines, events: mpsc::Sender<Event>, first_id: u128) -> Rc<Self> {
        let backends = shared.backends.iter();
        // The random half of the first id.
        let seed = u64::try_from(first_id >> 64).unwrap_or(1);
        let upstreams = backends.map(|backend| ServerGroup::new(backend, seed)).collect();
        let measures = shared.is_observed.then(|| Measures::new(&shared.snapshot));
        let (connections, ids) = (RefCell::default(), Cell::new(first_id));
        Rc::new(Self {
            shared,
            upstreams,
            lines,
            draining: Cell::new(false),
            good_clients: GoodClients::default(),
            counters: Counters::default(),
            measures,
            connections,
            events,
            ids,
        })
    }

    /// Admits a new connection. A client that is trusted or allowlisted may have any number.
    pub(super) fn admit(self: &Rc<Self>, peer: SocketAddr, listener: usize) -> Result<Admitted, NotAdmitted> {
        if self.shared.bans.refuses(peer.ip(), clock::monotonic()) {
            return Err(NotAdmitted::Banned);
        }
        if self.shared.sheds() {
            return Err(NotAdmitted::Full);
        }
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= self.shared.max_connections {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.shared.lost_connections.fetch_add(1, Ordering::Relaxed);
            return Err(NotAdmitted::Full);
        }
        let client = self.shared.snapshot.trusted.peer(peer);
        let connection = Rc::new(Connection::new(client, listener));
        if !self.enter(client) {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(NotAdmitted::OverPerSource(connection));
        }
        let place = self.connections.borrow_mut().insert(Rc::clone(&connection));
        Ok(Admitted { connection, worker: Rc::clone(self), place })
    }

    /// Counts a connection of `client`. `false`: it has too many already.
    fn enter(&self, client: Client) -> bool {
        let most = self.shared.snapshot.settings.max_connections_per_source;
        self.shared.enter(client.source, most)
            || ((client.is_trusted || self.shared.bans.allows(client.address.ip()))
                && self.shared.enter(client.source, usize::MAX))
    }

    /// A trusted proxy names the client of a connection: the connection counts as that client's from now on.
    pub(super) fn rename(&self, connection: &Rc<Connection>, client: Client) -> Result<(), NotAdmitted> {
        if self.shared.bans.refuses(client.address.ip(), clock::monotonic()) {
            return Err(NotAdmitted::Banned);
        }
        if !self.enter(client) {
            return Err(NotAdmitted::OverPerSource(Rc::clone(connection)));
        }
        self.shared.forget(connection.client.get().source);
        connection.client.set(client);
        Ok(())
    }

    /// Whether it has no connections.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.borrow().iter().next().is_none()
    }

    /// Calls `what` for every connection; it must not end any.
    pub(super) fn each(&self, what: impl FnMut(&Rc<Connection>)) {
        self.connections.borrow().iter().for_each(what);
    }

    /// The connections for which `which` holds.
    pub(super) fn select(&self, which: impl Fn(&Connection) -> bool) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().filter(|connection| which(connection)).cloned().collect()
    }

    /// The id of the next request.
    pub(super) fn next_id(&self) -> RequestId {
        let id = self.ids.get();
        self.ids.set(id.wrapping_add(1));
        RequestId(id)
    }

    /// Asks the guard for a ban, at once. If the socket to it is full, the control thread waits for room.
    pub(super) fn ask(&self, ask: BanRequest) {
        let message = ToGuard::BanRequest(Box::new(ask));
        if self.shared.asks.get().is_some_and(|asks| asks.try_send(&message).is_ok()) {
            return;
        }
        if let ToGuard::BanRequest(ask) = message {
            self.tell(Event::BanRequest(*ask));
        }
    }

    /// Hands an event to the control thread. Requests for bans over its capacity are lost and counted: if the source
    /// goes on, its rule asks again.
    pub(super) fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.shared.lost_asks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the control thread what was counted and measured. Where its queue is full, that is told the next time.
    pub(super) fn tell_counters(&self) {
        if let Ok(room) = self.events.try_reserve()
            && let Some(counted) = self.counters.take()
        {
            room.send(Event::Counted(counted));
        }
        if let Some(measures) = &self.measures
            && let Ok(room) = self.events.try_reserve()
        {
            room.send(Event::Measured(Box::new(measures.take())));
        }
    }

    /// Hands over an event that must not be lost: waits for room in the queue.
    pub(super) async fn tell_surely(&self, event: Event) {
        self.events.send(event).await.unwrap_or_default();
    }
}
