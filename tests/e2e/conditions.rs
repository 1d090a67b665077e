//! `sources` and `allow_if` of routes over the wire: whose object is asked for, and from where.

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm, ISSUERS},
    upstream::Upstream,
    world::{ATTACKER_V4, GOOD_V4, GOOD_V6, World},
};

const SOURCES: &str = "[sources]\noffice = [\"10.0.0.0/28\", \"fd00:0:0:1::/64\"]\n";

fn settings() -> Settings {
    let own = "allow_if = ['''{id} == claim.sub or 'admin' in roles''']";
    let routes = [
        route("/users/{id}/items", "[\"GET\"]", "[\"authenticated\"]", own),
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", "sources = [\"office\"]"),
        route("/health", "[\"GET\"]", "[\"public\"]", "sources = [\"10.0.0.66\"]"),
        route(
            "/echo",
            "[\"GET\", \"PUT\"]",
            "[\"authenticated\"]",
            "allow_if = [\"method == 'GET' or claim.level >= 3\"]",
        ),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", "allow_if = [\"not claim.suspended == true\"]"),
        route(
            "/files/{*rest}",
            "[]",
            "[\"public\"]",
            "allow_if = ['source in office and {rest} != \"secret\"']\nallow_in_path = [\"parameters\"]",
        ),
    ];
    let forbidden =
        "[[rule]]\nname = \"denied\"\nsignals = [\"forbidden\"]\ncount = 64\nwithin = \"60s\"\nban = \"10m\"\n";
    Settings { rules: forbidden.to_owned(), routes: routes.concat(), more: SOURCES.to_owned(), ..Settings::default() }
}

/// A token of Ada's with these claims, too.
fn ada(more: &Value) -> String {
    let mut claims = tokens::claims("ada", &["reader"]);
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ISSUERS.token(Algorithm::Es256, &claims)
}

#[test]
fn whose_object_it_is_and_from_where() {
    if !report::may_run("conditions") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let (office, office_v6, outside) =
        (Client::new(&world, GOOD_V4), Client::new(&world, GOOD_V6), Client::new(&world, ATTACKER_V4));
    let plain = ada(&json!({}));
    let level = |level: Value| ada(&json!({"level": level}));
    let suspended = |suspended: bool| ada(&json!({"suspended": suspended}));
    let admin = tokens::good("root", &["admin"]);
    let is_false = "the condition is false: ";
    let is_unknown = "the condition is unknown, as something in ";
    for (client, line, token, status, label, detail) in [
        // The object is the client's, in every spelling, or it is nobody's.
        (&office, "GET /users/ada/items", &plain, 200, "", ""),
        (&office, "GET /users/%61d%61/items", &plain, 200, "", ""),
        (&office, "GET /users/bob/items", &plain, 403, "forbidden", is_false),
        (&office, "GET /users/Ada/items", &plain, 403, "forbidden", is_false),
        (&office, "GET /users/ada%20/items", &plain, 403, "forbidden", is_false),
        (&office, "GET /users/bob/../ada/items", &plain, 400, "bad_request", ""),
        (&office, "GET /users/ada;x/items", &plain, 400, "bad_request", ""),
        (&office, "GET /users/ada%2fx/items", &plain, 400, "bad_request", ""),
        (&office, "GET /users/bob/items?id=ada", &plain, 403, "forbidden", is_false),
        (&office, "GET /users/bob/items", &admin, 200, "", ""),
        // Where a client is comes before who it is.
        (&office, "GET /items/7", &plain, 200, "", ""),
        (&office_v6, "GET /items/7", &plain, 200, "", ""),
        (&outside, "GET /items/7", &plain, 403, "source_not_allowed", "the client is not within"),
        (&outside, "GET /items/7", &"garbage".to_owned(), 403, "source_not_allowed", "the client is not within"),
        (&outside, "GET /health", &String::new(), 200, "", ""),
        (&office, "GET /health", &String::new(), 403, "source_not_allowed", "the client is not within"),
        // Methods and numbers.
        (&office, "GET /echo", &plain, 200, "", ""),
        (&office, "PUT /echo", &level(json!(3)), 200, "", ""),
        (&office, "PUT /echo", &level(json!(2.5)), 403, "forbidden", is_false),
        (&office, "PUT /echo", &level(json!("9")), 403, "forbidden", is_unknown),
        (&office, "PUT /echo", &plain, 403, "forbidden", is_unknown),
        // What is missing lets nobody through.
        (&office, "GET /me", &suspended(false), 200, "", ""),
        (&office, "GET /me", &suspended(true), 403, "forbidden", is_false),
        (&office, "GET /me", &plain, 403, "forbidden", is_unknown),
        // Without an identity, too; and what two programs could read differently is not compared.
        (&office, "GET /files/public", &String::new(), 200, "", ""),
        (&office, "GET /files/secret", &String::new(), 403, "forbidden", is_false),
        (&office, "GET /files/secret;x", &String::new(), 403, "forbidden", is_unknown),
        (&outside, "GET /files/public", &String::new(), 403, "forbidden", is_false),
    ] {
        upstream.forget();
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::new(method, path);
        if !token.is_empty() {
            request = request.token(token);
        }
        let response = client.send(&request).unwrap_or_else(|error| panic!("{line}: {error}"));
        let logged = daemon.logged(&response.id());
        assert_eq!(response.status, status, "{line}: {logged}");
        assert_eq!(upstream.received().len(), usize::from(label.is_empty()), "{line}: what reached the upstream");
        assert_eq!(logged["reject"].as_str().unwrap_or_default(), label, "{line}: {logged}");
        assert!(logged["detail"].as_str().unwrap_or_default().starts_with(detail), "{line}: {logged}");
        let told = response.text();
        assert!(detail.is_empty() || !told.contains("condition") && !told.contains("claim"), "{line}: {told}");
        if label == "source_not_allowed" {
            assert!(logged["signal"].is_null(), "who is elsewhere is no attacker: {logged}");
            assert!(logged["principal"].is_null(), "nobody was asked who it is: {logged}");
        }
    }
}

#[test]
fn t04_the_source_is_whom_a_trusted_proxy_names() {
    if !report::may_run("conditions::t04") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let proxy = "trusted_proxies = [\"10.0.0.2\"]\nclient_header = \"x-forwarded-for\"";
    let daemon = Daemon::start(&world, &Settings { proxy: proxy.to_owned(), ..settings() });
    let (balancer, outside) = (Client::new(&world, GOOD_V4), Client::new(&world, ATTACKER_V4));
    let token = ada(&json!({}));
    for (client, forwarded, status) in [
        (&balancer, Some("10.0.0.5"), 200),
        (&balancer, Some("::ffff:10.0.0.5"), 200),
        (&balancer, Some("192.0.2.9"), 403),
        (&balancer, Some("10.0.0.5, 192.0.2.9"), 403),
        // It is within the network itself, and may speak for anybody.
        (&balancer, None, 403),
        (&outside, Some("10.0.0.5"), 403),
    ] {
        let mut request = Request::new("GET", "/items/7").token(&token);
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        let response = client.send(&request).unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!(response.status, status, "{forwarded:?}: {line}");
    }
}
