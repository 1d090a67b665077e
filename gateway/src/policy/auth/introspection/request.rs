//! The question to an introspection server (RFC 7662 2.1), and how the gateway proves who asks.
//!
//! *Invariant:* secrets are in the question alone, never in what is printed of it.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::json;

use crate::{
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::introspection::{ClientAuth, Proof},
};

/// How long an assertion of the gateway may be used: one question, and what the clocks differ by.
const ASSERTION_SECONDS: u64 = 60;

/// The longest secret of a client, in bytes.
const MAX_SECRET: usize = 4_096;

/// What a server is asked.
pub struct IntrospectionRequest {
    /// Everything but `Host` and what frames the body.
    pub headers: HeaderMap,
    /// `application/x-www-form-urlencoded`.
    pub body: String,
}

impl fmt::Debug for IntrospectionRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both hold secrets.
        write!(out, "Request({} headers, {} bytes)", self.headers.len(), self.body.len())
    }
}

/// Who the gateway is to a server, ready for use.
pub(super) struct ServerCredentials {
    id: String,
    proof: Ready,
}

enum Ready {
    Certificate,
    /// The whole `Authorization`.
    Header(HeaderValue),
    Body(String),
    Assertion {
        key: SigningKey,
        id: Option<String>,
        audience: String,
    },
}

impl ServerCredentials {
    /// Reads the secret or the key.
    ///
    /// # Errors
    /// What is wrong with its file, under the key of the server's table.
    pub(super) fn new(client: &ClientAuth) -> Result<Self, Diagnostic> {
        let proof = match &client.proof {
            Proof::Certificate => Ready::Certificate,
            Proof::SecretInBody(file) => Ready::Body(secret(file)?),
            Proof::SecretInHeader(file) => {
                let pair = format!("{}:{}", form(&client.id), form(&secret(file)?));
                let value = format!("Basic {}", BASE64.encode(pair.as_bytes()));
                let mut value = HeaderValue::try_from(value)
                    .map_err(|_not_a_value| Diagnostic::new("client_id", "cannot be sent in a header"))?;
                value.set_sensitive(true);
                Ready::Header(value)
            }
            Proof::PrivateKey { key, id, audience } => {
                Ready::Assertion { key: SigningKey::read(&key.bytes)?, id: id.clone(), audience: audience.clone() }
            }
        };
        Ok(Self { id: client.id.clone(), proof })
    }

    /// The question what `token` is. `signed`: the answer is to be a JWT. `nonce` has to be another for each question;
    /// `now` is in seconds since the Unix epoch.
    pub(super) fn ask(&self, token: &str, signed: bool, nonce: u128, now: u64) -> IntrospectionRequest {
        let accept = if signed { "application/token-introspection+jwt" } else { "application/json" };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("token", token).append_pair("token_type_hint", "access_token");
        match &self.proof {
            Ready::Certificate => {
                body.append_pair("client_id", &self.id);
            }
            Ready::Header(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Ready::Body(secret) => {
                body.append_pair("client_id", &self.id).append_pair("client_secret", secret);
            }
            Ready::Assertion { key, id, audience } => {
                let assertion = key.sign(
                    id.as_deref(),
                    &json!({
                        "iss": self.id,
                        "sub": self.id,
                        "aud": audience,
                        "jti": HEXLOWER.encode(&nonce.to_be_bytes()),
                        "iat": now,
                        "exp": now + ASSERTION_SECONDS,
                    }),
                );
                body.append_pair("client_id", &self.id)
                    .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                    .append_pair("client_assertion", &assertion);
            }
        }
        IntrospectionRequest { headers, body: body.finish() }
    }
}

/// What RFC 6749 2.3.1 makes of a client's id and secret before they are put together: a colon in either is no end.
fn form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The secret in a file, whose last line may end.
fn secret(file: &NamedFile) -> Result<String, Diagnostic> {
    let wrong = |message: &str| Diagnostic::new("client_secret", message);
    let text = std::str::from_utf8(&file.bytes)
        .map_err(|_no_text| wrong("is no text in UTF-8").hint("write the secret alone into the file"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.starts_with("-----BEGIN ") {
        return Err(
            wrong("is a key, not a secret").hint("name it by `client_key`, with client_auth = \"private_key_jwt\"")
        );
    }
    if text.is_empty() || text.len() > MAX_SECRET || text.contains(char::is_control) {
        let hint = "write the secret alone into the file, as the server gave it";
        return Err(wrong("is not one line of at most 4096 bytes").hint(hint));
    }
    Ok(text.to_owned())
}

/// A private key that signs JWTs, each by the algorithm of its kind.
enum SigningKey {
    Ecdsa(EcdsaKeyPair, &'static str),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Reads a key in PEM.
    fn read(bytes: &[u8]) -> Result<Self, Diagnostic> {
        let wrong = |message: &str| {
            Diagnostic::new("client_key", message)
                .hint("make one by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`")
        };
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|_no_pem| wrong("is no private key (PEM, PKCS#8)"))?;
        let der = der.secret_pkcs8_der();
        let curves: [(&'static EcdsaSigningAlgorithm, &'static str); 2] =
            [(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256"), (&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384")];
        for (curve, name) in curves {
            if let Ok(key) = EcdsaKeyPair::from_pkcs8(curve, der) {
                return Ok(Self::Ecdsa(key, name));
            }
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(key));
        }
        match RsaKeyPair::from_pkcs8(der) {
            Ok(key) => Ok(Self::Rsa(key)),
            Err(_other) => Err(wrong("is no key that signs: RSA of 2048 bits or more, P-256, P-384 or Ed25519")),
        }
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(_, name) => name,
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// A JWT of these claims. Empty where the machine has no randomness: no server takes that.
    fn sign(&self, id: Option<&str>, claims: &serde_json::Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let (Some(id), Some(header)) = (id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.into());
        }
        let encode = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ecdsa(key, _) => key.sign(&random, message.as_bytes()).map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(key) => Ok(key.sign(message.as_bytes()).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).map(|()| signature)
            }
        };
        signature.map(|signature| format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
