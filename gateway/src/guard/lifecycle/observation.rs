//! Keeps an observer running and tells it how things are, once a second.

use serde_json::json;

use super::service::Service;
use crate::{
    clock::Now,
    guard::{audit, observer::samples::samples},
    message::{ToProxy, observer::ObserverConfig},
    settings::admin::Listen,
};

impl Service<'_> {
    /// Starts the observer where it is due, makes it known to the proxies, and tells it what the guard measures.
    pub(super) fn tick_observer(&mut self) {
        let Some(observer) = &mut self.observer else { return };
        if observer.is_due()
            && let Err(error) = observer.start(|channel| self.supervisor.start_observer(channel))
        {
            tracing::error!(%error, "no observer can be started; trying again");
        }
        if observer.pid().is_none() {
            return;
        }
        for (generation, socket) in observer.introduce(&self.supervisor.generations()) {
            self.supervisor.hand(generation, ToProxy::Telemetry, socket);
        }
        let now = Now::read();
        let status = self.guard.status(self.processes(), now);
        let samples = samples(&status, self.reloads, now.unix_seconds(), self.config_since / 1_000);
        if let Some(observer) = &mut self.observer {
            observer.tell(samples);
        }
    }

    pub(super) fn reap_observer(&mut self) {
        if let Some(how) = self.observer.as_mut().and_then(|observer| observer.reap()) {
            self.guard.tell("observer_restart", Now::read(), audit::members(json!({"how": how})));
        }
    }

    /// Another configuration is in force; with `is_new_program` the proxies are another program, which the observer has to
    /// understand.
    pub(super) fn put_observer_in_force(&mut self, config: Option<ObserverConfig>, is_new_program: bool) {
        let (Some(observer), Some(config)) = (&mut self.observer, config) else { return };
        observer.configure(config);
        if is_new_program {
            observer.replace("the program on disk is another");
        }
    }

    /// Where the admin listener is.
    pub(super) fn admin(&self) -> Option<String> {
        self.config.admin.as_ref().map(|admin| match &admin.listen {
            Listen::Tcp(address) if admin.certificate.is_some() => format!("https://{address}"),
            Listen::Tcp(address) => format!("http://{address}"),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        })
    }
}
