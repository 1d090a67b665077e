//! What is not usual is told, and from whom it comes: by what an earlier observer has learned, which is on the disk.

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread::{self, Scope},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request},
    report,
    scripted::{Exchange, Scripted},
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

/// Two minutes must be over on the clock, and a little more.
pub(super) const MINUTES: Duration = Duration::from_secs(200);

/// An alert, without which the built-in ones are off.
const ALERT: &str = "[[alert]]\nname = \"mine\"\nmetric = \"gateway_usual_ratio\"\ncondition = \"> 3\"\n";

/// Four weeks in which there were so many in each minute: by route and measure.
fn learned(usual: &[(&str, &str, f64)]) -> Value {
    let series = |(route, measure, many): &(&str, &str, f64)| {
        let hour = json!([many, 0.0, 4]);
        let model = json!({
            "week": vec![hour.clone(); 168], "day": vec![hour.clone(); 24], "all": hour, "hour": null, "minutes": [],
        });
        json!([[{ "Route": route }, measure], { "model": model }])
    };
    let series: Vec<Value> = usual.iter().map(series).collect();
    json!({ "version": 1, "series": series, "current": [], "past": [] })
}

fn learn(world: &World, usual: &[(&str, &str, f64)]) {
    let folder = world.folder.join("state/observer");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("usual.0"), kept(&learned(usual))).unwrap();
}

/// A file as the observer writes it.
fn kept(content: &Value) -> Vec<u8> {
    let content = content.to_string().into_bytes();
    let mut file = b"gwkeep01".to_vec();
    file.extend(2_u64.to_le_bytes());
    file.extend((content.len() as u64).to_le_bytes());
    file.extend(crc32(&content).to_le_bytes());
    file.extend(content);
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn an_anomaly_is_told_in_a_sentence() {
    if !report::may_run("anomalies") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    learn(&world, &[("(none)", "Failures", 1.0)]);
    let more = format!("{}{ALERT}[anomalies]\nminutes = 1\n", admin::TABLE);
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), more, ..Settings::default() });
    let report = daemon.done(&["anomalies"]);
    assert_eq!(
        (&report["is_on"], &report["series"], &report["list"]),
        (&json!(true), &json!(1), &json!([])),
        "{report}"
    );
    let client = Client::new(&world, GOOD_V4);
    let told = until("the anomaly", MINUTES, || {
        for _ in 0..20 {
            client.get("/nowhere", "").ok()?;
        }
        daemon.done(&["anomalies"])["list"].as_array()?.iter().find(|one| one["measure"] == "failures").cloned()
    });
    let sentence = told["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("(none): ") && sentence.contains(" failures a minute, usually 0 to 3 on "),
        "{sentence}"
    );
    until("its alerts", MINUTES, || {
        let listed = daemon.done(&["alert", "list"]);
        let named = |name: &str| listed["alerts"].as_array()?.iter().find(|alert| alert["name"] == name).cloned();
        let anomaly = named("anomaly")?;
        let summary = anomaly["summary"].as_str().unwrap();
        assert!(summary.starts_with(sentence) && anomaly["labels"]["of"] == "(none)", "{anomaly}");
        // By default it is told from whom it comes, and nothing is done about it.
        let from = summary.strip_prefix(&format!("{sentence}; 1 source: {GOOD_V4} "))?;
        assert!(!from.contains('('), "{summary}");
        named("mine")
    });
    until("the metric", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        (value(&text, "gateway_anomalies{of=\"(none)\",measure=\"failures\"}") == Some(1.0)).then_some(())
    });
    // The rest is new, and being learned: nothing is said of it.
    let report = daemon.done(&["anomalies"]);
    assert_eq!(report["list"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["learning"].as_u64().unwrap() > 1, "{report}");
}

/// What a client does again and again.
pub(super) struct Habit {
    path: &'static str,
    every: Duration,
    /// Which answers it may get.
    status: fn(u16) -> bool,
}

pub(super) const fn habit(path: &'static str, millis: u64, status: fn(u16) -> bool) -> Habit {
    Habit { path, every: Duration::from_millis(millis), status }
}

/// Asks until it is over, with a token or without one. `wrong`: what it must not get.
pub(super) fn go_on(client: &Client<'_>, token: Option<&str>, habit: &Habit, over: &AtomicBool, wrong: &AtomicU32) {
    for nth in 0_u32.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let request = Request::new("GET", &format!("{}/{nth}", habit.path));
        let request = token.map_or_else(|| request.clone(), |token| request.clone().token(token));
        if !client.send(&request).is_ok_and(|response| (habit.status)(response.status)) {
            wrong.fetch_add(1, Ordering::Relaxed);
        }
        pause(habit.every);
    }
}

