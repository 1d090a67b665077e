//! Clients behind a load balancer: who they are, and that a ban of one is a ban of no other (T04, T06, D05).

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, send},
    http1::{Client, Connection, Request, TIMEOUT},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GATEWAY_V4, GOOD_V4, World, bystander},
};

/// Plays the load balancer.
const BALANCER: IpAddr = GOOD_V4;
const BAD: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const STRIKES: u32 = 5;
const SILENCE: Duration = Duration::from_millis(300);

fn settings(proxy: &str) -> Settings {
    let served = Settings::default();
    let more = "[[listener]]\naddress = \"10.0.0.1:8080\"\nproxy_protocol = true\n";
    Settings {
        proxy: format!("trusted_proxies = [\"10.0.0.2\"]\n{proxy}"),
        rules: bad_tokens(STRIKES, "10m"),
        listeners: served.listeners.clone() + more,
        ..served
    }
}

/// A request that the balancer relays, as most append to what they got.
fn relayed(client: &str, token: &str) -> Request {
    let chain = format!("198.51.100.{}, {client}", client.len());
    Request::new("GET", "/items/7").token(token).header("X-Forwarded-For", &chain)
}

fn entry(daemon: &Daemon<'_>, source: &str) -> Option<Value> {
    let list = daemon.done(&["block", "list"]);
    list["entries"].as_array().unwrap().iter().find(|entry| entry["source"] == source).cloned()
}

#[test]
fn a_ban_behind_a_load_balancer_hits_one_client() {
    if !report::may_run("relay") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let (good, forged) = (tokens::good("ada", &["reader"]), tokens::forged("eve", &["reader"]));
    let mut balancer = Client::new(&world, BALANCER).connect().unwrap();
    let mut status = |request: &Request| balancer.exchange(request).unwrap().status;

    for _ in 0..STRIKES {
        assert_eq!(status(&relayed(BAD, &forged)), 401);
    }
    let banned = until("the ban", SOON, || entry(&daemon, BAD));
    assert_eq!((&banned["relay"], &banned["actor"]), (&"10.0.0.2".into(), &"rule:bad-tokens".into()), "{banned}");
    until("the proxy to hear of it", SOON, || (status(&relayed(BAD, &good)) == 403).then_some(()));
    // The same connection goes on for everybody else.
    assert_eq!(status(&relayed(NEIGHBOUR, &good)), 200);
    let forwarded = upstream.received().pop().unwrap();
    assert_eq!(forwarded.header("x-forwarded-for"), [NEIGHBOUR], "one address, the client's");
    assert_eq!(status(&Request::new("GET", "/health")), 200, "the balancer's own");
    // The kernel has neither the client nor the balancer.
    assert_eq!(daemon.done(&["why", "10.0.0.2"])["verdict"], "allowed");
    assert_eq!(daemon.cli(&["block", "add", "10.0.0.2"]).json["code"], "allowlisted");
    assert!(entry(&daemon, "10.0.0.2").is_none());
    let why = until("what was refused", SOON, || {
        let why = daemon.done(&["why", BAD]);
        why["entry"]["refused"].as_u64().is_some_and(|refused| refused > 0).then_some(why)
    });
    assert_eq!((&why["verdict"], &why["entry"]["relay"]), (&"blocked".into(), &"10.0.0.2".into()), "{why}");
    assert_eq!(daemon.packets("blocked"), 0);

    // What an operator blocks is blocked here, too.
    daemon.done(&["block", "add", "203.0.113.32/28"]);
    assert_eq!(status(&relayed("203.0.113.40", &good)), 403);
    daemon.done(&["block", "del", "203.0.113.32/28"]);
    assert_eq!(status(&relayed("203.0.113.40", &good)), 200);

    // T04: what cannot be read is no client's, and the balancer is not to blame.
    for wrong in ["garbage", "unknown", "fe80::1%eth0", "203.0.113"] {
        let request = Request::new("GET", "/items/7").token(&good).header("X-Forwarded-For", wrong);
        assert_eq!(Client::new(&world, BALANCER).send(&request).unwrap().status, 400, "{wrong}");
    }

    // T06: the PROXY protocol, from the balancer alone.
    let target = SocketAddr::new(GATEWAY_V4, 8080);
    let introduced = |from: IpAddr, header: &[u8]| {
        let mut stream = world.outside.connect(from, target, TIMEOUT).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = Request::new("GET", "/items/7").token(&good).header("X-Forwarded-For", BAD);
        drop(stream.write_all(&[header, &request.bytes()].concat()));
        Connection::plain(stream).response("GET").ok().map(|answer| answer.status)
    };
    let line = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 40000 443\r\n").into_bytes();
    assert_eq!(introduced(BALANCER, &line(NEIGHBOUR)), Some(200), "and its own header is not believed");
    assert_eq!(upstream.received().pop().unwrap().header("x-forwarded-for"), [NEIGHBOUR]);
    assert_eq!(introduced(BALANCER, &line(BAD)), None, "banned");
    assert_eq!(introduced(BALANCER, b"PROXY TCP4 nobody\r\n"), None);
    assert_eq!(introduced(BALANCER, b""), None, "the header is not optional");
    assert_eq!(introduced(bystander(0), &line(NEIGHBOUR)), None, "not from anybody");
    assert_eq!(introduced(bystander(0), b""), None);

    // T04, D05: whoever is not trusted is who they are, whatever they say.
    let attacker = Client::new(&world, ATTACKER_V4);
    assert_eq!(attacker.send(&relayed(BAD, &good)).unwrap().status, 200, "a banned name is no ban");
    for strike in 0..STRIKES {
        let request = relayed(&format!("203.0.113.{}", 100 + strike), &forged);
        assert_eq!(attacker.send(&request).unwrap().status, 401);
    }
    until("the attacker's ban", SOON, || attacker.is_ignored(SILENCE).then_some(()));
    assert!(entry(&daemon, "10.0.0.66").unwrap()["relay"].is_null());
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().unwrap().len(), 2, "nobody that was named");

    // Another proxy is told.
    let pid = daemon.proxy_pid();
    send(pid, Signal::SIGKILL);
    daemon.proxy_pid_other_than(pid);
    let status = |client: &str| Client::new(&world, BALANCER).send(&relayed(client, &good)).map(|it| it.status);
    until("the new proxy", SOON, || status(NEIGHBOUR).ok().filter(|status| *status == 200));
    assert_eq!(status(BAD).unwrap(), 403);
    daemon.done(&["block", "del", BAD]);
    assert_eq!(status(BAD).unwrap(), 200);
}

