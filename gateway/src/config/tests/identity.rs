//! Issuers, roles, and what routes ask of tokens.

use serde_json::json;

use super::*;

mod basic;
mod headers;
mod internal_token;
mod introspection;

const JWT: &str = "jwks = \"jwks.json\"\n";
const REQUIRE: &str = "require = [\"items:read\"]";

/// BASE with `line` behind `[jwt]`'s keys.
#[track_caller]
fn jwt(line: &str, key: &str, message: &str, hint: &str) {
    wrong(JWT, &format!("{JWT}{line}\n"), 32, key, message, hint);
}

#[test]
fn wrong_issuers() {
    wrong("issuer = \"https://issuer.example\"\n", "", 28, "jwt.issuer", "missing", "issuer = ");
    wrong("\"api\"", "\"\"", 30, "jwt.audience", "empty", "between the quotation marks");
    wrong("jwks = \"jwks.json\"\n", "", 28, "jwt.jwks", "missing", "jwks.json");
    wrong("\"jwks.json\"", "\"forbidden.json\"", 31, "jwt.jwks", "Permission denied", "run as root");
    jwt("provider = \"keyclock\"", "jwt.provider", "unknown", "mean \"keycloak\"?");
    jwt("secret = \"s\"", "jwt.secret", "beside `jwks`", "its own issuer");
    jwt("roles_claim = \"a..b\"", "jwt.roles_claim", "no path", "dots between");
    jwt("roles_claim = []", "jwt.roles_claim", "empty", "at least one");
    jwt("roles_claim = 7", "jwt.roles_claim", "expected a string", "quotation marks");
    jwt("roles = [\"raeder\"]", "jwt.roles[0]", "there is no role", "mean \"reader\"?");
    jwt("role_map = { admins = \"reader\" }", "jwt.role_map.admins", "nothing that gives roles", "group:NAME");
    jwt("role_map = { \"group:a\" = [] }", "jwt.role_map.\"group:a\"", "empty", "at least one");
    jwt("role_map = { \"group:a\" = \"raeder\" }", "jwt.role_map.\"group:a\"", "no role", "mean \"reader\"?");
    jwt("scope_claim = \".\"", "jwt.scope_claim", "no path", "dots between");
    jwt("claims = { email_verified = 1.5 }", "jwt.claims.email_verified", "a boolean, found a float", "");
    jwt("claims = { \"a.\" = true }", "jwt.claims.\"a.\"", "no path", "dots between");
    jwt("claims = true", "jwt.claims", "expected a table", "[jwt.claims]");
    jwt("audiences = [\"a\"]", "jwt.audiences", "unknown", "mean `audience`?");
    wrong("audience = \"api\"", "audience = []", 30, "jwt.audience", "empty", "at least one");
    wrong("audience = \"api\"", "audience = [\"api\", 1]", 30, "jwt.audience", "expected a string", "quotation");
    let more = |name: &str, issuer: &str, line: &str| {
        format!("[issuer.{name}]\nissuer = \"{issuer}\"\naudience = \"api\"\n{line}\n\n[roles]\n")
    };
    let other = "https://b.example";
    wrong("[roles]\n", &more("b", other, ""), 33, "issuer.b.jwks", "missing", "jwks.json");
    wrong(
        "[roles]\n",
        &more("b", "https://issuer.example", "jwks = \"k\""),
        34,
        "issuer.b.issuer",
        "that of jwt",
        "one table",
    );
    wrong("[roles]\n", &more("cert", other, "jwks = \"k\""), 33, "issuer.cert", "how principals begin", "another name");
    wrong("[roles]\n", &more("\"a b\"", other, "jwks = \"k\""), 33, "issuer.\"a b\"", "not a name", "letters");
    wrong("[roles]\n", &more("b", other, "jwks = \"k\"\ncache = 5"), 37, "issuer.b.cache", "unknown", "known here");
}

