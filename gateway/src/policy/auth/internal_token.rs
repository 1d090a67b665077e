//! Makes the internal token: a short-lived JWT, signed by the gateway, that tells an upstream who the client is, how that
//! was proved, and which roles it has.
//!
//! A token is remembered for its identity and its upstream, so that not every request is signed. It is made anew once
//! half of its time is over.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use bytes::Bytes;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Map, Value, json};

use super::Identity;
use crate::{
    collections::bounded::Sharded, diagnostic::Diagnostic, identity::claim::ClaimPath, os::clock::Now,
    settings::internal_token,
};

/// What makes one.
const MAKE: &str = "make one by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";

/// The beginning of a public key for ES256 in DER: everything but the point (RFC 5480 2).
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// What makes internal tokens.
pub struct InternalTokens {
    settings: internal_token::Settings,
    key: EcdsaKeyPair,
    /// The first part of every token, encoded.
    header: String,
    /// Where each of `settings.claims` is among the claims that identities keep.
    claims: Box<[(String, usize)]>,
    jwks: Bytes,
    made: Sharded<For, Made>,
}

/// Whom a token is about, and for whom.
#[derive(PartialEq, Eq)]
struct For {
    identity: Arc<Identity>,
    audience: Box<str>,
}

impl Hash for For {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.principal().hash(state);
        self.identity.expires().hash(state);
        self.audience.hash(state);
    }
}

struct Made {
    token: HeaderValue,
    /// When another one is made: seconds since the Unix epoch.
    renew: u64,
    /// The second before which the clock was set back.
    from: u64,
}

impl InternalTokens {
    /// Reads the keys. `kept` are the claims that identities keep.
    ///
    /// # Errors
    /// Every fault of them, under `internal_token`.
    pub fn new(settings: &internal_token::Settings, kept: &[ClaimPath]) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let key = private_key(&settings.private_key.bytes).map_err(|wrong| faults.push(wrong)).ok();
        let mut points = Vec::new();
        for (index, file) in settings.former_keys.iter().enumerate() {
            match point(&file.bytes) {
                Some(point) => points.push(point),
                None => {
                    let wrong = Diagnostic::new(format!("former_keys[{index}]"), "is no public key for ES256 in PEM");
                    faults.push(wrong.hint("make one by `openssl pkey -in FORMER_KEY -pubout`"));
                }
            }
        }
        let Some(key) = key.filter(|_| faults.is_empty()) else {
            return Err(faults.into_iter().map(|fault| fault.under("internal_token")).collect());
        };
        let own = key.public_key().as_ref().to_vec();
        points.retain(|point| *point != own);
        points.insert(0, own.clone());
        let keys: Vec<Value> = points.iter().map(|point| jwk(point)).collect();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid(&own)});
        let place = |path: &ClaimPath| kept.iter().position(|kept| kept == path).unwrap_or(usize::MAX);
        Ok(Self {
            header: BASE64URL_NOPAD.encode(header.to_string().as_bytes()),
            claims: settings.claims.iter().map(|path| (path.to_string(), place(path))).collect(),
            jwks: json!({ "keys": keys }).to_string().into(),
            made: Sharded::new(settings.cache),
            key,
            settings: settings.clone(),
        })
    }

    /// Whether it would be the same with these settings.
    #[must_use]
    pub fn is_made_from(&self, settings: &internal_token::Settings, kept: &[ClaimPath]) -> bool {
        let place = |path: &ClaimPath| kept.iter().position(|kept| kept == path).unwrap_or(usize::MAX);
        self.settings == *settings && settings.claims.iter().map(place).eq(self.claims.iter().map(|(_, at)| *at))
    }

    /// Where the token is sent.
    pub const fn header(&self) -> &HeaderName {
        &self.settings.header
    }

    /// The public keys (RFC 7517), if `path` is where they are served.
    #[must_use]
    pub fn jwks(&self, path: &str) -> Option<&Bytes> {
        (self.settings.jwks_path.as_deref() == Some(path)).then_some(&self.jwks)
    }

    /// The header's value for a request of `identity` to an upstream. `None`: it cannot be made, which nothing is
    /// forwarded without.
    #[must_use]
    pub fn token(&self, identity: &Arc<Identity>, upstream: &str, now: Now) -> Option<HeaderValue> {
        let audience = self.settings.audience.as_deref().unwrap_or(upstream);
        let about = For { identity: Arc::clone(identity), audience: audience.into() };
        let seconds = now.unix_seconds();
        if let Some(made) = self.made.lock(&about).find(&about)
            && (made.from..made.renew).contains(&seconds)
        {
            return Some(made.token.clone());
        }
        let (token, expires) = self.make(&about, seconds)?;
        let renew = seconds + expires.saturating_sub(seconds).div_ceil(2);
        let made = Made { token: token.clone(), renew, from: seconds };
        self.made.lock(&about).put(about, made, |_, made| made.renew);
        Some(token)
    }

    fn make(&self, about: &For, now: u64) -> Option<(HeaderValue, u64)> {
        let For { identity, audience } = about;
        let expires = now.saturating_add(self.settings.lifetime.as_secs()).min(identity.expires());
        let random = SystemRandom::new();
        let mut id = [0; 16];
        random.fill(&mut id).ok()?;
        let mut claims = Map::new();
        for (name, place) in &self.claims {
            if let Some(value) = identity.claim(*place) {
                claims.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in [
            ("iss", json!(self.settings.issuer)),
            ("sub", json!(identity.principal())),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("exp", json!(expires)),
            ("jti", json!(HEXLOWER.encode(&id))),
            ("auth_method", json!(identity.method().name())),
            ("roles", json!(identity.roles().collect::<Vec<_>>())),
            ("scope", json!(identity.scopes().collect::<Vec<_>>().join(" "))),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let claims = BASE64URL_NOPAD.encode(Value::Object(claims).to_string().as_bytes());
        let signed = format!("{}.{claims}", self.header);
        let signature = self.key.sign(&random, signed.as_bytes()).ok()?;
        let scheme = if self.settings.header == AUTHORIZATION { "Bearer " } else { "" };
        let token = format!("{scheme}{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()));
        let mut token = HeaderValue::try_from(token).ok()?;
        token.set_sensitive(true);
        Some((token, expires))
    }
}

impl fmt::Debug for InternalTokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "InternalTokens({:?})", self.settings.issuer)
    }
}

