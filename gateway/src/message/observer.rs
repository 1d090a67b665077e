//! What the guard tells the observer: what to serve, and where the numbers of each process come from.

use serde::{Deserialize, Serialize};

use super::telemetry::Telemetry;
use crate::{diagnostic::Diagnostic, settings, tls};

/// What the guard tells the observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToObserver {
    /// The first message. Carries the [`ObserverConfig`] as a sealed memory file, then the admin listener's socket.
    Start,
    /// Carries another [`ObserverConfig`].
    Configure,
    /// Carries the socket by which a proxy tells what it measures.
    Proxy {
        /// Larger than that of any proxy before.
        generation: u64,
    },
    /// Carries a sealed [`Delivery`](super::delivery::Delivery), and the socket that takes one
    /// [`Delivered`](super::delivery::Delivered).
    Deliver,
    /// What the guard measures itself.
    Telemetry(Telemetry),
}

/// Everything that the observer needs of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverConfig {
    /// `admin.hosts`.
    pub hosts: Vec<String>,
    /// Whether the listener is a Unix socket: then any host may be named.
    pub is_unix: bool,
    /// `None`: plain HTTP.
    pub tls: Option<AdminTls>,
    /// The bearer token that is asked for.
    pub token: Option<Vec<u8>>,
    /// Where traces are sent; `None`: nowhere.
    pub traces: Option<settings::traces::Settings>,
}

/// TLS of the admin listener, all of it PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminTls {
    /// The chain, leaf first.
    pub certificate: Vec<u8>,
    /// Its key.
    pub private_key: Vec<u8>,
    /// Whose client certificates are accepted; `None`: none is asked for.
    pub client_ca: Option<Vec<u8>>,
}

/// A token that is shorter could be guessed.
const SHORTEST_TOKEN: usize = 16;

impl ObserverConfig {
    /// What the observer needs, once it is known that it can be used.
    ///
    /// # Errors
    /// Files that are not what they should be.
    pub fn new(
        settings: &settings::admin::Settings,
        traces: Option<&settings::traces::Settings>,
    ) -> Result<Self, Diagnostic> {
        let tls = settings.certificate.as_ref().map(|pair| AdminTls {
            certificate: pair.certificate.bytes.to_vec(),
            private_key: pair.private_key.bytes.to_vec(),
            client_ca: settings.client_ca.as_ref().map(|file| file.bytes.to_vec()),
        });
        if let Some(tls) = &tls {
            tls.compile().map_err(|fault| fault.under("admin"))?;
        }
        let token = settings.token.as_ref().map(|file| {
            let token = file.bytes.trim_ascii();
            let is_token = token.len() >= SHORTEST_TOKEN && token.iter().all(u8::is_ascii_graphic);
            let wrong = || {
                let what = "holds no token: one line of at least 16 printable characters without spaces";
                let hint = format!("openssl rand -base64 32 > {}", file.path.display());
                Diagnostic::new("admin.token_file", what).hint(hint)
            };
            is_token.then(|| token.to_vec()).ok_or_else(wrong)
        });
        let is_unix = settings.listen.socket().is_some();
        Ok(Self { hosts: settings.hosts.clone(), is_unix, tls, token: token.transpose()?, traces: traces.cloned() })
    }
}

impl AdminTls {
    /// How TLS is spoken.
    ///
    /// # Errors
    /// Something is not what it should be.
    pub fn compile(&self) -> Result<std::sync::Arc<rustls::ServerConfig>, Diagnostic> {
        tls::admin(&self.certificate, &self.private_key, self.client_ca.as_deref())
    }
}