#[test]
fn wrong_places_of_keys() {
    let instead = |lines: &str, line: usize, key: &str, message: &str, hint: &str| {
        wrong(JWT, &format!("{lines}\n"), line, &format!("jwt.{key}"), message, hint);
    };
    let url = "jwks_url = \"https://id.example/keys\"";
    instead("jwks_url = \"id.example/keys\"", 31, "jwks_url", "does not begin with https://", "absolute URL");
    instead("jwks_url = \"https://a@id.example/\"", 31, "jwks_url", "a user name or password", "absolute URL");
    instead("jwks_url = \"https://0x7f.1/\"", 31, "jwks_url", "no IPv4 address", "absolute URL");
    instead("jwks_url = \"http://id.example/keys\"", 31, "jwks_url", "is http: anybody on the path", "write https://");
    instead(
        "jwks_url = \"http://id.example/keys\"\nfetch = { allow_http = true }",
        31,
        "jwks_url",
        "is http: anybody on the path",
        "write https://",
    );
    instead("jwks_url = \"http://localhost/keys\"", 31, "jwks_url", "is http", "fetch.allow_http = true");
    instead("jwks_url = \"https://169.254.169.254/keys\"", 31, "jwks_url", "metadata service", "another server");
    instead("jwks_url = \"https://10.0.0.1/keys\"", 31, "jwks_url", "is private", "fetch.allow_private = true");
    instead("jwks_url = \"file:///etc/keys\"", 31, "jwks_url", "does not begin with https://", "absolute URL");
    instead("jwks = \"https://id.example/keys\"", 31, "jwks", "is a URL, and a file is read here", "jwks_url");
    instead(&format!("{JWT}{url}"), 32, "jwks_url", "is beside `jwks`", "or `jwks_url` out");
    instead(&format!("{url}\ndiscovery = true"), 32, "discovery", "is beside `jwks_url`", "or `discovery` out");
    instead(&format!("{url}\nsecret = \"s\""), 32, "secret", "beside `jwks_url`", "its own issuer");
    instead(&format!("{JWT}discovery = \"yes\""), 32, "discovery", "expected a boolean", "without quotation marks");
    instead("discovery = false", 28, "jwks", "missing", "jwks.json");
    instead(&format!("{JWT}fetch = {{ wait = \"1s\" }}"), 32, "fetch", "has no effect", "jwks_url = ");
    instead(&format!("{url}\nfetch = {{ waits = \"1s\" }}"), 32, "fetch.waits", "unknown", "mean `wait`?");
    instead(&format!("{url}\nfetch = {{ timeout = \"2m\" }}"), 32, "fetch.timeout", "out of range", "to \"1m\"");
    instead(&format!("{url}\nfetch = {{ stale_for = \"5m\" }}"), 32, "fetch.stale_for", "shorter than `refresh`", "");
    instead(
        &format!("{url}\nfetch = {{ certificate = \"c.pem\" }}"),
        32,
        "fetch.private_key",
        "missing beside `certificate`",
        "",
    );
    let named = |issuer: &str| {
        let lines = format!("issuer = \"{issuer}\"\naudience = \"api\"\ndiscovery = true\n");
        ("issuer = \"https://issuer.example\"\naudience = \"api\"\njwks = \"jwks.json\"\n", lines)
    };
    for (issuer, message) in [
        ("issuer", "does not begin with https://"),
        ("https://id.example/?tenant=a", "has a query"),
        ("http://id.example", "is http: anybody on the path"),
    ] {
        let (from, to) = named(issuer);
        wrong(from, &to, 29, "jwt.issuer", message, "write");
    }
}

#[test]
fn keys_that_are_fetched() {
    let text = spoiled(JWT, "discovery = true\nfetch = { stale_for = \"2d\" }\n");
    let effective = load(&text).unwrap_or_else(|errors| panic!("{errors}")).effective()["jwt"].clone();
    assert_eq!((&effective["discovery"], &effective["jwks"]), (&json!(true), &json!(null)));
    let expect = json!({"ca": "/etc/ssl/certs/ca-certificates.crt", "allow_private": false, "allow_http": false,
        "timeout": "5s", "wait": "2s", "refresh": "15m", "cooldown": "10s", "stale_for": "2d"});
    assert_eq!(effective["fetch"], expect);
    let text = spoiled(JWT, "jwks_url = \"http://127.0.0.1:9100/keys\"\nfetch = { allow_http = true }\n");
    let effective = load(&text).unwrap_or_else(|errors| panic!("{errors}")).effective()["jwt"].clone();
    assert_eq!(
        (&effective["jwks_url"], &effective["fetch"]["ca"]),
        (&json!("http://127.0.0.1:9100/keys"), &json!(null))
    );
}

