//! Crawlers that are verified by their names or ranges are not banned for crawling; who only says that it is one is found
//! out, and who cannot be looked up is neither.

use std::{fs, net::IpAddr, time::Duration};

use serde_json::json;
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request, tls},
    name_server::{NameServer, Reply},
    report,
    settings::Settings,
    wait::until,
    world::{GOOD_V6, World, bystander},
};

const LONG: Duration = Duration::from_secs(30);

/// The longest that a client waits that may be banned.
const SILENCE: Duration = Duration::from_millis(500);

const AGENT: &str = "Mozilla/5.0 (compatible; Examplebot/2.1; +http://crawl.example/bot)";

const RANGED: &str = "RangedBot/1.0";

/// More than any rule here takes.
const MANY: u32 = 20;

const TABLES: &str = r#"
[crawlers]
resolvers = ["127.0.0.1:5353"]

[crawler.example]
agents = ["examplebot"]
hosts = [".crawl.example"]

[crawler.ranged]
agents = ["RangedBot"]
feeds = ["ranged"]

[[feed]]
name = "ranged"
path = "ranged.json"
use = "crawlers"

[[rule]]
name = "scan"
signals = ["unknown_route"]
distinct = "paths"
count = 5
within = "10m"
ban = "10m"

[[rule]]
name = "liars"
signals = ["false_crawler"]
count = 5
within = "10m"
ban = "10m"
"#;

fn settings() -> Settings {
    Settings { rules: String::new(), more: format!("{}{TABLES}", admin::TABLE), ..Settings::default() }
}

/// Asks for what does not exist; whether it is answered.
fn ask(client: &Client<'_>, path: &str, agent: Option<&str>) -> bool {
    let request = Request::new("GET", path);
    let request = agent.map_or(request.clone(), |agent| request.header("User-Agent", agent));
    let answered = client.connect_with(tls(), SILENCE).and_then(|mut connection| connection.exchange(&request));
    answered.is_ok_and(|answer| answer.status == 404)
}

/// Asks for one path after the other that does not exist, and must be answered each time.
#[track_caller]
fn crawl(client: &Client<'_>, agent: &str) {
    for number in 0..MANY {
        let word: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        let request = Request::new("GET", &format!("/{word}")).header("User-Agent", agent);
        let answer = client.send(&request).unwrap_or_else(|error| panic!("{agent}, {number}: {error}"));
        assert_eq!(answer.status, 404, "{agent}, {number}");
    }
}

/// Asks for a few different paths that do not exist, answered or not.
fn scan(client: &Client<'_>, agent: Option<&str>) {
    for letter in ["a", "b", "c", "d", "e", "f"] {
        ask(client, &format!("/scan/{letter}"), agent);
    }
}

/// Asks for the same path until it is banned: by which rule.
fn banned(daemon: &Daemon<'_>, client: &Client<'_>, agent: &str, address: IpAddr) -> String {
    until("a ban", LONG, || {
        ask(client, "/same", Some(agent));
        let why = daemon.done(&["why", &address.to_string()]);
        (why["verdict"] == "blocked").then(|| why["entry"]["actor"].as_str().unwrap().to_owned())
    })
}

fn metric(world: &World, row: &str) -> f64 {
    admin::get(world, "/metrics", "").ok().and_then(|answer| value(&answer.text(), row)).unwrap_or(0.0)
}

#[track_caller]
fn looked_up(world: &World, result: &str, times: f64) {
    let row = format!("gateway_crawler_lookups_total{{result=\"{result}\"}}");
    until(&row, LONG, || (metric(world, &row) >= times).then_some(()));
}

fn pointer(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa PTR")
        }
        IpAddr::V6(address) => {
            let digits: Vec<String> = format!("{:032x}", address.to_bits()).chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa PTR", digits.join("."))
        }
    }
}

