//! Answers operators: which alerts, silences and receivers there are, and whether a test arrives.

use std::{cmp::Reverse, rc::Rc, time::Duration};

use tokio::time::timeout;

use super::{
    Alerts,
    dispatch::NotificationOutcome,
    receiver::{AlertSender, ReceiverTarget, Sending},
    silence::{self, ActiveSilence},
    state,
};
use crate::{
    message::observer::alert::{
        AlertQuestion, AlertReport, AlertShown, LONGEST_REPORT, NewSilence, ObserverAnswer, ReceiverShown, SilenceShown,
    },
    observer::report::said,
    os::clock::{Now, rfc3339},
    settings::alert::AlertRule,
};

/// How much of a report is kept free for what is not alerts.
const REST: usize = 28 * 1_024;

/// How long a test waits for a receiver.
const TEST: Duration = Duration::from_secs(20);

/// How many silences are shown: with [`REST`], all that is shown fits.
const SILENCES: usize = 30;

/// The longest reason of a failure that is shown.
const LONGEST_WHY: usize = 200;

impl Alerts {
    /// Answers a question.
    pub(in crate::observer) async fn answer(self: &Rc<Self>, question: AlertQuestion) -> ObserverAnswer {
        let now = Now::read();
        match question {
            // The baselines answer it.
            AlertQuestion::Anomalies => {
                ObserverAnswer::Refused("not_here".to_owned(), "not a matter of alerts".to_owned())
            }
            AlertQuestion::List => said(&self.report(now)),
            AlertQuestion::Silence(new) if let Err(why) = self.judge_silence(&new) => {
                ObserverAnswer::Refused("bad_request".to_owned(), why)
            }
            AlertQuestion::Silence(new) => match self.silences.borrow_mut().add(new, now.unix_millis) {
                Ok(number) => ObserverAnswer::Done(format!("silence {number} begins"), number),
                Err(why) => ObserverAnswer::Refused("full".to_owned(), why),
            },
            AlertQuestion::Unsilence { number } => match self.silences.borrow_mut().remove(number) {
                true => ObserverAnswer::Done(format!("silence {number} has ended"), number),
                false => ObserverAnswer::Refused("not_found".to_owned(), format!("there is no silence {number}")),
            },
            AlertQuestion::Test { receiver, by } => self.try_out(receiver.as_deref(), &by, now).await,
        }
    }

    /// Whether there may be alerts that a silence is of.
    fn judge_silence(&self, new: &NewSilence) -> Result<(), String> {
        let rules = self.rules.borrow();
        let rules: Vec<&AlertRule> = rules.iter().map(|(rule, _)| rule).collect();
        silence::judge(&new.labels, &rules, &self.instance)
    }

    /// Sends a test to one receiver or all, and waits for what becomes of it.
    async fn try_out(self: &Rc<Self>, receiver: Option<&str>, by: &str, now: Now) -> ObserverAnswer {
        let targets: Vec<Rc<ReceiverTarget>> = self.receivers.borrow().clone();
        let is_chosen = |target: &&Rc<ReceiverTarget>| receiver.is_none_or(|name| target.settings.name == name);
        let mut tries = Vec::new();
        for target in targets.iter().filter(is_chosen).map(Rc::clone) {
            let (alerts, sending) = (Rc::clone(self), Sending::Test(self.test(by, now)));
            tries.push(tokio::task::spawn_local(async move {
                let sender = AlertSender { instance: &alerts.instance, now };
                let sent = timeout(TEST, target.send(&sending, sender)).await;
                let late = NotificationOutcome::failed(format!("no answer within {} s", TEST.as_secs()));
                (target, sent.unwrap_or(late))
            }));
        }
        if tries.is_empty() {
            let names: Vec<&str> = targets.iter().map(|target| &*target.settings.name).collect();
            let why = match (receiver, names.is_empty()) {
                (Some(name), false) => format!("there is no receiver {name}; there are: {}", names.join(", ")),
                _ => "there is no receiver: add `[receiver.NAME]`".to_owned(),
            };
            return ObserverAnswer::Refused("not_found".to_owned(), why);
        }
        let mut report = AlertReport::default();
        for one in tries {
            let Ok((target, outcome)) = one.await else { continue };
            let ReceiverTarget { settings, .. } = &*target;
            let (name, kind) = (settings.name.clone(), settings.kind.name().to_owned());
            let (tested, why) = (Some(outcome.why().is_none()), outcome.why().map(|why| cut(why, LONGEST_WHY)));
            report.receivers.push(ReceiverShown { name, kind, waiting: 0, failures: 0, why, tested });
        }
        said(&report)
    }

    fn report(&self, now: Now) -> AlertReport {
        let (silences, tracker, outboxes) = (self.silences.borrow(), self.tracker.borrow(), self.outboxes.borrow());
        let mut all: Vec<_> = tracker.all().collect();
        all.sort_by_key(|one| (!one.is_firing, Reverse(one.alert.severity), one.alert.began));
        let mut report = AlertReport { rules: count(self.rules.borrow().len()), ..AlertReport::default() };
        let mut bytes = 0;
        for one in all {
            let shown = AlertShown {
                name: one.alert.name().to_owned(),
                state: state(one, &silences, now).to_owned(),
                severity: one.alert.severity.name().to_owned(),
                since: rfc3339(one.alert.began),
                summary: cut(&one.of_now().summary, 1_000),
                labels: one.alert.labels.clone(),
                runbook: one.alert.runbook.clone(),
                fingerprint: one.alert.fingerprint.clone(),
            };
            bytes += serde_json::to_vec(&shown).map_or(LONGEST_REPORT, |text| text.len() + 1);
            if bytes > LONGEST_REPORT - REST {
                report.more += 1;
            } else {
                report.alerts.push(shown);
            }
        }
        let silence = |silence: &ActiveSilence| SilenceShown {
            id: silence.number,
            labels: silence.matches.iter().map(|one| (one.label.clone(), cut(&one.written(), 100))).collect(),
            until: rfc3339(silence.until),
            reason: cut(&silence.reason, 100),
            by: cut(&silence.by, 100),
        };
        report.silences = silences.list.iter().rev().take(SILENCES).map(silence).collect();
        let receivers = self.receivers.borrow();
        report.receivers = receivers
            .iter()
            .map(|target| {
                let outbox = outboxes.get(&target.settings.name);
                ReceiverShown {
                    name: target.settings.name.clone(),
                    kind: target.settings.kind.name().to_owned(),
                    waiting: outbox.map_or(0, |outbox| count(outbox.waiting(&target.settings, &silences, now))),
                    failures: outbox.map_or(0, |outbox| outbox.pace.failures),
                    why: outbox.and_then(|outbox| Some(cut(outbox.pace.why.as_deref()?, LONGEST_WHY))),
                    tested: None,
                }
            })
            .collect();
        report
    }
}

fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
