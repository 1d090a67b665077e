//! Authentication: who a request comes from.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};

use crate::{
    clock::Now,
    refusal::{Refusal, Reject},
};

pub mod certificate;
pub mod crypto;
pub mod identity;
pub mod jwt;

pub use crypto::install as install_crypto;
pub use identity::Identity;

/// Whom a request comes from: a token says so if there is one, else the client's certificate. `carried`: a token that
/// was found elsewhere than in `Authorization`.
///
/// # Errors
/// As [`jwt::Jwt::authenticate`] and [`certificate::ClientCertificate::identity`]; [`Reject::MissingToken`] where there is neither.
pub fn identify(
    jwt: Option<&jwt::Jwt>,
    shown: Option<&certificate::ClientCertificate>,
    headers: &HeaderMap,
    carried: Option<&[u8]>,
    now: Now,
) -> Result<Arc<Identity>, Refusal> {
    match (jwt, shown) {
        (Some(jwt), Some(_)) if carried.is_some() || headers.contains_key(AUTHORIZATION) => {
            jwt.authenticate(headers, carried, now)
        }
        (_, Some(shown)) => shown.identity(now),
        (Some(jwt), None) => jwt.authenticate(headers, carried, now),
        (None, None) => Err(Refusal::new(Reject::MissingToken, "no client certificate")),
    }
}
