//! Reads what an issuer signed to say something else than who a client is: an answer about a token (RFC 9701).

use serde_json::{Map, Value};

use super::{
    key_set::KeySet,
    keys::{JwtKeys, KeyName},
    token::{is_type, read_header, take_apart},
};
use crate::{os::clock::Now, policy::auth::invalid::Invalid};

/// What an issuer has signed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignedStatement {
    /// Its claims.
    pub claims: Map<String, Value>,
    /// The `kid` of the key that has verified it: as the key set has it, whatever its header says.
    pub signer: Option<Box<str>>,
}

/// A JWT of this `typ` that the issuer of `set` signed. What they say is not judged, but for the issuer.
///
/// # Errors
/// It is of another type or issuer, not by a key of the set, or no JWT. For the log.
pub fn read(set: &KeySet, typ: &str, signed: &[u8], now: Now) -> Result<SignedStatement, &'static str> {
    let keys = set.load();
    let keys = keys.as_ref().as_ref().filter(|_| set.is_usable(now.monotonic));
    let keys = keys.ok_or("the keys of its issuer are not there")?;
    let read = || {
        let (header, claims) = take_apart(signed)?;
        let (algorithm, kid) = read_header(&header)?;
        if !header.get("typ").and_then(Value::as_str).is_some_and(|found| is_type(found, typ)) {
            return Err(Invalid::forged("its typ is another"));
        }
        let (key, algorithm) = keys.find(kid, algorithm)?;
        key.check(algorithm, signed)?;
        Ok(SignedStatement { claims, signer: key.kid.clone() })
    };
    let said = read().map_err(|invalid| invalid.why)?;
    let is_its = said.claims.get("iss").and_then(Value::as_str) == Some(set.issuer());
    if is_its { Ok(said) } else { Err("its iss is another") }
}

/// The key by which a statement says that it is signed, where that is not among those of `set` and may be at its issuer:
/// keys were rotated. `None`: it is there, cannot be fetched, or the statement is none.
#[must_use]
pub fn missing_key(set: &KeySet, signed: &[u8], now: Now) -> Option<KeyName> {
    set.fetch()?;
    let (header, _) = take_apart(signed).ok()?;
    let (algorithm, kid) = read_header(&header).ok().filter(|(algorithm, _)| JwtKeys::is_known(algorithm))?;
    let name = KeyName { kid: kid.map(Into::into), algorithm: algorithm.into() };
    let is_there = set.is_usable(now.monotonic) && set.load().as_ref().as_ref().is_some_and(|keys| keys.has(&name));
    (!is_there).then_some(name)
}
