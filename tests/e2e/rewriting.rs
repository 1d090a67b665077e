//! What a route makes of requests and answers: paths, headers, redirects, fixed answers and deadlines.

use support::{
    daemon::Daemon,
    http1::{Client, Request, Response},
    http2, report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

/// A public route to the upstream.
fn public(path: &str, more: &str) -> String {
    route(path, "[]", "[\"public\"]", more)
}

/// A route that the gateway answers by itself.
fn own(path: &str, require: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nrequire = {require}\n{more}\n")
}

fn with(routes: &[String], upstream: &str) -> Settings {
    let upstream = format!("servers = [\"127.0.0.1:9000\"]\n{upstream}");
    Settings { interfaces: Vec::new(), rules: String::new(), routes: routes.concat(), upstream, ..Settings::default() }
}

#[track_caller]
fn send(client: &Client<'_>, request: &Request) -> Response {
    client.send(request).unwrap()
}

#[test]
fn p01_t01_t03_what_upstreams_are_sent() {
    if !report::may_run("rewriting") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let headers = "request_headers = { remove = [\"x-debug\"], set = { x-tenant = \"a b\", x-own = \"1\" }, \
                   add = { accept = \"text/plain\" } }\n\
                   response_headers = { remove = [\"content-type\"], set = { x-frame-options = \"DENY\" }, \
                   add = { set-cookie = \"a=1; Secure\" } }";
    let daemon = Daemon::start(
        &world,
        &with(
            &[
                public("/api/{*rest}", "strip_prefix = \"/api\""),
                public("/v1/{id}/x/{name}", "rewrite = \"/items/{name}-{id}\""),
                public("/deep/{*rest}", "rewrite = \"/files{path}\""),
                public("/glue/{a}/{b}", "rewrite = \"/files/{a}{b}\""),
                public("/me", headers),
                public("/nothing", headers),
            ],
            "host_header = \"server\"",
        ),
    );
    let client = Client::new(&world, GOOD_V4);
    for (asked, reached) in [
        ("/api/items/7?q=/../x", "/items/7?q=/../x"),
        ("/api/items/%37", "/items/7"),
        ("/api/", "/"),
        ("/api", "/"),
        ("/v1/7/x/a%20b?x", "/items/a%20b-7?x"),
        ("/deep/a/b/", "/files/deep/a/b/"),
        ("/glue/a/b", "/files/ab"),
        // What would climb, split or decode twice never leaves.
        ("/api/../admin", ""),
        ("/api//admin", ""),
        ("/api/%2e%2e/admin", ""),
        ("/api/..%2fadmin", ""),
        ("/glue/%25/2e", ""),
        ("/v1/%2e%2e/x/a", ""),
    ] {
        upstream.forget();
        let response = send(&client, &Request::new("GET", asked));
        let received: Vec<_> = upstream.received().into_iter().map(|received| received.target).collect();
        assert_eq!(received.concat(), reached, "{asked}: {}", response.text());
        assert_eq!(response.status == 400, reached.is_empty(), "{asked}: {}", response.text());
        let logged = daemon.logged(&response.id());
        assert!(reached.is_empty() || !logged["path"].as_str().unwrap().starts_with("/items"), "{logged}");
    }

    upstream.forget();
    let asked = Request::new("GET", "/me").header("X-Debug", "1").header("X-Tenant", "spoofed").header("Accept", "*/*");
    let asked = asked.header("Connection", "x-own, x-tenant").header("X-Forwarded-For", "10.0.0.9");
    let response = send(&client, &asked);
    let received = upstream.received().remove(0);
    for (name, values) in [
        ("x-debug", &[][..]),
        ("x-tenant", &["a b"]),
        ("x-own", &["1"]),
        ("accept", &["*/*", "text/plain"]),
        ("host", &["127.0.0.1:9000"]),
    ] {
        assert_eq!(received.header(name), values, "{name}");
    }
    assert_eq!(received.header("x-forwarded-for"), [GOOD_V4.to_string()]);
    assert_eq!(received.header("x-forwarded-host"), ["api.example.com"]);
    assert_eq!(response.header("content-type"), None);
    assert_eq!(response.header("x-frame-options"), Some("DENY"));
    assert_eq!(response.header("set-cookie"), Some("a=1; Secure"));

    // A refusal is the gateway's, and stays as it is.
    let refused = send(&client, &Request::new("GET", "/me").host("bad host"));
    assert_eq!((refused.status, refused.header("x-frame-options")), (400, None));
}

#[test]
fn redirects_and_answers() {
    if !report::may_run("rewriting") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let robots = "methods = [\"GET\", \"HEAD\", \"POST\"]\n\
                  respond = { body = \"\"\"\nUser-agent: *\nDisallow: /\n\"\"\" }";
    let down = "respond = { status = 503, body = \"{}\", content_type = \"application/json\" }\n\
                response_headers = { set = { retry-after = \"60\" } }";
    let daemon = Daemon::start(
        &world,
        &with(
            &[
                public("/items/{id}", ""),
                own("/robots.txt", "[\"public\"]", robots),
                own("/down/{*all}", "[\"authenticated\"]", down),
                own("/none", "[\"public\"]", "respond = { status = 204 }"),
                own("/old/{id}", "[\"public\"]", "redirect = { to = \"/items/{id}\", status = 301 }"),
                own("/away/{*rest}", "[\"public\"]", "redirect = { to = \"https://www.example.net{path}\" }"),
                own("/site/{*rest}", "[\"public\"]", "redirect = { to = \"https://www.example.net:8443/{rest}\" }"),
            ],
            "",
        ),
    );
    let client = Client::new(&world, GOOD_V4);
    for (asked, status, location) in [
        ("/old/7?a=b&c=//x", 301, "/items/7?a=b&c=//x"),
        ("/away/x/y", 308, "https://www.example.net/away/x/y"),
        ("/away", 308, "https://www.example.net/away"),
        ("/site/evil.example", 308, "https://www.example.net:8443/evil.example"),
        ("/site/@evil.example/%2E%2Eb", 308, "https://www.example.net:8443/@evil.example/..b"),
        ("/site/a%0d%0aset-cookie:x", 400, ""),
        ("/site//evil.example", 400, ""),
        ("/site/%2f%2fevil.example", 400, ""),
        ("/site/%5cevil.example", 400, ""),
        ("/old/..", 400, ""),
    ] {
        let response = send(&client, &Request::new("GET", asked));
        assert_eq!((response.status, response.header("location").unwrap_or_default()), (status, location), "{asked}");
        assert!(response.header("set-cookie").is_none() && response.header("x-request-id").is_some(), "{asked}");
    }
    assert!(upstream.received().is_empty());

    // One connection carries on, also behind a body that nobody read.
    let mut connection = client.connect().unwrap();
    for method in ["GET", "POST", "HEAD", "GET"] {
        let mut request = Request::new(method, "/robots.txt");
        if method == "POST" {
            request = request.body("text/plain", b"some");
        }
        let robots = connection.exchange(&request).unwrap();
        let body = if method == "HEAD" { "" } else { "User-agent: *\nDisallow: /\n" };
        assert_eq!((robots.status, robots.text().as_str()), (200, body), "{method}");
        assert_eq!(robots.header("content-type"), Some("text/plain; charset=utf-8"), "{method}");
    }
    let none = connection.exchange(&Request::new("GET", "/none")).unwrap();
    assert_eq!((none.status, none.text().as_str(), none.header("content-type")), (204, "", None));

    // Who may have the route is asked first.
    assert_eq!(send(&client, &Request::new("GET", "/down/x")).status, 401);
    let down = send(&client, &Request::new("DELETE", "/down").token(&tokens::good("ada", &[])));
    assert_eq!((down.status, down.text().as_str(), down.header("retry-after")), (503, "{}", Some("60")));
    let logged = daemon.logged(&down.id());
    assert_eq!((&logged["route"], &logged["principal"]), (&"/down/{*all}".into(), &"ada".into()), "{logged}");
    assert!(logged["upstream"].is_null() && logged["reject"].is_null(), "{logged}");

    let asked = |method: &str, path: &str| {
        let mut request = http2::get(path, "");
        *request.method_mut() = method.parse().unwrap();
        request
    };
    let answers = client
        .send_http2(vec![
            asked("GET", "/robots.txt"),
            asked("HEAD", "/robots.txt"),
            asked("HEAD", "/nowhere"),
            asked("GET", "/away/x"),
        ])
        .unwrap();
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 404, 308]);
    assert_eq!(answers[3].headers()["location"], "https://www.example.net/away/x");
    assert!(answers[1].body().is_empty() && answers[2].body().is_empty(), "a body for HEAD");
}

#[test]
fn deadlines_of_a_route() {
    if !report::may_run("rewriting") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let own = "timeouts = { response = \"100ms\" }";
    let settings = with(&[public("/slow", own), public("/patient/{*rest}", "strip_prefix = \"/patient\"")], "");
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(send(&client, &Request::new("GET", "/slow?2000")).status, 504);
    assert_eq!(send(&client, &Request::new("GET", "/patient/slow?300")).status, 200);
}
