//! The thread of one worker: it accepts connections, carries out commands, sweeps at every tick, and drains in the end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use gateway_common::source::Source;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::JoinHandle,
};

use super::scheduling::Scheduling;
use crate::{
    log::sink::{LogBuffer, Sink},
    os::clock,
    policy::{admission::Pressure, limit::Limits},
    proxy::{
        connection::{Close, CloseReason, Connection, accept},
        generation::Compiled,
        timing::deadline,
        worker::{
            Worker,
            messages::{WorkerCommand, WorkerEvent},
            shared::WorkersShared,
        },
    },
};

/// A worker that runs.
pub(in crate::proxy) struct Running {
    pub(in crate::proxy) commands: mpsc::Sender<WorkerCommand>,
    /// How many ticks it has done: one that stops counting has come to a standstill.
    pub(in crate::proxy) ticks: Arc<AtomicU64>,
    pub(in crate::proxy) thread: thread::JoinHandle<io::Result<()>>,
}

/// How long the connections of a banned source may take to send what is being answered.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How many names a worker resolves at once.
const RESOLVERS: usize = 64;

/// Runs a worker until it has drained.
pub(super) fn run(
    shared: Arc<WorkersShared>,
    compiled: Arc<Compiled>,
    sink: Sink,
    events: mpsc::Sender<WorkerEvent>,
    commands: mpsc::Receiver<WorkerCommand>,
    ticks: Arc<AtomicU64>,
) -> io::Result<()> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_unspecified| io::Error::other("no randomness"))?;
    let first_id = u128::from(u64::from_ne_bytes(random)) << 64;
    // What blocks is resolving the names of upstreams, each once at a time: one that nobody answers for delays no other.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(RESOLVERS).build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Worker::new(shared, &compiled, LogBuffer::new(sink), events, first_id);
        drop(compiled);
        serve(&worker, commands, ticks).await;
        Ok(())
    })
}

/// What accepts the connections of one listener.
struct Accepting {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Serves until the command to drain, then until the last connection is gone. It accepts connections once it is told by
/// which listeners.
async fn serve(worker: &Rc<Worker>, mut commands: mpsc::Receiver<WorkerCommand>, ticks: Arc<AtomicU64>) {
    let mut accepting: Vec<Accepting> = Vec::new();
    let ticking = tokio::task::spawn_local(tick(Rc::clone(worker), ticks));
    worker.tell_surely(WorkerEvent::Started).await;
    // A control thread that is gone means the same as the command to drain.
    while let Some(command) = commands.recv().await {
        match command {
            WorkerCommand::Close { ban, source, known } => {
                tokio::task::spawn_local(close_banned(Rc::clone(worker), ban, source, known));
            }
            WorkerCommand::CloseBanned => close_all_banned(worker),
            WorkerCommand::Configure { compiled, sockets } => {
                configure(worker, &mut accepting, &compiled, sockets);
                drop(compiled);
                worker.tell_surely(WorkerEvent::Configured).await;
            }
            WorkerCommand::Recheck => recheck(worker),
            WorkerCommand::Reverify => worker.reverify(),
            WorkerCommand::Drain => break,
        }
    }
    worker.draining.set(true);
    accepting.iter().for_each(|it| it.task.abort());
    worker.tell(WorkerEvent::Retired);
    shut_all(worker, Close::Graceful, CloseReason::Drain, |_| true);
    let drained = async {
        while !worker.is_idle() {
            tokio::time::sleep(deadline::TICK).await;
        }
    };
    // A client that is banned during the drain is not served to the end, nor one whose token is revoked.
    let closing = async {
        while let Some(command) = commands.recv().await {
            match command {
                WorkerCommand::Close { ban, source, known } => {
                    tokio::task::spawn_local(close_banned(Rc::clone(worker), ban, source, known));
                }
                WorkerCommand::CloseBanned => close_all_banned(worker),
                WorkerCommand::Recheck => recheck(worker),
                WorkerCommand::Configure { .. } | WorkerCommand::Drain | WorkerCommand::Reverify => {}
            }
        }
        std::future::pending::<()>().await;
    };
    let in_time = tokio::select! {
        drained = tokio::time::timeout(worker.generation().snapshot().settings.drain, drained) => drained.is_ok(),
        () = closing => true,
    };
    if !in_time {
        shut_all(worker, Close::Now, CloseReason::Drain, |_| true);
        tokio::time::sleep(deadline::TICK).await;
    }
    ticking.abort();
    worker.lines.flush();
    if let Some(counted) = worker.counters.take() {
        worker.tell_surely(WorkerEvent::Counted(counted)).await;
    }
    worker.tell_traces();
    worker.tell_surely(WorkerEvent::Measured(worker.take_measured())).await;
}

/// Something was revoked.
fn recheck(worker: &Worker) {
    worker.review_fast_lane();
    worker.each(|connection| connection.recheck());
}

/// Serves another configuration: listeners that it does not have accept no more, those of `sockets` begin to.
fn configure(
    worker: &Rc<Worker>,
    accepting: &mut Vec<Accepting>,
    compiled: &Arc<Compiled>,
    sockets: Vec<(SocketAddr, TcpListener)>,
) {
    worker.configure(compiled);
    let generation = worker.generation();
    accepting.retain(|it| {
        let stays = generation.listener(it.address).is_some();
        if !stays {
            it.task.abort();
        }
        stays
    });
    for (address, socket) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => {
                let task = tokio::task::spawn_local(accept::accept(Rc::clone(worker), address, listener));
                accepting.push(Accepting { address, task });
            }
            Err(error) => tracing::error!(%address, %error, "a worker cannot accept the connections of a listener"),
        }
    }
}

