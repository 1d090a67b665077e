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
    claim::{self, ClaimPath},
    json,
    refusal::TokenFault,
    settings::jwt::{Issuer, KeySource, Settings},
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
    /// Whose it says that it is: an index into the issuers of the settings.
    pub(super) issuer: usize,
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
    let (algorithm, kid) = read_header(&header)?;
    let claims = object(claims)?;
    let (index, issuer) = find_issuer(&claims, settings)?;
    check_type(header.get("typ"), issuer)?;
    if is_hmac(algorithm) && matches!(issuer.keys, KeySource::Jwks(_)) {
        return Err(Invalid::forged("its alg is by a shared secret, and its issuer has public keys"));
    }
    let validity = read_times(&claims, issuer)?;
    validity.check(now)?;
    check_audience(&claims, issuer)?;
    if !issuer.claims.iter().all(|condition| condition.holds(condition.path.find(&claims))) {
        return Err(Invalid::unfit("a claim is not what its issuer's `claims` ask for"));
    }
    let identity = Identity {
        principal: principal(&claims, issuer, settings)?,
        roles: read_roles(&claims, issuer)?,
        scopes: read_scopes(&claims, &issuer.scope_claim)?,
        claims: settings.kept.iter().map(|path| path.find(&claims).cloned()).collect(),
        // Its times are judged apart.
        expires: 0,
    };
    let (algorithm, kid) = (algorithm.to_owned(), kid.map(ToOwned::to_owned));
    Ok(Unverified { issuer: index, algorithm, kid, identity, validity })
}

/// The issuer that a token names, before any cryptography.
fn find_issuer<'a>(claims: &Map<String, Value>, settings: &'a Settings) -> Result<(usize, &'a Issuer), Invalid> {
    let named = claims.get("iss").and_then(Value::as_str);
    let found = settings.issuers.iter().enumerate().find(|(_, issuer)| named == Some(&issuer.issuer));
    found.ok_or(Invalid::new(TokenFault::WrongIssuer, "its iss is no configured issuer"))
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

fn read_header(header: &Map<String, Value>) -> Result<HeaderRead<'_>, Invalid> {
    if REFUSED.iter().any(|member| header.contains_key(*member)) {
        return Err(Invalid::forged("its header has a member that is refused"));
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(Invalid::forged("its kid is no string, or too long")),
    };
    match header.get("alg") {
        Some(Value::String(algorithm)) if algorithm.is_empty() || algorithm.eq_ignore_ascii_case("none") => {
            Err(Invalid::forged("its alg is none"))
        }
        Some(Value::String(algorithm)) => Ok((algorithm, kid)),
        _ => Err(Invalid::forged("its alg is missing or no string")),
    }
}

/// Algorithms that anybody can sign by who knows what is public (J02): no issuer with public keys uses them, whichever
/// keys it has by now.
fn is_hmac(algorithm: &str) -> bool {
    algorithm.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("HS"))
}

fn check_type(typ: Option<&Value>, issuer: &Issuer) -> Result<(), Invalid> {
    match (typ, issuer.typ.as_deref()) {
        (None | Some(Value::String(_)), None) => Ok(()),
        (Some(Value::String(typ)), Some(wanted)) if is_type(typ, wanted) => Ok(()),
        (_, Some(_)) => Err(Invalid::unfit("its typ is not the issuer's `type`")),
        (Some(_), None) => Err(Invalid::forged("its typ is no string")),
    }
}

/// Media types, compared without regard to case; `application/` goes without saying (RFC 7515 4.1.9).
fn is_type(typ: &str, wanted: &str) -> bool {
    let short = |name: &str| name.to_ascii_lowercase().trim_start_matches("application/").to_owned();
    short(typ) == short(wanted)
}

fn read_times(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Validity, Invalid> {
    let expires = time(claims, "exp", f64::floor)?.ok_or(Invalid::unfit("it has no exp"))?;
    let not_before = time(claims, "nbf", f64::ceil)?.unwrap_or(0);
    let issued = time(claims, "iat", f64::floor)?;
    if issued.is_some_and(|issued| issued > expires) {
        return Err(Invalid::unfit("it expires before it was issued"));
    }
    if let Some(longest) = issuer.max_lifetime {
        let issued = issued.ok_or(Invalid::unfit("it has no iat, which `max_lifetime` needs"))?;
        if Duration::from_secs(expires - issued) > longest {
            return Err(Invalid::unfit("it lives longer than `max_lifetime`"));
        }
    }
    let leeway = issuer.leeway.as_secs();
    let from = not_before.max(issued.unwrap_or(0)).saturating_sub(leeway);
    Ok(Validity { from, until: expires.saturating_add(leeway) })
}

/// A moment in seconds since the Unix epoch, which may have a fraction (RFC 7519 2, NumericDate): `round` says in which
/// whole second it counts.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what is cast is in range, and has no fraction any more"
)]
fn time(claims: &Map<String, Value>, claim: &str, round: fn(f64) -> f64) -> Result<Option<u64>, Invalid> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let whole = value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..MAX_TIME as f64).contains(seconds))?;
        Some(round(seconds) as u64)
    });
    match whole {
        Some(seconds) if seconds < MAX_TIME => Ok(Some(seconds)),
        _ => Err(Invalid::unfit("its exp, nbf or iat is no moment in seconds")),
    }
}

fn check_audience(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), Invalid> {
    let is_ours = |audience: &Value| issuer.audiences.iter().any(|ours| audience == ours);
    let ours = match issuer.audience_claim.find(claims) {
        Some(audience @ Value::String(_)) => is_ours(audience),
        Some(Value::Array(audiences)) => audiences.iter().all(Value::is_string) && audiences.iter().any(is_ours),
        _ => false,
    };
    let wrong = Invalid::new(TokenFault::WrongAudience, "its aud holds no `audience` of its issuer");
    if ours { Ok(()) } else { Err(wrong) }
}

/// Who the token is of. Principals of different issuers are never the same, whatever their subjects are.
fn principal(claims: &Map<String, Value>, issuer: &Issuer, settings: &Settings) -> Result<Box<str>, Invalid> {
    let subject = issuer.subject_claim.find(claims).and_then(Value::as_str).unwrap_or_default();
    let begins = |name: &str| subject.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let is_others = || settings.issuers.iter().any(|other| other.name.as_deref().is_some_and(begins));
    if subject.len() > MAX_SUBJECT || !identity::is_subject(subject) || issuer.name.is_none() && is_others() {
        return Err(Invalid::unfit("its sub is no string of 1 to 255 bytes that names one principal"));
    }
    Ok(match &issuer.name {
        Some(name) => format!("{name}:{subject}").into(),
        None => subject.into(),
    })
}

fn read_roles(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Vec<Box<str>>, Invalid> {
    let mut roles = Vec::new();
    for claim in issuer.roles_claims.iter().filter_map(|path| path.find(claims)) {
        roles.extend(claim::words(claim).ok_or(Invalid::unfit("its roles are neither strings nor one string"))?);
    }
    if let Some(allowed) = &issuer.roles {
        roles.retain(|role| allowed.iter().any(|allowed| **allowed == **role));
    }
    Ok(roles)
}

fn read_scopes(claims: &Map<String, Value>, path: &ClaimPath) -> Result<Vec<Box<str>>, Invalid> {
    let Some(claim) = path.find(claims) else { return Ok(Vec::new()) };
    claim::words(claim).ok_or(Invalid::unfit("its scopes are neither strings nor one string"))
}
