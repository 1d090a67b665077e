//! How many requests a source may make, over the wire: exactly its burst, whatever it dresses them up as.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    http2, report,
    settings::Settings,
    upstream::Upstream,
    world::{ATTACKER_V6, ATTACKER_V6_TOO, GOOD_V4, World, bystander},
};

const BURST: usize = 8;

#[test]
fn a_source_has_one_budget() {
    if !report::may_run("limit") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.address]\nrequests = 8\nper = \"10m\"\nburst = 8\n".to_owned();
    let daemon = Daemon::start(&world, &Settings { more, ..Settings::default() });

    // One connection.
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let served = (0..BURST).filter(|_| connection.exchange(&Request::new("GET", "/health")).unwrap().status == 200);
    assert_eq!(served.count(), BURST);
    let refused = client.get("/health", "").unwrap();
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=75).contains(&wait), "Retry-After: {wait}");
    assert_eq!(refused.json()["type"], "urn:gateway:problem:too_many_requests");
    assert_eq!(daemon.logged(&refused.id())["signal"], "over_limit");
    assert_eq!(upstream.received().len(), BURST, "a refused request reached the upstream");

    // D05: other paths, spoofed addresses, streams and connections draw on the same budget; other sources do not.
    let client = Client::new(&world, bystander(0));
    let dressed = |number: usize| {
        let target = format!("/health?{number}");
        Request::new("GET", &target).header("X-Forwarded-For", &format!("203.0.113.{number}"))
    };
    let statuses: Vec<u16> = (0..BURST + 3).map(|number| client.send(&dressed(number)).unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");

    let client = Client::new(&world, bystander(1));
    let answers = client.send_http2((0..BURST * 2).map(|_| http2::get("/health", "")).collect()).unwrap();
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");

    // IPv6: the /64 is one source.
    let clients = [Client::new(&world, ATTACKER_V6), Client::new(&world, ATTACKER_V6_TOO)];
    let statuses: Vec<u16> =
        (0..BURST + 4).map(|number| clients[number % 2].get("/health", "").unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), BURST, "{statuses:?}");
}
