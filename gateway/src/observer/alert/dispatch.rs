//! What is to be sent to whom, and when: alerts in groups, each receiver at its own pace, again after a failure.
//!
//! What waits is the state of each group and not a list of messages: a receiver that was away for an hour is told once
//! how things are and what has ended meanwhile. *Invariant:* there is one notification on its way to a receiver at a time,
//! and a receiver that hangs keeps no other one waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use outcome::AlertOutcome;
pub(super) use outcome::{NotificationOutcome, RefusedAlerts};
pub(super) use pace::RateLimiter;

use super::{
    silence::{Silences, matches},
    tracker::{AlertChange, TrackedAlert},
};
use crate::{
    os::clock::Now,
    settings::alert::{Receiver, ReceiverKind},
};

mod outcome;
mod pace;

/// The most groups of one receiver.
const MAX_GROUPS: usize = 500;

/// The most alerts of one group.
const MAX_ENTRIES: usize = 500;

/// The most alerts that one notification names.
pub(super) const MAX_TOLD: usize = 50;

/// An end that a receiver refuses for so many milliseconds is given up: it may never have known of the beginning.
const LONGEST_REFUSED: u64 = 86_400_000;

/// What is sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    /// The values by which its alerts are grouped.
    pub(super) group: GroupKey,
    /// Alerts that go on.
    pub(super) firing: Vec<TrackedAlert>,
    /// Alerts that have ended since the last notification.
    pub(super) ended: Vec<TrackedAlert>,
    /// When the receiver took the last notification of this group: a try of the same one has the same. `None`: never.
    pub(super) before: Option<u64>,
}

/// The labels by which a receiver groups, with their values.
pub(super) type GroupKey = Vec<(String, String)>;

/// An alert in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GroupedAlert {
    alert: TrackedAlert,
    /// When it began or ended, as far as that is not told yet.
    changed: u64,
    /// Whether the receiver knows that it has begun.
    is_told: bool,
    /// Whether a try to tell of it has failed: then its end is told in any case.
    is_tried: bool,
    /// Whether it has arrived by a try that failed for others of the group: the next one is for those alone.
    #[serde(default)]
    is_taken: bool,
    /// When the receiver last did not want it: milliseconds since 1970. `None`: that is not the last that it said of it.
    #[serde(default)]
    refused: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AlertGroup {
    entries: BTreeMap<String, GroupedAlert>,
    /// When the receiver took a notification last: milliseconds since 1970.
    sent: Option<u64>,
    /// How many tries in a row have failed.
    #[serde(default)]
    tries: u32,
}

/// A notification that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OnItsWay {
    key: GroupKey,
    /// The alerts that it tells of, by fingerprint, and whether they have ended.
    told: Vec<(String, bool)>,
    /// They were refused before.
    is_retry: bool,
    /// Should they be refused again, fewer are tried the next time.
    may_split: bool,
}

/// One receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// A list, as JSON has no keys but texts.
    groups: Vec<(GroupKey, AlertGroup)>,
    #[serde(default)]
    pub(super) pace: RateLimiter,
    /// When it was last looked whether something is due: milliseconds since 1970.
    #[serde(skip)]
    looked: Option<u64>,
    #[serde(skip)]
    on_its_way: Option<OnItsWay>,
    /// So many alerts at once that were refused together are tried again: twice as many once they are taken. 0 is 1.
    #[serde(skip)]
    retry_size: usize,
    /// How many alerts there was no room for.
    #[serde(skip)]
    pub(super) dropped: u64,
}

