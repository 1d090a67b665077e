//! Quotas of the calendar: exact over both versions of HTTP, and kept over reloads, new processes, crashes and full disks.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    admin,
    daemon::{Daemon, send},
    http1::{Client, Request},
    http2, report,
    settings::Settings,
    small_disk::SmallDisk,
    tokens::{self, Algorithm},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

/// What of the last requests may be lost by kill -9, as docs/limits.md says.
const LOSS: Duration = Duration::from_secs(1);

/// How much later the guard may hear and write of them on a machine that others keep busy.
const LATE: Duration = Duration::from_secs(3);

/// A month, so that no test runs over the edge of one but once in a blue moon.
const QUOTA: &str = "[quota.client]\nby = [\"principal\"]\nrequests = 40\nper = \"month\"\ntime_zone = \"Europe/Berlin\"\n\
                     warn_at = [50]\nquota_headers = { limit = \"X-Quota-Limit\", remaining = \"X-Quota-Remaining\", \
                     reset = \"X-Quota-Reset\" }\n";

/// Everybody at an address together.
const ALL: &str = "[quota.all]\nrequests = 1000000\nper = \"month\"\n";

fn settings(quotas: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1".to_owned(),
        more: format!("{}{quotas}", admin::TABLE),
        ..Settings::default()
    }
}

fn token(subject: &str) -> String {
    tokens::ISSUERS.token(Algorithm::Es256, &tokens::claims(subject, &["reader"]))
}

/// How many of so many requests are served, over HTTP/1.1 or HTTP/2.
fn served(client: &Client<'_>, token: &str, count: usize, is_http2: bool) -> usize {
    let statuses: Vec<u16> = if is_http2 {
        let answers = client.send_http2((0..count).map(|_| http2::get("/me", token)).collect()).unwrap();
        answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect()
    } else {
        let mut connection = client.connect().unwrap();
        let request = Request::new("GET", "/me").token(token);
        (0..count).map(|_| connection.exchange(&request).unwrap().status).collect()
    };
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

/// One request: what is left after it. What the upstream says of that is not passed on.
#[track_caller]
fn left(client: &Client<'_>, token: &str) -> u64 {
    let answer = client.get("/me?999", token).unwrap();
    assert_eq!((answer.status, answer.header("x-quota-limit")), (200, Some("40")), "{}", answer.text());
    answer.header("x-quota-remaining").unwrap().parse().unwrap()
}

/// What the guard knows that a key has used up.
fn used(daemon: &Daemon<'_>, quota: &str, key: &str) -> u64 {
    let top = daemon.done(&["quota", "top"])["rows"].as_array().cloned().unwrap_or_default();
    let row = top.into_iter().find(|row| row["limit"] == quota && row["key"] == key);
    row.and_then(|row| row["used"].as_u64()).unwrap_or(0)
}

#[test]
fn d05_d07_exact_and_kept() {
    if !report::may_run("quotas: kept") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(QUOTA));
    let (client, ada) = (Client::new(&world, GOOD_V4), token("ada"));
    assert_eq!(served(&client, &ada, 6, false) + served(&client, &ada, 6, true), 12);
    assert_eq!(left(&client, &ada), 27);
    for before in [26, 25, 24] {
        daemon.done(&["reload"]);
        assert_eq!(left(&client, &ada), before, "after a reload");
    }
    let is_known = |daemon: &Daemon<'_>, expect: u64| {
        until("the guard to know", SOON, || (used(daemon, "client", "principal=ada") == expect).then_some(()));
    };
    is_known(&daemon, 16);
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGKILL);
    assert_ne!(daemon.proxy_pid_other_than(proxy), proxy);
    let answer = until("the next proxy", SOON, || client.get("/me", &ada).ok());
    assert_eq!(answer.header("x-quota-remaining"), Some("23"), "after the proxy has died");
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    assert_eq!(left(&client, &ada), 22, "without a guard");
    assert_ne!(daemon.guard_pid_other_than(guard), guard);
    is_known(&daemon, 18);
    assert_eq!(left(&client, &ada), 21, "with another guard");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
    assert_eq!(left(&client, &ada), 20, "a clean stop loses nothing");
    until("the line of the log", SOON, || {
        let log = daemon.standard_error();
        (log.contains("a quota is used up so far") && log.contains("principal=ada")).then_some(())
    });
    // The rest, over both versions at once, and not one more.
    assert_eq!(served(&client, &ada, 12, true) + served(&client, &ada, 12, false), 20);
    let refused = client.get("/me", &ada).unwrap();
    assert_eq!((refused.status, &refused.json()["violated-policies"]), (429, &json!(["client"])));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(refused.header("ratelimit"), Some(&*format!("\"client\";r=0;t={wait}")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"client\";q=40;w=2592000"));
    assert_eq!((refused.header("x-quota-remaining"), refused.header("x-quota-limit")), (Some("0"), Some("40")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let reset: u64 = refused.header("x-quota-reset").unwrap().parse().unwrap();
    assert!(reset.abs_diff(now + wait) <= 5 && wait <= 31 * 86_400 + 3_600, "{reset} {now} {wait}");
    assert_eq!(client.get("/me", &token("bob")).unwrap().status, 200, "another client");
}

#[test]
fn d06_operators_see_and_change_quotas() {
    if !report::may_run("quotas: operators") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(&format!("{QUOTA}{ALL}")));
    let (client, ada) = (Client::new(&world, GOOD_V4), token("ada"));
    assert_eq!(served(&client, &ada, 45, true), 40);
    let rows = |arguments: &[&str]| daemon.done(arguments)["rows"].as_array().cloned().unwrap_or_default();
    let list = rows(&["quota", "list"]);
    let row = list.iter().find(|row| row["limit"] == "client").unwrap();
    assert_eq!(
        (&row["admitted"], &row["refused"], &row["quota"], &row["per"]),
        (&json!(40), &json!(5), &json!(40), &json!("month"))
    );
    let row = &rows(&["quota", "show", "ada"])[0];
    assert_eq!((&row["used"], &row["left"]), (&json!(40), &json!(0)), "{row}");
    let why = daemon.done(&["why", "10.0.0.2"]);
    let quota =
        why["limits"].as_array().unwrap().iter().find(|row| row["limit"] == "all").cloned().unwrap_or(Value::Null);
    assert_eq!((&quota["used"], &quota["per"]), (&json!(45), &json!("month")), "{why}");
    until("the guard to know", SOON, || (used(&daemon, "client", "principal=ada") == 40).then_some(()));
    assert_eq!(rows(&["quota", "set", "--used", "38", "--quota", "client", "ada"])[0]["used"], 38);
    assert_eq!(served(&client, &ada, 5, false), 2);
    assert_eq!(rows(&["quota", "reset", "ada"]).len(), 1);
    assert_eq!(left(&client, &ada), 39);
    until("the guard to know", SOON, || (used(&daemon, "client", "principal=ada") == 1).then_some(()));
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(
        chain.contains("\"event\":\"quota_set\"") && chain.contains("principal=ada"),
        "a change is in the audit chain"
    );
    let text = until("the metrics", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let admitted = admin::value(&text, "gateway_limit_requests_total{limit=\"client\",result=\"admitted\"}");
        (admin::value(&text, "gateway_quota_store_up") == Some(1.0) && admitted == Some(43.0)).then_some(text)
    });
    assert_eq!(admin::value(&text, "gateway_quota_store_failures_total"), Some(0.0));
    let warnings = admin::value(&text, "gateway_quota_warnings_total{quota=\"client\"}");
    assert!(warnings >= Some(1.0), "{text}");
}

