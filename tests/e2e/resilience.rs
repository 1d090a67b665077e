//! Servers that fail, and what their clients notice of it (D04).

use std::{net::TcpListener, process::Command, thread, time::Duration};

use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    scripted::{Exchange, Scripted},
    settings::Settings,
    tokens,
    upstream::Upstream,
    upstream_http2::{Http2Upstream, Kind},
    wait::{SOON, until},
    world::{GOOD_V4, World, bystander},
};

use super::alerts;

const BOTH: &str = "servers = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]\n";

fn settings(upstream: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 2".to_owned(),
        timeouts: "response = \"2s\"".to_owned(),
        upstream: format!("{BOTH}{upstream}"),
        ..Settings::default()
    }
}

fn state(daemon: &Daemon<'_>, server: usize) -> Value {
    daemon.status()["upstreams"][0]["servers"][server][1].clone()
}

/// Closes every connection once it has read of it.
fn closing(world: &World, address: &str) {
    let listener = world.gate.enter(|| TcpListener::bind(address)).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut piece = [0; 4_096];
            drop(std::io::Read::read(&mut stream, &mut piece));
        }
    });
}

#[test]
fn health_checks_take_servers_out_and_back() {
    if !report::may_run("resilience: health") {
        return;
    }
    let world = World::new();
    let first = Upstream::start(&world.gate, "127.0.0.1:9001");
    let second = Upstream::start(&world.gate, "127.0.0.1:9002");
    let check =
        "slow_start = \"1s\"\n[upstream.items.health]\npath = \"/health\"\ninterval = \"100ms\"\nunhealthy = 2\n";
    let more = format!("{}{}", admin::TABLE, alerts::NEVER);
    let daemon = Daemon::start(&world, &Settings { more, ..settings(check) });
    let client = Client::new(&world, GOOD_V4);
    until("checks", SOON, || (second.received().len() > 2).then_some(()));
    let checked = second.received().pop().unwrap();
    assert_eq!((&*checked.target, checked.header("user-agent")), ("/health", vec!["gateway-health"]));
    drop(second);
    until("the server to be down", SOON, || (state(&daemon, 1) == "down").then_some(()));
    let status = daemon.status();
    let warned =
        status["warnings"].as_array().unwrap().iter().any(|it| it.as_str().unwrap().contains("127.0.0.1:9002"));
    assert!(warned, "{status}");
    assert!((0..10).all(|_| client.get("/health", "").unwrap().status == 200));
    until("the alert", SOON, || {
        let servers = alerts::firing(&daemon, "upstream_server_down", "server");
        servers.iter().eq(["127.0.0.1:9002"]).then_some(())
    });
    // Nothing is left: refused at once, and said when to come again.
    drop(first);
    until("both to be down", SOON, || (state(&daemon, 0) == "down").then_some(()));
    let answer = client.get("/health", "").unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(daemon.logged(&answer.id())["reject"], "unavailable");
    let _again = Upstream::start(&world.gate, "127.0.0.1:9002");
    until("the server to come back", SOON, || (state(&daemon, 1) == "slow").then_some(()));
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    until("its whole share", SOON, || (state(&daemon, 1) == "up").then_some(()));
    // Set to try all the same, what is down is asked.
    daemon.edit("slow_start", "when_down = \"try\"\nslow_start");
    drop(_again);
    daemon.done(&["reload"]);
    until("both to be down", SOON, || (state(&daemon, 0) == "down" && state(&daemon, 1) == "down").then_some(()));
    assert_eq!(client.get("/health", "").unwrap().status, 502);
}

