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
