//! What a finished handshake says of its client.

use std::sync::Arc;

use super::hsts::HstsHosts;
use crate::policy::auth::certificate::ClientCertificate;

/// What a handshake said of its client.
pub(crate) struct Secured {
    /// `TLSv1.2`, `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Whether HTTP/2 was agreed on.
    pub(crate) is_http2: bool,
    /// Which certificates it was asked for: an index into the settings.
    pub(crate) asked: Option<usize>,
    /// The one that it showed.
    pub(crate) shown: Option<ClientCertificate>,
    /// What its browser is told with every answer.
    pub(crate) hsts: Option<Arc<HstsHosts>>,
}
