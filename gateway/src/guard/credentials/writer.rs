//! The thread that the store belongs to: one job after the other, so that nobody in the guard waits for a disk.

use std::{collections::HashSet, os::fd::OwnedFd, path::PathBuf, sync::mpsc, thread};

use serde_json::json;

use super::{
    behind::SeenRecord,
    pepper,
    rows::{self, FILE, RevocationRow},
    steady::Steady,
    store::{self, CredentialError, CredentialStore, Unrecorded},
    work::{ConfiguredCredentials, CredentialCommand, CredentialJob, CredentialWork},
};
use crate::{
    guard::{bans::Refused, control::ControlAnswer},
    message::credentials::{CredentialChange, CredentialWriter, CredentialsHead},
    os::clock::Now,
    policy::auth::{
        api_key::Pepper,
        revocation::{self, Revoked},
    },
};

mod keys;
mod peers;
mod revocations;

/// What is answered to an operator, and what proxies are told.
type CommandResult = Result<(ControlAnswer, Vec<CredentialChange>), CredentialError>;

/// How many jobs may wait. An operator's over that is refused.
const QUEUE: usize = 1_024;

/// The way to the writer.
pub(crate) struct CredentialWriterHandle {
    jobs: mpsc::SyncSender<CredentialJob>,
}

impl CredentialWriterHandle {
    /// Starts the thread, which calls `done` for whatever it has done; `done` says whether anybody still listens.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(
        state_dir: PathBuf,
        done: impl Fn(CredentialWork) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            let mut writer = CredentialWriterState::new(state_dir);
            while let Ok(job) = queue.recv() {
                if !done(writer.work(job)) {
                    return;
                }
            }
        })?;
        Ok(Self { jobs })
    }

    /// Gives it a job. `Err`: too many wait.
    pub(crate) fn ask(&self, job: CredentialJob) -> Result<(), Box<CredentialJob>> {
        self.jobs.try_send(job).map_err(|full| match full {
            mpsc::TrySendError::Full(job) | mpsc::TrySendError::Disconnected(job) => Box::new(job),
        })
    }
}

/// What the file of revocations says that the store could not take.
#[derive(Default)]
struct Unwritten {
    revoked: Vec<Revoked>,
    /// What it does not say is lifted.
    is_whole: bool,
    /// What proxies were told to be revoked by it. What of that it says no longer is lifted once the store can tell whether
    /// anybody else revokes it.
    told: HashSet<Revoked>,
}

/// What the writer keeps.
pub(super) struct CredentialWriterState {
    state_dir: PathBuf,
    /// `None`: it cannot be used at the moment, see `trouble`.
    store: Option<CredentialStore>,
    /// What the configuration asks for.
    wanted: ConfiguredCredentials,
    /// `None`: there are no keys, or `trouble`.
    pepper: Option<Vec<u8>>,
    /// Why it is not known which keys there are, or what is revoked.
    trouble: Option<String>,
    /// What the file of revocations says, while the store does not have it.
    unwritten: Option<Unwritten>,
    /// That file was not read yet.
    awaits_file: bool,
    /// What was found at the start, if the store was lost or damaged.
    findings: Vec<String>,
    /// The other machines of the cluster.
    nodes: Vec<String>,
    /// By which time revocations end.
    steady: Steady,
    /// The last of the newest API keys, which others are told of all the time; `None`: there are no more.
    newest: Option<(u64, u64)>,
    /// The last key of the last page of the others.
    paged: Option<(u64, u64)>,
}