/// A tick that is so late says that the worker could not run.
const LATE: Duration = Duration::from_millis(100);

/// At every tick: fires deadlines, sweeps connections and pools, and tells the control thread what was counted.
async fn tick(worker: Rc<Worker>, ticks: Arc<AtomicU64>) {
    let mut scheduling = Scheduling::new(clock::monotonic(), clock::thread());
    let mut interval = tokio::time::interval(deadline::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let late = interval.tick().await.elapsed();
        ticks.fetch_add(1, Ordering::Relaxed);
        if late > LATE {
            // The worker could not run. What has arrived meanwhile is read before deadlines fire.
            tokio::time::sleep(deadline::TICK / 10).await;
        }
        let now = clock::monotonic();
        deadline::tick(now);
        scheduling.adapt(now, clock::thread());
        let generation = worker.generation();
        let settings = &generation.snapshot().settings;
        if let (Some(overload), Some(classes)) = (&settings.priority.overload, &generation.snapshot().classes) {
            let mut pressure = worker.pressure.get();
            let late = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
            pressure.note(late, overload.delay, classes.count(), now);
            worker.pressure.set(pressure);
            if worker.is_nearly_full() {
                let is_spare = |connection: &Connection| {
                    connection.is_idle() && !connection.is_known() && connection.close_reason().is_none()
                };
                classes.close_unknown(shut_all(&worker, Close::Graceful, CloseReason::Idle, is_spare));
            }
        } else if worker.pressure.get().is_on() {
            worker.pressure.set(Pressure::default());
        }
        worker.sweep_upstreams(now);
        worker.each(|connection| connection.sweep(now, &settings.timeouts, settings.drain));
        worker.review_fast_lane();
        if worker.shared.is_tight.load(Ordering::Relaxed) {
            // Whoever is of the highest class could not come again.
            let spares = settings.priority.overload.is_some();
            let is_spare = |connection: &Connection| connection.is_idle() && !(spares && connection.is_highest());
            shut_all(&worker, Close::Graceful, CloseReason::Idle, is_spare);
        }
        worker.lines.flush();
        let refused = worker.shared.bans.take_refused(now);
        if !refused.is_empty() {
            worker.tell(WorkerEvent::Refused(refused));
        }
        worker.tell_traces();
        if worker.counters.is_due(now) {
            worker.tell_counters();
        }
        if let Some(good) = worker.good_clients.take(now) {
            worker.tell(WorkerEvent::Good(good));
        }
        if let Some(members) = worker.take_plan_members(now) {
            worker.tell(WorkerEvent::PlanMembers(members));
        }
        for would in generation.snapshot().would_deny() {
            worker.tell(WorkerEvent::WouldDeny(would));
        }
        let (limits, connections) = (&generation.snapshot().limits, &generation.snapshot().connection_limits);
        for (limit, would) in limits.iter().flat_map(Limits::would_refuse).chain(connections.would_refuse()) {
            worker.tell(WorkerEvent::WouldRefuse(limit, would));
        }
    }
}

/// Closes the connections of a banned source, and says so.
async fn close_banned(worker: Rc<Worker>, ban: u64, source: Source, known: bool) {
    // A ban that was lifted before this worker came to it closes nothing: clients may have connected since.
    let is_in_force = !known || worker.shared.bans.holds(ban, source);
    let is_banned = |peer| is_in_force && source.contains(peer) && !worker.shared.bans.allows(peer);
    let mine = worker.select(|connection| is_banned(connection.client.get().address.ip()));
    mine.iter().for_each(|connection| connection.shut(Close::Graceful, CloseReason::Banned));
    // One reference is ours; a live connection has two more, in the registry and with its task.
    let gone = |connection: &Rc<Connection>| Rc::strong_count(connection) == 1;
    let start = tokio::time::Instant::now();
    while !mine.iter().all(gone) && start.elapsed() < LAST_WORDS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mine.iter().for_each(|connection| connection.shut(Close::Now, CloseReason::Banned));
    let connections = u32::try_from(mine.len()).unwrap_or(u32::MAX);
    // This event must not be lost: the guard waits for it.
    worker.tell_surely(WorkerEvent::Closed { ban, connections }).await;
}

/// Closes the connections of everybody who is banned now.
fn close_all_banned(worker: &Worker) {
    let now = clock::monotonic();
    let is_banned = |connection: &Connection| worker.shared.bans.bans(connection.client.get().address.ip(), now);
    shut_all(worker, Close::Graceful, CloseReason::Banned, is_banned);
}

/// Closes connections. How many.
fn shut_all(worker: &Worker, close: Close, why: CloseReason, which: impl Fn(&Connection) -> bool) -> u64 {
    let closed = worker.select(which);
    closed.iter().for_each(|connection| connection.shut(close, why));
    u64::try_from(closed.len()).unwrap_or(u64::MAX)
}
