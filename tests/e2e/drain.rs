//! What happens to requests in flight, to new ones and to bans when the gateway is told to stop.

use std::{thread, time::Duration};

use nix::sys::signal::Signal;
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
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
        let slow = scope.spawn(|| client.send(&Request::new("GET", "/slow?1500")));
        let streamed = scope.spawn(|| client.send(&Request::new("GET", "/stream?20")));
        // Once used, it is idle; a connection that is new may still send its first request.
        let mut idle = client.connect().unwrap();
        assert_eq!(idle.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
        until("the requests to reach the upstream", SOON, || (upstream.received().len() == 3).then_some(()));
        daemon.signal(Signal::SIGTERM);
        idle.set_patience(Duration::from_secs(1)).unwrap();
        assert!(idle.ends(), "an idle connection outlives the drain");

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
