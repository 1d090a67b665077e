//! Which of several servers gets a request, through the real binary.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// The gateway before three servers.
fn settings(upstream: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1".to_owned(),
        upstream: upstream.to_owned(),
        ..Settings::default()
    }
}

fn counts(servers: &[Upstream]) -> Vec<usize> {
    let counts = servers.iter().map(|server| server.received().len()).collect();
    servers.iter().for_each(Upstream::forget);
    counts
}

#[test]
fn servers_get_their_share() {
    if !report::may_run("balance") {
        return;
    }
    let world = World::new();
    let servers: Vec<_> = (9001..9004).map(|port| Upstream::start(&world.gate, &format!("127.0.0.1:{port}"))).collect();
    let weighted = "servers = [{ address = \"127.0.0.1:9001\", weight = 3 }, \"127.0.0.1:9002\", \"127.0.0.1:9003\"]";
    let daemon = Daemon::start(&world, &settings(weighted));
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let mut get = |request: &Request| assert_eq!(connection.exchange(request).unwrap().status, 200);
    for _ in 0..20 {
        get(&Request::new("GET", "/health"));
    }
    assert_eq!(counts(&servers), [12, 4, 4], "by weight, in turn");

    // The same proxy, on the same connection, by the new setting.
    daemon.edit(weighted, &format!("{weighted}\nbalance = \"hash\"\nhash_by = \"header:x-tenant\""));
    daemon.done(&["reload"]);
    let mut homes = Vec::new();
    for tenant in 0..30 {
        for _ in 0..3 {
            let request = Request::new("GET", "/health").header("X-Tenant", &format!("tenant-{tenant}"));
            assert_eq!(connection.exchange(&request).unwrap().status, 200);
        }
        let counts = counts(&servers);
        assert!(counts.contains(&3), "tenant {tenant} has one home: {counts:?}");
        homes.push(counts.iter().position(|count| *count == 3));
    }
    assert!((0..3).all(|server| homes.contains(&Some(server))), "{homes:?}");

    daemon.edit("balance = \"hash\"\nhash_by = \"header:x-tenant\"", "balance = \"least_requests\"");
    daemon.done(&["reload"]);
    // One request is held by whichever server has it; of the two drawn for another, the idle one is taken. So many
    // that the least weight is drawn too: it is left out of one draw in two or so.
    let mut held: Vec<_> = (1..=32).map(|number| (number, client.connect().unwrap())).collect();
    for (number, connection) in &mut held {
        connection.write(&Request::new("GET", "/slow?3000").bytes()).unwrap();
        let arrived = || servers.iter().map(|server| server.received().len()).sum::<usize>() == *number;
        until("the request to arrive", SOON, || arrived().then_some(()));
    }
    let counts = counts(&servers);
    assert!(counts.iter().all(|count| *count >= 1), "requests in flight are spread: {counts:?}");
    for (_, mut connection) in held {
        assert_eq!(connection.response("GET").unwrap().status, 200);
    }
}

/// D04: a server that refuses connections costs nobody an answer.
#[test]
fn another_server_is_asked_where_one_refuses() {
    if !report::may_run("balance: refused") {
        return;
    }
    let world = World::new();
    let servers = [Upstream::start(&world.gate, "127.0.0.1:9002")];
    let _daemon = Daemon::start(&world, &settings("servers = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]"));
    let client = Client::new(&world, GOOD_V4);
    for _ in 0..10 {
        assert_eq!(client.get("/health", "").unwrap().status, 200);
    }
    assert_eq!(counts(&servers), [10]);
}
