//! Puts a new configuration in force while the guard runs, in two phases: the proxy compiles it while it serves the one
//! before. Then the guard puts its own part in force, and tells the proxy to follow.
//!
//! *Invariant:* guard and proxy are on one configuration. A proxy that has to be started again gets the one in force,
//! whatever it died of; one that does not follow is ended.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    access_log::open_logs,
    difference::difference,
    prepare::{Prepared, ports, prepare},
    service::{OnDisk, Ready, Reload, ReloadState, Service, Unacknowledged, reply},
};
use crate::{
    clock::{self, Now},
    config::Config,
    guard::{
        audit,
        bans::{self, Actor},
        control::{Answer, ReloadRefused},
        proxies::{
            barrier::RETIREMENT,
            listeners,
            program::Program,
            supervisor::{NewSockets, STARTED_WITH},
        },
    },
    message::{Bundle, ToProxy},
    settings::{access_log::Output, listener::Listener},
};

/// Another reload is under way.
const BUSY: &str = "busy";

/// How long a proxy may take to compile a configuration.
const COMPILED_WITHIN: Duration = Duration::from_secs(60);

/// How long a proxy may take to serve a configuration that is in force.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

/// How much is kept of why a reload was refused, in characters.
const LONGEST_REASON: usize = 4_000;

