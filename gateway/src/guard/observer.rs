//! The observer process, as the guard sees it: started, told of proxies, told what the guard measures, and started again
//! when it dies.
//!
//! *Invariant:* the guard never waits for it, and hears nothing of it but what became of what it was given to deliver.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::Child,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    message::{
        channel::{self, Sender},
        delivery::Delivery,
        observer::{ObserverConfig, ToObserver},
        sealed::seal,
        telemetry::{Metric, Report, Samples},
    },
    resident::Resident,
    sandbox,
};

pub(crate) mod samples;
pub(crate) mod socket;

/// An observer that lived for so long is started again soon.
const SETTLED: Duration = Duration::from_secs(60);

/// The longest time between two starts.
const LONGEST: Duration = Duration::from_secs(30);

/// The observer, where there is an admin listener.
pub(crate) struct Observer {
    config: ObserverConfig,
    socket: OwnedFd,
    /// What is left to the guard.
    sandbox: sandbox::Report,
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
    child: Child,
    channel: Sender,
    since: Instant,
    report: Report,
    /// The proxies that it was told of.
    proxies: BTreeSet<u64>,
}

impl Observer {
    /// One that is started as soon as [`Self::is_due`] is asked.
    pub(crate) fn new(config: ObserverConfig, socket: OwnedFd, sandbox: sandbox::Report) -> Self {
        let resident = Resident::open().ok();
        Self { config, socket, sandbox, resident, running: None, deaths: 0, start_at: Instant::now(), restarts: 0 }
    }

    /// Whether one has to be started.
    pub(crate) fn is_due(&self) -> bool {
        self.running.is_none() && Instant::now() >= self.start_at
    }

    /// Starts one, by `spawn`, which is given its channel.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, spawn: impl FnOnce(OwnedFd) -> io::Result<Child>) -> io::Result<()> {
        // Whatever goes wrong, the next try comes later.
        self.start_at = Instant::now() + LONGEST;
        let (ours, theirs) = channel::pair()?;
        let channel = Sender::new(ours);
        let config = seal(&self.config)?;
        channel.try_send_with(&ToObserver::Start, &[config.as_fd(), self.socket.as_fd()])?;
        let child = spawn(theirs)?;
        tracing::info!(pid = child.id(), "the observer is starting");
        let (report, proxies) = (Report::default(), BTreeSet::new());
        self.running = Some(Running { child, channel, since: Instant::now(), report, proxies });
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

    /// Has it deliver something: the socket where it says what became of that.
    ///
    /// # Errors
    /// There is none, or it is busy.
    pub(crate) fn deliver(&self, delivery: &Delivery) -> io::Result<OwnedFd> {
        let missing = || io::Error::new(io::ErrorKind::NotConnected, "the observer is not running");
        let running = self.running.as_ref().ok_or_else(missing)?;
        let (ours, theirs) = channel::pair()?;
        let sealed = seal(delivery)?;
        running.channel.try_send_with(&ToObserver::Deliver, &[sealed.as_fd(), theirs.as_fd()])?;
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
        if let Err(error) = told {
            tracing::debug!(%error, "the observer does not listen");
        }
    }

    /// Goes on with another configuration.
    pub(crate) fn configure(&mut self, config: ObserverConfig) {
        if config == self.config {
            return;
        }
        self.config = config;
        let Some(running) = &self.running else { return };
        let told = seal(&self.config)
            .and_then(|config| running.channel.try_send_with(&ToObserver::Configure, &[config.as_fd()]));
        if let Err(error) = told {
            self.replace(&format!("it could not be told of the new configuration: {error}"));
        }
    }

    /// Ends it, so that another is started.
    pub(crate) fn replace(&mut self, reason: &str) {
        if let Some(running) = &mut self.running {
            tracing::info!(pid = running.child.id(), reason, "the observer is replaced");
            if let Err(error) = running.child.kill() {
                tracing::error!(%error, "the observer cannot be killed");
            }
        }
    }

    /// Buries it once it is dead: how it died.
    pub(crate) fn reap(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        let status = match running.child.try_wait() {
            Ok(status) => status?,
            Err(error) => {
                tracing::error!(%error, "the observer cannot be waited for");
                return None;
            }
        };
        let (pid, since) = (running.child.id(), running.since);
        // It may have sent what nobody reads.
        if let Some(running) = self.running.take() {
            running.channel.close();
        }
        self.deaths = if since.elapsed() >= SETTLED { 0 } else { self.deaths + 1 };
        self.restarts += 1;
        let wait = Duration::from_millis(100) * 2_u32.saturating_pow(self.deaths.min(16));
        self.start_at = Instant::now() + wait.min(LONGEST);
        tracing::error!(pid, %status, "the observer died; requests go on without it");
        Some(format!("pid {pid}: {status}"))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // It has nothing that could be lost, and may be stopped.
        if let Err(error) = running.child.kill().and_then(|()| running.child.wait()) {
            tracing::warn!(%error, "the observer stays");
        }
        running.channel.close();
    }
}