impl Outbox {
    /// Takes what has changed, if it is for this receiver. An alert that goes on may be told as often as one likes: after
    /// a reload it may be in another group, or no longer be for this receiver.
    pub(super) fn take(&mut self, receiver: &Receiver, change: &AlertChange, now: Now) {
        let (AlertChange::Began(alert) | AlertChange::Ended(alert)) = change;
        let key = group_key(receiver, alert);
        let at = self.find(&key, &alert.fingerprint);
        match (change, at) {
            // What nobody knows to have begun needs no end.
            (AlertChange::Ended(_), None) => {}
            (AlertChange::Ended(_), Some(at)) => self.end(at, alert, receiver.resolved, now),
            (AlertChange::Began(_), None) if !is_for(receiver, alert) => {}
            (AlertChange::Began(_), None) => self.begin(key, alert, now),
            (AlertChange::Began(_), Some(at)) if !is_for(receiver, alert) => {
                self.end(at, alert, receiver.resolved, now)
            }
            (AlertChange::Began(_), Some(at)) => {
                self.go_on(at, receiver, alert, now);
                self.move_to(at, key, &alert.fingerprint);
            }
        }
        self.groups.retain(|(_, group)| !group.entries.is_empty());
    }

    /// In which group an alert is: mostly in the one of this key.
    fn find(&self, key: &GroupKey, fingerprint: &str) -> Option<usize> {
        let own = self.groups.iter().position(|(known, _)| known == key);
        let has = |at: &usize| self.groups.get(*at).is_some_and(|(_, group)| group.entries.contains_key(fingerprint));
        own.filter(has).or_else(|| (0..self.groups.len()).find(has))
    }

