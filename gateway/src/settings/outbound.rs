//! How the gateway asks a server by HTTP that is not behind it: whom to believe, which addresses to connect to, how long
//! to wait.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::tls;
use crate::{
    net::reach::{Reach, reach},
    os::file::{NamedFile, whole},
    web::url::Url,
};

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundServer {
    /// Whom to believe where it is asked by `https`, and what the gateway shows of itself. `ca`, `certificate`,
    /// `private_key`.
    pub tls: tls::UpstreamTls,
    /// Whether it may have an address of this host or of a private network. `allow_private`.
    pub allow_private: bool,
    /// Whether it may be asked by `http`, on this host alone. `allow_http`.
    pub allow_http: bool,
    /// How long one answer may take, with everything before it. `timeout`.
    pub timeout: Duration,
}

/// Why a URL is never asked, as far as its text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlRefusal {
    /// It is this host, or a private network, and which: `allow_private` is not set.
    Private(&'static str),
    /// Its address is one that no setting allows, and why.
    Never(&'static str),
    /// It is `http` to another host.
    Http,
    /// It is `http` to this host: `allow_http` is not set.
    HttpHere,
}

impl OutboundServer {
    /// Whether a URL may be asked, as far as its text tells. What its name resolves to is judged when it is asked.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge(&self, url: &Url) -> Result<(), UrlRefusal> {
        let reach = match url.address() {
            Some(address) => reach(address),
            None if url.host() == "localhost" || url.host().ends_with(".localhost") => Reach::Loopback,
            None => Reach::Global,
        };
        match reach {
            Reach::Never(why) => Err(UrlRefusal::Never(why)),
            Reach::Loopback if !url.is_https() && self.allow_http => Ok(()),
            Reach::Loopback if !url.is_https() => Err(UrlRefusal::HttpHere),
            _ if !url.is_https() => Err(UrlRefusal::Http),
            Reach::Loopback if !self.allow_private => Err(UrlRefusal::Private("is this host")),
            Reach::Private(what) if !self.allow_private => Err(UrlRefusal::Private(what)),
            _ => Ok(()),
        }
    }
}

/// How a server that the observer asks is connected to: as [`OutboundServer`], in a form that processes hand to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// `ca`.
    #[serde(with = "whole")]
    pub ca: NamedFile,
    /// `certificate`.
    #[serde(with = "whole::optional")]
    pub certificate: Option<NamedFile>,
    /// `private_key`.
    #[serde(with = "whole::optional")]
    pub private_key: Option<NamedFile>,
    /// `allow_private`.
    pub allow_private: bool,
    /// `allow_http`.
    pub allow_http: bool,
    /// `timeout`.
    pub timeout: Duration,
}

impl Dial {
    /// From what every table of a server has.
    #[must_use]
    pub fn new(server: OutboundServer) -> Self {
        let (certificate, private_key) = server.tls.certificate.unzip();
        let OutboundServer { allow_private, allow_http, timeout, .. } = server;
        Self { ca: server.tls.ca, certificate, private_key, allow_private, allow_http, timeout }
    }

    /// The same as a server that is asked.
    #[must_use]
    pub fn server(&self) -> OutboundServer {
        let tls = tls::UpstreamTls {
            ca: self.ca.clone(),
            server_name: None,
            certificate: self.certificate.clone().zip(self.private_key.clone()),
            accepts_any: false,
            pins: Vec::new(),
        };
        let Self { allow_private, allow_http, timeout, .. } = *self;
        OutboundServer { tls, allow_private, allow_http, timeout }
    }

    /// Of what is not connected to by TCP.
    #[must_use]
    pub fn none() -> Self {
        let ca = NamedFile { path: PathBuf::new(), bytes: Arc::default() };
        let timeout = Duration::from_secs(10);
        Self { ca, certificate: None, private_key: None, allow_private: true, allow_http: true, timeout }
    }
}

/// A URL that may be a secret: whoever knows it can write to the channel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUrl {
    /// The URL.
    pub text: String,
    /// The file that has it; `None`: the configuration has it, and it is no secret.
    #[serde(with = "whole::optional")]
    pub file: Option<NamedFile>,
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(out, "SecretUrl({file:?})"),
            None => write!(out, "SecretUrl({})", self.text),
        }
    }
}

impl SecretUrl {
    /// Who is asked, without the path: it may hold a key. The name of the file, where that has the URL.
    #[must_use]
    pub fn shown(&self) -> String {
        let url = || Url::parse(&self.text).ok().map(|url| url.with_path("/").to_string());
        match &self.file {
            Some(file) => file.path.display().to_string(),
            None => url().unwrap_or_default(),
        }
    }
}
