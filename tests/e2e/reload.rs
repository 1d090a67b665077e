//! A configuration that comes into force while everything goes on: connections, streams, tunnels, limits, rules (M02).

use std::{
    env, fs,
    io::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    admin,
    daemon::{Daemon, send},
    http1::{Client, Connection, Request, TIMEOUT, tls},
    http2,
    http2_call::Call,
    pki::HOST,
    report,
    settings::{Settings, bad_tokens, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

use crate::tunnel::{greets, open, serve, upgrade};

/// How many reloads keep everything; more where somebody has the time.
fn rounds() -> usize {
    env::var("GATEWAY_RELOADS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

/// How many requests a limited client has, for longer than any test runs.
const FEW: usize = 5;

/// How many routes there are where one of them changes; 1,000 by `cargo xtask bench reloads`.
fn routes() -> usize {
    env::var("GATEWAY_ROUTES").ok().and_then(|routes| routes.parse().ok()).unwrap_or(100)
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
    let limited = "[[route]]\nname = \"few\"\npath = \"/few\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\n\
        respond = { status = 200, body = \"one of few\" }\n";
    let defaults = Settings::default();
    Settings {
        interfaces: Vec::new(),
        proxy: "workers = 2\ndrain = \"1s\"".to_owned(),
        routes: defaults.routes.clone() + sockets + limited + &fixed("version 0"),
        more: format!(
            "[upstream.sockets]\nservers = [\"127.0.0.1:9001\"]\n\
             [limit.few]\nrequests = {FEW}\nper = \"1h\"\nroutes = [\"few\"]\n"
        ),
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
    let daemon = Daemon::start(&world, &settings());
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
    let limited = Client::new(&world, bystander(0));
    let mut admitted = 0;

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
            // Who has used up what there is gets nothing more by a reload.
            let status = limited.get("/few", "").unwrap().status;
            admitted += usize::from(status == 200);
            assert_eq!((status, admitted), if round > FEW { (429, FEW) } else { (200, round) }, "{round}");
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

/// A token that was verified once is known after every reload, as long as nothing about tokens has changed.
#[test]
fn m02_no_token_is_verified_again() {
    if !report::may_run("reload: tokens") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let before = settings();
    let daemon = Daemon::start(&world, &Settings { more: before.more.clone() + admin::TABLE, ..before });
    let client = Client::new(&world, GOOD_V4);
    let mut kept = client.connect().unwrap();
    let holders: Vec<String> = (0..8).map(|number| tokens::good(&format!("holder-{number}"), &["reader"])).collect();
    let mut all_are_served = |token: &[String]| {
        for token in token {
            assert_eq!(kept.exchange(&Request::new("GET", "/items/1").token(token)).unwrap().status, 200);
        }
    };
    let accepted = "gateway_authentications_total{result=\"accepted\"}";
    // What the proxy has counted once it has told of so many.
    let verified = |requests: usize| {
        until(&format!("{requests} requests to be told"), SOON, || {
            let text = admin::get(&world, "/metrics", "").ok()?.text();
            let told = admin::value(&text, accepted)?;
            // Both are told in one message.
            (told >= requests as f64).then(|| admin::value(&text, "gateway_token_verifications_total")).flatten()
        })
    };
    all_are_served(&holders);
    let many = holders.len();
    assert_eq!(verified(many), many as f64, "each is verified once");
    for round in 1..=rounds() {
        daemon.edit(&format!("version {}", round - 1), &format!("version {round}"));
        daemon.done(&["reload"]);
        all_are_served(&holders);
    }
    assert_eq!(verified(many * (rounds() + 1)), many as f64, "tokens are verified again after a reload");
    // Other settings of tokens: nothing that was verified by the former ones counts.
    daemon.edit("type = \"at+jwt\"", "type = \"at+jwt\"\nleeway = \"7s\"");
    daemon.done(&["reload"]);
    all_are_served(&holders);
    assert_eq!(verified(many * (rounds() + 2)), 2.0 * many as f64);
}

/// From the command until the changed route is served by it, on a connection that was there before. Told, and not judged: a
/// machine that runs tests is busy.
#[test]
fn one_changed_route_of_many_comes_into_force() {
    if !report::may_run("reload: one route") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let many: String = (0..routes())
        .map(|number| route(&format!("/tenants/{number}/items/{{id}}"), "[\"GET\"]", "[\"items:read\"]", ""))
        .collect();
    let settings = Settings { routes: settings().routes + &many, ..settings() };
    let daemon = Daemon::start(&world, &settings);
    let (mut kept, proxy) = (Client::new(&world, GOOD_V4).connect().unwrap(), daemon.proxy_pid());
    let mut times: Vec<Duration> = (0..(rounds() / 4).max(3))
        .map(|round| {
            let (before, after) = (format!("version {round}"), format!("version {}", round + 1));
            assert_eq!(version(&mut kept), before);
            daemon.edit(&before, &after);
            let start = Instant::now();
            daemon.done(&["reload"]);
            // What the answer says is so.
            assert_eq!(version(&mut kept), after);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert_eq!(daemon.proxy_pid(), proxy);
    report::note(&format!(
        "reload: one route of {} in force after {:.0?} (the middle of {}), {:.0?} at most",
        routes(),
        times[times.len() / 2],
        times.len(),
        times[times.len() - 1]
    ));
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
    let daemon = Daemon::start(&world, &Settings { listeners, ..settings() });
    let proxy = daemon.proxy_pid();
    let connect = |port: u16| -> io::Result<Connection> {
        let target = (support::world::GATEWAY_V4, port).into();
        let tcp = world.outside.connect(GOOD_V4, target, TIMEOUT)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
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
    let daemon = Daemon::start(&world, &settings());
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

/// A proxy is started that nobody has asked for: a reload waits for it and is not refused.
#[test]
fn a_reload_waits_for_a_proxy_that_takes_the_place_of_another() {
    if !report::may_run("reload: replaced") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let starts = || daemon.standard_error().matches("a proxy is starting").count();
    for round in 0..3 {
        let (proxy, before) = (daemon.proxy_pid(), starts());
        daemon.edit(&format!("version {round}"), &format!("version {}", round + 1));
        send(proxy, Signal::SIGKILL);
        until("another proxy", SOON, || (starts() > before).then_some(()));
        daemon.done(&["reload"]);
        assert_eq!(client.get("/version", "").unwrap().text(), format!("version {}", round + 1));
    }
}

/// A listener is added while the gateway runs, on a port that takes a right which no other process has any more.
#[test]
fn listeners_come() {
    if !report::may_run("reload: new listeners") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let proxy = daemon.proxy_pid();
    let connects =
        |port: u16| world.outside.connect(GOOD_V4, (support::world::GATEWAY_V4, port).into(), TIMEOUT).is_ok();
    let more = "[[listener]]\naddress = \"10.0.0.1:81\"\n";
    let listeners = settings().listeners;
    // Nothing of a reload that is refused stays: the second of its addresses is taken.
    let _taken = world.gate.enter(|| std::net::TcpListener::bind("10.0.0.1:82").unwrap());
    daemon.edit(&listeners, &format!("{listeners}{more}{}", more.replace(":81", ":82")));
    let told = daemon.cli(&["reload"]);
    assert_eq!((told.code, &told.json["code"]), (1, &"listener".into()), "{}", told.json);
    // The launcher, another process, lets go of its copy right behind the answer.
    until("the first one to be let go", SOON, || (!connects(81)).then_some(()));

    daemon.edit(&more.replace(":81", ":82"), "");
    daemon.edit("version 0", "version 1");
    daemon.done(&["reload"]);
    let mut plain = world.outside.connect(GOOD_V4, (support::world::GATEWAY_V4, 81).into(), TIMEOUT).unwrap();
    plain.set_read_timeout(Some(TIMEOUT)).unwrap();
    plain.write_all(format!("GET /version HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let answer = io::read_to_string(&mut plain).unwrap();
    assert!(answer.ends_with("version 1"), "{answer}");

    // The guard after this one serves there as well.
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    let _next = daemon.guard_pid_other_than(guard);
    assert!(connects(81));
    assert_eq!(daemon.proxy_pid(), proxy);
    daemon.edit(more, "");
    daemon.done(&["reload"]);
    until("the listener to be gone", SOON, || (!connects(81)).then_some(()));
}

/// Whenever the guard dies in a reload, it and the proxy are on one configuration in the end, and no request fails.
#[test]
fn m02_a_guard_that_dies_in_a_reload_leaves_one_configuration() {
    if !report::may_run("reload: death of the guard") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let served = || client.get("/version", "").unwrap().text();
    // Each beside a change that takes another process, and without.
    let others = [("drain = \"1s\"", "drain = \"2s\""), ("workers = 2", "workers = 2\npin_workers = true")];
    for (kind, (from, to)) in others.into_iter().enumerate() {
        daemon.edit(from, to);
        for round in 0..4 {
            let wanted = format!("version {}", 1 + kind * 4 + round);
            let (guard, before) = (daemon.guard_pid(), served());
            daemon.edit(&written(&daemon), &wanted);
            let log = || fs::read_to_string(world.folder.join("stderr.log")).unwrap();
            let compiles = || log().matches("compiles the new").count();
            let so_far = compiles();
            thread::scope(|scope| {
                let reload = scope.spawn(|| daemon.cli(&["reload"]));
                until("the proxy to be asked", SOON, || (compiles() > so_far).then_some(()));
                pause(Duration::from_millis(round as u64 * 15));
                send(guard, Signal::SIGKILL);
                assert!(served() == before || served() == wanted, "{wanted}");
                drop(reload.join());
            });
            let _next = daemon.guard_pid_other_than(guard);
            let in_force = until("one proxy", SOON, || {
                let status = daemon.status();
                let proxies = status["processes"].as_array()?.iter().filter(|process| process["role"] == "proxy");
                (proxies.count() == 1).then(served)
            });
            assert!(in_force == before || in_force == wanted, "{in_force}: {wanted}");
            // What the guard has in force is what a proxy gets that is started by it.
            let proxy = daemon.proxy_pid();
            send(proxy, Signal::SIGKILL);
            daemon.proxy_pid_other_than(proxy);
            assert_eq!(served(), in_force, "{wanted}");
        }
    }
    // The same again and again until it is in force: nothing of what was given up is in the way.
    daemon.done(&["reload"]);
    assert_eq!(served(), written(&daemon));
}

/// The version that the file on disk has.
fn written(daemon: &Daemon<'_>) -> String {
    let text = fs::read_to_string(&daemon.config).unwrap();
    let at = text.find("version ").unwrap();
    text[at..].split('"').next().unwrap().to_owned()
}
