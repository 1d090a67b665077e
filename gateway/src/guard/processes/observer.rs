//! The observer process, as the guard sees it: started, told of proxies, told what the guard measures, and started again
//! when it dies.
//!
//! *Invariant:* the guard never waits for it, and hears nothing of it but what became of what it was given to deliver, what
//! operators say to it, and what is not usual: that asks for nothing, and names nobody.

use std::{
    collections::BTreeSet,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    time::Duration,
};

use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use self::files::ObserverFiles;
use crate::{
    guard::control::{server::Call, watch::Watchers},
    message::{
        channel::{self, Channel, Sender, sealed::seal},
        observer::{
            ObserverConfig, ToObserver,
            alert::AlertQuestion,
            anomalies::{ContributorsShown, Deviations},
            delivery::Delivery,
            fetch::{Fetch, room},
        },
        telemetry::{Metric, Report, Samples},
    },
    os::{resident::Resident, sandbox},
};

mod events;
pub(crate) mod files;
mod findings;
mod relay;
pub(crate) mod samples;
pub(crate) mod socket;

/// An observer that lived for so long is started again soon.
const SETTLED: Duration = Duration::from_secs(60);

/// One that has had no room for so many messages in a row, one a second, stands still.
const STANDSTILL: u32 = 15;

/// The longest time between two starts.
const LONGEST: Duration = Duration::from_secs(30);

/// The observer, where there is an admin listener.
pub(crate) struct Observer {
    config: ObserverConfig,
    socket: OwnedFd,
    /// Where it keeps what outlives it.
    files: ObserverFiles,
    /// What is left to the guard.
    sandbox: sandbox::SandboxReport,
    /// `None`: it is not known.
    resident: Option<Resident>,
    running: Option<Running>,
    /// How many died in a row before they had lived for long.
    deaths: u32,
    start_at: Instant,
    /// How often one died.
    pub(crate) restarts: u64,
}

struct Running {
    pid: u32,
    channel: Sender,
    since: Instant,
    report: Report,
    /// The proxies that it was told of.
    proxies: BTreeSet<u64>,
    /// It knows where commands go.
    relays: bool,
    /// It knows where to say what is not usual.
    finds: bool,
    /// Tells it what is decided; `None`: it does not want to know.
    events: Option<AbortHandle>,
    /// How many seconds in a row it had no room for what it was told.
    unheard: u32,
    /// It is ended for another one to take its place.
    is_retired: bool,
}

impl Observer {
    /// One that is started as soon as [`Self::is_due`] is asked.
    pub(crate) fn new(
        config: ObserverConfig,
        socket: OwnedFd,
        files: ObserverFiles,
        sandbox: sandbox::SandboxReport,
    ) -> Self {
        let (resident, start_at) = (Resident::open().ok(), Instant::now());
        Self { config, socket, files, sandbox, resident, running: None, deaths: 0, start_at, restarts: 0 }
    }

    /// Whether one has to be started.
    pub(crate) fn is_due(&self) -> bool {
        self.running.is_none() && Instant::now() >= self.start_at
    }

