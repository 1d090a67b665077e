//! The health route of listeners: answered by the proxy itself, and 503 before anything else stops.

use std::{fs, thread};

use nix::sys::signal::Signal;
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, GOOD_V6, World},
};

fn settings(stop_delay: &str) -> Settings {
    let usual = Settings::default();
    Settings {
        interfaces: Vec::new(),
        listeners: usual.listeners.replacen("[[listener]]\n", "[[listener]]\nhealth = \"/live\"\n", 1),
        proxy: format!("stop_delay = \"{stop_delay}\""),
        more: admin::TABLE.to_owned(),
        ..usual
    }
}

#[test]
fn health_says_503_while_everybody_is_still_served() {
    if !report::may_run("health") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings("8s"));
    let client = Client::new(&world, GOOD_V4);
    let answer = client.get("/live", "").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    let answer = client.send(&Request::new("HEAD", "/live")).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    for (method, path) in [("POST", "/live"), ("GET", "/live/"), ("GET", "/LIVE")] {
        assert_eq!(client.send(&Request::new(method, path)).unwrap().status, 404, "{method} {path}");
    }
    assert_eq!(Client::new(&world, GOOD_V6).get("/live", "").unwrap().status, 404, "the other listener has none");
    until("the counts", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let health = value(&text, "gateway_http_requests_total{route=\"(health)\",status=\"2xx\"}");
        (health == Some(2.0)).then_some(())
    });
    assert!(daemon.access_log().iter().all(|line| line["path"] != "/live" || line["status"] == 404));

    thread::scope(|scope| {
        let slow = scope.spawn(|| client.send(&Request::new("GET", "/slow?9000")));
        until("the request to reach the upstream", SOON, || (!upstream.received().is_empty()).then_some(()));
        daemon.signal(Signal::SIGTERM);
        let answer = until("503", SOON, || client.get("/live", "").ok().filter(|answer| answer.status == 503));
        assert_eq!(answer.text(), "stopping\n");
        // Who comes before the load balancer has noticed is served.
        assert_eq!(client.get("/health", "").unwrap().status, 200);
        until("not ready", SOON, || {
            admin::get(&world, "/readyz", "").ok().filter(|answer| answer.status == 503).map(drop)
        });
        assert_eq!(admin::get(&world, "/healthz", "").unwrap().status, 200);
        assert!(daemon.status()["proxy_pid"].is_u64());
        assert_eq!(slow.join().unwrap().unwrap().status, 200);
    });
    let status = daemon.ended();
    assert!(status.success(), "{status}: {}", daemon.standard_error());

    // A second signal waits for nothing.
    fs::write(&daemon.config, fs::read_to_string(&daemon.config).unwrap().replace("\"8s\"", "\"1h\"")).unwrap();
    daemon.start_again();
    daemon.signal(Signal::SIGTERM);
    until("503", SOON, || client.get("/live", "").ok().filter(|answer| answer.status == 503).map(drop));
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
}
