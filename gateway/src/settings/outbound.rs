//! How the gateway asks a server by HTTP that is not behind it: whom to believe, which addresses to connect to, how long
//! to wait.

use std::time::Duration;

use super::tls;
use crate::{
    reach::{Reach, reach},
    url::Url,
};

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
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
pub enum Refusal {
    /// It is this host, or a private network, and which: `allow_private` is not set.
    Private(&'static str),
    /// Its address is one that no setting allows, and why.
    Never(&'static str),
    /// It is `http` to another host.
    Http,
    /// It is `http` to this host: `allow_http` is not set.
    HttpHere,
}

impl Server {
    /// Whether a URL may be asked, as far as its text tells. What its name resolves to is judged when it is asked.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge(&self, url: &Url) -> Result<(), Refusal> {
        let reach = match url.address() {
            Some(address) => reach(address),
            None if url.host() == "localhost" || url.host().ends_with(".localhost") => Reach::Loopback,
            None => Reach::Global,
        };
        match reach {
            Reach::Never(why) => Err(Refusal::Never(why)),
            Reach::Loopback if !url.is_https() && self.allow_http => Ok(()),
            Reach::Loopback if !url.is_https() => Err(Refusal::HttpHere),
            _ if !url.is_https() => Err(Refusal::Http),
            Reach::Loopback if !self.allow_private => Err(Refusal::Private("is this host")),
            Reach::Private(what) if !self.allow_private => Err(Refusal::Private(what)),
            _ => Ok(()),
        }
    }
}
