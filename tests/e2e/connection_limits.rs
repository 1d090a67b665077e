//! Limits on connections and TLS handshakes of a source: what is over them is reset before any work, is counted, and can
//! lead to a ban. Nobody causes that in another's name.

use std::io::Read as _;

use serde_json::json;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, ATTACKER_V6, ATTACKER_V6_TOO, GOOD_V4, World, bystander},
};

fn settings(more: &str) -> Settings {
    Settings { interfaces: Vec::new(), rules: String::new(), more: more.to_owned(), ..Settings::default() }
}

/// Whether a connection is reset without any byte. Whoever is let in, and says nothing, is waited for that long.
fn is_reset(client: &Client<'_>) -> bool {
    let Ok(mut tcp) = client.tcp(SOON) else { return true };
    tcp.set_read_timeout(Some(TIMEOUT)).unwrap();
    matches!(tcp.read(&mut [0; 16]), Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn d05_connections_at_once_of_an_address_and_of_a_prefix() {
    if !report::may_run("connection limits: at once") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[connection_limit.open]\nconcurrent = 3\n\
                [connection_limit.wide]\nby = \"address/48\"\nconcurrent = 4\nexcept = [\"10.0.0.0/8\"]\n";
    let daemon = Daemon::start(&world, &settings(more));
    let (one, other) = (Client::new(&world, ATTACKER_V4), Client::new(&world, GOOD_V4));
    let mut held: Vec<_> = (0..3).map(|_| one.connect().unwrap()).collect();
    assert!(is_reset(&one), "the fourth");
    assert_eq!(other.get("/health", "").unwrap().status, 200, "another source");
    assert_eq!(held[0].exchange(&Request::new("GET", "/health")).unwrap().status, 200, "who is here is served");
    // A reload keeps who is counted.
    daemon.edit("concurrent = 3", "concurrent = 2");
    daemon.done(&["reload"]);
    held.pop();
    assert!(is_reset(&one));
    held.pop();
    until("a place", SOON, || one.get("/health", "").ok().filter(|answer| answer.status == 200));
    drop(held);
    let wide = [Client::new(&world, ATTACKER_V6), Client::new(&world, ATTACKER_V6_TOO)];
    let held: Vec<_> = (0..2).map(|at: usize| wide[at % 2].connect().unwrap()).collect();
    assert!(is_reset(&wide[0]) && is_reset(&wide[1]), "the /64 is one source");
    drop(held);
    let line = until("the refusal in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["signal"] == "handshake_abuse")
    });
    assert_eq!((&line["detail"], &line["status"]), (&json!("over limit.open"), &json!(0)), "{line}");
    let rows = daemon.done(&["limit", "list"]);
    let row = rows["rows"].as_array().unwrap().iter().find(|row| row["limit"] == "connection_limit.open").unwrap();
    assert!(row["refused"].as_u64() >= Some(4), "{row}");
}

#[test]
fn d05_new_connections_and_handshakes_in_a_time() {
    if !report::may_run("connection limits: rates") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!(
        "{}[connection_limit.new]\nconnections = 5\nper = \"1h\"\nexcept = [\"10.0.0.2\"]\n\
         [connection_limit.tls]\nhandshakes = 3\nper = \"1h\"\nexcept = [\"10.0.0.2\"]\n\
         [[rule]]\nname = \"abuse\"\nsignals = [\"handshake_abuse\"]\ncount = 6\nwithin = \"60s\"\nban = \"10m\"\n",
        admin::TABLE
    );
    let daemon = Daemon::start(&world, &settings(&more));
    let shaken = |client: &Client<'_>| {
        (0..5).filter(|_| client.get("/health", "").is_ok_and(|answer| answer.status == 200)).count()
    };
    let client = Client::new(&world, bystander(0));
    assert_eq!(shaken(&client), 3, "handshakes");
    assert!(is_reset(&client), "the sixth connection");
    until("the metrics", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let refused = |limit: &str| {
            let row = format!("gateway_limit_requests_total{{limit=\"connection_limit.{limit}\",result=\"refused\"}}");
            admin::value(&text, &row)
        };
        (refused("tls") == Some(2.0) && refused("new") == Some(1.0)).then_some(())
    });
    // Whoever goes on is banned.
    until("the ban", SOON, || {
        let _refused = is_reset(&client);
        (daemon.done(&["why", &bystander(0).to_string()])["entry"]["actor"] == "rule:abuse").then_some(())
    });
    assert_eq!(Client::new(&world, bystander(1)).get("/health", "").unwrap().status, 200, "another source");
    let why = daemon.done(&["why", &bystander(1).to_string()]);
    assert!(why["limits"].as_array().is_some_and(|rows| rows.iter().any(|row| row["limit"] == "connection_limit.tls")));
    // Excepted, and allowlisted.
    assert_eq!(shaken(&Client::new(&world, GOOD_V4)), 5);
    let friend = bystander(2);
    daemon.done(&["allow", "add", &friend.to_string()]);
    until("it to be allowlisted", SOON, || (shaken(&Client::new(&world, friend)) == 5).then_some(()));
}
