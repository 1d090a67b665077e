//! Reads a key set (JWKS, RFC 7517): which of its keys may verify tokens, and with which algorithm each.
//!
//! *Invariant:* a key has the algorithms of its type and of its own `alg`; a token's header can only agree with them. A
//! name and an algorithm mean one key: a set where they mean two, or that gives a secret away, is refused whole. As RFC 7517 5
//! wants, keys that are plainly for something else (`use` of `enc`, a key type or an algorithm that signs nothing here) are
//! passed over, and keys that cannot be used (too weak, incomplete, of an unknown `alg`) are skipped with a warning.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rsa::PublicKeyComponents,
    signature as sig,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value, json};

use self::member::{number, octets, text};
use crate::{
    diagnostic::Diagnostic, json, policy::auth::invalid::Invalid, refusal::TokenFault, settings::jwt::KeySource,
};

mod member;
mod roca;
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
pub struct JwtKeys {
    keys: Vec<VerificationKey>,
    /// Which keys of the set cannot be used, and why.
    skipped: Vec<String>,
    /// They are one shared secret: its tokens may have any key id.
    is_secret: bool,
    /// SHA-256 of what they were read from.
    document: [u8; 32],
}

/// One public key.
pub(super) struct VerificationKey {
    /// Its name in the key set.
    pub(super) kid: Option<Box<str>>,
    /// What it verifies, under the names that a token's header has for it.
    algorithms: Algorithms,
    /// Whether its `alg` or its type says so. An RSA key without `alg` only may be for all of them.
    is_declared: bool,
    pub(super) decoding: DecodingKey,
    /// SHA-256 of the key itself.
    print: [u8; 32],
}

impl VerificationKey {
    /// Whether a JWT in compact form is signed by it, by the algorithm that [`JwtKeys::find`] has found with it.
    ///
    /// # Errors
    /// It is not, for the log.
    pub(super) fn check(&self, algorithm: Algorithm, signed: &[u8]) -> Result<(), Invalid> {
        let forged = Invalid::forged("its signature is not its key's");
        // Header and claims are judged elsewhere. The library would read both again: it refuses a header whose `jwk` it
        // does not know the form of, though nothing uses that, and the name `Ed25519`.
        let end = memchr::memrchr(b'.', signed).and_then(|dot| signed.split_at_checked(dot));
        let (message, signature) = end.ok_or(forged)?;
        let signature = std::str::from_utf8(signature.get(1..).unwrap_or_default()).map_err(|_other| forged)?;
        match jsonwebtoken::crypto::verify(signature, message, &self.decoding, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(forged),
        }
    }

    fn new(kid: Option<&str>, algorithms: Algorithms, decoding: DecodingKey, key: &[u8]) -> Self {
        Self { kid: kid.map(Into::into), algorithms, is_declared: true, decoding, print: sha256(key) }
    }

    /// What it verifies under this name.
    fn algorithm(&self, name: &str) -> Option<Algorithm> {
        self.algorithms.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Whether its `alg` or its type says that it is for this algorithm. An RSA key without `alg` is for RS256 before it is
    /// for anything else.
    fn is_declared_for(&self, name: &str) -> bool {
        let mut own = self.algorithms.iter();
        if self.is_declared {
            own.any(|(known, _)| *known == name)
        } else {
            own.next().is_some_and(|(first, _)| *first == name)
        }
    }

    /// Whether it is the same key, under the same name.
    fn is_same(&self, other: &Self) -> bool {
        (&self.kid, self.algorithms, self.print) == (&other.kid, other.algorithms, other.print)
    }

    /// Whether a token could mean this key or another one of the same id: its algorithm does not tell them apart.
    fn is_taken_for(&self, other: &Self) -> bool {
        let is_other = self.kid.is_some() && self.kid == other.kid && self.print != other.print;
        is_other && self.algorithms.iter().any(|(name, _)| other.algorithm(name).is_some())
    }

    /// Whether this is what a key of its type may sign by, though this key does not.
    fn is_of_its_type(&self, name: &str) -> bool {
        let is_rsa = |(known, _): &(&str, Algorithm)| *known == name;
        RSA.iter().any(is_rsa) && self.algorithms.iter().any(|own| RSA.contains(own))
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.algorithms.iter().map(|(name, _)| *name).collect();
        write!(out, "VerificationKey({:?}, {names:?})", self.kid)
    }
}

/// Algorithms, and their names in a token's header.
type Algorithms = &'static [(&'static str, Algorithm)];

