//! How the gateway asks a server by HTTP that is not behind it: whom to believe, which addresses to connect to, how long
//! to wait.

use std::time::Duration;

use super::tls;

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whom to believe where it is asked by `https`, and what the gateway shows of itself. `ca`, `certificate`,
    /// `private_key`.
    pub tls: tls::Client,
    /// Whether it may have an address of this host or of a private network. `allow_private`.
    pub allow_private: bool,
    /// Whether it may be asked by `http`, on this host alone. `allow_http`.
    pub allow_http: bool,
    /// How long one answer may take, with everything before it. `timeout`.
    pub timeout: Duration,
}
