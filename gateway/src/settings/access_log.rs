//! Decides what `[access_log]` holds once it is valid: what a line says, which requests get one, and where lines go.

use std::{path::PathBuf, time::Duration};

use http::HeaderName;

pub use field::Field;

use super::tls::UpstreamTls;
use crate::{net::geo::Geo, os::file::NamedFile, text::digits::decimal};

mod field;

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How a line is written. `access_log.format`.
    pub format: LineFormat,
    /// Headers of requests that every line has. `access_log.request_headers`.
    pub request_headers: Vec<HeaderName>,
    /// Headers of responses that every line has. `access_log.response_headers`.
    pub response_headers: Vec<HeaderName>,
    /// What is never written. `[access_log.redact]`.
    pub redact: Redact,
    /// How principals are written. `access_log.principal`.
    pub principal: Principal,
    /// Which served requests get a line. Refusals always do.
    pub keep: LineFilter,
    /// Where lines go. `[[access_log.output]]`; never empty.
    pub outputs: Vec<Output>,
    /// Where addresses are. `[geo]`.
    pub geo: Geo,
}

impl Settings {
    /// Lines say where clients are, if that is known at all and nothing else is chosen.
    pub fn locate(&mut self, geo: &Geo) {
        self.geo = geo.clone();
        if let LineFormat::Json(fields) = &mut self.format
            && geo.is_configured()
            && *fields == Field::DEFAULT
        {
            fields.extend([Field::Country, Field::Asn]);
        }
    }

    /// The most outputs.
    pub const MOST_OUTPUTS: usize = 8;

    /// The files among the outputs, in their order.
    pub fn files(&self) -> impl Iterator<Item = &LogFile> {
        self.outputs.iter().filter_map(|output| match output {
            Output::File(file) => Some(file),
            Output::Journald(_) | Output::Stdout | Output::Syslog(_) => None,
        })
    }

    /// How many outputs the guard opens for the proxy.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.outputs.iter().filter(|output| output.is_opened()).count()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: LineFormat::Json(Field::DEFAULT.to_vec()),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            redact: Redact {
                parameters: PARAMETERS.map(str::to_owned).to_vec(),
                shown: Vec::new(),
                patterns: vec![JWT.to_owned()],
            },
            principal: Principal::Plain,
            keep: LineFilter::default(),
            outputs: vec![Output::Stdout],
            geo: Geo::default(),
        }
    }
}

/// Parameters of a query whose values are not written.
pub const PARAMETERS: [&str; 37] = [
    "access_token",
    "api_key",
    "apikey",
    "assertion",
    "auth",
    "auth_token",
    "authorization",
    "awsaccesskeyid",
    "client_assertion",
    "client_secret",
    "code",
    "credential",
    "credentials",
    "id_token",
    "jsessionid",
    "jwt",
    "key",
    "otp",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "pin",
    "private_key",
    "pwd",
    "refresh_token",
    "samlresponse",
    "secret",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "ticket",
    "token",
];

/// A name of a parameter without what makes no difference: in small letters, with `_` for `-`, blank and `+`.
#[must_use]
pub fn parameter_name(name: &str) -> String {
    name.trim().to_lowercase().replace(['-', ' ', '+'], "_")
}

/// The same without `_`: `accessToken` and `access_token` are one.
#[must_use]
pub fn compact_parameter(name: &str) -> String {
    let mut name = parameter_name(name);
    name.retain(|letter| letter != '_');
    name
}

/// What the names of secrets end with, as [`compact_parameter`] has them.
pub const SECRET_ENDINGS: [&str; 5] = ["apikey", "password", "secret", "signature", "token"];

/// A JSON Web Token wherever it stands: signed ones have up to three parts, encrypted ones five. Parts may be empty.
pub const JWT: &str = r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}";

/// How much memory a compiled pattern may take, in bytes.
pub const PATTERN_SIZE: usize = 1 << 20;

/// Headers that are never written: they hold secrets, and nothing else.
pub const SECRET_HEADERS: [&str; 19] = [
    "authorization",
    "cookie",
    "cookie2",
    "private-token",
    "proxy-authorization",
    "proxy-authentication-info",
    "authentication-info",
    "sec-websocket-key",
    "set-cookie",
    "set-cookie2",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-forwarded-access-token",
    "x-goog-api-key",
    "x-vault-token",
    "x-xsrf-token",
];

/// How a line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// As Apache and nginx name it.
    Combined,
    /// Fields of the Elastic Common Schema.
    Ecs,
    /// A JSON object with these fields.
    Json(Vec<Field>),
    /// Text with fields in it.
    Template(Vec<TemplatePart>),
}

