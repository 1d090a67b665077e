//! The audit chain: how long its files get, which are kept, how often it is signed, and where its head is sent.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::os::file::NamedFile;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `audit.max_size`: a file of at least so many bytes is closed, and another begun.
    pub max_size: u64,
    /// `audit.checkpoint`: how long a record stays unsigned at most.
    pub checkpoint: Duration,
    /// What of closed files is kept.
    pub keep: Retention,
    /// `audit.compress`: closed files are compressed, all but the newest.
    pub compress: bool,
    /// `[[audit.anchor]]`.
    pub anchors: Vec<Anchor>,
}

/// The largest file that is compressed, in bytes: it is unpacked in memory where its end is looked for.
pub const MOST_COMPRESSED: u64 = 256 << 20;

/// Closed files beyond any of these are deleted, the oldest first. All `None`: none ever is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `audit.keep_files`.
    pub files: Option<usize>,
    /// `audit.keep_size`: bytes of all of them together.
    pub bytes: Option<u64>,
    /// `audit.keep_for`: since their last record.
    pub age: Option<Duration>,
}

/// `[[audit.anchor]]`: where checkpoints are sent, so that a cut tail and an older copy are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// `name`: in `status`, in warnings and in the name of files.
    pub name: String,
    /// What it is.
    pub target: AnchorTarget,
    /// `ca`: who vouches for the server's certificate, where it is spoken to by TLS.
    pub ca: Option<NamedFile>,
    /// `every`: no more often than this; the newest checkpoint is sent.
    pub every: Duration,
}

/// What an anchor is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorTarget {
    /// `file`: a line is appended to it.
    File(PathBuf),
    /// `syslog`: a message.
    Syslog(SyslogServer),
    /// `timestamp`: a request for a time stamp (RFC 3161).
    Timestamp(AnchorUrl),
    /// `webhook`: a POST request with the JSON of the checkpoint.
    Webhook(AnchorUrl),
}

/// Where messages of syslog go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogServer {
    /// `tcp://HOST:PORT`.
    Tcp(String),
    /// `tls://HOST:PORT`.
    Tls(String),
    /// `udp://HOST:PORT`.
    Udp(String),
    /// `unix:PATH`, datagrams.
    Unix(PathBuf),
}

/// An HTTP resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorUrl {
    /// `https`.
    pub is_tls: bool,
    /// The host's name or address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl AnchorTarget {
    /// What `status` calls it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Timestamp(_) => "timestamp",
            Self::Webhook(_) => "webhook",
        }
    }

    /// Whether the server shows a certificate.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Syslog(server) => matches!(server, SyslogServer::Tls(_)),
            Self::Timestamp(url) | Self::Webhook(url) => url.is_tls,
        }
    }

    /// As the configuration has it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Syslog(SyslogServer::Tcp(server)) => format!("tcp://{server}"),
            Self::Syslog(SyslogServer::Tls(server)) => format!("tls://{server}"),
            Self::Syslog(SyslogServer::Udp(server)) => format!("udp://{server}"),
            Self::Syslog(SyslogServer::Unix(path)) => format!("unix:{}", path.display()),
            Self::Timestamp(url) | Self::Webhook(url) => {
                format!("http{}://{}{}", if url.is_tls { "s" } else { "" }, url.authority, url.path)
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_size: 64 << 20,
            checkpoint: Duration::from_secs(60),
            keep: Retention::default(),
            compress: false,
            anchors: Vec::new(),
        }
    }
}
