//! Whoever a list with `use = "never_ban"` names, as clouds publish it: no rule and no list bans them, limits hold for them,
//! and a guard that starts knows them without the list.

use std::{fs, net::IpAddr, time::Duration};

use serde_json::json;
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request, tls},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, World, bystander},
};

/// The longest that a client waits that may be banned.
const SILENCE: Duration = Duration::from_millis(500);

/// Of the documented form: one service checks health from the attacker's address, another one is for everybody.
fn ranges(checks: &str) -> String {
    let prefix = |prefix: &str, service: &str| json!({ "ip_prefix": prefix, "region": "x", "service": service });
    let prefixes = [prefix(checks, "ROUTE53_HEALTHCHECKS"), prefix("10.0.0.100/31", "EC2")];
    json!({ "syncToken": "1", "prefixes": prefixes, "ipv6_prefixes": [] }).to_string()
}

fn settings() -> Settings {
    let more = format!(
        "{}[limit.per-address]\nrequests = 20\nper = \"1h\"\nburst = 20\n[[feed]]\nname = \"checks\"\npath = \"ranges.json\"\n\
         use = \"never_ban\"\nservices = [\"ROUTE53_HEALTHCHECKS\"]\nstale_after = \"1s\"\n",
        admin::TABLE
    );
    // What a limit refuses counts, too.
    let rules = bad_tokens(3, "10m").replace("\"forged_token\"", "\"forged_token\", \"over_limit\"");
    Settings { rules, more, ..Settings::default() }
}

/// The statuses of so many requests with a bad token.
fn offend(world: &World, times: usize) -> Vec<u16> {
    let client = Client::new(world, ATTACKER_V4);
    let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
    (0..times).map(|_| client.send(&bad).unwrap().status).collect()
}

#[test]
fn whoever_a_list_spares_is_limited_and_never_banned() {
    if !report::may_run("feeds_spared") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let file = world.folder.join("ranges.json");
    fs::write(&file, ranges("10.0.0.64/29")).unwrap();
    let mut daemon = Daemon::start(&world, &settings());
    let listed = |daemon: &Daemon<'_>| {
        until("the ranges", SOON, || {
            let feeds = daemon.status()["feeds"].clone();
            let checks = feeds.as_array()?.iter().find(|feed| feed["name"] == "checks")?;
            (checks["mode"] == "never_ban" && checks["entries"] == 1).then_some(())
        });
    };
    listed(&daemon);
    let why = |daemon: &Daemon<'_>| daemon.done(&["why", &ATTACKER_V4.to_string()]);

    // Its requests are refused as everybody's, and its limit holds.
    let statuses = offend(&world, 30);
    assert!(statuses.contains(&401) && statuses.last() == Some(&429), "{statuses:?}");
    let told = why(&daemon);
    assert_eq!(told["verdict"], "passed", "{told}");
    assert!(told["shields"][0].as_str().unwrap().contains("which the list checks says is never banned"), "{told}");

    // Other services of the cloud are clients like others.
    is_banned(&world, &daemon, bystander(0));

    // A list of strangers that names it, by hand or around it, changes nothing.
    let list = world.folder.join("bad.txt");
    fs::write(&list, "10.0.0.66\n10.0.0.0/25\n198.51.100.1\n").unwrap();
    let told = daemon.done(&["block", "import", list.to_str().unwrap(), "--feed", "bad"]);
    assert_eq!((&told["listed"], &told["refusals"][0]["code"]), (&json!(1), &json!("never_ban")), "{told}");
    assert_eq!(daemon.cli(&["block", "add", "10.0.0.66", "--reason", "x"]).json["code"], "never_ban");

    // Nobody writes the file any more: the list says so, and stays in force.
    let row = "gateway_list_stale{list=\"checks\",origin=\"file\"}";
    until("an old list", SOON, || {
        (admin::get(&world, "/metrics", "").ok().and_then(|told| value(&told.text(), row)) == Some(1.0)).then_some(())
    });
    assert!(daemon.status()["warnings"].to_string().contains("feed:checks: older than stale_after"));

    // A guard that starts knows them, also where the list is gone.
    fs::remove_file(&file).unwrap();
    daemon.kill();
    daemon.start_again();
    listed(&daemon);
    offend(&world, 10);
    assert_eq!(why(&daemon)["verdict"], "passed");

    // Whoever the list names no more is banned as others are.
    fs::write(&file, ranges("192.0.2.0/24")).unwrap();
    until("a list without it", SOON, || why(&daemon)["shields"].as_array()?.is_empty().then_some(()));
    is_banned(&world, &daemon, ATTACKER_V4);
}

/// Offends from there until it is banned.
fn is_banned(world: &World, daemon: &Daemon<'_>, address: IpAddr) {
    let client = Client::new(world, address);
    let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
    until("a ban", SOON, || {
        drop(client.connect_with(tls(), SILENCE).and_then(|mut connection| connection.exchange(&bad)));
        (daemon.done(&["why", &address.to_string()])["verdict"] == "blocked").then_some(())
    });
}
