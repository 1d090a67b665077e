//! Parses a token before any cryptography: only the one canonical spelling, with a header and claims as they have to be,
//! reaches the library.
//!
//! The library keeps the last of duplicate members and passes over what it does not know, `crit` included; here
//! everything that could be read in two ways is refused. Nothing that is read here is believed before the signature
//! is verified; that comes after, because it is what costs.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::keys::MAX_KID;
use crate::{
    json,
    policy::auth::{
        claims::{self, Read},
        invalid::Invalid,
    },
    refusal::TokenFault,
    settings::{
        auth::Method,
        jwt::{self, Issuer},
    },
};

/// The longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// Header members that change what is signed, or ask for what is not done here (RFC 7515 4.1.11, RFC 7516 4.1,
/// RFC 7797): a token with one of them is not meant for us, whatever its signature.
///
/// Members that name or bring a key (`jku`, `jwk`, `x5c`, `x5u`, `x5t`) are not among them: nothing reads them (J04),
/// and some issuers always write them.
const REFUSED: [&str; 7] = ["b64", "crit", "enc", "epk", "p2c", "p2s", "zip"];

/// Types of tokens that an issuer signs, or a client, for something else than access (RFC 8725 3.11): without a `type` of the
/// issuer, too, none of them is taken for an access token.
const FOR_SOMETHING_ELSE: [&str; 9] = [
    "client-authentication+jwt",
    "dpop+jwt",
    "entity-statement+jwt",
    "kb+jwt",
    "logout+jwt",
    "oauth-authz-req+jwt",
    "secevent+jwt",
    "statuslist+jwt",
    "token-introspection+jwt",
];

/// A token that may be shown to the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unverified {
    /// Whose it says that it is: an index into the issuers of the settings.
    pub(super) issuer: usize,
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    pub(super) proved: Read,
}

/// Reads a token. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// Which check failed, for the log: never a part of the token.
pub(super) fn read(token: &[u8], settings: &jwt::Settings, now: u64) -> Result<Unverified, Invalid> {
    if token.len() > MAX_TOKEN {
        return Err(Invalid::unfit("it is over 8 KiB"));
    }
    let (header, claims) = take_apart(token)?;
    let (algorithm, kid) = read_header(&header)?;
    let (index, issuer) = find_issuer(&claims, settings)?;
    check_type(header.get("typ"), issuer)?;
    if is_hmac(algorithm) && !issuer.keys.is_secret() {
        return Err(Invalid::forged("its alg is by a shared secret, and its issuer has public keys"));
    }
    let proved = claims::read(Method::Jwt, &claims, &issuer.rules, &settings.kept, now)?;
    if issuer.rules.name.is_none() && settings.is_others(proved.identity.principal()) {
        return Err(claims::NO_SUBJECT);
    }
    let (algorithm, kid) = (algorithm.to_owned(), kid.map(ToOwned::to_owned));
    Ok(Unverified { issuer: index, algorithm, kid, proved })
}

/// The members of a JSON object.
type Members = Map<String, Value>;

/// Header and claims of a JWT in compact form.
pub(super) fn take_apart(token: &[u8]) -> Result<(Members, Members), Invalid> {
    let mut parts = token.splitn(4, |byte| *byte == b'.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid::malformed("it is not three parts"));
    };
    if header.is_empty() || claims.is_empty() || signature.is_empty() {
        return Err(Invalid::forged("a part is empty"));
    }
    // The decoder knows one spelling of any bytes: no padding, no blanks, no stray last bits.
    BASE64URL_NOPAD.decode(signature).map_err(|_undecodable| Invalid::malformed("its signature is no base64url"))?;
    Ok((object(header)?, object(claims)?))
}

/// The issuer that a token names, before any cryptography.
fn find_issuer<'a>(claims: &Map<String, Value>, settings: &'a jwt::Settings) -> Result<(usize, &'a Issuer), Invalid> {
    let named = claims.get("iss").and_then(Value::as_str);
    let found = settings.issuers.iter().enumerate().find(|(_, issuer)| named == Some(&issuer.issuer));
    found.ok_or(Invalid::new(TokenFault::WrongIssuer, "its iss is no configured issuer"))
}

/// Decodes a part once: what is judged here is what the library reads again.
fn object(part: &[u8]) -> Result<Map<String, Value>, Invalid> {
    let text = BASE64URL_NOPAD.decode(part).map_err(|_undecodable| Invalid::malformed("a part is no base64url"))?;
    // White space may stand around the object (RFC 8259 2).
    let within = text.trim_ascii();
    if within.first() != Some(&b'{') || within.last() != Some(&b'}') {
        return Err(Invalid::malformed("a part is no JSON object"));
    }
    match json::parse(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(Invalid::malformed("a part is no acceptable JSON")),
    }
}

pub(super) type HeaderRead<'a> = (&'a str, Option<&'a str>);

pub(super) fn read_header(header: &Map<String, Value>) -> Result<HeaderRead<'_>, Invalid> {
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
        (Some(Value::String(typ)), None) if is_for_something_else(typ) => {
            Err(Invalid::unfit("its typ is that of tokens for something else"))
        }
        (None | Some(Value::String(_)), None) => Ok(()),
        (Some(Value::String(typ)), Some(wanted)) if is_type(typ, wanted) => Ok(()),
        (_, Some(_)) => Err(Invalid::unfit("its typ is not the issuer's `type`")),
        (Some(_), None) => Err(Invalid::forged("its typ is no string")),
    }
}

fn is_for_something_else(typ: &str) -> bool {
    // Most are `JWT`, and need not be held against each.
    let end = typ.len().saturating_sub("+jwt".len());
    let is_explicit = typ.get(end..).is_some_and(|end| end.eq_ignore_ascii_case("+jwt"));
    is_explicit && FOR_SOMETHING_ELSE.iter().any(|other| is_type(typ, other))
}

/// Media types, compared without regard to case; `application/` goes without saying (RFC 7515 4.1.9).
pub(super) fn is_type(typ: &str, wanted: &str) -> bool {
    let short = |name: &str| name.to_ascii_lowercase().trim_start_matches("application/").to_owned();
    short(typ) == short(wanted)
}
