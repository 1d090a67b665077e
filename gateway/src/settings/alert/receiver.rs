//! `[receiver.NAME]`: where alerts are sent, which ones, and how often.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{condition::Match, severity::Severity};
use crate::{
    os::file::{NamedFile, whole},
    settings::{
        audit::SyslogServer,
        outbound::{Dial, SecretUrl},
    },
};

/// `[receiver.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// The NAME.
    pub name: String,
    /// What it is.
    pub kind: ReceiverKind,
    /// How it is connected to.
    pub dial: Dial,
    /// `severity`: alerts that are less bad are not sent.
    pub severity: Severity,
    /// `match`: alerts whose labels do not match are not sent.
    pub filter: Vec<Match>,
    /// `group_by`: alerts with the same values of these labels come in one notification.
    pub group_by: Vec<String>,
    /// `group_wait`: how long the first alert of a group waits for others.
    pub group_wait: Duration,
    /// `group_interval`: how long after a notification the next one of a group is sent at the earliest.
    pub group_interval: Duration,
    /// `repeat`: after which time alerts that go on are sent again; 0: not.
    pub repeat: Duration,
    /// `max_per_hour`.
    pub max_per_hour: u32,
    /// `resolved`: whether it is told that an alert has ended.
    pub resolved: bool,
    /// `heartbeat`: how often it is told that all is well; `None`: not.
    pub heartbeat: Option<Duration>,
}

/// What a receiver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiverKind {
    /// Alertmanager's API, version 2. With a bearer token, if it has one.
    Alertmanager {
        /// `url`, without `/api/v2/alerts`.
        url: SecretUrl,
        /// `token_file`.
        #[serde(with = "whole::optional")]
        token: Option<NamedFile>,
    },
    /// Mail.
    Email(Mail),
    /// Opsgenie.
    Opsgenie {
        /// `url`.
        url: SecretUrl,
        /// `key_file`.
        #[serde(with = "whole")]
        key: NamedFile,
    },
    /// PagerDuty, Events API version 2.
    PagerDuty {
        /// `url`.
        url: SecretUrl,
        /// `key_file`.
        #[serde(with = "whole")]
        key: NamedFile,
    },
    /// Slack, and what understands the same.
    Slack {
        /// `url`.
        url: SecretUrl,
    },
    /// Syslog (RFC 5424).
    Syslog(SyslogServer),
    /// Teams, by a workflow.
    Teams {
        /// `url`.
        url: SecretUrl,
    },
    /// JSON, signed.
    Webhook {
        /// `url`.
        url: SecretUrl,
        /// `secret_file`: by which it is signed; `None`: it is not.
        #[serde(with = "whole::optional")]
        secret: Option<NamedFile>,
        /// `token_file`: the bearer token.
        #[serde(with = "whole::optional")]
        token: Option<NamedFile>,
    },
}

impl ReceiverKind {
    /// As `type` has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Alertmanager { .. } => "alertmanager",
            Self::Email(_) => "email",
            Self::Opsgenie { .. } => "opsgenie",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Slack { .. } => "slack",
            Self::Syslog(_) => "syslog",
            Self::Teams { .. } => "teams",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// The files that hold secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &NamedFile> {
        let (one, other, address) = match self {
            Self::Alertmanager { url, token } => (token.as_ref(), None, url.file.as_ref()),
            Self::Email(mail) => (mail.password.as_ref(), None, None),
            Self::Opsgenie { url, key } | Self::PagerDuty { url, key } => (Some(key), None, url.file.as_ref()),
            Self::Slack { url } | Self::Teams { url } => (None, None, url.file.as_ref()),
            Self::Syslog(_) => (None, None, None),
            Self::Webhook { url, secret, token } => (secret.as_ref(), token.as_ref(), url.file.as_ref()),
        };
        [one, other, address].into_iter().flatten()
    }
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The server's name or address; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept safe.
    pub security: MailSecurity,
    /// `user`.
    pub user: Option<String>,
    /// `password_file`.
    #[serde(with = "whole::optional")]
    pub password: Option<NamedFile>,
    /// `from`.
    pub from: String,
    /// `to`.
    pub to: Vec<String>,
}

/// How a connection to a mail server is kept safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MailSecurity {
    /// Not at all: `smtp+plain://`, on this host alone.
    Plain,
    /// After `STARTTLS`, without which nothing is sent: `smtp://`.
    StartTls,
    /// From the beginning: `smtps://`.
    Tls,
}

impl MailSecurity {
    /// By scheme.
    pub const SCHEMES: [(&str, Self); 3] =
        [("smtps", Self::Tls), ("smtp+plain", Self::Plain), ("smtp", Self::StartTls)];
}
