//! Parses a token before any cryptography: only the one canonical spelling, with a header and claims as they have to be,
//! reaches the library.
//!
//! The library keeps the last of duplicate members and passes over what it does not know, `crit` included; here
//! everything that could be read in two ways is refused. Nothing that is read here is believed before the signature
//! is verified; that comes after, because it is what costs.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::{invalid::Invalid, keys::MAX_KID};
use crate::{
    auth::{Identity, identity},
    json,
    refusal::TokenFault,
    settings::jwt::Settings,
};

/// The longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// The longest `sub`, in bytes (OpenID Connect Core 2 allows 255 characters of ASCII).
const MAX_SUBJECT: usize = 255;

/// Times beyond this are no times: what a double can count one by one (RFC 8259 6).
const MAX_TIME: u64 = 1 << 53;

/// Header members that bring their own key, change what is signed, or ask for what is not done here (RFC 7515 4.1,
/// RFC 7516 4.1, RFC 7797): a token with one of them is not meant for us, whatever its signature.
const REFUSED: [&str; 11] = ["b64", "crit", "enc", "epk", "jku", "jwk", "p2c", "p2s", "x5c", "x5u", "zip"];

/// A token that may be shown to the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unverified {
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    pub(super) identity: Identity,
    pub(super) validity: Validity,
}

/// When a token may be used, in seconds since the Unix epoch; the leeway is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// From when on.
    pub(super) from: u64,
    /// Until before when.
    pub(super) until: u64,
}

impl Validity {
    /// # Errors
    /// Why it may not be used now, for the log.
    pub(super) const fn check(&self, now: u64) -> Result<(), Invalid> {
        if now >= self.until {
            return Err(Invalid::new(TokenFault::Expired, "it has expired"));
        }
        if now < self.from { Err(Invalid::new(TokenFault::NotYetValid, "it is not valid yet")) } else { Ok(()) }
    }
}

/// Reads a token. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// Which check failed, for the log: never a part of the token.
pub(super) fn read(token: &[u8], settings: &Settings, now: u64) -> Result<Unverified, Invalid> {
    if token.len() > MAX_TOKEN {
        return Err(Invalid::unfit("it is over 8 KiB"));
    }
    let mut parts = token.splitn(4, |byte| *byte == b'.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid::forged("it is not three parts"));
    };
    if header.is_empty() || claims.is_empty() || signature.is_empty() {
        return Err(Invalid::forged("a part is empty"));
    }
    // The decoder knows one spelling of any bytes: no padding, no blanks, no stray last bits.
    BASE64URL_NOPAD.decode(signature).map_err(|_undecodable| Invalid::forged("its signature is no base64url"))?;
    let header = object(header)?;
    let (algorithm, kid) = read_header(&header, settings)?;
    let claims = object(claims)?;
    let validity = read_times(&claims, settings)?;
    validity.check(now)?;
    let identity = read_identity(&claims, settings)?;
    Ok(Unverified { algorithm: algorithm.to_owned(), kid: kid.map(ToOwned::to_owned), identity, validity })
}

/// Decodes a part once: what is judged here is what the library reads again.
fn object(part: &[u8]) -> Result<Map<String, Value>, Invalid> {
    let text = BASE64URL_NOPAD.decode(part).map_err(|_undecodable| Invalid::forged("a part is no base64url"))?;
    if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
        return Err(Invalid::forged("a part is no JSON object"));
    }
    match json::parse(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(Invalid::forged("a part is no acceptable JSON")),
    }
}

type HeaderRead<'a> = (&'a str, Option<&'a str>);

