//! Puts files in force that have changed, such as schemas, passwords and secrets: the configuration in force is compiled
//! with them, and takes the way of a reload. Where that fails, everything stays as it was.

use std::{path::PathBuf, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    guard::{
        audit,
        bans::Actor,
        lifecycle::{
            files::named_files::{AsInForce, ChangedFile, FileWatcher},
            reload::{
                BUSY,
                prepare::{PreparedConfig, read},
                reloading::{Reload, ReloadRequest},
            },
            service::{Done, Ready, Service, in_background},
        },
    },
    os::{clock::Now, file::NamedFile},
    settings::proxy,
    snapshot::ContractLoss,
};

/// Documents that have changed take away what those in force protect.
const LOSSES: &str = "asks_for_less";

/// Files cannot be read any more.
const GONE: &str = "gone";

/// What becomes of these.
const STAYS: &str = "what cannot be read any more stays as it was read: put it back, or reload without it";

/// The most files that one record names.
const MOST_NAMED: usize = 20;

impl Service<'_> {
    /// Looks at the files, beside the loop.
    pub(in crate::guard::lifecycle) fn look_at_files(&mut self, beside: &mpsc::Sender<Done>) {
        if self.watched.files.is_coming {
            return;
        }
        let Some(mut watcher) = self.watched.files.watcher.take() else { return };
        let (named, epoch) = (Arc::clone(&self.watched.files.named), self.watched.files.epoch);
        in_background(beside, move || {
            let changed = watcher.poll(&named);
            Done::Files(epoch, watcher, changed)
        });
    }

    /// The files were looked at while the configuration of `epoch` was in force.
    pub(in crate::guard::lifecycle) fn looked_at_files(
        &mut self,
        epoch: u64,
        watcher: FileWatcher,
        changed: Option<Vec<ChangedFile>>,
        prepared: &mpsc::Sender<Ready>,
    ) {
        if epoch != self.watched.files.epoch {
            return;
        }
        self.watched.files.watcher = Some(watcher);
        let Some(changed) = changed else { return };
        // Files that had waited went on their way meanwhile, or another configuration is on its way, which may not name them.
        if self.watched.files.is_coming || self.changes() {
            return self.watched.files.look_again();
        }
        match self.watched.files.found(changed) {
            Some((files, held)) => self.prepare(ReloadRequest { held, ..ReloadRequest::of_files(files) }, prepared),
            None => self.tell_gone(),
        }
    }

    /// Tells of files that cannot be read any more, once it is clear that they are named. One that a `*` names takes nothing away
    /// by being gone for a moment.
    fn tell_gone(&mut self) {
        let gone = self.watched.files.take_gone();
        if !gone.is_empty() {
            self.refuse_files(ReloadRequest::of_files(gone), GONE, STAYS);
        }
    }

    /// Lets a reload wait if changed files are on their way into force, or a proxy is started that nobody has asked for, and
    /// none waits already. Gives back one that does not.
    pub(in crate::guard::lifecycle) fn wait_for_others(&mut self, request: ReloadRequest) -> Option<ReloadRequest> {
        let replaces = self.supervisor.starts() && !self.reloading.is_under_way();
        if !self.watched.files.is_coming && !replaces
            || self.reloading.waiting.is_some()
            || self.ending.reason.is_some()
            || self.ending.upgrade_at.is_some()
            || request.is_of_files()
        {
            return Some(request);
        }
        self.reloading.waiting = Some(request);
        None
    }

    /// Goes on with the reload that has waited.
    pub(in crate::guard::lifecycle) fn reload_next(&mut self, prepared: &mpsc::Sender<Ready>) {
        let may_go_on = self.ending.reason.is_some() || !self.watched.files.is_coming && !self.changes();
        if let Some(request) = self.reloading.waiting.take_if(|_| may_go_on) {
            self.prepare(request, prepared);
        }
    }

    /// Reads the files that have changed, and with them the configuration in force, beside the loop.
    pub(in crate::guard::lifecycle) fn prepare_files(
        &mut self,
        mut request: ReloadRequest,
        prepared: mpsc::Sender<Ready>,
    ) {
        self.watched.files.is_coming = true;
        let path = self.config.document.path().to_owned();
        let held = self.in_force(&request.held);
        let files = AsInForce::new(&self.config.document, &self.config.proxy, held);
        tokio::task::spawn_blocking(move || {
            let (result, digest) = read(&path, &files);
            request.digest = digest;
            request.is_stale = match &result {
                Ok(prepared) => !prepared.named.have(&request.files),
                Err(_) => !request.files.iter().all(ChangedFile::is_same),
            };
            let result = result.map(Box::new).map_err(|errors| errors.to_string());
            if prepared.blocking_send((result, request)).is_err() {
                tracing::debug!("the guard stopped before changed files were read");
            }
        });
    }

    /// A configuration is compiled: documents that have changed beside the gateway may not take away what those in force
    /// protect, as one does that was written half. An operator who reloads is told.
    pub(in crate::guard::lifecycle) fn weigh(
        &mut self,
        prepared: PreparedConfig,
        mut request: ReloadRequest,
        losses: &[ContractLoss],
    ) {
        if losses.is_empty() {
            return self.hand_to_proxy(prepared, request);
        }
        let told: Vec<String> = losses.iter().map(ToString::to_string).collect();
        if !request.is_of_files() {
            request.losses = told;
            return self.hand_to_proxy(prepared, request);
        }
        let held: Vec<PathBuf> = losses.iter().flat_map(|loss| self.changed_of_api(&loss.api, &prepared)).collect();
        let is_held = |file: &ChangedFile| held.contains(&file.path);
        let (held, others): (Vec<_>, Vec<_>) = request.files.iter().cloned().partition(is_held);
        if others.is_empty() || self.reloading.waiting.is_some() {
            let told = told.join("; ");
            let message = format!("{told}; `gateway reload` puts it in force if it is meant");
            return self.refuse_files(request, LOSSES, &message);
        }
        // The next look finds the documents again. Where the others are refused there is none: they are tried then.
        self.watched.files.separate(&held);
        tracing::info!(files = named(&held).join(", "), "documents that ask for less wait, other files do not");
        self.watched.files.is_coming = false;
        let held = held.into_iter().map(|file| file.path).chain(request.held).collect();
        self.reloading.waiting = Some(ReloadRequest { held, ..ReloadRequest::of_files(others) });
    }

    /// What these files hold in force.
    fn in_force(&self, paths: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
        // The bundle has none of what the observer alone knows.
        let secrets: Vec<_> = self.config.observer_secrets().collect();
        let held = |path: &PathBuf| {
            let secret = secrets.iter().find(|secret| secret.path == *path).map(|secret| secret.bytes.to_vec());
            let bundled = || self.supervisor.bundle.files.iter().find(|(known, _)| known == path);
            secret.or_else(|| bundled().map(|(_, bytes)| bytes.clone())).map(|bytes| (path.clone(), bytes))
        };
        paths.iter().filter_map(held).collect()
    }

    /// The files that have changed of what an API is held against.
    fn changed_of_api(&self, api: &str, prepared: &PreparedConfig) -> Vec<PathBuf> {
        let files = |proxy: &proxy::Settings| -> Vec<NamedFile> {
            let document = proxy.apis.iter().filter(|it| it.name == api).map(|it| &it.document);
            document.chain(&proxy.schema_files).cloned().collect()
        };
        let before = files(&self.config.proxy);
        let new = files(&prepared.config.proxy).into_iter();
        new.filter(|file| !before.contains(file)).map(|file| file.path).collect()
    }

    /// Changed files are in force.
    pub(in crate::guard::lifecycle) fn files_in_force(&mut self, reload: &Reload, now: Now) {
        self.watched.files.is_coming = false;
        self.reloading.counts.files += 1;
        let files = named(&reload.request.files);
        tracing::info!(files = files.join(", "), "changed files are in force");
        let members = json!({"actor": Actor::Guard.to_string(), "files": files, "changes": reload.changes});
        self.guard.tell("files", now, audit::members(members));
    }

    /// Changed files do not come into force. Of several, each is tried alone, so that one keeps no other out.
    pub(in crate::guard::lifecycle) fn refuse_files(&mut self, request: ReloadRequest, code: &str, message: &str) {
        self.watched.files.is_coming = false;
        let has_many = request.files.len() > 1 && ![GONE, LOSSES].contains(&code);
        if code == BUSY || has_many && self.reloading.waiting.is_some() {
            return self.watched.files.look_again();
        }
        if has_many {
            self.watched.files.separate(&request.files);
            return self.try_next_file();
        }
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let told: Vec<ChangedFile> =
            request.files.iter().filter(|file| self.watched.files.refused(file, first)).cloned().collect();
        if !told.is_empty() {
            let files = named(&told);
            tracing::error!(
                code,
                error = message,
                files = files.join(", "),
                "changed files cannot be used; those before stay in force"
            );
            let members = json!({"actor": Actor::Guard.to_string(), "files": files, "code": code});
            self.guard.tell("files_refused", Now::read(), audit::members(members));
            self.reloading.counts.files_refused += 1;
        }
        self.try_next_file();
        if self.reloading.waiting.is_none() {
            self.tell_gone();
        }
    }

    /// Tries the next of the files that cannot be used together.
    fn try_next_file(&mut self) {
        if self.reloading.waiting.is_some() {
            return self.watched.files.look_again();
        }
        if let Some((file, held)) = self.watched.files.next_apart() {
            self.reloading.waiting = Some(ReloadRequest { held, ..ReloadRequest::of_files(vec![file]) });
        }
    }

    /// Whether files have changed and are not in force.
    pub(in crate::guard::lifecycle) fn has_unusable_files(&self) -> bool {
        self.watched.files.has_unusable() || self.watched.certificates.unusable.is_some()
    }
}

/// The first of these, by name.
fn named(files: &[ChangedFile]) -> Vec<String> {
    let mut names: Vec<String> = files.iter().take(MOST_NAMED).map(|file| file.path.display().to_string()).collect();
    if files.len() > names.len() {
        names.push(format!("and {} more", files.len() - names.len()));
    }
    names
}
