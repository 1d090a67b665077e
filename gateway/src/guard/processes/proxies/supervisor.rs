//! Starts, replaces, adopts, drains and kills proxies, each by the launcher.
//!
//! Proxies come in generations: a new one gets the same listening sockets, and only once it is ready the old one
//! drains. Whatever a proxy does, the sockets stay open with the launcher: clients wait, they are not refused.
//!
//! A guard that follows one that died adopts the proxy that serves: the same program with the same configuration goes on.
//! Any other is replaced, and drains by a signal: the two may not understand each other.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

pub(crate) use self::{
    configure::{NewSockets, STARTED_WITH},
    endings::ProxyOutcome,
};
use super::{
    conversation::{Outbox, ProxyEvent, converse},
    pulse::Pulse,
    share::ProxyBudget,
};
use crate::{
    guard::{credentials::handed::Handed, processes::launcher::Launcher, quotas::book::Book},
    message::{
        Bundle, MAX_DESCRIPTORS, ToProxy,
        channel::{self, Channel, sealed::seal},
    },
    os::launch::{End, ProcessRole, ProgramId, RunAs, SETTLED, back_off},
    policy::limit::spent::SpentBudgets,
};

mod adoption;
mod configure;
mod endings;
mod files;
mod generations;
mod programs;
mod standstill;

/// How long a proxy may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long past its deadline a draining proxy may live.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyState {
    /// Of an earlier guard; has not said yet how far it is.
    Adopting(Instant),
    Starting(Instant),
    Serving(Instant),
    /// Of an earlier guard: it serves on until another one is ready.
    Leftover,
    Draining(Instant),
}

struct Proxy {
    generation: u64,
    pid: u32,
    state: ProxyState,
    /// `None`: it is another program, which may not understand.
    outbox: Option<Outbox>,
    /// Where it is another than those before.
    program: Option<ProgramId>,
    /// The list of outputs of the access log that it was started with.
    log_list: u64,
    /// How much of the guard's time its messages take.
    share: Arc<ProxyBudget>,
    /// It was killed: nothing that it has said is heard any more.
    condemned: bool,
    /// It was told to serve what it was started with.
    is_committed: bool,
    /// Its channel is closed, since when.
    silent: Option<Instant>,
    pulse: Pulse,
}

impl Proxy {
    const fn is_starting(&self) -> bool {
        matches!(self.state, ProxyState::Starting(_) | ProxyState::Adopting(_))
    }

    const fn is_leftover(&self) -> bool {
        matches!(self.state, ProxyState::Leftover)
    }

    /// Tells it, if it understands. `false`: it takes no messages.
    fn tell(&self, message: ToProxy, descriptors: Vec<OwnedFd>) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.try_send((message, descriptors)).is_ok())
    }
}

/// All proxies, and what new ones are made from.
pub(crate) struct Supervisor {
    /// Who starts and ends them.
    pub(crate) launcher: Launcher,
    /// Whom they run as; `None`: as the guard itself.
    pub(crate) run_as: Option<RunAs>,
    /// Whom an observer runs as.
    pub(crate) observer_as: Option<RunAs>,
    /// One list of sockets per listener.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    /// Appended to by all workers.
    pub(crate) access_logs: Vec<File>,
    /// The list of outputs that these are of: the number of the reload that brought it. Proxies of another list know other
    /// outputs by the same positions.
    pub(crate) log_list: u64,
    /// Configuration and files; the bans are filled in for each proxy.
    pub(crate) bundle: Bundle,
    /// API keys and revocations, as a proxy is handed them.
    pub(crate) credentials: Handed,
    /// What was used up of quotas, as a proxy is handed it.
    pub(crate) quotas: Book,
    /// What budgets have spent by the word of the guard before: for the first proxy that gets ready.
    pub(crate) spent: Vec<SpentBudgets>,
    /// How long one may drain.
    pub(crate) drain: Duration,
    events: mpsc::Sender<ProxyEvent>,
    programs: GuardPrograms,
    proxies: Vec<Proxy>,
    generation: u64,
    /// The first generation that may serve what is in force.
    oldest: u64,
    deaths: usize,
    restart_at: Option<Instant>,
    /// How often a serving proxy was lost.
    pub(crate) restarts: u64,
    /// How often one came to a standstill.
    pub(crate) standstills: u64,
    /// Whether any was ever ready.
    pub(crate) ever_ready: bool,
    stopping: bool,
}