fn read_header<'a>(header: &'a Map<String, Value>, settings: &Settings) -> Result<HeaderRead<'a>, Invalid> {
    if REFUSED.iter().any(|member| header.contains_key(*member)) {
        return Err(Invalid::forged("its header has a member that is refused"));
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(Invalid::forged("its kid is no string, or too long")),
    };
    match (header.get("typ"), settings.typ.as_deref()) {
        (None, None) | (Some(Value::String(_)), None) => {}
        (Some(Value::String(typ)), Some(wanted)) if is_type(typ, wanted) => {}
        (_, Some(_)) => return Err(Invalid::unfit("its typ is not jwt.type")),
        (Some(_), None) => return Err(Invalid::forged("its typ is no string")),
    }
    match header.get("alg") {
        Some(Value::String(algorithm)) if proves_nothing(algorithm) => {
            Err(Invalid::forged("its alg is none, or by a shared secret"))
        }
        Some(Value::String(algorithm)) => Ok((algorithm, kid)),
        _ => Err(Invalid::forged("its alg is missing or no string")),
    }
}

/// Algorithms that anybody can sign by who knows what is public (J01, J02). No issuer of ours uses them, whichever keys
/// it has by now.
fn proves_nothing(algorithm: &str) -> bool {
    let is_hmac = algorithm.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("HS"));
    algorithm.is_empty() || algorithm.eq_ignore_ascii_case("none") || is_hmac
}

/// Media types, compared without regard to case; `application/` goes without saying (RFC 7515 4.1.9).
fn is_type(typ: &str, wanted: &str) -> bool {
    let short = |name: &str| name.to_ascii_lowercase().trim_start_matches("application/").to_owned();
    short(typ) == short(wanted)
}

fn read_times(claims: &Map<String, Value>, settings: &Settings) -> Result<Validity, Invalid> {
    let expires = time(claims, "exp")?.ok_or(Invalid::unfit("it has no exp"))?;
    let not_before = time(claims, "nbf")?.unwrap_or(0);
    let issued = time(claims, "iat")?;
    if issued.is_some_and(|issued| issued > expires) {
        return Err(Invalid::unfit("it expires before it was issued"));
    }
    if let Some(longest) = settings.max_lifetime {
        let issued = issued.ok_or(Invalid::unfit("it has no iat, which jwt.max_lifetime needs"))?;
        if Duration::from_secs(expires - issued) > longest {
            return Err(Invalid::unfit("it lives longer than jwt.max_lifetime"));
        }
    }
    let leeway = settings.leeway.as_secs();
    let from = not_before.max(issued.unwrap_or(0)).saturating_sub(leeway);
    Ok(Validity { from, until: expires.saturating_add(leeway) })
}

fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, Invalid> {
    match claims.get(claim).map(Value::as_u64) {
        None => Ok(None),
        Some(Some(seconds)) if seconds < MAX_TIME => Ok(Some(seconds)),
        Some(_) => Err(Invalid::unfit("its exp, nbf or iat is no whole number of seconds")),
    }
}

fn read_identity(claims: &Map<String, Value>, settings: &Settings) -> Result<Identity, Invalid> {
    if claims.get("iss").and_then(Value::as_str) != Some(&settings.issuer) {
        return Err(Invalid::new(TokenFault::WrongIssuer, "its iss is not jwt.issuer"));
    }
    let ours = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == settings.audience,
        Some(Value::Array(audiences)) => {
            audiences.iter().all(Value::is_string) && audiences.iter().any(|audience| *audience == *settings.audience)
        }
        _ => false,
    };
    if !ours {
        return Err(Invalid::new(TokenFault::WrongAudience, "its aud does not hold jwt.audience"));
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.len() > MAX_SUBJECT || !identity::is_subject(subject) {
        return Err(Invalid::unfit("its sub is no string of 1 to 255 bytes that names one principal"));
    }
    let roles = match claims.get(&settings.roles_claim) {
        None => Vec::new(),
        Some(Value::String(roles)) => roles.split_ascii_whitespace().map(Into::into).collect(),
        Some(Value::Array(roles)) => {
            let roles: Option<_> = roles.iter().map(|role| role.as_str().map(Into::into)).collect();
            roles.ok_or(Invalid::unfit("a role is no string"))?
        }
        Some(_) => return Err(Invalid::unfit("its roles are neither strings nor one string")),
    };
    // Its times are judged apart.
    Ok(Identity { principal: subject.into(), roles, expires: 0 })
}
