//! Clients that leave, send on or fall silent: the connection is watched at no cost to a request, a silent one keeps
//! little memory, and none of it is seen from outside.

use std::{net::Shutdown, time::Duration};

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

#[test]
fn a_client_that_leaves_or_sends_on_while_it_is_answered() {
    if !report::may_run("silent: clients that leave") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    let client = Client::new(&world, GOOD_V4);

    // Whoever leaves is not waited for.
    let mut leaving = client.connect().unwrap();
    leaving.write(&Request::new("GET", "/slow?20000").bytes()).unwrap();
    until("the request to reach the upstream", SOON, || (upstream.received().len() == 1).then_some(()));
    leaving.tcp().shutdown(Shutdown::Both).unwrap();
    let left = until("the line of a client that left", SOON, || {
        daemon.access_log().into_iter().find(|line| line["status"] == 499)
    });
    assert_eq!((&left["path"], &left["reject"]), (&"/slow".into(), &serde_json::Value::Null), "{left}");

    // What comes behind a request is answered after it, in order, however much of it there is.
    let mut piped = client.connect().unwrap();
    let long = "x".repeat(2_000);
    piped.write(&Request::new("GET", "/slow?300").bytes()).unwrap();
    until("the request to reach the upstream", SOON, || (upstream.received().len() == 2).then_some(()));
    for name in ["a", "b", "c"] {
        piped.write(&Request::new("GET", &format!("/files/{name}")).header("x-long", &long).bytes()).unwrap();
        pause(Duration::from_millis(20));
    }
    for _ in 0..4 {
        assert_eq!(piped.response("GET").unwrap().status, 200);
    }
    let paths: Vec<_> = upstream.received().into_iter().map(|request| request.target).collect();
    assert_eq!(paths, ["/slow?20000", "/slow?300", "/files/a", "/files/b", "/files/c"]);
}

#[test]
fn silent_connections_go_on() {
    if !report::may_run("silent: connections go on") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { timeouts: "idle = \"7s\"".to_owned(), ..Settings::default() };
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let health = Request::new("GET", "/health");
    let mut connection = client.connect().unwrap();
    let mut asked = client.connect().unwrap();
    let mut leaving = client.connect().unwrap();
    for connection in [&mut connection, &mut asked, &mut leaving] {
        assert_eq!(connection.exchange(&health).unwrap().status, 200);
    }
    // By now they are silent. A head may come in two pieces, and be malformed.
    pause(Duration::from_secs(3));
    let head = health.bytes();
    let (first, second) = head.split_at(9);
    connection.write(first).unwrap();
    pause(Duration::from_millis(100));
    connection.write(second).unwrap();
    assert_eq!(connection.response("GET").unwrap().status, 200);
    asked.write(b"GET /health HTTP/1.1\nHost: a\r\n\r\n").unwrap();
    assert_eq!(asked.response("GET").unwrap().status, 400);
    drop(leaving);
    // Silent again, it ends when its time is over, and not before.
    pause(Duration::from_secs(3));
    assert_eq!(connection.exchange(&health).unwrap().status, 200);
    connection.set_timeout(SOON).unwrap();
    assert!(connection.ends(), "an idle connection stays");
}
