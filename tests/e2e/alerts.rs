//! Alerts arrive: at a real Alertmanager, a real mail server, and webhooks that fail in every way. What waits survives
//! the observer, and what operators ask is answered.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    admin::{self, value},
    daemon::{Daemon, send},
    report,
    settings::Settings,
    small_disk::SmallDisk,
    upstream::Upstream,
    wait::{SOON, until},
    world::World,
};

mod every_kind;
mod secret;

/// An alert as long as somebody is blocked, by hand: nothing is waited for.
const BLOCKED: &str = "
[[alert]]
name = \"blocked\"
metric = \"gateway_blocks\"
condition = \">= 1\"
recover_after = \"0s\"
severity = \"critical\"
labels = { team = \"edge\" }
summary = \"{value} sources are blocked for {team}\"
runbook = \"https://wiki.example/blocked\"

[alerts]
builtin = false
";

/// A webhook that is told at once.
pub(super) fn webhook(name: &str, path: &str, more: &str) -> String {
    format!(
        "[receiver.{name}]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:8088{path}\"\nallow_http = true\n\
         group_wait = \"0s\"\ngroup_interval = \"1s\"\n{more}\n"
    )
}

/// An alert that never fires: with it, the built-in ones are on.
pub(super) const NEVER: &str = "[[alert]]\nname = \"never\"\nmetric = \"gateway_blocks\"\ncondition = \"> 1000000\"\n";

/// What the alerts of this name that fire are about: the values of a label. The guard may not run at the moment.
pub(super) fn firing(daemon: &Daemon<'_>, name: &str, label: &str) -> BTreeSet<String> {
    let listed = daemon.cli(&["alert", "list"]).json;
    let all = listed["alerts"].as_array().cloned().unwrap_or_default();
    let fires = all.into_iter().filter(|alert| alert["name"] == name && alert["state"] == "firing");
    fires.map(|alert| alert["labels"][label].as_str().unwrap_or_default().to_owned()).collect()
}

fn settings(more: &str) -> Settings {
    Settings { interfaces: Vec::new(), more: format!("{}{more}", admin::TABLE), ..Settings::default() }
}

/// A program that is killed in the end.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The receivers of Python.
pub(super) struct Receivers {
    _program: Program,
    told: PathBuf,
}

impl Receivers {
    pub(super) fn start(world: &World, mail: &[&str]) -> Self {
        let told = world.folder.join("told.jsonl");
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/otlp/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/alert_receiver.py");
        assert!(fs::exists(python).unwrap(), "Python is missing: `cargo xtask setup --all`");
        let mut command = world.gate.command(python.as_ref());
        let child = command.args([script, "8088"]).arg(&told).args(mail).stdin(Stdio::null()).spawn().unwrap();
        let receivers = Self { _program: Program(child), told };
        until("the receivers", SOON, || (!receivers.lines("ready").is_empty()).then_some(()));
        receivers
    }

    fn lines(&self, what: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.told).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|it: &Value| it["what"] == what).collect()
    }

    /// What came to a path.
    pub(super) fn at(&self, path: &str) -> Vec<Value> {
        self.lines("http").into_iter().filter(|line| line["path"] == path).collect()
    }

    /// The names of alerts that came to a path, with their status.
    fn alerts(&self, path: &str) -> Vec<String> {
        let alerts = self.at(path);
        let alerts = alerts.iter().flat_map(|line| line["body"]["alerts"].as_array().unwrap());
        alerts
            .map(|alert| format!("{} {}", alert["status"].as_str().unwrap(), alert["name"].as_str().unwrap()))
            .collect()
    }

    #[track_caller]
    fn wait_for(&self, path: &str, expect: &[&str]) {
        until(&format!("{expect:?} at {path}"), SOON, || (self.alerts(path) == expect).then_some(()));
    }
}