impl Service<'_> {
    /// Reads the configuration beside the loop: compiling it and resolving names takes its time.
    pub(super) fn prepare(
        &mut self,
        actor: Actor,
        answer: Option<oneshot::Sender<Answer>>,
        prepared: &mpsc::Sender<Ready>,
    ) {
        if self.preparing || self.reload.is_some() || self.stopping.is_some() || self.supervisor.starts() {
            let message = "a proxy is starting or stopping: try again in a moment".to_owned();
            return self.refuse_reload(&actor, answer, BUSY, message);
        }
        self.preparing = true;
        let (path, prepared) = (self.path.clone(), prepared.clone());
        tokio::task::spawn_blocking(move || {
            let result = prepare(&path).map(Box::new).map_err(|errors| errors.to_string());
            if prepared.blocking_send((result, actor, answer)).is_err() {
                tracing::debug!("the guard stopped before the configuration was read");
            }
        });
    }

    /// A new configuration was read: it comes into force with the proxy that it starts.
    pub(super) fn prepared(
        &mut self,
        result: Result<Box<Prepared>, String>,
        actor: Actor,
        answer: Option<oneshot::Sender<Answer>>,
    ) {
        self.preparing = false;
        let prepared = match result {
            Ok(prepared) => *prepared,
            Err(message) => return self.refuse_reload(&actor, answer, "invalid_configuration", message),
        };
        let fixed = fixed(&self.config, &prepared.config);
        let fixed = fixed.and_then(|()| self.guard.judge_settings(&prepared.config.guard));
        let mut logs = match fixed.and_then(|()| opened(&self.config, &prepared.config, &self.rotates_in)) {
            Ok(logs) => logs,
            Err(refused) => return self.refuse_reload(&actor, answer, refused.code, refused.message),
        };
        let log_key = self.supervisor.bundle.log_key;
        let prepared = Prepared { bundle: Bundle { log_key, ..prepared.bundle }, ..prepared };
        let sockets = match self.bind_new(&prepared.config) {
            Ok(sockets) => sockets,
            Err(refused) => return self.refuse_reload(&actor, answer, refused.code, refused.message),
        };
        let (program, on_disk) = match self.supervisor.on_disk() {
            Ok(None) => (None, OnDisk::Same),
            Ok(program) => (program, OnDisk::Used),
            Err(error) => (None, OnDisk::Unused(error)),
        };
        let takes_process = program.is_some()
            || !self.supervisor.serves()
            || prepared.config.proxy.access_log != self.config.proxy.access_log
            || prepared.config.proxy.pin_workers != self.config.proxy.pin_workers;
        self.last_reload += 1;
        let (number, asked) = match takes_process {
            true => (STARTED_WITH, self.start_candidate(program, &prepared, &sockets, &mut logs)),
            false => (self.last_reload, self.supervisor.configure(self.last_reload, &prepared.bundle, &sockets)),
        };
        let generation = match asked {
            Ok(generation) => generation,
            Err(error) => return self.refuse_reload(&actor, answer, "proxy_failed", error.to_string()),
        };
        tracing::info!(reload = self.last_reload, generation, "a proxy compiles the new configuration");
        let until = Instant::now() + COMPILED_WITHIN;
        let state = ReloadState::Compiling { prepared: Box::new(prepared), sockets, logs, until };
        self.reload = Some(Reload { number, generation, state, actor, answer, on_disk, changes: Vec::new() });
    }

    /// Starts a proxy of another configuration, while one that dies meanwhile is replaced by one of the old.
    fn start_candidate(
        &mut self,
        program: Option<Program>,
        prepared: &Prepared,
        sockets: &NewSockets,
        logs: &mut Option<Vec<File>>,
    ) -> io::Result<u64> {
        let sockets = self.sockets_of(&prepared.config, sockets)?;
        let old = std::mem::replace(&mut self.supervisor.bundle, prepared.bundle.clone());
        let old_sockets = std::mem::replace(&mut self.supervisor.sockets, sockets);
        let old_list = self.supervisor.log_list;
        if let Some(logs) = logs {
            std::mem::swap(&mut self.supervisor.access_logs, logs);
            self.supervisor.log_list = self.last_reload;
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

    /// Binds listeners that are new.
    fn bind_new(&self, new: &Config) -> Result<NewSockets, bans::Refused> {
        let known = |address| self.config.proxy.listeners.iter().any(|listener| listener.address == address);
        let bind = |listener: &Listener| {
            let is_new = !known(listener.address);
            is_new.then(|| listeners::bind(listener.address, new.proxy.workers, Duration::ZERO)).transpose()
        };
        let bound: Result<_, _> = new.proxy.listeners.iter().map(bind).collect();
        bound.map_err(|error| {
            // The right is gone since the start.
            let denied = "the running gateway may not bind new listeners: restart it (bans stay in force)";
            match error.is_denied() {
                true => bans::Refused::new("needs_restart", format!("{error}; {denied}")),
                false => bans::Refused::new("listener", error.to_string()),
            }
        })
    }

    /// The sockets of all listeners of a configuration, in its order.
    fn sockets_of(&self, config: &Config, new: &NewSockets) -> io::Result<Vec<Vec<OwnedFd>>> {
        let all = config.proxy.listeners.iter().zip(new).map(|(listener, new)| {
            let known = self.config.proxy.listeners.iter().position(|known| known.address == listener.address);
            let known = known.and_then(|known| self.supervisor.sockets.get(known));
            let sockets = new.as_ref().or(known).into_iter().flatten();
            sockets.map(|socket| socket.as_fd().try_clone_to_owned()).collect()
        });
        all.collect()
    }

    /// A proxy has compiled a configuration, or cannot. What belongs to no reload is the answer of one that was started,
    /// or comes too late.
    pub(super) fn compiled(&mut self, generation: u64, number: u64, compiled: Result<(), String>) {
        let is_awaited = |reload: &mut Reload| {
            let compiles = matches!(reload.state, ReloadState::Compiling { .. });
            compiles && (reload.generation, reload.number) == (generation, number)
        };
        let Some(reload) = self.reload.take_if(is_awaited) else {
            if number == STARTED_WITH && compiled.is_ok() && self.supervisor.is_starting(generation) {
                self.supervisor.commit(generation, STARTED_WITH);
            }
            return;
        };
        match compiled {
            Ok(()) => self.put_in_force(reload),
            Err(reason) => self.give_up(reload, "refused_by_proxy", &bounded(&reason)),
        }
    }

    /// The proxy can serve a configuration: the guard puts its own part in force, then the proxy follows.
    fn put_in_force(&mut self, mut reload: Reload) {
        let ReloadState::Compiling { prepared, sockets, logs, .. } =
            std::mem::replace(&mut reload.state, ReloadState::Starting)
        else {
            return;
        };
        let Prepared { config, bundle, observer, protected, operators, warnings } = *prepared;
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
        (self.supervisor.bundle, self.supervisor.sockets) = (bundle, sockets);
        self.supervisor.drain = config.proxy.drain;
        self.config = config;
        self.operators = operators;
        self.warnings = warnings;
        (self.config_since, self.reload_refused) = (now.unix_millis, None);
        self.reloads.done += 1;
        self.put_observer_in_force(observer, matches!(reload.on_disk, OnDisk::Used));
        self.certificates.renewed();
        self.upstreams.keep(&self.config.proxy.upstreams);
        self.find_outdated();
        self.look_for_addresses();
        if let Some(logs) = logs {
            (self.supervisor.access_logs, self.supervisor.log_list) = (logs, self.last_reload);
            // What was rotated since they were opened.
            self.reopen();
        }
        tracing::info!(changes = ?reload.changes, "a new configuration is in force{}", reload.on_disk.said());
        let members = json!({"actor": reload.actor.to_string(), "changes": reload.changes});
        self.guard.tell("reload", now, audit::members(members));
        if reload.number == STARTED_WITH {
            self.reload = Some(reload);
        } else {
            self.answer_reload(reload, Some(self.reloading()));
        }
    }

    fn reloading(&self) -> u64 {
        self.supervisor.generation().unwrap_or_default()
    }

    /// The new process of a configuration serves it.
    pub(super) fn reload_serves(&mut self, generation: u64) {
        let is_it = |reload: &mut Reload| reload.generation == generation;
        if let Some(reload) = self.reload.take_if(is_it) {
            let retiring = self.supervisor.retiring();
            self.answer_reload(reload, retiring);
        }
    }

    /// Answers once `generation` serves the old configuration no more: whoever connects then is served by the new one.
    fn answer_reload(&mut self, reload: Reload, generation: Option<u64>) {
        let changes: String = reload.changes.iter().map(|change| format!("\n  {change}")).collect();
        let message = format!("the new configuration is in force{}{changes}", reload.on_disk.said());
        let done = Answer::Done { message, changed: 1 };
        let Some(generation) = generation else { return reply(reload.answer, done) };
        let barrier = match reload.answer {
            Some(to) => self.waiting.hold(generation, Instant::now() + RETIREMENT, done, to),
            None => self.waiting.number(),
        };
        self.supervisor.tell(&ToProxy::Barrier { number: barrier });
        if reload.number != STARTED_WITH {
            let until = Instant::now() + FOLLOWED_WITHIN;
            self.unacknowledged = Some(Unacknowledged { generation, barrier, until });
        }
    }

    /// A proxy has acknowledged a barrier.
    pub(super) fn acknowledged(&mut self, generation: u64, number: u64) {
        self.waiting.acknowledged(generation, number);
        let is_it = |it: &mut Unacknowledged| it.generation == generation && it.barrier <= number;
        if self.unacknowledged.as_mut().is_some_and(is_it) {
            self.unacknowledged = None;
        }
    }

    /// Gives a reload up whose time is over, and ends a proxy that does not follow.
    pub(super) fn check_reload(&mut self) {
        let now = Instant::now();
        let is_late =
            |reload: &mut Reload| matches!(reload.state, ReloadState::Compiling { until, .. } if until <= now);
        if let Some(reload) = self.reload.take_if(is_late) {
            let message = format!("the proxy has not compiled it within {} s", COMPILED_WITHIN.as_secs());
            self.give_up(reload, "proxy_failed", &message);
        }
        if let Some(late) = self.unacknowledged.take_if(|it| it.until <= now) {
            self.supervisor.kill(late.generation, "it does not serve the configuration that is in force");
        }
    }

    /// A proxy is gone, and with it the reload that waits for it. `false`: none does.
    pub(super) fn fail_reload(&mut self, generation: u64, how: &str) -> bool {
        if self.unacknowledged.as_ref().is_some_and(|it| it.generation == generation) {
            self.unacknowledged = None;
        }
        let Some(reload) = self.reload.take_if(|reload| reload.generation == generation) else { return false };
        match reload.state {
            ReloadState::Compiling { .. } => self.give_up(reload, "proxy_failed", how),
            ReloadState::Starting => {
                let hint = reload.on_disk.hint();
                let message = format!("the new configuration is in force, but its proxy died: {how}{hint}");
                tracing::error!("{message}; another is started");
                reply(reload.answer, Answer::Done { message, changed: 1 });
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
        let message = format!("the configuration stays as it was: {why}{}", reload.on_disk.hint());
        self.refuse_reload(&reload.actor, reload.answer, code, message);
    }

    fn refuse_reload(&mut self, actor: &Actor, answer: Option<oneshot::Sender<Answer>>, code: &str, message: String) {
        tracing::error!(code, error = message, "the configuration was not reloaded");
        let members = audit::members(json!({"actor": actor.to_string(), "code": code}));
        let now = Now::read();
        self.guard.tell("reload_refused", now, members);
        // The file was not even looked at.
        if code != BUSY {
            self.reloads.refused += 1;
            let reason = message.chars().take(LONGEST_REASON).collect();
            self.reload_refused =
                Some(ReloadRefused { at: clock::rfc3339(now.unix_millis), code: code.to_owned(), reason });
        }
        reply(answer, Answer::Refused { code: code.to_owned(), message });
    }
}

/// What a proxy says, as it is shown.
fn bounded(reason: &str) -> String {
    let is_shown = |letter: &char| !letter.is_control() || *letter == '\n';
    reason.chars().filter(is_shown).take(LONGEST_REASON).collect()
}

/// What an operator should know of a reload that was refused.
pub(super) fn warning(refused: &ReloadRefused, in_force_since: &str) -> String {
    let ReloadRefused { at, code, reason } = refused;
    let first = reason.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("the reload at {at} was refused ({code}): {first}; in force is the configuration of {in_force_since}")
}

/// What of the proxy's part cannot change while the guard runs.
fn fixed(old: &Config, new: &Config) -> Result<(), bans::Refused> {
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen.clone());
    let changed = [
        ("admin.address or admin.socket", admin(old) != admin(new)),
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

/// Whether the guard opens the same outputs of the access log for the proxy.
fn opens_the_same(old: &Config, new: &Config) -> bool {
    let opened = |config: &Config| {
        let outputs = config.proxy.access_log.outputs.iter().filter(|output| output.is_opened());
        outputs.map(Output::describe).collect::<Vec<_>>()
    };
    opened(old) == opened(new)
}

/// The files of a new access log, opened before anything comes into force; `None`: they are the same. The guard may
/// write only where it could tell at its start that it would.
fn opened(old: &Config, new: &Config, rotates_in: &BTreeSet<PathBuf>) -> Result<Option<Vec<File>>, bans::Refused> {
    let denied = new.proxy.access_log.files().find(|file| {
        let is_granted = file.path.parent().is_some_and(|folder| rotates_in.contains(folder));
        file.rotate.is_some() && !is_granted
    });
    if let Some(file) = denied {
        let message = format!(
            "{} cannot be rotated: the running gateway removes files in the folders alone that it was started with: \
             restart it (bans stay in force), or write `rotate = false`",
            file.path.display()
        );
        return Err(bans::Refused::new("access_log", message));
    }
    if opens_the_same(old, new) {
        return Ok(None);
    }
    let error = match open_logs(&new.proxy.access_log) {
        Ok(logs) => return Ok(Some(logs)),
        Err(error) => error,
    };
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let hint = match denied.map(io::Error::kind).any(|kind| kind == io::ErrorKind::PermissionDenied) {
        true => ": the running gateway writes in the folders that it was started with: restart it (bans stay in force)",
        false => "",
    };
    Err(bans::Refused::new("access_log", format!("{error:#}{hint}")))
}