    /// Starts one, by `spawn`, which is given its channel.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, spawn: impl FnOnce(OwnedFd) -> io::Result<u32>) -> io::Result<()> {
        // Whatever goes wrong, the next try comes later.
        self.start_at = Instant::now() + LONGEST;
        let (ours, theirs) = channel::pair()?;
        let channel = Sender::new(ours);
        let config = seal(&self.config)?;
        channel.try_send_with(&ToObserver::Start, &[config.as_fd(), self.socket.as_fd()])?;
        let files = self.files.open_for_new();
        give(&channel, &files)?;
        let pid = spawn(theirs)?;
        tracing::info!(pid, "the observer is starting");
        let (report, proxies) = (Report::default(), BTreeSet::new());
        self.running = Some(Running {
            pid,
            channel,
            since: Instant::now(),
            report,
            proxies,
            relays: false,
            finds: false,
            events: None,
            unheard: 0,
            is_retired: false,
        });
        Ok(())
    }

    /// Takes over the one of an earlier guard, which serves on. It is told everything anew.
    ///
    /// # Errors
    /// It does not listen, or there are no descriptors.
    pub(crate) fn adopt(&mut self, pid: u32, channel: OwnedFd) -> io::Result<()> {
        let (files, channel) = (self.files.open_for_known(), Sender::new(channel));
        let running = self.running.insert(Running {
            pid,
            channel,
            since: Instant::now(),
            report: Report::default(),
            proxies: BTreeSet::new(),
            relays: false,
            finds: false,
            events: None,
            unheard: 0,
            is_retired: false,
        });
        let config = seal(&self.config)?;
        running.channel.try_send_with(&ToObserver::Start, &[config.as_fd(), self.socket.as_fd()])?;
        give(&running.channel, &files)?;
        tracing::info!(pid, "the observer of the guard before is taken over");
        Ok(())
    }

    /// Tells it of those of `proxies` that it does not know. Each of them is to be handed its end of a socket.
    pub(crate) fn introduce(&mut self, proxies: &[u64]) -> Vec<(u64, OwnedFd)> {
        let Some(running) = &mut self.running else { return Vec::new() };
        running.proxies.retain(|known| proxies.contains(known));
        let mut ends = Vec::new();
        for generation in proxies.iter().filter(|generation| !running.proxies.contains(generation)) {
            let message = ToObserver::Proxy { generation: *generation };
            let introduced = channel::pair().and_then(|(ours, theirs)| {
                running.channel.try_send_with(&message, &[ours.as_fd()])?;
                Ok(theirs)
            });
            match introduced {
                Ok(end) => ends.push((*generation, end)),
                // It is busy or stopped: the next second tries again.
                Err(error) => tracing::debug!(%error, "the observer could not be told of a proxy"),
            }
        }
        running.proxies.extend(ends.iter().map(|(generation, _)| *generation));
        ends
    }

    /// Lets it relay commands to `calls`, as long as it lives.
    pub(crate) fn relay(&mut self, calls: &mpsc::Sender<Call>) {
        let Some(running) = self.running.as_mut().filter(|running| !running.relays) else { return };
        let begun = channel::pair().and_then(|(ours, theirs)| {
            running.channel.try_send_with(&ToObserver::Relay, &[theirs.as_fd()])?;
            Channel::new(ours)
        });
        match begun {
            Ok(channel) => {
                running.relays = true;
                tokio::spawn(relay::serve(channel, calls.clone()));
            }
            // It is busy or stopped: the next second tries again.
            Err(error) => tracing::debug!(%error, "the observer could not be told where commands go"),
        }
    }

    /// Tells it where to say what is not usual.
    pub(crate) fn hear(&mut self, findings: &mpsc::Sender<Deviations>) {
        let Some(running) = self.running.as_mut().filter(|running| !running.finds) else { return };
        let begun = channel::pair().and_then(|(ours, theirs)| {
            running.channel.try_send_with(&ToObserver::Findings, &[theirs.as_fd()])?;
            Channel::new(ours)
        });
        match begun {
            Ok(channel) => {
                running.finds = true;
                tokio::spawn(findings::hear(channel, findings.clone()));
            }
            // It is busy or stopped: the next second tries again.
            Err(error) => tracing::debug!(%error, "the observer could not be told where findings go"),
        }
    }

    /// Tells it from whom an anomaly comes.
    pub(crate) fn tell_contributors(&self, shown: ContributorsShown) {
        let Some(running) = &self.running else { return };
        if let Err(error) = running.channel.try_send(&ToObserver::Contributors(Box::new(shown))) {
            // The next minute tells it again.
            tracing::debug!(%error, "the observer was not told from whom an anomaly comes");
        }
    }

    /// Tells it what is decided from now on, if it is to send that on.
    pub(crate) fn follow(&mut self, watchers: &Watchers) {
        let is_wanted = self.config.logs.is_some();
        let Some(running) = &mut self.running else { return };
        match (&running.events, is_wanted) {
            (None, true) => {
                let begun = channel::pair().and_then(|(ours, theirs)| {
                    running.channel.try_send_with(&ToObserver::Events, &[theirs.as_fd()])?;
                    Ok(tokio::spawn(events::tell(watchers.follow(), Sender::new(ours))).abort_handle())
                });
                match begun {
                    Ok(task) => running.events = Some(task),
                    // It is busy or stopped: the next second tries again.
                    Err(error) => tracing::debug!(%error, "the observer could not be told of decisions"),
                }
            }
            (Some(task), false) => {
                task.abort();
                running.events = None;
            }
            _ => {}
        }
    }

    /// Has it deliver something: the socket where it says what became of that.
    ///
    /// # Errors
    /// There is none, or it is busy.
    pub(crate) fn deliver(&self, delivery: &Delivery) -> io::Result<OwnedFd> {
        let running = self.running.as_ref().ok_or_else(missing)?;
        let (ours, theirs) = channel::pair()?;
        let sealed = seal(delivery)?;
        running.channel.try_send_with(&ToObserver::Deliver, &[sealed.as_fd(), theirs.as_fd()])?;
        Ok(ours)
    }

    /// Has it fetch something, with a body of `most` bytes at most: the socket where it answers, and where the body is then.
    ///
    /// # Errors
    /// There is none, or it is busy.
    pub(crate) fn fetch(&self, fetch: &Fetch, most: u64) -> io::Result<(OwnedFd, OwnedFd)> {
        let running = self.running.as_ref().ok_or_else(missing)?;
        let (ours, theirs) = channel::pair()?;
        let (sealed, memory) = (seal(fetch)?, room(most)?);
        let descriptors = [sealed.as_fd(), theirs.as_fd(), memory.as_fd()];
        running.channel.try_send_with(&ToObserver::Fetch, &descriptors)?;
        Ok((ours, memory))
    }

    /// Asks it something: the socket where it answers.
    ///
    /// # Errors
    /// There is none, or it is busy.
    pub(crate) fn ask(&self, question: &AlertQuestion) -> io::Result<OwnedFd> {
        let running = self.running.as_ref().ok_or_else(missing)?;
        let (ours, theirs) = channel::pair()?;
        let sealed = seal(question)?;
        running.channel.try_send_with(&ToObserver::Ask, &[sealed.as_fd(), theirs.as_fd()])?;
        Ok(ours)
    }

    /// Tells it what the guard measures.
    pub(crate) fn tell(&mut self, mut samples: Samples) {
        let Some(running) = &mut self.running else { return };
        samples.sandbox("guard", &self.sandbox);
        if let Some(bytes) = self.resident.as_ref().and_then(|resident| resident.bytes().ok()) {
            samples.level(Metric::Memory, &["guard"], bytes);
        }
        let told = running
            .report
            .tell(true, samples, |telemetry| running.channel.try_send(&ToObserver::Telemetry(telemetry.clone())));
        if let Err(error) = &told {
            tracing::debug!(%error, "the observer does not listen");
        }
        running.unheard = if told.is_ok() { 0 } else { running.unheard.saturating_add(1) };
    }

    /// Whether it has not listened for so long that it stands still.
    pub(crate) fn stands_still(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.unheard >= STANDSTILL)
    }

    /// What it serves.
    pub(crate) fn config(&self) -> ObserverConfig {
        self.config.clone()
    }

    /// Goes on with another configuration. `false`: it could not be told, so another one has to be started.
    pub(crate) fn configure(&mut self, config: ObserverConfig) -> bool {
        if config == self.config {
            return true;
        }
        self.config = config;
        let Some(running) = &self.running else { return true };
        let told = seal(&self.config)
            .and_then(|config| running.channel.try_send_with(&ToObserver::Configure, &[config.as_fd()]));
        told.is_ok()
    }

    /// Another one is to take its place: the process to end. That counts as no death.
    pub(crate) const fn retire(&mut self) -> Option<u32> {
        let Some(running) = &mut self.running else { return None };
        running.is_retired = true;
        Some(running.pid)
    }

    /// It has ended: how, if nobody wanted that.
    pub(crate) fn bury(&mut self, status: i32) -> Option<String> {
        let Running { pid, since, channel, is_retired, .. } = self.running.take()?;
        // It may have sent what nobody reads.
        channel.close();
        let status = ExitStatus::from_raw(status);
        if is_retired {
            tracing::info!(pid, %status, "the observer has made room for another one");
            self.start_at = Instant::now();
            return None;
        }
        self.deaths = if since.elapsed() >= SETTLED { 0 } else { self.deaths + 1 };
        self.restarts += 1;
        let wait = Duration::from_millis(100) * 2_u32.saturating_pow(self.deaths.min(16));
        self.start_at = Instant::now() + wait.min(LONGEST);
        tracing::error!(pid, %status, "the observer died; requests go on without it");
        Some(format!("pid {pid}: {status}"))
    }

    /// What an operator should know of its files.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.files.warnings()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }
}

/// Gives the observer its files, where they could be opened.
fn give(channel: &Sender, files: &[OwnedFd]) -> io::Result<()> {
    let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
    if files.is_empty() { Ok(()) } else { channel.try_send_with(&ToObserver::Files, &files) }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the observer is not running")
}
