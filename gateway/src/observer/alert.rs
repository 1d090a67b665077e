//! Tells somebody when something is wrong: rules over everything that is measured, and receivers that are written to.
//!
//! [`sampler`] makes numbers of sums, [`tracker`] alerts of numbers, [`dispatch`] notifications of alerts; all three are
//! pure. [`receiver`] sends. *Invariant:* nothing waits for a receiver, and all that waits is bounded and on the disk.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use dispatch::{NotificationOutcome, Outbox};
use receiver::{AlertSender, ReceiverTarget, Sending};
use sampler::Sampler;
use silence::Silences;
pub(super) use tracker::Sentences;
use tracker::{AlertChange, Tracked, TrackedAlert, Tracker, Words};

use super::store::{Store, Sums};
use crate::{
    message::telemetry::{Metric, Samples},
    os::{
        alternating_files::AlternatingFiles,
        clock::{Now, SECOND},
        program_log::sparse::Sparse,
    },
    settings::alert::{self, AlertRule, Receiver, Severity},
};

mod ask;
mod dispatch;
mod receiver;
mod sampler;
mod silence;
mod tracker;

/// How long after its start the observer begins to look back: until then, processes tell it what they have counted before.
const WARM_UP: u64 = 10 * SECOND;

/// How often a failing receiver is written of in the log.
const TOLD_EVERY: Duration = Duration::from_secs(300);

/// What outlives the observer.
#[derive(Default, Serialize, Deserialize)]
struct SavedState {
    version: u32,
    alerts: Vec<Tracked>,
    silences: Silences,
    outboxes: BTreeMap<String, Outbox>,
}

/// The version of [`SavedState`]. Another one is not read.
const VERSION: u32 = 1;

/// The heartbeats of one receiver.
#[derive(Default)]
struct Beat {
    /// When the last one was sent.
    sent: u64,
    /// Whether it did not arrive.
    is_failing: bool,
    /// It is on its way: the next one waits for that.
    is_on_its_way: bool,
}

/// All of it.
pub(super) struct Alerts {
    instance: String,
    began: u64,
    rules: RefCell<Vec<(AlertRule, Sampler)>>,
    receivers: RefCell<Vec<Rc<ReceiverTarget>>>,
    tracker: RefCell<Tracker>,
    silences: RefCell<Silences>,
    outboxes: RefCell<BTreeMap<String, Outbox>>,
    counts: RefCell<BTreeMap<(String, &'static str), u64>>,
    /// How many groups of series rules had no room for.
    left_out: Cell<u64>,
    heartbeats: RefCell<BTreeMap<String, Beat>>,
    saved_files: RefCell<Option<AlternatingFiles>>,
    /// Whether what is kept has been read: what is known is newer from then on.
    is_restored: Cell<bool>,
    /// What was written last, and whether that is on the disk.
    written: RefCell<Vec<u8>>,
    is_saved: Cell<bool>,
    unsaved: Sparse,
}

impl Alerts {
    pub(super) fn new(now: Now) -> Self {
        let instance = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            instance,
            began: now.monotonic,
            rules: RefCell::default(),
            receivers: RefCell::default(),
            tracker: RefCell::default(),
            silences: RefCell::default(),
            outboxes: RefCell::default(),
            counts: RefCell::default(),
            left_out: Cell::default(),
            heartbeats: RefCell::default(),
            saved_files: RefCell::default(),
            is_restored: Cell::new(false),
            written: RefCell::default(),
            is_saved: Cell::new(false),
            unsaved: Sparse::default(),
        }
    }

