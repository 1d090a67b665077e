//! What the control thread does every second: it tells guard and observer what has come together.

use std::sync::atomic::Ordering;

use super::{Control, send_all};
use crate::{
    message::{MAX_PATH, Stage, ToGuard},
    os::clock::Now,
    policy::auth::role_paths::{MOST, UnseenRoles},
    proxy::{
        process::{quotas, worker_thread::Running},
        worker::messages::WorkerCommand,
    },
    settings::authz::Requirement,
};

impl Control<'_> {
    /// A second is over.
    pub(super) async fn tick(&mut self, workers: &[Running]) {
        self.configurations.sweep();
        quotas::tick(self.configurations.limits());
        if self.tables().take_ended(Now::read().unix_seconds()) {
            send_all(workers, || WorkerCommand::Recheck).await;
        }
        if self.guard.has_guard() {
            self.tell_lost();
            self.tell_counted();
            self.tell_used_keys();
            self.tell_store();
        }
        if self.stage() == Stage::Serving {
            let ticks = workers.iter().map(|worker| worker.ticks.load(Ordering::Relaxed));
            // Without a guard nobody would take its place.
            if let Some(worker) = self.heartbeats.look(ticks)
                && self.guard.has_guard()
            {
                tracing::error!(worker, "this proxy drains, as a worker has come to a standstill");
                self.guard.say(ToGuard::Stalled { worker: u16::try_from(worker).unwrap_or(u16::MAX) });
                self.drain(workers).await;
            }
        }
        if self.guard.has_guard() && self.stage() != Stage::Draining {
            self.tell_upstreams();
            self.tell_unseen_roles();
        }
        self.tell_observer(self.stage() == Stage::Serving);
    }

    /// Tells the guard where roles are read from that no token has, once that changes. Where no route asks for permissions,
    /// nobody misses them.
    fn tell_unseen_roles(&mut self) {
        let snapshot = self.snapshot();
        let matters = snapshot.settings.routes.iter().any(|it| matches!(it.require, Requirement::Permissions(_)));
        let short = |mut it: UnseenRoles| {
            it.path.truncate(it.path.floor_char_boundary(MAX_PATH));
            it
        };
        let unseen = snapshot.authenticators.unseen_roles().filter(|_| matters).take(MOST);
        let unseen: Vec<UnseenRoles> = unseen.map(short).collect();
        let names = unseen.iter().map(|it| (it.issuer.clone(), it.path.clone())).collect();
        if self.told_unseen.as_ref().unwrap_or(&Vec::new()) != &names {
            self.guard.say(ToGuard::UnseenRoles(unseen));
        }
        self.told_unseen = Some(names);
    }
}
