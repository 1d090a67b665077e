//! Shadow mode: counted, reported, promoted by one command.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, World},
};

#[test]
fn limits_are_promoted_over_a_restart() {
    if !report::may_run("shadow::limits") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.address]\nrequests = 3\nper = \"1h\"\nshadow = true\n\
                [guard.packet_limit]\npackets = 1\nburst = 1\nshadow = true\n"
        .to_owned();
    let mut daemon = Daemon::start(&world, &Settings { more, ..Settings::default() });
    let client = Client::new(&world, ATTACKER_V4);
    let statuses = || -> Vec<u16> { (0..5).map(|_| client.get("/health", "").unwrap().status).collect() };
    assert_eq!(statuses(), [200; 5], "a limit in shadow refuses nothing");
    let report = until("the report", SOON, || {
        let report = daemon.done(&["shadow", "report"]);
        (report["rows"][0]["requests"] == 2).then_some(report)
    });
    let rows = &report["rows"];
    assert_eq!((&rows[0]["what"], &rows[0]["sources"]), (&"limit.address".into(), &1.into()), "{report}");
    assert_eq!(rows[1]["what"], "guard.packet_limit", "{report}");
    assert!(rows[1]["packets"].as_u64().is_some_and(|packets| packets > 0), "{report}");
    assert!(rows[1]["sources"].is_null(), "{report}");

    daemon.done(&["shadow", "promote", "limit.address"]);
    until("the limit to be enforced", SOON, || (client.get("/health", "").unwrap().status == 429).then_some(()));
    daemon.kill_guard();
    daemon.start_again();
    let statuses = statuses();
    assert_eq!(statuses, [200, 200, 200, 429, 429], "not enforced after a restart");
    let dropped = daemon.packets("over_packets");
    daemon.done(&["shadow", "promote", "guard.packet_limit"]);
    until("packets to be dropped", SOON, || {
        drop(client.knock());
        (daemon.packets("over_packets") > dropped).then_some(())
    });
    assert_eq!(daemon.done(&["shadow", "report"])["rows"], serde_json::json!([]));
}

#[test]
fn a_rule_is_promoted_over_a_restart() {
    if !report::may_run("shadow::promote") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let rules = format!("{}shadow = true\n", bad_tokens(3, "10m"));
    let mut daemon = Daemon::start(&world, &Settings { rules, ..Settings::default() });
    let attacker = Client::new(&world, ATTACKER_V4);
    let offend = || {
        for _ in 0..3 {
            let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
            assert_eq!(attacker.send(&bad).unwrap().status, 401);
        }
    };
    offend();
    let report = until("the report", SOON, || {
        let report = daemon.done(&["shadow", "report"]);
        (report["rows"][0]["sources"] == 1).then_some(report)
    });
    assert_eq!(report["rows"][0]["what"], "rule.bad-tokens", "{report}");
    daemon.done(&["shadow", "promote", "rule.bad-tokens"]);
    daemon.kill_guard();
    daemon.start_again();
    let status = daemon.status();
    assert!(status["warnings"].to_string().contains("promoted"), "{status}");
    offend();
    until("the ban", SOON, || (daemon.done(&["why", "10.0.0.66"])["verdict"] == "blocked").then_some(()));
}