    /// Goes on with other settings. What is known of rules and receivers that stay is kept.
    pub(super) fn configure(&self, settings: &alert::Settings, now: Now) {
        let mut old: BTreeMap<String, (AlertRule, Sampler)> =
            self.rules.take().into_iter().map(|one| (one.0.name.clone(), one)).collect();
        let rules = settings.rules.iter().map(|rule| {
            let known = old.remove(&rule.name).filter(|(known, _)| known.is_measured_as(rule));
            (rule.clone(), known.map(|(_, sampler)| sampler).unwrap_or_default())
        });
        *self.rules.borrow_mut() = rules.collect();
        let ended = self.tracker.borrow_mut().keep_rules(&settings.rules, now);
        self.hear(&ended, now);
        let known = self.receivers.take();
        let target = |receiver: &Receiver| {
            let same = known.iter().find(|target| target.settings == *receiver);
            same.map_or_else(|| Rc::new(ReceiverTarget::new(receiver)), Rc::clone)
        };
        let is_same = |receiver: &&Receiver| known.iter().any(|target| target.settings == **receiver);
        for changed in settings.receivers.iter().filter(|receiver| !is_same(receiver)) {
            // It may want now what it has refused, as by another key.
            if let Some(outbox) = self.outboxes.borrow_mut().get_mut(&changed.name) {
                outbox.forget_refusals();
            }
        }
        *self.receivers.borrow_mut() = settings.receivers.iter().map(target).collect();
        let is_there = |name: &String| settings.receivers.iter().any(|receiver| receiver.name == *name);
        self.outboxes.borrow_mut().retain(|name, _| is_there(name));
        let beats = settings.receivers.iter().filter(|receiver| receiver.heartbeat.is_some());
        let beating: Vec<&str> = beats.map(|receiver| &*receiver.name).collect();
        self.heartbeats.borrow_mut().retain(|name, _| beating.contains(&&**name));
        self.counts.borrow_mut().retain(|(name, _), _| is_there(name));
        self.tell_all(now);
    }

    /// Tells every receiver of what goes on, as it is new, or wants to know of other alerts than before.
    fn tell_all(&self, now: Now) {
        let firing: Vec<AlertChange> =
            self.tracker.borrow().firing().map(|one| AlertChange::Began(one.alert.clone())).collect();
        let mut outboxes = self.outboxes.borrow_mut();
        for target in &*self.receivers.borrow() {
            let outbox = outboxes.entry(target.settings.name.clone()).or_default();
            firing.iter().for_each(|change| outbox.take(&target.settings, change, now));
        }
    }

    /// Goes on with what is kept in these files.
    pub(super) fn restore(&self, files: [OwnedFd; 2], now: Now) {
        let (saved_files, kept) = AlternatingFiles::open::<SavedState>(files);
        // Another guard gives the files again: what is known is newer than they are.
        self.saved_files.replace(Some(saved_files));
        let is_first = !self.is_restored.replace(true);
        if let Some(kept) = kept.filter(|kept| is_first && kept.version == VERSION) {
            *self.silences.borrow_mut() = kept.silences;
            *self.outboxes.borrow_mut() = kept.outboxes;
            self.tracker.borrow_mut().restore(kept.alerts, now);
            // What is configured has come before.
            let rules: Vec<AlertRule> = self.rules.borrow().iter().map(|(rule, _)| rule.clone()).collect();
            let ended = self.tracker.borrow_mut().keep_rules(&rules, now);
            self.hear(&ended, now);
            let receivers = self.receivers.borrow();
            let is_there = |name: &String| receivers.iter().any(|target| target.settings.name == *name);
            self.outboxes.borrow_mut().retain(|name, _| is_there(name));
            // The settings may be others than those of the observer before.
            self.outboxes.borrow_mut().values_mut().for_each(Outbox::forget_refusals);
            self.tell_all(now);
        }
    }

    /// Looks at everything that is measured. `sentences`: what is said of anomalies, by the labels of their metric.
    pub(super) fn tick(self: &Rc<Self>, store: &RefCell<Store>, sentences: &Sentences, now: Now) {
        if self.rules.borrow().is_empty() && self.receivers.borrow().is_empty() {
            return;
        }
        self.silences.borrow_mut().expire(now.unix_millis);
        let (sums, is_well) = {
            let store = store.borrow();
            (store.sums(), store.is_well())
        };
        self.evaluate(&sums, sentences, now);
        self.send_due(is_well, now);
        self.save(now);
    }

    fn evaluate(&self, sums: &Sums, sentences: &Sentences, now: Now) {
        let words = Words { instance: &self.instance, sentences };
        let is_warm = now.monotonic.saturating_sub(self.began) >= WARM_UP;
        let mut changes = Vec::new();
        for (rule, sampler) in &mut *self.rules.borrow_mut() {
            if rule.measure.has_window() && !is_warm {
                continue;
            }
            let values = sampler.values(rule, sums, now);
            self.left_out.set(self.left_out.get().saturating_add(sampler.take_left_out()));
            // Until the processes have told what they measure, that there is nothing to compare with ends no alert that an
            // earlier observer knew.
            if values.is_empty() && !is_warm {
                continue;
            }
            changes.extend(self.tracker.borrow_mut().observe(rule, &values, words, now));
        }
        self.hear(&changes, now);
    }

