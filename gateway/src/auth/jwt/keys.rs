//! Reads a key set (JWKS, RFC 7517): which of its keys may verify tokens, and with which algorithm each.
//!
//! *Invariant:* a key has one algorithm, its own; a token's header can only agree with it. A set that contradicts
//! itself or gives a secret away is refused whole. Keys that are plainly for something else (`use` of `enc`, a key
//! type or an algorithm that signs nothing here) are passed over, as RFC 7517 5 wants.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rsa::PublicKeyComponents,
    signature as sig,
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value, json};

use crate::{auth::invalid::Invalid, diagnostic::Diagnostic, json, refusal::TokenFault, settings::jwt::KeySource};

#[cfg(test)]
mod tests;

/// The key of the configuration that names the set, within the issuer's table.
const AT: &str = "jwks";
/// The largest key set, in bytes.
pub const MAX_SET: usize = 256 * 1024;
/// The most keys in one set.
const MAX_KEYS: usize = 100;
/// The longest key id, in bytes, here and in tokens.
pub(super) const MAX_KID: usize = 256;
/// The smallest RSA modulus, in bits (RFC 7518 3.3), and the largest, which bounds what one verification costs.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// What only a private or symmetric key has (RFC 7518 6).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// What a token's header says of its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// `kid`.
    pub(super) kid: Option<Box<str>>,
    /// `alg`.
    pub(super) algorithm: Box<str>,
}

/// The keys that may vouch for tokens.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<VerificationKey>,
    /// They are one shared secret: its tokens may have any key id.
    is_secret: bool,
}

/// One public key.
pub(super) struct VerificationKey {
    /// Its name in the key set.
    pub(super) kid: Option<Box<str>>,
    algorithm: Algorithm,
    /// The algorithm's name in a token's header.
    name: &'static str,
    pub(super) decoding: DecodingKey,
    /// SHA-256 of the key itself.
    print: [u8; 32],
}

impl VerificationKey {
    /// Whether a JWT in compact form is signed by it.
    ///
    /// # Errors
    /// It is not, for the log.
    pub(super) fn check(&self, signed: &[u8]) -> Result<(), Invalid> {
        let forged = Invalid::forged("its signature is not its key's");
        // Header and claims are judged elsewhere. The library would read both again: it refuses a header whose `jwk` it
        // does not know the form of, though nothing uses that.
        let end = memchr::memrchr(b'.', signed).and_then(|dot| signed.split_at_checked(dot));
        let (message, signature) = end.ok_or(forged)?;
        let signature = std::str::from_utf8(signature.get(1..).unwrap_or_default()).map_err(|_other| forged)?;
        match jsonwebtoken::crypto::verify(signature, message, &self.decoding, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(forged),
        }
    }

    fn new(kid: Option<&str>, (name, algorithm): (&'static str, Algorithm), decoding: DecodingKey, key: &[u8]) -> Self {
        let mut print = [0; 32];
        print.copy_from_slice(digest(&SHA256, key).as_ref());
        Self { kid: kid.map(Into::into), algorithm, name, decoding, print }
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VerificationKey({:?}, {})", self.kid, self.name)
    }
}

/// The algorithms of public keys.
const PUBLIC: [&str; 9] = ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// A shared secret has to be as long as what the hash gives (RFC 7518 3.2), in bytes.
const HMAC: [(&str, Algorithm, usize); 3] =
    [("HS256", Algorithm::HS256, 32), ("HS384", Algorithm::HS384, 48), ("HS512", Algorithm::HS512, 64)];

/// The longest shared secret, in bytes.
const MAX_SECRET: usize = 4_096;

impl Keys {
    /// Reads what an issuer's tokens are verified by. `None`: it has to be fetched.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn of(source: &KeySource) -> Result<Option<Self>, Vec<Diagnostic>> {
        match source {
            KeySource::Jwks(file) => Self::new(&file.bytes).map(Some),
            KeySource::Secret(file) => Self::secret(&file.bytes).map(Some).map_err(|diagnostic| vec![diagnostic]),
            KeySource::Discovery(_) | KeySource::Url(_) => Ok(None),
        }
    }

