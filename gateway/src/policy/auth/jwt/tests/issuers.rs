//! Several issuers, and what of their tokens is believed.

use serde_json::{Value, json};

use super::*;
use crate::{
    identity::claim::{ClaimCondition, ClaimPath},
    settings::claims::ClaimRules,
};

fn named(name: &str, issuer: &str, jwks: &str) -> IssuerSettings {
    let plain = settings(jwks).issuers.remove(0);
    IssuerSettings {
        key: format!("issuer.{name}"),
        issuer: issuer.to_owned(),
        rules: ClaimRules {
            name: Some(name.to_owned()),
            audiences: Some(vec!["api".to_owned(), "other".to_owned()]),
            ..plain.rules
        },
        ..plain
    }
}

fn text(issuer: &str, audience: &str, subject: &str) -> String {
    format!(r#"{{"iss":"{issuer}","aud":{audience},"sub":"{subject}","exp":{}}}"#, NOW + 300)
}

#[track_caller]
fn principal(jwt: &Jwt, token: &str, expect: &str) {
    let verdict = judge(jwt, token, now());
    let shown = verdict.as_ref().map_or_else(|refusal| &*refusal.detail, |identity| identity.principal());
    assert_eq!(shown, expect);
}

#[test]
fn each_token_is_judged_by_its_own_issuer() {
    let (ours, theirs) = (Issuer::new(), Issuer::new());
    let (a, b) = ("https://a.example", "https://b.example");
    let mut settings = ours.settings();
    settings.issuers.extend([named("a", a, &ours.set()), named("b", b, &theirs.set())]);
    let jwt = Jwt::new(&settings).unwrap();
    let of = |issuer: &Issuer, claims: &str| issuer.with_claims(claims);
    let sub = "its sub is no string of 1 to 255 bytes that names one principal";
    principal(&jwt, &of(&ours, &good()), "ann");
    principal(&jwt, &of(&ours, &text(a, "\"api\"", "ann")), "a:ann");
    principal(&jwt, &of(&theirs, &text(b, "\"other\"", "ann")), "b:ann");
    principal(&jwt, &of(&theirs, &text(b, "[\"x\",\"other\"]", "ann")), "b:ann");
    principal(&jwt, &of(&theirs, &text(b, "\"x\"", "ann")), "its aud holds no `audience` of its issuer");
    // One issuer's key does not vouch for what another says, and no subject is that of another's principal.
    principal(&jwt, &of(&theirs, &text(a, "\"api\"", "ann")), "its signature is not its key's");
    principal(&jwt, &of(&ours, &text(b, "\"api\"", "ann")), "its signature is not its key's");
    principal(&jwt, &of(&ours, &text("https://a.example/", "\"api\"", "ann")), "its iss is no configured issuer");
    principal(&jwt, &of(&ours, &text(ISSUER, "\"api\"", "a:ann")), sub);
    principal(&jwt, &of(&ours, &text(ISSUER, "\"api\"", "c:ann")), "c:ann");
    principal(&jwt, &of(&ours, &text(a, "\"api\"", "b:ann")), "a:b:ann");
    principal(&jwt, &of(&ours, &text(a, "\"api\"", "cert:x")), sub);
}

#[test]
fn j08_fractions_of_seconds() {
    let issuer = Issuer::new();
    let jwt = issuer.jwt();
    let late = "it has expired";
    for (claims, moments) in [
        (format!(r#","exp":{}.9"#, NOW + 100), &[(NOW + 129, ""), (NOW + 130, late)][..]),
        (format!(r#","exp":{}.0"#, NOW + 100), &[(NOW + 129, ""), (NOW + 130, late)]),
        (format!(r#","exp":{},"nbf":{}.5"#, NOW + 100, NOW + 30), &[(NOW, "it is not valid yet"), (NOW + 1, "")]),
        (format!(r#","exp":{},"iat":{}.5"#, NOW + 100, NOW + 30), &[(NOW, "")]),
        (r#","exp":1.8000001e9"#.to_owned(), &[(NOW, "")]),
    ] {
        check_times(&jwt, &issuer.with_claims(&super::claims(&claims)), moments);
    }
}

/// The tag of a token by a shared secret.
fn by_secret(algorithm: &str, hash: hmac::Algorithm, secret: &[u8], kid: &str) -> String {
    let message = format!("{}.{}", encode(&format!(r#"{{"alg":"{algorithm}"{kid}}}"#)), encode(&good()));
    let tag = hmac::sign(&hmac::Key::new(hash, secret), message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

fn secret(bytes: &[u8]) -> jwt::Settings {
    let file = NamedFile { path: "secret".into(), bytes: bytes.into() };
    changed(settings(""), |issuer| issuer.keys = KeySource::Secret(file.clone()))
}

#[test]
fn shared_secrets() {
    let bytes = b"0123456789abcdef0123456789abcdef0123456789abcdef";
    let jwt = Jwt::new(&secret(&[&bytes[..], b"\n"].concat())).unwrap();
    let other = b"1123456789abcdef0123456789abcdef0123456789abcdef";
    check(&jwt, &by_secret("HS256", hmac::HMAC_SHA256, bytes, ""), "");
    check(&jwt, &by_secret("HS256", hmac::HMAC_SHA256, bytes, r#","kid":"any""#), "");
    check(&jwt, &by_secret("HS384", hmac::HMAC_SHA384, bytes, ""), "");
    check(&jwt, &by_secret("HS512", hmac::HMAC_SHA512, bytes, ""), "no key has its alg");
    check(&jwt, &by_secret("HS384", hmac::HMAC_SHA256, bytes, ""), "its signature is not its key's");
    check(&jwt, &by_secret("HS256", hmac::HMAC_SHA256, other, ""), "its signature is not its key's");
    check(&jwt, &by_secret("HS256", hmac::HMAC_SHA256, b"", ""), "its signature is not its key's");
    check(&jwt, &Issuer::new().with_claims(&good()), "no key has its alg");
    let long = [7_u8; 5_000];
    for (bytes, message) in [
        (&bytes[..31], "the secret has 31 bytes; HS256 needs 32"),
        (b"", "the secret has 0 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n", "a key for something else"),
        (br#"{"keys":[{"kty":"RSA","n":"0123456789abcdef","e":"AQAB"}]}"#, "a key for something else"),
        (&long, "over 4096 bytes"),
    ] {
        let diagnostics = Jwt::new(&secret(bytes)).unwrap_err();
        let fits = diagnostics.len() == 1 && diagnostics[0].key == "jwt.secret";
        assert!(fits && diagnostics[0].message.contains(message), "{diagnostics:?}");
    }
}

#[test]
fn claims_by_path() {
    let issuer = Issuer::new();
    let path = |text: &str| ClaimPath::parse(text).unwrap();
    let condition = |name: &str, value: Value| ClaimCondition { path: path(name), any_of: [value].into() };
    let mut settings = changed(issuer.settings(), |one| {
        one.rules.roles_claims = vec![path("realm_access.roles"), path("resource_access.api.roles")];
        one.rules.scope_claim = path("scp");
        one.rules.audience_claim = path("client_id");
        one.rules.subject_claim = path("preferred.name");
        one.rules.claims = vec![condition("token_use", json!("access"))];
    });
    settings.kept = vec![path("email_verified"), path("org.id")];
    let jwt = Jwt::new(&settings).unwrap();
    let token = |rest: &str| {
        let claims = format!(r#"{{"iss":"{ISSUER}","client_id":"api","exp":{},"sub":"x","aud":"x"{rest}}}"#, NOW + 300);
        issuer.with_claims(&claims)
    };
    let all = r#","token_use":"access","preferred":{"name":"ann"},"scp":["a","b"],"email_verified":true,
        "realm_access":{"roles":["reader"]},"resource_access":{"api":{"roles":["editor"]}}"#;
    let identity = judge(&jwt, &token(all), now()).unwrap();
    assert_eq!(identity.principal(), "ann");
    assert_eq!(identity.roles().collect::<Vec<_>>(), ["reader", "editor"]);
    assert_eq!(identity.scopes().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((identity.claim(0), identity.claim(1), identity.claim(2)), (Some(&json!(true)), None, None));
    for (from, to, expect) in [
        (r#""token_use":"access""#, r#""token_use":"id""#, "a claim is not what its issuer's `claims` ask for"),
        (r#""token_use":"access","#, "", "a claim is not what its issuer's `claims` ask for"),
        (
            r#""preferred":{"name":"ann"}"#,
            r#""preferred":"ann""#,
            "its sub is no string of 1 to 255 bytes that names one principal",
        ),
        (r#"["reader"]"#, r#"{"reader":1}"#, "its roles are neither strings nor one string"),
        (r#"["a","b"]"#, "7", "its scopes are neither strings nor one string"),
    ] {
        check(&jwt, &token(&all.replace(from, to)), expect);
    }
    check(&jwt, &token(&all.replace(r#""realm_access""#, r#""elsewhere""#)), "");
    // Only some of the roles that the issuer names count.
    let limited =
        Jwt::new(&changed(settings, |one| one.rules.roles = Some(vec!["editor".to_owned(), "other".to_owned()])));
    let identity = judge(&limited.unwrap(), &token(all), now()).unwrap();
    assert_eq!(identity.roles().collect::<Vec<_>>(), ["editor"]);
}
