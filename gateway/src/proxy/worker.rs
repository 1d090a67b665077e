//! One worker: what a thread owns for itself. It has its own connections, upstream pools, counters and log buffer, so that
//! no request waits for another core.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use self::{
    counters::Counters,
    measures::{Delta, Measures},
    messages::WorkerEvent,
    shared::WorkersShared,
};
use super::{
    bans::{good_clients::GoodClients, plan_members::PlanMembers},
    connection::{Close, CloseReason, Connection},
    generation::{Compiled, Generation},
    memory::slab::Slab,
};
use crate::{
    client::Client,
    log::sink::LogBuffer,
    message::{MAX_PLAN_MEMBERS, PlanMember, telemetry::Trace},
    os::{clock, program_log::sparse::Sparse},
    policy::{admission::Pressure, detect::BanRequest},
    web::request_id::RequestId,
};

pub(super) mod asks;
pub(super) mod counters;
pub(super) mod measures;
pub(super) mod messages;
pub(super) mod shared;

/// The most requests that one worker traces between two ticks.
const MAX_TRACES_A_TICK: usize = 500;

/// What one worker's thread owns.
pub(super) struct Worker {
    pub(super) shared: Arc<WorkersShared>,
    /// The configuration in force.
    generation: RefCell<Rc<Generation>>,
    /// Those before it that requests may still have.
    former: RefCell<Vec<Rc<Generation>>>,
    pub(super) lines: LogBuffer,
    pub(super) draining: Cell<bool>,
    pub(super) good_clients: GoodClients,
    pub(super) plan_members: PlanMembers,
    pub(super) counters: Counters,
    /// Answers whose header does not say what they cost.
    pub(super) wrong_costs: Sparse,
    /// What it refuses because it has too much to do.
    pub(super) pressure: Cell<Pressure>,
    traces: RefCell<Vec<Trace>>,
    connections: RefCell<Slab<Rc<Connection>>>,
    events: mpsc::Sender<WorkerEvent>,
    ids: Cell<u128>,
    /// A random number: workers begin at different servers.
    seed: u64,
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
    /// Its source makes too many connections, which is an offence: over these limits.
    OverLimit(Rc<Connection>, Cow<'static, str>),
    /// Its source has too many connections, which is an offence.
    OverPerSource(Rc<Connection>),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(self.place);
        self.connection.fast_lane.leave(&self.worker.shared.fast_lane);
        self.worker.shared.leave(self.connection.client.get().source);
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<WorkersShared>,
        compiled: &Arc<Compiled>,
        lines: LogBuffer,
        events: mpsc::Sender<WorkerEvent>,
        first_id: u128,
    ) -> Rc<Self> {
        // The random half of the first id.
        let seed = u64::try_from(first_id >> 64).unwrap_or(1);
        Rc::new(Self {
            shared,
            generation: RefCell::new(Generation::new(compiled, None, seed)),
            former: RefCell::default(),
            lines,
            draining: Cell::new(false),
            good_clients: GoodClients::default(),
            plan_members: PlanMembers::default(),
            counters: Counters::default(),
            wrong_costs: Sparse::default(),
            pressure: Cell::default(),
            traces: RefCell::default(),
            connections: RefCell::default(),
            events,
            ids: Cell::new(first_id),
            seed,
        })
    }

    /// The configuration in force. Whoever asks keeps it as long as it likes.
    pub(super) fn generation(&self) -> Rc<Generation> {
        Rc::clone(&self.generation.borrow())
    }

    /// Whether this is the configuration in force.
    pub(super) fn serves(&self, generation: &Rc<Generation>) -> bool {
        Rc::ptr_eq(&self.generation.borrow(), generation)
    }