    /// The group of this key that has room for one more, if there may be one.
    fn room(&mut self, key: GroupKey) -> Option<&mut AlertGroup> {
        let at = match self.groups.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None if self.groups.len() >= MAX_GROUPS => return None,
            None => {
                self.groups.push((key, AlertGroup::default()));
                self.groups.len() - 1
            }
        };
        let (_, group) = self.groups.get_mut(at)?;
        (group.entries.len() < MAX_ENTRIES).then_some(group)
    }

    fn begin(&mut self, key: GroupKey, alert: &TrackedAlert, now: Now) {
        match self.room(key) {
            None => self.dropped = self.dropped.saturating_add(1),
            Some(group) => {
                let (alert, changed) = (alert.clone(), now.unix_millis);
                let (is_told, is_tried, is_taken) = (false, false, false);
                let entry = GroupedAlert { alert, changed, is_told, is_tried, is_taken, refused: None };
                group.entries.insert(entry.alert.fingerprint.clone(), entry);
            }
        }
    }

    /// It is known: it goes on, as far as the receiver knows, even if it has ended and begun again meanwhile.
    fn go_on(&mut self, at: usize, receiver: &Receiver, alert: &TrackedAlert, now: Now) {
        let Some((_, group)) = self.groups.get_mut(at) else { return };
        let Some(entry) = group.entries.get_mut(&alert.fingerprint) else { return };
        let began = entry.alert.began;
        let old = std::mem::replace(&mut entry.alert, TrackedAlert { began, ..alert.clone() });
        if old.severity == alert.severity {
            return;
        }
        // It is worse than was told, or not so bad: that is news.
        entry.changed = now.unix_millis;
        let is_known = entry.is_told && receiver.resolved || entry.is_tried;
        (entry.is_told, entry.is_tried, entry.is_taken, entry.refused) = (false, is_known, false, None);
        // Alertmanager takes it for another alert, as it knows alerts by all their labels.
        if is_known && matches!(receiver.kind, ReceiverKind::Alertmanager { .. }) {
            let key = format!("{}-{}", old.fingerprint, old.severity.name());
            let alert = TrackedAlert { fingerprint: key.clone(), ended: Some(now.unix_millis), ..old };
            let (changed, is_taken, refused) = (now.unix_millis, false, None);
            let entry = GroupedAlert { alert, changed, is_told: true, is_tried: true, is_taken, refused };
            group.entries.insert(key, entry);
        }
    }

    /// Puts an alert into the group of this key, if there is room. The receiver was told when its group was.
    fn move_to(&mut self, at: usize, key: GroupKey, fingerprint: &str) {
        let Some((old, group)) = self.groups.get_mut(at).filter(|(old, _)| *old != key) else { return };
        let (old, sent) = (old.clone(), group.sent);
        let Some(entry) = group.entries.remove(fingerprint) else { return };
        let to = if self.room(key.clone()).is_some() { key } else { old };
        let Some((_, group)) = self.groups.iter_mut().find(|(known, _)| *known == to) else { return };
        group.sent = group.sent.max(sent);
        group.entries.insert(fingerprint.to_owned(), entry);
    }

    /// It has ended, or it is no longer for this receiver, which is told so if it knows of it.
    fn end(&mut self, at: usize, alert: &TrackedAlert, tells_ends: bool, now: Now) {
        let is_this = |(fingerprint, _): &(String, bool)| *fingerprint == alert.fingerprint;
        let is_on_its_way = self.on_its_way.as_ref().is_some_and(|sent| sent.told.iter().any(is_this));
        let Some((_, group)) = self.groups.get_mut(at) else { return };
        let Some(entry) = group.entries.get_mut(&alert.fingerprint).filter(|entry| entry.alert.ended.is_none()) else {
            return;
        };
        if entry.is_told && tells_ends || entry.is_tried || is_on_its_way {
            entry.alert.ended = Some(alert.ended.unwrap_or(now.unix_millis));
            entry.alert.summary.clone_from(&alert.summary);
            entry.changed = now.unix_millis;
            (entry.is_taken, entry.refused) = (false, None);
        } else {
            group.entries.remove(&alert.fingerprint);
        }
    }

    /// A clock that was set back keeps nobody silent: what is to come counts from now.
    fn follow_clock(&mut self, now: Now) {
        let before = self.looked.replace(now.unix_millis);
        if before.is_some_and(|before| now.unix_millis >= before) {
            return;
        }
        for (_, group) in &mut self.groups {
            group.sent = group.sent.map(|sent| sent.min(now.unix_millis));
            for entry in group.entries.values_mut() {
                entry.changed = entry.changed.min(now.unix_millis);
                entry.refused = entry.refused.map(|refused| refused.min(now.unix_millis));
            }
        }
        if before.is_some() {
            self.pace.clock_was_set_back(now);
        }
    }

    /// What was refused is due at once: the receiver is another now, or is asked in another way.
    pub(super) fn forget_refusals(&mut self) {
        for (_, group) in &mut self.groups {
            group.entries.values_mut().for_each(|entry| entry.refused = None);
        }
    }

    /// The next notification that is due, if there is none on its way.
    pub(super) fn next(&mut self, receiver: &Receiver, silences: &Silences, now: Now) -> Option<Notification> {
        self.follow_clock(now);
        if self.on_its_way.is_some() || !self.pace.is_ready(now) {
            return None;
        }
        // What is new does not wait for what was refused.
        let may_retry = self.pace.has_spare(now);
        let due = self.groups.iter().filter_map(|(key, group)| {
            let is_due = |due: &u64| *due <= now.unix_millis;
            let fresh = group.fresh(receiver, silences, now).filter(is_due).map(|due| (group.tries, due, false));
            // It was tried once at least.
            let retry = || Some((group.tries.max(1), group.refused(receiver, silences, now).filter(is_due)?, true));
            Some((fresh.or_else(|| retry().filter(|_| may_retry))?, key))
        });
        // What fails again and again comes last: it may be that it alone is what the receiver cannot take.
        let ((.., is_retry), key) = due.min()?;
        let key = key.clone();
        let (_, group) = self.groups.iter().find(|(known, _)| *known == key)?;
        let (firing, ended) = (Vec::new(), Vec::new());
        let mut notification = Notification { group: key.clone(), firing, ended, before: group.sent };
        if !self.pace.spend(receiver.max_per_hour, now) {
            return None;
        }
        let mut heard: Vec<&GroupedAlert> = group.heard(silences, now).collect();
        heard.retain(|entry| entry.refused.is_some() == is_retry);
        if is_retry {
            heard.retain(|entry| group.retry(entry, receiver).is_some_and(|due| due <= now.unix_millis));
        } else if heard.iter().any(|entry| !entry.is_taken) {
            heard.retain(|entry| !entry.is_taken);
        }
        // What is new comes first, and what has no place waits for the next one.
        heard.sort_by_key(|entry| (entry.refused, !entry.has_news(), entry.alert.began));
        let most = match receiver.kind {
            // Alertmanager forgets what it is not told again.
            ReceiverKind::Alertmanager { .. } => MAX_ENTRIES,
            // Each alert has an answer of its own.
            ReceiverKind::Opsgenie { .. } | ReceiverKind::PagerDuty { .. } => MAX_TOLD,
            // By itself at first: it may be that which the receiver cannot take.
            _ if is_retry => self.retry_size.clamp(1, MAX_TOLD),
            _ => MAX_TOLD,
        };
        for entry in heard.into_iter().take(most) {
            let list = if entry.alert.ended.is_some() { &mut notification.ended } else { &mut notification.firing };
            list.push(entry.alert.clone());
        }
        let told = notification.firing.iter().chain(&notification.ended);
        let told: Vec<_> = told.map(|alert| (alert.fingerprint.clone(), alert.ended.is_some())).collect();
        let may_split = is_retry && told.len() > 1 && !matches!(receiver.kind, ReceiverKind::Alertmanager { .. });
        self.on_its_way = Some(OnItsWay { key, told, is_retry, may_split });
        Some(notification)
    }

    /// What became of the notification that was on its way. `tells_ends`: the receiver wants to know what has ended.
    pub(super) fn done(&mut self, outcome: &NotificationOutcome, tells_ends: bool, now: Now) {
        let Some(OnItsWay { key, told, is_retry, may_split }) = self.on_its_way.take() else { return };
        self.pace.done(outcome, now);
        let is_refused = matches!(outcome, NotificationOutcome::Refused { alerts: RefusedAlerts::All, .. });
        // One of several may have had all of them refused: each is tried by itself, and nothing waits for that.
        let is_split = may_split && is_refused;
        if is_retry {
            self.retry_size = if *outcome == NotificationOutcome::Sent { told.len().saturating_mul(2) } else { 1 };
        }
        let mut touched = BTreeSet::from([key.clone()]);
        for (nth, (fingerprint, is_end)) in told.iter().enumerate() {
            // A reload may have put it into another group meanwhile.
            let Some(at) = self.find(&key, fingerprint) else { continue };
            let Some((known, group)) = self.groups.get_mut(at) else { continue };
            if *known != key {
                touched.insert(known.clone());
            }
            let Some(entry) = group.entries.get_mut(fingerprint) else { continue };
            let is_over = entry.alert.ended.is_some();
            match outcome.of(nth) {
                AlertOutcome::Failed => (entry.is_tried, entry.refused) = (true, None),
                AlertOutcome::Refused if is_split => {}
                AlertOutcome::Refused if is_over && entry.is_out_of_date(now) => {
                    drop(group.entries.remove(fingerprint))
                }
                AlertOutcome::Refused => {
                    (entry.is_taken, entry.refused) = (false, Some(now.unix_millis));
                    entry.is_tried |= !entry.is_told;
                }
                AlertOutcome::Taken if *is_end => {
                    // It may have begun again meanwhile.
                    match is_over {
                        true => drop(group.entries.remove(fingerprint)),
                        false => (entry.is_told, entry.is_tried, entry.refused) = (false, false, None),
                    }
                }
                // It has ended meanwhile, and nobody is told of that.
                AlertOutcome::Taken if is_over && !tells_ends => drop(group.entries.remove(fingerprint)),
                AlertOutcome::Taken => {
                    (entry.is_told, entry.is_tried, entry.refused) = (true, false, None);
                    entry.is_taken = !is_over;
                }
            }
        }
        let is_taken = (0..told.len()).any(|nth| outcome.of(nth) == AlertOutcome::Taken);
        for (_, group) in self.groups.iter_mut().filter(|(known, _)| touched.contains(known)) {
            group.done(outcome, is_taken, now);
        }
        self.groups.retain(|(_, group)| !group.entries.is_empty());
    }

    /// How many groups wait that are due.
    pub(super) fn waiting(&self, receiver: &Receiver, silences: &Silences, now: Now) -> usize {
        let due = |group: &AlertGroup| group.due(receiver, silences, now).is_some_and(|due| due <= now.unix_millis);
        self.groups.iter().filter(|(_, group)| due(group)).count()
    }
}

