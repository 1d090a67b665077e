//! Alertmanager: `POST /api/v2/alerts`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::sending::{AlertSender, Sending};
use crate::{observer::alert::tracker::TrackedAlert, os::clock::rfc3339, settings::alert::Receiver};

/// Alertmanager counts an alert as ended when it has not been told of it for so many intervals.
const INTERVALS: u32 = 4;

pub(super) fn body(sending: &Sending, sender: AlertSender<'_>, receiver: &Receiver) -> Value {
    // How often it is told.
    let every = match sending {
        Sending::Alerts(_) => receiver.repeat,
        Sending::Heartbeat => receiver.heartbeat.unwrap_or_default(),
        Sending::Test(_) => Duration::ZERO,
    };
    let more = u64::try_from((every * INTERVALS).max(Duration::from_secs(240)).as_millis()).unwrap_or(u64::MAX);
    let lasts_until = sender.now.unix_millis.saturating_add(more);
    let alert = |alert: &TrackedAlert| {
        let mut annotations = json!({ "summary": alert.summary });
        if let (Some(runbook), Some(members)) = (&alert.runbook, annotations.as_object_mut()) {
            members.insert("runbook_url".to_owned(), runbook.clone().into());
        }
        // What begins after its end it does not take: the clock may have been set back meanwhile.
        let (latest, until) = alert.ended.map_or((sender.now.unix_millis, lasts_until), |ended| (ended, ended));
        json!({
            "labels": alert.labels,
            "annotations": annotations,
            "startsAt": rfc3339(alert.began.min(latest)),
            "endsAt": rfc3339(until),
        })
    };
    match sending {
        Sending::Alerts(it) => it.firing.iter().chain(&it.ended).map(alert).collect(),
        Sending::Test(it) => json!([alert(it)]),
        Sending::Heartbeat => json!([{
            "labels": { "alertname": "gateway_heartbeat", "severity": "none", "instance": sender.instance },
            "annotations": { "summary": "the gateway is well; when this ends, it tells nothing any more" },
            "startsAt": Timestamp::UNIX_EPOCH.to_string(),
            "endsAt": rfc3339(lasts_until),
        }]),
    }
}
