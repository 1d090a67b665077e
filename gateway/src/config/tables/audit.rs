//! Reads `[audit]`: the audit chain's files, its checkpoints, and where these are sent.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, address, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::audit::{self, Anchor, AnchorTarget, AnchorUrl, MOST_COMPRESSED, Retention, SyslogServer},
};

/// The keys of `[audit]`.
pub(super) const KEYS: Keys = &[
    ("max_size", "A file of the audit chain that is larger than this is closed, and the next one begins."),
    ("checkpoint", "A record is signed at the latest after this time."),
    (
        "keep_files",
        "How many closed files are kept. The oldest are deleted. Without the three `keep_` keys: all are kept.",
    ),
    ("keep_size", "How large the closed files may be together. The oldest are deleted."),
    ("keep_for", "How long a closed file is kept after its last record."),
    ("compress", "Compress closed files (gzip), all but the newest. Then `max_size` is 128 MiB at most."),
    ("anchor", "Where checkpoints are sent, so that a cut or replaced chain is found. See `docs/audit.md`."),
];

/// The keys of `[[audit.anchor]]`.
const ANCHOR_KEYS: Keys = &[
    ("name", "The anchor's name, for `status` and warnings."),
    (
        "file",
        "A file to append checkpoints to, one JSON object a line. Choose another machine's disk or one that only appends.",
    ),
    (
        "syslog",
        "Instead: a server of syslog (RFC 5424), `unix:PATH`, `udp://HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`.",
    ),
    ("webhook", "Instead: a URL that gets each checkpoint as the JSON body of a POST request."),
    ("timestamp", "Instead: the URL of a time-stamp authority (RFC 3161). Responses are kept in `state_dir`."),
    ("ca", "The authorities that vouch for the server's certificate, in PEM. Required for `https` and `tls`."),
    ("every", "Checkpoints are sent at most this often. The newest one vouches for all before."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// No file is so small that there would be one for every few records.
const SMALLEST: u64 = 64 << 10;

/// More is read at no start, and fits on no disk.
const LARGEST: u64 = 16 << 30;

/// `has_admin`: there is an observer, which alone speaks to others.
pub(super) fn read(table: Table<'_>, has_admin: bool) -> audit::Settings {
    let defaults = audit::Settings::default();
    let settings = audit::Settings {
        max_size: table.or("max_size", defaults.max_size, value::size_in(SMALLEST..=LARGEST)),
        checkpoint: table.or("checkpoint", defaults.checkpoint, value::duration_in(SECOND..=DAY / 24)),
        keep: Retention {
            files: table.optional("keep_files", value::count(0..=100_000)),
            bytes: table.optional("keep_size", value::size_in(0..=1 << 50)),
            age: table.optional("keep_for", value::duration_in(DAY..=36_500 * DAY)),
        },
        compress: table.or("compress", defaults.compress, value::boolean()),
        anchors: anchors(table.tables("anchor", ANCHOR_KEYS), has_admin),
    };
    // A file is a little longer than that once it is closed.
    if settings.compress && settings.max_size > MOST_COMPRESSED / 2 {
        let wrong = Diagnostic::bare("is over 128 MiB, and files so large are not compressed");
        table.report("max_size", wrong.hint("write `max_size = \"64MiB\"`, or leave `compress` out"));
    }
    table.finish();
    settings
}

fn anchors(tables: Vec<Table<'_>>, has_admin: bool) -> Vec<Anchor> {
    let mut read: Vec<Anchor> = Vec::new();
    for table in tables {
        let name = table.required(
            "name",
            "\"vault\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        if let Some(earlier) = read.iter().position(|anchor| Some(&anchor.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("the name is already used by audit.anchor[{earlier}]"));
            table.report("name", wrong.hint("give each anchor a name of its own"));
        }
        let ca = table.file("ca");
        let target = target(&table, has_admin);
        // An authority gives time stamps for nothing, and not to everybody each minute.
        let usual = if matches!(target, Some(AnchorTarget::Timestamp(_))) { 3_600 * SECOND } else { 60 * SECOND };
        let every = table.or("every", usual, value::duration_in(SECOND..=DAY));
        if let (Some(name), Some(target)) = (name, target) {
            if target.is_tls() != ca.is_some() {
                let wrong = match ca {
                    None => Diagnostic::bare("is missing: nobody vouches for the server")
                        .hint("write, for example, `ca = \"/etc/ssl/certs/ca-certificates.crt\"`"),
                    Some(_) => Diagnostic::bare("has no effect without TLS")
                        .hint("leave it out: `ca` belongs to `https://` and `tls://`"),
                };
                table.report("ca", wrong);
            }
            read.push(Anchor { name, target, ca, every });
        }
        table.finish();
    }
    read
}

/// What the anchor is: exactly one of the keys.
fn target(table: &Table<'_>, has_admin: bool) -> Option<AnchorTarget> {
    let all = ["file", "syslog", "webhook", "timestamp"];
    let set: Vec<&str> = all.into_iter().filter(|key| table.has(key)).collect();
    let file = table.path("file").map(AnchorTarget::File);
    let server = described("server of syslog", |value| syslog(value::text(value)?));
    let server = table.optional("syslog", server).map(AnchorTarget::Syslog);
    let resource = || described("URL", |value| url(value::text(value)?));
    let webhook = table.optional("webhook", resource()).map(AnchorTarget::Webhook);
    let timestamp = table.optional("timestamp", resource()).map(AnchorTarget::Timestamp);
    match set.as_slice() {
        [key] => {
            if *key != "file" && !has_admin {
                let wrong = Diagnostic::bare("is sent by the observer, and there is none without [admin]");
                table.report(key, wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
            }
        }
        [] if !table.has_unknown() => {
            let wrong = Diagnostic::bare("is missing: the anchor is nothing");
            table.report("file", wrong.hint("write one of `file`, `syslog`, `webhook` and `timestamp`"));
        }
        [_, second, ..] => {
            let wrong = Diagnostic::bare("is one too many: an anchor is one of them");
            table.report(second, wrong.hint("give each its own `[[audit.anchor]]`"));
        }
        [] => {}
    }
    file.or(server).or(webhook).or(timestamp)
}

/// A server of syslog.
pub(super) fn syslog(text: &str) -> Result<SyslogServer, Diagnostic> {
    let hint =
        "write \"unix:/dev/log\", \"udp://192.0.2.1:514\", \"tcp://log.example:601\" or \"tls://log.example:6514\"";
    let wrong = || Diagnostic::bare(format!("{text:?} is no server of syslog")).hint(hint);
    if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
        return Ok(SyslogServer::Unix(path.into()));
    }
    let (scheme, server) = text.split_once("://").ok_or_else(wrong)?;
    let server = address::server(server)?;
    match scheme {
        "tcp" => Ok(SyslogServer::Tcp(server)),
        "tls" => Ok(SyslogServer::Tls(server)),
        "udp" => Ok(SyslogServer::Udp(server)),
        _ => Err(wrong()),
    }
}

fn url(text: &str) -> Result<AnchorUrl, Diagnostic> {
    let wrong = |what: &str| {
        Diagnostic::bare(format!("{text:?} {what}")).hint("write, for example, \"https://audit.example/anchors\"")
    };
    let uri: http::Uri = text.parse().map_err(|_error| wrong("is no URL"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong("is no URL of http or https")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("holds a user name, which is not sent"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    Ok(AnchorUrl { is_tls, host, port, authority: authority.to_string(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_anchors_are() {
        for (text, expect) in [
            ("unix:/dev/log", Some("unix:/dev/log")),
            ("udp://192.0.2.1:514", Some("udp://192.0.2.1:514")),
            ("tls://[2001:db8::1]:6514", Some("tls://[2001:db8::1]:6514")),
            ("tcp://log.example:601", Some("tcp://log.example:601")),
            ("unix:log", None),
            ("log.example:514", None),
            ("http://log.example:514", None),
            ("tcp://log.example", None),
        ] {
            assert_eq!(
                syslog(text).ok().map(|server| AnchorTarget::Syslog(server).text()).as_deref(),
                expect,
                "{text}"
            );
        }
        for (text, expect) in [
            ("https://audit.example/a?b=c", Some(("audit.example", 443))),
            ("http://[::1]:8080", Some(("::1", 8080))),
            ("https://user@audit.example/", None),
            ("ftp://audit.example/", None),
            ("audit.example", None),
            ("/a", None),
        ] {
            let found = url(text).ok();
            assert_eq!(found.as_ref().map(|url| (&*url.host, url.port)), expect, "{text}");
        }
    }
}
