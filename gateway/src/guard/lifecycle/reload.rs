//! Puts a new configuration in force while the guard runs, in two phases: the proxy compiles it while it serves the one
//! before. Then the guard puts its own part in force, and tells the proxy to follow.
//!
//! *Invariant:* guard and proxy are on one configuration. A proxy that has to be started again gets the one in force,
//! whatever it died of; one that does not follow is ended.

pub(in crate::guard::lifecycle) mod compile;
pub(in crate::guard::lifecycle) mod difference;
pub(in crate::guard::lifecycle) mod keeping;
pub(in crate::guard::lifecycle) mod kept;
pub(crate) mod prepare;
pub(in crate::guard::lifecycle) mod reloading;
mod sockets;
pub(in crate::guard::lifecycle) mod upgrade;

use std::{fs::File, io, time::Duration};

use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    config::{Config, Disk},
    guard::{
        audit, bans,
        control::{ControlAnswer, ReloadRefused},
        lifecycle::{
            files::access_log::{may_rotate, opened},
            processes::handover_state::Heir,
            reload::{
                compile::compile_timeout,
                difference::difference,
                prepare::{PreparedConfig, ports, read},
                reloading::{OnDisk, Provenance, Reload, ReloadRequest, ReloadState, Unacknowledged},
                sockets::without,
            },
            service::{Ready, Service, reply},
        },
        processes::proxies::{
            barrier::RETIREMENT,
            supervisor::{NewSockets, STARTED_WITH},
        },
    },
    message::{Bundle, ToProxy},
    os::{
        clock::{self, Now},
        launch::ProgramId,
    },
};

/// Another reload is under way.
pub(in crate::guard::lifecycle) const BUSY: &str = "busy";

/// How long a proxy may take at least to compile a configuration.
const COMPILED_WITHIN: Duration = Duration::from_secs(60);

/// How long a proxy may take to serve a configuration that is in force.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

/// How much is kept of why a reload was refused, in characters.
const LONGEST_REASON: usize = 4_000;

