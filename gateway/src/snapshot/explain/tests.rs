//! What is explained, and what cannot be told.

use std::{io, path::Path, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::*;
use crate::config::{Config, Files};

const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8080"

[upstream.items]
servers = ["127.0.0.1:9000"]

[issuer.staff]
issuer = "http://127.0.0.1:9100"
audience = "api"
jwks_url = "http://127.0.0.1:9100/keys"
fetch = { allow_http = true }
roles = ["reader"]

[introspection.corp]
endpoint = "http://127.0.0.1:9100/introspect"
client_id = "gateway"
client_secret = "secret"
audience = "api"
roles = ["reader"]
fetch = { allow_http = true }

[api_keys]

[roles]
reader = ["items:read"]

[[route]]
path = "/items/{id}"
require = ["items:read"]
allow_if = ["{id} == claim.sub", "source in 10.0.0.0/8"]
sources = ["10.0.0.0/8", "192.0.2.0/24"]
upstream = "items"

[[route]]
path = "/open"
require = ["public"]
upstream = "items"

[[route]]
path = "/nobody"
upstream = "items"

[[route]]
path = "/token-first"
require = ["items:read"]
authenticate = { all = ["introspection", "api_key"] }
upstream = "items"

[[route]]
path = "/key-first"
require = ["items:read"]
authenticate = { all = ["api_key", "introspection"] }
upstream = "items"
"#;

struct Text;

impl Files for Text {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("gateway.toml") => Ok(TEXT.as_bytes().into()),
            Some("secret") => Ok(b"s3cr3t".as_slice().into()),
            _ => crate::config::Disk.read(path),
        }
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

fn snapshot() -> Snapshot {
    crate::policy::auth::ensure_crypto().unwrap();
    let config = Config::load(Path::new("/gateway.toml"), &Text).unwrap_or_else(|faults| panic!("{faults}"));
    Snapshot::new(config.proxy).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A token by a key that nobody has fetched.
fn token() -> SecretToken {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = json!({"iss": "http://127.0.0.1:9100", "aud": "api", "sub": "ada", "exp": 4_000_000_000_u64});
    SecretToken(format!(
        "{}.{}.{}",
        part(json!({"alg": "ES256", "kid": "new"})),
        part(claims),
        BASE64URL_NOPAD.encode(&[7; 64])
    ))
}

fn asked(path: &str, more: Asked) -> ExplainQuestion {
    let (method, target, authority) = ("GET".to_owned(), path.to_owned(), "api.example".to_owned());
    ExplainQuestion::Request(Box::new(Asked { method, target, authority, ..more }))
}

/// The verdict, the step that decides, and its words.
#[track_caller]
fn check(snapshot: &Snapshot, question: &ExplainQuestion, verdict: Verdict, step: &str, says: &str) {
    check_by(snapshot, question, &[], verdict, step, says);
}

/// The same, given what was looked up.
#[track_caller]
fn check_by(
    snapshot: &Snapshot,
    question: &ExplainQuestion,
    answers: &[LookupAnswer],
    verdict: Verdict,
    step: &str,
    says: &str,
) {
    let explained = match explain(snapshot, question, answers, Some("not fetched"), Now::read()) {
        Explaining::Done(Explanation::Request(explained)) => explained,
        other => panic!("{other:?}"),
    };
    assert_eq!(explained.verdict, verdict, "{question:?}: {explained:?}");
    let decides = explained.steps.iter().find(|it| it.ok == (verdict == Verdict::Denied).then_some(false));
    let found = decides.filter(|_| verdict != Verdict::Allowed).map_or("", |it| it.step.as_str());
    assert_eq!(found, step, "{question:?}: {explained:?}");
    assert!(explained.detail.as_deref().unwrap_or_default().contains(says), "{question:?}: {explained:?}");
    assert!(Explanation::Request(explained).fits());
}

fn ada(from: &str, sub: &str) -> Asked {
    Asked {
        principal: Some("ada".to_owned()),
        roles: vec!["reader".to_owned()],
        claims: vec![("sub".to_owned(), json!(sub).to_string())],
        from: from.parse().ok(),
        ..Asked::default()
    }
}

#[test]
fn requests() {
    let snapshot = snapshot();
    use Verdict::{Allowed, Denied, Unknown};
    let with_token = |from: &str| Asked { token: Some(token()), from: from.parse().ok(), ..Asked::default() };
    for (question, verdict, step, says) in [
        (asked("/items/ada", ada("10.0.0.1", "ada")), Allowed, "", ""),
        (asked("/items/bob", ada("10.0.0.1", "ada")), Denied, "allow_if[0]", "the condition is false"),
        (asked("/items/ada", ada("192.0.2.1", "ada")), Denied, "allow_if[1]", "the condition is false"),
        (asked("/items/ada", ada("198.51.100.1", "ada")), Denied, "sources", "not within"),
        (asked("/items/ada", Asked { roles: Vec::new(), ..ada("10.0.0.1", "ada") }), Denied, "require", "missing"),
        (asked("/items/ada", Asked::default()), Denied, "authenticate", "nobody asks"),
        // Where the client is was not said, which decides.
        (asked("/items/ada", ada("", "ada")), Unknown, "sources", "--from"),
        (asked("/items/bob", ada("", "ada")), Denied, "allow_if[0]", "the condition is false"),
        // Keys are not fetched here: nothing is said of who asks, and what is certain is said all the same.
        (asked("/items/ada", with_token("10.0.0.1")), Unknown, "authenticate", "not fetched"),
        (asked("/items/ada", with_token("198.51.100.1")), Denied, "sources", "not within"),
        (asked("/open", with_token("")), Allowed, "", ""),
        (asked("/nobody", with_token("")), Denied, "require", "lets nobody through"),
        (asked("/nowhere", with_token("")), Denied, "", ""),
    ] {
        check(&snapshot, &question, verdict, step, says);
    }
}

/// Where a route asks for several methods at once: the first gives the principal, and only a token can be shown here.
#[test]
fn what_cannot_be_shown_cannot_be_told() {
    let snapshot = snapshot();
    use Verdict::{Allowed, Denied, Unknown};
    let by = |principal: &str| Asked { principal: Some(principal.to_owned()), ..ada("10.0.0.1", "ada") };
    for (path, principal, verdict, step, says) in [
        ("/token-first", "ada", Allowed, "", ""),
        ("/token-first", "key:build", Denied, "authenticate", "the first of introspection, api_key says who"),
        ("/key-first", "key:build", Allowed, "", ""),
        ("/key-first", "ada", Denied, "authenticate", "the first of api_key, introspection says who"),
        ("/items/ada", "key:build", Allowed, "", ""),
    ] {
        check(&snapshot, &asked(path, by(principal)), verdict, step, says);
    }
    let opaque = |principal: Option<&str>| Asked {
        token: Some(SecretToken("opaque".to_owned())),
        principal: principal.map(ToOwned::to_owned),
        ..Asked::default()
    };
    let of = |roles: &[&str]| Identity::of_token("ada", roles, &[], Vec::new());
    let good = |roles: &[&str]| [LookupAnswer::Introspection(Ok(Arc::new(of(roles))))];
    let forged = Refusal::token(crate::refusal::TokenFault::Forged, "it is forged");
    for (path, principal, answers, verdict, step, says) in [
        ("/token-first", None, good(&["reader"]), Unknown, "authenticate", "also asks for api_key"),
        ("/token-first", Some("ada"), good(&["reader"]), Unknown, "authenticate", "also asks for api_key"),
        // What is certain is said all the same.
        ("/token-first", None, good(&[]), Denied, "require", "missing"),
        ("/key-first", None, good(&[]), Unknown, "authenticate", "also asks for api_key"),
        // The principal is the key's, and not the token's.
        ("/key-first", Some("key:build"), good(&[]), Unknown, "authenticate", "also asks for api_key"),
        ("/token-first", None, [LookupAnswer::Introspection(Err(forged))], Denied, "authenticate", "it is forged"),
    ] {
        check_by(&snapshot, &asked(path, opaque(principal)), &answers, verdict, step, says);
    }
}

#[test]
fn what_has_to_be_known_is_asked_for_first() {
    let snapshot = snapshot();
    let opaque = || SecretToken("opaque".to_owned());
    for (token, keys) in [(token(), true), (opaque(), false)] {
        let of_request = asked("/items/ada", Asked { token: Some(token.clone()), ..ada("10.0.0.1", "ada") });
        for question in [of_request, ExplainQuestion::Token(token)] {
            match explain(&snapshot, &question, &[], None, Now::read()) {
                Explaining::Needs(Lookup::Keys(_)) if keys => {}
                Explaining::Needs(Lookup::Introspection(_)) if !keys => {}
                other => panic!("{question:?}: {other:?}"),
            }
            assert!(!format!("{question:?}").contains("opaque"), "a token is in a log");
        }
    }
}

#[test]
fn tokens() {
    let snapshot = snapshot();
    let told =
        |token: SecretToken| match explain(&snapshot, &ExplainQuestion::Token(token), &[], Some("why"), Now::read()) {
            Explaining::Done(Explanation::Token(told)) => *told,
            other => panic!("{other:?}"),
        };
    let unknown = told(token());
    assert_eq!((unknown.valid, unknown.detail.as_deref()), (None, Some("why")));
    let broken = told(SecretToken("eyJhIjoxfQ.e30.AA".to_owned()));
    assert_eq!((broken.valid, broken.signal.as_deref()), (Some(false), Some("forged_token")), "{broken:?}");
    let long = ExplainQuestion::Token(SecretToken("a".repeat(LONGEST_TOKEN + 1)));
    let said = explain(&snapshot, &long, &[], None, Now::read());
    assert!(matches!(said, Explaining::Done(Explanation::Refused(_))), "{said:?}");
}
