//! Connections that become tunnels, and those that must not: F12, H15, W01, W02.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request, Response, TIMEOUT},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm},
    wait::{SOON, pause, until},
    world::{GOOD_V4, Namespace, World},
};

/// RFC 6455 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// `Hello`, masked and not (RFC 6455 5.7).
const MASKED: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const PLAIN: [u8; 7] = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];

/// What a route changes of requests and answers, those that open tunnels too.
const EDITS: &str = "strip_prefix = \"/edited\"\nrequest_headers = { set = { x-tenant = \"a\" } }\n\
                     response_headers = { set = { x-served-by = \"b\" } }";

mod token;

pub(crate) type Heads = Arc<Mutex<Vec<String>>>;

/// Serves on `port` of the loopback in `namespace`, until the test process ends, whatever the path asks for.
pub(crate) fn serve(namespace: &Namespace, port: u16) -> Heads {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let listener = namespace.enter(|| TcpListener::bind(address)).expect("the upstream's address");
    let heads = Heads::default();
    let kept = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heads = Arc::clone(&kept);
            thread::spawn(move || drop(converse(stream, &heads)));
        }
    });
    heads
}

fn converse(mut stream: TcpStream, heads: &Heads) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split([' ', '?']).nth(1).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        heads.lock().unwrap().push(head.clone());
        let switch = |protocol: &str, accept: &str| {
            // It agrees on the first protocol that it is offered.
            let offered = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            let agreed = offered.and_then(|offered| offered.split(", ").next());
            let agreed = agreed.map(|agreed| format!("Sec-WebSocket-Protocol: {agreed}\r\n")).unwrap_or_default();
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n{agreed}\r\n"
            )
        };
        match name.as_str() {
            "echo" | "raw" if head.contains("upgrade: websocket") => {
                stream.write_all(switch("websocket", ACCEPT).as_bytes())?;
            }
            "accept" => stream.write_all(switch("websocket", "x3pPLMBiTxaQ9kYGzzhZRbK+xOo=").as_bytes())?,
            "protocol" => stream.write_all(switch("h2c", ACCEPT).as_bytes())?,
            "426" => {
                stream
                    .write_all(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno")?;
                continue;
            }
            _ => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhttp")?;
                continue;
            }
        }
        if name == "raw" {
            let mut writer = stream.try_clone()?;
            io::copy(&mut stream, &mut writer)?;
            return Ok(());
        }
        loop {
            let mut frame = [0; 6];
            stream.read_exact(&mut frame)?;
            let mut text = vec![0; usize::from(frame[1] & 0x7f)];
            stream.read_exact(&mut text)?;
            text.iter_mut().zip(frame[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            stream.write_all(&[frame[0], frame[1] & 0x7f])?;
            stream.write_all(&text)?;
        }
    }
}

fn settings(timeouts: &str) -> Settings {
    let may = "upgrade = [\"websocket\"]\norigins = [\"https://app.example\"]";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: [
            route("/ws/{name}", "[\"GET\", \"POST\"]", "[\"items:read\"]", may),
            route("/open/{name}", "[\"GET\"]", "[\"public\"]", may),
            route("/late/{name}", "[\"GET\"]", "[\"authenticated\"]", &format!("{may}\noutlives_token = true")),
            route("/http/{name}", "[]", "[\"public\"]", ""),
            route("/edited/{*rest}", "[\"GET\"]", "[\"public\"]", &format!("{may}\n{EDITS}")),
        ]
        .concat(),
        proxy: "workers = 1\ndrain = \"3s\"".to_owned(),
        timeouts: timeouts.to_owned(),
        jwt: "leeway = \"0s\"".to_owned(),
        upstream: "servers = [\"127.0.0.1:9001\"]\n".to_owned(),
        ..Settings::default()
    }
}

pub(crate) fn upgrade(target: &str) -> Request {
    let request = Request::new("GET", target).header("Connection", "Upgrade").header("Upgrade", "websocket");
    request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", KEY)
}

pub(crate) fn open(client: &Client<'_>, request: &Request) -> (Connection, Response) {
    let mut connection = client.connect().unwrap();
    connection.write(&request.bytes()).unwrap();
    let head = connection.head().unwrap();
    (connection, head)
}

#[track_caller]
pub(crate) fn greets(connection: &mut Connection) {
    connection.write(&MASKED).unwrap();
    assert_eq!(connection.raw(PLAIN.len()).unwrap(), PLAIN);
}