    /// Serves another configuration from now on. Requests that have begun keep theirs.
    pub(super) fn configure(&self, compiled: &Arc<Compiled>) {
        let before = self.generation();
        let generation = Generation::new(compiled, Some(&before), self.seed);
        for group in &before.upstreams {
            let next = generation.group(group.name());
            if !next.is_some_and(|next| Rc::ptr_eq(next, group)) {
                group.retire(next.map(AsRef::as_ref));
            }
        }
        self.former.borrow_mut().push(self.generation.replace(Rc::clone(&generation)));
        let goes_on = |connection: &Connection| {
            before.listener(connection.listener).is_none_or(|listener| listener.at(&generation).is_some())
                && generation.snapshot().trusted.agrees_on(&connection.client.get())
        };
        let left = self.select(|connection| !goes_on(connection));
        left.iter().for_each(|connection| connection.shut(Close::Graceful, CloseReason::Drain));
        if !generation.snapshot().tls.load().judges_as(&before.snapshot().tls.load()) {
            self.reverify();
        }
    }

    /// Closes connections whose client certificates were judged by what is no longer in force.
    pub(super) fn reverify(&self) {
        self.select(Connection::is_certified).iter().for_each(|connection| connection.reverify());
    }

    /// Closes connections to servers that have been idle for too long at `now`.
    pub(super) fn sweep_upstreams(&self, now: u64) {
        let former = self.former.borrow();
        let groups = former.iter().flat_map(|former| &former.upstreams);
        groups.chain(&self.generation().upstreams).for_each(|group| group.sweep(now));
    }

    /// Admits a new connection. A client that is trusted or allowlisted may have any number.
    pub(super) fn admit(self: &Rc<Self>, peer: SocketAddr, listener: SocketAddr) -> Result<Admitted, NotAdmitted> {
        if self.shared.bans.refuses(peer.ip(), clock::monotonic()) {
            return Err(NotAdmitted::Banned);
        }
        if self.shared.is_over_memory() {
            self.shared.note_shed();
            return Err(NotAdmitted::Full);
        }
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= self.generation.borrow().max_connections() {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.shared.lost_connections.fetch_add(1, Ordering::Relaxed);
            return Err(NotAdmitted::Full);
        }
        let client = self.generation.borrow().snapshot().trusted.peer(peer);
        let connection = Rc::new(Connection::new(client, listener));
        if !self.enter(client) {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(NotAdmitted::OverPerSource(connection));
        }
        if let Err(over) = self.count(&connection, client) {
            self.shared.leave(client.source);
            return Err(NotAdmitted::OverLimit(connection, over));
        }
        let place = self.connections.borrow_mut().insert(Rc::clone(&connection));
        Ok(Admitted { connection, worker: Rc::clone(self), place })
    }

    /// Counts a connection of `client`. `false`: it has too many already.
    fn enter(&self, client: Client) -> bool {
        let most = self.generation.borrow().snapshot().settings.max_connections_per_source;
        self.shared.enter(client.source, most)
            || (self.is_exempt(client) && self.shared.enter(client.source, usize::MAX))
    }