impl Service<'_> {
    /// Reads the configuration beside the loop: the files may be on a slow disk, and names are resolved.
    pub(in crate::guard::lifecycle) fn prepare(&mut self, mut request: ReloadRequest, prepared: &mpsc::Sender<Ready>) {
        if self.changes() || self.ending.upgrade_at.is_some() {
            let Some(request) = self.wait_for_others(request) else { return };
            let message = "another reload is under way, or the gateway stops: try again in a moment".to_owned();
            return self.refuse_reload(request, BUSY, message);
        }
        self.reloading.is_preparing = true;
        self.watched.certificates.renewed_meanwhile.clear();
        if request.is_of_files() {
            return self.prepare_files(request, prepared.clone());
        }
        let (path, prepared) = (self.path.clone(), prepared.clone());
        tokio::task::spawn_blocking(move || {
            let (result, digest) = read(&path, &Disk);
            request.digest = digest;
            let result = result.map(Box::new).map_err(|errors| errors.to_string());
            if prepared.blocking_send((result, request)).is_err() {
                tracing::debug!("the guard stopped before the configuration was read");
            }
        });
    }

    /// Whether configuration or processes are changing already.
    pub(in crate::guard::lifecycle) fn changes(&self) -> bool {
        self.reloading.is_under_way() || self.ending.reason.is_some() || self.supervisor.starts()
    }

    /// A new configuration was read: a process that is thrown away compiles it first.
    pub(in crate::guard::lifecycle) fn prepared(
        &mut self,
        result: Result<Box<PreparedConfig>, String>,
        request: ReloadRequest,
    ) {
        self.reloading.is_preparing = false;
        match result {
            _ if request.is_stale => {
                self.refuse_reload(request, BUSY, "files have changed again meanwhile".to_owned());
            }
            Ok(prepared) => self.compile(prepared, request),
            Err(message) => self.refuse_reload(request, "invalid_configuration", message),
        }
    }

    /// A configuration can be compiled: it comes into force once a proxy has done so.
    pub(in crate::guard::lifecycle) fn hand_to_proxy(&mut self, mut prepared: PreparedConfig, request: ReloadRequest) {
        if self.ending.reason.is_some() {
            return self.refuse_reload(request, BUSY, "the gateway stops".to_owned());
        }
        self.renew_prepared(&mut prepared);
        let judged = fixed(&self.config, &prepared.config)
            .and_then(|()| self.guard.judge_settings(&prepared.config.guard))
            .and_then(|()| may_rotate(&prepared.config, &self.access_log.rotates_in));
        if let Err(refused) = judged {
            return self.refuse_reload(request, refused.code, refused.message);
        }
        if request.dry_run {
            return reply(request.answer, self.foretell(&prepared, &request.losses));
        }
        if self.guard.needs_program(&prepared.config.guard) {
            return match self.reloading.not_loaded.take() {
                // This guard was started for it.
                Some(why) => self.refuse_reload(request, "interface", why),
                None => self.hand_on(request),
            };
        }
        let mut logs = match opened(&self.config, &prepared.config) {
            Ok(logs) => logs,
            Err(refused) => return self.refuse_reload(request, refused.code, refused.message),
        };
        let log_key = self.supervisor.bundle.log_key;
        let prepared = PreparedConfig { bundle: Bundle { log_key, ..prepared.bundle }, ..prepared };
        let sockets = match self.bind_new(&prepared.config) {
            Ok(sockets) => sockets,
            Err(refused) => return self.refuse_reload(request, refused.code, refused.message),
        };
        let added = without(&prepared.config.proxy, &self.config.proxy);
        let (program, on_disk) = match self.supervisor.on_disk() {
            // Nobody asked for another program.
            _ if request.is_of_files() => (None, OnDisk::Same),
            Ok(None) => (None, OnDisk::Same),
            Ok(program) => (program, OnDisk::Used),
            Err(error) => (None, OnDisk::Unused(error)),
        };
        let takes_process = program.is_some() || self.takes_process(&prepared.config);
        self.reloading.last_number += 1;
        let (number, asked) = match takes_process {
            true => (STARTED_WITH, self.start_candidate(program, &prepared, &sockets, &mut logs)),
            false => {
                let logs = logs.as_deref().unwrap_or_default();
                (
                    self.reloading.last_number,
                    self.supervisor.configure(self.reloading.last_number, &prepared.bundle, &sockets, logs),
                )
            }
        };
        let generation = match asked {
            Ok(generation) => generation,
            Err(error) => {
                self.unbind(&added);
                return self.refuse_reload(request, "proxy_failed", error.to_string());
            }
        };
        tracing::info!(reload = self.reloading.last_number, generation, "a proxy compiles the new configuration");
        let until = Instant::now() + compile_timeout(prepared.config.guard.compile).max(COMPILED_WITHIN);
        let state = ReloadState::Compiling { prepared: Box::new(prepared), sockets, logs, until };
        self.reloading.current = Some(Reload {
            number,
            generation,
            state,
            request,
            on_disk,
            added,
            changes: Vec::new(),
            warnings: Vec::new(),
        });
    }

    /// What a reload would do.
    fn foretell(&self, prepared: &PreparedConfig, losses: &[String]) -> ControlAnswer {
        let (old, new) = (self.config.comparable(), prepared.config.comparable());
        let mut changes = difference(&old, &new, &self.supervisor.bundle, &prepared.bundle);
        changes.extend_from_slice(losses);
        if changes.is_empty() {
            return ControlAnswer::Done { message: "a reload would change nothing".to_owned(), changed: 0 };
        }
        let by = if self.takes_process(&prepared.config) { ", by a new proxy process" } else { "" };
        let changes = listed(&changes, &news(&self.warnings, &prepared.warnings));
        let message = format!("nothing has changed; a reload would put in force{by}:{changes}");
        ControlAnswer::Done { message, changed: 0 }
    }

    /// Whether the proxy that serves cannot put a configuration in force in itself.
    fn takes_process(&self, new: &Config) -> bool {
        !self.supervisor.serves() || new.proxy.pin_workers != self.config.proxy.pin_workers
    }

    /// Starts a proxy of another configuration, while one that dies meanwhile is replaced by one of the old.
    fn start_candidate(
        &mut self,
        program: Option<ProgramId>,
        prepared: &PreparedConfig,
        sockets: &NewSockets,
        logs: &mut Option<Vec<File>>,
    ) -> io::Result<u64> {
        let sockets = self.sockets_of(&prepared.config, sockets)?;
        let old = std::mem::replace(&mut self.supervisor.bundle, prepared.bundle.clone());
        let old_sockets = std::mem::replace(&mut self.supervisor.sockets, sockets);
        let old_list = self.supervisor.log_list;
        if let Some(logs) = logs {
            std::mem::swap(&mut self.supervisor.access_logs, logs);
            self.supervisor.log_list = self.reloading.last_number;
        }
        self.fill_bundle();
        let started = self.supervisor.start(program);
        if let Some(logs) = logs {
            std::mem::swap(&mut self.supervisor.access_logs, logs);
            self.supervisor.log_list = old_list;
        }
        (self.supervisor.bundle, self.supervisor.sockets) = (old, old_sockets);
        started
    }

    /// A proxy has compiled a configuration, or cannot. A new one goes on with the rate limits of the one that serves.
    pub(in crate::guard::lifecycle) fn compiled(&mut self, generation: u64, number: u64, compiled: Result<(), String>) {
        let is_new = number == STARTED_WITH && compiled.is_ok() && self.supervisor.is_starting(generation);
        if !(is_new && self.begin_handover(Heir::Proxy(generation))) {
            self.follow_compiled(generation, number, compiled);
        }
    }

    /// What belongs to no reload is the answer of a proxy that was started, or comes too late.
    pub(in crate::guard::lifecycle) fn follow_compiled(
        &mut self,
        generation: u64,
        number: u64,
        compiled: Result<(), String>,
    ) {
        let is_awaited = |reload: &mut Reload| {
            let compiles = matches!(reload.state, ReloadState::Compiling { .. });
            compiles && (reload.generation, reload.number) == (generation, number)
        };
        let Some(reload) = self.reloading.current.take_if(is_awaited) else {
            if number == STARTED_WITH && compiled.is_ok() && self.supervisor.is_starting(generation) {
                self.supervisor.commit(generation, STARTED_WITH);
            }
            return;
        };
        match compiled {
            Ok(()) if self.waits(&reload) => self.reloading.current = Some(reload),
            Ok(()) => self.put_in_force(reload),
            Err(reason) => self.give_up(reload, "refused_by_proxy", &bounded(&reason)),
        }
    }

    /// Whether a configuration that is compiled has to wait for what it asks for first.
    fn waits(&mut self, reload: &Reload) -> bool {
        let ReloadState::Compiling { prepared, .. } = &reload.state else { return false };
        self.waits_for_credentials(&prepared.config, reload.generation, reload.number)
    }

    /// The proxy can serve a configuration: the guard puts its own part in force, then the proxy follows.
    fn put_in_force(&mut self, mut reload: Reload) {
        let ReloadState::Compiling { mut prepared, sockets, logs, .. } =
            std::mem::replace(&mut reload.state, ReloadState::Starting)
        else {
            return;
        };
        // The proxy does the same with those that it was handed while it compiled.
        self.renew_prepared(&mut prepared);
        let PreparedConfig { config, bundle, observer, protected, operators, warnings, named } = *prepared;
        let sockets = match self.sockets_of(&config, &sockets) {
            Ok(sockets) => sockets,
            Err(error) => return self.give_up(reload, "out_of_descriptors", &error.to_string()),
        };
        let now = Now::read();
        let rules = config.proxy.detect.rules.clone();
        let done = self.guard.reconfigure(config.guard.clone(), rules, protected, &ports(&config.proxy), now);
        if let Err(refused) = done {
            return self.give_up(reload, refused.code, &refused.message);
        }
        // What else has changed comes to the proxy before it serves the configuration.
        self.relay();
        self.supervisor.commit(reload.generation, reload.number);
        self.supervisor.kill_others_that_start(reload.generation);
        reload.changes = difference(&self.config.comparable(), &config.comparable(), &self.supervisor.bundle, &bundle);
        for loss in std::mem::take(&mut reload.request.losses) {
            tracing::warn!("{loss}");
            reload.changes.push(loss);
        }
        (self.supervisor.bundle, self.supervisor.sockets) = (bundle, sockets);
        self.supervisor.drain = config.proxy.drain;
        self.keeping.leave(without(&self.config.proxy, &config.proxy));
        self.config = config;
        self.commands.operators = operators;
        reload.warnings = news(&self.warnings, &warnings);
        for warning in &reload.warnings {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        if !reload.request.is_of_files() {
            let (since, by, digest) =
                (now.unix_millis, reload.request.actor.to_string(), reload.request.digest.clone());
            (self.reloading.in_force, self.reloading.refused) = (Provenance { since, by, digest }, None);
            self.reloading.counts.done += 1;
        }
        self.watched.files.renewed(named);
        self.put_observer_in_force(observer, matches!(reload.on_disk, OnDisk::Used));
        // Before the proxy hears that it is in force: a guard after this one then knows it as well.
        self.keep();
        self.guard.detach_others();
        self.watched.certificates.renewed();
        self.reports.upstreams.keep(&self.config.proxy.upstreams);
        self.find_outdated();
        self.look_for_addresses();
        self.configure_credentials();
        self.configure_quotas();
        if let Some(logs) = logs {
            self.supervisor.change_logs(logs, self.reloading.last_number, reload.generation);
            // What was rotated since they were opened.
            self.reopen();
        }
        if reload.request.is_of_files() {
            self.files_in_force(&reload, now);
        } else {
            tracing::info!(changes = ?reload.changes, "a new configuration is in force{}", reload.on_disk.said());
            let Provenance { by, digest, .. } = &self.reloading.in_force;
            let members = json!({"actor": by, "sha256": digest, "changes": reload.changes});
            self.guard.tell("reload", now, audit::members(members));
        }
        if reload.number == STARTED_WITH {
            self.reloading.current = Some(reload);
        } else {
            self.answer_reload(reload, Some(self.reloading()));
        }
    }

    fn reloading(&self) -> u64 {
        self.supervisor.generation().unwrap_or_default()
    }

    /// The new process of a configuration serves it.
    pub(in crate::guard::lifecycle) fn reload_serves(&mut self, generation: u64) {
        self.keep_program();
        let is_it = |reload: &mut Reload| reload.generation == generation;
        if let Some(reload) = self.reloading.current.take_if(is_it) {
            let retiring = self.supervisor.retiring();
            self.answer_reload(reload, retiring);
        }
    }

    /// Answers once `generation` serves the old configuration no more: whoever connects then is served by the new one.
    fn answer_reload(&mut self, reload: Reload, generation: Option<u64>) {
        let changes = listed(&reload.changes, &reload.warnings);
        let message = format!("the new configuration is in force{}{changes}", reload.on_disk.said());
        let done = ControlAnswer::Done { message, changed: 1 };
        let Some(generation) = generation else { return reply(reload.request.answer, done) };
        let barrier = match reload.request.answer {
            Some(to) => self.commands.waiting.hold(generation, Instant::now() + RETIREMENT, done, to),
            None => self.commands.waiting.number(),
        };
        self.supervisor.tell(&ToProxy::Barrier { number: barrier });
        if reload.number != STARTED_WITH {
            let until = Instant::now() + FOLLOWED_WITHIN;
            self.reloading.unacknowledged = Some(Unacknowledged { generation, barrier, until });
        }
    }

    /// A proxy has acknowledged a barrier.
    pub(in crate::guard::lifecycle) fn acknowledged(&mut self, generation: u64, number: u64) {
        self.commands.waiting.acknowledged(generation, number);
        self.credentials_confirmed(generation, number);
        let is_it = |it: &mut Unacknowledged| it.generation == generation && it.barrier <= number;
        if self.reloading.unacknowledged.as_mut().is_some_and(is_it) {
            self.reloading.unacknowledged = None;
        }
    }

    /// Gives a reload up whose time is over, and ends a proxy that does not follow.
    pub(in crate::guard::lifecycle) fn check_reload(&mut self) {
        let now = Instant::now();
        let is_late =
            |reload: &mut Reload| matches!(reload.state, ReloadState::Compiling { until, .. } if until <= now);
        if let Some(reload) = self.reloading.current.take_if(is_late) {
            self.give_up(reload, "proxy_failed", "the proxy has not compiled it in time");
        }
        if let Some(late) = self.reloading.unacknowledged.take_if(|it| it.until <= now) {
            self.supervisor.kill(late.generation, "it does not serve the configuration that is in force");
        }
    }

    /// A proxy is gone, and with it the reload that waits for it. `false`: none does.
    pub(in crate::guard::lifecycle) fn fail_reload(&mut self, generation: u64, how: &str) -> bool {
        if self.reloading.unacknowledged.as_ref().is_some_and(|it| it.generation == generation) {
            self.reloading.unacknowledged = None;
        }
        let Some(reload) = self.reloading.current.take_if(|reload| reload.generation == generation) else {
            return false;
        };
        match reload.state {
            ReloadState::Compiling { .. } => self.give_up(reload, "proxy_failed", how),
            ReloadState::Starting => {
                let hint = reload.on_disk.hint();
                let message = format!("the new configuration is in force, but its proxy died: {how}{hint}");
                tracing::error!("{message}; another is started");
                reply(reload.request.answer, ControlAnswer::Done { message, changed: 1 });
            }
        }
        true
    }

    /// Nothing of a reload comes into force.
    fn give_up(&mut self, reload: Reload, code: &str, why: &str) {
        if reload.number == STARTED_WITH {
            self.supervisor.kill(reload.generation, "its configuration does not come into force");
        } else {
            self.supervisor.abort(reload.generation, reload.number);
        }
        self.unbind(&reload.added);
        self.give_up_credentials();
        let message = format!("the configuration stays as it was: {why}{}", reload.on_disk.hint());
        self.refuse_reload(reload.request, code, message);
    }

    pub(in crate::guard::lifecycle) fn refuse_reload(&mut self, request: ReloadRequest, code: &str, message: String) {
        if request.is_of_files() {
            return self.refuse_files(request, code, &message);
        }
        let ReloadRequest { actor, answer, dry_run, digest, .. } = request;
        let by = actor.to_string();
        if !dry_run {
            tracing::error!(code, error = message, "the configuration was not reloaded");
            let members = audit::members(json!({"actor": by, "sha256": digest, "code": code}));
            let now = Now::read();
            self.guard.tell("reload_refused", now, members);
            // The file was not even looked at.
            if code != BUSY {
                self.reloading.counts.refused += 1;
                let (at, code) = (clock::rfc3339(now.unix_millis), code.to_owned());
                let reason = message.chars().take(LONGEST_REASON).collect();
                self.reloading.refused = Some(ReloadRefused { at, code, reason, by, digest });
            }
        }
        reply(answer, ControlAnswer::Refused { code: code.to_owned(), message });
    }
}

