//! Members of a JSON Web Key (RFC 7517 4, RFC 7518 6), read strictly.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

pub(super) fn text<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a {member:?} that is no string")),
    }
}

pub(super) fn bytes(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, String> {
    let encoded = text(jwk, member)?.ok_or_else(|| format!("has no {member:?}"))?;
    BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_undecodable| format!("has a {member:?} that is no base64url"))
}

pub(super) fn octets(jwk: &Map<String, Value>, member: &str, length: usize) -> Result<Vec<u8>, String> {
    let bytes = bytes(jwk, member)?;
    if bytes.len() == length { Ok(bytes) } else { Err(format!("has a {member:?} that is not {length} bytes")) }
}

/// A number in its shortest form (RFC 7518 2, Base64urlUInt).
pub(super) fn number(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, String> {
    let bytes = bytes(jwk, member)?;
    match bytes.first() {
        None | Some(0) => Err(format!("has a {member:?} that is empty or starts with a zero byte")),
        Some(_) => Ok(bytes),
    }
}
