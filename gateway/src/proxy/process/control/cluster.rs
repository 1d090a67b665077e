//! What the control thread tells of the store between machines.

use super::Control;
use crate::{
    message::{
        ToGuard,
        cluster::{MAX_WHY, StoreReport},
    },
    policy::limit::Limits,
    proxy::generation::Compiled,
};

impl Control<'_> {
    /// The store of this configuration is asked from now on, and no other; with its files as they are now.
    pub(super) fn serve_cluster(&self, compiled: &Compiled) {
        let Compiled { snapshot, .. } = compiled;
        let asks = snapshot.limits.as_ref().and_then(Limits::asks);
        self.shared.cluster.serve(snapshot.tls.load().cluster(), asks);
    }

    /// How it is with the store; `None`: there is no cluster.
    pub(super) fn store(&self) -> Option<StoreReport> {
        let snapshot = self.snapshot();
        snapshot.settings.cluster.as_ref()?;
        let told = self.shared.cluster.state().told();
        let (calls, failures, latency_micros) = self.shared.cluster.state().counts();
        let (mut why, mut letters) = (told.why, told.letters);
        for text in [&mut why, &mut letters] {
            text.truncate(text.floor_char_boundary(MAX_WHY));
        }
        let asks = snapshot.limits.as_ref().and_then(Limits::asks);
        let (alone, disbelieved) = asks.map_or((0, 0), |asks| (asks.alone(), asks.disbelieved()));
        let (reachable, since) = (told.is_reachable, told.since);
        let lost = self.shared.cluster.peer_queues().lost();
        Some(StoreReport {
            reachable,
            since,
            why,
            letters,
            lost,
            calls,
            failures,
            latency_micros,
            alone,
            disbelieved,
            malformed: self.shared.cluster.state().malformed(),
        })
    }

    /// Hands the guard what other machines have written. Without a guard it waits.
    pub(super) fn pass_letters(&mut self) {
        if !self.guard.has_guard() {
            return;
        }
        loop {
            let letters = self.shared.cluster.peer_queues().take_heard();
            if letters.is_empty() {
                return;
            }
            self.guard.say(ToGuard::Letters(letters));
        }
    }

    /// Tells the guard how it is with the store.
    pub(super) fn tell_store(&mut self) {
        if let Some(report) = self.store() {
            self.guard.say(ToGuard::Store(Box::new(report)));
        }
    }
}