/// What is usual of three routes, and what is done where it is not.
pub(super) fn acting(world: &World) -> Settings {
    let usual = [("(none)", "Failures", 1.0), ("/fresh/{*rest}", "Failures", 1.0), ("/open/{*rest}", "Requests", 20.0)];
    learn(world, &usual);
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/open/{*rest}", "[\"GET\"]", "[\"public\"]", ""),
        route("/fresh/{*rest}", "[\"GET\"]", "[\"public\"]", ""),
    ];
    let actions = "[anomalies]\nminutes = 1\n[anomalies.actions]\nfailures = \"ban\"\nrequests = \"limit\"\n";
    let more = format!("{}{ALERT}{actions}", admin::TABLE);
    Settings { routes: routes.concat(), rules: String::new(), more, ..Settings::default() }
}

/// How long after the end of a minute it was, at a time of RFC 3339.
pub(super) fn after_the_minute(time: &str) -> Duration {
    let (_, seconds) = time.trim_end_matches('Z').rsplit_once(':').unwrap();
    Duration::from_secs_f64(seconds.parse().unwrap())
}

/// How many clients are known to be good, and how many come in a crowd that nobody knows.
const GOOD: u8 = 20;
const CROWD: u8 = 6;

/// Whoever floods a route.
fn flooder() -> IpAddr {
    bystander(GOOD + CROWD)
}

/// Who asks until it is over, and what they got that they must not get.
#[derive(Default)]
struct Traffic {
    over: AtomicBool,
    /// Of the good clients and the crowd.
    wrong: AtomicU32,
    /// Of the flooder: refusals by a limit.
    limited: AtomicU32,
    /// Of the attacker, which may get anything.
    ignored: AtomicU32,
}

impl Traffic {
    fn begin<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, world: &'scope World) {
        let Self { over, wrong, limited, ignored } = self;
        for number in 0..GOOD + CROWD {
            let token = tokens::good(&format!("good-{number}"), &["reader"]);
            // A crowd that nobody knows: it proves nothing.
            let token = (number < GOOD).then_some(token);
            scope.spawn(move || {
                let client = Client::new(world, bystander(number));
                let served = habit(if number < GOOD { "/items" } else { "/open" }, 3_000, |status| status == 200);
                thread::scope(|own| {
                    own.spawn(|| go_on(&client, token.as_deref(), &served, over, wrong));
                    own.spawn(|| {
                        go_on(&client, None, &habit("/open", 3_000, |status| status == 200), over, wrong);
                    });
                    go_on(&client, None, &habit("/fresh", 2_000, |status| status == 404), over, wrong);
                });
            });
        }
        scope.spawn(move || {
            go_on(&Client::new(world, ATTACKER_V4), None, &habit("/nowhere", 400, |_| true), over, ignored)
        });
        scope.spawn(move || {
            let is_limited = habit("/open", 200, |status| status != 429);
            go_on(&Client::new(world, flooder()), None, &is_limited, over, limited);
        });
    }
}

/// Each anomaly is an alert that names its sources, once the proxies have said from whom it comes.
#[track_caller]
fn wait_for_alerts(daemon: &Daemon<'_>) {
    until("the alerts", MINUTES, || {
        let listed = daemon.done(&["alert", "list"]);
        let is_of_anomalies = |alert: &&Value| alert["name"].as_str().is_some_and(|it| it.starts_with("anomaly"));
        let alerts: Vec<Value> = listed["alerts"].as_array()?.iter().filter(is_of_anomalies).cloned().collect();
        let says = |of: &str, what: &str| {
            let alert = alerts.iter().find(|alert| alert["labels"]["of"] == of)?;
            alert["summary"].as_str().unwrap().contains(what).then_some(())
        };
        says("(none)", &format!("{ATTACKER_V4} "))?;
        says("/open/{*rest}", &format!("{} ", flooder()))?;
        says("/fresh/{*rest}", "26 sources: ")
    });
}

