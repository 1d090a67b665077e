//! Reads `[[access_log.output]]`: files, standard output, syslog, journald.

use std::{path::PathBuf, time::Duration};

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        tables::upstream,
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    settings::access_log::{self, LogFile, Output, Rotate, Syslog, SyslogTransport},
};

/// The keys of `[[access_log.output]]`.
pub(super) const KEYS: Keys = &[
    ("type", "What it is."),
    (
        "path",
        "The file; of journald and of syslog by `unix`, the socket. Without it: where the system has that socket.",
    ),
    ("rotate", "Of files: `false` leaves rotation to others, who send SIGUSR1."),
    ("rotate_size", "A file that is larger is rotated."),
    ("rotate_every", "A file that is older is rotated. Without it only its size counts."),
    ("keep_files", "How many rotated files are kept."),
    ("keep_for", "How long rotated files are kept. Without it only their number counts."),
    ("compress", "Whether rotated files are compressed by gzip."),
    ("transport", "Of syslog: how messages are sent."),
    ("address", "Of syslog by `udp` and `tcp`: the server, `host:port`."),
    ("tls", "Of syslog by `tcp`: `true`, or a table with the same keys as [`upstream.NAME.tls`](#upstreamnametls)."),
    ("facility", "Of syslog: what kind of program speaks."),
    ("app_name", "Of syslog and journald: the name of the program in messages."),
    ("hostname", "Of syslog: the name of the host in messages. Without it: as the host has it."),
];

/// Which keys belong to which type.
const FILE: &[&str] = &["path", "rotate", "rotate_size", "rotate_every", "keep_files", "keep_for", "compress"];
const JOURNALD: &[&str] = &["path"];
const STDOUT: &[&str] = &[];
const SYSLOG: &[&str] = &["path", "transport", "address", "tls", "facility", "app_name", "hostname"];

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

#[derive(Clone, Copy, PartialEq)]
enum Type {
    File,
    Journald,
    Stdout,
    Syslog,
}

#[derive(Clone, Copy, PartialEq)]
enum By {
    Tcp,
    Udp,
    Unix,
}

pub(super) fn read(tables: Vec<Table<'_>>, reader: &Reader<'_>) -> Vec<Output> {
    let mut outputs: Vec<Output> = Vec::new();
    for table in tables {
        let output = one(&table, reader);
        if outputs.len() >= access_log::Settings::MOST_OUTPUTS {
            let wrong = Diagnostic::bare(format!("there are more than {} outputs", access_log::Settings::MOST_OUTPUTS));
            table.report("type", wrong.hint("leave this one out"));
        }
        let where_ = output.as_ref().map(Output::describe);
        if let Some(earlier) = outputs.iter().position(|earlier| Some(earlier.describe()) == where_) {
            let wrong = Diagnostic::bare(format!("goes where access_log.output[{earlier}] goes"));
            table.report("type", wrong.hint("leave one of them out"));
        }
        table.finish();
        outputs.extend(output);
    }
    outputs
}

fn one(table: &Table<'_>, reader: &Reader<'_>) -> Option<Output> {
    let types =
        [("file", Type::File), ("stdout", Type::Stdout), ("syslog", Type::Syslog), ("journald", Type::Journald)];
    let kind = table.required("type", "\"file\"", value::choice(&types));
    let path = table.path("path");
    let rotate = rotate(table);
    let syslog = syslog(table, path.clone(), kind == Some(Type::Syslog), reader);
    let (name, keys) = match kind? {
        Type::File => ("file", FILE),
        Type::Journald => ("journald", JOURNALD),
        Type::Stdout => ("stdout", STDOUT),
        Type::Syslog => ("syslog", SYSLOG),
    };
    for (key, _) in KEYS.iter().filter(|(key, _)| *key != "type" && !keys.contains(key) && table.has(key)) {
        table.report(
            key,
            Diagnostic::bare(format!("has no effect for an output of type {name:?}")).hint("leave it out"),
        );
    }
    match kind? {
        Type::File => {
            if !table.has("path") {
                let wrong = Diagnostic::bare("needs a path");
                table.report("type", wrong.hint("write, for example, `path = \"/var/log/gateway/access.log\"`"));
            }
            Some(Output::File(LogFile { path: path?, rotate }))
        }
        Type::Journald => Some(Output::Journald(path.unwrap_or_else(|| "/run/systemd/journal/socket".into()))),
        Type::Stdout => Some(Output::Stdout),
        Type::Syslog => syslog.map(|syslog| Output::Syslog(Box::new(syslog))),
    }
}

