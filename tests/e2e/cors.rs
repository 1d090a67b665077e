//! What pages of other origins are told: preflights, answers and refusals, by HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http_body_util::Full;
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    pki::HOST,
    report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, GOOD_V6, World},
};

use crate::logs::log_to;

const APP: &str = "https://app.example";

/// One answer: its status, and its headers about CORS.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Told {
    fn new(status: u16, headers: impl Iterator<Item = (String, String)>) -> Self {
        let is_about = |name: &str| name.starts_with("access-control-") || name == "vary";
        let mut headers: Vec<_> = headers.filter(|(name, _)| is_about(name)).collect();
        headers.sort();
        Self { status, headers }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|header| header.0 == name);
        let value = values.next().map(|header| header.1.as_str());
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }
}

/// What a request is told: the same by both versions.
#[track_caller]
fn ask(client: &Client<'_>, method: &str, path: &str, headers: &[(&str, &str)]) -> Told {
    let mut request = Request::new(method, path);
    let mut request2 = http::Request::builder().method(method).uri(format!("https://{HOST}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
        request2 = request2.header(*name, *value);
    }
    let answer = client.send(&request).unwrap();
    let told = Told::new(answer.status, answer.headers.into_iter());
    let answer = client.send_http2(vec![request2.body(Full::<Bytes>::default()).unwrap()]).unwrap().remove(0).unwrap();
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let told2 = Told::new(answer.status().as_u16(), answer.headers().iter().map(text));
    assert_eq!(told2, told, "{method} {path} by HTTP/2");
    told
}

const GROUPS: &str = "
[cors.default]
origins = [\"https://app.example\", \"https://*.apps.example\"]
headers = [\"x-a\", \"content-type\"]
credentials = true
[cors.open]
origins = [\"*\"]
headers = [\"*\"]
methods = [\"GET\", \"PUT\"]
expose = [\"x-total\"]
max_age = \"1h\"
[cors.strict]
origins = [\"https://app.example\"]
refuse_others = true
";

fn settings(more: &str) -> Settings {
    let own = |path: &str, more: &str| format!("[[route]]\npath = \"{path}\"\nrequire = [\"public\"]\n{more}\n");
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: [
            route("/cors/{status}", "[\"GET\", \"PUT\"]", "[\"public\"]", ""),
            route("/items", "[\"POST\"]", "[\"public\"]", "schema = \"item.schema.json\"\nmax_body = \"1KiB\""),
            route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
            route("/items/{id}", "[\"GET\"]", "[\"items:write\"]", ""),
            route("/none/{*rest}", "[]", "[\"public\"]", "strip_prefix = \"/none\"\ncors = \"none\""),
            route("/open/{*rest}", "[]", "[\"authenticated\"]", "strip_prefix = \"/open\"\ncors = \"open\""),
            route("/strict/{*rest}", "[]", "[\"public\"]", "strip_prefix = \"/strict\"\ncors = \"strict\""),
            route("/v", "[\"PUT\"]", "[\"public\"]", "cors = \"none\"\nwhen = [{ header = \"x-a\", equals = \"2\" }]"),
            route("/v", "[\"PUT\"]", "[\"public\"]", "rewrite = \"/health\""),
            "[[route]]\npath = \"/dead\"\nrequire = [\"public\"]\nupstream = \"dead\"\n".to_owned(),
            own("/old", "redirect = { to = \"/items\" }"),
            own("/fixed", "respond = { body = \"x\" }\nresponse_headers = { set = { vary = \"accept\" } }"),
        ]
        .concat(),
        more: format!("{GROUPS}[upstream.dead]\nservers = [\"127.0.0.1:9\"]\n{more}"),
        ..Settings::default()
    }
}

#[test]
fn what_pages_may_read() {
    if !report::may_run("cors") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let bob = format!("Bearer {}", tokens::good("bob", &["reader"]));
    let forged = format!("Bearer {}", tokens::forged("eve", &["reader"]));
    for (method, path, more, status) in [
        ("GET", "/cors/200", &[][..], 200),
        ("GET", "/cors/stream", &[], 200),
        ("GET", "/cors/204", &[], 204),
        ("GET", "/cors/307", &[], 307),
        ("GET", "/cors/404", &[], 404),
        ("GET", "/cors/503", &[], 503),
        ("GET", "/fixed", &[], 200),
        ("GET", "/old", &[], 308),
        ("GET", "/me", &[], 401),
        ("GET", "/me", &[("authorization", forged.as_str())], 401),
        ("GET", "/items/7", &[("authorization", bob.as_str())], 403),
        ("DELETE", "/me", &[], 405),
        ("GET", "/nowhere", &[], 404),
        ("GET", "/dead", &[], 502),
        ("POST", "/items", &[("content-type", "text/plain")], 415),
        ("GET", "/cors//200", &[], 400),
    ] {
        let with = |origin: Option<&'static str>| {
            let origin = origin.map(|origin| ("origin", origin));
            let headers: Vec<_> = origin.into_iter().chain(more.iter().copied()).collect();
            ask(&client, method, path, &headers)
        };
        for page in [APP, "https://a.apps.example"] {
            let told = with(Some(page));
            assert_eq!(told.status, status, "{path}");
            assert_eq!(told.get("access-control-allow-origin"), Some(page), "{path}: {told:?}");
            assert_eq!(told.get("access-control-allow-credentials"), Some("true"), "{path}: {told:?}");
            assert_eq!(told.get("access-control-expose-headers"), Some("retry-after, x-request-id"), "{path}");
            assert_eq!(told.headers.len(), 4, "{path}: {told:?}");
            let vary = told.get("vary").unwrap();
            let theirs =
                if path.starts_with("/cors/2") || path == "/cors/stream" { "Accept-Encoding, Origin" } else { vary };
            assert!(vary == theirs && vary.ends_with("Origin"), "{path}: {vary}");
        }
        for foreign in ["https://evil.example", "null", "https://a.b.apps.example", "https://app.example.evil.example"]
        {
            let told = with(Some(foreign));
            assert_eq!(told.status, status, "{path} is served to {foreign}");
            assert_eq!(told.headers.len(), 1, "{path} {foreign}: {told:?}");
            assert!(told.get("vary").unwrap().ends_with("Origin"), "{path}: {told:?}");
        }
        let told = with(None);
        assert!(!told.headers.iter().any(|header| header.0.starts_with("access-control")), "{path}: {told:?}");
    }
    let told = ask(&client, "GET", "/cors/200", &[]);
    assert_eq!(
        told.get("vary"),
        Some("Accept-Encoding, Origin"),
        "a cache gives a page what nobody asked for: {told:?}"
    );
    assert_eq!(ask(&client, "GET", "/fixed", &[]).get("vary"), Some("accept, Origin"));
    let twice = ask(&client, "GET", "/cors/200", &[("origin", APP), ("origin", APP)]);
    assert_eq!(twice.headers.len(), 1, "{twice:?}");

    // Every origin, and no credentials.
    let told = ask(&client, "GET", "/open/cors/200", &[("origin", "null"), ("authorization", &bob)]);
    assert_eq!(told.get("access-control-allow-origin"), Some("*"));
    assert_eq!((told.get("access-control-allow-credentials"), told.get("vary")), (None, Some("Accept-Encoding")));
    let told = ask(&client, "GET", "/open/cors/200", &[("origin", "null")]);
    assert_eq!((told.status, told.get("access-control-allow-origin")), (401, Some("*")));

    // Nothing is changed where it is not configured.
    let told = ask(&client, "GET", "/none/cors/200", &[("origin", APP)]);
    assert_eq!(told.get("access-control-allow-origin"), Some("*"));
    assert_eq!((told.get("access-control-max-age"), told.get("vary")), (Some("1"), Some("Accept-Encoding")));

    // Refused only where it is asked for; the API's own pages never are.
    let own = format!("https://{HOST}");
    for (page, status) in [(APP, 200), (own.as_str(), 200), ("https://evil.example", 403), ("null", 403)] {
        let told = ask(&client, "GET", "/strict/cors/200", &[("origin", page)]);
        assert_eq!(told.status, status, "{page}");
        assert_eq!(told.get("access-control-allow-origin"), (page == APP).then_some(APP), "{page}");
    }
    let refused = client.send(&Request::new("GET", "/strict/health").header("Origin", "null")).unwrap();
    let line = daemon.logged(&refused.id());
    assert_eq!((&line["reject"], line.get("signal")), (&"foreign_origin".into(), None), "{line}");
}

#[test]
fn preflights() {
    if !report::may_run("cors: preflights") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let preflight = |path: &str, origin: &'static str, method: &'static str, names: &'static str| {
        let names = (!names.is_empty()).then_some(("access-control-request-headers", names));
        let headers = [("origin", origin), ("access-control-request-method", method)];
        ask(&client, "OPTIONS", path, &headers.into_iter().chain(names).collect::<Vec<_>>())
    };
    const VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    for (path, origin, method, names, methods, allowed, max_age) in [
        // The method that is asked for is the route's; what is asked for beside it is the configuration's to say.
        ("/cors/200", APP, "PUT", "x-a", "PUT", "x-a, content-type", "600"),
        ("/cors/200", "https://a.apps.example", "GET", "x-evil", "GET", "x-a, content-type", "600"),
        // Before authentication.
        ("/me", APP, "GET", "authorization", "GET", "x-a, content-type", "600"),
        ("/open/me", "null", "DELETE", "X-Any,authorization", "GET, PUT", "X-Any, authorization", "3600"),
        // A page is to see 404 and 405.
        ("/nowhere", APP, "PUT", "", "PUT", "x-a, content-type", "600"),
        ("/me", APP, "DELETE", "", "DELETE", "x-a, content-type", "600"),
        // A URL at the end of the query does not make it a question about the server as a whole.
        ("/open/me?next=https://app.example", "null", "PUT", "X-Any", "GET, PUT", "X-Any", "3600"),
        ("/fixed", APP, "PUT", "", "PUT", "x-a, content-type", "600"),
        // The route of the header that is not asked for cannot be meant.
        ("/v", APP, "PUT", "content-type", "PUT", "x-a, content-type", "600"),
    ] {
        let told = preflight(path, origin, method, names);
        assert_eq!(told.status, 204, "{path}: {told:?}");
        let star = path.starts_with("/open/");
        assert_eq!(told.get("access-control-allow-origin"), Some(if star { "*" } else { origin }), "{path}");
        assert_eq!(told.get("access-control-allow-credentials"), (!star).then_some("true"), "{path}");
        assert_eq!(told.get("access-control-allow-methods"), Some(methods), "{path}");
        assert_eq!(told.get("access-control-allow-headers"), Some(allowed), "{path}");
        assert_eq!(told.get("access-control-max-age"), Some(max_age), "{path}");
        assert_eq!(told.get("vary"), Some(VARY), "{path}");
    }
    for (path, origin, names) in [
        ("/cors/200", "https://evil.example", ""),
        ("/cors/200", "null", ""),
        ("/nowhere", "https://evil.example", ""),
        ("/strict/cors/200", "https://evil.example", ""),
        // It may be the one that allows nobody.
        ("/v", APP, "x-a"),
        ("/v", APP, "content-type, X-A"),
    ] {
        let told = preflight(path, origin, "PUT", names);
        assert_eq!(
            (told.status, told.headers.len(), told.get("vary")),
            (204, 1, Some(VARY)),
            "{path} {origin} {told:?}"
        );
    }
    // `gateway route` tells the same.
    for (path, origin, told) in [
        ("/me", APP, serde_json::json!({"status": 204, "permitted": true})),
        ("/nowhere", APP, serde_json::json!({"status": 204, "permitted": true})),
        ("/me", "https://evil.example", serde_json::json!({"status": 204, "permitted": false})),
        ("/none/x", APP, serde_json::Value::Null),
    ] {
        let (url, origin) = (format!("https://{HOST}{path}"), format!("origin: {origin}"));
        let method = "access-control-request-method: GET";
        let found = daemon.cli(&["route", "OPTIONS", &url, "--header", &origin, "--header", method]);
        assert_eq!((found.code, &found.json["preflight"]), (0, &told), "{path} {origin}: {}", found.json);
    }
    assert!(upstream.received().is_empty(), "a preflight reached the upstream");

    // What is no preflight, or of no route that has CORS, is a request like any other.
    for (path, headers, status) in [
        ("/none/cors/200", &[("origin", APP), ("access-control-request-method", "GET")][..], 200),
        ("/open/cors/200", &[("origin", APP)], 401),
        ("/me", &[("access-control-request-method", "GET")], 405),
        ("/me", &[("origin", APP), ("access-control-request-method", "TRACE")], 405),
        ("/me", &[("origin", APP), ("access-control-request-method", "a b")], 405),
    ] {
        assert_eq!(ask(&client, "OPTIONS", path, headers).status, status, "{path} {headers:?}");
    }
    assert_eq!(upstream.received().len(), 2, "once for each version");
    let id = client
        .send(&Request::new("OPTIONS", "/me").header("Origin", APP).header("Access-Control-Request-Method", "GET"))
        .unwrap()
        .id();
    assert_eq!((&daemon.logged(&id)["route"], &daemon.logged(&id)["status"]), (&"/me".into(), &204.into()));
}

#[test]
fn refusals_before_the_route() {
    if !report::may_run("cors: limits") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings("[limit.address]\nrequests = 1\nper = \"1h\"\nburst = 1\n"));
    for (number, (path, method, origin)) in [
        ("/cors/200", "GET", Some(APP)),
        ("/cors/200", "OPTIONS", Some(APP)),
        ("/nowhere", "GET", Some(APP)),
        ("/none/cors/200", "GET", None),
    ]
    .into_iter()
    .enumerate()
    {
        let client = Client::new(&world, if number % 2 == 0 { GOOD_V4 } else { GOOD_V6 });
        drop(client.get("/cors/200", "").unwrap());
        let told = ask(&client, method, path, &[("origin", APP), ("access-control-request-method", "GET")]);
        assert_eq!((told.status, told.get("access-control-allow-origin")), (429, origin), "{method} {path}");
    }
}

/// A response that breaks off before any of it was sent is replaced, and its page reads what replaces it.
#[test]
fn a_late_refusal_is_for_its_page_too() {
    if !report::may_run("cors: late refusals") {
        return;
    }
    let world = World::new();
    let _broken = Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        // The fault comes with the head: nobody can have been sent any of it.
        exchange.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")?;
        Ok(false)
    });
    let mut daemon = Daemon::start(&world, &settings(""));
    let output = format!("[[access_log.output]]\ntype = \"file\"\npath = {:?}\n", world.folder.join("access.log"));
    log_to(&mut daemon, &world, &format!("response_headers = [\"content-type\"]\n{output}"));
    let client = Client::new(&world, GOOD_V4);
    for (path, origin, expect) in [
        ("/cors/200", APP, Some(APP)),
        ("/cors/200", "https://evil.example", None),
        ("/strict/x", APP, Some(APP)),
        ("/none/x", APP, None),
    ] {
        let answer = client.send(&Request::new("GET", path).header("Origin", origin)).unwrap();
        let told = Told::new(answer.status, answer.headers.clone().into_iter());
        assert_eq!((told.status, told.get("access-control-allow-origin")), (502, expect), "{path} {origin}: {told:?}");
        assert_eq!(told.get("vary"), (path != "/none/x").then_some("Origin"), "{path} {origin}: {told:?}");
        let line = daemon.logged(&answer.id());
        assert_eq!(line["response.content-type"], "application/problem+json", "{line}");
    }
}