    /// The shared secret in a file, whose last line may end. It is good for every algorithm that it is long enough for.
    fn secret(bytes: &[u8]) -> Result<Self, Diagnostic> {
        let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        let diagnostic = |message: String| Diagnostic::new("secret", message);
        if secret.len() > MAX_SECRET {
            return Err(diagnostic(format!("the secret is over {MAX_SECRET} bytes")));
        }
        if secret.starts_with(b"-----BEGIN ") || secret.starts_with(b"{") {
            let hint = "name public keys by `jwks`; make a secret by `openssl rand -hex 64`";
            return Err(diagnostic("is a key for something else, which others may know".to_owned()).hint(hint));
        }
        let fitting = HMAC.iter().filter(|(_, _, least)| secret.len() >= *least);
        let key = |(name, algorithm, _): &(&'static str, Algorithm, usize)| {
            VerificationKey::new(None, (name, *algorithm), DecodingKey::from_secret(secret), secret)
        };
        let keys: Vec<_> = fitting.map(key).collect();
        if keys.is_empty() {
            let hint = "make one by `openssl rand -hex 64`";
            return Err(diagnostic(format!("the secret has {} bytes; HS256 needs 32", secret.len())).hint(hint));
        }
        Ok(Self { keys, is_secret: true })
    }

    /// Reads a key set.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let diagnostic = |message: String| vec![Diagnostic::new(AT, message)];
        if bytes.len() > MAX_SET {
            return Err(diagnostic(format!("the key set is over {MAX_SET} bytes")));
        }
        let set = json::parse(bytes)
            .map_err(|error| diagnostic(format!("the key set is not acceptable as JSON: {error}")))?;
        let Some(listed) = set.get("keys").and_then(Value::as_array) else {
            return Err(diagnostic("the key set has no array \"keys\" (RFC 7517 5)".to_owned()));
        };
        if listed.len() > MAX_KEYS {
            return Err(diagnostic(format!("the key set has over {MAX_KEYS} keys")));
        }
        let (mut keys, mut diagnostics) = (Vec::new(), Vec::new());
        for (at, jwk) in listed.iter().enumerate() {
            match read(jwk) {
                Ok(key) => keys.extend(key),
                Err(message) => diagnostics.push(Diagnostic::new(AT, format!("keys[{at}] {message}"))),
            }
        }
        let mut kids: Vec<_> = listed.iter().filter_map(|jwk| jwk.get("kid").and_then(Value::as_str)).collect();
        kids.sort_unstable();
        if let Some([kid, _]) = kids.array_windows().find(|[one, other]| one == other) {
            diagnostics.push(Diagnostic::new(AT, format!("the key id {kid:?} is there twice")));
        }
        if keys.is_empty() && diagnostics.is_empty() {
            let hint = "RSA, EC (P-256, P-384) and OKP (Ed25519) keys for signatures";
            diagnostics.push(Diagnostic::new(AT, "no key of the set can vouch for tokens").hint(hint));
        }
        if diagnostics.is_empty() { Ok(Self { keys, is_secret: false }) } else { Err(diagnostics) }
    }

    /// The keys of a set that [`Self::new`] accepts, in as few bytes as may be: no certificate, no key for something
    /// else.
    #[must_use]
    pub fn reduce(bytes: &[u8]) -> Option<Vec<u8>> {
        const MEMBERS: [&str; 9] = ["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"];
        let set = json::parse(bytes).ok()?;
        let usable = set.get("keys")?.as_array()?.iter().filter(|jwk| matches!(read(jwk), Ok(Some(_))));
        let reduced = usable.map(|jwk| {
            let members = MEMBERS.iter().filter_map(|member| Some(((*member).to_owned(), jwk.get(member)?.clone())));
            Value::Object(members.collect())
        });
        let reduced: Vec<Value> = reduced.collect();
        serde_json::to_vec(&json!({ "keys": reduced })).ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, which [`Self::new`] refuses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a token whose header says so has its key here.
    #[must_use]
    pub fn has(&self, name: &KeyName) -> bool {
        !matches!(self.find(name.kid.as_deref(), &name.algorithm), Err(Invalid { fault: TokenFault::UnknownKey, .. }))
    }

    /// Whether all of them are among `others`, under the same names.
    pub(super) fn are_among(&self, others: &Self) -> bool {
        let is_same = |one: &VerificationKey, other: &VerificationKey| {
            (&one.kid, one.name, one.print) == (&other.kid, other.name, other.print)
        };
        self.keys.iter().all(|key| others.keys.iter().any(|other| is_same(key, other)))
    }

    /// Whether tokens may be signed by this algorithm at all, whichever key it takes.
    pub(super) fn is_known(algorithm: &str) -> bool {
        PUBLIC.contains(&algorithm)
    }

    /// The key that a token's header means. A token without a key id means the only key with its algorithm.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: &str) -> Result<&VerificationKey, Invalid> {
        let unknown = |why| Invalid::new(TokenFault::UnknownKey, why);
        let Some(kid) = kid.filter(|_| !self.is_secret) else {
            let mut fitting = self.keys.iter().filter(|key| key.name == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (None, _) => Err(unknown("no key has its alg")),
                (Some(_), Some(_)) => Err(unknown("it has no kid and several keys have its alg")),
            };
        };
        let key = self
            .keys
            .iter()
            .find(|key| key.kid.as_deref() == Some(kid))
            .ok_or_else(|| unknown("no key has its kid"))?;
        if key.name == algorithm { Ok(key) } else { Err(Invalid::forged("its alg is not its key's")) }
    }
}