/// The programs that the guard knows of.
#[derive(Clone, Debug)]
pub(crate) struct GuardPrograms {
    /// Where the program is on disk.
    pub(crate) place: PathBuf,
    /// What the guard is.
    pub(crate) own: ProgramId,
    /// What the last proxy that got ready was: what the others are started from.
    pub(crate) proxies: ProgramId,
}

impl Supervisor {
    pub(crate) fn new(
        launcher: Launcher,
        run_as: Option<RunAs>,
        (sockets, access_logs): (Vec<Vec<OwnedFd>>, Vec<File>),
        bundle: Bundle,
        drain: Duration,
        events: mpsc::Sender<ProxyEvent>,
        programs: GuardPrograms,
    ) -> Self {
        Self {
            launcher,
            run_as,
            observer_as: run_as,
            sockets,
            access_logs,
            log_list: 0,
            bundle,
            credentials: Handed::new(),
            quotas: Book::default(),
            spent: Vec::new(),
            drain,
            events,
            programs,
            proxies: Vec::new(),
            generation: 0,
            oldest: 0,
            deaths: 0,
            restart_at: None,
            restarts: 0,
            standstills: 0,
            ever_ready: false,
            stopping: false,
        }
    }

    /// Starts a proxy of the current bundle: `program`, or what the last one was. It serves once it was told to and says
    /// that it is ready. Returns its generation.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start(&mut self, program: Option<ProgramId>) -> io::Result<u64> {
        let (ours, theirs) = channel::pair()?;
        let logs = self.access_logs.iter().map(|log| log.as_fd().try_clone_to_owned());
        let handed = std::iter::once(seal(&self.bundle)).chain(logs).collect::<io::Result<_>>()?;
        let mut opening = vec![(self.opening()?, handed)];
        for (listener, sockets) in (0..).zip(&self.sockets) {
            for some in sockets.chunks(MAX_DESCRIPTORS) {
                let copies = some.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
                opening.push((ToProxy::Listen { listener }, copies));
            }
        }
        opening.extend(self.credentials.opening()?);
        opening.extend(self.quotas.opening()?);
        if !self.spent.is_empty() {
            opening.push((ToProxy::Spent, vec![seal(&self.spent)?]));
        }
        let channel = Channel::new(ours)?;
        let generation = self.generation + 1;
        let pid = match program {
            Some(program) => self.launcher.start(ProcessRole::Proxy, generation, self.run_as, program, &theirs)?,
            None => self.start_process(ProcessRole::Proxy, self.run_as, generation, &theirs)?,
        };
        // One that is due would be of what is in force now, and start beside this one.
        self.restart_at = None;
        self.generation = generation;
        tracing::info!(pid, generation, "a proxy is starting");
        let share = Arc::new(ProxyBudget::default());
        let outbox = Some(converse(channel, generation, opening, self.events.clone(), Arc::clone(&share)));
        let state = ProxyState::Starting(Instant::now() + READY_WITHIN);
        let log_list = self.log_list;
        self.proxies.push(Proxy {
            generation,
            pid,
            state,
            outbox,
            program,
            log_list,
            share,
            condemned: false,
            is_committed: false,
            silent: None,
            pulse: Pulse::default(),
        });
        Ok(generation)
    }

    /// Starts an observer: the same program as the proxy that serves. Its process id.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start_observer(&mut self, channel: &OwnedFd) -> io::Result<u32> {
        self.start_process(ProcessRole::Observer, self.observer_as, 0, channel)
    }

    /// Starts a compiler: the same program as the proxy that serves, run by the same user. Its process id.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start_compiler(&mut self, channel: &OwnedFd) -> io::Result<u32> {
        self.start_process(ProcessRole::Compiler, self.run_as, 0, channel)
    }

    /// Hands one proxy a descriptor, with what it is for.
    pub(crate) fn hand(&mut self, generation: u64, message: ToProxy, descriptor: OwnedFd) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            say(&self.launcher, proxy, message, vec![descriptor]);
        }
    }

    /// The generations of all proxies that live and understand.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.proxies.iter().filter(|proxy| proxy.outbox.is_some()).map(|proxy| proxy.generation).collect()
    }

    /// What serves is known: whatever served before it drains.
    fn replace_older(&mut self) {
        let Some(serving) = self.generation() else { return };
        self.ever_ready = true;
        self.launcher.ready();
        let Self { launcher, proxies, drain: timeout, .. } = self;
        for old in proxies.iter_mut().filter(|proxy| proxy.generation < serving || proxy.is_leftover()) {
            drain(launcher, old, *timeout);
        }
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
        let Self { launcher, proxies, .. } = self;
        proxies.iter_mut().for_each(|proxy| say(launcher, proxy, message.clone(), Vec::new()));
    }

    /// Tells every proxy but one.
    pub(crate) fn tell_others(&mut self, generation: u64, message: &ToProxy) {
        let Self { launcher, proxies, .. } = self;
        let others = proxies.iter_mut().filter(|proxy| proxy.generation != generation);
        others.for_each(|proxy| say(launcher, proxy, message.clone(), Vec::new()));
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
            say(&self.launcher, proxy, ToProxy::ReopenLogs { output }, vec![copy]);
        }
        match self.access_logs.get_mut(place) {
            Some(held) => *held = log,
            None => self.access_logs.push(log),
        }
        Ok(())
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
            kill(&self.launcher, proxy, reason);
        }
    }

    /// Ends all proxies that are starting but one: they are of a configuration that is not in force any more.
    pub(crate) fn kill_others_that_start(&mut self, generation: u64) {
        let Self { launcher, proxies, .. } = self;
        for proxy in proxies.iter_mut().filter(|proxy| proxy.is_starting() && proxy.generation != generation) {
            kill(launcher, proxy, "its configuration is not in force any more");
        }
    }

    /// Kills whoever is past a deadline.
    pub(crate) fn check(&mut self) {
        let now = Instant::now();
        for proxy in &mut self.proxies {
            match proxy.state {
                ProxyState::Adopting(deadline) if now >= deadline => proxy.state = ProxyState::Leftover,
                ProxyState::Starting(deadline) if now >= deadline => {
                    kill(&self.launcher, proxy, "it did not get ready in time");
                }
                ProxyState::Draining(deadline) if now >= deadline => {
                    kill(&self.launcher, proxy, "it did not drain in time");
                }
                _ => {}
            }
            if proxy.silent.is_some_and(|since| now.saturating_duration_since(since) >= GRACE) {
                kill(&self.launcher, proxy, "it closed its channel and lives on");
            }
        }
        if self.proxies.iter().any(Proxy::is_leftover) {
            self.replace_older();
        }
        self.start_if_none_serves();
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
        self.launcher.stopping();
        let Self { launcher, proxies, drain: timeout, .. } = self;
        for proxy in proxies {
            drain(launcher, proxy, *timeout);
        }
    }

    /// Ends the proxies that serve nobody yet.
    pub(crate) fn kill_starting(&mut self, reason: &str) {
        for proxy in self.proxies.iter_mut().filter(|proxy| matches!(proxy.state, ProxyState::Starting(_))) {
            kill(&self.launcher, proxy, reason);
        }
    }

    /// Ends every proxy at once.
    pub(crate) fn kill_all(&mut self, reason: &str) {
        for proxy in &mut self.proxies {
            kill(&self.launcher, proxy, reason);
        }
    }
}

fn drain(launcher: &Launcher, proxy: &mut Proxy, timeout: Duration) {
    if matches!(proxy.state, ProxyState::Draining(_)) {
        return;
    }
    if proxy.pulse.stands_still {
        return kill(launcher, proxy, "it has come to a standstill");
    }
    proxy.state = ProxyState::Draining(Instant::now() + timeout + GRACE);
    // In its turn after what it was told before; by a signal where it cannot be told.
    if proxy.outbox.is_none() || !proxy.tell(ToProxy::Drain, Vec::new()) {
        launcher.end(proxy.pid, End::Drain);
    }
}

/// Tells a proxy. One that takes no messages is ended.
fn say(launcher: &Launcher, proxy: &mut Proxy, message: ToProxy, descriptors: Vec<OwnedFd>) {
    if !proxy.tell(message, descriptors) {
        kill(launcher, proxy, "it takes no messages");
    }
}

fn kill(launcher: &Launcher, proxy: &mut Proxy, reason: &str) {
    if std::mem::replace(&mut proxy.condemned, true) {
        return;
    }
    tracing::warn!(pid = proxy.pid, reason, "a proxy is killed");
    launcher.end(proxy.pid, End::Kill);
}
