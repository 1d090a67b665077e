//! How many requests a source may make, over the wire: exactly its burst, whatever it dresses them up as.

use std::{
    os::unix::process::CommandExt as _,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    http2, report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, ATTACKER_V6, ATTACKER_V6_TOO, GOOD_V4, GOOD_V6, World, bystander},
};

const BURST: usize = 8;

#[test]
fn a_source_has_one_budget() {
    if !report::may_run("limit") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.address]\nrequests = 8\nper = \"10m\"\nburst = 8\n".to_owned();
    let daemon = Daemon::start(&world, &Settings { more, ..Settings::default() });

    // One connection.
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let served = (0..BURST).filter(|_| connection.exchange(&Request::new("GET", "/health")).unwrap().status == 200);
    assert_eq!(served.count(), BURST);
    let refused = client.get("/health", "").unwrap();
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=75).contains(&wait), "Retry-After: {wait}");
    assert_eq!(refused.json()["type"], "urn:gateway:problem:too_many_requests");
    assert_eq!(daemon.logged(&refused.id())["signal"], "over_limit");
    assert_eq!(upstream.received().len(), BURST, "a refused request reached the upstream");

    // D05: other paths, spoofed addresses, streams and connections draw on the same budget; other sources do not.
    let client = Client::new(&world, bystander(0));
    let dressed = |number: usize| {
        let target = format!("/health?{number}");
        Request::new("GET", &target).header("X-Forwarded-For", &format!("203.0.113.{number}"))
    };
    let statuses: Vec<u16> = (0..BURST + 3).map(|number| client.send(&dressed(number)).unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");

    let client = Client::new(&world, bystander(1));
    let answers = client.send_http2((0..BURST * 2).map(|_| http2::get("/health", "")).collect()).unwrap();
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");

    // IPv6: the /64 is one source.
    let clients = [Client::new(&world, ATTACKER_V6), Client::new(&world, ATTACKER_V6_TOO)];
    let statuses: Vec<u16> =
        (0..BURST + 4).map(|number| clients[number % 2].get("/health", "").unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");
}

/// D02, D03: one source cannot take every place, and running out of descriptors is survived.
#[test]
fn connections_are_limited() {
    if !report::may_run("limit: connections") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        guard: "allow = [\"10.0.0.66\"]".to_owned(),
        proxy: "max_connections_per_source = 3".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let health = Request::new("GET", "/health");
    let served = |client: &Client<'_>| {
        let mut connection = client.connect().ok()?;
        (connection.exchange(&health).ok()?.status == 200).then_some(connection)
    };
    let mut open: Vec<_> = (0..3).map(|_| served(&client).expect("one of three")).collect();
    assert!(served(&client).is_none(), "a fourth connection is taken");
    assert!(open.iter_mut().all(|open| open.exchange(&health).unwrap().status == 200), "the others lose their place");
    let line = until("the refusal in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["signal"] == "over_limit")
    });
    assert_eq!((&line["client"], &line["status"]), (&"10.0.0.2".into(), &0.into()), "{line}");
    assert!(served(&Client::new(&world, GOOD_V6)).is_some(), "another source pays for it");
    let allowed: Vec<_> = (0..6).map(|_| served(&Client::new(&world, ATTACKER_V4))).collect();
    assert!(allowed.iter().all(Option::is_some), "an allowlisted source is limited");
    open.pop();
    until("the place to be free", SOON, || served(&client));

    let proxy = daemon.proxy_pid();
    let pid = format!("--pid={proxy}");
    let descriptors = std::fs::read_dir(format!("/proc/{proxy}/fd")).unwrap().count();
    // As the proxy's own user, who may.
    let mut command = Command::new("prlimit");
    command.uid(65_534).gid(65_534).args([&pid, &format!("--nofile={}", descriptors + 10)]);
    let limited = command.status();
    assert!(limited.expect("`prlimit` of the package util-linux").success());
    let attacker = Client::new(&world, ATTACKER_V4);
    let many: Vec<_> = (0..50).filter_map(|_| attacker.tcp(SOON).ok()).collect();
    until("the descriptors to run out", SOON, || {
        let used = std::fs::read_dir(format!("/proc/{proxy}/fd")).unwrap().count();
        (used >= descriptors + 8).then_some(())
    });
    drop((many, allowed));
    until("accepting to go on", SOON, || served(&Client::new(&world, GOOD_V6)));
    assert_eq!(daemon.proxy_pid(), proxy, "the proxy did not survive it");
}

/// A request of one of the clients behind the load balancer.
fn relayed(client: &str) -> Vec<u8> {
    Request::new("GET", "/health").header("X-Forwarded-For", client).bytes()
}

#[test]
fn d06_an_offender_stays_over_its_limit_in_a_crowd() {
    if !report::may_run("limit: crowd") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings {
        interfaces: Vec::new(),
        proxy: "trusted_proxies = [\"10.0.0.2\"]".to_owned(),
        more: "[limit.address]\nrequests = 2\nper = \"1h\"\nburst = 2\ncapacity = 1024\n".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let mut balancer = Client::new(&world, GOOD_V4).connect().unwrap();
    let mut statuses = |clients: &[String]| -> Vec<u16> {
        let requests: Vec<u8> = clients.iter().flat_map(|client| relayed(client)).collect();
        balancer.write(&requests).unwrap();
        clients.iter().map(|_| balancer.response("GET").unwrap().status).collect()
    };
    let offender = || vec!["203.0.113.7".to_owned(); 3];
    assert_eq!(statuses(&offender()), [200, 200, 429]);
    // Eight times as many as there is room for, each of them once.
    for batch in 0..128_u32 {
        let crowd: Vec<_> = (0..64).map(|at| format!("10.{}.{}.{at}", 1 + batch / 64, batch % 64)).collect();
        let served = statuses(&crowd);
        // Once the table is full of those who are active, newcomers share what is left.
        let may_be_refused = batch >= 8;
        assert!(served.iter().all(|status| *status == 200 || *status == 429 && may_be_refused), "{batch}: {served:?}");
    }
    assert_eq!(statuses(&offender()), [429; 3]);
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().unwrap().len(), 0);
}

#[test]
fn d07_no_moment_doubles_the_burst() {
    if !report::may_run("limit: windows") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.address]\nrequests = 8\nper = \"1s\"\nburst = 8\n".to_owned();
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), more, ..Settings::default() };
    let _daemon = Daemon::start(&world, &settings);
    let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
    // Bursts at every part of a second, as where a window would end is not known.
    let start = Instant::now();
    let mut served = Vec::new();
    for _ in 0..12 {
        for _ in 0..BURST * 2 {
            let asked = start.elapsed();
            if connection.exchange(&Request::new("GET", "/health")).unwrap().status == 200 {
                served.push((asked, start.elapsed()));
            }
        }
        pause(Duration::from_millis(370));
    }
    for (first, (asked, _)) in served.iter().enumerate() {
        for (last, (_, answered)) in served.iter().enumerate().skip(first) {
            // A budget that was full when the first was asked for, and what came in until the last was answered.
            let most = BURST as f64 + (*answered - *asked).as_secs_f64() * 8.0;
            assert!((last - first + 1) as f64 <= most + 1e-6, "{first} to {last} of {served:?}");
        }
    }
    assert!(served.len() > BURST * 2, "{served:?}");
}
