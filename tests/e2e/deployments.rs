//! A deployment that breaks a route for everybody: whoever asked first and was banned for it is unbanned, and one alert names
//! the cause (N01).

use std::sync::atomic::Ordering;

use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    report, tokens,
    wait::{SOON, until},
    world::{World, bystander},
};

use super::detection::{ENFORCE, GOOD, blocked, settings, upstream};

/// A rule on all that an upstream says.
const ALL: &str = "[[rule]]\nname = \"all\"\nsignals = [\"upstream_error\", \"upstream_forbidden\", \"upstream_not_found\", \
                   \"upstream_unauthorized\"]\ncount = 10\nwithin = \"1m\"\nban = \"10m\"\n";

/// An alert that never fires: with it, the built-in ones are on.
const ALERT: &str = "[[alert]]\nname = \"never\"\nmetric = \"gateway_blocks\"\ncondition = \"> 1000000\"\n";

/// What a client is answered, so many times. A ban ends it.
fn ask(world: &World, number: u8, path: &str, times: u32) -> Vec<u16> {
    let token = tokens::good(&format!("client-{number}"), &["reader"]);
    let Ok(mut connection) = Client::new(world, bystander(number)).connect() else { return Vec::new() };
    let answers = (0..times).map_while(|_| connection.exchange(&Request::new("GET", path).token(&token)).ok());
    answers.map(|answer| answer.status).collect()
}

#[test]
fn n01_what_a_bad_deployment_banned_is_taken_back() {
    if !report::may_run("deployments::taken-back") {
        return;
    }
    let world = World::new();
    let (_upstream, status) = upstream(&world);
    let mut settings = settings(&world, &format!("{ENFORCE}{ALL}"));
    settings.more += &format!("{}{ALERT}", admin::TABLE);
    let daemon = Daemon::start(&world, &settings);
    let why = |number: u8| daemon.done(&["why", &bystander(number).to_string()]);
    let alerts = |signal: &str| -> Vec<Value> {
        let listed = daemon.done(&["alert", "list"]);
        let all = listed["alerts"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|alert| alert["labels"]["signal"] == signal).collect()
    };
    for (round, (said, signal)) in (0..).zip([(500, "upstream_error"), (403, "upstream_forbidden")]) {
        status.store(0, Ordering::Relaxed);
        for number in 0..GOOD {
            until("a client to be established", SOON, || {
                assert_eq!(ask(&world, number, "/items/7", 1), [200]);
                (why(number)["standing"]["good_principals"] == 1).then_some(())
            });
        }
        // A scan of what is not there, on a route that works: nobody's fault but its own.
        let (early, scanner) = (GOOD + 2 * round, GOOD + 2 * round + 1);
        assert_eq!(ask(&world, scanner, "/open/none/x", 10), [404; 10]);
        until("the scanner's ban", SOON, || (why(scanner)["verdict"] == "blocked").then_some(()));

        status.store(said, Ordering::Relaxed);
        assert!(ask(&world, early, "/items/7", 10).iter().all(|status| *status == said));
        until("the ban of who came first", SOON, || (why(early)["verdict"] == "blocked").then_some(()));
        for number in 0..GOOD {
            assert_eq!(ask(&world, number, "/items/7", 12), [said; 12], "client {number}");
        }
        let told =
            until("the ban to be taken back", SOON, || Some(why(early)).filter(|why| why["verdict"] != "blocked"));
        let how = told["history"][0]["how"].as_str().unwrap();
        assert_eq!(how, format!("taken back: good clients fail together on /items/{{id}} by {signal}"), "{told}");
        assert_eq!(ask(&world, early, "/items/7", 1), [said], "it is served as all others are");
        let alerts = until("the alert", SOON, || Some(alerts(signal)).filter(|alerts| !alerts.is_empty()));
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        let told = (&alerts[0]["name"], &alerts[0]["labels"]["route"]);
        assert_eq!(told, (&"good_clients_fail".into(), &"/items/{id}".into()), "{alerts:?}");
        let left = blocked(&daemon);
        assert!(left.iter().all(|source| (0..GOOD).all(|number| *source != bystander(number).to_string())), "{left:?}");
        assert!(left.contains(&bystander(scanner).to_string()), "{left:?}");
    }
    let chain = std::fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(chain.contains("taken back: good clients fail together on /items/{id} by upstream_error"), "{chain}");
}