fn rotate(table: &Table<'_>) -> Option<Rotate> {
    let rotates = table.or("rotate", true, value::boolean());
    let size = table.or("rotate_size", 100 << 20, value::size_in((64 << 10)..=(1 << 40)));
    let every = table.optional("rotate_every", value::duration_in(HOUR / 60..=TEN_YEARS));
    let keep_files = table.or("keep_files", 10, value::count(0..=10_000));
    let keep_for = table.optional("keep_for", value::duration_in(HOUR..=TEN_YEARS));
    let compress = table.or("compress", true, value::boolean());
    for key in FILE.iter().filter(|key| **key != "path" && **key != "rotate") {
        if !rotates && table.has(key) {
            let wrong = Diagnostic::bare("has no effect where `rotate` is `false`");
            table.report(key, wrong.hint("leave it out, or `rotate`"));
        }
    }
    if keep_for.zip(every).is_some_and(|(keep_for, every)| keep_for < every) {
        let wrong = Diagnostic::bare("is shorter than `rotate_every`: no rotated file would be kept");
        table
            .report("keep_for", wrong.hint(format!("write at least {:?}", value::show_duration(every.unwrap_or(DAY)))));
    }
    rotates.then_some(Rotate { size, every, keep_files, keep_for, compress })
}

fn syslog(table: &Table<'_>, path: Option<PathBuf>, is_meant: bool, reader: &Reader<'_>) -> Option<Syslog> {
    let transports = [("unix", By::Unix), ("udp", By::Udp), ("tcp", By::Tcp)];
    let by = table.or("transport", By::Unix, value::choice(&transports));
    let server = table.optional(
        "address",
        described("server, `host:port`", |value: &DeValue<'_>| address::server(value::text(value)?)),
    );
    let tls = upstream::tls::read(table, reader);
    let facility = table.or("facility", 16, value::choice(&Syslog::FACILITIES));
    let word = || {
        described("word of printable ASCII", |value: &DeValue<'_>| {
            let text = value::line(value)?;
            if text.len() <= 48 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Ok(text);
            }
            Err(Diagnostic::bare(format!("{text:?} is not one word")).hint("write 1 to 48 letters of ASCII, no spaces"))
        })
        .written(|word: &String| format!("{word:?}"))
    };
    let app_name = table.or("app_name", "gateway".to_owned(), word());
    let hostname = table.optional("hostname", word());
    if !is_meant {
        return None;
    }
    if by == By::Unix && table.has("address") {
        let wrong = Diagnostic::bare("has no effect for a socket of this host");
        table.report("address", wrong.hint("write `transport = \"udp\"` or \"tcp\", or name the socket by `path`"));
    }
    if by != By::Unix && table.has("path") {
        let wrong = Diagnostic::bare("has no effect where there is an address");
        table.report("path", wrong.hint("leave it out, or write `transport = \"unix\"`"));
    }
    if by != By::Tcp && table.has("tls") {
        let wrong = Diagnostic::bare("needs `transport = \"tcp\"`");
        table.report("tls", wrong.hint("write `transport = \"tcp\"`, or leave `tls` out"));
    }
    if by != By::Unix && !table.has("address") {
        let wrong = Diagnostic::bare("needs an address");
        table.report("transport", wrong.hint("write, for example, `address = \"logs.example.com:6514\"`"));
    }
    let transport = match (by, tls) {
        (By::Unix, _) => SyslogTransport::Unix(path.unwrap_or_else(|| "/dev/log".into())),
        (By::Udp, _) => SyslogTransport::Udp(server?),
        (By::Tcp, None) => SyslogTransport::Tcp(server?),
        (By::Tcp, Some(tls)) => SyslogTransport::Tls(server?, tls),
    };
    Some(Syslog { transport, facility, app_name, hostname })
}