const P256: Algorithms = &[("ES256", Algorithm::ES256)];
const P384: Algorithms = &[("ES384", Algorithm::ES384)];
/// RFC 9864 calls by its own name what RFC 8037 calls EdDSA.
const ED25519: Algorithms = &[("EdDSA", Algorithm::EdDSA), ("Ed25519", Algorithm::EdDSA)];
/// The first is what a key without `alg` is most likely for.
const RSA: Algorithms = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// A shared secret has to be as long as what the hash gives (RFC 7518 3.2), in bytes.
const HMAC: [(Algorithms, usize); 3] =
    [(&[("HS256", Algorithm::HS256)], 32), (&[("HS384", Algorithm::HS384)], 48), (&[("HS512", Algorithm::HS512)], 64)];

/// The longest shared secret, in bytes.
const MAX_SECRET: usize = 4_096;

impl JwtKeys {
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
        let fitting = HMAC.iter().filter(|(_, least)| secret.len() >= *least);
        let key = |algorithms| VerificationKey::new(None, algorithms, DecodingKey::from_secret(secret), secret);
        let keys: Vec<_> = fitting.map(|(algorithms, _)| key(*algorithms)).collect();
        if keys.is_empty() {
            let hint = "make one by `openssl rand -hex 64`";
            return Err(diagnostic(format!("the secret has {} bytes; HS256 needs 32", secret.len())).hint(hint));
        }
        Ok(Self { keys, skipped: Vec::new(), is_secret: true, document: sha256(bytes) })
    }

    /// Reads a key set. Keys that cannot be used are [skipped](Self::skipped), unless none is left.
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
        let (mut keys, mut skipped, mut diagnostics) = (Vec::<VerificationKey>::new(), Vec::new(), Vec::new());
        for (at, jwk) in listed.iter().enumerate() {
            let kid = jwk.get("kid").and_then(Value::as_str).filter(|kid| kid.len() <= MAX_KID);
            let named = kid.map(|kid| format!(" (kid {kid:?})")).unwrap_or_default();
            match read(jwk) {
                Ok(key) => keys.extend(key.filter(|key| !keys.iter().any(|known| known.is_same(key)))),
                Err(Fault::Secret(message)) => {
                    diagnostics.push(Diagnostic::new(AT, format!("keys[{at}]{named} {message}")));
                }
                // It takes no name away from a key that can be used.
                Err(Fault::Unusable(message)) => skipped.push(format!("keys[{at}]{named} {message}")),
            }
        }
        if let Some(kid) = ambiguous(&keys) {
            let hint = "keys of one id need an `alg` each, and no two the same (RFC 7517 4.5)";
            diagnostics.push(Diagnostic::new(AT, format!("the key id {kid:?} is there twice")).hint(hint));
        }
        if keys.is_empty() && diagnostics.is_empty() && skipped.is_empty() {
            let hint = "RSA, EC (P-256, P-384) and OKP (Ed25519) keys for signatures";
            diagnostics.push(Diagnostic::new(AT, "no key of the set can vouch for tokens").hint(hint));
        }
        if keys.is_empty() || !diagnostics.is_empty() {
            diagnostics.extend(skipped.into_iter().map(|message| Diagnostic::new(AT, message)));
            return Err(diagnostics);
        }
        Ok(Self { keys, skipped, is_secret: false, document: sha256(bytes) })
    }

    /// The keys of the set that cannot be used, and why.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// A warning of them.
    pub(super) fn warning(&self) -> Option<Diagnostic> {
        let told = told(&self.skipped)?;
        let hint = "tokens by these keys are refused; ask the issuer, or remove them from the file";
        Some(Diagnostic::new(AT, told).hint(hint))
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

    /// Whether they were read from this.
    pub(super) fn are_of(&self, bytes: &[u8]) -> bool {
        self.document == sha256(bytes)
    }

    /// Whether all of them are among `others`, under the same names.
    pub(super) fn are_among(&self, others: &Self) -> bool {
        self.keys.iter().all(|key| others.keys.iter().any(|other| key.is_same(other)))
    }

    /// Whether tokens may be signed by this algorithm at all, whichever key it takes.
    pub(super) fn is_known(algorithm: &str) -> bool {
        [P256, P384, ED25519, RSA].iter().any(|public| public.iter().any(|(name, _)| *name == algorithm))
    }

    /// The key that a token's header means, and how it verifies the token. A token without a key id means the only key with
    /// its algorithm.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: &str) -> Result<(&VerificationKey, Algorithm), Invalid> {
        let unknown = |why| Invalid::new(TokenFault::UnknownKey, why);
        let Some(kid) = kid.filter(|_| !self.is_secret) else {
            // A key that says that it is for this algorithm comes before those that may be for it.
            let is_declared = self.keys.iter().any(|key| key.is_declared_for(algorithm));
            let candidates = self.keys.iter().filter(|key| !is_declared || key.is_declared_for(algorithm));
            let mut fitting = candidates.filter_map(|key| Some((key, key.algorithm(algorithm)?)));
            return match (fitting.next(), fitting.next()) {
                (Some(found), None) => Ok(found),
                (None, _) => Err(unknown("no key has its alg")),
                (Some(_), Some(_)) => Err(unknown("it has no kid and several keys have its alg")),
            };
        };
        let named = || self.keys.iter().filter(|key| key.kid.as_deref() == Some(kid));
        match named().find_map(|key| Some((key, key.algorithm(algorithm)?))) {
            Some(found) => Ok(found),
            None if named().next().is_none() => Err(unknown("no key has its kid")),
            // Its issuer could make it by this key: it, or the key set, is set up wrongly.
            None if named().any(|key| key.is_of_its_type(algorithm)) => {
                Err(Invalid::unfit("its key is for another alg"))
            }
            None => Err(Invalid::forged("its alg is not its key's")),
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    found
}

/// A key id by which tokens could mean two keys for the same algorithm (RFC 7517 4.5). A key may be listed under its id for
/// each of its algorithms, or twice.
fn ambiguous(keys: &[VerificationKey]) -> Option<&str> {
    let is_ambiguous = |key: &&VerificationKey| keys.iter().any(|other| key.is_taken_for(other));
    keys.iter().find(is_ambiguous)?.kid.as_deref()
}

/// What is told of keys that are skipped: the first few of them.
#[must_use]
pub fn told(skipped: &[String]) -> Option<String> {
    const MOST: usize = 3;
    let first: Vec<&str> = skipped.iter().take(MOST).map(String::as_str).collect();
    let rest = skipped.len().saturating_sub(MOST);
    let rest = if rest == 0 { String::new() } else { format!("; {rest} more") };
    (!skipped.is_empty()).then(|| format!("keys are skipped: {}{rest}", first.join("; ")))
}

/// Why a key is not taken.
enum Fault {
    /// It gives a secret away: whoever made the set has to know.
    Secret(String),
    Unusable(String),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Unusable(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::Unusable(message.to_owned())
    }
}

/// Reads one key: nothing if it is for something else.
fn read(jwk: &Value) -> Result<Option<VerificationKey>, Fault> {
    let jwk = jwk.as_object().ok_or("is no object")?;
    if jwk.get("kty").and_then(Value::as_str) == Some("oct") {
        let message = "is a shared secret (\"oct\"): whoever can check a token with it can make one";
        return Err(Fault::Secret(message.to_owned()));
    }
    // First, so that nothing else that is wrong with it hides that.
    if let Some(private) = PRIVATE.iter().find(|member| jwk.contains_key(**member)) {
        return Err(Fault::Secret(format!("is a private key (it has {private:?}): only public keys belong here")));
    }
    let kty = text(jwk, "kty")?.ok_or("has no \"kty\"")?;
    let kid = text(jwk, "kid")?;
    if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
        return Err(format!("has a \"kid\" that is empty or over {MAX_KID} bytes").into());
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
    let (algorithms, decoding, key) = match kty {
        "RSA" => {
            let Some(algorithms) = rsa_algorithms(alg)? else { return Ok(None) };
            let (decoding, key) = rsa(jwk)?;
            (algorithms, decoding, key)
        }
        "EC" => {
            let (algorithms, parameters, bytes) = match text(jwk, "crv")? {
                Some("P-256") => (P256, &sig::ECDSA_P256_SHA256_FIXED, 32),
                Some("P-384") => (P384, &sig::ECDSA_P384_SHA384_FIXED, 48),
                Some(_) => return Ok(None),
                None => return Err("has no \"crv\"".into()),
            };
            if alg.is_some_and(|alg| alg.starts_with("ECDH-")) {
                return Ok(None);
            }
            agree(alg, algorithms)?;
            let mut point = vec![4];
            point.extend(octets(jwk, "x", bytes)?);
            point.extend(octets(jwk, "y", bytes)?);
            sig::ParsedPublicKey::new(parameters, &point)
                .map_err(|_rejected| "is not a point on its curve".to_owned())?;
            (algorithms, DecodingKey::from_ec_der(&point), point)
        }
        "OKP" => {
            match text(jwk, "crv")? {
                Some("Ed25519") => agree(alg, ED25519)?,
                Some(_) => return Ok(None),
                None => return Err("has no \"crv\"".into()),
            }
            let point = octets(jwk, "x", 32)?;
            sig::ParsedPublicKey::new(&sig::ED25519, &point).map_err(|_rejected| "is no Ed25519 key".to_owned())?;
            (ED25519, DecodingKey::from_ed_der(&point), point)
        }
        _ => return Ok(None),
    };
    let is_declared = kty != "RSA" || alg.is_some();
    Ok(Some(VerificationKey { is_declared, ..VerificationKey::new(kid, algorithms, decoding, &key) }))
}

/// What an RSA key verifies: all that RSA signs by, unless it says otherwise (`alg` is optional, RFC 7517 4.4).
fn rsa_algorithms(alg: Option<&str>) -> Result<Option<Algorithms>, String> {
    let Some(alg) = alg else { return Ok(Some(RSA)) };
    let at = RSA.iter().position(|(name, _)| *name == alg);
    match at.and_then(|at| RSA.get(at..=at)) {
        Some(own) => Ok(Some(own)),
        None if alg.starts_with("RSA") => Ok(None),
        None => Err(format!("has the \"alg\" {:?}, which is not RSA's", short(alg))),
    }
}

fn rsa(jwk: &Map<String, Value>) -> Result<(DecodingKey, Vec<u8>), String> {
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
    if !sound || key.to_parsed_public_key(&sig::RSA_PKCS1_2048_8192_SHA256).is_err() {
        return Err("is no sound RSA key".to_owned());
    }
    if roca::is_weak(&n) {
        return Err("was made by a faulty library, and its private key can be computed (CVE-2017-15361)".to_owned());
    }
    Ok((DecodingKey::from_rsa_raw_components(&n, &e), [n, e].concat()))
}

/// The key's own `alg`, if it has one, must be the one that its type implies.
fn agree(alg: Option<&str>, algorithms: Algorithms) -> Result<(), String> {
    match (alg, algorithms) {
        (Some(alg), [(name, _), ..]) if algorithms.iter().all(|(known, _)| *known != alg) => {
            Err(format!("has the \"alg\" {:?}, but its type and curve make it {name}", short(alg)))
        }
        _ => Ok(()),
    }
}

/// As much of a text as fits into a message.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(40)).unwrap_or_default()
}
