//! Each default rule is set off by an attacker of its own beside twenty good clients (N01).

use std::{fmt::Write as _, fs, net::IpAddr, thread};

use serde_json::{Value, json};
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT, tls},
    report,
    settings::Settings,
    tokens,
    wait::{SOON, until},
    world::{OUTSIDE, World, bystander},
};

use super::{ANY, ENFORCE, GOOD, Good, SILENCE, go_on, guess, send, settings, stuff, upstream, word};

/// How an attacker commits its offences, of which each has a number.
enum Attack {
    /// Requests over a connection each.
    Apart(fn(u32) -> Request),
    /// Requests over one connection, one after the other.
    Together(fn(u32) -> Request),
    /// Anything else, by this address and by others.
    Otherwise(fn(&World, IpAddr, u32)),
}

use Attack::{Apart, Otherwise, Together};

/// An attack.
struct Case {
    rule: &'static str,
    /// Which offence is the one that the ban follows.
    bound: u32,
    /// How many requests the ban names.
    evidence: usize,
    attack: Attack,
}

const fn case(rule: &'static str, bound: u32, attack: Attack) -> Case {
    Case { rule, bound, evidence: bound as usize, attack }
}

/// What the rules find that ban where `detect.defaults` is `"enforce"`.
const ENFORCED: [Case; 12] = [
    case("credential-stuffing", 10, Apart(stuff)),
    case("password-guessing", 30, Apart(|nth| guess("ada", &format!("secret-{nth}")))),
    case(
        "token-forging",
        10,
        Apart(|_nth| Request::new("GET", "/items/1").token(&tokens::forged("mallory", &["reader"]))),
    ),
    case(
        "forbidden-probing",
        10,
        Apart(|nth| Request::new("GET", &format!("/admin/{}", word(nth))).token(&tokens::good("eve", &["reader"]))),
    ),
    case(
        "object-enumeration",
        30,
        Apart(|nth| Request::new("GET", &format!("/items/{nth}")).token(&tokens::good("mallory", &[]))),
    ),
    case("path-scan", 20, Apart(|nth| Request::new("GET", &format!("/{}", word(nth))))),
    case("path-scan", 20, Apart(|nth| Request::new("GET", &format!("/open/none/{}", word(nth))))),
    case(
        "vulnerability-scan",
        5,
        Apart(|nth| {
            let paths = ["/.env", "/.git/config", "/wp-login.php", "/open/none/phpinfo.php", "/vendor/phpunit/x"];
            Request::new("GET", paths[usize::try_from(nth).unwrap() % paths.len()])
        }),
    ),
    case("injection", 20, Apart(injection)),
    case("malformed-requests", 20, Apart(|_nth| Request::new("GET", "/open/1").header("Host", "another.example"))),
    case(
        "slow-clients",
        10,
        Otherwise(|world, address, _nth| {
            if let Ok(mut connection) = Client::new(world, address).connect_with(tls(), TIMEOUT) {
                drop(connection.write(b"GET /open/1 HT"));
                connection.ends();
            }
        }),
    ),
    case(
        "handshake-abuse",
        30,
        Otherwise(|world, address, _nth| {
            use std::io::{Read as _, Write as _};
            if let Ok(mut stream) = Client::new(world, address).tcp(SILENCE) {
                drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n"));
                drop(stream.read(&mut [0; 100]));
            }
        }),
    ),
];

/// What the rules find that stay in shadow mode unless an operator says otherwise.
const IN_SHADOW: [Case; 7] = [
    // The account has had enough sources once the first one comes again.
    Case { evidence: SOURCES as usize, ..case("account-under-attack", SOURCES + 1, Otherwise(one_account)) },
    case("upstream-logins", 30, Together(|nth| Request::new("GET", &format!("/open/login?try={nth}")))),
    case(
        "refused-tokens",
        10,
        Apart(|_nth| Request::new("GET", "/items/1").token(&tokens::expired("mallory", &["reader"]))),
    ),
    case("object-guessing", 60, Together(|nth| Request::new("GET", &format!("/open/none/{nth}")))),
    case("false-crawler", 10, Apart(|_nth| Request::new("GET", "/open/1").header("User-Agent", CRAWLER))),
    case("error-storm", 30, Together(|nth| Request::new("GET", &format!("/open/broken/{nth}")))),
    case("scraping", 64, Together(|nth| Request::new("GET", &format!("/open/{nth}")))),
];

/// How many sources `account-under-attack` takes.
const SOURCES: u32 = 20;

/// What a crawler with published ranges calls itself.
const CRAWLER: &str = "RangedBot/1.0";

/// The one that is in these ranges.
const VERIFIED: u8 = 31;

fn injection(nth: u32) -> Request {
    Request::new("GET", &format!("/search?q={nth}%27%20or%20%271%27=%271"))
}

/// So often are good clients served before the attacks, and after them: five times each.
const ROUNDS: u32 = 5 * GOOD as u32;

/// An address of those who attack one account together.
fn accomplice(nth: u32) -> IpAddr {
    format!("10.0.0.{}", 180 + nth).parse().unwrap()
}

/// Each offence is by another source, in turn.
fn one_account(world: &World, address: IpAddr, nth: u32) {
    let from = if nth.is_multiple_of(SOURCES) { address } else { accomplice(nth % SOURCES) };
    send(&Client::new(world, from), &guess("victim", &format!("secret-{nth}")));
}