impl GroupedAlert {
    fn has_news(&self) -> bool {
        !self.is_told || self.alert.ended.is_some()
    }

    /// Whether it has changed too long ago for somebody to want to know of it.
    const fn is_out_of_date(&self, now: Now) -> bool {
        now.unix_millis.saturating_sub(self.changed) >= LONGEST_REFUSED
    }
}

impl AlertGroup {
    /// A notification of it was sent, or could not be. `is_taken`: an alert of it has arrived.
    fn done(&mut self, outcome: &NotificationOutcome, is_taken: bool, now: Now) {
        if matches!(outcome, NotificationOutcome::Failed { .. }) || !is_taken {
            self.tries = self.tries.saturating_add(1);
        } else {
            (self.sent, self.tries) = (Some(now.unix_millis), 0);
            self.entries.values_mut().for_each(|entry| entry.is_taken = false);
        }
    }

    /// What nobody has silenced.
    fn heard(&self, silences: &Silences, now: Now) -> impl Iterator<Item = &GroupedAlert> {
        self.entries.values().filter(move |entry| !silences.cover(&entry.alert, now.unix_millis))
    }

    /// When the next notification is due. `None`: there is nothing to be told.
    fn due(&self, receiver: &Receiver, silences: &Silences, now: Now) -> Option<u64> {
        let retry = self.refused(receiver, silences, now);
        self.fresh(receiver, silences, now).into_iter().chain(retry).min()
    }