fn private_key(pem: &[u8]) -> Result<EcdsaKeyPair, Diagnostic> {
    let wrong = |message: &str| Diagnostic::new("private_key", message).hint(MAKE);
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
        .map_err(|_error| wrong("is no private key in PEM (PKCS#8, BEGIN PRIVATE KEY)"))?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
        .map_err(|_rejected| wrong("is no key for ES256 (EC, P-256)"))
}

/// The point of a public key for ES256, with the byte before it that says that it is whole.
fn point(pem: &[u8]) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let rest = der.strip_prefix(P256_SPKI.as_slice()).filter(|rest| rest.len() == 64)?;
    Some([&[4], rest].concat())
}

/// The key's thumbprint (RFC 7638), so that a key has one name wherever it is published.
fn kid(point: &[u8]) -> String {
    let (x, y) = coordinates(point);
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    BASE64URL_NOPAD.encode(digest(&SHA256, members.as_bytes()).as_ref())
}

fn jwk(point: &[u8]) -> Value {
    let (x, y) = coordinates(point);
    json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256", "kid": kid(point)})
}

fn coordinates(point: &[u8]) -> (String, String) {
    let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
    (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::{
        encoding::{AsDer as _, PublicKeyX509Der},
        signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
    };
    use data_encoding::BASE64;

    use super::*;
    use crate::os::file::NamedFile;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> Now {
        Now { monotonic: 0, unix_millis: seconds * 1_000 }
    }

    fn pem(label: &str, der: &[u8]) -> NamedFile {
        let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der));
        NamedFile { path: "internal.pem".into(), bytes: text.into_bytes().into() }
    }

    fn private(key: &EcdsaKeyPair) -> NamedFile {
        pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref())
    }

    fn public(key: &EcdsaKeyPair) -> NamedFile {
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        pem("PUBLIC KEY", der.as_ref())
    }

    fn key() -> EcdsaKeyPair {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
    }

    fn settings(key: &EcdsaKeyPair) -> internal_token::Settings {
        internal_token::Settings {
            issuer: "https://gateway.example".to_owned(),
            audience: None,
            private_key: private(key),
            former_keys: Vec::new(),
            lifetime: Duration::from_secs(60),
            header: HeaderName::from_static("x-internal-token"),
            claims: vec![ClaimPath::of(&["email"])],
            jwks_path: Some("/keys".to_owned()),
            cache: 10,
        }
    }

    fn kept() -> Vec<ClaimPath> {
        vec![ClaimPath::of(&["other"]), ClaimPath::of(&["email"])]
    }

    /// Someone whose identity ends in the second `expires`.
    fn somebody(principal: &str, expires: u64) -> Arc<Identity> {
        let claims = vec![Some(json!("x")), Some(json!("ada@example.com"))];
        let identity = Identity::of_token(principal, &["reader", "editor"], &["a", "b"], claims);
        Arc::new(Identity { expires, ..identity })
    }

    /// Header and claims of a token, after its signature was verified by the set that is served.
    fn read(tokens: &InternalTokens, token: &HeaderValue) -> (Value, Value) {
        let text = token.to_str().unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let part = |part: &str| -> Value {
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        let set: Value = serde_json::from_slice(tokens.jwks("/keys").unwrap()).unwrap();
        let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == part(header)["kid"]).unwrap();
        let number = |name: &str| BASE64URL_NOPAD.decode(key[name].as_str().unwrap().as_bytes()).unwrap();
        let point = [vec![4], number("x"), number("y")].concat();
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).unwrap();
        public.verify_sig(signed.as_bytes(), &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
        (part(header), part(claims))
    }

    #[test]
    fn who_how_and_which_roles() {
        let tokens = InternalTokens::new(&settings(&key()), &kept()).unwrap();
        let (header, mut claims) =
            read(&tokens, &tokens.token(&somebody("ada", NOW + 1_000), "items", at(NOW)).unwrap());
        assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("JWT")));
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 32);
        let expect = json!({
            "iss": "https://gateway.example", "sub": "ada", "aud": "items", "iat": NOW, "exp": NOW + 60,
            "auth_method": "jwt", "roles": ["reader", "editor"], "scope": "a b", "email": "ada@example.com",
        });
        assert_eq!(claims, expect);
        let bearer =
            internal_token::Settings { header: AUTHORIZATION, audience: Some("all".to_owned()), ..settings(&key()) };
        let bearer = InternalTokens::new(&bearer, &[]).unwrap();
        let token = bearer.token(&somebody("ada", NOW + 1_000), "items", at(NOW)).unwrap();
        let token = HeaderValue::from_str(token.to_str().unwrap().strip_prefix("Bearer ").unwrap()).unwrap();
        let (_, claims) = read(&bearer, &token);
        assert_eq!((&claims["aud"], claims.get("email")), (&json!("all"), None));
    }

    #[test]
    fn tokens_are_made_anew_at_half_of_their_time() {
        let tokens = InternalTokens::new(&settings(&key()), &kept()).unwrap();
        let of = |who: &Arc<Identity>, upstream: &str, seconds: u64| {
            let token = tokens.token(who, upstream, at(NOW + seconds)).unwrap();
            let (_, claims) = read(&tokens, &token);
            (token, claims["exp"].as_u64().unwrap() - NOW)
        };
        let (ada, again) = (somebody("ada", NOW + 1_000), somebody("ada", NOW + 1_000));
        let (first, expires) = of(&ada, "items", 0);
        assert_eq!(expires, 60);
        assert_eq!(of(&again, "items", 29), (first, 60));
        assert_eq!(of(&ada, "items", 30).1, 90);
        // Not for another upstream, nor for who has other roles.
        assert_ne!(of(&ada, "items", 31).0, of(&ada, "users", 31).0);
        let other = Arc::new(Identity { roles: Vec::new(), ..(*ada).clone() });
        assert_ne!(of(&other, "items", 31).0, of(&ada, "items", 31).0);
        // Never beyond the identity, and not of the future where the clock was set back.
        assert_eq!(of(&somebody("bob", NOW + 10), "items", 0).1, 10);
        assert_eq!(of(&ada, "items", 0).1, 60);
    }

    #[test]
    fn keys_that_are_served() {
        let (now, before) = (key(), key());
        let both = internal_token::Settings { former_keys: vec![public(&before), public(&now)], ..settings(&now) };
        let tokens = InternalTokens::new(&both, &[]).unwrap();
        let set: Value = serde_json::from_slice(tokens.jwks("/keys").unwrap()).unwrap();
        let ids: Vec<_> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(ids, [kid(now.public_key().as_ref()), kid(before.public_key().as_ref())]);
        assert!(set["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
        assert_eq!(tokens.jwks("/other"), None);
        assert!(tokens.is_made_from(&both, &[]) && !tokens.is_made_from(&settings(&now), &[]));
        assert!(!tokens.is_made_from(&both, &kept()), "the claim has a place now");
    }

    #[test]
    fn wrong_keys() {
        let (good, file) = (key(), |text: &str| NamedFile { path: "k".into(), bytes: text.as_bytes().into() });
        let p384 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        for (settings, expect) in [
            (
                internal_token::Settings { private_key: file(""), ..settings(&good) },
                "internal_token.private_key: is no private key",
            ),
            (
                internal_token::Settings { private_key: public(&good), ..settings(&good) },
                "internal_token.private_key: is no private key",
            ),
            (
                internal_token::Settings { private_key: private(&p384), ..settings(&good) },
                "internal_token.private_key: is no key for ES256",
            ),
            (
                internal_token::Settings { former_keys: vec![file("")], ..settings(&good) },
                "internal_token.former_keys[0]: is no public key",
            ),
            (
                internal_token::Settings { former_keys: vec![public(&good), private(&good)], ..settings(&good) },
                "internal_token.former_keys[1]: is no public key",
            ),
            (
                internal_token::Settings { former_keys: vec![public(&p384)], ..settings(&good) },
                "internal_token.former_keys[0]: is no public",
            ),
        ] {
            let faults = InternalTokens::new(&settings, &[]).map(drop).expect_err(expect);
            let [fault] = faults.as_slice() else { panic!("{expect}: {faults:?}") };
            assert!(fault.to_string().starts_with(expect) && fault.hint.is_some(), "{expect}: {fault:?}");
        }
    }
}