/// kill -9 of everything at once, in the midst of requests.
#[test]
fn x09_a_crash_loses_a_second_at_most() {
    if !report::may_run("quotas: crash") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(ALL));
    let client = Client::new(&world, ATTACKER_V4);
    let (began, mut served) = (Instant::now(), Vec::new());
    {
        let mut connection = client.connect().unwrap();
        while began.elapsed() < 2 * LOSS + LATE {
            assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
            served.push(Instant::now());
        }
    }
    let killed = Instant::now();
    daemon.kill();
    daemon.start_again();
    let shown = daemon.done(&["quota", "show", "10.0.0.66"]);
    let kept = shown["rows"][0]["used"].as_u64().unwrap_or(0);
    let least = served.iter().filter(|moment| killed - **moment > LOSS + LATE).count() as u64;
    let all = served.len() as u64;
    assert!((least..=all).contains(&kept), "{all} were served, {least} of them long before: {kept} are known");
    report::note(&format!("quotas: of {all} requests a crash lost {}", all - kept));
}

/// A disk that is full, and a file that is damaged: it is told, and requests are counted all the same.
#[test]
fn no_disk_gives_a_second_quota() {
    if !report::may_run("quotas: disk") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(&world.folder.join("state"), 6 << 20);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(QUOTA));
    let (client, ada) = (Client::new(&world, GOOD_V4), token("ada"));
    assert_eq!(served(&client, &ada, 10, false), 10);
    disk.fill();
    let told = |daemon: &Daemon<'_>, text: &str| daemon.status()["warnings"].to_string().contains(text);
    let mut more = 0;
    until("the full disk to be told", SOON, || {
        more += served(&client, &ada, 1, false);
        told(&daemon, "quotas are counted in memory alone").then_some(())
    });
    assert_eq!(more + served(&client, &ada, 40, true), 30, "not one more than there was");
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGKILL);
    assert_ne!(daemon.proxy_pid_other_than(proxy), proxy);
    until("the next proxy to refuse", SOON, || (client.get("/me", &ada).ok()?.status == 429).then_some(()));
    disk.clear();
    until("the disk to be used again", SOON, || (!told(&daemon, "in memory alone")).then_some(()));
    until("everything to be written", SOON, || {
        let path = world.folder.join("state/quotas.db-wal");
        fs::metadata(path).is_ok_and(|found| found.len() > 0).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
    assert_eq!(client.get("/me", &ada).unwrap().status, 429, "what the full disk did not take is there");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    fs::write(world.folder.join("state/quotas.db"), b"no database at all, whatever it may have been before").unwrap();
    drop(fs::remove_file(world.folder.join("state/quotas.db-wal")));
    daemon.start_again();
    assert!(told(&daemon, "quotas.db"), "a damaged file is told: {}", daemon.status()["warnings"]);
    assert_eq!(served(&client, &ada, 45, false), 40, "there is nothing left to know it by");
}
