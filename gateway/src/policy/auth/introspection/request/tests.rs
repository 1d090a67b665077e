//! What is asked, and how: secrets, assertions, and files that are neither.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

use super::*;

const NOW: u64 = 1_800_000_000;

fn file(bytes: impl AsRef<[u8]>) -> NamedFile {
    NamedFile { path: "file".into(), bytes: bytes.as_ref().into() }
}

fn asker(id: &str, proof: Proof) -> Result<ServerCredentials, Diagnostic> {
    ServerCredentials::new(&ClientAuth { id: id.to_owned(), proof })
}

/// The question about `token` says exactly this.
#[track_caller]
fn asks(id: &str, proof: Proof, token: &str, authorization: Option<&str>, body: &str) {
    let request = asker(id, proof).unwrap().ask(token, false, 7, NOW);
    let shown = request.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
    assert_eq!((shown, request.body.as_str()), (authorization, body));
    assert_eq!(request.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert!(!format!("{request:?}").contains(token));
}

#[test]
fn secrets_are_sent_as_the_standard_says() {
    let about = "token=abc&token_type_hint=access_token";
    let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
    for (id, secret, pair) in [
        ("gateway", "s3cret", "gateway:s3cret"),
        ("gateway", "s3cret\n", "gateway:s3cret"),
        ("gateway", "s3cret\r\n", "gateway:s3cret"),
        ("gateway", " s p ", "gateway:+s+p+"),
        ("a:b", "c:d%e", "a%3Ab:c%3Ad%25e"),
        ("https://api.example", "p\u{e4}ss+word/=", "https%3A%2F%2Fapi.example:p%C3%A4ss%2Bword%2F%3D"),
    ] {
        asks(id, Proof::SecretInHeader(file(secret)), "abc", Some(&basic(pair)), about);
    }
    asks(
        "a&b",
        Proof::SecretInBody(file("x=y&z\n")),
        "a+b/c==",
        None,
        "token=a%2Bb%2Fc%3D%3D&token_type_hint=access_token&client_id=a%26b&client_secret=x%3Dy%26z",
    );
    asks("gateway", Proof::Certificate, "abc", None, &format!("{about}&client_id=gateway"));
}

#[test]
fn an_answer_that_is_signed_is_asked_for() {
    for (signed, accept) in [(false, "application/json"), (true, "application/token-introspection+jwt")] {
        let request = asker("gateway", Proof::Certificate).unwrap().ask("abc", signed, 7, NOW);
        assert_eq!(request.headers[ACCEPT], accept);
    }
}

/// The assertion of a question, taken apart: header, claims, and whether this key signed it.
fn assertion(
    asker: &ServerCredentials,
    nonce: u128,
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> [Value; 2] {
    let request = asker.ask("abc", false, nonce, NOW);
    let pairs: Vec<_> = form_urlencoded::parse(request.body.as_bytes()).collect();
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}")).1.clone();
    assert_eq!(value("client_id"), "gateway");
    assert_eq!(value("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let signed = value("client_assertion");
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    UnparsedPublicKey::new(algorithm, key).verify(message.as_bytes(), &signature).expect("it is the key's");
    let (header, claims) = message.split_once('.').unwrap();
    [header, claims].map(|part| serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap())
}

#[test]
fn keys_sign_assertions() {
    let of = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
    let (ec, ed) = (of(&rcgen::PKCS_ECDSA_P256_SHA256), of(&rcgen::PKCS_ED25519));
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa_der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
    let rsa_pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(rsa_der.as_ref()));
    let rows: [(String, &str, &'static dyn VerificationAlgorithm, Vec<u8>); 3] = [
        (ec.serialize_pem(), "ES256", &ECDSA_P256_SHA256_FIXED, ec.public_key_raw().to_vec()),
        (ed.serialize_pem(), "EdDSA", &ED25519, ed.public_key_raw().to_vec()),
        (rsa_pem, "RS256", &RSA_PKCS1_2048_8192_SHA256, rsa.public_key().as_ref().to_vec()),
    ];
    for (pem, algorithm, verification, public) in rows {
        let proof = |id: Option<&str>| Proof::PrivateKey {
            key: file(&pem),
            id: id.map(ToOwned::to_owned),
            audience: "https://issuer.example".to_owned(),
        };
        let signer = asker("gateway", proof(Some("k1"))).unwrap();
        let [header, claims] = assertion(&signer, 7, verification, &public);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT", "kid": "k1"}));
        let expect = json!({"iss": "gateway", "sub": "gateway", "aud": "https://issuer.example",
            "jti": "00000000000000000000000000000007", "iat": NOW, "exp": NOW + 60});
        assert_eq!(claims, expect, "{algorithm}");
        let [_, other] = assertion(&signer, 8, verification, &public);
        assert_ne!(claims["jti"], other["jti"]);
        let [header, _] = assertion(&asker("gateway", proof(None)).unwrap(), 7, verification, &public);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
    }
}

#[test]
fn files_that_are_no_proof() {
    let key = |bytes: &str| Proof::PrivateKey { key: file(bytes), id: None, audience: "a".to_owned() };
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let p521 = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (proof, at, expect) in [
        (Proof::SecretInBody(file("")), "client_secret", "not one line"),
        (Proof::SecretInBody(file("\n")), "client_secret", "not one line"),
        (Proof::SecretInHeader(file("a\nb\n")), "client_secret", "not one line"),
        (Proof::SecretInHeader(file(b"\xff")), "client_secret", "no text"),
        (Proof::SecretInHeader(file("x".repeat(4_097))), "client_secret", "not one line"),
        (Proof::SecretInHeader(file(&pem)), "client_secret", "a key, not a secret"),
        (key(""), "client_key", "no private key"),
        (key("secret"), "client_key", "no private key"),
        (key(p521), "client_key", "no key that signs"),
    ] {
        let wrong = asker("gateway", proof).err().unwrap();
        assert_eq!(wrong.key, at, "{wrong}");
        assert!(wrong.message.contains(expect) && wrong.hint.is_some(), "{wrong}");
    }
}
