//! A configuration that comes into force while everything goes on: connections, streams, tunnels, limits, rules (M02).

use std::{env, fs, io, thread, time::Duration};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, send},
    http1::{Client, Connection, PATIENCE, Request, tls},
    http2,
    http2_call::Call,
    pki::HOST,
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

use crate::tunnel::{greets, open, serve, upgrade};

/// How many reloads keep everything; more where somebody has the time.
fn rounds() -> usize {
    env::var("GATEWAY_RELOADS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

/// A fixed response, whose text says which configuration made it.
fn fixed(text: &str) -> String {
    format!(
        "[[route]]\npath = \"/version\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\n\
         respond = {{ status = 200, body = \"{text}\" }}\n"
    )
}

fn settings() -> Settings {
    let sockets = "[[route]]\npath = \"/open/{name}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\n\
        upstream = \"sockets\"\nupgrade = [\"websocket\"]\n";
    let defaults = Settings::default();
    Settings {
        interfaces: Vec::new(),
        proxy: "workers = 2\ndrain = \"1s\"".to_owned(),
        routes: defaults.routes.clone() + sockets + &fixed("version 0"),
        more: "[upstream.sockets]\nservers = [\"127.0.0.1:9001\"]\n".to_owned(),
        ..defaults
    }
}

fn version(connection: &mut Connection) -> String {
    let answer = connection.exchange(&Request::new("GET", "/version")).unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn m02_reloads_keep_whatever_is_open() {
    if !report::may_run("reload: open") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _heads = serve(&world.gate, 9001);
    let mut daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let proxy = daemon.proxy_pid();

    let (mut socket, head) = open(&client, &upgrade("/open/echo"));
    assert_eq!(head.status, 101);
    greets(&mut socket);
    // Ends by itself once everything has been reloaded: whoever reads it counts.
    let pieces = 20 * rounds() * 4;
    let stream = Request::new("GET", &format!("/stream?{pieces}"));
    let mut events = client.connect().unwrap();
    events.write(&stream.bytes()).unwrap();
    assert_eq!(events.head().unwrap().status, 200);
    assert!(events.chunk().unwrap().is_some());
    let mut kept = client.connect().unwrap();
    let many = client.caller().unwrap();

    thread::scope(|scope| {
        let download = scope.spawn(|| {
            client.send_http2(vec![http2::get("/stream?150", "")]).unwrap().remove(0).map(|answer| answer.into_body())
        });
        let mut after_warming = 0;
        for round in 1..=rounds() {
            let (before, after) = (format!("version {}", round - 1), format!("version {round}"));
            assert_eq!(version(&mut kept), before);
            daemon.edit(&before, &after);
            daemon.done(&["reload"]);
            // The connections that there were are served by it, too.
            assert_eq!(version(&mut kept), after, "round {round}");
            let request = http::Request::get(format!("https://{HOST}/version")).body(()).unwrap();
            let answer = many.begin(request, true).and_then(Call::answer).unwrap();
            assert_eq!(answer.body, after.as_bytes(), "round {round}");
            greets(&mut socket);
            assert!(events.chunk().unwrap().is_some(), "round {round}");
            if round == rounds() / 3 {
                after_warming = resident(daemon.proxy_pid());
            }
        }
        assert_eq!(daemon.proxy_pid(), proxy, "the same process");
        let grown = resident(proxy).saturating_sub(after_warming);
        report::note(&format!("reload: {} reloads, the proxy grew by {grown} KiB in the last two thirds", rounds()));
        assert!(grown < 8 * 1_024, "the proxy grew by {grown} KiB");
        let download = download.join().unwrap().unwrap();
        assert_eq!(download.iter().filter(|byte| **byte == b'\n').count(), 150, "the download is whole");
    });
    greets(&mut socket);
    // What is left of the stream comes as if nothing had happened.
    assert!(events.chunk().unwrap().is_some());
}

/// How many of `count` requests are served.
fn served(client: &Client<'_>, count: usize) -> usize {
    let mut connection = client.connect().unwrap();
    let statuses = (0..count).map(|_| connection.exchange(&Request::new("GET", "/health")).unwrap().status);
    statuses.filter(|status| *status == 200).count()
}

/// A changed rate continues the same counts: nobody gets a request more than the two rates allow together.
#[test]
fn m02_limits_and_rules_go_on_counting() {
    if !report::may_run("reload: counts") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let limit = |requests: u32| format!("[limit.address]\nrequests = {requests}\nper = \"1h\"\nburst = {requests}\n");
    let settings = Settings { rules: bad_tokens(4, "10m"), more: limit(10), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, bystander(0));
    assert_eq!(served(&client, 6), 6);
    daemon.edit("path = \"/nobody\"", "path = \"/nobody/else\"");
    daemon.done(&["reload"]);
    assert_eq!(served(&client, 9), 4, "nothing has changed for it");
    daemon.edit(&limit(10), &limit(16));
    let told = daemon.done(&["reload"])["message"].clone();
    assert!(told.as_str().unwrap().contains("\n  limit.address."), "what has changed: {told}");
    assert_eq!(served(&client, 9), 6, "ten are spent of sixteen");
    daemon.edit(&limit(16), &limit(3));
    daemon.done(&["reload"]);
    assert_eq!(served(&client, 3), 0);
    assert_eq!(served(&Client::new(&world, bystander(1)), 5), 3, "somebody else");

    // Two forged tokens before a reload that also moves the rule, two after it.
    let attacker = Client::new(&world, ATTACKER_V4);
    let forged = || attacker.get("/me", &tokens::forged("mallory", &[])).map(|answer| answer.status);
    daemon.edit(&limit(3), "");
    daemon.done(&["reload"]);
    assert_eq!((forged().unwrap(), forged().unwrap()), (401, 401));
    let other = bad_tokens(64, "1m").replace("bad-tokens", "another");
    daemon.edit(&bad_tokens(4, "10m"), &format!("{other}{}", bad_tokens(4, "20m")));
    daemon.done(&["reload"]);
    assert_eq!(forged().unwrap(), 401);
    drop(forged());
    until("the ban", SOON, || (daemon.status()["blocks"] == 1).then_some(()));
    let entry = &daemon.done(&["block", "list"])["entries"][0];
    assert_eq!(entry["source"], ATTACKER_V4.to_string(), "{entry}");
}

/// A listener that is gone accepts no more, and what goes on by it goes on.
#[test]
fn listeners_go() {
    if !report::may_run("reload: listeners") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _heads = serve(&world.gate, 9001);
    let tls_files = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let more = format!("[[listener]]\naddress = \"10.0.0.1:8443\"\n{tls_files}");
    // Before the others: their places in the file change.
    let listeners = more.clone() + &Settings::default().listeners;
    let mut daemon = Daemon::start(&world, &Settings { listeners, ..settings() });
    let proxy = daemon.proxy_pid();
    let connect = |port: u16| -> io::Result<Connection> {
        let target = (support::world::GATEWAY_V4, port).into();
        let tcp = world.outside.connect(GOOD_V4, target, Duration::from_secs(1))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Connection::secure(tcp, HOST, tls())
    };
    let mut kept = Client::new(&world, GOOD_V4).connect().unwrap();
    let [mut idle, mut busy, mut socket] = [8443; 3].map(|port| connect(port).unwrap());
    assert_eq!([version(&mut kept), version(&mut idle), version(&mut busy)], ["version 0"; 3]);
    socket.write(&upgrade("/open/echo").bytes()).unwrap();
    assert_eq!(socket.head().unwrap().status, 101);
    greets(&mut socket);
    busy.write(&Request::new("GET", "/slow?2000").bytes()).unwrap();

    daemon.edit(&more, "");
    daemon.edit("version 0", "version 1");
    daemon.done(&["reload"]);
    assert!(connect(8443).is_err(), "it accepts no more");
    assert_eq!(version(&mut kept), "version 1");
    let logged = daemon.logged(&kept.exchange(&Request::new("GET", "/health")).unwrap().id());
    assert_eq!(logged["listener"], "10.0.0.1:443", "{logged}");
    let answer = busy.response("GET").unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    until("the end of the idle connection", SOON, || idle.has_ended().then_some(()));
    greets(&mut socket);
    assert_eq!(daemon.proxy_pid(), proxy);
}

/// A proxy that dies in the middle of a reload leaves the configuration that was; one that dies after it, the new one.
#[test]
fn a_proxy_that_dies_comes_back_with_what_is_in_force() {
    if !report::may_run("reload: death") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let served = || client.get("/version", "").map(|answer| answer.text()).unwrap_or_default();
    let proxy = daemon.proxy_pid();
    daemon.edit("version 0", "version 1");
    // It has the configuration and does not answer.
    send(proxy, Signal::SIGSTOP);
    let told = thread::scope(|scope| {
        let reload = scope.spawn(|| daemon.cli(&["reload"]));
        until("the proxy to be asked", SOON, || daemon.standard_error().contains("compiles the new").then_some(()));
        assert_eq!(daemon.cli(&["reload"]).json["code"], "busy");
        send(proxy, Signal::SIGKILL);
        reload.join().unwrap()
    });
    assert_eq!((told.code, &told.json["code"]), (1, &"proxy_failed".into()), "{}", told.json);
    let proxy = daemon.proxy_pid_other_than(proxy);
    assert_eq!(served(), "version 0");
    assert_eq!(daemon.status()["reload_refused"]["code"], "proxy_failed");

    daemon.done(&["reload"]);
    send(proxy, Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    assert_eq!(served(), "version 1");
}
