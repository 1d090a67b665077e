//! Sends notifications: what each kind of receiver is written, and what its answer means.
//!
//! *Invariant:* no secret and no URL that may be one is in what is said of a failure; a redirect is not followed, as it
//! would show the secret to whom nobody has named.

use std::cell::Cell;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use sending::Post;
pub(super) use sending::{AlertSender, Sending};

use super::dispatch::{NotificationOutcome, RefusedAlerts};
use crate::{
    message::observer::alert::secret,
    observer::retry_after::retry_after,
    os::program_log::sparse::Sparse,
    outbound::{
        Server,
        client::{FailureKind, OutboundClient, OutboundRequest, OutboundResponse},
    },
    settings::{
        alert::{Receiver, ReceiverKind},
        outbound::SecretUrl,
    },
    web::url::Url,
};

mod alertmanager;
mod chat;
mod incident;
mod mail;
mod sending;
mod syslog;
mod webhook;
mod words;

/// How many requests to one receiver there are at once: a notification, a heartbeat, and tests.
const AT_ONCE: usize = 8;

/// How many lookups of its name. One that hangs goes on when nobody waits for it any more.
const RESOLVERS: usize = 2;

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 16 * 1_024;

/// A receiver that can be written to.
pub(super) struct ReceiverTarget {
    pub(super) settings: Receiver,
    /// `None`: it is not written to by TCP, or by a connection of its own kind.
    server: Option<Server>,
    /// Its own: one that hangs takes no request and no lookup of a name away from another.
    client: OutboundClient,
    /// Limits what the log has of it.
    pub(super) failing: Sparse,
}

impl ReceiverTarget {
    pub(super) fn new(settings: &Receiver) -> Self {
        let server = match settings.kind {
            ReceiverKind::Syslog(_) => None,
            _ => Server::new(&settings.dial.server())
                .map_err(|faults| {
                    tracing::error!(
                        receiver = settings.name,
                        ?faults,
                        "the receiver cannot be used: nothing is sent to it"
                    );
                })
                .ok(),
        };
        let client = OutboundClient::with_resolvers(AT_ONCE, RESOLVERS);
        Self { settings: settings.clone(), server, client, failing: Sparse::default() }
    }

    /// Sends something, and says what became of it.
    pub(super) async fn send(&self, sending: &Sending, sender: AlertSender<'_>) -> NotificationOutcome {
        let client = &self.client;
        let time = self.settings.dial.timeout;
        let late = || format!("no answer within {} s", time.as_secs_f64());
        match &self.settings.kind {
            ReceiverKind::Email(settings) => {
                let Some(server) = &self.server else { return unusable() };
                let mail = (self.settings.name.as_str(), settings);
                timeout(time, mail::send(client, server, mail, sending, sender))
                    .await
                    .unwrap_or_else(|_late| NotificationOutcome::failed(late()))
            }
            ReceiverKind::Syslog(server) => {
                let ca = &self.settings.dial.ca;
                let taken = Cell::new(0);
                timeout(time, syslog::send(server, ca, (sending, &taken), sender)).await.unwrap_or_else(|_late| {
                    NotificationOutcome::Failed { why: late(), wait: 0, taken: taken.get(), refused: Vec::new() }
                })
            }
            _ => match self.posts(sending, sender) {
                Some(posts) => self.post(client, posts).await,
                None => unusable(),
            },
        }
    }

    /// The requests of something; `None`: the URL is none.
    fn posts(&self, sending: &Sending, sender: AlertSender<'_>) -> Option<Vec<Post>> {
        let read = |url: &SecretUrl| Url::parse(&url.text).ok();
        Some(match &self.settings.kind {
            ReceiverKind::Alertmanager { url, token } => {
                let url = read(url)?;
                let url = url.with_path(&format!("{}/api/v2/alerts", url.path().trim_end_matches('/')));
                let body = alertmanager::body(sending, sender, &self.settings);
                vec![Post { url, headers: bearer(token.as_ref().map(secret)), body }]
            }
            ReceiverKind::Opsgenie { url, key } => incident::opsgenie(&read(url)?, secret(key), sending),
            ReceiverKind::PagerDuty { url, key } => incident::pagerduty(&read(url)?, secret(key), sending),
            ReceiverKind::Slack { url } => {
                vec![Post { url: read(url)?, headers: Vec::new(), body: chat::slack(sending, sender) }]
            }
            ReceiverKind::Teams { url } => {
                vec![Post { url: read(url)?, headers: Vec::new(), body: chat::teams(sending, sender) }]
            }
            ReceiverKind::Webhook { url, secret: key, token } => {
                let body = webhook::body(&self.settings.name, sending, sender);
                let mut headers = bearer(token.as_ref().map(secret));
                let id = format!("msg_{}", sending.id(&self.settings.name, sender));
                headers.extend(webhook::signed(&id, key.as_ref().map(secret), &body, sender));
                vec![Post { url: read(url)?, headers, body }]
            }
            ReceiverKind::Email(_) | ReceiverKind::Syslog(_) => Vec::new(),
        })
    }