#[test]
fn by_name() {
    if !report::may_run("crawlers::by_name") {
        return;
    }
    let world = World::new();
    fs::write(world.folder.join("ranged.json"), "{\"prefixes\":[{\"ipv4Prefix\":\"192.0.2.0/24\"}]}").unwrap();
    let names = NameServer::start(&world.gate, "127.0.0.1:5353");
    let [real, liar, nameless, failing, silent] = [0, 1, 2, 3, 4].map(bystander);
    names.put(&pointer(real), Reply::Name("Crawl-1.crawl.example".to_owned()));
    names.put("crawl-1.crawl.example A", Reply::Address(real));
    // Whoever has an address writes what they like into its PTR record: the name does not have the address.
    names.put(&pointer(liar), Reply::Name("crawl-1.crawl.example".to_owned()));
    names.put(&pointer(failing), Reply::Failure);
    names.put(&pointer(silent), Reply::Silence);
    let daemon = Daemon::start(&world, &settings());
    let client = |address| Client::new(&world, address);
    let verdict = |address: IpAddr| daemon.done(&["why", &address.to_string()])["verdict"].clone();

    // No request waits for the name server, which says nothing: it is a request like any other.
    crawl_once(&client(silent));
    until("the question", LONG, || names.asked().contains(&pointer(silent)).then_some(()));

    crawl_once(&client(real));
    looked_up(&world, "verified", 1.0);
    crawl(&client(real), AGENT);
    assert_eq!(verdict(real), "passed");
    let row = "gateway_crawler_requests_total{crawler=\"example\",result=\"verified\"}";
    until(row, LONG, || (metric(&world, row) >= f64::from(MANY)).then_some(()));
    let asked = names.asked().into_iter().filter(|asked| *asked == pointer(real)).count();
    assert_eq!(asked, 1, "it is asked once");

    // Who is not what it says is counted, by each request.
    for address in [liar, nameless] {
        assert_eq!(banned(&daemon, &client(address), AGENT, address), "rule:liars");
    }
    let metric_of_liars = "gateway_signals_total{signal=\"false_crawler\"}";
    until(metric_of_liars, LONG, || (metric(&world, metric_of_liars) >= 10.0).then_some(()));

    // Who cannot be looked up is held for a liar by nobody, nor for a crawler.
    for address in [failing, silent] {
        crawl_once(&client(address));
    }
    looked_up(&world, "failed", 2.0);
    for address in [failing, silent] {
        for _ in 0..MANY {
            assert!(ask(&client(address), "/same", Some(AGENT)), "{address} is banned as a liar");
        }
        assert_eq!(verdict(address), "passed", "{address}");
        let actor = until("a ban of who scans", LONG, || {
            scan(&client(address), Some(AGENT));
            let why = daemon.done(&["why", &address.to_string()]);
            (why["verdict"] == "blocked").then(|| why["entry"]["actor"].clone())
        });
        assert_eq!(actor, "rule:scan", "{address}");
    }
    // What does not say that it is a crawler is none, from whatever address.
    until("a ban of who says nothing", LONG, || {
        scan(&client(real), None);
        (verdict(real) == "blocked").then_some(())
    });
}

