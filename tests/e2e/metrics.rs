//! What is counted of requests, and how it is told: M01, and the end of certificates.

use std::process::Command;

use support::{
    daemon::{Daemon, binary},
    http1::{Client, Request},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// `gateway status --prometheus`.
fn exposed(daemon: &Daemon<'_>) -> String {
    let output = Command::new(binary()).arg("--config").arg(&daemon.config).args(["status", "--prometheus"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a row, labels and all.
fn value(text: &str, row: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn m01_requests_are_counted_and_told() {
    if !report::may_run("metrics") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["reader"]);
    let mut kept = client.connect().unwrap();
    for _ in 0..5 {
        assert_eq!(kept.exchange(&Request::new("GET", "/items/1").token(&token)).unwrap().status, 200);
    }
    assert_eq!(client.get("/items/1", "no.such.token").unwrap().status, 401);
    assert_eq!(client.get("/nowhere", "").unwrap().status, 404);
    let rows = [
        ("gateway_up", 1.0),
        ("gateway_proxy_up", 1.0),
        ("gateway_connections", 1.0),
        ("gateway_answers_total{class=\"2xx\"}", 5.0),
        ("gateway_answers_total{class=\"4xx\"}", 2.0),
        ("gateway_answers_total{class=\"5xx\"}", 0.0),
        ("gateway_refused_total{reason=\"invalid_token\"}", 1.0),
        ("gateway_refused_total{reason=\"not_found\"}", 1.0),
        ("gateway_refused_total{reason=\"forbidden\"}", 0.0),
        ("gateway_signals_total{signal=\"forged_token\"}", 1.0),
        ("gateway_signals_total{signal=\"unknown_route\"}", 1.0),
        ("gateway_upstream_server{upstream=\"items\",server=\"127.0.0.1:9000\",state=\"up\"}", 1.0),
        ("gateway_blocks_max", 1_000_000.0),
        ("gateway_interfaces_wanted", 0.0),
        ("gateway_audit_failing", 0.0),
        ("gateway_lost_total{what=\"log_lines\"}", 0.0),
    ];
    let all = |text: &str| rows.iter().all(|(row, expect)| value(text, row) == Some(*expect));
    let mut last = String::new();
    until(&format!("{rows:?}"), SOON, || {
        last = exposed(&daemon);
        all(&last).then_some(())
    });
    // Nothing of the clients is in it.
    assert!(!last.contains("10.0.0.2") && !last.contains("/items/1") && !last.contains("ada"), "{last}");

    // The sums outlast the proxy that counted them; its connection is gone with it.
    let proxy = daemon.proxy_pid();
    daemon.done(&["reload"]);
    daemon.proxy_pid_other_than(proxy);
    assert!(kept.ends());
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    until("six answers and no connection", SOON, || {
        let requests = &daemon.status()["requests"];
        (requests["answers"]["2xx"] == 6 && requests["connections"] == 0).then_some(())
    });

    // Each certificate has its end.
    let ends = daemon.status()["certificates"].clone();
    let ends = ends.as_array().unwrap();
    assert_eq!((ends.len(), &ends[1]["key"]), (2, &"listener[1]".into()), "{ends:?}");
    let file = world.folder.join("server.crt");
    let row =
        format!("gateway_certificate_not_after_seconds{{certificate=\"listener[0]\",file=\"{}\"}}", file.display());
    assert!(value(&exposed(&daemon), &row).is_some_and(|end| end > 1_767_225_600.0), "{}", exposed(&daemon));
}
