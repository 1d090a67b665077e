//! The tokens that clients hold: good ones of every algorithm, and every broken one that can be put together.
//!
//! Written out by hand, sharing nothing with the library that the gateway verifies them with.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// What `iss` is.
pub const ISSUER: &str = "https://issuer.example";
/// What `aud` is.
pub const AUDIENCE: &str = "api";

/// An algorithm that the gateway accepts (RFC 7518 3.1, RFC 8037 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The value of `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// The `kid` of the key in the set.
    #[must_use]
    pub const fn kid(self) -> &'static str {
        match self {
            Self::Es256 => "ec-1",
            Self::EdDsa => "ed-1",
            Self::Rs256 => "rsa-1",
        }
    }
}

/// One key per algorithm.
pub struct Keys {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

/// The issuer's keys: the same in all tests of a process, because making an RSA key takes a while.
pub static ISSUERS: LazyLock<Keys> = LazyLock::new(Keys::generate);
/// Keys that nobody trusts.
pub static FOREIGN: LazyLock<Keys> = LazyLock::new(Keys::generate);

impl Keys {
    /// New keys.
    ///
    /// # Panics
    /// If the machine has no randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    /// The public halves as a JWK set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        let (modulus, exponent) = self.rsa_numbers();
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa-1", "use": "sig", "alg": "RS256",
             "n": encode(&modulus), "e": encode(&exponent)},
            {"kty": "EC", "kid": "ec-1", "use": "sig", "alg": "ES256", "crv": "P-256",
             "x": encode(&point[1..33]), "y": encode(&point[33..65])},
            {"kty": "OKP", "kid": "ed-1", "use": "sig", "alg": "EdDSA", "crv": "Ed25519",
             "x": encode(self.ed.public_key().as_ref())},
        ]})
    }

    /// Signs `HEADER.PAYLOAD`, given as JSON texts.
    #[must_use]
    pub fn sign(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let random = SystemRandom::new();
        let signature = match algorithm {
            Algorithm::Es256 => self.ec.sign(&random, input.as_bytes()).unwrap().as_ref().to_vec(),
            Algorithm::EdDsa => self.ed.sign(input.as_bytes()).as_ref().to_vec(),
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{input}.{}", encode(&signature))
    }

    /// A token of `algorithm` with these claims and the usual header.
    #[must_use]
    pub fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.sign(algorithm, &header(algorithm).to_string(), &claims.to_string())
    }

    /// A token signed with HMAC, its secret the text of the RSA public key: J02's confusion of algorithms.
    #[must_use]
    pub fn confused(&self, claims: &Value) -> String {
        let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"});
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let der = self.rsa.public_key().as_der().unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, der.as_ref());
        format!("{input}.{}", encode(hmac::sign(&secret, input.as_bytes()).as_ref()))
    }

    /// Modulus and exponent, out of the key's `RSAPublicKey` (RFC 8017 A.1.1): a sequence of two integers.
    fn rsa_numbers(&self) -> (Vec<u8>, Vec<u8>) {
        let der = self.rsa.public_key().as_ref();
        let (sequence, _) = element(der);
        let (modulus, rest) = element(sequence);
        let (exponent, _) = element(rest);
        (unsigned(modulus), unsigned(exponent))
    }
}

/// A token signed by HMAC with SHA-256 and a shared secret.
#[must_use]
pub fn by_secret(secret: &[u8], claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{input}.{}", encode(hmac::sign(&key, input.as_bytes()).as_ref()))
}

/// The header of a good token.
#[must_use]
pub fn header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.name(), "typ": "at+jwt", "kid": algorithm.kid()})
}

/// The claims of a good token.
#[must_use]
pub fn claims(subject: &str, roles: &[&str]) -> Value {
    let now = now();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3_600, "roles": roles})
}

/// A good token.
#[must_use]
pub fn good(subject: &str, roles: &[&str]) -> String {
    ISSUERS.token(Algorithm::Es256, &claims(subject, roles))
}

/// What is in a good token, signed by somebody else.
#[must_use]
pub fn forged(subject: &str, roles: &[&str]) -> String {
    FOREIGN.token(Algorithm::Es256, &claims(subject, roles))
}

/// A token that was good until an hour ago.
#[must_use]
pub fn expired(subject: &str, roles: &[&str]) -> String {
    let mut claims = claims(subject, roles);
    claims["iat"] = json!(now() - 7_200);
    claims["exp"] = json!(now() - 3_600);
    ISSUERS.token(Algorithm::Es256, &claims)
}

/// Seconds since the epoch.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// base64url without padding (RFC 7515 2).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        }
    };
    der[start..].split_at(length)
}

fn unsigned(integer: &[u8]) -> Vec<u8> {
    integer.iter().copied().skip_while(|byte| *byte == 0).collect()
}
