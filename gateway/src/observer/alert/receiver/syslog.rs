//! Syslog (RFC 5424): a message for each alert.

use std::cell::Cell;

use super::{
    sending::{AlertSender, Sending},
    words,
};
use crate::{
    message::observer::delivery::{Delivery, Parcel},
    observer::{alert::dispatch::NotificationOutcome, deliver},
    os::{clock::rfc3339, file::NamedFile, syslog::host},
    settings::{alert::Severity, audit::SyslogServer},
};

/// The facility `daemon`.
const FACILITY: u8 = 3;

/// `taken` is how many messages have been sent, also while this goes on.
pub(super) async fn send(
    server: &SyslogServer,
    ca: &NamedFile,
    (sending, taken): (&Sending, &Cell<usize>),
    sender: AlertSender<'_>,
) -> NotificationOutcome {
    for (severity, line) in messages(sending, sender) {
        let priority = FACILITY * 8 + severity;
        let (time, host) = (rfc3339(sender.now.unix_millis), host(sender.instance));
        // The mark of UTF-8 is before the text.
        let message = format!("<{priority}>1 {time} {host} gateway {} alert - \u{feff}{line}", std::process::id());
        let what = Parcel::Syslog { server: server.clone(), message };
        let ca = Some(ca.bytes.to_vec()).filter(|ca| !ca.is_empty());
        if let Err(why) = deliver::send(Delivery { what, ca }).await {
            return NotificationOutcome::Failed { why, wait: 0, taken: taken.get(), refused: Vec::new() };
        }
        taken.set(taken.get() + 1);
    }
    NotificationOutcome::Sent
}

/// The severity of syslog, and the text.
fn messages(sending: &Sending, sender: AlertSender<'_>) -> Vec<(u8, String)> {
    let severities: Vec<u8> = match sending {
        Sending::Heartbeat => return vec![(6, words::title(sending, sender))],
        Sending::Test(_) => vec![5],
        Sending::Alerts(it) => {
            let began = it.firing.iter().map(|alert| match alert.severity {
                Severity::Critical => 2,
                Severity::Warning => 4,
                Severity::Info => 6,
            });
            began.chain(it.ended.iter().map(|_| 5)).collect()
        }
    };
    let line = |line: String| line.replace(char::is_control, " ");
    severities.into_iter().zip(words::lines(sending).into_iter().map(line)).collect()
}