#[test]
fn receivers_that_fail_keep_nobody_waiting_and_lose_nothing() {
    if !report::may_run("alerts-failing") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let receivers = Receivers::start(&world, &[]);
    fs::write(world.folder.join("away"), "").unwrap();
    let all = [
        webhook("away", "/away", ""),
        webhook("busy", "/busy", ""),
        webhook("hang", "/hang", "timeout = \"1s\""),
        webhook("ok", "/ok", ""),
        webhook("redirect", "/redirect", ""),
        webhook("refuse", "/refuse", ""),
        webhook("wrong", "/wrong", ""),
        // Nobody listens there.
        webhook("closed", "/", "").replace("8088", "8089"),
    ];
    let daemon = Daemon::start(&world, &settings(&format!("{BLOCKED}{}", all.concat())));
    daemon.done(&["block", "add", "203.0.113.7", "--reason", "test"]);
    receivers.wait_for("/ok", &["firing blocked"]);
    let busy = until("the busy one twice", SOON, || Some(receivers.at("/busy")).filter(|busy| busy.len() == 2));
    let waited = busy[1]["time"].as_f64().unwrap() - busy[0]["time"].as_f64().unwrap();
    assert!(waited >= 1.9, "Retry-After is kept: {waited}");
    let reasons = [
        ("away", "503"),
        ("closed", "refused"),
        ("hang", "no answer within 1 s"),
        ("redirect", "redirects"),
        ("refuse", "400"),
        ("wrong", "401"),
    ];
    until("all failures", SOON, || {
        let listed = daemon.done(&["alert", "list"]);
        let listed = listed["receivers"].as_array()?;
        let why = |name: &str| listed.iter().find(|it| it["name"] == name)?["why"].as_str();
        reasons.iter().all(|(name, expect)| why(name).is_some_and(|why| why.contains(expect))).then_some(())
    });
    assert_eq!(receivers.at("/stolen"), [] as [Value; 0], "a redirect is not followed");
    until("the metrics", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let is = |row: &str, expect: f64| value(&text, row) == Some(expect);
        (is("gateway_alert_notifications_total{receiver=\"ok\",result=\"sent\"}", 1.0)
            && is("gateway_alert_receiver_failing{receiver=\"away\"}", 1.0)
            && is("gateway_alert_receiver_failing{receiver=\"ok\"}", 0.0)
            && is("gateway_alert_notifications_total{receiver=\"refuse\",result=\"refused\"}", 1.0)
            && is("gateway_alerts{severity=\"critical\",state=\"firing\"}", 1.0)
            && is("gateway_alert_state_saved", 1.0))
        .then_some(())
    });
    let tested = daemon.cli(&["alert", "test", "--receiver", "wrong"]);
    assert_eq!((tested.code, &tested.json["receivers"][0]["tested"]), (1, &json!(false)), "{}", tested.json);

    // The observer dies. Who has been told is not told again; who was away is told once it is back.
    let pid = daemon.status()["observer_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
    send(pid, Signal::SIGKILL);
    until("another observer", SOON, || {
        let next = daemon.status()["observer_pid"].as_u64()?;
        (next != u64::from(pid)).then_some(())
    });
    until("what it knew", SOON, || {
        let listed = daemon.cli(&["alert", "list"]).json;
        (listed["alerts"][0]["name"] == "blocked" && listed["receivers"][0]["name"] == "away").then_some(())
    });
    fs::remove_file(world.folder.join("away")).unwrap();
    let before = receivers.at("/away").len();
    until("the one that was away", SOON, || (receivers.at("/away").len() > before).then_some(()));
    daemon.done(&["block", "del", "203.0.113.7"]);
    receivers.wait_for("/ok", &["firing blocked", "ended blocked"]);
}

/// A service that is told of each alert by itself asks for a pause half way: only the rest is sent again.
#[test]
fn what_has_arrived_before_a_429_is_not_sent_again() {
    if !report::may_run("alerts-limited") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let receivers = Receivers::start(&world, &[]);
    secret::secret(&world, "key", "0123456789abcdef");
    let also = BLOCKED.split("[alerts]").next().unwrap().replace("\"blocked\"", "\"also\"");
    let pager = "[receiver.pager]\ntype = \"pagerduty\"\nurl = \"http://127.0.0.1:8088/limited\"\nallow_http = true\n\
                 key_file = \"key\"\ngroup_by = []\n";
    let daemon = Daemon::start(&world, &settings(&format!("{BLOCKED}{also}{pager}")));
    daemon.done(&["block", "add", "203.0.113.7", "--reason", "test"]);
    let told = until("both alerts", SOON, || Some(receivers.at("/limited/v2/enqueue")).filter(|told| told.len() >= 3));
    let keys: Vec<&Value> = told.iter().map(|line| &line["body"]["dedup_key"]).collect();
    assert_ne!(keys[0], keys[1], "the second one was answered 429");
    assert_eq!(keys[2..], keys[1..2], "{keys:?}");
    let waited = told[2]["time"].as_f64().unwrap() - told[1]["time"].as_f64().unwrap();
    assert!(waited >= 1.9, "Retry-After is kept: {waited}");
}

