//! What trusted proxies say of a request besides whom it comes from: scheme, host, port, prefix and id are theirs to tell,
//! and nobody else's (T04, T05).

use std::net::IpAddr;

use support::{
    daemon::Daemon,
    http1::{Connection, Request, Response, TIMEOUT},
    pki::HOST,
    report,
    settings::{Settings, route},
    upstream::{Received, Upstream},
    wait::{SOON, until},
    world::{GATEWAY_V4, GOOD_V4, World, bystander},
};

/// Plays the load balancer.
const BALANCER: IpAddr = GOOD_V4;

fn settings(proxy: &str) -> Settings {
    let listeners = "[[listener]]\naddress = \"10.0.0.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n\
                     [[listener]]\naddress = \"10.0.0.1:8080\"\nhsts = { max_age = \"60s\" }\n\
                     [[listener]]\naddress = \"10.0.0.1:8081\"\nredirect = 443\n";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: format!("trusted_proxies = [\"{BALANCER}\"]\n{proxy}"),
        listeners: listeners.to_owned(),
        routes: route("/files/{*rest}", "[]", "[\"public\"]", ""),
        ..Settings::default()
    }
}

#[track_caller]
fn send(world: &World, from: IpAddr, port: u16, lines: &[(&str, &str)]) -> Response {
    let tcp = world.outside.connect(from, (GATEWAY_V4, port).into(), TIMEOUT).unwrap();
    tcp.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = Request::new("GET", "/files/x");
    let request = lines.iter().fold(request, |request, (name, value)| request.header(name, value));
    Connection::plain(tcp).exchange(&request).unwrap()
}

/// What an upstream was told: scheme, host, port, prefix.
fn told(received: &Received) -> [String; 4] {
    ["proto", "host", "port", "prefix"].map(|name| received.header(&format!("x-forwarded-{name}")).concat())
}

const FOR: (&str, &str) = ("X-Forwarded-For", "203.0.113.7");
const PROTO: &str = "X-Forwarded-Proto";

#[test]
fn t05_who_is_trusted_says_how_a_client_came() {
    if !report::may_run("forwarded") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let all: [(&str, &str); 6] = [
        FOR,
        (PROTO, "https"),
        ("X-Forwarded-Host", "Shop.Example."),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Prefix", "/shop"),
        ("Forwarded", "for=198.51.100.9;proto=http;host=other.example"),
    ];
    for (lines, expect) in [
        (&all[..], ["https", "shop.example", "8443", "/shop"]),
        (&[FOR][..], ["http", HOST, "", ""]),
        (&[(PROTO, "https")], ["https", HOST, "", ""]),
        (&[FOR, (PROTO, "wss")], ["https", HOST, "", ""]),
        // One element for each proxy, or one that was passed on; empty ones do not count.
        (&[FOR, (PROTO, "http, https,")], ["https", HOST, "", ""]),
        (&[("X-Forwarded-For", "203.0.113.7, 10.0.0.2,"), (PROTO, "https")], ["https", HOST, "", ""]),
        (&[("X-Forwarded-For", "203.0.113.7,, 10.0.0.2"), (PROTO, "https, http")], ["https", HOST, "", ""]),
        // What cannot be read is not believed.
        (&[FOR, (PROTO, "gopher"), ("X-Forwarded-Host", "a b")], ["http", HOST, "", ""]),
        (&[FOR, ("X-Forwarded-Port", "0"), ("X-Forwarded-Prefix", "//x")], ["http", HOST, "", ""]),
    ] {
        upstream.forget();
        assert_eq!(send(&world, BALANCER, 8080, lines).status, 200, "{lines:?}");
        let received = upstream.received().remove(0);
        assert_eq!(told(&received), expect, "{lines:?}");
        assert_eq!(received.header("host"), [HOST], "{lines:?}");
        assert!(received.header("forwarded").is_empty(), "{lines:?}");
        // Anybody else is who they are, and came as they did.
        upstream.forget();
        assert_eq!(send(&world, bystander(0), 8080, lines).status, 200, "{lines:?}");
        let received = upstream.received().remove(0);
        assert_eq!(told(&received), ["http", HOST, "", ""], "{lines:?}");
        assert_eq!(received.header("x-forwarded-for"), [bystander(0).to_string()], "{lines:?}");
    }
    assert_eq!(send(&world, BALANCER, 8080, &[("X-Forwarded-For", "nobody")]).status, 400);

    // Who came by HTTPS is not sent there, and is told to stay.
    for (from, lines, status, hsts) in [
        (BALANCER, &[FOR, (PROTO, "https")][..], 200, Some("max-age=60")),
        (BALANCER, &[FOR, (PROTO, "http")], 308, None),
        (BALANCER, &[FOR], 308, None),
        (bystander(0), &[FOR, (PROTO, "https")], 308, None),
    ] {
        assert_eq!(send(&world, from, 8081, lines).status, status, "{from} {lines:?}");
        let answer = send(&world, from, 8080, lines);
        assert_eq!(answer.header("strict-transport-security"), hsts, "{from} {lines:?}");
    }

    // An id that can be one is the request's, for upstream, client and log; no other is.
    let id = "7b1e2f00-9c1a-4f6e-8a54-1a2b3c4d5e6f";
    for (from, sent, believed) in
        [(BALANCER, id, true), (BALANCER, "a b", false), (BALANCER, "a\"b", false), (bystander(0), id, false)]
    {
        upstream.forget();
        let answer = send(&world, from, 8080, &[FOR, ("X-Request-ID", sent)]);
        let received = upstream.received().remove(0);
        assert_eq!(received.header("x-request-id"), [answer.id()], "{from} {sent}");
        assert_eq!(answer.id() == sent, believed, "{from} {sent}");
    }
    let line = until("the log", SOON, || daemon.access_log().into_iter().find(|line| line["request_id"] == id));
    assert_ne!(line["id"], id, "the gateway's own is there, too: {line}");
    assert_eq!(daemon.access_log().iter().filter(|line| !line["request_id"].is_null()).count(), 1);
    let refused = send(&world, BALANCER, 8080, &[FOR, ("X-Request-ID", id), ("Expect", "x")]);
    assert_eq!((refused.status, refused.id().as_str(), &refused.json()["request_id"]), (417, id, &id.into()));
}

#[test]
fn t05_forwarded_is_the_other_kind() {
    if !report::may_run("forwarded: RFC 7239") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings("client_header = \"forwarded\""));
    for (forwarded, expect) in [
        ("for=203.0.113.7;proto=https;host=shop.example", ["https", "shop.example", "", ""]),
        ("for=203.0.113.7;proto=https;host=\"a:8443\", for=10.0.0.2;proto=http", ["https", "a:8443", "", ""]),
        ("for=198.51.100.1;proto=https, for=203.0.113.7", ["http", HOST, "", ""]),
        (", for=203.0.113.7;proto=HTTPS,", ["https", HOST, "", ""]),
    ] {
        upstream.forget();
        let lines = [
            ("Forwarded", forwarded),
            (PROTO, "http"),
            ("X-Forwarded-Host", "other.example"),
            ("X-Forwarded-Prefix", "/other"),
            ("X-Forwarded-For", "198.51.100.9"),
        ];
        assert_eq!(send(&world, BALANCER, 8080, &lines).status, 200, "{forwarded}");
        let received = upstream.received().remove(0);
        assert_eq!(told(&received), expect, "{forwarded}");
        assert_eq!(received.header("x-forwarded-for"), ["203.0.113.7"], "{forwarded}");
    }
}