/// RFC 7239 in place of `X-Forwarded-For`, which is not read then.
#[test]
fn a_ban_behind_a_load_balancer_ends_what_is_being_served() {
    if !report::may_run("relay: in flight") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let balancer = Client::new(&world, BALANCER);
    let ask = |path: &str, client: &str| {
        let mut connection = balancer.connect().unwrap();
        let request = Request::new("GET", path).header("X-Forwarded-For", client);
        connection.write(&request.bytes()).unwrap();
        connection
    };
    let mut streams = [BAD, NEIGHBOUR].map(|client| ask("/stream?60", client));
    for stream in &mut streams {
        assert_eq!(stream.head().unwrap().status, 200);
        assert!(stream.chunk().unwrap().is_some());
    }
    let mut waits = [BAD, NEIGHBOUR].map(|client| ask("/slow?1500", client));
    until("all to be served", SOON, || (upstream.received().len() == 4).then_some(()));
    daemon.done(&["block", "add", BAD]);
    let whole = |stream: &mut Connection| loop {
        match stream.chunk() {
            Ok(Some(_)) => {}
            ended => return ended.is_ok(),
        }
    };
    assert_eq!(streams.each_mut().map(whole), [false, true], "cut off, and it shows");
    assert_eq!(waits.each_mut().map(|wait| wait.response("GET").unwrap().status), [403, 200]);
}

#[test]
fn exactly_one_header_is_read() {
    if !report::may_run("relay: forwarded") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings("client_header = \"forwarded\""));
    let request = Request::new("GET", "/health").header("X-Forwarded-For", BAD);
    let request = request.header("Forwarded", "for=\", for=\"203.0.113.8:4711\";proto=https");
    assert_eq!(Client::new(&world, BALANCER).send(&request).unwrap().status, 200);
    assert_eq!(upstream.received().pop().unwrap().header("x-forwarded-for"), [NEIGHBOUR]);
    assert_eq!(Client::new(&world, bystander(0)).send(&request).unwrap().status, 200);
    assert_eq!(upstream.received().pop().unwrap().header("x-forwarded-for"), ["10.0.0.100"]);
}

/// The PROXY protocol to an upstream: each connection is one client's.
#[test]
fn upstreams_are_told_by_the_proxy_protocol() {
    if !report::may_run("relay: upstream") {
        return;
    }
    for version in ["v1", "v2"] {
        let world = World::new();
        let listener = world.gate.enter(|| TcpListener::bind("127.0.0.1:9000")).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || echo_start(&mut stream));
            }
        });
        let upstream = "servers = [\"127.0.0.1:9000\"]\nproxy_protocol = \"VERSION\"\n".replace("VERSION", version);
        let _daemon = Daemon::start(&world, &Settings { upstream, ..settings("") });
        let mut balancer = Client::new(&world, BALANCER).connect().unwrap();
        for client in [BAD, NEIGHBOUR, BAD] {
            let request = Request::new("GET", "/health").header("X-Forwarded-For", &format!("{client}:4711"));
            let answer = balancer.exchange(&request).unwrap();
            assert_eq!(answer.text(), format!("PROXY TCP4 {client} 10.0.0.1 4711 443"), "{version}");
        }
    }
}

/// Answers one request after another with the first line of the connection.
fn echo_start(stream: &mut TcpStream) -> Option<()> {
    let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
    // Behind the binary header, which holds an empty line itself.
    let has_head = |seen: &[u8]| {
        let start = if seen.starts_with(BINARY) { 28 } else { 0 };
        seen.get(start..).is_some_and(|head| head.windows(4).any(|window| window == b"\r\n\r\n"))
    };
    loop {
        while !has_head(&seen) {
            let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
            seen.extend_from_slice(&piece[..read]);
        }
        let line = match seen.strip_prefix(BINARY) {
            Some(binary) => told(binary.first_chunk()?),
            None => String::from_utf8_lossy(&seen).lines().next()?.to_owned(),
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len());
        stream.write_all(answer.as_bytes()).ok()?;
        seen.clear();
    }
}

/// How a header of version 2 begins.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the rest of such a header says, as version 1 has it.
fn told(header: &[u8; 16]) -> String {
    let [version, family, 0, 12, addresses @ ..] = header else { return format!("{header:02x?}") };
    let [a, b, c, d, e, f, g, h, from_high, from_low, to_high, to_low] = addresses;
    let port = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
    let (from, to) = (port(from_high, from_low), port(to_high, to_low));
    match (version, family) {
        (0x21, 0x11) => format!("PROXY TCP4 {a}.{b}.{c}.{d} {e}.{f}.{g}.{h} {from} {to}"),
        _ => format!("{header:02x?}"),
    }
}
