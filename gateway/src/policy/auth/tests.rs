//! Which credential of a request counts, and which requests are refused because they have several, or a wrong one.

use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::*;
use crate::{
    os::file::NamedFile,
    policy::auth::{
        certificate::{CertificateNames, ClientCertificate},
        claims::tests::rules,
    },
    refusal::BearerError,
    settings::{
        claims::ClaimRules,
        jwt::{Issuer, KeySource},
    },
};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn now() -> Now {
    Now { monotonic: 1_000_000_000, unix_millis: NOW * 1_000 }
}

/// A gateway with one issuer, which shares a secret with it.
fn authenticators() -> Authenticators {
    authenticators_with(0)
}

/// The same with a cache.
fn authenticators_with(cache: usize) -> Authenticators {
    let issuer = Issuer {
        key: "jwt".to_owned(),
        issuer: "i".to_owned(),
        keys: KeySource::Secret(NamedFile { path: "secret".into(), bytes: SECRET.into() }),
        typ: None,
        rules: ClaimRules { leeway: Duration::ZERO, ..rules() },
    };
    let jwt = crate::settings::jwt::Settings { issuers: vec![issuer], cache, kept: Vec::new(), others: Vec::new() };
    Authenticators::new(&auth::Settings { jwt: Some(jwt), ..auth::Settings::default() }).unwrap()
}

fn token(expires: u64) -> String {
    token_with(expires, "")
}

