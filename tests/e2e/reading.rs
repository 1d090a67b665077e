//! That a request's target and host are read in one way, by whoever decides and by whoever is behind: each spelling of
//! a path, each form of target, each way to name a host (P01-P04, F18, F19, H13, H14).

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request, TIMEOUT},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    upstream_http2::{Http2Upstream, Kind},
    world::{GATEWAY_V4, GOOD_V4, World},
};

use crate::h2_hostile::{END_HEADERS, END_STREAM, HEADERS, Raw, fields, frame, has_status};

fn public(path: &str, more: &str) -> String {
    route(path, "[]", "[\"public\"]", more)
}

/// Nobody is banned for what a table sends; requests to `two.example` go to a server of HTTP/2.
fn settings(routes: &str) -> Settings {
    let served = Settings::default();
    let two = "[[route]]\nhost = \"two.example\"\nrequire = [\"public\"]\nupstream = \"two\"\n";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: format!("{routes}{two}path = \"/{{*rest}}\"\n{two}path = \"*\"\n"),
        listeners: served.listeners.clone() + "[[listener]]\naddress = \"10.0.0.1:8080\"\n",
        more: "[upstream.two]\nservers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"\n".to_owned(),
        ..served
    }
}

/// The status of the answer to a request that is these bytes.
#[track_caller]
fn sent(client: &Client<'_>, bytes: &str) -> u16 {
    let mut connection = client.connect().unwrap();
    connection.write(bytes.as_bytes()).unwrap();
    connection.response("GET").unwrap_or_else(|error| panic!("{bytes:?}: {error}")).status
}

/// Whether a request of HTTP/2 with these pseudo headers got the answer 200.
fn is_served(client: &Client<'_>, head: &[(&str, &str)]) -> bool {
    let mut raw = Raw::open(client, &[]).unwrap();
    raw.write(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(head))).unwrap();
    let enough = |heard: &crate::h2_hostile::Heard| !heard.heads.is_empty() || !heard.resets.is_empty() || heard.ended;
    raw.hear(TIMEOUT, enough).heads.iter().any(|(_, block)| has_status(block, "200"))
}

#[test]
fn p01_no_spelling_gets_past_a_literal_route() {
    if !report::may_run("reading: spellings") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guarded = route("/files/items:batch%44elete", "[]", "[\"items:write\"]", "")
        + &route("/files/a%2bb/{id}", "[]", "[\"items:write\"]", "")
        + &public("/{*rest}", "");
    let daemon = Daemon::start(&world, &settings(&guarded));
    let client = Client::new(&world, GOOD_V4);
    let editor = tokens::good("ada", &["editor"]);
    for (asked, one) in [
        ("/files/items:batchDelete", "/files/items:batchDelete"),
        ("/files/items%3AbatchDelete", "/files/items:batchDelete"),
        ("/files/items%3abatchDelete?a%3ab", "/files/items:batchDelete?a%3ab"),
        ("/files/it%65ms%3a%62atchDelete", "/files/items:batchDelete"),
        ("/%66iles/items:batchDelete", "/files/items:batchDelete"),
        ("/files/a+b/7", "/files/a+b/7"),
        ("/files/a%2Bb/%40x%2c%20y", "/files/a+b/@x,%20y"),
    ] {
        upstream.forget();
        let refused = client.send(&Request::new("POST", asked)).unwrap();
        assert_eq!((refused.status, upstream.received().len()), (401, 0), "{asked}");
        let served = client.send(&Request::new("POST", asked).token(&editor)).unwrap();
        let reached: Vec<_> = upstream.received().into_iter().map(|received| received.target).collect();
        assert_eq!((served.status, reached.concat().as_str()), (200, one), "{asked}");
        let logged = daemon.logged(&served.id());
        assert_eq!(logged["path"], one.split('?').next().unwrap(), "{logged}");
    }
    for refused in ["/files/items%253AbatchDelete", "/files/items%25%33AbatchDelete", "/files%2fitems:batchDelete"] {
        upstream.forget();
        assert_eq!(client.send(&Request::new("POST", refused)).unwrap().status, 400, "{refused}");
        assert!(upstream.received().is_empty(), "{refused}");
    }
}

