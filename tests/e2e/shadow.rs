//! Shadow mode: counted, reported, promoted by one command.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens, route},
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
    daemon.kill();
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
    daemon.kill();
    daemon.start_again();
    let status = daemon.status();
    assert!(status["warnings"].to_string().contains("promoted"), "{status}");
    offend();
    until("the ban", SOON, || (daemon.done(&["why", "10.0.0.66"])["verdict"] == "blocked").then_some(()));
}

#[test]
fn requirements_of_routes_are_promoted_over_a_restart() {
    if !report::may_run("shadow::routes") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let own = "name = \"own\"\nallow_if = [\"{id} == claim.sub\"]\nsources = [\"192.0.2.0/24\"]\nshadow = [\"allow_if\", \"sources\"]";
    let items = "name = \"items\"\nscopes = [\"items\"]\nshadow = [\"require\"]";
    let routes = [
        route("/users/{id}", "[\"GET\"]", "[\"authenticated\"]", own),
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", items),
        route("/open/{id}", "[\"GET\"]", "[\"items:read\"]", "name = \"open\"\nshadow = [\"require\"]"),
    ];
    let mut daemon = Daemon::start(&world, &Settings { routes: routes.concat(), ..Settings::default() });
    let client = Client::new(&world, ATTACKER_V4);
    let (ada, bob) = (tokens::good("ada", &[]), tokens::good("bob", &[]));
    let ask = |path: &str, token: &str| client.get(path, token).unwrap();
    for (path, token, status, would_deny) in [
        ("/users/ada", ada.as_str(), 200, "sources"),
        ("/users/bob", &ada, 200, "sources"),
        ("/users/ada", &bob, 200, "sources"),
        ("/users/ada", "", 401, ""),
        // Only `require` is in shadow: nobody gets around the scope by having no identity.
        ("/items/7", "", 401, ""),
        ("/items/7", &tokens::forged("eve", &[]), 401, ""),
        ("/items/7", &ada, 403, ""),
        ("/open/7", "", 200, "require"),
        ("/open/7", &tokens::forged("eve", &[]), 200, "require"),
    ] {
        let response = ask(path, token);
        let line = daemon.logged(&response.id());
        assert_eq!(response.status, status, "{path}: {line}");
        assert_eq!(line["would_deny"].as_str().unwrap_or_default(), would_deny, "{path}: {line}");
    }
    let report = until("the report", SOON, || {
        let report = daemon.done(&["shadow", "report"]);
        let rows = report["rows"].as_array().unwrap();
        let counted = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum::<u64>();
        (counted == 7).then_some(report)
    });
    let row = |what: &str, requests: u64, principals: u64| {
        let rows = report["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what}: {report}"));
        assert_eq!((&row["requests"], &row["principals"]), (&requests.into(), &principals.into()), "{report}");
    };
    row("route.own.allow_if", 2, 2);
    row("route.own.sources", 3, 2);
    row("route.open.require", 2, 1);
    let told = daemon.done(&["shadow", "promote", "route.own.allow_if", "--dry-run"]);
    assert_eq!(told["rows"], report["rows"], "nothing has changed");
    assert_eq!(ask("/users/bob", &ada).status, 200, "nothing is enforced");
    daemon.done(&["shadow", "promote", "route.own.allow_if"]);
    until("the condition to be enforced", SOON, || (ask("/users/bob", &ada).status == 403).then_some(()));
    assert_eq!(ask("/users/ada", &ada).status, 200);
    daemon.kill();
    daemon.start_again();
    assert_eq!(ask("/users/bob", &ada).status, 403, "not enforced after a restart");
    assert!(daemon.status()["warnings"].to_string().contains("route.own.allow_if"), "{}", daemon.status());
    daemon.edit("shadow = [\"allow_if\", \"sources\"]", "shadow = [\"sources\"]");
    daemon.done(&["reload"]);
    assert_eq!(ask("/users/bob", &ada).status, 403, "the configuration says so now");
    assert!(!daemon.status()["warnings"].to_string().contains("promoted"), "{}", daemon.status());
}
