//! Keeps an observer running and tells it how things are, once a second.

use std::io;

use serde_json::json;

use crate::{
    guard::{
        audit,
        lifecycle::service::Service,
        processes::{
            launcher::Living,
            observer::{
                self,
                samples::{Reloads, add_denied_in_shadow, samples},
            },
        },
    },
    message::{
        ToProxy,
        observer::{
            ObserverConfig,
            anomalies::{Contributors, Deviations},
        },
        telemetry::Metric,
    },
    os::{
        clock::Now,
        launch::{End, ProcessRole},
    },
    settings,
};

impl Service<'_> {
    /// Takes over the processes of earlier guards, as far as they are the same program.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(in crate::guard::lifecycle) fn take_over(&mut self, living: Vec<Living>) -> io::Result<()> {
        let (proxies, others): (Vec<_>, Vec<_>) =
            living.into_iter().partition(|living| living.role == ProcessRole::Proxy);
        self.supervisor.take_over(proxies)?;
        for Living { role, pid, program, channel, .. } in others {
            let is_same = role == ProcessRole::Observer && self.supervisor.programs().proxies == program;
            let adopted = match (&mut self.observer, channel) {
                (Some(observer), Some(channel)) if is_same && observer.pid().is_none() => observer.adopt(pid, channel),
                _ => Err(io::Error::other("it is of no use to this guard")),
            };
            if let Err(error) = adopted {
                tracing::info!(pid, role = role.name(), %error, "a process of the guard before is ended");
                self.supervisor.launcher.end(pid, End::Kill);
            }
        }
        Ok(())
    }

    /// Starts the observer where it is due, makes it known to the proxies, and tells it what the guard measures.
    pub(in crate::guard::lifecycle) fn tick_observer(&mut self) {
        let Some(observer) = &mut self.observer else { return };
        if observer.is_due()
            && let Err(error) = observer.start(|channel| self.supervisor.start_observer(&channel))
        {
            tracing::error!(%error, "no observer can be started; trying again");
        }
        if observer.pid().is_none() {
            return;
        }
        self.commands.relayed.iter().for_each(|calls| observer.relay(calls));
        self.commands.findings.iter().for_each(|findings| observer.hear(findings));
        observer.follow(&self.guard.watchers());
        for (generation, socket) in observer.introduce(&self.supervisor.generations()) {
            self.supervisor.hand(generation, ToProxy::Telemetry, socket);
        }
        let now = Now::read();
        let status = self.guard.status(self.processes(), now);
        let reloads = Reloads { has_unusable_files: self.has_unusable_files(), ..self.reloading.counts };
        let mut samples = samples(&status, reloads, now.unix_seconds(), self.reloading.in_force.since / 1_000);
        add_denied_in_shadow(&mut samples, &self.guard.denied_in_shadow().collect::<Vec<_>>());
        for (signal, route, clients) in self.guard.failing_together(now) {
            samples.level(Metric::GoodClientsFail, &[signal, &route], clients);
        }
        for (action, result, count) in self.guard.anomaly_actions() {
            samples.count(Metric::AnomalyActions, &[action, result], count);
        }
        let slowed = self.guard.slowed_in_force().len();
        samples.level(Metric::Slowed, &[], u64::try_from(slowed).unwrap_or(u64::MAX));
        samples.count(Metric::Repairs, &[], self.guard.repairs());
        if self.supervisor.quotas.is_needed() {
            samples.is(Metric::QuotaStoreUp, &[], self.quotas.is_open);
            samples.count(Metric::QuotaStoreFailures, &[], self.quotas.failures);
            samples.count(Metric::QuotaDropped, &[], self.supervisor.quotas.dropped());
        }
        if let Some(observer) = &mut self.observer {
            observer.tell(samples);
            if let Some(pid) = observer.pid().filter(|_| observer.stands_still()) {
                tracing::error!(pid, "the observer is ended: it has come to a standstill");
                self.supervisor.launcher.end(pid, End::Kill);
            }
        }
    }

    /// The observer says what is not usual: proxies are asked from whom it comes.
    pub(in crate::guard::lifecycle) fn hear_deviations(&mut self, deviations: Deviations) {
        let deviations = self.guard.hear_deviations(deviations, Now::read());
        self.supervisor.tell(&ToProxy::Deviations(deviations));
    }

    /// A proxy says from whom it comes: what is to be done is done, and the observer is told.
    pub(in crate::guard::lifecycle) fn hear_contributors(&mut self, told: &Contributors) {
        if let Some(shown) = self.guard.hear_contributors(told, Now::read())
            && let Some(observer) = &self.observer
        {
            observer.tell_contributors(shown);
        }
    }

    pub(in crate::guard::lifecycle) fn is_observer(&self, pid: u32) -> bool {
        self.observer.as_ref().and_then(observer::Observer::pid) == Some(pid)
    }

    pub(in crate::guard::lifecycle) fn observer_exited(&mut self, status: i32) {
        if let Some(how) = self.observer.as_mut().and_then(|observer| observer.bury(status)) {
            self.keep_again();
            self.guard.tell("observer_restart", Now::read(), audit::members(json!({"how": how})));
        }
    }

    /// Another configuration is in force; with `is_new_program` the proxies are another program, which the observer has to
    /// understand.
    pub(in crate::guard::lifecycle) fn put_observer_in_force(
        &mut self,
        config: Option<ObserverConfig>,
        is_new_program: bool,
    ) {
        let (Some(observer), Some(config)) = (&mut self.observer, config) else { return };
        let is_told = observer.configure(config);
        let pid = if is_new_program || !is_told { observer.retire() } else { None };
        if let Some(pid) = pid {
            tracing::info!(pid, "the observer is replaced");
            self.supervisor.launcher.end(pid, End::Kill);
        }
    }

    /// Where the admin listener is.
    pub(in crate::guard::lifecycle) fn admin(&self) -> Option<String> {
        self.config.admin.as_ref().map(settings::admin::Settings::place)
    }
}
