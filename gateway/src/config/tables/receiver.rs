//! Reads `[receiver.NAME]`: where alerts are sent.

use std::{net::IpAddr, time::Duration};

use toml::de::DeValue;

use super::{audit, certificate, outbound};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, address, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{
        alert::{Mail, MailSecurity, Match, Receiver, ReceiverKind, Severity},
        outbound::{Dial, SecretUrl, UrlRefusal},
    },
    web::url::Url,
};

/// What only this table has.
const OWN: [(&str, &str); 20] = [
    ("type", "What the receiver is."),
    ("url", "The URL of an `alertmanager` or `webhook`; of `opsgenie` and `pagerduty`, another than the usual one."),
    ("url_file", "A file with the URL, in one line, where the URL is a secret: `slack`, `teams`, `webhook`."),
    ("key_file", "A file with the routing key of `pagerduty` or the API key of `opsgenie`, in one line."),
    ("secret_file", "A file with the secret that signs each request of a `webhook` (Standard Webhooks), in one line."),
    ("token_file", "A file with the bearer token of an `alertmanager` or `webhook`, in one line."),
    (
        "server",
        "Of `email`: `smtp://HOST:587` (STARTTLS), `smtps://HOST:465`, or `smtp+plain://localhost:25`. Of `syslog`: \
         `unix:PATH`, `udp://`, `tcp://` or `tls://HOST:PORT`.",
    ),
    ("user", "The user by whom mail is sent. Without it: the server asks for none."),
    ("password_file", "A file with the password of `user`, in one line."),
    ("from", "The address that mail comes from."),
    ("to", "The addresses that mail is sent to."),
    ("severity", "Alerts that are less bad than this are not sent."),
    ("match", "Only alerts with these labels are sent: `{ team = \"shop\" }`. `*` and `!` as in `alert.where`."),
    (
        "group_by",
        "Alerts with the same values of these labels come in one notification. `alertname` and `severity` are labels.",
    ),
    ("group_wait", "How long the first alert of a group waits for others."),
    ("group_interval", "How long after a notification the next one of the same group is sent at the earliest."),
    ("repeat", "Alerts that go on are sent again after this time. `\"0s\"`: they are not."),
    ("max_per_hour", "Not more notifications than this are sent in an hour. What is over it comes later, as one."),
    ("resolved", "Whether a notification is sent when an alert has ended."),
    ("heartbeat", "How often it is told that guard and proxy are alive. For `alertmanager`, `syslog` and `webhook`."),
];

/// The keys of `[receiver.NAME]`.
pub(super) const KEYS: Keys = &outbound::with::<20, 26>(&OWN);

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// More receivers than this nobody looks after.
const MOST: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Alertmanager,
    Email,
    Opsgenie,
    PagerDuty,
    Slack,
    Syslog,
    Teams,
    Webhook,
}

const TYPES: [(&str, Type); 8] = [
    ("alertmanager", Type::Alertmanager),
    ("email", Type::Email),
    ("opsgenie", Type::Opsgenie),
    ("pagerduty", Type::PagerDuty),
    ("slack", Type::Slack),
    ("syslog", Type::Syslog),
    ("teams", Type::Teams),
    ("webhook", Type::Webhook),
];

/// What is usual for a type: waiting for others, between two notifications, between repetitions.
const fn usual(kind: Type) -> (Duration, Duration, Duration) {
    match kind {
        // They group, wait and repeat themselves. Alertmanager forgets what it is not told again.
        Type::Alertmanager => (Duration::ZERO, SECOND, Duration::from_secs(60)),
        Type::Opsgenie | Type::PagerDuty => (Duration::ZERO, Duration::from_secs(5), Duration::ZERO),
        _ => (Duration::from_secs(10), Duration::from_secs(300), Duration::from_secs(4 * 3_600)),
    }
}

