//! Several issuers, scopes, claims and inherited roles, over the wire.

use std::{fs, path::Path};

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm, ISSUERS},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const MORE: &str = r#"
[issuer.partner]
issuer = "https://partner.example"
audience = ["orders", "items"]
secret = "SECRET"
provider = "keycloak"

[roles.auditor]
permissions = ["audit:*"]
inherits = ["reader"]
"#;

fn settings(secret: &Path) -> Settings {
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/health", "[\"GET\"]", "[\"audit:read\"]", ""),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", "scopes = [\"orders:read\", \"openid\"]"),
        route(
            "/echo",
            "[\"GET\"]",
            "[\"authenticated\"]",
            "claims = { email_verified = true, \"org.id\" = [\"a\", \"b\"] }",
        ),
    ];
    let more = MORE.replace("SECRET", &secret.display().to_string());
    Settings { rules: String::new(), routes: routes.concat(), more, ..Settings::default() }
}

/// A token of the partner, with these claims besides the usual ones.
fn partner(more: &Value) -> String {
    let mut claims = json!({"iss": "https://partner.example", "aud": "items", "sub": "ada", "typ": "Bearer",
        "exp": tokens::now() as f64 + 600.5});
    for (claim, value) in more.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    tokens::by_secret(SECRET, &claims)
}

#[test]
fn each_issuer_has_its_own_rules() {
    if !report::may_run("issuers") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let secret = std::env::temp_dir().join(format!("gateway-issuers-{}", std::process::id()));
    fs::write(&secret, SECRET).unwrap();
    let daemon = Daemon::start(&world, &settings(&secret));
    let client = Client::new(&world, GOOD_V4);
    // By a secret that both have, nothing is signed by a key with a name.
    let told = daemon.cli(&["token", "revoke", "--issuer", "partner", "--kid", "a"]);
    let says = told.json.to_string();
    assert!(told.code != 0 && says.contains("no_public_keys") && says.contains("--issued-before now"), "{says}");
    let realm = |roles: &[&str]| json!({"realm_access": {"roles": roles}});
    let own = |claims: Value| {
        let mut all = tokens::claims("ada", &[]);
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        ISSUERS.token(Algorithm::Es256, &all)
    };
    for (path, token, status, principal, detail) in [
        ("/items/7", tokens::good("ada", &["reader"]), 200, "ada", ""),
        ("/items/7", partner(&realm(&["reader"])), 200, "partner:ada", ""),
        (
            "/items/7",
            partner(&json!({"roles": ["reader"]})),
            403,
            "partner:ada",
            "missing permissions items:read; no roles",
        ),
        ("/items/7", partner(&realm(&["auditor"])), 200, "partner:ada", ""),
        ("/health", partner(&realm(&["auditor"])), 200, "partner:ada", ""),
        ("/health", partner(&realm(&["reader"])), 403, "partner:ada", "missing permissions audit:read; roles reader"),
        ("/items/7", partner(&json!({"typ": "ID"})), 401, "", "a claim is not what its issuer's `claims` ask for"),
        ("/items/7", partner(&json!({"aud": "api"})), 401, "", "its aud holds no `audience` of its issuer"),
        (
            "/items/7",
            own(json!({"iss": "https://partner.example"})),
            401,
            "",
            "its aud holds no `audience` of its issuer",
        ),
        (
            "/items/7",
            own(json!({"iss": "https://partner.example", "aud": "items", "typ": "Bearer"})),
            401,
            "",
            "no key has its alg",
        ),
        ("/items/7", own(json!({"sub": "partner:ada"})), 401, "", "its sub is no string of 1 to 255 bytes"),
        ("/me", own(json!({"scope": "openid orders:read email"})), 200, "ada", ""),
        ("/me", own(json!({"scope": "openid"})), 403, "ada", "the scope orders:read is missing: scopes openid"),
        ("/me", own(json!({})), 403, "ada", "the scope orders:read is missing: no scopes"),
        ("/echo", own(json!({"email_verified": true, "org": {"id": "b"}})), 200, "ada", ""),
        ("/echo", own(json!({"email_verified": "true", "org": {"id": "b"}})), 403, "ada", "the claim email_verified"),
        ("/echo", own(json!({"email_verified": true, "org": {"id": "c"}})), 403, "ada", "the claim org.id"),
        ("/echo", own(json!({"email_verified": true, "org.id": "a"})), 403, "ada", "the claim org.id"),
    ] {
        for round in ["new", "remembered"] {
            let response = client.send(&Request::new("GET", path).token(&token)).unwrap();
            let line = daemon.logged(&response.id());
            assert_eq!(response.status, status, "{path}, {round}: {line}");
            assert_eq!(line["principal"].as_str().unwrap_or_default(), principal, "{path}: {line}");
            assert!(line["detail"].as_str().unwrap_or_default().starts_with(detail), "{path}: {line}");
            let told = response.text();
            assert!(detail.is_empty() || !told.contains(detail), "nothing of why is told to the client: {told}");
        }
    }
    fs::remove_file(&secret).unwrap();
}

/// What is noticed of principals and their tokens, without anybody being refused for it.
#[test]
fn what_no_token_has_and_what_is_unusual() {
    if !report::may_run("issuers: noticed") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
    ];
    let rules = "[detect]\nunusual_after = \"0s\"\n[[rule]]\nname = \"unusual\"\nsignals = [\"unusual\"]\n\
        count = 1\nwithin = \"60s\"\nban = \"10m\"\n";
    let (rules, jwt) = (rules.to_owned(), "roles_claim = \"realm_access.role\"".to_owned());
    let daemon = Daemon::start(&world, &Settings { rules, jwt, routes: routes.concat(), ..Settings::default() });
    let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
    for number in 0..100 {
        let token = tokens::good(&format!("user-{number}"), &["reader"]);
        let response = connection.exchange(&Request::new("GET", "/me").token(&token)).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        if response.header("connection") == Some("close") {
            connection = Client::new(&world, GOOD_V4).connect().unwrap();
        }
    }
    let warning = "[jwt]: none of 100 tokens has \"realm_access.role\"";
    until("the warning", SOON, || {
        daemon.status()["warnings"].to_string().contains(&warning.replace('"', "\\\"")).then_some(())
    });
    assert_eq!(daemon.standard_error().matches("no token has had the claim").count(), 1, "{}", daemon.standard_error());
    // One token that has it is enough.
    let mut claims = tokens::claims("eve", &[]);
    claims["realm_access"] = json!({"role": ["reader"]});
    let eve = ISSUERS.token(Algorithm::Es256, &claims);
    let ask = |from, agent: &str| {
        let request = Request::new("GET", "/items/7").token(&eve).header("User-Agent", agent);
        let response = Client::new(&world, from).send(&request).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let line = daemon.logged(&response.id());
        (line["signal"].clone(), line["detail"].clone())
    };
    assert_eq!(ask(GOOD_V4, "curl/8"), (Value::Null, Value::Null), "what is usual is not known yet");
    until("the warning to go", SOON, || {
        (!daemon.status()["warnings"].to_string().contains("realm_access")).then_some(())
    });
    for (from, agent, detail) in [
        (GOOD_V4, "curl/8", Value::Null),
        (ATTACKER_V4, "curl/8", json!("its principal never came from there")),
        (ATTACKER_V4, "python", json!("its principal never came with this User-Agent")),
        (GOOD_V4, "python", Value::Null),
    ] {
        let signal = if detail.is_null() { Value::Null } else { json!("unusual") };
        assert_eq!(ask(from, agent), (signal, detail), "{from} {agent}");
    }
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().map_or(0, Vec::len), 0, "it counts 0");
}