#[test]
fn wrong_roles() {
    let role = "reader = [\"items:read\"]";
    let table = |line: &str| format!("{role}\n[roles.editor]\n{line}");
    wrong(role, "reader = [\"items:read\", \"items:r*\"]", 34, "roles.reader[1]", "within a segment", "whole segment");
    wrong(role, &table("inherits = [\"raeder\"]"), 36, "roles.editor.inherits[0]", "no role", "mean \"reader\"?");
    wrong(role, &table("inherits = [\"editor\"]"), 36, "roles.editor.inherits[0]", "inherits itself", "leave out");
    wrong(role, &table("inherit = [\"reader\"]"), 36, "roles.editor.inherit", "unknown", "mean `inherits`?");
    wrong(role, &table("permissions = [\"public\"]"), 36, "roles.editor.permissions[0]", "reserved", "another");
    let circle = format!("{role}\n[roles.a]\ninherits = [\"b\"]\n[roles.b]\ninherits = [\"a\"]");
    let errors = load(&spoiled(role, &circle)).unwrap_err();
    let keys: Vec<_> = errors.shown().map(|one| one.key.to_owned()).collect();
    assert_eq!(keys, ["roles.a.inherits[0]", "roles.b.inherits[0]"], "{errors}");
    wrong(role, &format!("{role}\nwriter = 7"), 35, "roles.writer", "expected an array", "brackets");
}

#[test]
fn roles_inherit_and_have_patterns() {
    let role = "reader = [\"items:read\"]";
    let roles = format!(
        "{role}\neditor = {{ permissions = [\"items:*\"], inherits = [\"reader\", \"auditor\"] }}\n\
         [roles.auditor]\npermissions = [\"audit:read\"]\ninherits = [\"reader\"]"
    );
    let config = load(&spoiled(role, &roles)).unwrap_or_else(|errors| panic!("{errors}"));
    let of = |name: &str| {
        let mut permissions = config.proxy.roles[name].clone();
        permissions.sort();
        permissions.join(" ")
    };
    assert_eq!(of("reader"), "items:read");
    assert_eq!(of("auditor"), "audit:read items:read");
    assert_eq!(of("editor"), "audit:read items:* items:read");
    let pattern = BASE.replace(role, "reader = [\"items:*\"]\nother = [\"items:read\"]");
    let slip = load(&pattern.replace(REQUIRE, "require = [\"items:raed\"]")).unwrap();
    assert!(
        slip.warnings.iter().any(|one| one.key == "route[0].require[0]" && one.hint.is_some()),
        "{:?}",
        slip.warnings
    );
}