/// Each attacker is banned by its rule, at the offence that the rule says, and no good client is refused. Good clients ask for
/// so many objects.
#[track_caller]
fn banned_beside_good_clients(world: &World, daemon: &Daemon<'_>, objects: u32, cases: &[Case]) {
    let served = Good { objects, ..Good::new(world) }.beside(|served| {
        go_on(served, ROUNDS);
        thread::scope(|scope| {
            for (number, case) in (GOOD..).zip(cases) {
                scope.spawn(move || attacked(world, daemon, bystander(number), case));
            }
        });
        go_on(served, ROUNDS);
    });
    assert!(served > 100, "{served}");
    for number in 0..GOOD {
        let address = bystander(number).to_string();
        assert_eq!(daemon.done(&["why", &address])["verdict"], "passed", "{address}");
    }
}

#[track_caller]
fn attacked(world: &World, daemon: &Daemon<'_>, address: IpAddr, case: &Case) {
    let Case { rule, bound, evidence, attack } = case;
    let attacker = Client::new(world, address);
    let mut kept = matches!(attack, Together(_)).then(|| attacker.connect_with(tls(), SILENCE).unwrap());
    let mut offend = |nth: u32| match (attack, &mut kept) {
        (Together(request), Some(kept)) => drop(kept.exchange(&request(nth))),
        (Apart(request) | Together(request), _) => send(&attacker, &request(nth)),
        (Otherwise(attack), _) => attack(world, address, nth),
    };
    let why = || daemon.done(&["why", &address.to_string()]);
    (0..bound - 1).for_each(&mut offend);
    let before = why();
    assert_eq!(before["verdict"], "passed", "{rule}, one offence less than the rule says: {before}");
    offend(bound - 1);
    let banned = until(&format!("the ban by {rule}"), SOON, || Some(why()).filter(|why| why["verdict"] == "blocked"));
    assert_eq!(banned["entry"]["actor"], format!("rule:{rule}"), "{banned}");
    assert_eq!(banned["evidence"].as_array().map(Vec::len), Some(*evidence), "{rule}: {banned}");
}

#[test]
fn n01_each_rule_bans_its_attacker_beside_good_clients() {
    if !report::may_run("detection::attacks") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, ENFORCE));
    banned_beside_good_clients(&world, &daemon, ANY, &ENFORCED);
}

/// The others, where an operator has them enforced.
#[test]
fn n01_each_rule_in_shadow_bans_its_attacker_once_it_is_enforced() {
    /// Less than `scraping` takes.
    const OBJECTS: u32 = 8;
    if !report::may_run("detection::attacks-in-shadow") {
        return;
    }
    let world = World::new();
    let mut lines = String::new();
    for nth in 1..SOURCES {
        writeln!(lines, "addr add {}/24 dev {OUTSIDE}", accomplice(nth)).unwrap();
    }
    world.outside.configure(&lines);
    let range = json!({ "prefixes": [{ "ipv4Prefix": format!("{}/32", bystander(VERIFIED)) }] });
    fs::write(world.folder.join("ranged.json"), range.to_string()).unwrap();
    let (_upstream, _status) = upstream(&world);
    let rules = IN_SHADOW.map(|case| format!("[[rule]]\nname = \"{}\"\nshadow = false\n", case.rule)).concat();
    let crawler = "[crawler.ranged]\nagents = [\"RangedBot\"]\nfeeds = [\"ranged\"]\n\
                   [[feed]]\nname = \"ranged\"\npath = \"ranged.json\"\nuse = \"crawlers\"\n";
    let settings = settings(&world, &format!("{ENFORCE}{rules}"));
    let more = format!("{}{}{crawler}", settings.more, admin::TABLE);
    let daemon = Daemon::start(&world, &Settings { more, ..settings });
    let verified = Client::new(&world, bystander(VERIFIED));
    until("the ranges in the proxy", SOON, || {
        send(&verified, &Request::new("GET", "/open/1").header("User-Agent", CRAWLER));
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let row = "gateway_crawler_requests_total{crawler=\"ranged\",result=\"verified\"}";
        (admin::value(&text, row)? > 0.0).then_some(())
    });
    banned_beside_good_clients(&world, &daemon, OBJECTS, &IN_SHADOW);
}

/// Where a firewall only reports, an attack is served, and counts for nobody: it may be a false alarm.
#[test]
fn n01_what_a_firewall_only_reports_bans_nobody() {
    if !report::may_run("detection::reported") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, ENFORCE));
    let address = bystander(0);
    let client = Client::new(&world, address);
    let mut connection = client.connect().unwrap();
    for nth in 0..40 {
        let request = Request::new("GET", &format!("/drafts?q={nth}%27%20or%20%271%27=%271"));
        let answer = connection.exchange(&request).unwrap();
        let line = daemon.logged(&answer.id());
        assert_eq!((answer.status, &line["would_deny"], &line["signal"]), (200, &json!("waf"), &Value::Null), "{line}");
    }
    let held = |expect: u32| {
        until(&format!("{expect} held by the rule"), SOON, || {
            let why = daemon.done(&["why", &address.to_string()]);
            assert_eq!(why["verdict"], "passed", "{why}");
            // The proxy may be too busy to say so at once.
            let held = why["score"].as_array()?.iter().find(|score| score["rule"] == "injection")?["held"].clone();
            (held == expect).then_some(())
        });
    };
    held(0);
    // Where it enforces, the same counts.
    assert_eq!(connection.exchange(&injection(0)).unwrap().status, 403);
    held(1);
}
