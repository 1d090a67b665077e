//! Decides what one worker owns: a thread with its own sockets, connections, upstream pools and log lines, so that no
//! request waits for another core.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use gateway_common::source::Source;
use tokio::sync::mpsc;

use super::{
    bans::{enforced::Banned, good_clients::Good},
    client::Client,
    connection::{Close, Connection, Why, accept},
    process::scheduling::Scheduling,
    request::exchange::Record,
    snapshot::Snapshot,
    timing::deadline,
    upstream::{Backend, Group},
    worker::{counters::Tally, validators::Validators},
};
use crate::{
    clock,
    detect::signal::Signal,
    limit::{AddressLimit, WouldRefuse},
    message::{Ask, Counted, GoodClient, RequestId, ToGuard, channel::Sender},
    observe::sink::Lines,
};

pub(super) mod counters;
pub(super) mod validators;

/// How long the connections of a banned source may take to send what is being answered.
const LAST_WORDS: Duration = Duration::from_millis(100);

const OVER_PER_SOURCE: &str = "over proxy.max_connections_per_source";

/// What a worker is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Close the connections of a source, then say so.
    Close {
        ban: u64,
        source: Source,
        /// Whether the table of bans knows it, and so whether it was lifted meanwhile.
        known: bool,
    },
    /// Let go of connections whose client certificates were judged by authorities or lists that are no more.
    Reverify,
    Drain,
}

/// What a worker tells.
#[derive(Debug)]
pub(super) enum Event {
    Ask(Ask),
    /// Accepts no more connections.
    Retired,
    /// The connections of a banned source are gone.
    Closed {
        ban: u64,
        connections: u32,
    },
    /// Clients that were served with a valid token.
    Good(Vec<GoodClient>),
    /// What the bans in force have refused.
    Refused(Vec<(u64, u64)>),
    /// What the limit of addresses would have refused.
    WouldRefuse(WouldRefuse),
    /// What became of requests.
    Counted(Counted),
    /// It accepts.
    Ready,
}

/// What all workers share.
pub(super) struct Shared {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) banned: Banned,
    /// The most connections: as configured, or fewer where descriptors would not do for servers as well (D03).
    pub(super) max_connections: usize,
    /// Connections of all workers.
    pub(super) connections: AtomicUsize,
    /// Connections of each source, over all workers. At most as many sources as connections.
    pub(super) sources: Mutex<HashMap<Source, usize>>,
    /// The way to the guard for what it is asked for: by no other thread.
    pub(super) asks: OnceLock<Sender>,
    /// Asks that found the queue to the guard full.
    pub(super) lost_asks: AtomicU64,
    /// Whether connections that are between requests go, because the proxy is too large.
    pub(super) is_tight: AtomicBool,
    /// Whether nothing is taken on either, as that did not do.
    pub(super) sheds: AtomicBool,
    /// What came meanwhile: connections that were closed, requests that were refused.
    pub(super) shed: AtomicU64,
    /// Connections that were closed because there were too many.
    pub(super) lost_connections: AtomicU64,
    /// What is known of the servers of each upstream, in the order of the configuration.
    pub(super) backends: Box<[Backend]>,
    /// Who judges bodies that take a while.
    pub(super) validators: Validators,
}

/// One worker.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) upstreams: Box<[Group]>,
    pub(super) lines: Lines,
    pub(super) draining: Cell<bool>,
    pub(super) good: Good,
    pub(super) tally: Tally,
    connections: RefCell<Registry>,
    events: mpsc::Sender<Event>,
    ids: Cell<u128>,
}

#[derive(Default)]
struct Registry {
    live: Vec<Option<Rc<Connection>>>,
    free: Vec<usize>,
}

impl Registry {
    fn iter(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.live.iter().flatten()
    }
}

/// A connection that counts, until dropped.
pub(super) struct Admitted {
    pub(super) connection: Rc<Connection>,
    worker: Rc<Worker>,
    place: usize,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut registry = self.worker.connections.borrow_mut();
        if let Some(place) = registry.live.get_mut(self.place) {
            *place = None;
        }
        registry.free.push(self.place);
        self.worker.shared.leave(self.connection.client.get().source);
    }
}