    /// Sends one request after the other, each of an alert where there are many. The first that fails is the last.
    async fn post(&self, client: &OutboundClient, posts: Vec<Post>) -> NotificationOutcome {
        let Some(server) = &self.server else { return unusable() };
        let is_one = !matches!(self.settings.kind, ReceiverKind::Opsgenie { .. } | ReceiverKind::PagerDuty { .. });
        let mut answers = Answers::default();
        for post in posts {
            let Ok(headers) = headers(&post) else { return unusable() };
            let body = Bytes::from(post.body.to_string());
            let request = OutboundRequest { method: Method::POST, url: post.url, headers, body, most: LONGEST_ANSWER };
            let outcome = match client.ask(server, request).await {
                Ok(answer) => outcome(&answer),
                // It has been taken: the answer is of no interest.
                Err(failure) if matches!(failure.kind, FailureKind::TooLarge | FailureKind::Content) => {
                    NotificationOutcome::Sent
                }
                Err(failure) => NotificationOutcome::failed(words::without_urls(&failure.why)),
            };
            if let Some(failed) = answers.add(outcome) {
                return failed;
            }
        }
        answers.outcome(is_one)
    }
}

/// What the requests of one notification were answered, one after the other.
#[derive(Debug, Default)]
struct Answers {
    answered: usize,
    refused: Vec<usize>,
    why: Option<String>,
}

impl Answers {
    /// Takes the next answer. If it is a failure, returns what became of the notification.
    fn add(&mut self, outcome: NotificationOutcome) -> Option<NotificationOutcome> {
        match outcome {
            NotificationOutcome::Sent => {}
            NotificationOutcome::Refused { why, .. } => {
                self.refused.push(self.answered);
                self.why = Some(why);
            }
            NotificationOutcome::Failed { why, wait, .. } => {
                let refused = std::mem::take(&mut self.refused);
                return Some(NotificationOutcome::Failed { why, wait, taken: self.answered, refused });
            }
        }
        self.answered += 1;
        None
    }

    /// What became of it once all are answered. `is_one`: one request has all alerts.
    fn outcome(self, is_one: bool) -> NotificationOutcome {
        let alerts = if is_one { RefusedAlerts::All } else { RefusedAlerts::Only(self.refused) };
        self.why.map_or(NotificationOutcome::Sent, |why| NotificationOutcome::Refused { why, alerts })
    }
}

fn unusable() -> NotificationOutcome {
    NotificationOutcome::failed("it cannot be used with these settings".to_owned())
}

fn bearer(token: Option<&[u8]>) -> Vec<(&'static str, String)> {
    let token = token.map(|token| ("authorization", format!("Bearer {}", String::from_utf8_lossy(token))));
    token.into_iter().collect()
}

fn headers(post: &Post) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &post.headers {
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

/// What an answer means. Everything is tried again, as somebody may put it right: a wrong key, a receiver that has moved. What
/// is wrong with the request itself is tried again after a longer pause. PagerDuty and Opsgenie say so of a wrong key.
fn outcome(answer: &OutboundResponse) -> NotificationOutcome {
    let why = || format!("it answers {}", answer.status);
    match answer.status {
        status if status.is_success() => NotificationOutcome::Sent,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            NotificationOutcome::refused(why())
        }
        _ => {
            let (wait, refused) = (retry_after(&answer.headers), Vec::new());
            NotificationOutcome::Failed { why: why(), wait, taken: 0, refused }
        }
    }
}

#[cfg(test)]
mod tests;
