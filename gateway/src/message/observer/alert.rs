//! Alerts, between the guard and the observer: the receivers with what their files hold, what operators ask, and what the
//! observer says to that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::Diagnostic,
    os::file::NamedFile,
    outbound::Server,
    settings::{
        alert::{self, ReceiverKind},
        outbound::{Dial, SecretUrl, UrlRefusal},
    },
    web::url::Url,
};

/// The longest answer of the observer, in bytes.
pub const LONGEST_REPORT: usize = 48 * 1_024;

/// What an operator asks of the observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlertQuestion {
    /// What is not usual. It is answered with [`Anomalies`](super::anomalies::Anomalies).
    Anomalies,
    /// What alerts, silences and receivers there are.
    List,
    /// Silence alerts.
    Silence(NewSilence),
    /// Send a test notification.
    Test {
        /// To whom; `None`: to everybody.
        receiver: Option<String>,
        /// Who asks.
        by: String,
    },
    /// End a silence.
    Unsilence {
        /// Its number.
        number: u64,
    },
}

/// A silence that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSilence {
    /// Which labels alerts have; the name of the alert is `alertname`. Patterns as in `alert.where`.
    pub labels: Vec<(String, String)>,
    /// For how many seconds.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub by: String,
}

/// What the observer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObserverAnswer {
    /// It is done: in words, and the number of what was made.
    Done(String, u64),
    /// It is not done: a word, and why.
    Refused(String, String),
    /// The [`AlertReport`] or the [`Anomalies`](super::anomalies::Anomalies), as JSON.
    Report(Vec<u8>),
}

/// What there is: the text of [`ObserverAnswer::Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertReport {
    /// Those that fire first, the worst first.
    #[serde(default)]
    pub alerts: Vec<AlertShown>,
    /// How many there are besides.
    #[serde(default)]
    pub more: u64,
    /// The newest first.
    #[serde(default)]
    pub silences: Vec<SilenceShown>,
    /// In the order of their names.
    #[serde(default)]
    pub receivers: Vec<ReceiverShown>,
    /// How many rules there are.
    #[serde(default)]
    pub rules: u64,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertShown {
    /// Its name.
    pub name: String,
    /// `pending`, `firing` or `silenced`.
    pub state: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// What it says.
    pub summary: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is written what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// What receivers know it by.
    pub fingerprint: String,
}

/// A silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceShown {
    /// Its number.
    pub id: u64,
    /// What alerts must match.
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub until: String,
    /// Why.
    pub reason: String,
    /// Whose it is.
    pub by: String,
}

/// A receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverShown {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// How many groups of alerts wait that are due.
    #[serde(default)]
    pub waiting: u64,
    /// How often it failed in a row.
    #[serde(default)]
    pub failures: u32,
    /// Why the last notification or the test failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether a test arrived; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<bool>,
}

/// The settings with what the files of receivers hold. `faults`: every file that is not what it should be is added.
pub(in crate::message) fn complete(settings: &alert::Settings, faults: &mut Vec<Diagnostic>) -> alert::Settings {
    let mut settings = settings.clone();
    for receiver in &mut settings.receivers {
        let table = format!("receiver.{}", receiver.name);
        let dial = receiver.dial.clone();
        let mut judge = |judged: Result<(), Diagnostic>| faults.extend(judged.err().map(|fault| fault.under(&table)));
        let mut optional = |file: &Option<NamedFile>, key: &str| {
            judge(file.as_ref().map_or(Ok(()), |file| word(file, key)));
        };
        match &mut receiver.kind {
            ReceiverKind::Alertmanager { url, token } => {
                optional(token, "token_file");
                judge(address(url, &dial));
            }
            ReceiverKind::Email(mail) => optional(&mail.password, "password_file"),
            ReceiverKind::Opsgenie { url, key } | ReceiverKind::PagerDuty { url, key } => {
                judge(address(url, &dial));
                judge(word(key, "key_file"));
            }
            ReceiverKind::Slack { url } | ReceiverKind::Teams { url } => judge(address(url, &dial)),
            ReceiverKind::Syslog(_) => continue,
            ReceiverKind::Webhook { url, secret, token } => {
                optional(secret, "secret_file");
                optional(token, "token_file");
                judge(address(url, &dial));
            }
        }
        if !dial.ca.path.as_os_str().is_empty() {
            let unusable = Server::new(&dial.server()).err().unwrap_or_default();
            faults.extend(unusable.into_iter().map(|fault| fault.under(&table)));
        }
    }
    settings
}

/// The one word that a file holds.
#[must_use]
pub fn secret(file: &NamedFile) -> &[u8] {
    file.bytes.trim_ascii()
}

pub(in crate::message) fn word(file: &NamedFile, key: &str) -> Result<(), Diagnostic> {
    let held = secret(file);
    if !held.is_empty() && held.len() <= 4_096 && held.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Ok(());
    }
    let wrong = Diagnostic::new(key, format!("{} does not hold one line of printable characters", file.path.display()));
    Err(wrong.hint("write the secret in one line"))
}

/// The URL that a file holds, which is not told.
pub(in crate::message) fn address(url: &mut SecretUrl, dial: &Dial) -> Result<(), Diagnostic> {
    let Some(file) = &url.file else { return Ok(()) };
    let path = file.path.display();
    let wrong = |what: &str| Diagnostic::new("url_file", format!("what {path} holds {what}"));
    let text = std::str::from_utf8(secret(file)).map_err(|_binary| wrong("is no text"))?;
    let read = Url::parse(text).map_err(wrong)?;
    dial.server().judge(&read).map_err(|refusal| match refusal {
        UrlRefusal::Http | UrlRefusal::HttpHere => {
            wrong("is a URL of http").hint("write https://, or on this host `allow_http = true`")
        }
        UrlRefusal::Private(what) => wrong(what).hint("name a server on the internet, or write `allow_private = true`"),
        UrlRefusal::Never(why) => wrong(why).hint("name another server"),
    })?;
    url.text = text.to_owned();
    Ok(())
}
