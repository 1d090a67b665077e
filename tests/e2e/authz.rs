//! Who may have what, over the wire: roles give permissions, and whatever is not given is refused.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

#[test]
fn roles_decide_and_nothing_else() {
    if !report::may_run("authz") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let reader = tokens::good("bob", &["reader"]);
    let editor = tokens::good("ada", &["editor"]);
    let stranger = tokens::good("eve", &["admin", "items:read", "Reader"]);
    let nobody = tokens::good("kay", &[]);

    for (method, path, token, status, label) in [
        ("GET", "/health", "", 200, ""),
        ("GET", "/items/7", "", 401, "missing_token"),
        ("GET", "/items/7", reader.as_str(), 200, ""),
        ("HEAD", "/items/7", &reader, 200, ""),
        ("GET", "/items/7", &editor, 200, ""),
        ("GET", "/items/7", &stranger, 403, "forbidden"),
        ("GET", "/items/7", &nobody, 403, "forbidden"),
        ("GET", "/me", &nobody, 200, ""),
        ("GET", "/me", "", 401, "missing_token"),
        ("POST", "/items", &reader, 403, "forbidden"),
        ("POST", "/items", &editor, 201, ""),
        ("GET", "/nobody", &editor, 403, "forbidden"),
        ("GET", "/nowhere", &editor, 404, "not_found"),
        ("GET", "/items/7/parts", &editor, 404, "not_found"),
        ("GET", "/ITEMS/7", &editor, 404, "not_found"),
        ("DELETE", "/items/7", &editor, 405, "method_not_allowed"),
    ] {
        upstream.forget();
        let mut request = Request::new(method, path);
        if !token.is_empty() {
            request = request.token(token);
        }
        if method == "POST" {
            request = request.body("application/json", br#"{"name":"nail"}"#);
        }
        let case = format!("{method} {path} expecting {status}");
        let mut connection = client.connect().unwrap();
        let response = connection.exchange(&request).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(upstream.received().len(), usize::from(label.is_empty()), "{case}: what reached the upstream");
        if !label.is_empty() {
            let problem = response.json();
            assert_eq!(problem["type"], format!("urn:gateway:problem:{label}"), "{case}: {problem}");
            assert_eq!(problem["status"], status, "{case}: {problem}");
        }
        let line = daemon.logged(&response.id());
        assert_eq!((line["status"].as_u64(), &line["method"]), (Some(status.into()), &method.into()), "{case}: {line}");
        if status == 405 {
            let allow = response.header("allow").unwrap_or_default();
            assert!(allow.contains("GET") && allow.contains("HEAD") && !allow.contains("DELETE"), "{case}: {allow}");
        }
    }
    // P06: what names another method or path decides nothing.
    let dressed =
        Request::new("GET", "/health").header("X-HTTP-Method-Override", "POST").header("X-Original-URL", "/items");
    assert_eq!(client.send(&dressed).unwrap().status, 200);
    let received = upstream.received();
    assert_eq!(received.last().map(|received| received.target.as_str()), Some("/health"));
}