/// D04: a server that breaks off is asked no more for a while, and nobody notices but who may not be repeated.
#[test]
fn what_fails_is_tried_elsewhere_within_the_budget() {
    if !report::may_run("resilience: retry") {
        return;
    }
    let world = World::new();
    closing(&world, "127.0.0.1:9001");
    let good = Upstream::start(&world.gate, "127.0.0.1:9002");
    let retry = "[upstream.items.retry]\nbudget = 0\nreserve = 4\n";
    let daemon = Daemon::start(&world, &Settings { proxy: "workers = 1".to_owned(), ..settings(retry) });
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let mut get = || connection.exchange(&Request::new("GET", "/health")).unwrap().status;
    let answers: Vec<u16> = (0..20).map(|_| get()).collect();
    assert_eq!(answers[..4], [200; 4], "at the second try, if the first met the bad server");
    assert!(answers.contains(&502), "the budget is spent: {answers:?}");
    until("the count", SOON, || (daemon.status()["upstreams"][0]["retries"] == 4).then_some(()));

    let eject = "[upstream.items.retry]\nbudget = 100\n[upstream.items.ejection]\nfailures = 3\ntime = \"4s\"\n";
    daemon.edit(retry, eject);
    daemon.done(&["reload"]);
    // What has a body is never sent twice.
    good.forget();
    let token = tokens::good("ada", &[]);
    let post = Request::new("POST", "/echo").token(&token).body("text/plain", b"once");
    let answers: Vec<u16> = (0..4).map(|_| client.send(&post).unwrap().status).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!(answers.contains(&502) && good.received().len() == served, "{answers:?}");
    for _ in 0..10 {
        assert_eq!(client.get("/health", "").unwrap().status, 200);
    }
    until("the ejection", SOON, || (state(&daemon, 0) == "ejected").then_some(()));
    assert_eq!(client.send(&post).unwrap().status, 200, "only the good one is used");
    until("its end", SOON, || (state(&daemon, 0) == "up").then_some(()));
}

/// What one client causes puts no server out for others: it may be the requests that are broken.
#[test]
fn one_client_alone_ejects_nobody() {
    if !report::may_run("resilience: one client") {
        return;
    }
    let world = World::new();
    let eject = "protocol = \"http2\"\n[upstream.items.ejection]\nfailures = 3\n[upstream.items.retry]\ntries = 1\n";
    let _first = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let _second = Http2Upstream::start(&world.gate, "127.0.0.1:9002", &Kind::default());
    let mut settings = settings(eject);
    settings.timeouts = "response = \"800ms\"".to_owned();
    let daemon = Daemon::start(&world, &settings);
    // Whatever was asked, by any number of clients: the server still answers a question of our own.
    for (path, status, clients) in
        [("/files/fault", 502, 8), ("/files/reset", 502, 1), ("/files/reset", 502, 8), ("/files/hold", 504, 8)]
    {
        for turn in 0..16 {
            let client = Client::new(&world, bystander(turn % clients));
            assert_eq!(client.get(path, "").unwrap().status, status, "{path}");
        }
        assert_eq!([state(&daemon, 0), state(&daemon, 1)], ["up", "up"], "after {path}");
    }
}

/// A server that says itself that it is broken is believed once it has told several clients.
#[test]
fn what_a_server_tells_several_clients_counts() {
    if !report::may_run("resilience: several clients") {
        return;
    }
    let world = World::new();
    let answers = |exchange: &mut Exchange<'_>| {
        exchange.answer(if exchange.line.contains("/files/bad") { "500 Bad" } else { "200 OK" }, "", "ok")?;
        Ok(true)
    };
    let _first = Scripted::start(&world.gate, "127.0.0.1:9001", answers);
    let _second = Scripted::start(&world.gate, "127.0.0.1:9002", answers);
    let daemon = Daemon::start(&world, &settings("[upstream.items.ejection]\nfailures = 3\n"));
    let ask = |clients: u8| {
        for turn in 0..16 {
            let client = Client::new(&world, bystander(turn % clients));
            assert_eq!(client.get("/files/bad", "").unwrap().status, 500);
        }
        [state(&daemon, 0), state(&daemon, 1)]
    };
    assert_eq!(ask(2), ["up", "up"]);
    until("an ejection", SOON, || ask(8).contains(&Value::from("ejected")).then_some(()));
}

/// A caller who does not wait is no reason either, nor is one who does not send.
#[test]
fn impatience_ejects_nobody() {
    if !report::may_run("resilience: impatience") {
        return;
    }
    let world = World::new();
    let read_on = |exchange: &mut Exchange<'_>| {
        // Gives up on a body that does not come.
        if exchange.line.contains("/echo") {
            exchange.body(1)?;
            return Ok(false);
        }
        exchange.answer(if exchange.line.contains("/files/bad") { "500 Bad" } else { "200 OK" }, "", "ok")?;
        Ok(true)
    };
    let _first = Scripted::start(&world.gate, "127.0.0.1:9001", read_on);
    let _second = Scripted::start(&world.gate, "127.0.0.1:9002", read_on);
    let eject = "[upstream.items.ejection]\nfailures = 2\nclients = 1\nstatuses = [502]\n";
    let daemon = Daemon::start(&world, &settings(eject));
    let token = tokens::good("ada", &[]);
    for turn in 0..12 {
        let client = Client::new(&world, bystander(turn % 8));
        let mut slow = client.connect().unwrap();
        slow.write(&Request::new("POST", "/echo").token(&token).header("Content-Length", "9").bytes()).unwrap();
        slow.write(b"x").unwrap();
        assert_eq!(slow.response("POST").unwrap().status, 502);
        // Not among the statuses.
        assert_eq!(client.get("/files/bad", "").unwrap().status, 500);
    }
    assert_eq!([state(&daemon, 0), state(&daemon, 1)], ["up", "up"]);
}

