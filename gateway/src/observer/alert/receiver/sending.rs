//! What is sent to a receiver, by whom, and the requests that it is made of.

use crate::{
    clock::Now,
    observer::alert::{dispatch::Notification, tracker::TrackedAlert},
    url::Url,
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

/// Who sends, and when.
#[derive(Clone, Copy, Debug)]
pub(in crate::observer::alert) struct Sender<'a> {
    /// The name of this host.
    pub(in crate::observer::alert) instance: &'a str,
    pub(in crate::observer::alert) now: Now,
}

/// One request.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: serde_json::Value,
}
