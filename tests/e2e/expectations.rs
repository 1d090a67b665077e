//! What a route says of media types, headers and cookies of its requests, over the wire.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

const RULES: &str = "rewrite = \"/echo\"\ncontent_types = [\"application/pdf\", \"image/*\"]\n\
    unknown_headers = \"refuse\"\nunknown_cookies = \"refuse\"\npass_headers = [\"x-user-id\"]\n\
    [route.header.x-mode]\nenum = [\"fast\"]\n[route.cookie.session]\nmax_length = 4\n";

#[test]
fn b05_b07_requests_have_what_the_route_says() {
    if !report::may_run("expectations") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = route("/scans", "[\"POST\"]", "[\"public\"]", RULES);
    let settings = Settings { interfaces: Vec::new(), routes, rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let known: &[(&str, &str)] = &[("X-Mode", "fast"), ("Cookie", "session=abcd"), ("Accept", "*/*")];
    for (headers, media_type, status, detail) in [
        (known, "application/pdf", 200, ""),
        (&[("X-User-Id", "7"), ("X-Forwarded-For", "192.0.2.1")], "image/png; q=1", 200, ""),
        (&[], "text/html", 415, "Content-Type is not one of the route"),
        (&[], "application/pdf, text/html", 415, "Content-Type is not type/subtype"),
        (&[("X-Debug", "secret")], "application/pdf", 400, "header x-debug: unknown"),
        (&[("X-Mode", "slow")], "application/pdf", 400, "header x-mode: enum"),
        (&[("Cookie", "session=1; other=secret")], "application/pdf", 400, "cookie other: unknown"),
    ] {
        upstream.forget();
        let body = b"%PDF-1.7";
        let request = Request::new("POST", "/scans").body(media_type, body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = client.send(&request).unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!(response.status, status, "{headers:?} {media_type:?}: {line}");
        assert_eq!(line["detail"].as_str().unwrap_or_default(), detail, "{line}");
        assert_eq!(upstream.received().len(), usize::from(status == 200), "{line}");
        assert!(!response.text().contains("secret"), "a value is told: {}", response.text());
    }
    // A body in chunks has to say what it is, as every other. A request without a body has no media type.
    let mut connection = client.connect().unwrap();
    let head = "POST /scans HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.write(format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 415);
    assert_eq!(client.send(&Request::new("POST", "/scans").header("Content-Length", "0")).unwrap().status, 200);
}
