//! Which route serves a request, over the wire: the most exact host and path that exist decide, then what is sent.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

/// A public route. What serves a request is told by its template in the access log, and by what is left out of it.
fn public(path: &str, methods: &str, more: &str) -> String {
    route(path, methods, "[\"public\"]", more)
}

#[test]
fn hosts_headers_and_queries_decide() {
    if !report::may_run("routing") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = [
        public("/files/{*any}", "[]", ""),
        public("/files/{*wild}", "[\"GET\"]", "host = \"*.example.com\""),
        public("/files/{*exact}", "[\"GET\"]", "host = \"api.example.com\""),
        route("/files/new", "[\"GET\"]", "[\"authenticated\"]", "host = \"*.example.com\""),
        public("/health", "[\"GET\", \"HEAD\"]", "when = [{ header = \"x-version\", prefix = \"2.\" }]"),
        route(
            "/health",
            "[\"GET\"]",
            "[\"authenticated\"]",
            "when = [{ header = \"x-version\", equals = \"2.1\" }, { query = \"beta\", present = true }]",
        ),
        public("/files/quiet", "[\"GET\"]", "host = \"quiet.example.com\"\naccess_log = false"),
    ];
    let settings = Settings { rules: String::new(), routes: routes.concat(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let send = |host: &str, line: &str, version: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::new(method, path).host(host);
        if !version.is_empty() {
            request = request.header("X-Version", version);
        }
        let mut connection = client.connect().unwrap();
        connection.exchange(&request).unwrap_or_else(|error| panic!("{host} {line} {version:?}: {error}"))
    };

    for (host, line, version, status, template) in [
        ("api.example.com", "GET /files/a", "", 200, "/files/{*exact}"),
        ("www.example.com", "GET /files/a", "", 200, "/files/{*wild}"),
        ("a.www.example.com", "GET /files/a", "", 200, "/files/{*any}"),
        ("example.com", "GET /files/a", "", 200, "/files/{*any}"),
        // The more exact host has the path: no more general route is asked for the method.
        ("api.example.com", "POST /files/a", "", 405, ""),
        ("www.example.com", "POST /files/a", "", 405, ""),
        // The more literal path asks for a token; the one that asks for nothing does not serve it.
        ("www.example.com", "GET /files/new", "", 401, "/files/new"),
        ("www.example.com", "GET /health", "2.0", 200, "/health"),
        ("www.example.com", "GET /health", "2.1", 200, "/health"),
        ("www.example.com", "GET /health?alpha&beta=1", "2.1", 401, "/health"),
        ("www.example.com", "GET /health?beta=1", "2.0", 200, "/health"),
        ("www.example.com", "POST /health", "2.0", 405, ""),
        ("www.example.com", "GET /health", "", 404, ""),
        ("www.example.com", "POST /health", "3", 404, ""),
        ("www.example.com", "GET /files", "", 200, "/files/{*wild}"),
        ("api.example.com", "POST /files", "", 405, ""),
        ("www.example.com", "GET /nowhere", "2.0", 404, ""),
    ] {
        upstream.forget();
        let response = send(host, line, version);
        let case = format!("{host} {line} {version:?}");
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(upstream.received().len(), usize::from(status == 200), "{case}: what reached the upstream");
        let logged = daemon.logged(&response.id());
        assert_eq!(logged["route"].as_str().unwrap_or_default(), template, "{case}: {logged}");
        // `gateway route` says the same of the same request.
        let (method, path) = line.split_once(' ').unwrap();
        let (url, header) = (format!("https://{host}{path}"), format!("X-Version: {version}"));
        let mut arguments = vec!["route", method, &url];
        if !version.is_empty() {
            arguments.extend(["--header", &header]);
        }
        let told = daemon.cli(&arguments);
        assert_eq!(told.code, i32::from(template.is_empty()), "{case}: {} {}", told.json, told.errors);
        assert_eq!(told.json["config"]["path"].as_str().unwrap_or_default(), template, "{case}: {}", told.json);
        assert_eq!(
            told.json["status"].as_u64().unwrap_or_default() == u64::from(status),
            template.is_empty(),
            "{case}"
        );
        let allow = match (status, line) {
            (405, "POST /health") => Some("GET, HEAD"),
            (405, _) => Some("GET"),
            _ => None,
        };
        assert_eq!(response.header("allow"), allow, "{case}");
    }

    let told = daemon.cli(&["route", "POST", "https://www.example.com/health?x", "--header", "x-version: 2.1"]);
    assert_eq!((&told.json["allow"], &told.json["reject"]), (&"GET, HEAD".into(), &"method_not_allowed".into()));
    assert_eq!(told.json["others"][0]["why"], "method", "{}", told.json);
    assert_eq!(told.json["elsewhere"], 5, "{}", told.json);
    let told = daemon.cli(&["route", "GET", "https://www.example.com/files/../x"]);
    assert_eq!((told.code, &told.json["reject"]), (1, &"bad_request".into()), "{}", told.json);

    // What was served is left out of the log, what was refused is not.
    let quiet = send("quiet.example.com", "GET /files/quiet", "");
    let refused = send("quiet.example.com", "POST /files/quiet", "");
    assert_eq!((quiet.status, refused.status), (200, 405));
    let line = daemon.logged(&refused.id());
    assert_eq!(line["reject"], "method_not_allowed", "{line}");
    assert!(!daemon.access_log().iter().any(|line| line["id"] == quiet.id()), "a quiet route is logged");
}