#[test]
fn too_many_at_once_are_refused_at_once() {
    if !report::may_run("resilience: circuit") {
        return;
    }
    let world = World::new();
    let _good = Upstream::start(&world.gate, "127.0.0.1:9001");
    let _other = Upstream::start(&world.gate, "127.0.0.1:9002");
    let timeouts = "response = \"20s\"".to_owned();
    let _daemon = Daemon::start(&world, &Settings { timeouts, ..settings("max_requests = 2\n") });
    let client = Client::new(&world, GOOD_V4);
    let mut held: Vec<_> = (0..2).map(|_| client.connect().unwrap()).collect();
    held.iter_mut().for_each(|it| it.write(&Request::new("GET", "/slow?6000").bytes()).unwrap());
    until("503", SOON, || {
        let answer = client.get("/health", "").unwrap();
        (answer.status == 503 && answer.header("retry-after") == Some("1")).then_some(())
    });
    assert!(held.iter_mut().all(|it| it.response("GET").unwrap().status == 200));
    assert_eq!(client.get("/health", "").unwrap().status, 200, "there is room again");
}

/// A try that takes too long is given up for another.
#[test]
fn slow_tries_are_given_up() {
    if !report::may_run("resilience: slow") {
        return;
    }
    let world = World::new();
    // Accepts by its backlog, and says nothing.
    let _silent = world.gate.enter(|| TcpListener::bind("127.0.0.1:9001")).unwrap();
    let _good = Upstream::start(&world.gate, "127.0.0.1:9002");
    let timeouts = "response = \"10s\"".to_owned();
    let settings = Settings { timeouts, ..settings("[upstream.items.retry]\ntimeout = \"1s\"\n") };
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    for _ in 0..4 {
        assert_eq!(client.get("/health", "").unwrap().status, 200);
    }
}

/// All tries together have the time of one request: a third server is not asked once two have used it up.
#[test]
fn tries_share_the_time_of_a_request() {
    if !report::may_run("resilience: shared time") {
        return;
    }
    let world = World::new();
    let silent = |exchange: &mut Exchange<'_>| {
        exchange.body(usize::MAX)?;
        exchange.wait_for_the_end()?;
        Ok(false)
    };
    let servers = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];
    let servers = servers.map(|address| Scripted::start(&world.gate, address, silent));
    let mut settings = settings("");
    settings.upstream = "servers = [\"127.0.0.1:9001\", \"127.0.0.1:9002\", \"127.0.0.1:9003\"]\n\
                         [upstream.items.retry]\ntries = 3\ntimeout = \"1800ms\"\n"
        .to_owned();
    settings.timeouts = "response = \"3s\"".to_owned();
    let _daemon = Daemon::start(&world, &settings);
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 504);
    assert_eq!(servers.iter().map(|server| server.heard().len()).sum::<usize>(), 2);
}

