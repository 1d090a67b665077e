//! The form of a message around a line: syslog (RFC 5424), or the journal's own protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use crate::{
    log::text,
    os::{clock::Now, syslog},
    settings::access_log,
};

/// Severity `informational`.
const INFORMATIONAL: u8 = 6;

/// How a line becomes a message.
pub(super) enum Frame {
    Journald(Journald),
    Syslog(SyslogFrame),
}

/// The journal's own protocol.
pub(super) struct Journald;

/// RFC 5424.
pub(super) struct SyslogFrame {
    /// `<134>1 `
    begins: Box<str>,
    /// ` host gateway 4711 access - `
    names: Box<str>,
}

impl Frame {
    /// Appends the message of a line.
    pub(super) fn write(&self, line: &[u8], now: Now, out: &mut Vec<u8>) {
        match self {
            Self::Journald(_) => {
                // A line has no line end in it, so the simple form will do.
                out.extend_from_slice(b"PRIORITY=6\nSYSLOG_IDENTIFIER=gateway\nMESSAGE=");
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            Self::Syslog(syslog) => syslog.write(line, now, out),
        }
    }
}

impl Frame {
    /// Shortens a message to so many bytes, between two letters.
    pub(super) fn cut(&self, most: usize, message: &mut Vec<u8>) {
        let is_inside = |at: usize| message.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let end = (0..=most).rev().find(|at| !is_inside(*at)).unwrap_or(0);
        message.truncate(end);
        if matches!(self, Self::Journald(_)) {
            message.push(b'\n');
        }
    }
}

impl SyslogFrame {
    pub(super) fn new(settings: &access_log::Syslog) -> Self {
        let host = match &settings.hostname {
            Some(host) => syslog::host(host),
            None => syslog::host(&rustix::system::uname().nodename().to_string_lossy()),
        };
        let (app, pid) = (&settings.app_name, std::process::id());
        Self {
            begins: format!("<{}>1 ", u16::from(settings.facility) * 8 + u16::from(INFORMATIONAL)).into(),
            names: format!(" {host} {app} {pid} access - ").into(),
        }
    }

    /// Appends the message of a line.
    pub(super) fn write(&self, line: &[u8], now: Now, out: &mut Vec<u8>) {
        out.extend_from_slice(self.begins.as_bytes());
        text::time(now.unix_millis, out);
        out.extend_from_slice(self.names.as_bytes());
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::access_log::SyslogTransport;

    #[test]
    fn messages() {
        let syslog = SyslogFrame::new(&access_log::Syslog {
            transport: SyslogTransport::Udp("127.0.0.1:514".to_owned()),
            facility: 16,
            app_name: "edge".to_owned(),
            hostname: Some("host-1".to_owned()),
        });
        let now = Now { monotonic: 0, unix_millis: 1_764_000_000_123 };
        let pid = std::process::id();
        for (frame, expect) in [
            (Frame::Syslog(syslog), format!("<134>1 2025-11-24T16:00:00.123Z host-1 edge {pid} access - {{\"a\":1}}")),
            (Frame::Journald(Journald), "PRIORITY=6\nSYSLOG_IDENTIFIER=gateway\nMESSAGE={\"a\":1}\n".to_owned()),
        ] {
            let mut out = Vec::new();
            frame.write(b"{\"a\":1}", now, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }
}
