//! The settings of `[admin]`, valid: where metrics and health are served, and for whom.

use std::{net::SocketAddr, path::PathBuf};

use super::tls::Certificate;
use crate::os::file::NamedFile;

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `admin.address` or `admin.socket`.
    pub listen: Listen,
    /// Names by which clients may ask, besides addresses and `localhost`. `admin.hosts`.
    pub hosts: Vec<String>,
    /// `None`: plain HTTP. `admin.certificate`, `admin.private_key`.
    pub certificate: Option<Certificate>,
    /// Whose client certificates are accepted; `None`: none is asked for. `admin.client_ca`.
    pub client_ca: Option<NamedFile>,
    /// Whom the observer runs as; `None`: as the proxy. `admin.user`.
    pub user: Option<String>,
    /// The bearer token that clients must send, as its file has it. `admin.token_file`.
    pub token: Option<NamedFile>,
    /// Whether there is a page for browsers. `admin.dashboard`.
    pub dashboard: bool,
}

impl Settings {
    /// The files that only the observer may know.
    pub fn secrets(&self) -> impl Iterator<Item = &NamedFile> {
        self.certificate.iter().map(|pair| &pair.private_key).chain(&self.token)
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.listen {
            Listen::Tcp(address) if self.certificate.is_some() => format!("https://{address}"),
            Listen::Tcp(address) => format!("http://{address}"),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// Where the admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `admin.address`.
    Tcp(SocketAddr),
    /// `admin.socket`.
    Unix(PathBuf),
}

impl Listen {
    /// The path of the Unix socket, where it is one.
    #[must_use]
    pub const fn socket(&self) -> Option<&PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}
