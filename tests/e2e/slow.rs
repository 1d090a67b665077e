//! Clients that do something now and then, so that nobody can say that they do nothing: bodies byte by byte, answers
//! that are hardly taken (D01).

use std::time::Duration;

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream_http2::{Http2Upstream, Kind},
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

/// How long a client rests before it does something again: less than anything that is waited for.
const REST: Duration = Duration::from_millis(100);

fn settings() -> Settings {
    let served = Settings::default();
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: served.routes.clone()
            + &route("/sink", "[\"POST\"]", "[\"public\"]", "")
            + &route("/patient/sink", "[\"POST\"]", "[\"public\"]", "[route.timeouts]\nleast_rate = 0"),
        timeouts: "headers = \"1s\"\nbody = \"1s\"\nleast_rate = \"64KiB\"".to_owned(),
        upstream: "servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"".to_owned(),
        ..served
    }
}

#[test]
fn d01_slow_bodies_and_slow_readers() {
    if !report::may_run("slow") {
        return;
    }
    let world = World::new();
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);

    // One byte after another, each of them in time.
    for (path, chunked) in [("/sink", false), ("/sink", true)] {
        let head = Request::new("POST", path);
        let framing = if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", "100000") };
        let mut slow = client.connect().unwrap();
        slow.write(&head.header(framing.0, framing.1).bytes()).unwrap();
        slow.set_timeout(REST).unwrap();
        until("the end of patience", SOON, || {
            let byte: &[u8] = if chunked { b"1\r\nx\r\n" } else { b"x" };
            (slow.write(byte).is_err() || slow.begins().is_ok_and(|begins| begins)).then_some(())
        });
        slow.set_timeout(SOON).unwrap();
        assert_eq!(slow.response("POST").unwrap().status, 408, "chunked: {chunked}");
        assert!(slow.ends());
    }
    // As slow as they like, where the route says so.
    let mut patient = client.connect().unwrap();
    patient.write(&Request::new("POST", "/patient/sink").header("Content-Length", "40").bytes()).unwrap();
    for _ in 0..40 {
        patient.write(b"x").unwrap();
        pause(REST);
    }
    assert_eq!(patient.response("POST").unwrap().status, 200);

    // An answer of which a little is taken all the time.
    let mut reader = client.connect().unwrap();
    reader.write(&Request::new("GET", "/files/big").bytes()).unwrap();
    let slow = || daemon.access_log().iter().filter(|line| line["signal"] == "slow_client").count();
    until("the bodies in the log", SOON, || (slow() == 2).then_some(()));
    // What the kernel holds for it is still there to be taken when the gateway has long given up.
    until("the end of patience", SOON, || {
        pause(REST);
        (reader.raw(512).is_err() || slow() > 2).then_some(())
    });
    until("the reader in the log", SOON, || (slow() == 3).then_some(()));
    // A head that does not come to its end is answered, and nothing that is no request.
    let mut late = client.connect().unwrap();
    late.write(b"GET /health HTTP/1.1\r\nHost: api.exam").unwrap();
    let answer = late.response("GET").unwrap();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(answer.json()["request_id"], answer.id());
    assert!(late.ends());
    until("the head in the log", SOON, || (slow() == 4).then_some(()));
    let mut nothing = client.connect().unwrap();
    assert!(nothing.ends());
    assert!(nothing.response("GET").is_err());
    // Whoever behaves is served.
    assert_eq!(client.get("/files/big", "").unwrap().body.len(), 4 << 20);
    assert!(upstream.of("/sink").len() >= 2);
}
