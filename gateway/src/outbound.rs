//! Servers that the gateway asks by HTTP: what is known of one, and the client that asks it.

use std::{fmt, sync::Arc};

use rustls::ClientConfig;

use crate::{diagnostic::Diagnostic, settings, tls};

pub(crate) mod client;

/// How a server is asked.
pub struct Server {
    /// What it was made from.
    pub settings: settings::outbound::OutboundServer,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Server {
    /// Compiles what speaking TLS takes.
    ///
    /// # Errors
    /// `ca`, `certificate` or `private_key`: not what it should be.
    pub fn new(settings: &settings::outbound::OutboundServer) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self { settings: settings.clone(), tls: tls::client_config(&settings.tls)? })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Server({:?})", self.settings)
    }
}