/// Warnings that were not there before.
fn news(before: &[String], warnings: &[String]) -> Vec<String> {
    warnings.iter().filter(|warning| !before.contains(warning)).cloned().collect()
}

/// Lines of an answer.
fn listed(changes: &[String], warnings: &[String]) -> String {
    let changes = changes.iter().map(|change| format!("\n  {change}"));
    changes.chain(warnings.iter().map(|warning| format!("\n  WARNING: {warning}"))).collect()
}

/// What a proxy says, as it is shown.
fn bounded(reason: &str) -> String {
    let is_shown = |letter: &char| !letter.is_control() || *letter == '\n';
    reason.chars().filter(is_shown).take(LONGEST_REASON).collect()
}

/// What an operator should know of a reload that was refused.
pub(in crate::guard::lifecycle) fn warning(refused: &ReloadRefused, in_force_since: &str) -> String {
    let ReloadRefused { at, code, reason, .. } = refused;
    let first = reason.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("the reload at {at} was refused ({code}): {first}; in force is the configuration of {in_force_since}")
}

/// What of the proxy's part cannot change while the guard runs.
fn fixed(old: &Config, new: &Config) -> Result<(), bans::Refused> {
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen.clone());
    let user = |config: &Config| config.admin.as_ref().and_then(|admin| admin.user.clone());
    let changed = [
        ("admin.address or admin.socket", admin(old) != admin(new)),
        ("admin.user", user(old) != user(new)),
        ("proxy.workers", old.proxy.workers != new.proxy.workers),
        ("proxy.user", old.proxy.user != new.proxy.user),
    ];
    let keys: Vec<&str> = changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!("{} cannot change while the guard runs: restart it (bans stay in force)", keys.join(", "));
    Err(bans::Refused::new("needs_restart", message))
}
