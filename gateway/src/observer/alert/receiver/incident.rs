//! PagerDuty (Events API v2) and Opsgenie (Alert API v2): a request for each alert, known by its fingerprint.

use serde_json::{Value, json};

use super::sending::{Post, Sending};
use crate::{observer::alert::tracker::TrackedAlert, os::clock::rfc3339, settings::alert::Severity, web::url::Url};

/// The longest summary of PagerDuty, in characters.
const PAGERDUTY_SUMMARY: usize = 1_024;

/// The longest message of Opsgenie, in characters.
const OPSGENIE_MESSAGE: usize = 130;

/// A test begins and ends.
fn alerts(sending: &Sending) -> Vec<TrackedAlert> {
    match sending {
        Sending::Alerts(it) => it.firing.iter().chain(&it.ended).cloned().collect(),
        Sending::Test(alert) => vec![alert.clone(), TrackedAlert { ended: Some(alert.began), ..alert.clone() }],
        Sending::Heartbeat => Vec::new(),
    }
}

pub(super) fn pagerduty(url: &Url, key: &[u8], sending: &Sending) -> Vec<Post> {
    let key = String::from_utf8_lossy(key);
    let post = |alert: TrackedAlert| {
        let mut body = json!({
            "routing_key": key,
            "event_action": if alert.ended.is_some() { "resolve" } else { "trigger" },
            "dedup_key": alert.fingerprint,
        });
        if let (None, Some(members)) = (alert.ended, body.as_object_mut()) {
            let payload = json!({
                "summary": cut(&format!("{}: {}", alert.name(), alert.summary), PAGERDUTY_SUMMARY),
                "source": alert.labels.get("instance"),
                "severity": alert.severity.name(),
                "timestamp": rfc3339(alert.began),
                "component": "gateway",
                "class": alert.name(),
                "custom_details": alert.labels,
            });
            members.insert("payload".to_owned(), payload);
            if let Some(runbook) = &alert.runbook {
                members.insert("links".to_owned(), json!([{ "href": runbook, "text": "runbook" }]));
            }
        }
        Post { url: url.with_path(&under(url, "/v2/enqueue")), headers: Vec::new(), body }
    };
    alerts(sending).into_iter().map(post).collect()
}

pub(super) fn opsgenie(url: &Url, key: &[u8], sending: &Sending) -> Vec<Post> {
    let key = String::from_utf8_lossy(key).into_owned();
    let post = |alert: TrackedAlert| {
        let mut details = alert.labels.clone();
        if let Some(runbook) = &alert.runbook {
            details.entry("runbook".to_owned()).or_insert_with(|| runbook.clone());
        }
        let (path, body): (String, Value) = match alert.ended {
            Some(_) => (
                format!("/v2/alerts/{}/close?identifierType=alias", alert.fingerprint),
                json!({ "source": "gateway", "note": "ended" }),
            ),
            None => (
                "/v2/alerts".to_owned(),
                json!({
                    "message": cut(&format!("{}: {}", alert.name(), alert.summary), OPSGENIE_MESSAGE),
                    "alias": alert.fingerprint,
                    "description": alert.summary,
                    "details": details,
                    "entity": alert.labels.get("instance"),
                    "source": "gateway",
                    "priority": match alert.severity {
                        Severity::Critical => "P1",
                        Severity::Warning => "P3",
                        Severity::Info => "P5",
                    },
                }),
            ),
        };
        let headers = vec![("authorization", format!("GenieKey {key}"))];
        Post { url: url.with_path(&under(url, &path)), headers, body }
    };
    alerts(sending).into_iter().map(post).collect()
}

/// A path under that of the URL.
fn under(url: &Url, path: &str) -> String {
    format!("{}{path}", url.path().trim_end_matches('/'))
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
