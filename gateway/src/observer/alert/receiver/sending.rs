//! What is sent to a receiver, by whom, and the requests that it is made of.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::{
    observer::alert::{dispatch::Notification, tracker::TrackedAlert},
    os::clock::Now,
    web::url::Url,
};

/// What is sent.
#[derive(Clone, Debug)]
pub(in crate::observer::alert) enum Sending {
    /// Alerts that began, go on, or ended.
    Alerts(Notification),
    /// The gateway is well.
    Heartbeat,
    /// Somebody tries whether it arrives.
    Test(TrackedAlert),
}

impl Sending {
    /// The id of what is sent to a receiver: the same for every try, so that whoever has taken it knows it again.
    pub(super) fn id(&self, receiver: &str, sender: AlertSender<'_>) -> String {
        let alerts = |it: &Notification| -> Vec<Value> {
            let alerts = it.firing.iter().chain(&it.ended);
            alerts.map(|alert| json!([alert.fingerprint, alert.severity.name(), alert.began, alert.ended])).collect()
        };
        let what = match self {
            Self::Alerts(it) => json!([it.group, it.before, alerts(it)]),
            Self::Heartbeat | Self::Test(_) => json!([sender.now.unix_millis, sender.now.monotonic]),
        };
        let text = json!([receiver, sender.instance, what]).to_string();
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        HEXLOWER.encode(digest.as_ref().get(..16).unwrap_or_default())
    }
}

/// Who sends, and when.
#[derive(Clone, Copy, Debug)]
pub(in crate::observer::alert) struct AlertSender<'a> {
    /// The name of this host.
    pub(in crate::observer::alert) instance: &'a str,
    pub(in crate::observer::alert) now: Now,
}

/// One request.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}
