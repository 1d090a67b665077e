//! Servers that are asked about opaque tokens.

use serde_json::json;

use super::super::{load, spoiled};

/// Valid, behind the roles of BASE.
const SERVER: &str = "[introspection.corp]\nissuer = \"https://corp.example\"\naudience = \"api\"\n\
                      client_id = \"gateway\"\nclient_secret = \"corp.secret\"\nroles = [\"reader\"]\n";

const AT: &str = "introspection.corp";

/// BASE with the server, where `from` is replaced by `to`.
fn with(from: &str, to: &str) -> String {
    assert_eq!(SERVER.matches(from).count(), 1, "{from:?} must be there once");
    spoiled("[roles]\n", &format!("{}\n[roles]\n", SERVER.replace(from, to)))
}

/// The one fault is at `key`, within the server's table, with these words in it.
#[track_caller]
fn wrong(from: &str, to: &str, key: &str, message: &str, hint: &str) {
    let errors = load(&with(from, to)).expect_err(to);
    let shown: Vec<_> = errors.shown().collect();
    let [diagnostic] = shown.as_slice() else { panic!("{to:?}: not one fault:\n{errors}") };
    let key = if key.is_empty() { AT.to_owned() } else { format!("{AT}.{key}") };
    assert_eq!(diagnostic.key, key, "{to:?}:\n{errors}");
    assert!(diagnostic.message.contains(message), "{to:?}: {message:?} is not in:\n{errors}");
    assert!(diagnostic.hint.unwrap_or_default().contains(hint), "{to:?}: {hint:?} is not in:\n{errors}");
}

#[test]
fn wrong_servers() {
    let issuer = "issuer = \"https://corp.example\"\n";
    wrong(issuer, "", "endpoint", "no `issuer` says where", "endpoint = ");
    wrong("https://corp.example", "corp.example", "issuer", "does not begin with https://", "or name `endpoint`");
    wrong("https://corp.example", "https://corp.example/?a", "issuer", "has a query", "or name `endpoint`");
    wrong("https://corp.example", "http://corp.example", "issuer", "is http", "write https://");
    let http = "issuer = \"https://corp.example\"\nendpoint = \"http://127.0.0.1:9/introspect\"\n";
    wrong(issuer, http, "endpoint", "is http", "fetch.allow_http = true");
    let secret = "client_secret = \"corp.secret\"\n";
    wrong(secret, "", "client_secret", "is missing, and client_auth = \"client_secret_basic\"", "client_secret = ");
    wrong(secret, "client_secret = \"missing.secret\"\n", "client_secret", "No such file", "");
    let auth = |name: &str, rest: &str| format!("client_auth = \"{name}\"\n{rest}");
    wrong(secret, &auth("client_secret_jwt", secret), "client_auth", "unknown", "client_secret_");
    wrong(secret, &auth("private_key_jwt", ""), "client_key", "is missing", "client_key = ");
    wrong(secret, &auth("tls_client_auth", ""), "fetch", "has no certificate", "private_key = ");
    let key = "client_key = \"k.key\"\n";
    let no_effect = "has no effect with client_auth";
    wrong(secret, &auth("private_key_jwt", &format!("{key}{secret}")), "client_secret", no_effect, "leave it out");
    wrong(secret, &format!("{secret}{key}"), "client_key", no_effect, "leave it out");
    wrong(secret, &format!("{secret}client_key_id = \"a\"\n"), "client_key_id", no_effect, "leave it out");
    wrong("client_id = \"gateway\"\n", "", "client_id", "is missing", "client_id = ");
    wrong("audience = \"api\"\n", "", "audience", "made for others would be accepted", "any_audience = true");
    wrong("audience = \"api\"\n", "audience = \"api\"\nany_audience = true\n", "audience", "no effect", "leave one");
    wrong("audience = \"api\"\n", "audience = []\n", "audience", "is empty", "at least one");
    wrong("[\"reader\"]", "[\"raeder\"]", "roles[0]", "there is no role", "mean \"reader\"?");
    let more = |line: &str| format!("{secret}{line}\n");
    wrong(secret, &more("signed = true"), "signed", "needs the issuer's keys", "add an [issuer.NAME]");
    wrong(secret, &more("token_prefix = \"a b\""), "token_prefix", "not how a token can begin", "letters");
    wrong(secret, &more("cache_for = \"2h\""), "cache_for", "out of range", "to \"1h\"");
    wrong(secret, &more("cache = 0"), "cache", "out of range", "from 1");
    wrong(secret, &more("breaker = { failures = 0 }"), "breaker.failures", "out of range", "from 1");
    wrong(secret, &more("breaker = { failure = 3 }"), "breaker.failure", "unknown", "mean `failures`?");
    wrong(secret, &more("fetch = { timeout = 3 }"), "fetch.timeout", "expected a duration", "\"3s\"");
    wrong(secret, &more("fetch = { certificate = \"a.crt\" }"), "fetch.private_key", "missing beside", "private_key =");
    wrong(secret, &more("jwks = \"jwks.json\""), "jwks", "unknown", "");
    wrong("[introspection.corp]", "[introspection.corp]\ntype = \"at+jwt\"", "type", "unknown", "");
}

