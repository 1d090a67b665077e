//! Tokens that are bound to a client certificate (RFC 8705 3): whoever steals one cannot use it without the certificate's
//! key.
//!
//! *Invariant:* this is judged for every request by the connection that it came on, also where the token is remembered.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::{Identity, certificate::ClientCertificate};
use crate::{
    os::clock::Now,
    refusal::{BearerError, Refusal, TokenFault},
};

/// Why a token proves nothing that is shown without its certificate.
pub const NO_CERTIFICATE: &str = "it is bound to a client certificate, and none was shown";

/// Which certificate the claim `cnf` of a token names, by its SHA-256.
///
/// # Errors
/// It asks for a proof of another kind (RFC 7800), which nobody could check here: without it the token proves nothing.
pub(super) fn read(cnf: Option<&Value>) -> Result<Option<[u8; 32]>, &'static str> {
    let Some(cnf) = cnf else { return Ok(None) };
    let thumbprint = cnf.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("x5t#S256"));
    let decoded = thumbprint.and_then(Value::as_str).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    let hash = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    hash.map(Some).ok_or("its cnf is no x5t#S256 alone, and no other proof is known")
}

/// Whether a token may be used by whoever has shown `certificate`. `must_be_bound`: a token that anybody could use will
/// not do.
///
/// # Errors
/// [`Reject::InvalidToken`](crate::refusal::Reject::InvalidToken), as RFC 8705 3 has it.
pub(super) fn check(
    token: &Identity,
    certificate: Option<&ClientCertificate>,
    must_be_bound: bool,
    now: Now,
) -> Result<(), Refusal> {
    let refused = |why| Err(Refusal::token(TokenFault::Unfit, why).with(BearerError::InvalidToken));
    match (token.bound_to, certificate) {
        (None, _) if must_be_bound => refused("it is bound to no certificate, and the route asks for that"),
        (None, _) => Ok(()),
        (Some(_), None) => refused(NO_CERTIFICATE),
        (Some(bound_to), Some(shown)) if bound_to == shown.thumbprint => shown.check(now),
        (Some(_), Some(_)) => refused("it is bound to another client certificate"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_tokens_are_bound_to() {
        let hash = BASE64URL_NOPAD.encode(&[7; 32]);
        let no = Err("its cnf is no x5t#S256 alone, and no other proof is known");
        assert_eq!(read(None), Ok(None));
        for (cnf, expect) in [
            (json!({"x5t#S256": hash}), Ok(Some([7; 32]))),
            (json!({"x5t#S256": format!("{hash}=")}), no),
            (json!({"x5t#S256": BASE64URL_NOPAD.encode(&[7; 20])}), no),
            (json!({"x5t#S256": ""}), no),
            (json!({"x5t#S256": [hash]}), no),
            (json!({"x5t#s256": hash}), no),
            (json!({"x5t": hash}), no),
            (json!({"jkt": hash}), no),
            (json!({"x5t#S256": hash, "jkt": hash}), no),
            (json!({}), no),
            (json!(null), no),
            (json!(hash), no),
            (json!([]), no),
        ] {
            assert_eq!(read(Some(&cnf)), expect, "{cnf}");
        }
    }
}