#[test]
fn p01_p02_p03_what_a_route_allows_in_paths() {
    if !report::may_run("reading: allowed paths") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let all = "allow_in_path = [\"encoded_slashes\", \"parameters\", \"empty_segments\"]";
    let routes = route("/files/admin", "[]", "[\"items:write\"]", "")
        + &public("/files/{*rest}", all)
        + &public("/items/{id}", "allow_in_path = [\"encoded_slashes\"]")
        + &public("/api/{*rest}", &format!("{all}\nstrip_prefix = \"/api\""))
        + &public("/strict/{*rest}", "rewrite = \"/files/{rest}\"");
    let _daemon = Daemon::start(&world, &settings(&routes));
    let client = Client::new(&world, GOOD_V4);
    // What reaches the upstream; empty: nothing does.
    for (asked, reached) in [
        ("/items/group%2Fproject", "/items/group%2Fproject"),
        ("/items/https%3a%2f%2fa.example", "/items/https:%2F%2Fa.example"),
        ("/files/a;x=1//b%2fc?q=;//", "/files/a;x=1//b%2Fc?q=;//"),
        ("//files/a", "//files/a"),
        ("/api/files//a;b/c%2Fd", "/files//a;b/c%2Fd"),
        ("//api;v=1/files/a", "/files/a"),
        ("/items/a;b", ""),
        ("/items//a", ""),
        ("/strict/a%2Fb", ""),
        ("/strict/a;b", ""),
        ("/strict//a", ""),
        ("//strict/a", ""),
        ("/files/admin;x=1", ""),
        ("/files//admin", ""),
        ("/files/;x/admin", ""),
        ("/files/;x", ""),
        ("/files/..%3Bx/admin", ""),
        ("/files/a%2F..%2Fadmin", ""),
        ("/files/..;/admin", ""),
        ("/files/a%5cb", ""),
        ("/nowhere//x", ""),
    ] {
        upstream.forget();
        let answer = client.send(&Request::new("GET", asked)).unwrap();
        let targets: Vec<_> = upstream.received().into_iter().map(|received| received.target).collect();
        assert_eq!(targets.concat(), reached, "{asked}: {}", answer.text());
        assert_eq!(answer.status == 400, reached.is_empty(), "{asked}: {}", answer.status);
    }
}