#[test]
fn names_of_servers() {
    let named = |name: &str| SERVER.replace("introspection.corp", &format!("introspection.{name}"));
    let errors = |tables: &[String]| {
        let errors = load(&spoiled("[roles]\n", &format!("{}\n[roles]\n", tables.concat()))).expect_err("a fault");
        errors.shown().map(|one| format!("{}: {}", one.key, one.message)).collect::<Vec<_>>().join("\n")
    };
    assert!(errors(&[named("key")]).starts_with("introspection.key: \"key\" is how principals begin"));
    assert!(errors(&[named("\"a b\"")]).contains("is not a name"));
    let twice = errors(&[SERVER.to_owned(), named("other")]);
    assert_eq!(
        twice,
        "introspection.other.token_prefix: is missing here and in introspection.corp: a token is shown to one server alone"
    );
    let issuer = "[issuer.corp]\nissuer = \"https://other.example\"\naudience = \"api\"\njwks = \"k\"\nroles = []\n";
    let other = errors(&[SERVER.to_owned(), issuer.to_owned()]);
    assert!(other.starts_with("introspection.corp: principals of [issuer.corp] begin so"), "{other}");
}

#[test]
fn what_is_in_force() {
    let config = load(&with("issuer = ", "cache_for = \"1m\"\nissuer = ")).unwrap_or_else(|errors| panic!("{errors}"));
    let shown = config.effective()["introspection"]["corp"].clone();
    for (key, expect) in [
        ("issuer", json!("https://corp.example")),
        ("client_auth", json!("client_secret_basic")),
        ("client_secret", json!("/etc/gateway/corp.secret")),
        ("audience", json!(["api"])),
        ("cache_for", json!("1m")),
        ("cache_inactive_for", json!("10s")),
        ("inactive_per_source", json!(30)),
        ("breaker", json!({"failures": 5, "open_for": "10s"})),
        ("roles", json!(["reader"])),
        ("subject_claim", json!("sub")),
    ] {
        assert_eq!(shown[key], expect, "{key}: {shown}");
    }
    assert_eq!(config.proxy.auth.jwt.unwrap().others, ["corp"]);
    // The same name stands for the same issuer, and its keys verify signed answers.
    let issuer = "[issuer.corp]\nissuer = \"https://corp.example\"\naudience = \"api\"\njwks = \"k\"\nroles = []\n";
    let signed = with("[introspection.corp]\n", &format!("{issuer}[introspection.corp]\nsigned = true\n"));
    load(&signed).unwrap_or_else(|errors| panic!("{errors}"));
}