#[test]
fn w01_w02_websockets() {
    if !report::may_run("tunnel") {
        return;
    }
    let world = World::new();
    let heads = serve(&world.gate, 9001);
    let daemon = Daemon::start(&world, &settings("tunnel_idle = \"1s\""));
    let client = Client::new(&world, GOOD_V4);
    let good = tokens::good("ada", &["reader"]);

    let (mut connection, head) =
        open(&client, &upgrade("/ws/echo?x=1").token(&good).header("Origin", "https://app.example"));
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert!(head.header("content-length").is_none() && head.header("transfer-encoding").is_none());
    for _ in 0..3 {
        greets(&mut connection);
    }
    // Byte by byte, and then more than anything on the way holds, while nobody reads.
    MASKED.iter().for_each(|&byte| connection.write(&[byte]).unwrap());
    assert_eq!(connection.raw(PLAIN.len()).unwrap(), PLAIN);
    drop(connection);
    let line = until("the tunnel's line", SOON, || {
        daemon.access_log().into_iter().find(|line| line["path"] == "/ws/echo" && line["status"] == 101)
    });
    assert_eq!(line["principal"], "ada");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(44), &json!(28)), "{line}");

    let (mut connection, head) = open(&client, &upgrade("/edited/echo").header("X-Tenant", "spoofed"));
    assert_eq!((head.status, head.header("x-served-by")), (101, Some("b")));
    greets(&mut connection);
    let reached = heads.lock().unwrap().last().cloned().unwrap_or_default();
    assert!(reached.starts_with("GET /echo HTTP/1.1\r\n") && reached.contains("x-tenant: a\r\n"), "{reached}");
    drop(connection);

    let (mut connection, head) = open(&client, &upgrade("/open/raw"));
    assert_eq!(head.status, 101);
    let block = vec![7; 64 * 1_024];
    for _ in 0..32 {
        connection.write(&block).unwrap();
        assert_eq!(connection.raw(block.len()).unwrap(), block);
    }
    // Nothing passes: it ends.
    let since = Instant::now();
    connection.set_timeout(TIMEOUT).unwrap();
    assert!(connection.ends() && since.elapsed() > Duration::from_millis(700), "{:?}", since.elapsed());
    let line = until("the line of the idle one", SOON, || {
        daemon.access_log().into_iter().find(|line| line["path"] == "/open/raw")
    });
    assert_eq!(line["detail"], "timeouts.tunnel_idle", "{line}");
    assert_eq!(line["bytes_in"], 32 * 64 * 1_024, "{line}");
}