    /// Gives what has changed to every receiver.
    fn hear(&self, changes: &[AlertChange], now: Now) {
        let receivers = self.receivers.borrow();
        let mut outboxes = self.outboxes.borrow_mut();
        for change in changes {
            match change {
                AlertChange::Began(alert) => tracing::warn!(
                    alert = alert.name(),
                    severity = alert.severity.name(),
                    summary = alert.summary,
                    "an alert begins"
                ),
                AlertChange::Ended(alert) => {
                    tracing::info!(alert = alert.name(), summary = alert.summary, "an alert ends")
                }
            }
            for target in &*receivers {
                let outbox = outboxes.entry(target.settings.name.clone()).or_default();
                outbox.take(&target.settings, change, now);
            }
        }
    }

    fn send_due(self: &Rc<Self>, is_well: bool, now: Now) {
        let receivers: Vec<Rc<ReceiverTarget>> = self.receivers.borrow().clone();
        for target in receivers {
            let name = &target.settings.name;
            let next = {
                let mut outboxes = self.outboxes.borrow_mut();
                let outbox = outboxes.entry(name.clone()).or_default();
                outbox.next(&target.settings, &self.silences.borrow(), now)
            };
            if let Some(mut notification) = next {
                self.tracker.borrow().refresh(&mut notification.firing);
                let (alerts, target) = (Rc::clone(self), Rc::clone(&target));
                tokio::task::spawn_local(async move { alerts.send(&target, notification).await });
            }
            if let Some(every) = target.settings.heartbeat.filter(|_| is_well) {
                let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                let mut heartbeats = self.heartbeats.borrow_mut();
                let is_first = !heartbeats.contains_key(name);
                let beat = heartbeats.entry(name.clone()).or_default();
                let is_due = is_first || now.monotonic.saturating_sub(beat.sent) >= every;
                if is_due && !std::mem::replace(&mut beat.is_on_its_way, true) {
                    beat.sent = now.monotonic;
                    let alerts = Rc::clone(self);
                    tokio::task::spawn_local(async move { alerts.beat(&target).await });
                }
            }
        }
    }

    async fn send(&self, target: &ReceiverTarget, notification: dispatch::Notification) {
        let sender = AlertSender { instance: &self.instance, now: Now::read() };
        let outcome = target.send(&Sending::Alerts(notification), sender).await;
        let (now, name) = (Now::read(), &target.settings.name);
        let result = match &outcome {
            NotificationOutcome::Failed { .. } => "failed",
            NotificationOutcome::Refused { .. } => "refused",
            NotificationOutcome::Sent => "sent",
        };
        self.count(name, result);
        if let Some(why) = outcome.why()
            && let Some(others) = target.failing.is_due_every(TOLD_EVERY, now.monotonic)
        {
            tracing::error!(receiver = name, why, result, others, "a notification of alerts was not taken");
        }
        if let Some(outbox) = self.outboxes.borrow_mut().get_mut(name) {
            outbox.done(&outcome, target.settings.resolved, now);
        }
    }

    async fn beat(&self, target: &ReceiverTarget) {
        let sender = AlertSender { instance: &self.instance, now: Now::read() };
        let outcome = target.send(&Sending::Heartbeat, sender).await;
        let (now, name) = (Now::read(), &target.settings.name);
        let is_failing = outcome != NotificationOutcome::Sent;
        self.count(name, if is_failing { "failed" } else { "heartbeat" });
        if let Some(why) = outcome.why()
            && let Some(others) = target.failing.is_due_every(TOLD_EVERY, now.monotonic)
        {
            tracing::error!(receiver = name, why, others, "a heartbeat was not taken");
        }
        if let Some(beat) = self.heartbeats.borrow_mut().get_mut(name) {
            (beat.is_failing, beat.is_on_its_way) = (is_failing, false);
        }
    }

