//! What the launcher does, from its start to its end: it waits for signals, for the guard's commands and for processes to
//! end, one thing at a time.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::Path,
    process::{ExitCode, ExitStatus},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    children::Children,
    guard::Guard,
    programs::{Program, Programs},
    sockets::Sockets,
};
use crate::{
    diagnostic::with_causes,
    os::{
        launch::{End, LauncherCommand, Notice, ProcessRole, ProgramId, SETTLED, back_off},
        program_log, sandbox,
        seqpacket::MAX_DESCRIPTORS,
    },
};

/// `gateway run`: stays until a signal ends it, or the first guard does.
///
/// Ends with the code of the guard where that ends on purpose or never gets ready; with 0 after a clean stop, with 1 if
/// anything else keeps it from running.
pub fn main(config: &Path, detach_on_exit: bool) -> ExitCode {
    program_log::start(program_log::asked_for());
    let mut arguments: Vec<OsString> = vec!["--config".into(), config.into(), ProcessRole::Guard.name().into()];
    arguments.extend(detach_on_exit.then(|| "--detach-on-exit".into()));
    match Launcher::start(arguments).and_then(Launcher::run) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("the launcher cannot run: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

struct Launcher {
    /// What every guard is started with.
    arguments: Vec<OsString>,
    signals: SignalFd,
    /// What processes may be made from.
    programs: Programs,
    /// What guards are made from.
    program: Rc<Program>,
    /// What the next guard is made from, where an upgrade was asked for.
    next: Option<Rc<Program>>,
    /// What an upgrade has replaced, until the new program has served for a while.
    before: Option<Before>,
    guard: Option<Guard>,
    children: Children,
    sockets: Sockets,
    /// What a guard wanted the next one to have. Never looked into.
    kept: Option<OwnedFd>,
    /// When another guard is due.
    restart_at: Option<Instant>,
    /// Guards that died in a row before they had served for long.
    failures: usize,
    /// Guards that died.
    deaths: u32,
    /// How the last one ended.
    status: ExitStatus,
    /// An upgrade brought a program that never got ready, or did not last.
    reverted: bool,
    /// Whether any guard was ever ready.
    ever_ready: bool,
    /// How often it was told to stop.
    stops: u8,
    /// What the guard is to be told once it is ready.
    pending: Vec<Signal>,
    /// How this ends, once every process is gone.
    outcome: Option<ExitCode>,
}

/// What an upgrade has replaced.
struct Before {
    program: Rc<Program>,
    /// What the last guard of that program wanted the next one to have.
    kept: Option<OwnedFd>,
}

impl Launcher {
    fn start(arguments: Vec<OsString>) -> Result<Self> {
        let path = std::env::current_exe().context("the program that runs")?;
        let mut programs = Programs::running(path.clone()).context("the program that runs")?;
        if let Err(unfit) = programs.find() {
            tracing::warn!(
                "a reload or an upgrade will use no other program, as one in this place could be anybody's: {}",
                unfit.describe(&path)
            );
        }
        let program = Rc::clone(programs.own());
        let heard = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD];
        let heard: SigSet = heard.into_iter().collect();
        heard.thread_block()?;
        let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self {
            arguments,
            signals,
            programs,
            program,
            next: None,
            before: None,
            guard: None,
            children: Children::default(),
            sockets: Sockets::within(raise_descriptor_limit()),
            kept: None,
            restart_at: None,
            failures: 0,
            deaths: 0,
            status: ExitStatus::default(),
            reverted: false,
            ever_ready: false,
            stops: 0,
            pending: Vec::new(),
            outcome: None,
        })
    }

    fn run(mut self) -> Result<ExitCode> {
        // The first guard begins with every right that there is, as it may have to mount a file system for the pins. Those
        // after it find everything there, and begin with what is left here.
        self.start_guard();
        let report = sandbox::launcher().context("cannot give up rights")?;
        tracing::info!(pid = std::process::id(), "the launcher is confined: {report}");
        loop {
            let now = Instant::now();
            if self.restart_at.is_some_and(|at| at <= now) {
                self.start_guard();
            }
            if let Some(guard) = &mut self.guard
                && guard.due().is_some_and(|at| at <= now)
                && let Some(fault) = guard.fault(now)
            {
                tracing::error!(pid = guard.pid(), "the guard is ended: {fault}");
                guard.signal(Signal::SIGKILL);
            }
            if let Some(outcome) = self.outcome.filter(|_| self.guard.is_none() && self.children.is_empty()) {
                return Ok(outcome);
            }
            self.wait()?;
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if let Ok(signal) = i32::try_from(signal.ssi_signo)
                    .map_err(drop)
                    .and_then(|number| Signal::try_from(number).map_err(drop))
                {
                    self.hear_signal(signal);
                }
            }
            self.obey();
            self.bury();
        }
    }

    /// Waits until something has happened, or is due.
    fn wait(&self) -> Result<()> {
        let due = self.restart_at.into_iter().chain(self.guard.as_ref().and_then(Guard::due)).min();
        let timeout = due.map_or(PollTimeout::NONE, |at| {
            // Rounded up: not a millisecond before.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(self.guard.as_ref().filter(|guard| !guard.is_over).map(|guard| {
            let wanted = if guard.is_behind() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            PollFd::new(guard.channel(), wanted)
        }));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("poll"),
        }
    }

    fn hear_signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.stop(signal),
            Signal::SIGHUP | Signal::SIGUSR1 => match &self.guard {
                Some(guard) if guard.is_ready() => guard.signal(signal),
                // One that does not listen yet would die of it.
                _ if self.pending.contains(&signal) => {}
                _ => self.pending.push(signal),
            },
            // Whoever has ended is buried after every event.
            _ => {}
        }
    }

    /// The first time everything finishes what it has begun; the second time the guard decides; the third time nobody is
    /// asked.
    fn stop(&mut self, signal: Signal) {
        self.stops = self.stops.saturating_add(1);
        self.restart_at = None;
        match (&self.guard, self.stops) {
            (Some(guard), 1 | 2) => guard.signal(signal),
            (Some(guard), _) => {
                guard.signal(Signal::SIGKILL);
                self.children.end_all(End::Kill);
            }
            (None, 1) => self.end(ExitCode::SUCCESS),
            (None, _) => self.children.end_all(End::Kill),
        }
    }

    /// Ends: nobody is started any more, and whoever is left finishes what it has begun.
    fn end(&mut self, outcome: ExitCode) {
        self.restart_at = None;
        self.outcome = Some(outcome);
        self.children.finish();
    }

    fn start_guard(&mut self) {
        self.restart_at = None;
        let trial = self.next.take();
        let is_trial = trial.is_some();
        let program = trial.unwrap_or_else(|| Rc::clone(&self.program));
        let mut guard = match Guard::start(program, is_trial, &self.arguments) {
            Ok(guard) => guard,
            Err(error) => {
                tracing::error!(%error, "the guard cannot be started");
                self.reverted |= is_trial;
                return if self.ever_ready { self.restart() } else { self.end(ExitCode::FAILURE) };
            }
        };
        tracing::info!(pid = guard.pid(), "the guard is starting");
        self.sockets.begin();
        match self.kept.as_ref().map(OwnedFd::try_clone) {
            Some(Ok(kept)) => guard.tell(Notice::Kept, vec![kept]),
            Some(Err(error)) => tracing::error!(%error, "the guard does not get the configuration in force"),
            None => {}
        }
        for (living, channel) in self.children.introduce() {
            guard.tell(living, channel.into_iter().collect());
        }
        let (deaths, reverted) = (self.deaths, self.reverted && !is_trial);
        let (pid, program, status) = (std::process::id(), self.programs.own().id(), self.status.into_raw());
        guard.tell(Notice::Begin { pid, program, deaths, status, reverted }, Vec::new());
        self.guard = Some(guard);
    }

    /// Does what the guard has asked for, as long as it reads what it is told.
    fn obey(&mut self) {
        while let Some(guard) = self.guard.as_mut().filter(|guard| !guard.is_over) {
            guard.flush();
            if guard.is_behind() {
                return;
            }
            match guard.command() {
                Ok(Some((command, descriptors))) => self.obey_command(command, descriptors),
                Ok(None) => return,
                Err(error) => {
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        tracing::error!("the guard is ended: {error}");
                    }
                    guard.signal(Signal::SIGKILL);
                    guard.is_over = true;
                    return;
                }
            }
        }
    }

    fn obey_command(&mut self, command: LauncherCommand, descriptors: Vec<OwnedFd>) {
        let Some(guard) = &mut self.guard else { return };
        let mut descriptors = descriptors.into_iter();
        match command {
            LauncherCommand::Bind { address, sockets } => match self.sockets.bind(address, sockets.into()) {
                Ok(bound) => {
                    let mut left = bound.len();
                    for some in bound.chunks(MAX_DESCRIPTORS) {
                        left -= some.len();
                        let copies = some.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>();
                        let error = copies.as_ref().err().map_or(0, number);
                        let left = if error == 0 { u16::try_from(left).unwrap_or(u16::MAX) } else { 0 };
                        guard.tell(Notice::Bound { address, left, error }, copies.unwrap_or_default());
                        if error != 0 {
                            return;
                        }
                    }
                }
                Err(error) => guard.tell(Notice::Bound { address, left: 0, error: number(&error) }, Vec::new()),
            },
            LauncherCommand::Unbind { address } if guard.is_ready() => self.sockets.unbind(address),
            LauncherCommand::Unbind { address } => guard.leaves(address),
            LauncherCommand::Find => {
                let found = self.programs.find();
                let (program, unfit) = found.map_or_else(|unfit| (ProgramId::default(), Some(unfit)), |id| (id, None));
                guard.tell(Notice::Found { program, unfit }, Vec::new());
            }
            LauncherCommand::Start { role, generation, run_as, program } => {
                let known = self.programs.known(program).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT));
                let started = known.and_then(|program| {
                    let channel = descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                    self.children.start((role, generation), run_as, program, channel.as_fd())
                });
                let (pid, error) = started.map_or_else(|error| (0, number(&error)), |pid| (pid, 0));
                guard.tell(Notice::Started { generation, pid, error }, Vec::new());
            }
            LauncherCommand::End { pid, how } => self.children.end(pid, how),
            LauncherCommand::Keep if guard.is_ready() => self.kept = descriptors.next().or_else(|| self.kept.take()),
            LauncherCommand::Keep => guard.kept = descriptors.next().or_else(|| guard.kept.take()),
            LauncherCommand::Ready => self.serves(),
            LauncherCommand::Upgrade { program } => {
                self.next = self.programs.known(program);
                if self.next.is_none() {
                    tracing::error!("the guard wants an upgrade to a program that was not found");
                    self.reverted = true;
                }
            }
            LauncherCommand::Stopping => guard.stops = true,
            // That it says anything is enough.
            LauncherCommand::Alive => {}
        }
    }

    /// The guard serves: what it wants counts from now on.
    fn serves(&mut self) {
        let Some(guard) = self.guard.as_mut().filter(|guard| !guard.is_ready()) else { return };
        guard.begins();
        self.ever_ready = true;
        if guard.is_trial {
            let program = std::mem::replace(&mut self.program, Rc::clone(&guard.program));
            let kept = self.kept.as_ref().and_then(|kept| kept.try_clone().ok());
            // One that asked for another of its own program is as good as that one: nothing of it would come back.
            self.before = (program.id() != self.program.id()).then_some(Before { program, kept });
            self.reverted = false;
        }
        self.kept = guard.kept.take().or_else(|| self.kept.take());
        std::mem::take(&mut guard.unbound).into_iter().for_each(|address| self.sockets.unbind(address));
        self.sockets.close_unwanted();
        for signal in self.pending.drain(..) {
            guard.signal(signal);
        }
    }

    fn bury(&mut self) {
        let ended = self.children.bury();
        let guard_ended = self.guard.as_mut().and_then(Guard::ended);
        if !ended.is_empty() || guard_ended.is_some() {
            self.sockets.listen_again();
        }
        for exited in ended {
            if let Some(guard) = &mut self.guard {
                guard.tell(exited, Vec::new());
            }
        }
        if let Some(status) = guard_ended {
            self.guard_ended(status);
        }
    }

    fn guard_ended(&mut self, status: ExitStatus) {
        let Some(guard) = self.guard.take() else { return };
        let code = code(status);
        if guard.stops || self.stops > 0 {
            return self.end(code);
        }
        if self.next.is_some() && guard.is_ready() {
            tracing::info!(pid = guard.pid(), "the guard makes room for the program on disk");
            self.restart_at = Some(Instant::now());
            return;
        }
        if !self.ever_ready {
            self.children.end_all(End::Kill);
            return self.end(code);
        }
        self.deaths = self.deaths.saturating_add(1);
        self.status = status;
        if guard.served() >= SETTLED {
            // The program that it came in the place of is not needed any more, either.
            (self.failures, self.before) = (0, None);
        }
        if guard.is_trial && !guard.is_ready() {
            tracing::error!(%status, "the program on disk never got ready: the one before it goes on");
            self.reverted = true;
            self.restart_at = Some(Instant::now());
            return;
        }
        if let Some(Before { program, kept }) = self.before.take_if(|_| guard.is_trial) {
            tracing::error!(%status, "the program that an upgrade brought did not last: the one before it comes back");
            (self.program, self.kept, self.reverted) = (program, kept, true);
            self.restart_at = Some(Instant::now());
            return;
        }
        tracing::error!(pid = guard.pid(), %status, "the guard died; listeners, proxies and the kernel's bans stay");
        self.restart();
    }

    fn restart(&mut self) {
        self.restart_at = Some(Instant::now() + back_off(self.failures));
        self.failures = self.failures.saturating_add(1);
    }
}

/// Raises the limit of open files as far as it may be: every listener takes one for each worker, here and in each guard.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // If that is refused, the limit stays.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap_or_default();
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// What `gateway run` ends with when its guard has ended so.
fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        // Told to stop before it listened to signals.
        (None, Some(libc::SIGTERM | libc::SIGINT)) => ExitCode::SUCCESS,
        (None, _) => ExitCode::FAILURE,
    }
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
