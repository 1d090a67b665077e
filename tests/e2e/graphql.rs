//! Queries of GraphQL: which reach an upstream, over the wire.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

#[test]
fn queries_are_within_the_limits_of_their_route() {
    if !report::may_run("graphql") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let limits = "graphql = { max_depth = 3, max_cost = 50, max_aliases = 1 }\nmax_body = \"256KiB\"";
    let settings = Settings {
        more: [
            route("/graphql", "[\"GET\", \"POST\"]", "[\"public\"]", limits),
            route("/open", "[\"GET\", \"POST\"]", "[\"public\"]", ""),
        ]
        .concat(),
        rules: String::new(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let long = format!("{{ {} }}", "a ".repeat(20_000));
    for (path, query, status, reject) in [
        ("/graphql", "{ a { b { c } } }", 0, ""),
        ("/graphql", "{ a { b { c { d } } } }", 400, "body_too_complex"),
        ("/graphql", "{ a(first: 50) { b } }", 400, "body_too_complex"),
        ("/graphql", "{ x: a y: b }", 400, "body_too_complex"),
        ("/graphql", "{ __schema { types { name } } }", 403, "forbidden"),
        ("/graphql", "{ a", 400, "bad_request"),
        ("/graphql", &long, 400, "body_too_complex"),
        ("/open", "{ a { b { c { d } } } }", 0, ""),
    ] {
        upstream.forget();
        let body = serde_json::json!({ "query": query }).to_string();
        let response = client.send(&Request::new("POST", path).body("application/json", body.as_bytes())).unwrap();
        let passes = status == 0;
        assert_eq!(upstream.received().len(), usize::from(passes), "{path} {query:.60}: {}", response.text());
        if !passes {
            assert_eq!(response.status, status, "{query:.60}: {}", response.text());
            assert_eq!(daemon.logged(&response.id())["reject"], reject, "{query:.60}");
        }
    }
    for (target, status) in [("/graphql?query=%7Ba%7D", 0), ("/graphql?query=%7Bx:a,y:b%7D", 400), ("/graphql", 400)] {
        upstream.forget();
        let response = client.send(&Request::new("GET", target)).unwrap();
        assert_eq!(upstream.received().len(), usize::from(status == 0), "{target}: {}", response.text());
        assert!(status == 0 || response.status == status, "{target}: {}", response.status);
    }
    let batch = Request::new("POST", "/graphql").body("application/json", b"[{\"query\":\"{a}\"},{\"query\":\"{a}\"}]");
    assert_eq!(client.send(&batch).unwrap().status, 400);
    let form = Request::new("POST", "/graphql").body("text/plain", b"{a}");
    assert_eq!(client.send(&form).unwrap().status, 415);
}
