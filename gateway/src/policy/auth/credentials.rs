//! Reads `Authorization` (RFC 9110 11.6.2): at most one credential, of a scheme that the route accepts.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::{refusal::Refusal, settings::auth::Method, web::header_values};

/// The scheme of a bearer token, in any case (RFC 6750 2.1).
const BEARER: &[u8] = b"Bearer";

/// The same of name and password (RFC 7617 2).
const BASIC: &[u8] = b"Basic";

/// What a request's `Authorization` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorization<'a> {
    /// A name and a password, in base64.
    Basic(&'a [u8]),
    /// A bearer token.
    Bearer(&'a [u8]),
    /// There is none, or no accepted method reads it.
    None,
    /// Something of a scheme that no accepted method has.
    Other,
}

/// Whether `Authorization` holds a name and a password.
#[must_use]
pub fn holds_password(headers: &HeaderMap) -> bool {
    let begins = |line: &HeaderValue| header_values::credentials(line.as_bytes(), BASIC).is_some();
    headers.get_all(AUTHORIZATION).iter().any(begins)
}

impl<'a> Authorization<'a> {
    /// What the accepted `methods` find. `carried`: a bearer token that was found elsewhere.
    ///
    /// # Errors
    /// [`Reject::BadRequest`](crate::refusal::Reject::BadRequest): there is more than one credential.
    pub(super) fn read(headers: &'a HeaderMap, carried: Option<&'a [u8]>, methods: &[Method]) -> Result<Self, Refusal> {
        if !methods.iter().any(|method| method.reads_authorization()) {
            return Ok(Self::None);
        }
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let line = match (lines.next(), lines.next(), carried) {
            (None, _, None) => return Ok(Self::None),
            (None, _, Some(token)) => return Ok(Self::Bearer(token)),
            (Some(_), Some(_), _) => return Err(Refusal::ambiguous("more than one Authorization")),
            (Some(_), None, Some(_)) => return Err(Refusal::ambiguous("a token in two places")),
            (Some(line), None, None) => line.as_bytes(),
        };
        let accepts_tokens = methods.iter().any(|method| method.is_token());
        if let Some(token) = header_values::credentials(line, BEARER).filter(|_| accepts_tokens) {
            return Ok(Self::Bearer(token));
        }
        let basic = header_values::credentials(line, BASIC).filter(|_| methods.contains(&Method::Basic));
        Ok(basic.map_or(Self::Other, Self::Basic))
    }
}