impl Shared {
    /// Counts a connection of `source`. `false`: it has `most` already.
    fn enter(&self, source: Source, most: usize) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        let enters = *count < most;
        *count += usize::from(enters);
        enters
    }

    /// Whether to refuse what has come, as the proxy is too large; counts it.
    pub(super) fn sheds(&self) -> bool {
        let sheds = self.sheds.load(Ordering::Relaxed);
        if sheds {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        sheds
    }

    fn leave(&self, source: Source) {
        self.forget(source);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn forget(&self, source: Source) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, lines: Lines, events: mpsc::Sender<Event>, first_id: u128) -> Rc<Self> {
        let backends = shared.backends.iter();
        // The random half of the worker's name.
        let seed = u64::try_from(first_id >> 64).unwrap_or(1);
        let upstreams = backends.map(|backend| Group::new(backend, seed)).collect();
        let (connections, ids) = (RefCell::default(), Cell::new(first_id));
        Rc::new(Self {
            shared,
            upstreams,
            lines,
            draining: Cell::new(false),
            good: Good::default(),
            tally: Tally::default(),
            connections,
            events,
            ids,
        })
    }

    /// Serves `listeners` until the order to drain, then until the last connection is gone.
    pub(super) async fn run(
        self: Rc<Self>,
        listeners: Vec<(usize, tokio::net::TcpListener)>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(index, listener)| tokio::task::spawn_local(accept::accept(Rc::clone(&self), index, listener)))
            .collect();
        let ticking = tokio::task::spawn_local(Rc::clone(&self).tick());
        self.tell(Event::Ready);
        // The other end gone means the same as the order.
        while let Some(order) = orders.recv().await {
            match order {
                Order::Close { ban, source, known } => {
                    tokio::task::spawn_local(Rc::clone(&self).close(ban, source, known));
                }
                Order::Reverify => {
                    self.each(|connection| connection.is_certified(), |connection| connection.reverify());
                }
                Order::Drain => break,
            }
        }
        self.draining.set(true);
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        self.tell(Event::Retired);
        self.shut_all(Close::Graceful, Why::Drain, |_| true);
        let drained = async {
            while self.connections.borrow().iter().next().is_some() {
                tokio::time::sleep(deadline::TICK).await;
            }
        };
        // Whoever is banned meanwhile is not served to the end.
        let closing = async {
            while let Some(order) = orders.recv().await {
                if let Order::Close { ban, source, known } = order {
                    tokio::task::spawn_local(Rc::clone(&self).close(ban, source, known));
                }
            }
            std::future::pending::<()>().await;
        };
        let in_time = tokio::select! {
            drained = tokio::time::timeout(self.shared.snapshot.settings.drain, drained) => drained.is_ok(),
            () = closing => true,
        };
        if !in_time {
            self.shut_all(Close::Now, Why::Drain, |_| true);
            tokio::time::sleep(deadline::TICK).await;
        }
        ticking.abort();
        self.lines.flush();
        if let Some(counted) = self.tally.take() {
            self.events.send(Event::Counted(counted)).await.unwrap_or_default();
        }
    }

    /// Takes a connection in. `None`: the proxy is too large, or there are too many, of all sources or of this one,
    /// which is an offence. Who is allowlisted, as a load balancer is, may have any number.
    pub(super) fn admit(self: &Rc<Self>, peer: SocketAddr, listener: usize) -> Option<Admitted> {
        if self.shared.sheds() {
            return None;
        }
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= self.shared.max_connections {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.shared.lost_connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let client = self.shared.snapshot.trusted.peer(peer);
        let connection = Rc::new(Connection::new(client, listener));
        if !self.enter(client) {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            Record::observe(self, &connection, Signal::OverLimit, OVER_PER_SOURCE);
            return None;
        }
        let mut registry = self.connections.borrow_mut();
        let place = registry.free.pop().unwrap_or_else(|| {
            registry.live.push(None);
            registry.live.len() - 1
        });
        if let Some(free) = registry.live.get_mut(place) {
            *free = Some(Rc::clone(&connection));
        }
        drop(registry);
        Some(Admitted { connection, worker: Rc::clone(self), place })
    }

    /// Counts a connection of `client`. `false`: it has too many already.
    fn enter(&self, client: Client) -> bool {
        let most = self.shared.snapshot.settings.max_connections_per_source;
        self.shared.enter(client.source, most)
            || ((client.is_trusted || self.shared.banned.allows(client.address.ip()))
                && self.shared.enter(client.source, usize::MAX))
    }

    /// A trusted proxy names the client of a connection: it counts as that client's from now on. `false`: that client
    /// is banned or has too many already.
    pub(super) fn rename(self: &Rc<Self>, connection: &Rc<Connection>, client: Client) -> bool {
        if self.shared.banned.refuses(client.address.ip(), clock::monotonic()) {
            return false;
        }
        let enters = self.enter(client);
        if enters {
            self.shared.forget(connection.client.get().source);
            connection.client.set(client);
        } else {
            let before = connection.client.replace(client);
            Record::observe(self, connection, Signal::OverLimit, OVER_PER_SOURCE);
            connection.client.set(before);
        }
        enters
    }

    /// The name of the next request.
    pub(super) fn next_id(&self) -> RequestId {
        let id = self.ids.get();
        self.ids.set(id.wrapping_add(1));
        RequestId(id)
    }

    /// Asks the guard for a ban, at once. Where its socket is full, the control thread waits for room.
    pub(super) fn ask(&self, ask: Ask) {
        let message = ToGuard::Ask(Box::new(ask));
        if self.shared.asks.get().is_some_and(|asks| asks.try_send(&message).is_ok()) {
            return;
        }
        if let ToGuard::Ask(ask) = message {
            self.tell(Event::Ask(*ask));
        }
    }

    /// Hands an event to the control thread. Asks over its capacity are lost and counted: the source goes on, so its
    /// rule asks again.
    pub(super) fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.shared.lost_asks.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn tick(self: Rc<Self>) {
        let mut scheduling = Scheduling::new(clock::monotonic(), clock::thread());
        let mut interval = tokio::time::interval(deadline::TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = clock::monotonic();
            deadline::tick(now);
            scheduling.adapt(now, clock::thread());
            let (timeouts, drain) = (&self.shared.snapshot.settings.timeouts, self.shared.snapshot.settings.drain);
            self.upstreams.iter().for_each(|group| group.sweep(now));
            self.connections.borrow().iter().for_each(|connection| connection.sweep(now, timeouts, drain));
            if self.shared.is_tight.load(Ordering::Relaxed) {
                self.shut_all(Close::Graceful, Why::Idle, Connection::is_idle);
            }
            self.lines.flush();
            let refused = self.shared.banned.take_refused(now);
            if !refused.is_empty() {
                self.tell(Event::Refused(refused));
            }
            if let Some(counted) = self.tally.due(now) {
                self.tell(Event::Counted(counted));
            }
            if let Some(good) = self.good.take(now) {
                self.tell(Event::Good(good));
            }
            if let Some(would) = self.shared.snapshot.address_limit.as_ref().and_then(AddressLimit::would_refuse) {
                self.tell(Event::WouldRefuse(would));
            }
        }
    }

    async fn close(self: Rc<Self>, ban: u64, source: Source, known: bool) {
        // A ban that was lifted before this worker came to it closes nothing: who connected since may.
        let is_in_force = !known || self.shared.banned.holds(ban, source);
        let mine: Vec<_> = {
            let registry = self.connections.borrow();
            let is_banned = |peer| is_in_force && source.contains(peer) && !self.shared.banned.allows(peer);
            registry.iter().filter(|connection| is_banned(connection.client.get().address.ip())).cloned().collect()
        };
        mine.iter().for_each(|connection| connection.shut(Close::Graceful, Why::Banned));
        // One reference is ours; a connection in use is in the registry and with its task as well.
        let gone = |connection: &Rc<Connection>| Rc::strong_count(connection) == 1;
        let start = tokio::time::Instant::now();
        while !mine.iter().all(gone) && start.elapsed() < LAST_WORDS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        mine.iter().for_each(|connection| connection.shut(Close::Now, Why::Banned));
        let connections = u32::try_from(mine.len()).unwrap_or(u32::MAX);
        // Never lost: the guard waits for it.
        self.events.send(Event::Closed { ban, connections }).await.unwrap_or_default();
    }

    fn shut_all(&self, close: Close, why: Why, which: impl Fn(&Connection) -> bool) {
        self.each(which, |connection| connection.shut(close, why));
    }

    fn each(&self, which: impl Fn(&Connection) -> bool, what: impl Fn(&Connection)) {
        let all: Vec<_> = self.connections.borrow().iter().filter(|connection| which(connection)).cloned().collect();
        all.iter().for_each(|connection| what(connection));
    }
}
