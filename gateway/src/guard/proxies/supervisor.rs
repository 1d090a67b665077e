//! Starts, replaces, drains and kills proxies.
//!
//! Proxies come in generations: a new one gets the same listening sockets, and only once it is ready the old one
//! drains. Whatever a proxy does, the sockets stay open here: clients wait, they are not refused.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

pub(crate) use self::configure::{NewSockets, STARTED_WITH};
use super::{
    conversation::{Event, converse},
    program::Program,
    share::Share,
};
use crate::message::{
    Bundle, MAX_DESCRIPTORS, ToProxy,
    channel::{self, Channel},
    sealed::seal,
};

mod configure;
mod generations;

/// How long a proxy may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long past its deadline a draining proxy may live.
const GRACE: Duration = Duration::from_secs(2);

/// A proxy that served for so long is started again at once.
const SETTLED: Duration = Duration::from_secs(10);

/// Waiting times between restarts of a proxy that keeps dying: none, then doubling up to the last.
const BACK_OFF: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Messages that wait for a proxy. One that lets so many pile up is stuck and is killed.
const OUTBOX: usize = 65_536;

/// Whom the proxy runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// What became of a proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A generation serves from now on.
    Ready,
    /// A generation that was to serve never will; an older one may still.
    Failed(u64, String),
    /// The generation that served is gone and another is started.
    Died(u64, String),
    /// One that had drained is gone.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyState {
    Starting(Instant),
    Serving(Instant),
    Draining(Instant),
}

struct Proxy {
    generation: u64,
    child: Child,
    state: ProxyState,
    outbox: mpsc::Sender<(ToProxy, Vec<OwnedFd>)>,
    /// Where it is another than those before.
    program: Option<Program>,
    /// The list of outputs of the access log that it was started with.
    log_list: u64,
    /// How much of the guard's time its messages take.
    share: Arc<Share>,
    /// It was killed: nothing that it has said is heard any more.
    condemned: bool,
    /// It was told to serve what it was started with.
    is_committed: bool,
    /// Its channel is closed, since when.
    silent: Option<Instant>,
}

impl Proxy {
    const fn is_starting(&self) -> bool {
        matches!(self.state, ProxyState::Starting(_))
    }
}

/// All proxies, and what new ones are made from.
pub(crate) struct Supervisor {
    /// Whom they run as; `None`: as the guard itself.
    pub(crate) run_as: Option<RunAs>,
    /// One list of sockets per listener.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    /// Appended to by all workers.
    pub(crate) access_logs: Vec<File>,
    /// The list of outputs that these are of: the number of the reload that brought it. Proxies of another list know other
    /// outputs by the same positions.
    pub(crate) log_list: u64,
    /// Configuration and files; the bans are filled in for each proxy.
    pub(crate) bundle: Bundle,
    /// How long one may drain.
    pub(crate) drain: Duration,
    events: mpsc::Sender<Event>,
    /// What the last one that got ready was.
    program: Program,
    proxies: Vec<Proxy>,
    generation: u64,
    /// The first generation that may serve what is in force.
    oldest: u64,
    deaths: usize,
    restart_at: Option<Instant>,
    /// How often a serving proxy was lost.
    pub(crate) restarts: u64,
    /// Whether any was ever ready.
    pub(crate) ever_ready: bool,
    stopping: bool,
}

impl Supervisor {
    pub(crate) const fn new(
        run_as: Option<RunAs>,
        sockets: Vec<Vec<OwnedFd>>,
        access_logs: Vec<File>,
        bundle: Bundle,
        drain: Duration,
        events: mpsc::Sender<Event>,
        program: Program,
    ) -> Self {
        Self {
            run_as,
            sockets,
            access_logs,
            log_list: 0,
            bundle,
            drain,
            events,
            program,
            proxies: Vec::new(),
            generation: 0,
            oldest: 0,
            deaths: 0,
            restart_at: None,
            restarts: 0,
            ever_ready: false,
            stopping: false,
        }
    }

    /// The program on disk in the place of the one that proxies are, where it is another.
    ///
    /// # Errors
    /// It is not to be used.
    pub(crate) fn on_disk(&self) -> io::Result<Option<Program>> {
        self.program.on_disk()
    }