/// Files that names are resolved by are put in the place of others, as NetworkManager does: a new proxy can read them.
#[test]
fn names_are_resolved_by_files_that_came_later() {
    if !report::may_run("resilience: files of names") {
        return;
    }
    let world = World::new();
    let (old, new) = (Upstream::start(&world.gate, "127.0.0.2:9000"), Upstream::start(&world.gate, "127.0.0.3:9000"));
    let etc = world.folder.join("etc");
    let copied = Command::new("cp").arg("-a").arg("/etc").arg(&etc).status();
    assert!(copied.is_ok_and(|status| status.success()), "/etc cannot be copied");
    let names = |text: &str| {
        std::fs::write(etc.join("hosts.new"), text).unwrap();
        std::fs::rename(etc.join("hosts.new"), etc.join("hosts")).unwrap();
    };
    names("127.0.0.2 moving.test\n");
    let bind = format!("mount --bind {} /etc && exec \"$@\"", etc.display());
    let upstream = "servers = [\"moving.test:9000\"]\nresolve = \"100ms\"".to_owned();
    // One worker: another one would have to resolve the name for the first time when it cannot.
    let proxy = "workers = 1".to_owned();
    let settings = Settings { upstream, proxy, more: admin::TABLE.to_owned(), ..settings("") };
    let daemon = Daemon::start_under(&world, &settings, &["unshare", "--mount", "sh", "-c", &bind, "sh"]);
    let client = Client::new(&world, GOOD_V4);
    let get = || assert_eq!(client.get("/health", "").unwrap().status, 200);
    get();
    assert_eq!((old.received().len(), new.received().len()), (1, 0));
    let before = daemon.status();
    names("127.0.0.3 moving.test\n");
    until("the new address", SOON, || {
        get();
        (!new.received().is_empty()).then_some(())
    });
    until("another proxy and another observer", SOON, || {
        let now = daemon.status();
        let is_new = |name: &str| now[name].is_u64() && now[name] != before[name];
        (is_new("proxy_pid") && is_new("observer_pid")).then_some(())
    });
    let now = daemon.status();
    for name in ["guard_restarts", "proxy_restarts", "observer_restarts"] {
        assert_eq!(now[name], before[name], "{name}: nothing died");
    }
}

/// A server that moves is followed, and a name that cannot be resolved stays where it was.
#[test]
fn names_are_resolved_again() {
    if !report::may_run("resilience: names") {
        return;
    }
    let world = World::new();
    let (old, new) = (Upstream::start(&world.gate, "127.0.0.2:9000"), Upstream::start(&world.gate, "127.0.0.3:9000"));
    let hosts = world.folder.join("hosts");
    let names = |text: &str| std::fs::write(&hosts, text).unwrap();
    names("127.0.0.2 moving.test\n");
    let bind = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let upstream = "servers = [\"moving.test:9000\"]\nresolve = \"100ms\"".to_owned();
    let settings = Settings { upstream, ..settings("") };
    let _daemon = Daemon::start_under(&world, &settings, &["unshare", "--mount", "sh", "-c", &bind, "sh"]);
    let client = Client::new(&world, GOOD_V4);
    let get = || assert_eq!(client.get("/health", "").unwrap().status, 200);
    get();
    assert_eq!((old.received().len(), new.received().len()), (1, 0));
    names("127.0.0.3 moving.test\n");
    // So many that each worker is asked, and each looks for itself.
    let many = || {
        new.forget();
        old.forget();
        (0..24).for_each(|_| get());
        (old.received().len(), new.received().len())
    };
    until("the new address", SOON, || (many() == (0, 24)).then_some(()));
    names("");
    support::wait::pause(Duration::from_millis(400));
    assert_eq!(many(), (0, 24));
}

/// A health check asks where requests go: that a name cannot be resolved any more makes no server unhealthy.
#[test]
fn health_checks_keep_the_addresses_of_names() {
    if !report::may_run("resilience: names and health checks") {
        return;
    }
    let world = World::new();
    let server = Upstream::start(&world.gate, "127.0.0.2:9000");
    let hosts = world.folder.join("hosts");
    let names = |text: &str| std::fs::write(&hosts, text).unwrap();
    names("127.0.0.2 moving.test\n");
    let bind = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let upstream = "servers = [\"moving.test:9000\"]\nresolve = \"100ms\"\n\
        health = { path = \"/health\", interval = \"100ms\", unhealthy = 1 }"
        .to_owned();
    let settings = Settings { upstream, proxy: "workers = 1".to_owned(), ..settings("") };
    let _daemon = Daemon::start_under(&world, &settings, &["unshare", "--mount", "sh", "-c", &bind, "sh"]);
    let client = Client::new(&world, GOOD_V4);
    let get = || assert_eq!(client.get("/health", "").unwrap().status, 200);
    get();
    until("the first check", SOON, || (server.received().len() > 1).then_some(()));
    names("");
    support::wait::pause(Duration::from_millis(400));
    server.forget();
    until("checks without a name", SOON, || (server.received().len() > 3).then_some(()));
    get();
}