/// What is refused, or served as HTTP: its connection goes on as HTTP where it goes on at all.
#[test]
fn w01_w02_what_becomes_no_websocket() {
    if !report::may_run("tunnel: none") {
        return;
    }
    let world = World::new();
    let heads = serve(&world.gate, 9001);
    let _daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let twice = |request: Request| request.header("Upgrade", "websocket");
    for (case, request, status, reaches) in [
        ("no token", upgrade("/ws/echo"), 401, false),
        ("forged token", upgrade("/ws/echo").token(&tokens::forged("eve", &["reader"])), 401, false),
        ("no role", upgrade("/ws/echo").token(&tokens::good("bob", &["nobody"])), 403, false),
        ("W02", upgrade("/open/echo").header("Origin", "https://evil.example"), 403, false),
        ("W02", upgrade("/open/echo").header("Origin", "null"), 403, false),
        ("W01", upgrade("/open/echo").header("Sec-WebSocket-Key", KEY), 400, false),
        ("W01", upgrade("/open/echo").header("Sec-WebSocket-Version", "8"), 426, false),
        ("body", upgrade("/open/echo").body("text/plain", b"GET /http/smuggled HTTP/1.1\r\n\r\n"), 400, false),
        ("W01", upgrade("/open/426"), 426, true),
        ("W01", upgrade("/open/200"), 200, true),
        ("W01", upgrade("/open/accept"), 502, true),
        ("H15", upgrade("/open/protocol"), 502, true),
        ("not allowed", upgrade("/http/echo"), 200, true),
        ("two", twice(upgrade("/open/echo")), 200, true),
        (
            "H15",
            Request::new("GET", "/open/echo")
                .header("Connection", "Upgrade, HTTP2-Settings")
                .header("Upgrade", "h2c")
                .header("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            200,
            true,
        ),
        ("no Connection", Request::new("GET", "/open/echo").header("Upgrade", "websocket"), 200, true),
    ] {
        let before = heads.lock().unwrap().len();
        let mut connection = client.connect().unwrap();
        let response = connection.exchange(&request).unwrap();
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(heads.lock().unwrap().len() > before, reaches, "{case}");
        // RFC 9110 7.8: ours says by which protocol to come, and names that header.
        if status == 426 && !reaches {
            let told = [response.header("upgrade"), response.header("connection")];
            assert_eq!(told, [Some("websocket"), Some("upgrade")], "{response:?}");
        }
        if matches!(status, 200 | 426) {
            let after = connection.exchange(&Request::new("GET", "/http/after")).unwrap();
            assert_eq!((after.status, after.text().as_str()), (200, "http"), "{case}");
        }
    }
    assert!(!heads.lock().unwrap().iter().any(|head| head.contains("smuggled")));
    let told = heads.lock().unwrap().iter().filter(|head| head.contains("/http/echo")).cloned().collect::<String>();
    assert!(!told.to_ascii_lowercase().contains("upgrade"), "{told}");
}

/// F12: what a client sends before it knows of a tunnel is a request, or nothing.
#[test]
fn f12_early_bytes_reach_nobody() {
    if !report::may_run("tunnel: early") {
        return;
    }
    let world = World::new();
    let heads = serve(&world.gate, 9001);
    let _daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let secret = "GET /ws/secret HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for (name, more, status) in [("echo", secret, 400), ("echo", "x", 400), ("echo", "\r\n", 400), ("200", secret, 200)]
    {
        let mut connection = client.connect().unwrap();
        let bytes = [upgrade(&format!("/open/{name}")).bytes(), more.as_bytes().to_vec()].concat();
        connection.write(&bytes).unwrap();
        let response = connection.response("GET").unwrap();
        assert_eq!(response.status, status, "{name} {more:?}");
        match status {
            // A request like any other: judged.
            200 => assert_eq!(connection.response("GET").unwrap().status, 401),
            _ => assert!(connection.ends()),
        }
    }
    assert!(!heads.lock().unwrap().iter().any(|head| head.contains("secret")));
}

/// W02: a tunnel ends with what it was opened by.
#[test]
fn w02_tunnels_end() {
    if !report::may_run("tunnel: ends") {
        return;
    }
    let world = World::new();
    let _heads = serve(&world.gate, 9001);
    let mut daemon = Daemon::start(&world, &settings("tunnel = \"12s\""));
    let client = Client::new(&world, GOOD_V4);
    let mut claims = tokens::claims("ada", &["reader"]);
    claims["exp"] = json!(tokens::now() + 6);
    let short = tokens::ISSUERS.token(Algorithm::Es256, &claims);
    let (mut expiring, head) = open(&client, &upgrade("/ws/echo").token(&short));
    assert_eq!(head.status, 101);
    let (mut late, head) = open(&client, &upgrade("/late/echo").token(&short));
    assert_eq!(head.status, 101);
    greets(&mut late);
    expiring.set_timeout(TIMEOUT).unwrap();
    assert!(expiring.ends());
    greets(&mut late);
    late.set_timeout(SOON).unwrap();
    assert!(late.ends(), "it outlives timeouts.tunnel");
    let log = until("both lines", SOON, || Some(daemon.access_log()).filter(|log| log.len() >= 2));
    let detail = |path: &str| log.iter().find(|line| line["path"] == path).unwrap()["detail"].clone();
    assert_eq!((detail("/ws/echo"), detail("/late/echo")), (json!("token expired"), json!("timeouts.tunnel")));

    let (mut banned, _) = open(&client, &upgrade("/open/echo"));
    greets(&mut banned);
    daemon.done(&["block", "add", "10.0.0.2", "--for", "1h"]);
    banned.set_timeout(TIMEOUT).unwrap();
    assert!(banned.ends(), "a ban leaves a tunnel open");
    daemon.done(&["block", "del", "10.0.0.2"]);

    let (mut drained, _) = open(&client, &upgrade("/open/echo"));
    let since = Instant::now();
    daemon.signal(Signal::SIGTERM);
    pause(Duration::from_millis(200));
    greets(&mut drained);
    drained.set_timeout(TIMEOUT).unwrap();
    assert!(drained.ends() && since.elapsed() > Duration::from_millis(2_500), "{:?}", since.elapsed());
    assert!(daemon.ended().success());
}

/// M02: what was asked of a proxy before it left is opened, and lasts as long as the drain.
#[test]
fn m02_a_tunnel_is_opened_in_a_drain() {
    if !report::may_run("tunnel: drain") {
        return;
    }
    let world = World::new();
    let _heads = serve(&world.gate, 9001);
    let settings = Settings { proxy: "workers = 1\ndrain = \"5s\"".to_owned(), ..settings("") };
    let mut daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let bytes = upgrade("/open/echo").bytes();
    let (begun, rest) = bytes.split_at(20);
    let mut connection = client.connect().unwrap();
    connection.write(begun).unwrap();
    daemon.signal(Signal::SIGTERM);
    connection.write(rest).unwrap();
    let head = connection.head().unwrap();
    let named = head.header("connection").unwrap_or_default().to_ascii_lowercase();
    assert_eq!((head.status, named.as_str()), (101, "upgrade"));
    greets(&mut connection);
    connection.set_timeout(TIMEOUT).unwrap();
    assert!(connection.ends(), "a tunnel outlives the drain");
    assert!(daemon.ended().success());
}