impl CredentialWriterState {
    pub(super) const fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            store: None,
            wanted: ConfiguredCredentials::Nothing,
            pepper: None,
            trouble: None,
            unwritten: None,
            awaits_file: false,
            findings: Vec::new(),
            nodes: Vec::new(),
            steady: Steady::new(),
            newest: None,
            paged: None,
        }
    }

    pub(super) fn work(&mut self, job: CredentialJob) -> CredentialWork {
        let own_at = match &job {
            CredentialJob::Order { now, .. }
            | CredentialJob::Configure { now, .. }
            | CredentialJob::File { now, .. }
            | CredentialJob::Tidy(now, _)
            | CredentialJob::Share { now, .. } => Some(*now),
            CredentialJob::AwaitFile(_)
            | CredentialJob::Used(_)
            | CredentialJob::Recorded(..)
            | CredentialJob::Gather(_)
            | CredentialJob::Peer { .. }
            | CredentialJob::Page(_) => None,
        };
        let mut worked = self.done(job);
        if let Some(Unwritten { told, .. }) = &self.unwritten {
            // The store does not know that the file revokes it.
            worked.changes.retain(|change| !matches!(change, CredentialChange::Lifted(it) if told.contains(it)));
        }
        let own = own_at.filter(|_| !self.nodes.is_empty()).and_then(|now| self.own(&worked.changes, now));
        CredentialWork { own, ..worked }
    }

    fn done(&mut self, job: CredentialJob) -> CredentialWork {
        match job {
            CredentialJob::Order { order, actor, now, to } => self.order(order, &actor, now, to),
            CredentialJob::Configure { wanted, now } => {
                self.wanted = wanted;
                CredentialWork { is_configured: true, ..self.open(now) }
            }
            CredentialJob::AwaitFile(now) => {
                self.awaits_file = true;
                // Proxies that start from now on are handed that they do not know all.
                if self.wanted == ConfiguredCredentials::Nothing { CredentialWork::default() } else { self.gather(now) }
            }
            CredentialJob::File { revoked, is_whole, now } => self.take_file(revoked, is_whole, now),
            CredentialJob::Used(used) => self.settle(|writer| Ok((writer.store()?.note_used(&used)?, Vec::new()))),
            CredentialJob::Recorded(numbers, newest) => {
                self.settle(|writer| Ok((writer.store()?.recorded(&numbers, &newest)?, Vec::new())))
            }
            CredentialJob::Tidy(now, newest) => self.tidy(now, &newest),
            CredentialJob::Gather(now) => self.gather(now),
            CredentialJob::Share { nodes, .. } => {
                self.nodes = nodes;
                CredentialWork::default()
            }
            CredentialJob::Peer { said, now } => self.peer(said, now),
            CredentialJob::Page(now) => self.page(now),
        }
    }

    /// Opens store and pepper, as far as that is possible, and gathers all that proxies are to know.
    fn open(&mut self, now: Now) -> CredentialWork {
        self.trouble = None;
        self.pepper = None;
        if self.wanted == ConfiguredCredentials::Nothing {
            return CredentialWork { warnings: Some(self.warnings()), ..CredentialWork::default() };
        }
        if self.store.is_none() {
            match CredentialStore::open(&self.state_dir, now.unix_seconds()) {
                Ok((store, told)) => {
                    self.findings.extend(told);
                    self.store = Some(store);
                }
                Err(error) => self.trouble = Some(error.to_string()),
            }
        }
        if self.store.is_some() {
            match self.find_pepper() {
                Ok(pepper) => self.pepper = pepper,
                Err(why) => self.trouble = Some(why),
            }
        }
        let changes = self.write_file(now).map_or_else(Vec::new, |worked| worked.changes);
        let records = self.unrecorded();
        CredentialWork { changes, records, is_new: true, ..self.gather(now) }
    }

    fn find_pepper(&self) -> Result<Option<Vec<u8>>, String> {
        let configured = match &self.wanted {
            ConfiguredCredentials::Keys(pepper) => pepper.as_deref(),
            ConfiguredCredentials::Nothing | ConfiguredCredentials::Revocations => return Ok(None),
        };
        let store = self.store.as_ref().ok_or("there is no store")?;
        let told = |error: CredentialError| error.to_string();
        let has_keys = store.has_keys().map_err(told)?;
        let bytes = pepper::read(&self.state_dir, configured, has_keys)?;
        let check = Pepper::new(&bytes).check();
        match store.pepper().map_err(told)? {
            Some(known) if known == check => {}
            Some(_) if has_keys => {
                return Err("the pepper is another one than the keys were made with: put that one back".to_owned());
            }
            _ => store.adopt_pepper(&check).map_err(told)?,
        }
        Ok(Some(bytes))
    }

    /// All that proxies are to know, as a file in memory.
    fn gather(&mut self, now: Now) -> CredentialWork {
        let steady = self.steady.seconds(now);
        let gathered = match self.gathered(now, steady) {
            // The others are as good as before. What it has revoked is in the audit chain.
            Err(error) if error.is_of_a_row() => {
                self.replace_store(&error, now).and_then(|()| self.gathered(now, steady))
            }
            gathered => gathered,
        };
        let whole = match gathered {
            Ok(whole) => Some(whole),
            Err(error) => {
                tracing::error!(%error, "API keys and revocations cannot be handed to the proxy");
                self.trouble.get_or_insert(format!("API keys and revocations cannot be read: {error}"));
                None
            }
        };
        CredentialWork { whole, warnings: Some(self.warnings()), ..CredentialWork::default() }
    }

    fn replace_store(&mut self, because: &CredentialError, now: Now) -> Result<(), CredentialError> {
        self.store = None;
        let (store, told) = CredentialStore::replace(&self.state_dir, because, now.unix_seconds())?;
        tracing::error!("{told}");
        self.findings.push(told);
        self.store = Some(store);
        Ok(())
    }

    fn gathered(&self, now: Now, steady: u64) -> Result<OwnedFd, CredentialError> {
        let why = || self.trouble.clone().unwrap_or_else(|| "there is no [api_keys]".to_owned());
        let pepper = self.pepper.clone().ok_or_else(why);
        let (is_complete, lost_keys) = (self.store.is_some(), !self.findings.is_empty());
        let head = CredentialsHead { pepper, is_complete, awaits_file: self.awaits_file, lost_keys };
        let mut writer = CredentialWriter::begin(&head)?;
        if let Some(store) = &self.store {
            store.each(now.unix_seconds(), steady, |change| writer.add(change))?;
        }
        for revoked in self.unwritten.iter().flat_map(|unwritten| &unwritten.revoked) {
            writer.add(CredentialChange::Revoked(revoked.clone()))?;
        }
        Ok(writer.finish()?)
    }

    fn store(&mut self) -> Result<&mut CredentialStore, CredentialError> {
        let trouble = self.trouble.as_deref().unwrap_or("there are no [api_keys] and no tokens");
        let refused = || Refused::new("store_failed", format!("nothing was changed: {trouble}"));
        self.store.as_mut().ok_or_else(|| refused().into())
    }

    /// Does what an operator asks for.
    fn order(
        &mut self,
        order: CredentialCommand,
        actor: &str,
        now: Now,
        to: tokio::sync::oneshot::Sender<ControlAnswer>,
    ) -> CredentialWork {
        let done = match order {
            CredentialCommand::Make { prefix, name, profile, expires } => {
                self.make(&prefix, name, profile, expires, actor, now)
            }
            CredentialCommand::Rotate { prefix, what, overlap, expires } => {
                self.rotate(&prefix, &what, overlap, expires, actor, now)
            }
            CredentialCommand::RevokeKey { what, reason } => self.revoke_key(&what, &reason, actor, now),
            CredentialCommand::Show { what } => self.show(&what),
            CredentialCommand::List { after } => self.list(after),
            CredentialCommand::Import { keys } => self.import(keys, actor, now),
            CredentialCommand::Revoke { revoked, expires, reason } => self.revoke(revoked, expires, reason, actor, now),
            CredentialCommand::Revocations { after } => self.revocations(after),
            CredentialCommand::Lift { number } => self.lift(number, actor),
        };
        let (answer, changes) = done.unwrap_or_else(|error| (Refused::from(error).into(), Vec::new()));
        CredentialWork { changes, records: self.unrecorded(), answer: Some((answer, to)), ..CredentialWork::default() }
    }

    /// Does what nobody waits for.
    fn settle(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<((), Vec<CredentialChange>), CredentialError>,
    ) -> CredentialWork {
        if self.store.is_none() {
            return CredentialWork::default();
        }
        match work(self) {
            Ok(((), changes)) => CredentialWork { changes, records: self.unrecorded(), ..CredentialWork::default() },
            Err(error) => {
                tracing::error!(%error, "the store of credentials could not be changed");
                CredentialWork::default()
            }
        }
    }

    /// Once a minute: what is over is lifted, and what could not be opened is tried again.
    fn tidy(&mut self, now: Now, newest: &SeenRecord) -> CredentialWork {
        if let Some(before) = self.trouble.clone() {
            let opened = self.open(now);
            if self.trouble.as_ref() != Some(&before) {
                return opened;
            }
            // Proxies know of that trouble already. What the store lifts meanwhile they do not.
            let expired = self.expire(now, newest);
            let changes = opened.changes.into_iter().chain(expired.changes).collect();
            return CredentialWork { changes, warnings: opened.warnings, ..expired };
        }
        if let Some(worked) = self.write_file(now) {
            return worked;
        }
        self.expire(now, newest)
    }

    /// Lifts what is over.
    fn expire(&mut self, now: Now, newest: &SeenRecord) -> CredentialWork {
        let seconds = self.steady.seconds(now);
        self.settle(|writer| {
            let store = writer.store()?;
            store.note_seen(Some(newest))?;
            let lifted = store.expire(seconds)?;
            Ok(((), lifted.into_iter().map(CredentialChange::Lifted).collect()))
        })
    }

    /// What the audit chain is still to have.
    fn unrecorded(&self) -> Vec<Unrecorded> {
        self.store.as_ref().and_then(|store| store.unrecorded().ok()).unwrap_or_default()
    }

    fn warnings(&self) -> Vec<String> {
        let trouble = self.trouble.iter().map(|why| match &self.store {
            Some(_) => format!("requests with an API key get 503: {why}"),
            None => format!(
                "requests with an API key get 503, those with a token as `revocation.unavailable` says, and nothing but \
                 the file of revocations can revoke more: {why}"
            ),
        });
        trouble.chain(self.findings.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests;