/// PagerDuty answers 400 to a wrong key: the page arrives once the key file is right.
#[test]
fn a_page_that_was_refused_arrives_with_another_key() {
    if !report::may_run("alerts-wrong-key") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let receivers = Receivers::start(&world, &[]);
    secret::secret(&world, "key", "wrong");
    let pager = "[receiver.pager]\ntype = \"pagerduty\"\nurl = \"http://127.0.0.1:8088/keyed\"\nallow_http = true\n\
                 key_file = \"key\"\n";
    let daemon = Daemon::start(&world, &settings(&format!("{BLOCKED}{pager}")));
    daemon.done(&["block", "add", "203.0.113.7", "--reason", "test"]);
    until("the refusal", SOON, || {
        let listed = daemon.done(&["alert", "list"]);
        listed["receivers"][0]["why"].as_str().is_some_and(|why| why.contains("400")).then_some(())
    });
    assert_eq!(receivers.at("/keyed/v2/enqueue").len(), 1, "it waits");
    secret::secret(&world, "key", "right");
    let told = until("the page", SOON, || Some(receivers.at("/keyed/v2/enqueue")).filter(|told| told.len() == 2));
    let [first, second] = [0, 1].map(|nth: usize| &told[nth]["body"]);
    assert_eq!((&second["event_action"], &second["routing_key"]), (&json!("trigger"), &json!("right")));
    assert_eq!(first["dedup_key"], second["dedup_key"]);
    until("the receiver to work", SOON, || {
        let listed = daemon.done(&["alert", "list"]);
        (listed["receivers"][0]["failures"] == 0).then_some(())
    });
}

#[test]
fn silences_that_no_alert_can_match_are_refused() {
    if !report::may_run("alerts-silences-refused") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(BLOCKED));
    for (labels, code, says) in [
        (&["blocked", "other"][..], 2, "no alert is both blocked and other"),
        (&["team=a", "team=b"], 2, "no alert has team=a and team=b"),
        (&[""], 2, "LABEL=VALUE"),
        (&["team="], 2, "LABEL=VALUE"),
        (&["=edge"], 2, "LABEL=VALUE"),
        (&["bloked"], 1, "did you mean \"blocked\"?"),
        (&["blocked", "taem=edge"], 1, "did you mean \"team\"?"),
        (&["blocked", "team=shop"], 1, "never has team=shop"),
    ] {
        let refused = daemon.cli(&[&["alert", "silence"], labels, &["--for", "1h"]].concat());
        assert_eq!(refused.code, code, "{labels:?}: {}", refused.json);
        assert!(refused.json["message"].as_str().unwrap().contains(says), "{labels:?}: {}", refused.json);
    }
    assert_eq!(daemon.done(&["alert", "list"])["silences"], json!([]));
    let token = daemon.done(&["admin-token", "new", "--name", "adam", "--role", "configure"]);
    let token = token["token"].as_str().unwrap();
    for labels in [r#"{"":"blocked"}"#, r#"{"team":""}"#, r#"{"taem":"edge"}"#, "{}"] {
        let text = format!(r#"{{"labels":{labels},"seconds":60,"reason":""}}"#);
        let refused = admin::command(admin::connect(&world).unwrap(), "alert_silence", token, &text).unwrap();
        assert_eq!(refused.status, 400, "{labels}: {}", refused.text());
    }
}