/// What the report says of the scan, of the crowd with a flooder in it, and of the route that is broken for all.
#[track_caller]
fn check_report(report: &Value) {
    let of = |route: &str, measure: &str| {
        let is_it = |one: &&Value| one["of"] == route && one["measure"] == measure;
        report["list"].as_array().unwrap().iter().find(is_it).cloned().unwrap_or_else(|| panic!("{route}: {report}"))
    };
    let (scan, crowd, broken) =
        (of("(none)", "failures"), of("/open/{*rest}", "requests"), of("/fresh/{*rest}", "failures"));
    let first = &scan["contributors"][0];
    assert_eq!((&first["who"], &first["stands_out"]), (&json!(ATTACKER_V4.to_string()), &json!(true)), "{scan}");
    assert_eq!(crowd["sources"], u32::from(GOOD + CROWD) + 1, "{crowd}");
    let stands_out = |one: &Value| {
        let named = one["contributors"].as_array().unwrap().iter().filter(|named| named["stands_out"] == true);
        named.map(|named| named["who"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((stands_out(&crowd), stands_out(&broken)), (vec![flooder().to_string()], Vec::new()), "{report}");
}

#[track_caller]
fn check_metrics(world: &World) {
    let text = until("the actions to be counted", SOON, || {
        let text = admin::get(world, "/metrics", "").ok()?.text();
        let count = |action: &str| {
            value(&text, &format!("gateway_anomaly_actions_total{{action=\"{action}\",result=\"done\"}}"))
        };
        ((count("ban"), count("limit")) == (Some(1.0), Some(1.0))).then_some(text)
    });
    let sources = value(&text, "gateway_distinct_clients_total{of=\"all\",what=\"sources\"}").unwrap();
    assert!(sources >= 20.0, "{sources}");
}

/// N01: an attacker beside twenty good clients and a flash crowd is banned because of the anomaly that it causes, and one that
/// floods is limited. Nobody else is: neither the crowd, nor those for whom a deployment has broken a route.
#[test]
fn n01_the_sources_of_an_anomaly_are_banned_and_limited() {
    if !report::may_run("anomalies::actions") {
        return;
    }
    let world = World::new();
    let script = |exchange: &mut Exchange<'_>| {
        let is_broken = exchange.line.split(' ').nth(1).is_some_and(|path| path.starts_with("/fresh"));
        exchange.answer(if is_broken { "404 Not Found" } else { "200 OK" }, "", "").map(|()| true)
    };
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", script);
    let daemon = Daemon::start(&world, &acting(&world));
    let traffic = Traffic::default();
    let why = |address: IpAddr| daemon.done(&["why", &address.to_string()]);
    let (banned, slowed) = thread::scope(|scope| {
        traffic.begin(scope, &world);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let banned = until("the ban", MINUTES, || Some(why(ATTACKER_V4)).filter(|why| why["verdict"] == "blocked"));
            let slowed = until("the limit", MINUTES, || Some(why(flooder())).filter(|why| why["limited"].is_string()));
            until("a refusal by it", MINUTES, || (traffic.limited.load(Ordering::Relaxed) > 0).then_some(()));
            wait_for_alerts(&daemon);
            (banned, slowed)
        }));
        traffic.over.store(true, Ordering::Relaxed);
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let long = after_the_minute(banned["entry"]["started"].as_str().unwrap());
    report::note(&format!("anomaly: banned {} ms after the end of the minute", long.as_millis()));
    assert_eq!(banned["entry"]["actor"], "rule:anomaly.failures", "{banned}");
    assert_eq!(banned["evidence"].as_array().map(Vec::len), Some(4), "{banned}");
    let evidence = banned["evidence"][0].as_str().unwrap();
    assert!(daemon.logged(evidence)["path"].as_str().unwrap().starts_with("/nowhere/"), "its own request");
    assert_eq!(slowed["verdict"], "passed", "{slowed}");
    until("the log to say why", SOON, || {
        daemon.access_log().iter().any(|line| line["limit"] == "anomaly").then_some(())
    });
    let wrong = traffic.wrong.load(Ordering::Relaxed);
    assert_eq!(wrong, 0, "no good client and nobody in the crowd was refused");
    let entries = daemon.done(&["block", "list"]);
    let blocked: Vec<&Value> = entries["entries"].as_array().unwrap().iter().map(|entry| &entry["source"]).collect();
    assert_eq!(blocked, [&json!(ATTACKER_V4.to_string())]);
    let report = daemon.done(&["anomalies"]);
    check_report(&report);
    // The minute that is told of was over a moment before: it is acted on before the next one is.
    let is_scan = |one: &&Value| one["of"] == "(none)" && one["measure"] == "failures";
    let scan = report["list"].as_array().unwrap().iter().find(is_scan).unwrap();
    let minute = |time: &Value| time.as_str().unwrap()[.."2026-12-01T05:00".len()].to_owned();
    assert_eq!(minute(&banned["entry"]["started"]), minute(&scan["began"]), "{scan} {banned}");
    check_metrics(&world);
}
