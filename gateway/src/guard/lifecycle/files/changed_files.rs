//! Puts files in force that have changed, such as schemas, passwords and secrets: the configuration in force is compiled
//! with them, and takes the way of a reload. Where that fails, everything stays as it was.

use std::{path::PathBuf, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    clock::Now,
    file::NamedFile,
    guard::{
        audit,
        bans::Actor,
        lifecycle::{
            files::named_files::{AsInForce, ChangedFiles, FileWatcher},
            reload::{
                BUSY,
                prepare::{Prepared, read},
                reloading::{Reload, ReloadRequest},
            },
            service::{Done, Ready, Service, in_background},
        },
    },
    settings::proxy::Settings,
    snapshot::ContractLoss,
};

/// Documents that have changed take away what those in force protect.
const LOSSES: &str = "asks_for_less";

/// Files cannot be read any more.
const GONE: &str = "gone";

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
        changed: Option<ChangedFiles>,
        prepared: &mpsc::Sender<Ready>,
    ) {
        if epoch != self.watched.files.epoch {
            return;
        }
        self.watched.files.watcher = Some(watcher);
        match changed {
            None => {}
            Some(found) if found.is_empty() => self.watched.files.unusable = None,
            Some(ChangedFiles { changed, gone }) if changed.is_empty() => {
                const STAYS: &str =
                    "what cannot be read any more stays as it was read: put it back, or reload without it";
                self.refuse_files(ReloadRequest::of_files(gone), GONE, STAYS);
            }
            // One that a `*` names takes nothing away by being gone for a moment.
            Some(ChangedFiles { changed, gone }) => {
                self.prepare(ReloadRequest { held: gone, ..ReloadRequest::of_files(changed) }, prepared);
            }
        }
    }

    /// Lets a reload wait if changed files are on their way into force, and none waits already. Gives back one that does not.
    pub(in crate::guard::lifecycle) fn wait_for_files(&mut self, request: ReloadRequest) -> Option<ReloadRequest> {
        if !self.watched.files.is_coming
            || self.reloading.waiting.is_some()
            || self.ending.reason.is_some()
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
        let in_force = self.supervisor.bundle.files.iter();
        let held = in_force.filter(|(path, _)| request.held.contains(path)).cloned().collect();
        let files = AsInForce::new(&self.config.document, &self.config.proxy, held);
        tokio::task::spawn_blocking(move || {
            let (result, digest) = read(&path, &files);
            request.digest = digest;
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
        prepared: Prepared,
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
        let gone = std::mem::take(&mut request.held);
        let (held, others): (Vec<_>, Vec<_>) = request.files.iter().cloned().partition(|file| held.contains(file));
        if others.is_empty() || self.reloading.waiting.is_some() {
            let told = told.join("; ");
            let message = format!("{told}; `gateway reload` puts it in force if it is meant");
            return self.refuse_files(request, LOSSES, &message);
        }
        // The next look finds the documents again, alone.
        tracing::info!(files = named(&held).join(", "), "documents that ask for less wait, other files do not");
        self.watched.files.is_coming = false;
        let held = held.into_iter().chain(gone).collect();
        self.reloading.waiting = Some(ReloadRequest { held, ..ReloadRequest::of_files(others) });
    }

    /// The files that have changed of what an API is held against.
    fn changed_of_api(&self, api: &str, prepared: &Prepared) -> Vec<PathBuf> {
        let files = |proxy: &Settings| -> Vec<NamedFile> {
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

    /// Changed files do not come into force.
    pub(in crate::guard::lifecycle) fn refuse_files(&mut self, request: ReloadRequest, code: &str, message: &str) {
        self.watched.files.is_coming = false;
        if code == BUSY {
            // The next look finds the same.
            self.watched.files.watcher = Some(FileWatcher::default());
            return;
        }
        let files = named(&request.files);
        tracing::error!(
            code,
            error = message,
            files = files.join(", "),
            "changed files cannot be used; those before stay in force"
        );
        let members = json!({"actor": Actor::Guard.to_string(), "files": files, "code": code});
        self.guard.tell("files_refused", Now::read(), audit::members(members));
        self.reloading.counts.files_refused += 1;
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        self.watched.files.unusable = Some(format!("changed files are not in force ({}): {first}", files.join(", ")));
    }

    /// Whether files have changed and are not in force.
    pub(in crate::guard::lifecycle) fn has_unusable_files(&self) -> bool {
        self.watched.files.unusable.is_some() || self.watched.certificates.unusable.is_some()
    }
}

/// The first of these, by name.
fn named(files: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = files.iter().take(MOST_NAMED).map(|path| path.display().to_string()).collect();
    if files.len() > names.len() {
        names.push(format!("and {} more", files.len() - names.len()));
    }
    names
}