/// Whoever has a network has its PTR records and the names of a domain of their own, and may answer as late as they like.
#[test]
fn names_of_attackers() {
    if !report::may_run("crawlers::attackers") {
        return;
    }
    let world = World::new();
    fs::write(world.folder.join("ranged.json"), "{\"prefixes\":[{\"ipv4Prefix\":\"192.0.2.0/24\"}]}").unwrap();
    let names = NameServer::start(&world.gate, "127.0.0.1:5353");
    let [outsider, suffixed, homeless] = [0, 1, 2].map(bystander);
    // A domain of their own that confirms the address, one that only begins as the crawler's does, and a name of the
    // crawler's domain that does not exist.
    for (address, name, has_address) in [
        (outsider, "crawl.attacker.example", true),
        (suffixed, "a.crawl.example.attacker.example", true),
        (homeless, "crawl-9.crawl.example", false),
    ] {
        names.put(&pointer(address), Reply::Name(name.to_owned()));
        if has_address {
            names.put(&format!("{name} A"), Reply::Address(address));
        }
    }
    let slow: Vec<IpAddr> = (3..11).map(bystander).collect();
    slow.iter().for_each(|address| names.put(&pointer(*address), Reply::Silence));
    names.put(&pointer(GOOD_V6), Reply::Name("crawl-6.crawl.example".to_owned()));
    names.put("crawl-6.crawl.example AAAA", Reply::Address(GOOD_V6));
    let daemon = Daemon::start(&world, &settings());
    for address in [outsider, suffixed, homeless] {
        assert_eq!(banned(&daemon, &Client::new(&world, address), AGENT, address), "rule:liars", "{address}");
    }

    // A network whose name server says nothing takes some of the places, and the crawler is verified meanwhile.
    for address in &slow {
        crawl_once(&Client::new(&world, *address));
    }
    crawl_once(&Client::new(&world, GOOD_V6));
    looked_up(&world, "verified", 1.0);
    crawl(&Client::new(&world, GOOD_V6), AGENT);
    assert_eq!(daemon.done(&["why", &GOOD_V6.to_string()])["verdict"], "passed");
    let asked = names.asked();
    let asked = slow.iter().filter(|address| asked.contains(&pointer(**address))).count();
    assert!((1..slow.len()).contains(&asked), "{asked} of one network are asked about");
}

/// One request that must be answered.
#[track_caller]
fn crawl_once(client: &Client<'_>) {
    assert!(ask(client, "/same", Some(AGENT)), "it is not answered");
}

#[test]
fn by_range() {
    if !report::may_run("crawlers::by_range") {
        return;
    }
    let world = World::new();
    let (inside, outside) = (bystander(0), bystander(1));
    let list = |networks: &[&str]| {
        let prefixes: Vec<_> = networks.iter().map(|network| json!({ "ipv4Prefix": network })).collect();
        let more = json!({ "ipv6Prefix": "2001:db8::/64" });
        let prefixes = [prefixes, vec![more]].concat();
        json!({ "creationTime": "2026-11-30T00:00:00", "prefixes": prefixes }).to_string()
    };
    fs::write(world.folder.join("ranged.json"), list(&["10.0.0.100/32"])).unwrap();
    let names = NameServer::start(&world.gate, "127.0.0.1:5353");
    let mut daemon = Daemon::start(&world, &settings());
    let loaded = |daemon: &Daemon<'_>, entries: u64| {
        until("the ranges", LONG, || {
            let feeds = daemon.status()["feeds"].clone();
            (feeds[0]["mode"] == "crawlers" && feeds[0]["entries"] == entries).then_some(())
        });
    };
    let verified = || metric(&world, "gateway_crawler_requests_total{crawler=\"ranged\",result=\"verified\"}");
    let client = |address| Client::new(&world, address);
    let known = |address| {
        let before = verified();
        until("the ranges in the proxy", LONG, || {
            ask(&client(address), "/same", Some(RANGED));
            (verified() > before).then_some(())
        });
    };
    loaded(&daemon, 2);
    known(inside);
    crawl(&client(inside), RANGED);
    assert_eq!(banned(&daemon, &client(outside), RANGED, outside), "rule:liars");
    assert_eq!(daemon.done(&["why", "10.0.0.100"])["verdict"], "passed");

    // A gateway that starts anew reads them again.
    daemon.kill();
    daemon.start_again();
    loaded(&daemon, 2);
    known(inside);
    crawl(&client(inside), RANGED);

    // The list changes, and with it who is one.
    let other = bystander(2);
    fs::write(world.folder.join("ranged.json"), list(&["10.0.0.102/32", "192.0.2.0/24"])).unwrap();
    loaded(&daemon, 3);
    known(other);
    crawl(&client(other), RANGED);
    assert_eq!(banned(&daemon, &client(inside), RANGED, inside), "rule:liars");
    assert!(names.asked().is_empty(), "{:?}", names.asked());
    assert_eq!(daemon.status()["blocks"], 2, "a list of ranges bans nobody");
}
