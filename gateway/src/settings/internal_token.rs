//! `[internal_token]`: the token that the gateway makes for upstreams, which says who the client is.

use std::time::Duration;

use http::HeaderName;

use crate::{identity::claim::ClaimPath, os::file::NamedFile};

/// The token that the gateway makes for upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `issuer`: its `iss`.
    pub issuer: String,
    /// `audience`: its `aud`; `None`: the name of the upstream.
    pub audience: Option<String>,
    /// `private_key`: what it is signed by: a key for ES256, PEM.
    pub private_key: NamedFile,
    /// `former_keys`: public keys that are published, too, PEM.
    pub former_keys: Vec<NamedFile>,
    /// `lifetime`: how long it is good.
    pub lifetime: Duration,
    /// `header`: where it is sent. In `authorization` it is a bearer token.
    pub header: HeaderName,
    /// `claims`: which claims of the client's token it repeats.
    pub claims: Vec<ClaimPath>,
    /// `jwks_path`: where its public keys are served; `None`: nowhere.
    pub jwks_path: Option<String>,
    /// `cache`: how many tokens are remembered, over all workers.
    pub cache: usize,
}