    /// Counts a connection of `client` by the limits on connections. `Err`: it is over these.
    fn count(&self, connection: &Connection, client: Client) -> Result<(), Cow<'static, str>> {
        let generation = self.generation.borrow();
        let limits = &generation.snapshot().connection_limits;
        if limits.is_empty() || self.is_exempt(client) {
            return Ok(());
        }
        let held = limits.accept(client.source, client.address.ip(), clock::monotonic());
        held.map(|held| connection.hold(held)).map_err(|refusal| refusal.detail)
    }

    /// Counts a TLS handshake of `client`. `Err`: it is over these limits.
    pub(super) fn count_handshake(&self, client: Client) -> Result<(), Cow<'static, str>> {
        let generation = self.generation.borrow();
        let limits = &generation.snapshot().connection_limits;
        if limits.is_empty() || self.is_exempt(client) {
            return Ok(());
        }
        let shaken = limits.shake_hands(client.source, client.address.ip(), clock::monotonic());
        shaken.map_err(|refusal| refusal.detail)
    }

    /// Whether a client may have any number of connections.
    fn is_exempt(&self, client: Client) -> bool {
        client.is_trusted || self.shared.bans.allows(client.address.ip())
    }

    /// A trusted proxy names the client of a connection: the connection counts as that client's from now on.
    pub(super) fn rename(&self, connection: &Rc<Connection>, client: Client) -> Result<(), NotAdmitted> {
        if self.shared.bans.refuses(client.address.ip(), clock::monotonic()) {
            return Err(NotAdmitted::Banned);
        }
        if !self.enter(client) {
            return Err(NotAdmitted::OverPerSource(Rc::clone(connection)));
        }
        if let Err(over) = self.count(connection, client) {
            self.shared.forget(client.source);
            return Err(NotAdmitted::OverLimit(Rc::clone(connection), over));
        }
        self.shared.forget(connection.client.get().source);
        connection.client.set(client);
        Ok(())
    }

    /// Where members of plans have connections, as far as the guard is to be told of it now.
    pub(super) fn take_plan_members(&self, now: u64) -> Option<Vec<PlanMember>> {
        let generation = self.generation();
        generation.snapshot().kernel_plans.as_ref()?;
        let tables = generation.snapshot().authenticators.tables();
        self.plan_members.take(now, || {
            let (now, mut all) = (clock::Now::read().unix_seconds(), Vec::new());
            self.each(|connection| {
                if all.len() < MAX_PLAN_MEMBERS {
                    all.extend(connection.plan.member(connection.client.get().source, tables, now));
                }
            });
            all
        })
    }

    /// Takes marks for the fast lane back whose credentials have expired or are revoked, and all of them where there is no
    /// fast lane any more.
    pub(super) fn review_fast_lane(&self) {
        let all = &self.shared.fast_lane;
        if all.marked() == 0 {
            return;
        }
        let generation = self.generation();
        let (is_there, now) = (generation.snapshot().settings.fast_lane.is_some(), clock::Now::read().unix_seconds());
        let tables = generation.snapshot().authenticators.tables();
        self.each(|connection| {
            if is_there {
                connection.fast_lane.review(all, tables, now);
            } else {
                connection.fast_lane.leave(all);
            }
        });
    }

    /// Whether there are so many connections that soon there is no room for others.
    pub(super) fn is_nearly_full(&self) -> bool {
        let most = self.generation.borrow().max_connections();
        self.shared.connections.load(Ordering::Relaxed) >= most - most / 16
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
        if let Some(ask) = self.shared.asks.ask(ask) {
            self.tell(WorkerEvent::BanRequest(ask));
        }
    }

    /// Hands an event to the control thread. Requests for bans over its capacity are lost and counted: if the source
    /// goes on, its rule asks again.
    pub(super) fn tell(&self, event: WorkerEvent) {
        if self.events.try_send(event).is_err() {
            self.shared.lost_asks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was traced. There is room for some until the next tick.
    pub(super) fn traced(&self, trace: Trace) {
        let mut traces = self.traces.borrow_mut();
        if traces.len() < MAX_TRACES_A_TICK {
            traces.push(trace);
        } else {
            self.shared.lost_traces.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the control thread of traced requests.
    pub(super) fn tell_traces(&self) {
        if self.traces.borrow().is_empty() {
            return;
        }
        let traces = self.traces.take();
        let lost = u64::try_from(traces.len()).unwrap_or(u64::MAX);
        if self.events.try_send(WorkerEvent::Traced(traces)).is_err() {
            self.shared.lost_traces.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Tells the control thread what was counted and measured. Where its queue is full, that is told the next time.
    pub(super) fn tell_counters(&self) {
        if let Ok(room) = self.events.try_reserve()
            && let Some(counted) = self.counters.take()
        {
            room.send(WorkerEvent::Counted(counted));
        }
        if let Ok(room) = self.events.try_reserve() {
            let deltas = self.take_measured();
            if !deltas.is_empty() {
                room.send(WorkerEvent::Measured(deltas));
            }
        }
    }

    /// What was measured since the last call. Configurations that no request has any more are let go.
    pub(super) fn take_measured(&self) -> Vec<Delta> {
        let mut former = self.former.borrow_mut();
        let current = self.generation();
        let all = former.iter().chain([&current]).filter_map(|generation| generation.measures());
        let deltas = all.map(Measures::take).collect();
        former.retain(|former| Rc::strong_count(former) > 1);
        deltas
    }

    /// Hands over an event that must not be lost: waits for room in the queue.
    pub(super) async fn tell_surely(&self, event: WorkerEvent) {
        self.events.send(event).await.unwrap_or_default();
    }
}