/// Reads one key: nothing if it is for something else.
fn read(jwk: &Value) -> Result<Option<VerificationKey>, String> {
    let jwk = jwk.as_object().ok_or("is no object")?;
    let kty = text(jwk, "kty")?.ok_or("has no \"kty\"")?;
    if kty == "oct" {
        return Err("is a shared secret (\"oct\"): whoever can check a token with it can make one".to_owned());
    }
    if let Some(private) = PRIVATE.iter().find(|member| jwk.contains_key(**member)) {
        return Err(format!("is a private key (it has {private:?}): only public keys belong here"));
    }
    let kid = text(jwk, "kid")?;
    if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
        return Err(format!("has a \"kid\" that is empty or over {MAX_KID} bytes"));
    }
    if text(jwk, "use")?.is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    if let Some(operations) = jwk.get("key_ops") {
        let operations = operations.as_array().ok_or("has a \"key_ops\" that is no array")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Ok(None);
        }
    }
    let alg = text(jwk, "alg")?;
    let (name, algorithm, decoding, key) = match kty {
        "RSA" => {
            let Some((name, algorithm, parameters)) = rsa_algorithm(alg)? else { return Ok(None) };
            let (decoding, key) = rsa(jwk, parameters)?;
            (name, algorithm, decoding, key)
        }
        "EC" => {
            let (name, algorithm, parameters, bytes) = match text(jwk, "crv")? {
                Some("P-256") => ("ES256", Algorithm::ES256, &sig::ECDSA_P256_SHA256_FIXED, 32),
                Some("P-384") => ("ES384", Algorithm::ES384, &sig::ECDSA_P384_SHA384_FIXED, 48),
                Some(_) => return Ok(None),
                None => return Err("has no \"crv\"".to_owned()),
            };
            if alg.is_some_and(|alg| alg.starts_with("ECDH-")) {
                return Ok(None);
            }
            agree(alg, name)?;
            let mut point = vec![4];
            point.extend(octets(jwk, "x", bytes)?);
            point.extend(octets(jwk, "y", bytes)?);
            sig::ParsedPublicKey::new(parameters, &point)
                .map_err(|_rejected| "is not a point on its curve".to_owned())?;
            (name, algorithm, DecodingKey::from_ec_der(&point), point)
        }
        "OKP" => {
            match text(jwk, "crv")? {
                Some("Ed25519") => agree(alg, "EdDSA")?,
                Some(_) => return Ok(None),
                None => return Err("has no \"crv\"".to_owned()),
            }
            let point = octets(jwk, "x", 32)?;
            sig::ParsedPublicKey::new(&sig::ED25519, &point).map_err(|_rejected| "is no Ed25519 key".to_owned())?;
            ("EdDSA", Algorithm::EdDSA, DecodingKey::from_ed_der(&point), point)
        }
        _ => return Ok(None),
    };
    Ok(Some(VerificationKey::new(kid, (name, algorithm), decoding, &key)))
}

