//! What breaks for everybody at once: a route by a deployment, the keys of tokens. Whoever asked first and was banned for it is
//! unbanned, nobody else is banned, and one alert names the cause (N01).

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    fake_issuer::{FakeIssuer, Reply},
    http1::{Client, Request},
    report,
    tokens::{self, Algorithm, FOREIGN, ISSUERS},
    wait::{SOON, until},
    world::{World, bystander},
};

use super::{
    alerts::{self, webhook},
    detection::{ENFORCE, GOOD, blocked, settings, upstream},
};

/// A rule on all that an upstream says.
const ALL: &str = "[[rule]]\nname = \"all\"\nsignals = [\"upstream_error\", \"upstream_forbidden\", \"upstream_not_found\", \
                   \"upstream_unauthorized\"]\ncount = 10\nwithin = \"1m\"\nban = \"10m\"\n";

/// What a client is answered, so many times. A ban ends it.
fn ask(world: &World, number: u8, path: &str, times: u32) -> Vec<u16> {
    ask_by(&tokens::good(&format!("client-{number}"), &["reader"]), world, number, |_nth| path.to_owned(), times)
}

/// The same, by this token, each time for this path.
fn ask_by(token: &str, world: &World, number: u8, path: impl Fn(u32) -> String, times: u32) -> Vec<u16> {
    let Ok(mut connection) = Client::new(world, bystander(number)).connect() else { return Vec::new() };
    let answers = (0..times).map_while(|nth| connection.exchange(&Request::new("GET", &path(nth)).token(token)).ok());
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
    settings.more += &format!("{}{}", admin::TABLE, alerts::NEVER);
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

/// An alert that was sent: its name, and the labels that name the cause.
type Cause = (String, Option<String>, Option<String>);

fn cause(name: &str, signal: Option<&str>, of: &str) -> Cause {
    (name.to_owned(), signal.map(str::to_owned), Some(of.to_owned()))
}

/// What was ever said to begin or to go on.
fn causes(receivers: &alerts::Receivers) -> BTreeSet<Cause> {
    let sent = receivers.at("/ok");
    let alerts = sent.iter().flat_map(|line| line["body"]["alerts"].as_array().unwrap());
    let firing = alerts.filter(|alert| alert["status"] == "firing");
    let label = |alert: &Value, name: &str| alert["labels"][name].as_str().map(str::to_owned);
    firing
        .map(|alert| {
            let of = label(alert, "route").or_else(|| label(alert, "issuer"));
            (alert["name"].as_str().unwrap().to_owned(), label(alert, "signal"), of)
        })
        .collect()
}

/// What goes wrong, for everybody at once.
enum Breaks {
    /// The upstream answers all of it with this status.
    Upstream(u16),
    /// A reload takes the role's permissions away.
    Role,
    /// The issuer signs by a key that the key set does not have.
    Key,
}

/// As many objects as `object-enumeration` takes, and more.
const OBJECTS: u32 = 35;

/// Twenty good clients are refused, each again and again: nobody is banned, and one alert that was not there before comes.
#[track_caller]
fn one_alert(
    world: &World,
    (daemon, status): (&Daemon<'_>, &AtomicU16),
    receivers: &alerts::Receivers,
    case: (Breaks, Cause),
) {
    let (breaks, expect) = case;
    for number in 0..GOOD {
        until("a client to be established", SOON, || {
            assert_eq!(ask(world, number, "/items/7", 1), [200]);
            let why = daemon.done(&["why", &bystander(number).to_string()]);
            (why["standing"]["good_principals"] == 1).then_some(())
        });
    }
    let before = causes(receivers);
    let said = match breaks {
        Breaks::Upstream(said) => said,
        Breaks::Role => 403,
        Breaks::Key => 401,
    };
    match breaks {
        Breaks::Upstream(said) => status.store(said, Ordering::Relaxed),
        Breaks::Role => {
            daemon.edit("reader = [\"items:read\"]", "reader = []");
            daemon.done(&["reload"]);
        }
        Breaks::Key => {}
    }
    let mut header = tokens::header(Algorithm::Es256);
    let keys = if matches!(breaks, Breaks::Key) { &FOREIGN } else { &ISSUERS };
    if matches!(breaks, Breaks::Key) {
        header["kid"] = "ec-2".into();
    }
    let all_fail = || {
        for number in 0..GOOD {
            let claims = tokens::claims(&format!("client-{number}"), &["reader"]);
            let token = keys.sign(Algorithm::Es256, &header.to_string(), &claims.to_string());
            let answers = ask_by(&token, world, number, |nth| format!("/items/{nth}"), OBJECTS);
            assert_eq!(answers, vec![said; OBJECTS as usize], "client {number}: {expect:?}");
        }
    };
    // A busy machine may take longer over all of them than the time in which they count as failing together.
    until(&format!("{expect:?}"), SOON, || {
        all_fail();
        causes(receivers).contains(&expect).then_some(())
    });
    all_fail();
    let new: Vec<Cause> = causes(receivers).difference(&before).cloned().collect();
    assert_eq!(new, [expect]);
    assert_eq!(blocked(daemon), Vec::<String>::new());
    status.store(0, Ordering::Relaxed);
    if matches!(breaks, Breaks::Role) {
        daemon.edit("reader = []", "reader = [\"items:read\"]");
        daemon.done(&["reload"]);
    }
}

#[test]
fn n01_what_fails_for_all_bans_nobody_and_is_one_alert() {
    if !report::may_run("deployments::one-alert") {
        return;
    }
    let world = World::new();
    let (_upstream, status) = upstream(&world);
    let receivers = alerts::Receivers::start(&world, &[]);
    let mut settings = settings(&world, ENFORCE);
    settings.more += &format!("{}{}", admin::TABLE, webhook("ok", "/ok", ""));
    let daemon = Daemon::start(&world, &settings);
    let fails = |signal: &str, route: &str| cause("good_clients_fail", Some(signal), route);
    let cases = [
        (Breaks::Upstream(401), fails("upstream_unauthorized", "/items/{id}")),
        (Breaks::Upstream(500), fails("upstream_error", "/items/{id}")),
        (Breaks::Upstream(404), fails("upstream_not_found", "/items/{id}")),
        (Breaks::Role, fails("forbidden", "(any)")),
        (Breaks::Key, fails("unknown_key", "(any)")),
    ];
    let all: BTreeSet<Cause> = cases.iter().map(|(_, cause)| cause.clone()).collect();
    for case in cases {
        one_alert(&world, (&daemon, &status), &receivers, case);
    }
    assert_eq!(causes(&receivers), all, "and no other");
}

/// The keys of an issuer that cannot be reached are too old in the end: its tokens are answered 503.
#[test]
fn n01_keys_that_have_expired_ban_nobody_and_are_one_alert() {
    /// A minute until the keys are too old, and another one until that is an alert.
    const MINUTES: Duration = Duration::from_secs(200);
    if !report::may_run("deployments::keys") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let receivers = alerts::Receivers::start(&world, &[]);
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", &ISSUERS)]);
    let mut settings = settings(&world, ENFORCE);
    settings.jwt = "roles = [\"reader\", \"editor\"]".to_owned();
    settings.more += &format!(
        "{}{}[issuer.idp]\nissuer = \"{}\"\naudience = \"api\"\njwks_url = \"http://127.0.0.1:9100/keys\"\n\
         roles = [\"reader\"]\n[issuer.idp.fetch]\nallow_http = true\nrefresh = \"1m\"\nstale_for = \"1m\"\n",
        admin::TABLE,
        webhook("ok", "/ok", ""),
        issuer.issuer
    );
    let daemon = Daemon::start(&world, &settings);
    let asks = |number: u8, times: u32| {
        let token = issuer.token(&format!("client-{number}"), "old", &ISSUERS);
        ask_by(&token, &world, number, |nth| format!("/items/{nth}"), times)
    };
    for number in 0..GOOD {
        assert_eq!(asks(number, 1), [200]);
    }
    issuer.reply(Reply::Status("500 Internal Server Error".to_owned(), String::new()));
    until("the alert", MINUTES, || (!causes(&receivers).is_empty()).then_some(()));
    for number in 0..GOOD {
        assert_eq!(asks(number, OBJECTS), vec![503; OBJECTS as usize], "client {number}");
    }
    assert_eq!(causes(&receivers), BTreeSet::from([cause("keys_unusable", None, "issuer.idp")]));
    assert_eq!(blocked(&daemon), Vec::<String>::new());
    // The keys are there again, and all of them are served.
    issuer.publish(&[("old", &ISSUERS)]);
    until("the keys", SOON, || asks(0, 1).ends_with(&[200]).then_some(()));
    for number in 0..GOOD {
        assert_eq!(asks(number, 1), [200]);
    }
}
