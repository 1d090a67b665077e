//! One frame of `gateway top`, with real packets, with the gateway running and without.

use std::{
    io,
    net::IpAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary},
    flood::Flood,
    http1::Client,
    report,
    settings::Settings,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

fn once(daemon: &Daemon<'_>, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("--config").arg(&daemon.config).args(["top"]).args(more).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_frame_of_real_packets() {
    if !report::may_run("top") {
        return;
    }
    let world = World::new();
    let proxy = "max_connections = 2".to_owned();
    let limit = "[guard.syn_limit]\nsyns = 5\nburst = 5\n".to_owned();
    let mut daemon = Daemon::start(&world, &Settings { proxy, more: limit, ..Settings::default() });
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "knocks too often"]);
    let (IpAddr::V4(attacker), IpAddr::V4(over)) = (ATTACKER_V4, support::world::bystander(0)) else {
        unreachable!("both are of IPv4")
    };
    let is_told = AtomicBool::new(false);
    let (code, text) = thread::scope(|scope| {
        let flood = |from| {
            let (world, is_told) = (&world, &is_told);
            // Until it was told of, however long that takes to begin.
            scope.spawn(move || {
                let mut sent = Flood::from_one(from, 443).at(2_000, Duration::from_millis(2_500)).send(world);
                while !is_told.load(Ordering::Relaxed) {
                    sent = Flood::from_one(from, 443).at(2_000, Duration::from_millis(500)).send(world);
                }
                sent
            })
        };
        let floods = [flood(attacker), flood(over)];
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| once(&daemon, &["--json"])));
        is_told.store(true, Ordering::Relaxed);
        let told = told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for flood in floods {
            assert!(flood.join().unwrap().packets > 0);
        }
        told
    });
    assert_eq!(code, Some(0), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let rate = |verdict: &str| {
        let rates = told["rates"].as_array().unwrap();
        rates.iter().find(|rate| rate["verdict"] == verdict).unwrap()["packets_per_second"].as_u64().unwrap()
    };
    assert!(rate("blocked") > 100 && rate("over_syns") > 100, "{told}");
    let source = |source: &str, verdict: &str| {
        let sources = told["sources"].as_array().unwrap();
        sources.iter().find(|it| it["source"] == source && it["verdict"] == verdict).cloned().unwrap_or_default()
    };
    assert_eq!(source("10.0.0.66", "blocked")["estimated"], json!(false), "{told}");
    assert_eq!(source("10.0.0.100", "over_syns")["estimated"], json!(true), "{told}");

    let (code, text) = once(&daemon, &["--once"]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["enforcement xdp on gate0", "syns 5/s, burst 5", "10.0.0.66", "knocks too often", "over_syns"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = once(&daemon, &[]);
    assert_eq!((code, &*text), (Some(2), ""), "there is no terminal");

    // What the proxy had no room for is told.
    let _connections: Vec<io::Result<_>> = (0..4).map(|_| Client::new(&world, GOOD_V4).connect()).collect();
    let lost = until("closed connections to be told", SOON, || {
        let status = daemon.status();
        (status["lost"]["connections"].as_u64()? > 0).then_some(status)
    });
    assert!(lost["warnings"].to_string().contains("over proxy.max_connections"), "{lost}");
    assert!(lost["lost"]["samples"].as_u64().unwrap() > 0, "{lost}");

    daemon.kill();
    let (code, text) = once(&daemon, &["--once"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("NOT RUNNING") && text.contains("10.0.0.66"), "{text}");
}