#[test]
fn f18_f19_h13_every_form_of_target() {
    if !report::may_run("reading: targets") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let two = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let _daemon = Daemon::start(&world, &settings(&(public("/{*rest}", "") + &public("*", ""))));
    let client = Client::new(&world, GOOD_V4);
    // What reaches a server, by both protocols; empty: nothing does.
    for (line, reached) in [
        ("GET http://{}?x=1", "/?x=1"),
        ("GET https://{}?x=/../y", "/?x=/../y"),
        ("GET http://{}", "/"),
        ("GET HTTP://{}/a?", "/a?"),
        ("OPTIONS *", "*"),
        ("OPTIONS http://{}", "*"),
        ("OPTIONS http://{}/", "/"),
        ("OPTIONS http://{}?x", "/?x"),
        ("OPTIONS /", "/"),
        // A URL in the path or in the query is none of the target's own.
        ("OPTIONS /login?next=https://app.example", "/login?next=https://app.example"),
        ("OPTIONS /login/https://app.example", ""),
        ("OPTIONS http://{}/login?next=https://app.example", "/login?next=https://app.example"),
        ("OPTIONS http://{}?next=https://app.example", "/?next=https://app.example"),
        ("OPTIONS ?next=https://app.example", ""),
        ("OPTIONS next=https://app.example", ""),
        ("GET *", ""),
        ("OPTIONS **", ""),
        ("OPTIONS *?x", ""),
        ("GET ?x=1", ""),
        ("GET x", ""),
        ("GET {}", ""),
        ("GET {}:80", ""),
        ("GET //{}/x", ""),
        ("GET http:///x", ""),
        ("GET http:/x", ""),
        ("GET ftp://{}/x", ""),
        ("GET http://u@{}/x", ""),
        ("CONNECT {}:443", ""),
    ] {
        for host in ["api.example.com", "two.example"] {
            upstream.forget();
            let before = two.received().len();
            let line = line.replace("{}", host);
            let status = sent(&client, &format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let one = upstream.received().into_iter().map(|received| received.target);
            let other = two.received().split_off(before).into_iter().map(|received| received.target);
            let targets: Vec<_> = one.chain(other).collect();
            let expect = match (reached, host) {
                ("", _) => Vec::new(),
                (reached, "two.example") => vec![format!("http://{host}{reached}")],
                (reached, _) => vec![reached.to_owned()],
            };
            assert_eq!(targets, expect, "{line}");
            assert_eq!(status == 400, reached.is_empty(), "{line}: {status}");
        }
    }
    // The same of clients that speak HTTP/2; whatever is malformed is no request.
    for (method, path, scheme, reached) in [
        ("GET", "/?x=1", "https", "/?x=1"),
        ("GET", "/x", "http", "/x"),
        ("OPTIONS", "*", "https", "*"),
        ("OPTIONS", "/login?next=https://app.example", "https", "/login?next=https://app.example"),
        ("GET", "*", "https", ""),
        ("GET", "?x=1", "https", ""),
        ("GET", "", "https", ""),
        ("OPTIONS", "", "https", ""),
        ("GET", "x", "https", ""),
        ("GET", "http://two.example/x", "https", ""),
        ("GET", "/x", "ftp", ""),
    ] {
        let before = two.received().len();
        let head = [(":method", method), (":scheme", scheme), (":authority", "two.example"), (":path", path)];
        assert_eq!(is_served(&client, &head), !reached.is_empty(), "{head:?}");
        let targets: Vec<_> = two.received().split_off(before).into_iter().map(|it| it.target).collect();
        let expect = if reached.is_empty() { Vec::new() } else { vec![format!("http://two.example{reached}")] };
        assert_eq!(targets, expect, "{head:?}");
    }
}

#[test]
fn f18_h14_every_way_to_name_a_host() {
    if !report::may_run("reading: hosts") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = public("/files/{*rest}", "host = \"api.test\"")
        + &public("/files/{*rest}", "host = \"[2001:db8::1]\"")
        + &public("/any/{*rest}", "rewrite = \"/files/{rest}\"");
    let daemon = Daemon::start(&world, &settings(&routes));
    let client = Client::new(&world, GOOD_V4);
    // What the upstream is told; empty: it is refused.
    for (line, host, told) in [
        ("/files/x HTTP/1.1", Some("api.test"), "api.test"),
        ("/files/x HTTP/1.1", Some("api.test."), "api.test"),
        ("/files/x HTTP/1.1", Some("API.Test.:443"), "api.test:443"),
        ("/files/x HTTP/1.1", Some("api.test:"), "api.test"),
        ("/files/x HTTP/1.1", Some("api.test:0443"), "api.test:443"),
        ("/files/x HTTP/1.1", Some("[2001:DB8::0:1]"), "[2001:db8::1]"),
        ("/files/x HTTP/1.0", Some("api.test."), "api.test"),
        ("https://api.test/files/x HTTP/1.1", Some("api.test:443"), "api.test"),
        ("https://api.test./files/x HTTP/1.1", Some("api.test"), "api.test"),
        ("https://api.test/files/x HTTP/1.1", Some(""), "api.test"),
        ("http://api.test/files/x HTTP/1.0", None, "api.test"),
        // Before HTTP/1.1 nobody had to say: it is the address that was connected to.
        ("/any/x HTTP/1.0", None, "10.0.0.1"),
        ("/any/x HTTP/1.0", Some(""), "10.0.0.1"),
        ("/any/x HTTP/1.1", None, ""),
        ("/any/x HTTP/1.1", Some(""), ""),
        ("/any/x HTTP/1.1", Some("api.test.."), ""),
        ("/any/x HTTP/1.1", Some("."), ""),
        ("/any/x HTTP/1.1", Some("api.test:0"), ""),
        ("/any/x HTTP/1.1", Some("api.test\r\nHost: api.test"), ""),
        ("https://api.test/any/x HTTP/1.1", None, ""),
        ("https://api.test/any/x HTTP/1.1", Some("other.test"), ""),
        ("https://api.test/any/x HTTP/1.1", Some("api.test:80"), ""),
    ] {
        upstream.forget();
        let host = host.map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
        let status = sent(&client, &format!("GET {line}\r\n{host}\r\n"));
        let received = upstream.received();
        let hosts: Vec<_> = received.iter().flat_map(|received| received.header("host")).collect();
        assert_eq!(hosts.concat(), told, "{line} {host:?}: {status}");
        assert_eq!(status, if told.is_empty() { 400 } else { 200 }, "{line} {host:?}");
        for received in &received {
            assert_eq!(received.header("x-forwarded-host"), [told], "{line} {host:?}");
        }
    }
    for (authority, host, served) in [
        ("api.test.", None, true),
        ("API.TEST:443", Some("api.test."), true),
        ("api.test", Some("api.test:443"), true),
        ("api.test", Some("other.test"), false),
        ("api.test..", None, false),
        ("u@api.test", None, false),
    ] {
        let mut head = vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/files/x")];
        head.extend(host.map(|host| ("host", host)));
        assert_eq!(is_served(&client, &head), served, "{head:?}");
    }
    // By plain HTTP, too, where another hop ended TLS: what is true of the connection is what servers are told.
    let target = (GATEWAY_V4, 8080).into();
    let tcp = world.outside.connect(GOOD_V4, target, TIMEOUT).unwrap();
    upstream.forget();
    let mut plain = Connection::plain(tcp);
    plain.write(b"GET https://api.test/files/x HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
    assert_eq!(plain.response("GET").unwrap().status, 200);
    assert_eq!(upstream.received()[0].header("x-forwarded-proto"), ["http"]);
    // What was served is no offence.
    let log = daemon.access_log();
    let offences = log.iter().filter(|line| line["status"] == 200 && !line["signal"].is_null()).count();
    assert_eq!(offences, 0);
}

#[test]
fn t01_t02_t03_which_headers_of_clients_pass() {
    if !report::may_run("reading: headers") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = public("/files/{*rest}", "")
        + &public(
            "/items/{id}",
            "pass_headers = [\"x-user-id\", \"x_tenant\", \"x-http-method-override\", \
             \"cf-access-authenticated-user-email\"]",
        );
    let daemon = Daemon::start(&world, &settings(&routes));
    let client = Client::new(&world, GOOD_V4);
    // What reaches the upstream where the route says nothing, and where it lets some pass.
    for (name, passes, passes_there) in [
        ("X-Auth-Token", true, true),
        ("X-User-Agent", true, true),
        ("X-Client-Version", true, true),
        ("X-Group-By", true, true),
        ("Traceparent", true, true),
        ("X-User-Id", false, true),
        ("X-HTTP-Method-Override", false, true),
        ("X_Tenant", false, true),
        ("X_Other", false, false),
        ("X.Tenant", false, false),
        ("Proxy", false, false),
        ("X-User", false, false),
        ("X_User", false, false),
        ("X-Role", false, false),
        ("X-Consumer-Username", false, false),
        ("X-WebAuth-User", false, false),
        ("X-Forwarded-User", false, false),
        ("X-Auth-Request-Email", false, false),
        ("Remote-User", false, false),
        ("Cf-Access-Authenticated-User-Email", false, true),
        ("Tailscale-User-Login", false, false),
        ("X-Amzn-Oidc-Data", false, false),
        ("X-MS-CLIENT-PRINCIPAL", false, false),
        ("X-MS-CLIENT-PRINCIPAL-NAME", false, false),
        ("X-Goog-Authenticated-User-Email", false, false),
        ("X-Amzn-Trace-Id", true, true),
        ("X-Real-IP", false, false),
        ("X-Original-URL", false, false),
        ("X-Authenticated-Principal", false, false),
        ("X_Authenticated_Principal", false, false),
        ("X_Forwarded_For", false, false),
        ("X.Forwarded.For", false, false),
        ("X-Client-Certificate-Serial", false, false),
        ("X-Forwarded-Prefix", false, false),
    ] {
        for (path, expect) in [("/files/x", passes), ("/items/7", passes_there)] {
            upstream.forget();
            let request = Request::new("GET", path).header(name, "spoofed").header("Connection", "x-forwarded-for");
            assert_eq!(client.send(&request).unwrap().status, 200, "{name}");
            let received = upstream.received().remove(0);
            let values = received.headers.iter().filter(|(_, value)| value == "spoofed").count();
            assert_eq!(values, usize::from(expect), "{name} at {path}: {:?}", received.headers);
            assert_eq!(received.header("x-forwarded-for"), [GOOD_V4.to_string()], "{name}");
        }
    }
    assert!(daemon.access_log().iter().all(|line| line["signal"].is_null()));
}

#[test]
fn b02_h04_limits_that_are_settings() {
    if !report::may_run("reading: limits") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let limits = "max_headers = 150\nmax_target = \"1KiB\"\n".to_owned();
    let routes = public("/files/{*rest}", "") + &public("/long/{*rest}", "rewrite = \"/files/0123456789/{rest}\"");
    let _daemon = Daemon::start(&world, &Settings { proxy: limits, ..settings(&routes) });
    let client = Client::new(&world, GOOD_V4);
    // The lines are some that do not reach the upstream, which has a limit of its own.
    let target = |start: &str, length: usize| format!("{start}{}", "x".repeat(length - start.len()));
    for (lines, target, status) in [
        (149, "/files/x".to_owned(), 200),
        (150, "/files/x".to_owned(), 431),
        (1, target("/files/", 1_024), 200),
        (1, target("/files/", 1_025), 414),
        (1, target("/files/?", 1_024), 200),
        (1, target("/files/?", 1_025), 414),
        (1, target("/long/", 1_010), 200),
        (1, target("/long/", 1_024), 414),
    ] {
        upstream.forget();
        let head = format!("GET {target} HTTP/1.1\r\nHost: api.example.com\r\n{}\r\n", "X-User: b\r\n".repeat(lines));
        assert_eq!(sent(&client, &head), status, "{lines} lines, {} bytes", target.len());
        assert_eq!(upstream.received().len(), usize::from(status == 200), "{lines} lines, {} bytes", target.len());
    }
    // Crumbs of cookies are lines, too; they reach the upstream as one.
    for (crumbs, served) in [(150, true), (151, false)] {
        let mut head =
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "api.example.com"), (":path", "/files/x")];
        head.extend(std::iter::repeat_n(("cookie", "a=1"), crumbs));
        assert_eq!(is_served(&client, &head), served, "{crumbs} crumbs");
    }
}

#[test]
fn principals_are_nobody_elses() {
    if !report::may_run("reading: principals") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(&route("/me", "[\"GET\"]", "[\"authenticated\"]", "")));
    let client = Client::new(&world, GOOD_V4);
    for (subject, status) in [
        ("ada", 200),
        ("Ada L.", 200),
        ("certain:ada", 200),
        (" ada", 401),
        ("ada ", 401),
        ("\tada", 401),
        ("ada\u{a0}", 401),
        ("ada\u{200b}", 401),
        ("a\u{0}da", 401),
        ("", 401),
        ("cert:partners:ada", 401),
        ("Cert:partners:ada", 401),
        ("key:ada", 401),
    ] {
        upstream.forget();
        let answer = client.get("/me", &tokens::good(subject, &[])).unwrap();
        let told: Vec<_> = upstream
            .received()
            .iter()
            .flat_map(|it| it.header("x-authenticated-principal").concat().into_bytes())
            .collect();
        let expect = if status == 200 { subject } else { "" };
        assert_eq!((answer.status, told.as_slice()), (status, expect.as_bytes()), "{subject:?}");
        let logged = daemon.logged(&answer.id());
        assert_eq!(logged["principal"].as_str().unwrap_or_default(), expect, "{logged}");
    }
}