    fn count(&self, receiver: &str, result: &'static str) {
        *self.counts.borrow_mut().entry((receiver.to_owned(), result)).or_default() += 1;
    }

    /// Writes what has changed, beside everything else.
    fn save(self: &Rc<Self>, now: Now) {
        let kept = SavedState {
            version: VERSION,
            alerts: self.tracker.borrow().firing().cloned().collect(),
            silences: self.silences.borrow().clone(),
            outboxes: self.outboxes.borrow().clone(),
        };
        let Ok(text) = serde_json::to_vec(&kept) else { return };
        if self.is_saved.get() && *self.written.borrow() == text {
            return;
        }
        // While the last one is being written there is none.
        let Some(mut saved_files) = self.saved_files.borrow_mut().take() else { return };
        let alerts = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let written = tokio::task::spawn_blocking(move || {
                let written = saved_files.write(&kept);
                (saved_files, written)
            });
            match written.await {
                Ok((saved_files, written)) => {
                    if let Err(error) = &written
                        && let Some(others) = alerts.unsaved.is_due_every(TOLD_EVERY, now.monotonic)
                    {
                        tracing::error!(%error, others, "alerts cannot be kept on the disk");
                    }
                    alerts.is_saved.set(written.is_ok());
                    *alerts.written.borrow_mut() = text;
                    // Other files may have come meanwhile.
                    alerts.saved_files.borrow_mut().get_or_insert(saved_files);
                }
                Err(error) => tracing::error!(%error, "alerts cannot be kept on the disk"),
            }
        });
    }

    /// What there is to be told of alerts themselves.
    pub(super) fn measure(&self, samples: &mut Samples, now: Now) {
        let receivers = self.receivers.borrow();
        if receivers.is_empty() && self.rules.borrow().is_empty() {
            return;
        }
        let (tracker, silences, outboxes) = (self.tracker.borrow(), self.silences.borrow(), self.outboxes.borrow());
        for (name, severity) in Severity::NAMES {
            for wanted in ["pending", "firing", "silenced"] {
                let alike = tracker.all().filter(|one| one.alert.severity == severity);
                let alike = alike.filter(|one| state(one, &silences, now) == wanted).count();
                samples.level(Metric::Alerts, &[name, wanted], u64::try_from(alike).unwrap_or(u64::MAX));
            }
        }
        for ((receiver, result), count) in &*self.counts.borrow() {
            samples.count(Metric::AlertNotifications, &[receiver, result], *count);
        }
        for target in &*receivers {
            let name = &target.settings.name;
            let Some(outbox) = outboxes.get(name) else { continue };
            let waiting = outbox.waiting(&target.settings, &silences, now);
            samples.level(Metric::AlertWaiting, &[name], u64::try_from(waiting).unwrap_or(u64::MAX));
            let is_silent = self.heartbeats.borrow().get(name).is_some_and(|beat| beat.is_failing);
            samples.is(Metric::AlertReceiverFailing, &[name], outbox.pace.failures > 0 || is_silent);
            samples.count(Metric::AlertNotifications, &[name, "dropped"], outbox.dropped);
        }
        samples.count(Metric::Lost, &["alerts"], tracker.left_out);
        samples.count(Metric::Lost, &["alert_groups"], self.left_out.get());
        samples.is(Metric::AlertStateSaved, &[], self.is_saved.get());
    }

    /// An alert that nobody needs to worry about.
    fn test(&self, by: &str, now: Now) -> TrackedAlert {
        let labels: BTreeMap<String, String> =
            [("alertname", "test"), ("severity", "info"), ("instance", &self.instance)]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
        TrackedAlert {
            fingerprint: tracker::fingerprint(&labels),
            severity: Severity::Info,
            labels,
            summary: format!("{by} tests whether alerts arrive; there is nothing to be done"),
            runbook: None,
            began: now.unix_millis,
            ended: None,
        }
    }
}

/// What state an alert is in, as people call it.
fn state(one: &Tracked, silences: &Silences, now: Now) -> &'static str {
    match one.is_firing {
        false => "pending",
        true if silences.cover(&one.alert, now.unix_millis) => "silenced",
        true => "firing",
    }
}

#[cfg(test)]
mod tests;
