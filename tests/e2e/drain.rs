//! What happens to requests in flight, to new ones and to bans when the gateway is told to stop.

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal;
use support::{
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

#[test]
fn requests_in_flight_finish_and_bans_go_on() {
    if !report::may_run("drain") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let client = Client::new(&world, GOOD_V4);

    thread::scope(|scope| {
        let slow = scope.spawn(|| client.send(&Request::new("GET", "/slow?6000")));
        let streamed = scope.spawn(|| client.send(&Request::new("GET", "/stream?20")));
        // Once used, it is idle; a connection that is new may still send its first request.
        let mut idle = client.connect().unwrap();
        assert_eq!(idle.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
        until("the requests to reach the upstream", SOON, || (upstream.received().len() == 3).then_some(()));
        daemon.signal(Signal::SIGTERM);
        idle.set_timeout(TIMEOUT).unwrap();
        // While others are still served, not with them.
        assert!(idle.ends() && !slow.is_finished(), "an idle connection lasts as long as the drain");

        let response = slow.join().unwrap().unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let response = streamed.join().unwrap().unwrap();
        assert_eq!(response.text().lines().count(), 20, "{}", response.text());
    });
    let status = daemon.ended();
    assert!(status.success(), "{status}: {}", daemon.standard_error());
    assert!(client.tcp(Duration::from_secs(1)).is_err(), "somebody still listens");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(Duration::from_millis(200)), "a clean stop ends the bans");
    daemon.start_again();
    let status = daemon.status();
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    assert_eq!(client.get("/health", "").unwrap().status, 200);
}

/// M02: what has begun to arrive on a kept connection is served by a proxy that leaves.
#[test]
fn m02_a_request_that_has_begun_is_served_in_a_drain() {
    if !report::may_run("drain: begun") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    let mut kept = Client::new(&world, GOOD_V4).connect().unwrap();
    let request = Request::new("GET", "/health");
    assert_eq!(kept.exchange(&request).unwrap().status, 200);
    let bytes = request.bytes();
    let (begun, rest) = bytes.split_at(20);
    kept.write(begun).unwrap();
    daemon.signal(Signal::SIGTERM);
    // Longer than a drain waits for what has not begun.
    pause(Duration::from_millis(600));
    kept.write(rest).unwrap();
    let response = kept.response("GET").unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(kept.ends(), "the proxy keeps it");
    assert!(daemon.ended().success());
}

/// A drain may take as long as `proxy.drain`: who is banned in that time is cut off as at any other.
#[test]
fn a_ban_during_a_drain_closes_connections() {
    if !report::may_run("drain: ban") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let mut streamed = Client::new(&world, ATTACKER_V4).connect().unwrap();
    streamed.write(&Request::new("GET", "/stream?100").bytes()).unwrap();
    assert_eq!(streamed.head().unwrap().status, 200);
    assert!(streamed.chunk().unwrap().is_some());
    daemon.signal(Signal::SIGTERM);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let mut chunks = 1;
    while matches!(streamed.chunk(), Ok(Some(_))) {
        chunks += 1;
    }
    assert!(chunks < 100, "a banned source was served to the end");
    assert!(daemon.ended().success(), "{}", daemon.standard_error());
}

#[test]
fn logs_are_opened_anew() {
    if !report::may_run("drain: reopen") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let (log, rotated) = (world.folder.join("access.log"), world.folder.join("access.log.1"));
    let before = client.get("/health", "").unwrap().id();
    assert_eq!(daemon.logged(&before)["status"], 200);
    fs::rename(&log, &rotated).unwrap();
    daemon.signal(Signal::SIGUSR1);
    until("the access log to be there again", SOON, || log.exists().then_some(()));
    // What is written meanwhile may go to either: a worker hands it over in its own time.
    until("a line in the new log", SOON, || {
        client.get("/health", "").unwrap();
        (!daemon.access_log().is_empty()).then_some(())
    });
    let after = client.get("/health", "").unwrap().id();
    assert_eq!(daemon.logged(&after)["status"], 200);
    let rotated = fs::read_to_string(&rotated).unwrap();
    assert!(rotated.contains(&before) && !rotated.contains(&after), "{rotated}");
}