pub(super) fn read(tables: Vec<(String, Table<'_>)>, has_admin: bool, reader: &Reader<'_>) -> Vec<Receiver> {
    let mut receivers = Vec::new();
    for (index, (name, table)) in tables.into_iter().enumerate() {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        if index == MOST {
            reader.report(Diagnostic::new(table.own_key(), format!("there are more than {MOST} receivers")));
        }
        if index == 0 && !has_admin && !reader.is_reference() {
            let wrong = Diagnostic::bare("needs the observer, which sends alerts");
            table.report("type", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
        }
        receivers.extend(receiver(name, &table, reader));
        table.finish();
    }
    receivers
}

fn receiver(name: String, table: &Table<'_>, reader: &Reader<'_>) -> Option<Receiver> {
    let of_type = table.required("type", "\"webhook\"", value::choice(&TYPES));
    let shown = of_type.unwrap_or(Type::Webhook);
    let target = ReceiverAddress::read(table, reader);
    let severity = table.or("severity", Severity::Warning, value::choice(&Severity::NAMES));
    let filter = filter(table, reader);
    let (wait, interval, again) = usual(shown);
    let group_by = described("name of a label", value::line).written(|label: &String| format!("{label:?}"));
    let receiver = Receiver {
        name,
        kind: ReceiverKind::Syslog(crate::settings::audit::SyslogServer::Unix("/dev/log".into())),
        dial: Dial::none(),
        severity,
        filter,
        group_by: values(table.list_or("group_by", vec!["alertname".to_owned()], group_by)),
        group_wait: table.or("group_wait", wait, value::duration_in(Duration::ZERO..=DAY / 24)),
        group_interval: table.or("group_interval", interval, value::duration_in(SECOND..=DAY)),
        repeat: table.or("repeat", again, value::duration_in(Duration::ZERO..=30 * DAY)),
        max_per_hour: table.or(
            "max_per_hour",
            if shown == Type::Alertmanager { 10_000 } else { 60 },
            value::integer(1..=100_000_u32),
        ),
        resolved: table.or("resolved", true, value::boolean()),
        heartbeat: table.optional("heartbeat", value::duration_in(SECOND..=DAY)),
    };
    let of_type = of_type?;
    if receiver.heartbeat.is_some() && !matches!(of_type, Type::Alertmanager | Type::Syslog | Type::Webhook) {
        let wrong = Diagnostic::bare("is for receivers that are programs: a person would be told of each");
        table.report("heartbeat", wrong.hint("give it to a `webhook` that notices when nothing comes any more"));
    }
    if receiver.repeat.is_zero() && of_type == Type::Alertmanager {
        let wrong =
            Diagnostic::bare("leaves Alertmanager without news: it takes an alert for ended that is not repeated");
        table.report("repeat", wrong.hint("write `repeat = \"1m\"`"));
    }
    ReceiverAddress::judge_keys(of_type, table);
    let (kind, dial) = target.into_kind(of_type, table)?;
    Some(Receiver { kind, dial, ..receiver })
}

fn filter(table: &Table<'_>, reader: &Reader<'_>) -> Vec<Match> {
    let keys: Keys = &[("LABEL", "The value of the label `LABEL`.")];
    let text = described("string", |value: &DeValue<'_>| value::text(value).map(str::to_owned));
    let mut matches = Vec::new();
    for (key, label, pattern) in table.table("match", keys).named_values(text) {
        match pattern {
            Ok(pattern) => matches.push(Match::new(&label, &pattern)),
            Err(wrong) => reader.report(wrong.at(key)),
        }
    }
    matches
}

/// Everything by which a receiver is reached, whatever it is.
struct ReceiverAddress {
    url: Option<Url>,
    url_file: Option<NamedFile>,
    key: Option<NamedFile>,
    secret: Option<NamedFile>,
    token: Option<NamedFile>,
    server: Option<String>,
    user: Option<String>,
    password: Option<NamedFile>,
    from: Option<String>,
    to: Vec<String>,
    dial: Dial,
}

/// The keys of [`ReceiverAddress`], and the types that have them.
const OF_TYPES: [(&str, &[Type]); 10] = [
    ("url", &[Type::Alertmanager, Type::Opsgenie, Type::PagerDuty, Type::Webhook, Type::Slack, Type::Teams]),
    ("url_file", &[Type::Alertmanager, Type::Slack, Type::Teams, Type::Webhook]),
    ("key_file", &[Type::Opsgenie, Type::PagerDuty]),
    ("secret_file", &[Type::Webhook]),
    ("token_file", &[Type::Alertmanager, Type::Webhook]),
    ("server", &[Type::Email, Type::Syslog]),
    ("user", &[Type::Email]),
    ("password_file", &[Type::Email]),
    ("from", &[Type::Email]),
    ("to", &[Type::Email]),
];

impl ReceiverAddress {
    fn read(table: &Table<'_>, reader: &Reader<'_>) -> Self {
        let line = |key| table.optional(key, described("string", value::line));
        let secret = |key| {
            let file = table.file(key)?;
            certificate::warn_of_mode(&file, table.key(key), reader);
            Some(file)
        };
        let url = table.optional("url", described("URL", outbound::url));
        let (url_file, key, secret_file, token) =
            (secret("url_file"), secret("key_file"), secret("secret_file"), secret("token_file"));
        let (server, user, password) = (line("server"), line("user"), secret("password_file"));
        let mailbox = || described("address", mailbox);
        let from = table.optional("from", mailbox());
        let to = values(table.list("to", mailbox()));
        // Mail and syslog over TLS ask for authorities as https does.
        let is_plain = server.as_ref().is_some_and(|server| {
            ["smtp+plain://", "udp://", "tcp://", "unix:"].iter().any(|scheme| server.starts_with(scheme))
        });
        let local = Url::parse("http://localhost/").ok();
        let asked = if is_plain { local.as_ref() } else { url.as_ref() };
        let dial = Dial::new(outbound::read(table, asked, reader));
        Self { url, url_file, key, secret: secret_file, token, server, user, password, from, to, dial }
    }

    /// Reports keys that a receiver of this type does not have.
    fn judge_keys(of_type: Type, table: &Table<'_>) {
        let name = TYPES.iter().find(|(_, known)| *known == of_type).map_or("", |(name, _)| name);
        for (key, types) in OF_TYPES {
            if table.has(key) && !types.contains(&of_type) {
                table.report(
                    key,
                    Diagnostic::bare(format!("is not for receivers of the type {name:?}")).hint("leave it out"),
                );
            }
        }
        if table.has("url") && table.has("url_file") {
            table.report("url_file", Diagnostic::bare("cannot be set beside `url`").hint("leave one of them out"));
        }
    }

    fn into_kind(self, of_type: Type, table: &Table<'_>) -> Option<(ReceiverKind, Dial)> {
        let missing = |key: &str, hint: &str| {
            if !table.has(key) && !table.has_unknown() {
                table.report(key, Diagnostic::bare("is missing").hint(hint.to_owned()));
            }
        };
        let kind = match of_type {
            Type::Email => {
                let mail = self.mail(table, &missing);
                return mail.map(|mail| (ReceiverKind::Email(mail), self.dial));
            }
            Type::Syslog => {
                missing("server", "write, for example, `server = \"unix:/dev/log\"`");
                let server =
                    audit::syslog(self.server.as_deref()?).map_err(|wrong| table.report("server", wrong)).ok()?;
                return Some((ReceiverKind::Syslog(server), self.dial));
            }
            Type::Alertmanager => ReceiverKind::Alertmanager { url: self.url(table, None)?, token: self.token },
            Type::Opsgenie | Type::PagerDuty => {
                missing("key_file", "name the file that holds the key");
                let is_pagerduty = of_type == Type::PagerDuty;
                let usual = if is_pagerduty { "https://events.pagerduty.com/" } else { "https://api.opsgenie.com/" };
                let url = self.url(table, Some(usual))?;
                let key = self.key?;
                if is_pagerduty { ReceiverKind::PagerDuty { url, key } } else { ReceiverKind::Opsgenie { url, key } }
            }
            Type::Slack => ReceiverKind::Slack { url: self.url(table, None)? },
            Type::Teams => ReceiverKind::Teams { url: self.url(table, None)? },
            Type::Webhook => {
                ReceiverKind::Webhook { url: self.url(table, None)?, secret: self.secret, token: self.token }
            }
        };
        Some((kind, self.dial))
    }

    /// Where it is asked by HTTP. What a file holds is read by the observer's part of the configuration: proxies find it
    /// empty.
    fn url(&self, table: &Table<'_>, usual: Option<&str>) -> Option<SecretUrl> {
        let usual = usual.and_then(|usual| Url::parse(usual).ok());
        if let Some(url) = self.url.clone().or(usual.filter(|_| !table.has("url") && !table.has("url_file"))) {
            if let Err(wrong) = outbound::judge(&url, &self.dial.server(), "") {
                table.report("url", wrong);
            }
            return Some(SecretUrl { text: url.to_string(), file: None });
        }
        if self.url_file.is_none() && !table.has("url") && !table.has("url_file") && !table.has_unknown() {
            let wrong = Diagnostic::bare("is missing: nobody knows where the receiver is");
            table.report("url", wrong.hint("write `url = \"https://...\"`, or `url_file` where it is a secret"));
        }
        let file = self.url_file.clone()?;
        Some(SecretUrl { text: String::new(), file: Some(file) })
    }

    /// Why a mail server is never connected to. With or without TLS: its address is what counts.
    fn refuses_mail(&self, host: &str, port: u16) -> Option<UrlRefusal> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = Url::parse(&format!("https://{host}:{port}/")).ok()?;
        self.dial.server().judge(&url).err()
    }

    fn mail(&self, table: &Table<'_>, missing: &dyn Fn(&str, &str)) -> Option<Mail> {
        missing("server", "write, for example, `server = \"smtp://mail.example.com:587\"`");
        missing("from", "write, for example, `from = \"gateway@example.com\"`");
        missing("to", "write, for example, `to = [\"ops@example.com\"]`");
        if self.user.is_some() != self.password.is_some() && !table.has_unknown() {
            let key = if self.user.is_some() { "password_file" } else { "user" };
            table.report(key, Diagnostic::bare("is missing: `user` and `password_file` belong together"));
        }
        let (host, port, security) =
            smtp(self.server.as_deref()?).map_err(|wrong| table.report("server", wrong)).ok()?;
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if security == MailSecurity::Plain && !is_here {
            let wrong = Diagnostic::bare("would send mail over the network as it is");
            table.report("server", wrong.hint("write smtp:// (STARTTLS) or smtps://"));
        } else if let Some(refusal) = self.refuses_mail(&host, port) {
            table.report("server", outbound::refused(refusal, &format!("{host:?}"), ""));
        }
        let (user, password) = (self.user.clone(), self.password.clone());
        Some(Mail { host, port, security, user, password, from: self.from.clone()?, to: self.to.clone() })
    }
}

/// A mail address.
fn mailbox(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    let read: Result<lettre::message::Mailbox, _> = text.parse();
    read.map_err(|_no_address| {
        Diagnostic::bare(format!("{text:?} is no mail address"))
            .hint("write \"ops@example.com\" or \"Operations <ops@example.com>\"")
    })?;
    Ok(text)
}

/// A mail server: host, port, and how the connection is kept safe.
fn smtp(text: &str) -> Result<(String, u16, MailSecurity), Diagnostic> {
    let wrong = || {
        Diagnostic::bare(format!("{text:?} is no mail server"))
            .hint("write \"smtp://HOST:587\" for STARTTLS, \"smtps://HOST:465\", or \"smtp+plain://localhost:25\" on this host")
    };
    let (scheme, server) = text.split_once("://").ok_or_else(wrong)?;
    let (_, security) = MailSecurity::SCHEMES.into_iter().find(|(name, _)| *name == scheme).ok_or_else(wrong)?;
    let server = address::server(server)?;
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, port.parse().map_err(|_no_port| wrong())?, security))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_servers() {
        for (text, expect) in [
            ("smtp://mail.example:587", Some(("mail.example", 587, MailSecurity::StartTls))),
            ("smtps://[2001:db8::1]:465", Some(("2001:db8::1", 465, MailSecurity::Tls))),
            ("smtp+plain://localhost:25", Some(("localhost", 25, MailSecurity::Plain))),
            ("mail.example:587", None),
            ("smtp://mail.example", None),
            ("http://mail.example:80", None),
        ] {
            let read = smtp(text).ok();
            assert_eq!(read.as_ref().map(|(host, port, security)| (&**host, *port, *security)), expect, "{text}");
        }
    }
}
