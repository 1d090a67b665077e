//! Puts a new configuration in force while the guard runs: read beside the loop, served by a new proxy, and only then
//! the guard's own.

use std::io;

use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    access_log::open_logs,
    prepare::{Prepared, ports, prepare},
    service::{OnDisk, Ready, Reload, Service, reply},
};
use crate::{
    clock::{self, Now},
    config::Config,
    guard::{
        audit,
        bans::{self, Actor},
        control::{Answer, ReloadRefused},
        proxies::barrier::RETIREMENT,
    },
    message::ToProxy,
    settings::access_log::Output,
};

/// Another reload is under way.
const BUSY: &str = "busy";

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
        if let Err(refused) = fixed.and_then(|()| writable(&self.config, &prepared.config)) {
            return self.refuse_reload(&actor, answer, refused.code, refused.message);
        }
        let old = std::mem::replace(&mut self.supervisor.bundle, prepared.bundle.clone());
        self.fill_bundle();
        let (program, on_disk) = match self.supervisor.on_disk() {
            Ok(None) => (None, OnDisk::Same),
            Ok(program) => (program, OnDisk::Used),
            Err(error) => (None, OnDisk::Unused(error)),
        };
        if let Err(error) = self.supervisor.start(program) {
            self.supervisor.bundle = old;
            return self.refuse_reload(&actor, answer, "proxy_failed", error.to_string());
        }
        // Until the new proxy is ready, one that has to be started again gets the old configuration.
        let new = std::mem::replace(&mut self.supervisor.bundle, old);
        self.reload = Some(Reload { prepared: Prepared { bundle: new, ..prepared }, actor, answer, on_disk });
    }

    /// The proxy of a new configuration is ready: now the guard's part follows.
    pub(super) fn put_in_force(&mut self) {
        let Some(Reload { prepared, actor, answer, on_disk }) = self.reload.take() else { return };
        let program = on_disk.said();
        let Prepared { config, bundle, observer, protected, operators, warnings } = prepared;
        let now = Now::read();
        let rules = config.proxy.detect.rules.clone();
        let done = self.guard.reconfigure(config.guard.clone(), rules, protected, &ports(&config.proxy), now);
        if let Err(refused) = done {
            let message = format!("the proxy has the new configuration, the guard the old one: {}", refused.message);
            self.warnings = vec![message.clone()];
            return self.refuse_reload(&actor, answer, refused.code, message);
        }
        let log = !opens_the_same(&config, &self.config);
        self.supervisor.bundle = bundle;
        self.supervisor.drain = config.proxy.drain;
        self.config = config;
        self.operators = operators;
        self.warnings = warnings;
        (self.config_since, self.reload_refused) = (now.unix_millis, None);
        self.reloads.done += 1;
        self.put_observer_in_force(observer, matches!(on_disk, OnDisk::Used));
        self.certificates.renewed();
        self.find_outdated();
        if log {
            self.reopen();
        }
        tracing::info!("a new configuration is in force{program}");
        self.guard.tell("reload", now, audit::members(json!({"actor": actor.to_string()})));
        let done = Answer::Done { message: format!("the new configuration is in force{program}"), changed: 1 };
        match (self.supervisor.retiring(), answer) {
            // Whoever connects once the client has the answer is served by the new configuration.
            (Some(generation), Some(to)) => {
                let number = self.waiting.hold(generation, Instant::now() + RETIREMENT, done, to);
                self.supervisor.tell(&ToProxy::Barrier { number });
            }
            (_, answer) => reply(answer, done),
        }
    }

    /// The proxy of a new configuration never gets ready. `false`: there is no such configuration.
    pub(super) fn fail_reload(&mut self, how: &str) -> bool {
        let Some(reload) = self.reload.take() else { return false };
        let message = format!("the configuration stays as it was: {how}{}", reload.on_disk.hint());
        self.refuse_reload(&reload.actor, reload.answer, "proxy_failed", message);
        true
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

/// What an operator should know of a reload that was refused.
pub(super) fn warning(refused: &ReloadRefused, in_force_since: &str) -> String {
    let ReloadRefused { at, code, reason } = refused;
    let first = reason.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("the reload at {at} was refused ({code}): {first}; in force is the configuration of {in_force_since}")
}

/// What of the proxy's part cannot change while the guard runs: sockets are bound once, with rights that are gone.
fn fixed(old: &Config, new: &Config) -> Result<(), bans::Refused> {
    let addresses =
        |config: &Config| config.proxy.listeners.iter().map(|listener| listener.address).collect::<Vec<_>>();
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen.clone());
    let changed = [
        ("listener.address", addresses(old) != addresses(new)),
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

/// A new access log is tried before anything comes into force: the guard may write only where it could tell at its
/// start that it would.
fn writable(old: &Config, new: &Config) -> Result<(), bans::Refused> {
    if opens_the_same(old, new) {
        return Ok(());
    }
    let Err(error) = open_logs(&new.proxy.access_log) else { return Ok(()) };
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let hint = match denied.map(io::Error::kind).any(|kind| kind == io::ErrorKind::PermissionDenied) {
        true => ": the running gateway writes in the folders that it was started with: restart it (bans stay in force)",
        false => "",
    };
    Err(bans::Refused::new("access_log", format!("{error:#}{hint}")))
}