#[test]
fn wrong_demands_of_routes() {
    let with = |line: &str| format!("{REQUIRE}\n{line}");
    let key = |name: &str| format!("route[0].{name}");
    wrong(REQUIRE, &with("require_claims = {}"), 44, &key("require_claims"), "unknown", "");
    wrong(REQUIRE, &with("scopes = [\"a b\"]"), 44, &key("scopes[0]"), "no scope", "one word");
    wrong(REQUIRE, &with("claims = { tenant = [[1]] }"), 44, &key("claims.tenant"), "found an array", "");
    let public = |line: &str| format!("require = [\"public\"]\n{line}");
    wrong(REQUIRE, &public("scopes = [\"a\"]"), 44, &key("scopes"), "has no effect", "authenticated");
    wrong(REQUIRE, &public("claims = { a = 1 }"), 44, &key("claims"), "has no effect", "authenticated");
    for (value, message, hint) in [
        ("[]", "is empty", "name a method"),
        ("7", "expected an array", "any of them"),
        ("[\"jwt\", \"jwt\"]", "twice", "once"),
        ("[\"jwts\"]", "unknown", "mean \"jwt\"?"),
        ("[\"basic\"]", "not configured", "add a [basic] table"),
        ("{ all = [\"jwt\", \"certificate\"] }", "not configured", "[client_certificates.NAME]"),
        ("{ any = [\"jwt\"] }", "something else than `all", "{ all = [...] }"),
        ("{ all = [\"jwt\"], any = [] }", "something else than `all", "{ all = [...] }"),
    ] {
        wrong(REQUIRE, &with(&format!("authenticate = {value}")), 44, &key("authenticate"), message, hint);
    }
    let no_certificates = "there is no [client_certificates.NAME]";
    wrong(
        REQUIRE,
        &with("certificate_bound = true"),
        44,
        &key("certificate_bound"),
        no_certificates,
        "`ca` and `hosts`",
    );
    let no_effect = "no token is looked at";
    wrong(REQUIRE, &public("certificate_bound = true"), 44, &key("certificate_bound"), no_effect, "authenticated");
    jwt("certificate_bound = true", "jwt.certificate_bound", no_certificates, "`ca` and `hosts`");
    wrong(REQUIRE, &public("authenticate = [\"jwt\"]"), 44, &key("authenticate"), "no effect", "authenticated");
    wrong(REQUIRE, "require = [\"items:*\"]", 43, &key("require[0]"), "has a `*`", "roles may have");
}

#[test]
fn what_providers_write_where() {
    for (provider, roles, scope, audience, claims) in [
        ("keycloak", "realm_access.roles", "scope", "aud", json!({"typ": ["Bearer"]})),
        ("auth0", "permissions", "scope", "aud", json!(null)),
        ("entra", "roles", "scp", "aud", json!(null)),
        ("okta", "groups", "scp", "aud", json!(null)),
        ("cognito", "cognito:groups", "scope", "client_id", json!({"token_use": ["access"]})),
    ] {
        let text = spoiled(JWT, &format!("{JWT}provider = \"{provider}\"\n"));
        let jwt = load(&text).unwrap_or_else(|errors| panic!("{errors}")).effective()["jwt"].clone();
        assert_eq!(jwt["roles_claim"], json!([roles]), "{provider}");
        assert_eq!((&jwt["scope_claim"], &jwt["audience_claim"]), (&json!(scope), &json!(audience)), "{provider}");
        assert_eq!(jwt["claims"], claims, "{provider}");
    }
    let text = spoiled(JWT, &format!("{JWT}provider = \"cognito\"\nclaims = {{ token_use = \"id\" }}\n"));
    assert_eq!(load(&text).unwrap().effective()["jwt"]["claims"], json!({"token_use": ["id"]}));
}

#[test]
fn several_issuers() {
    let shared = "[jwt]\ncache = 5\n[issuer.a]\nissuer = \"a\"\naudience = [\"x\", \"y\"]\nsecret = \"s\"\n\
                  [issuer.b]\nissuer = \"b\"\naudience = \"x\"\njwks = \"k\"\n\n";
    let start = BASE.find("[jwt]").unwrap();
    let section = &BASE[start..BASE.find("[roles]").unwrap()];
    let config = load(&BASE.replace(section, shared)).unwrap_or_else(|errors| panic!("{errors}"));
    let effective = config.effective();
    assert_eq!(effective["jwt"], json!({"cache": 5}));
    let warned: Vec<_> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warned, ["issuer.a", "issuer.b"], "which roles are theirs");
    assert_eq!(effective["issuer"]["a"]["audience"], json!(["x", "y"]));
    assert_eq!(effective["issuer"]["b"]["jwks"], "/etc/gateway/k");
    let jwt = config.proxy.auth.jwt.unwrap();
    let names: Vec<_> = jwt.issuers.iter().map(|issuer| issuer.rules.name.as_deref().unwrap_or("")).collect();
    assert_eq!(names, ["a", "b"]);
    // Without any, `[jwt]` has to be one.
    let errors = load(&BASE.replace(section, "[jwt]\ncache = 5\n\n")).unwrap_err();
    let keys: Vec<_> = errors.shown().map(|one| one.key.to_owned()).collect();
    assert_eq!(keys, ["jwt.issuer", "jwt.audience", "jwt.jwks"], "{errors}");
}