    /// The same, of what was refused.
    fn refused(&self, receiver: &Receiver, silences: &Silences, now: Now) -> Option<u64> {
        let refused = self.heard(silences, now).filter(|entry| entry.refused.is_some());
        refused.filter_map(|entry| self.retry(entry, receiver)).min()
    }

    /// The same, of what was not refused.
    fn fresh(&self, receiver: &Receiver, silences: &Silences, now: Now) -> Option<u64> {
        let heard = || self.heard(silences, now).filter(|entry| entry.refused.is_none());
        let news = heard().filter(|entry| entry.has_news()).map(|entry| self.first(entry, receiver)).min();
        news.or_else(|| heard().next().and_then(|_| self.repeat(receiver)))
    }

    /// When what was refused is tried again. Alertmanager forgets what it is not told again.
    fn retry(&self, entry: &GroupedAlert, receiver: &Receiver) -> Option<u64> {
        let due = if entry.has_news() { self.first(entry, receiver) } else { self.repeat(receiver)? };
        let repeat = Some(millis(receiver.repeat)).filter(|repeat| *repeat > 0);
        let pause = repeat.map_or(pace::LONGEST, |repeat| repeat.min(pace::LONGEST));
        Some(due.max(entry.refused?.saturating_add(pause)))
    }

    /// When it is told of what has changed.
    fn first(&self, entry: &GroupedAlert, receiver: &Receiver) -> u64 {
        let next = self.sent.map_or(0, |sent| sent.saturating_add(millis(receiver.group_interval)));
        entry.changed.saturating_add(millis(receiver.group_wait)).max(next)
    }

    /// When what goes on is told again. `None`: never.
    fn repeat(&self, receiver: &Receiver) -> Option<u64> {
        let sent = self.sent.filter(|_| !receiver.repeat.is_zero())?;
        Some(sent.saturating_add(millis(receiver.repeat)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The group that an alert belongs to.
fn group_key(receiver: &Receiver, alert: &TrackedAlert) -> GroupKey {
    let value = |label: &String| alert.labels.get(label).cloned().unwrap_or_default();
    receiver.group_by.iter().map(|label| (label.clone(), value(label))).collect()
}

/// Whether a receiver is told of an alert at all.
fn is_for(receiver: &Receiver, alert: &TrackedAlert) -> bool {
    // Nobody learns by a receiver that this receiver fails.
    let is_about_it = alert.name() == "alert_receiver_failing" && alert.labels.get("receiver") == Some(&receiver.name);
    alert.severity >= receiver.severity && matches(&receiver.filter, alert) && !is_about_it
}

#[cfg(test)]
pub(super) mod tests;