type RsaAlgorithm = (&'static str, Algorithm, &'static sig::RsaParameters);

/// What an RSA key signs with: RS256 unless it says otherwise.
fn rsa_algorithm(alg: Option<&str>) -> Result<Option<RsaAlgorithm>, String> {
    Ok(Some(match alg {
        None | Some("RS256") => ("RS256", Algorithm::RS256, &sig::RSA_PKCS1_2048_8192_SHA256),
        Some("RS384") => ("RS384", Algorithm::RS384, &sig::RSA_PKCS1_2048_8192_SHA384),
        Some("RS512") => ("RS512", Algorithm::RS512, &sig::RSA_PKCS1_2048_8192_SHA512),
        Some("PS256") => ("PS256", Algorithm::PS256, &sig::RSA_PSS_2048_8192_SHA256),
        Some("PS384") => ("PS384", Algorithm::PS384, &sig::RSA_PSS_2048_8192_SHA384),
        Some("PS512") => ("PS512", Algorithm::PS512, &sig::RSA_PSS_2048_8192_SHA512),
        Some(encryption) if encryption.starts_with("RSA") => return Ok(None),
        Some(other) => return Err(format!("has the \"alg\" {other:?}, which is not RSA's")),
    }))
}

fn rsa(jwk: &Map<String, Value>, parameters: &'static sig::RsaParameters) -> Result<(DecodingKey, Vec<u8>), String> {
    let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("has {bits} bits; {} to {} will do", RSA_BITS.start(), RSA_BITS.end()));
    }
    // aws-lc looks at no more than the encoding before it verifies. An exponent of 1 would make every message its own
    // signature, an even number cannot be part of a key, and a long exponent is only slow (SP 800-89 5.3.3).
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let key = PublicKeyComponents { n: &n, e: &e };
    let sound = is_odd(&n) && is_odd(&e) && e != [1] && e.len() <= 4;
    if !sound || key.to_parsed_public_key(parameters).is_err() {
        return Err("is no sound RSA key".to_owned());
    }
    Ok((DecodingKey::from_rsa_raw_components(&n, &e), [n, e].concat()))
}

/// The key's own `alg`, if it has one, must be the one that its type implies.
fn agree(alg: Option<&str>, name: &str) -> Result<(), String> {
    match alg {
        Some(alg) if alg != name => Err(format!("has the \"alg\" {alg:?}, but its type and curve make it {name}")),
        _ => Ok(()),
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a {member:?} that is no string")),
    }
}

fn bytes(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, String> {
    let encoded = text(jwk, member)?.ok_or_else(|| format!("has no {member:?}"))?;
    BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_undecodable| format!("has a {member:?} that is no base64url"))
}

fn octets(jwk: &Map<String, Value>, member: &str, length: usize) -> Result<Vec<u8>, String> {
    let bytes = bytes(jwk, member)?;
    if bytes.len() == length { Ok(bytes) } else { Err(format!("has a {member:?} that is not {length} bytes")) }
}

/// A number in its shortest form (RFC 7518 2, Base64urlUInt).
fn number(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, String> {
    let bytes = bytes(jwk, member)?;
    match bytes.first() {
        None | Some(0) => Err(format!("has a {member:?} that is empty or starts with a zero byte")),
        Some(_) => Ok(bytes),
    }
}