#[test]
fn silences_and_roles() {
    if !report::may_run("alerts-silences") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let receivers = Receivers::start(&world, &[]);
    let daemon = Daemon::start(&world, &settings(&format!("{BLOCKED}{}", webhook("ok", "/ok", ""))));
    let begun = daemon.done(&["alert", "silence", "blocked", "team=e*", "--for", "1h", "--reason", "planned"]);
    assert_eq!(begun["changed"], 1, "{begun}");
    daemon.done(&["block", "add", "203.0.113.7", "--reason", "test"]);
    let listed = until("the silenced alert", SOON, || {
        let listed = daemon.done(&["alert", "list"]);
        (listed["alerts"][0]["state"] == "silenced").then_some(listed)
    });
    let silence = &listed["silences"][0];
    assert_eq!((&silence["reason"], &silence["labels"]["team"]), (&json!("planned"), &json!("e*")), "{silence}");
    assert_eq!(receivers.alerts("/ok"), [] as [&str; 0]);
    // It outlives the observer.
    until("the silence on the disk", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        (value(&text, "gateway_alert_state_saved") == Some(1.0)).then_some(())
    });
    let id = silence["id"].to_string();
    daemon.done(&["alert", "unsilence", &id]);
    receivers.wait_for("/ok", &["firing blocked"]);
    assert_eq!(daemon.cli(&["alert", "unsilence", &id]).code, 1);
    assert_eq!(daemon.cli(&["alert", "test", "--receiver", "nobody"]).code, 1);
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(
        chain.contains("\"event\":\"alert_silence\"") && chain.contains("\"event\":\"alert_unsilence\""),
        "{chain}"
    );
    // By a token that may look and not silence.
    let token = daemon.done(&["admin-token", "new", "--name", "eve", "--role", "view"]);
    let token = token["token"].as_str().unwrap();
    let ask = |name: &str, arguments: &str| {
        admin::command(admin::connect(&world).unwrap(), name, token, arguments).unwrap().status
    };
    assert_eq!(ask("alert_list", ""), 200);
    assert_eq!(ask("alert_silence", r#"{"labels":{"alertname":"blocked"},"seconds":60,"reason":""}"#), 403);
    assert_eq!(ask("alert_test", ""), 403);

    // Other settings are in force at once: the alert of a rule that is gone ends, and a new receiver learns what goes on.
    daemon.edit("[receiver.ok]", &format!("{}[receiver.ok]", webhook("new", "/new", "")));
    daemon.done(&["reload"]);
    receivers.wait_for("/new", &["firing blocked"]);
    daemon.edit("name = \"blocked\"", "name = \"other\"");
    daemon.done(&["reload"]);
    until("the end of the one before", SOON, || {
        receivers.alerts("/new").contains(&"ended blocked".to_owned()).then_some(())
    });
    until("the other one", SOON, || receivers.alerts("/new").contains(&"firing other".to_owned()).then_some(()));
}

#[test]
fn a_full_disk_is_told() {
    if !report::may_run("alerts-disk") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let receivers = Receivers::start(&world, &[]);
    let disk = SmallDisk::mount(&world.folder.join("state"), 4 << 20);
    // As long as what is kept of it takes room on the disk.
    let alert = format!(
        "[[alert]]\nname = \"disk_full\"\nmetric = \"gateway_disk_available_bytes\"\ncondition = \"< 64KiB\"\nrecover_after = \"0s\"\n\
         summary = \"{}\"\n",
        "long ".repeat(2_000)
    );
    let daemon = Daemon::start(&world, &settings(&format!("{alert}{}", webhook("ok", "/ok", ""))));
    let saved = |expect: f64| {
        until(&format!("{expect} of the state is saved"), SOON, || {
            let text = admin::get(&world, "/metrics", "").ok()?.text();
            (value(&text, "gateway_alert_state_saved") == Some(expect)).then_some(())
        });
    };
    saved(1.0);
    disk.fill();
    until("an alert all the same", SOON, || {
        receivers.alerts("/ok").contains(&"firing disk_full".to_owned()).then_some(())
    });
    saved(0.0);
    // What cannot be recorded is not done. The first records may still find room in pages that are begun.
    let silences = || daemon.done(&["alert", "list"])["silences"].as_array().map_or(0, Vec::len);
    let mut made = 0;
    let refused = (0..100).find_map(|number| {
        let told = daemon.cli(&["alert", "silence", "disk_full", "--for", "1h", "--reason", &format!("test {number}")]);
        made += usize::from(told.code == 0);
        (told.json["code"] == "not_recorded").then_some(told)
    });
    let refused = refused.expect("a full disk takes no silence");
    assert_eq!(refused.code, 1, "{}", refused.json);
    assert_eq!(silences(), made, "{}", refused.json);
    disk.clear();
    saved(1.0);
}