impl LineFormat {
    /// As the configuration has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Ecs => "ecs",
            Self::Json(_) => "json",
            Self::Template(_) => "template",
        }
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Written as it is.
    Text(String),
    /// A field.
    Field(Field),
    /// A header of the request.
    RequestHeader(HeaderName),
    /// A header of the response.
    ResponseHeader(HeaderName),
}

/// What is never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact {
    /// Parameters of the query, as [`parameter_name`] has them. `access_log.redact.parameters`.
    pub parameters: Vec<String>,
    /// Parameters that are written, in the same form. `access_log.redact.show_parameters`.
    pub shown: Vec<String>,
    /// Regular expressions, each of which compiles. `access_log.redact.patterns`.
    pub patterns: Vec<String>,
}

/// How principals are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Principal {
    /// By a keyed hash. Without a key: by one that is made when the gateway starts.
    Hashed(Option<NamedFile>),
    /// As they are.
    Plain,
}

/// Which served requests get a line: those with one of `statuses` or slower than `slower_than`, on one of `routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineFilter {
    /// Statuses, and classes of them. Empty: all.
    pub statuses: Vec<Statuses>,
    /// How long a request took at least.
    pub slower_than: Option<Duration>,
    /// Paths of routes as the configuration has them. Empty: all.
    pub routes: Vec<String>,
    /// None of them.
    pub only_refused: bool,
    /// How many of a million successes; `None`: all.
    pub sample: Option<u32>,
}

/// One status, or all of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

impl Statuses {
    /// `5xx`, or `503`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class) && text.len() == 3)?;
            return Some(Self { from: class * 100, to: class * 100 + 99 });
        }
        let status = decimal(text).filter(|status| (100..=599).contains(status))?;
        Some(Self { from: status, to: status })
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.from == self.to { write!(out, "{}", self.from) } else { write!(out, "{}xx", self.from / 100) }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A file.
    File(LogFile),
    /// The journal of systemd, by its own protocol.
    Journald(PathBuf),
    /// Standard output.
    Stdout,
    /// A syslog server (RFC 5424).
    Syslog(Box<Syslog>),
}

impl Output {
    /// Whether the guard opens it: the proxy opens no file.
    #[must_use]
    pub const fn is_opened(&self) -> bool {
        matches!(self, Self::File(_) | Self::Stdout)
    }

    /// Whether both write to the same place, so that one goes on where the other was. When files are rotated is not the
    /// writer's business.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(file), Self::File(other)) => file.path == other.path,
            _ => self == other,
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File(file) => file.path.display().to_string(),
            Self::Journald(path) => format!("journald at {}", path.display()),
            Self::Stdout => "standard output".to_owned(),
            Self::Syslog(syslog) => format!("syslog at {}", syslog.transport.describe()),
        }
    }
}

/// A file, and when another takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where.
    pub path: PathBuf,
    /// `None`: the gateway does not rotate it.
    pub rotate: Option<Rotate>,
}

/// When a file is rotated, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Once it is so large, in bytes. `rotate_size`.
    pub size: u64,
    /// Once it is so old. `rotate_every`.
    pub every: Option<Duration>,
    /// How many rotated files are kept. `keep_files`.
    pub keep_files: usize,
    /// How long they are kept. `keep_for`.
    pub keep_for: Option<Duration>,
    /// Whether they are compressed. `compress`.
    pub compress: bool,
}

/// A syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// How it is reached.
    pub transport: SyslogTransport,
    /// The facility's number.
    pub facility: u8,
    /// The name of this program: `APP-NAME`.
    pub app_name: String,
    /// The name of this host: `HOSTNAME`. `None`: as the host has it.
    pub hostname: Option<String>,
}

impl Syslog {
    /// The facilities of RFC 5424 that programs use.
    pub const FACILITIES: [(&'static str, u8); 12] = [
        ("user", 1),
        ("daemon", 3),
        ("auth", 4),
        ("authpriv", 10),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
}

/// How a syslog server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    /// TCP, each message with its length in front (RFC 6587).
    Tcp(String),
    /// The same in TLS (RFC 5425).
    Tls(String, UpstreamTls),
    /// UDP (RFC 5426).
    Udp(String),
    /// A datagram socket of this host.
    Unix(PathBuf),
}

impl SyslogTransport {
    /// As the configuration has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) | Self::Tls(..) => "tcp",
            Self::Udp(_) => "udp",
            Self::Unix(_) => "unix",
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tcp(address) => format!("{address} (tcp)"),
            Self::Tls(address, _) => format!("{address} (tls)"),
            Self::Udp(address) => format!("{address} (udp)"),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}