    /// Starts a proxy of the current bundle: `program`, or what the last one was. It serves once it was told to and says
    /// that it is ready. Returns its generation.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start(&mut self, program: Option<Program>) -> io::Result<u64> {
        let (ours, theirs) = channel::pair()?;
        let mut command = self.command(program.as_ref().unwrap_or(&self.program), "proxy", theirs);
        let logs = self.access_logs.iter().map(|log| log.as_fd().try_clone_to_owned());
        let handed = std::iter::once(seal(&self.bundle)).chain(logs).collect::<io::Result<_>>()?;
        let mut opening = vec![(self.opening()?, handed)];
        for (listener, sockets) in (0..).zip(&self.sockets) {
            for some in sockets.chunks(MAX_DESCRIPTORS) {
                let copies = some.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
                opening.push((ToProxy::Listen { listener }, copies));
            }
        }
        let channel = Channel::new(ours)?;
        let child = command.spawn()?;
        // One that is due would be of what is in force now, and start beside this one.
        self.restart_at = None;
        self.generation += 1;
        let generation = self.generation;
        tracing::info!(pid = child.id(), generation, "a proxy is starting");
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let share = Arc::new(Share::default());
        tokio::spawn(converse(channel, generation, opening, queue, self.events.clone(), Arc::clone(&share)));
        let state = ProxyState::Starting(Instant::now() + READY_WITHIN);
        let log_list = self.log_list;
        self.proxies.push(Proxy {
            generation,
            child,
            state,
            outbox,
            program,
            log_list,
            share,
            condemned: false,
            is_committed: false,
            silent: None,
        });
        Ok(generation)
    }

    /// Starts an observer: the same program as the proxy that serves, run by the same user.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start_observer(&self, channel: OwnedFd) -> io::Result<Child> {
        self.command(&self.program, "observer", channel).spawn()
    }

    /// What starts a process of a program: with its channel as standard input, and nothing else of ours.
    fn command(&self, program: &Program, role: &str, channel: OwnedFd) -> Command {
        let mut command = program.command();
        command.arg(role).stdin(Stdio::from(channel)).current_dir("/").env_clear();
        // Requests that are in flight together hold more pieces of one size than the C library keeps at hand for a
        // thread by itself, which is 7.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=128");
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(RunAs { uid, gid }) = self.run_as {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Hands one proxy a descriptor, with what it is for.
    pub(crate) fn hand(&mut self, generation: u64, message: ToProxy, descriptor: OwnedFd) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            say(proxy, message, vec![descriptor]);
        }
    }

    /// The generations of all proxies that live.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.proxies.iter().map(|proxy| proxy.generation).collect()
    }

    fn opening(&self) -> io::Result<ToProxy> {
        let many = |_overflow| io::Error::other("too many workers or listeners");
        let workers = self.sockets.first().map_or(1, Vec::len);
        Ok(ToProxy::Start {
            workers: u16::try_from(workers).map_err(many)?,
            listeners: u16::try_from(self.sockets.len()).map_err(many)?,
        })
    }

    /// Tells every proxy.
    pub(crate) fn tell(&mut self, message: &ToProxy) {
        self.proxies.iter_mut().for_each(|proxy| say(proxy, message.clone(), Vec::new()));
    }

    /// Hands every proxy with this list of outputs all of them, opened anew.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn reopen_all(&mut self, access_logs: Vec<File>) -> io::Result<()> {
        self.access_logs.truncate(access_logs.len());
        access_logs.into_iter().enumerate().try_for_each(|(place, log)| self.reopen(place, log))
    }

    /// Hands every proxy with this list of outputs one of them, opened anew.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn reopen(&mut self, place: usize, log: File) -> io::Result<()> {
        let output = u16::try_from(place).map_err(io::Error::other)?;
        for proxy in self.proxies.iter_mut().filter(|proxy| proxy.log_list == self.log_list) {
            let copy = log.as_fd().try_clone_to_owned()?;
            say(proxy, ToProxy::ReopenLogs { output }, vec![copy]);
        }
        match self.access_logs.get_mut(place) {
            Some(held) => *held = log,
            None => self.access_logs.push(log),
        }
        Ok(())
    }

    /// Hands every proxy files that have changed.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn hand_over(&mut self, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
        let sealed = seal(&files)?;
        for proxy in &mut self.proxies {
            say(proxy, ToProxy::Files, vec![sealed.try_clone()?]);
        }
        Ok(())
    }

    /// A proxy is ready: it serves, and those before it drain. One that was not told to serve fails.
    pub(crate) fn ready(&mut self, generation: u64) -> Option<Outcome> {
        let proxy = self.proxies.iter_mut().find(|proxy| proxy.generation == generation)?;
        let ProxyState::Starting(_) = proxy.state else { return None };
        if !proxy.is_committed {
            let how = "it says that it is ready before it was told to serve";
            kill(proxy, how);
            return Some(Outcome::Failed(generation, how.to_owned()));
        }
        proxy.state = ProxyState::Serving(Instant::now());
        self.ever_ready = true;
        if let Some(program) = proxy.program.take() {
            self.program = program;
        }
        tracing::info!(pid = proxy.child.id(), generation, "the proxy is serving");
        for old in self.proxies.iter_mut().filter(|proxy| proxy.generation < generation) {
            drain(old, self.drain);
        }
        Some(Outcome::Ready)
    }

    /// A proxy cannot start. What it says is bounded before it is shown.
    pub(crate) fn failed(&mut self, generation: u64, reason: &str) {
        let reason: String = reason.chars().filter(|letter| !letter.is_control()).take(1_000).collect();
        tracing::error!(generation, reason, "the proxy cannot start");
        self.kill(generation, &reason);
    }

    /// Whether what a proxy says is heard: it is there, and nobody has killed it.
    pub(crate) fn hears(&self, generation: u64) -> bool {
        self.proxies.iter().any(|proxy| proxy.generation == generation && !proxy.condemned)
    }

    /// A proxy's message has taken the guard so long.
    pub(crate) fn charge(&self, generation: u64, took: Duration) {
        if let Some(proxy) = self.proxies.iter().find(|proxy| proxy.generation == generation) {
            proxy.share.spend(took);
        }
    }

    /// A proxy has closed its channel. One that lives on without is past being told of bans.
    pub(crate) fn fell_silent(&mut self, generation: u64) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            proxy.silent.get_or_insert_with(Instant::now);
        }
    }

    /// Ends a proxy that misbehaves.
    pub(crate) fn kill(&mut self, generation: u64, reason: &str) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            kill(proxy, reason);
        }
    }

    /// Ends all proxies that are starting but one: they are of a configuration that is not in force any more.
    pub(crate) fn kill_others_that_start(&mut self, generation: u64) {
        for proxy in self.proxies.iter_mut().filter(|proxy| proxy.is_starting() && proxy.generation != generation) {
            kill(proxy, "its configuration is not in force any more");
        }
    }

    /// Buries dead proxies and starts another where the one that served is among them.
    pub(crate) fn reap(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut left = Vec::new();
        for mut proxy in std::mem::take(&mut self.proxies) {
            match proxy.child.try_wait() {
                Ok(None) => left.push(proxy),
                Ok(Some(status)) => outcomes.push(self.bury(&proxy, status)),
                Err(error) => {
                    tracing::error!(%error, "a proxy cannot be waited for");
                    left.push(proxy);
                }
            }
        }
        self.proxies = left;
        if !self.stopping && !outcomes.is_empty() && !self.serves() && !self.starts() {
            let wait = BACK_OFF.get(self.deaths).copied().unwrap_or(Duration::from_secs(5));
            self.deaths += 1;
            self.restart_at = Some(Instant::now() + wait);
        }
        outcomes
    }

    fn bury(&mut self, proxy: &Proxy, status: ExitStatus) -> Outcome {
        let pid = proxy.child.id();
        match proxy.state {
            ProxyState::Draining(_) => {
                tracing::info!(pid, %status, "a proxy has drained");
                Outcome::Left
            }
            _ if self.stopping => Outcome::Left,
            ProxyState::Starting(_) => {
                Outcome::Failed(proxy.generation, format!("the proxy (pid {pid}) never got ready: {status}"))
            }
            ProxyState::Serving(since) => {
                if since.elapsed() >= SETTLED {
                    self.deaths = 0;
                }
                self.restarts += 1;
                tracing::error!(pid, %status, "the proxy died; its listeners stay open");
                Outcome::Died(proxy.generation, format!("pid {pid}: {status}"))
            }
        }
    }

    /// Kills whoever is past a deadline.
    pub(crate) fn check(&mut self) {
        let now = Instant::now();
        for proxy in &mut self.proxies {
            match proxy.state {
                ProxyState::Starting(deadline) if now >= deadline => kill(proxy, "it did not get ready in time"),
                ProxyState::Draining(deadline) if now >= deadline => kill(proxy, "it did not drain in time"),
                _ => {}
            }
            if proxy.silent.is_some_and(|since| now.saturating_duration_since(since) >= GRACE) {
                kill(proxy, "it closed its channel and lives on");
            }
        }
    }

    /// When another proxy is due; `None`: none is.
    pub(crate) const fn restart_at(&self) -> Option<Instant> {
        self.restart_at
    }

    /// Starts the proxy that is due.
    pub(crate) fn restart(&mut self) {
        self.restart_at = None;
        if let Err(error) = self.start(None) {
            tracing::error!(%error, "no proxy can be started; trying again");
            self.restart_at = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    /// Lets every proxy finish and starts no more.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        self.restart_at = None;
        for proxy in &mut self.proxies {
            drain(proxy, self.drain);
        }
    }

    /// Ends every proxy at once.
    pub(crate) fn kill_all(&mut self, reason: &str) {
        for proxy in &mut self.proxies {
            kill(proxy, reason);
        }
    }
}

fn drain(proxy: &mut Proxy, patience: Duration) {
    if matches!(proxy.state, ProxyState::Draining(_)) {
        return;
    }
    proxy.state = ProxyState::Draining(Instant::now() + patience + GRACE);
    say(proxy, ToProxy::Drain, Vec::new());
}

fn say(proxy: &mut Proxy, message: ToProxy, descriptors: Vec<OwnedFd>) {
    if proxy.outbox.try_send((message, descriptors)).is_err() {
        kill(proxy, "it takes no messages");
    }
}

fn kill(proxy: &mut Proxy, reason: &str) {
    if std::mem::replace(&mut proxy.condemned, true) {
        return;
    }
    tracing::warn!(pid = proxy.child.id(), reason, "a proxy is killed");
    if let Err(error) = proxy.child.kill() {
        tracing::error!(pid = proxy.child.id(), %error, "it cannot be killed");
    }
}
