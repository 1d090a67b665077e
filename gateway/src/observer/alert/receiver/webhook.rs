//! JSON for programs, signed as Standard Webhooks has it: <https://www.standardwebhooks.com>.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::sending::{AlertSender, Sending};
use crate::{observer::alert::tracker::TrackedAlert, os::clock::rfc3339};

/// Before a secret that is written in base64.
const PREFIX: &[u8] = b"whsec_";

pub(super) fn body(receiver: &str, sending: &Sending, sender: AlertSender<'_>) -> Value {
    let alert = |alert: &TrackedAlert| {
        json!({
            "status": if alert.ended.is_some() { "ended" } else { "firing" },
            "name": alert.name(),
            "severity": alert.severity.name(),
            "fingerprint": alert.fingerprint,
            "labels": alert.labels,
            "summary": alert.summary,
            "runbook": alert.runbook,
            "began": rfc3339(alert.began),
            "ended": alert.ended.map(rfc3339),
        })
    };
    let (kind, alerts): (&str, Vec<Value>) = match sending {
        Sending::Alerts(it) => ("alerts", it.firing.iter().chain(&it.ended).map(alert).collect()),
        Sending::Heartbeat => ("heartbeat", Vec::new()),
        Sending::Test(it) => ("test", vec![alert(it)]),
    };
    json!({
        "version": 1,
        "type": kind,
        "receiver": receiver,
        "instance": sender.instance,
        "time": rfc3339(sender.now.unix_millis),
        "alerts": alerts,
    })
}

/// The headers that say what it is, when it was sent, and by whom.
pub(super) fn signed(
    id: &str,
    secret: Option<&[u8]>,
    body: &Value,
    sender: AlertSender<'_>,
) -> Vec<(&'static str, String)> {
    let timestamp = sender.now.unix_seconds();
    let mut headers = vec![("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp.to_string())];
    if let Some(secret) = secret {
        let decoded = secret.strip_prefix(PREFIX).and_then(|text| BASE64.decode(text).ok());
        let key = hmac::Key::new(hmac::HMAC_SHA256, decoded.as_deref().unwrap_or(secret));
        let signature = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
        headers.push(("webhook-signature", format!("v1,{}", BASE64.encode(signature.as_ref()))));
    }
    headers
}