/// A token with more claims.
fn token_with(expires: u64, more: &str) -> String {
    let claims = format!(r#"{{"iss":"i","aud":"api","sub":"ada","exp":{expires},"roles":["reader"]{more}}}"#);
    let signed = [r#"{"alg":"HS256"}"#, &claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// A client certificate that ends in the second `NOW + seconds`.
fn certificate(seconds: u64) -> ClientCertificate {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "billing");
    // NOW is at eight in the morning.
    parameters.not_after = rcgen::date_time_ymd(2027, 1, 15) + Duration::from_secs(8 * 3_600 + seconds);
    let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    ClientCertificate::read(der.der(), &CertificateNames::of("partners", &["partner"])).unwrap()
}

fn headers(authorizations: &[&str]) -> HeaderMap {
    let pair = |value: &&str| (AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    authorizations.iter().map(pair).collect()
}

fn judge(
    headers: &HeaderMap,
    carried: Option<&str>,
    certificate: Option<&ClientCertificate>,
    methods: &Methods,
) -> Result<Arc<Identity>, Refusal> {
    let presented = Presented {
        headers,
        carried: carried.map(str::as_bytes),
        certificate,
        source: "192.0.2.1".parse().unwrap(),
        client: "192.0.2.1".parse().ok(),
        host: "api.example",
        answers: &[],
    };
    let accepted = Accepted { methods: methods.clone(), bound_tokens: false };
    match authenticators().identify(&presented, &accepted, now()) {
        AuthOutcome::Decided(decided) => decided,
        AuthOutcome::Needs(lookup) => panic!("{lookup:?}"),
    }
}

fn of_tokens() -> Methods {
    Methods::Any(vec![Method::Jwt])
}

#[test]
fn j15_one_place_for_one_token() {
    let token = token(NOW + 300);
    let reject = |headers: &HeaderMap| judge(headers, None, None, &of_tokens()).err().map(|refusal| refusal.reject);
    for (value, expect) in [
        (format!("Bearer {token}"), None),
        (format!("bearer {token}"), None),
        (format!("BEARER {token}"), None),
        (format!("Bearer\t{token}"), Some(Reject::InvalidToken)),
        (format!("Bearer  {token}"), None),
        (format!("bearer    {token}"), None),
        (format!("Bearer \t{token}"), Some(Reject::InvalidToken)),
        (format!("Bearer  Bearer {token}"), Some(Reject::InvalidToken)),
        (format!(" Bearer {token}"), Some(Reject::InvalidToken)),
        (format!("Bearer {token} "), Some(Reject::InvalidToken)),
        (format!("Bearer {token},Bearer {token}"), Some(Reject::InvalidToken)),
        (format!("Bearer {token}, Basic eDp5"), Some(Reject::InvalidToken)),
        (format!("Bearer{token}"), Some(Reject::InvalidToken)),
        (format!("Basic {token}"), Some(Reject::InvalidToken)),
        (token.clone(), Some(Reject::InvalidToken)),
        ("Bearer ".to_owned(), Some(Reject::InvalidToken)),
        ("Bearer   ".to_owned(), Some(Reject::InvalidToken)),
        ("Bearer".to_owned(), Some(Reject::InvalidToken)),
        (String::new(), Some(Reject::InvalidToken)),
        ("Bearer \u{e9}".to_owned(), Some(Reject::InvalidToken)),
    ] {
        assert_eq!(reject(&headers(&[&value])), expect, "{:?}", value.get(..12).unwrap_or(&value));
    }
    assert_eq!(reject(&HeaderMap::new()), Some(Reject::MissingToken));
    let mut elsewhere = HeaderMap::new();
    elsewhere.insert(http::header::COOKIE, format!("access_token={token}").parse().unwrap());
    elsewhere.insert("x-authorization", format!("Bearer {token}").parse().unwrap());
    elsewhere.insert(http::header::PROXY_AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    assert_eq!(reject(&elsewhere), Some(Reject::MissingToken));
    let good = format!("Bearer {token}");
    let twice = judge(&headers(&[&good, &good]), None, None, &of_tokens()).unwrap_err();
    assert_eq!((twice.reject, twice.bearer_error), (Reject::BadRequest, Some(BearerError::InvalidRequest)));
    // What was found elsewhere stands alone, and is judged like any other.
    let carried = |headers: &HeaderMap, token: &str| {
        judge(headers, Some(token), None, &of_tokens()).err().map(|refusal| refusal.reject)
    };
    assert_eq!(carried(&HeaderMap::new(), &token), None);
    for wrong in ["", "a.b.c", &good, &format!("{token} ")] {
        assert_eq!(carried(&HeaderMap::new(), wrong), Some(Reject::InvalidToken), "{wrong:.12}");
    }
    for other in ["Basic eDp5", "", &good] {
        assert_eq!(carried(&headers(&[other]), &token), Some(Reject::BadRequest), "{other:.12}");
    }
}

/// What a request with this `Authorization` and perhaps a certificate is: a principal with its roles, or why not.
#[track_caller]
fn check(methods: &Methods, authorization: Option<&str>, certificate: Option<&ClientCertificate>, expect: &str) {
    let headers = authorization.map_or_else(HeaderMap::new, |value| headers(&[value]));
    let told = match judge(&headers, None, certificate, methods) {
        Ok(identity) => {
            let roles: Vec<_> = identity.roles().collect();
            format!("{} {} until {}", identity.principal(), roles.join(" "), identity.expires() - NOW)
        }
        Err(refusal) => format!("{}: {}", refusal.row().label, refusal.detail),
    };
    assert_eq!(told, expect, "{methods:?} {:.16?} {}", authorization, certificate.is_some());
}

#[test]
fn any_of_several_methods() {
    let (good, expired) = (format!("Bearer {}", token(NOW + 300)), format!("Bearer {}", token(NOW - 1)));
    let shown = certificate(100);
    let any = Methods::Any(vec![Method::Certificate, Method::Jwt]);
    check(&any, None, None, "missing_token: no Authorization");
    check(&any, Some(&good), None, "ada reader until 300");
    check(&any, None, Some(&shown), "cert:partners:billing partner until 101");
    check(&any, Some(&good), Some(&shown), "ada reader until 300");
    // No certificate makes up for a token that is not valid, or for what is no token.
    check(&any, Some(&expired), Some(&shown), "invalid_token: it has expired");
    check(&any, Some("Basic eDp5"), Some(&shown), "invalid_token: Authorization has no scheme that the route accepts");
    // What a route does not accept is not looked at.
    let certificates = Methods::Any(vec![Method::Certificate]);
    check(&certificates, Some(&expired), Some(&shown), "cert:partners:billing partner until 101");
    check(&certificates, Some(&good), None, "missing_token: no client certificate");
    check(&of_tokens(), None, Some(&shown), "missing_token: no Authorization");
}

#[test]
fn all_of_several_methods() {
    let (good, expired) = (format!("Bearer {}", token(NOW + 300)), format!("Bearer {}", token(NOW - 1)));
    let shown = certificate(100);
    let both = Methods::All(vec![Method::Jwt, Method::Certificate]);
    check(&both, None, None, "missing_token: no Authorization");
    check(&both, Some(&good), None, "missing_token: no client certificate");
    check(&both, None, Some(&shown), "missing_token: no Authorization");
    check(&both, Some(&expired), Some(&shown), "invalid_token: it has expired");
    // The first names the principal and the roles; the one that ends first says until when.
    check(&both, Some(&good), Some(&shown), "ada reader until 101");
    let other = Methods::All(vec![Method::Certificate, Method::Jwt]);
    check(&other, Some(&good), Some(&shown), "cert:partners:billing partner until 101");
    check(&other, Some(&format!("Bearer {}", token(NOW + 50))), Some(&shown), "cert:partners:billing partner until 50");
}

#[test]
fn tokens_that_are_bound_to_a_certificate() {
    let (own, other) = (certificate(100), certificate(100));
    let hash = BASE64URL_NOPAD.encode(&own.thumbprint);
    let bound = token_with(NOW + 300, &format!(r#","cnf":{{"x5t#S256":"{hash}"}}"#));
    let dpop = token_with(NOW + 300, &format!(r#","cnf":{{"jkt":"{hash}"}}"#));
    let plain = token(NOW + 300);
    let any = || Methods::Any(vec![Method::Certificate, Method::Jwt]);
    let second = || Methods::All(vec![Method::Certificate, Method::Jwt]);
    let good = Ok("ada");
    let (none, wrong) = (
        Err("it is bound to a client certificate, and none was shown"),
        Err("it is bound to another client certificate"),
    );
    // One gateway for all: what it remembers of a token on one connection does not count on another.
    let remembers = authenticators_with(10);
    for (methods, token, shown, bound_tokens, expect) in [
        (of_tokens(), &bound, Some(&own), false, good),
        (of_tokens(), &bound, None, false, none),
        (of_tokens(), &bound, Some(&other), false, wrong),
        (of_tokens(), &bound, Some(&own), true, good),
        (any(), &bound, Some(&other), false, wrong),
        (second(), &bound, Some(&other), false, wrong),
        (second(), &bound, Some(&own), false, Ok("cert:partners:billing")),
        (of_tokens(), &plain, None, false, good),
        (of_tokens(), &plain, Some(&own), false, good),
        (of_tokens(), &plain, Some(&own), true, Err("it is bound to no certificate, and the route asks for that")),
        (second(), &plain, Some(&own), true, Err("it is bound to no certificate, and the route asks for that")),
        (of_tokens(), &dpop, Some(&own), false, Err("its cnf is no x5t#S256 alone, and no other proof is known")),
    ] {
        let accepted = Accepted { methods, bound_tokens };
        let headers = headers(&[&format!("Bearer {token}")]);
        let source = "192.0.2.1".parse().unwrap();
        let (client, host) = ("192.0.2.1".parse().ok(), "api.example");
        let presented =
            Presented { headers: &headers, carried: None, certificate: shown, source, client, host, answers: &[] };
        let AuthOutcome::Decided(decided) = remembers.identify(&presented, &accepted, now()) else { panic!() };
        let told = decided.as_ref().map(|identity| identity.principal()).map_err(|refusal| &*refusal.detail);
        assert_eq!(told, expect, "{accepted:?} {:?}", shown.map(|shown| shown == &own));
        if let Err(refusal) = &decided {
            assert_eq!((refusal.reject, refusal.bearer_error), (Reject::InvalidToken, Some(BearerError::InvalidToken)));
        }
    }
}

/// A gateway that asks a server about tokens, and what it says of one that its server calls active with these claims.
fn introspected(all: &Authenticators, token: &str, more: &serde_json::Value) -> Result<Arc<Identity>, Refusal> {
    let headers = headers(&[&format!("Bearer {token}")]);
    let mut presented = Presented {
        headers: &headers,
        carried: None,
        certificate: None,
        source: "192.0.2.1".parse().unwrap(),
        client: "192.0.2.1".parse().ok(),
        host: "api.example",
        answers: &[],
    };
    let accepted = Accepted { methods: Methods::Any(vec![Method::Introspection]), bound_tokens: false };
    let question = match all.identify(&presented, &accepted, now()) {
        AuthOutcome::Decided(decided) => return decided,
        AuthOutcome::Needs(Lookup::Introspection(question)) => question,
        AuthOutcome::Needs(lookup) => panic!("{lookup:?}"),
    };
    let mut said = serde_json::json!({"active": true, "sub": "ada", "aud": "api", "exp": NOW + 300});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let json = [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
    let body = said.to_string();
    let received =
        introspection::ServerResponse { status: http::StatusCode::OK, headers: &json, body: body.as_bytes() };
    let answers = [LookupAnswer::Introspection(question.received(Ok(received), now()).0)];
    presented.answers = &answers;
    match all.identify(&presented, &accepted, now()) {
        AuthOutcome::Decided(decided) => decided,
        AuthOutcome::Needs(lookup) => panic!("{lookup:?}"),
    }
}

#[test]
fn j16_what_a_server_calls_active_can_be_revoked_here() {
    use revocation::{RevocationChange, Revoked};
    let server = introspection::tests::settings("corp");
    let all =
        Authenticators::new(&auth::Settings { introspection: vec![server], ..auth::Settings::default() }).unwrap();
    let issuer = || "https://issuer.example".to_owned();
    let of_subject = |subject: &str| Revoked::Subject { issuer: issuer(), subject: subject.to_owned(), before: None };
    for (number, (revoked, is_revoked)) in [
        (Revoked::Issuer { issuer: issuer(), before: None }, true),
        (Revoked::Issuer { issuer: issuer(), before: Some(NOW - 10) }, false),
        (Revoked::Issuer { issuer: issuer(), before: Some(NOW - 9) }, true),
        (Revoked::Issuer { issuer: "https://other.example".to_owned(), before: None }, false),
        (of_subject("ada"), true),
        (of_subject("bob"), false),
        (Revoked::Token { issuer: issuer(), id: "a".to_owned() }, true),
        (Revoked::Token { issuer: issuer(), id: "b".to_owned() }, false),
    ]
    .into_iter()
    .enumerate()
    {
        for more in [serde_json::json!({}), serde_json::json!({"iss": issuer()})] {
            let mut claims = more.clone();
            claims["jti"] = "a".into();
            claims["iat"] = (NOW - 10).into();
            let token = format!("t{number}{}", more.as_object().unwrap().len());
            all.tables().change(Vec::new(), &[], vec![RevocationChange::Revoked(revoked.clone())]);
            // Asked about, and then remembered.
            for _ in 0..2 {
                let signal = introspected(&all, &token, &claims).err().and_then(|refusal| refusal.signal);
                assert_eq!(signal, is_revoked.then_some(Signal::RevokedToken), "{revoked:?} {claims}");
            }
            all.tables().change(Vec::new(), &[], vec![RevocationChange::Lifted(revoked.clone())]);
            // More than a source may ask about tokens that are not good: these cost it nothing.
            assert!(introspected(&all, &token, &claims).is_ok(), "{revoked:?} {claims}");
        }
    }
}
