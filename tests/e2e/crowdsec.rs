//! CrowdSec both ways: its decisions are dropped in the kernel, and it is told of bans. With Debian's CrowdSec, and with a
//! server in its place that does everything wrong.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::Client,
    report,
    scripted::Scripted,
    settings::Settings,
    wait::{SOON, until},
    world::{ATTACKER_V4, World},
};

const SILENCE: Duration = Duration::from_millis(300);

const LONG: Duration = Duration::from_secs(60);

fn settings(port: u16, more: &str) -> Settings {
    let table = format!(
        "[crowdsec]\nurl = \"http://127.0.0.1:{port}/\"\nallow_http = true\nkey_file = \"bouncer.key\"\nmachine = \"edge-1\"\n\
         password_file = \"machine.password\"\nevery = \"1s\"\ntimeout = \"5s\"\n{more}\n"
    );
    Settings { more: format!("{}{table}", admin::TABLE), ..Settings::default() }
}

fn secrets(world: &World) {
    fs::write(world.folder.join("bouncer.key"), "k3y-of-the-bouncer\n").unwrap();
    fs::write(world.folder.join("machine.password"), "passw0rd-of-the-machine\n").unwrap();
}

#[track_caller]
fn wait(daemon: &Daemon<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, LONG, || {
        let status = daemon.status();
        is_so(&status).then_some(status)
    })
}

fn entries(status: &Value) -> u64 {
    let feeds = status["feeds"].as_array().unwrap();
    feeds.iter().find(|feed| feed["name"] == "crowdsec").map_or(0, |feed| feed["entries"].as_u64().unwrap())
}

/// CrowdSec of Debian, its Local API alone.
struct Real<'world> {
    world: &'world World,
    folder: PathBuf,
    child: Option<Child>,
}

impl<'world> Real<'world> {
    fn new(world: &'world World) -> Self {
        let folder = world.folder.join("crowdsec");
        for name in ["data", "hub", "notifications", "plugins"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let at = folder.display();
        let config = format!(
            "common: {{daemonize: false, log_media: stdout, log_level: warning, working_dir: {at}}}\n\
             config_paths: {{config_dir: {at}, data_dir: {at}/data, simulation_path: {at}/simulation.yaml, \
             hub_dir: {at}/hub, index_path: {at}/hub/.index.json, notification_dir: {at}/notifications, \
             plugin_dir: {at}/plugins}}\n\
             crowdsec_service: {{enable: false, acquisition_path: {at}/acquis.yaml}}\n\
             cscli: {{output: json}}\n\
             db_config: {{log_level: warning, type: sqlite, db_path: {at}/data/crowdsec.db}}\n\
             plugin_config: {{user: nobody, group: nogroup}}\n\
             api:\n  client: {{credentials_path: {at}/local.yaml}}\n  server: {{enable: true, log_level: warning, \
             listen_uri: '127.0.0.1:8089', profiles_path: {at}/profiles.yaml}}\n\
             prometheus: {{enabled: false}}\n"
        );
        let profile = "name: ips\nfilters: ['Alert.GetScope() == \"Ip\"']\ndecisions: [{type: ban, duration: 4h}]\non_success: break\n";
        for (name, text) in [
            ("config.yaml", config.as_str()),
            ("profiles.yaml", profile),
            ("simulation.yaml", "simulation: off\n"),
            ("hub/.index.json", "{}"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let real = Self { world, folder, child: None };
        let local = real.folder.join("local.yaml").display().to_string();
        let machine = real.folder.join("machine.yaml").display().to_string();
        real.cscli(&["machines", "add", "local", "--auto", "-f", &local]);
        real.cscli(&["machines", "add", "edge-1", "--password", "passw0rd-of-the-machine", "-f", &machine]);
        real.cscli(&["bouncers", "add", "edge", "-k", "k3y-of-the-bouncer"]);
        real
    }

    fn program(name: &str) -> String {
        let program = format!("{}/../target/crowdsec/usr/bin/{name}", env!("CARGO_MANIFEST_DIR"));
        assert!(fs::exists(&program).unwrap(), "CrowdSec is missing: `cargo xtask setup --all`");
        program
    }

    #[track_caller]
    fn cscli(&self, arguments: &[&str]) -> Value {
        let mut command = self.world.gate.command(Self::program("cscli").as_ref());
        let output = command.arg("-c").arg(self.folder.join("config.yaml")).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    fn start(&mut self) {
        let mut command = self.world.gate.command(Self::program("crowdsec").as_ref());
        let command = command.arg("-c").arg(self.folder.join("config.yaml")).arg("-no-cs");
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("CrowdSec", LONG, || {
            self.world.gate.enter(|| std::net::TcpStream::connect("127.0.0.1:8089")).ok().map(drop)
        });
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Who it has decided to ban, and whose decision that is.
    fn bans(&self) -> Vec<(String, String)> {
        self.decisions(|_| true)
    }

    /// The same, as far as they have not ended. Those that were deleted have: cscli shows them with a time that is over.
    fn lasting(&self) -> Vec<(String, String)> {
        self.decisions(|decision| !decision["duration"].as_str().unwrap().starts_with('-'))
    }

    fn decisions(&self, is_one: impl Fn(&Value) -> bool) -> Vec<(String, String)> {
        let alerts = self.cscli(&["decisions", "list", "--all"]);
        let alerts = alerts.as_array().into_iter().flatten();
        let decisions = alerts.flat_map(|alert| alert["decisions"].as_array().unwrap()).filter(|one| is_one(one));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        decisions.map(|decision| (text(&decision["value"]), text(&decision["origin"]))).collect()
    }
}

impl Drop for Real<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn both_ways() {
    if !report::may_run("crowdsec::both_ways") {
        return;
    }
    let world = World::new();
    secrets(&world);
    let mut crowdsec = Real::new(&world);
    crowdsec.start();
    crowdsec.cscli(&["decisions", "add", "--ip", "10.0.0.66", "--duration", "1h", "--reason", "scan"]);
    crowdsec.cscli(&["decisions", "add", "--range", "198.51.100.0/24", "--duration", "1h"]);
    crowdsec.cscli(&["decisions", "add", "--ip", "192.0.2.3", "--duration", "1h", "--type", "captcha"]);
    let daemon = Daemon::start(&world, &settings(8089, ""));

    // There and here: what CrowdSec has decided is dropped in the kernel.
    let status = wait(&daemon, "the decisions to be in force", |status| entries(status) == 2);
    assert_eq!(status["feeds"][0]["origin"], "crowdsec", "{status}");
    assert_eq!(status["crowdsec"]["skipped_other"], 1, "a captcha is no ban: {status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "whom CrowdSec bans is answered");
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!((&why["verdict"], &why["entry"]["actor"]), (&json!("blocked"), &json!("feed:crowdsec")), "{why}");
    assert_eq!(why["entry"]["reason"], "scan (cscli)", "{why}");
    assert!(why["entry"]["remaining_seconds"].as_u64() > Some(3_000), "it ends by itself: {why}");
    assert_eq!(daemon.done(&["why", "198.51.100.9"])["verdict"], "blocked");

    // And what it takes back is served again.
    crowdsec.cscli(&["decisions", "delete", "--ip", "10.0.0.66"]);
    wait(&daemon, "the decision to be gone", |status| entries(status) == 1);
    until("the attacker to be served", SOON, || Client::new(&world, ATTACKER_V4).is_answered().then_some(()));

    // Here and there: what is banned here is told, and does not come back as a decision of CrowdSec.
    daemon.done(&["block", "add", "203.0.113.9", "--for", "1h", "--reason", "by hand"]);
    daemon.done(&["block", "add", "203.0.113.10", "--for", "1h", "--shadow"]);
    until("the ban to be told", LONG, || {
        crowdsec.bans().contains(&("203.0.113.9".to_owned(), "edge-1".to_owned())).then_some(())
    });
    wait(&daemon, "the own decision to be left out", |status| {
        status["crowdsec"]["skipped_own"].as_u64() > Some(0) && status["crowdsec"]["told"] == 1
    });
    assert_eq!(entries(&daemon.status()), 1, "it came back as a decision of CrowdSec");
    let alerts = crowdsec.cscli(&["alerts", "list", "--all"]).to_string();
    assert!(alerts.contains("gateway/operator") && alerts.contains("by hand"), "{alerts}");
    assert!(!crowdsec.bans().iter().any(|(value, _)| value == "203.0.113.10"), "a ban in shadow mode is told");

    // Lifted here, it ends there. What CrowdSec has decided itself about the same address stays.
    crowdsec.cscli(&["decisions", "add", "--ip", "203.0.113.9", "--duration", "1h"]);
    wait(&daemon, "its own decision to be in force", |status| entries(status) == 2);
    daemon.done(&["block", "del", "203.0.113.9"]);
    until("the decision of the lifted ban to be deleted", LONG, || {
        (!crowdsec.lasting().contains(&("203.0.113.9".to_owned(), "edge-1".to_owned()))).then_some(())
    });
    assert!(crowdsec.lasting().contains(&("203.0.113.9".to_owned(), "cscli".to_owned())), "{:?}", crowdsec.lasting());
    daemon.done(&["block", "add", "198.51.100.64/26", "--for", "1h"]);
    until("the prefix to be told", LONG, || {
        crowdsec.lasting().contains(&("198.51.100.64/26".to_owned(), "edge-1".to_owned())).then_some(())
    });
    daemon.done(&["block", "flush", "--yes"]);
    until("all own decisions to be deleted", LONG, || {
        crowdsec.lasting().iter().all(|(_, origin)| origin != "edge-1").then_some(())
    });
    crowdsec.cscli(&["decisions", "delete", "--ip", "203.0.113.9"]);
    wait(&daemon, "the unbans to be counted", |status| {
        status["crowdsec"]["lifted"].as_u64() > Some(2) && status["crowdsec"]["waiting"] == 0 && entries(status) == 1
    });

    // CrowdSec is away: what is in force stays, bans wait, and it is told of them when it is back.
    crowdsec.stop();
    daemon.done(&["block", "add", "203.0.113.11", "--for", "1h"]);
    let status = wait(&daemon, "the outage to be told", |status| status["crowdsec"]["is_up"] == false);
    assert!(status["warnings"].to_string().contains("CrowdSec at http://127.0.0.1:8089"), "{status}");
    assert_eq!(entries(&status), 1, "{status}");
    assert_eq!(daemon.done(&["why", "198.51.100.9"])["verdict"], "blocked");
    crowdsec.start();
    crowdsec.cscli(&["decisions", "delete", "--range", "198.51.100.0/24"]);
    crowdsec.cscli(&["decisions", "add", "--ip", "10.0.0.66", "--duration", "1h"]);
    until("the bans that waited to be told", LONG, || {
        crowdsec.bans().iter().any(|(value, _)| value == "203.0.113.11").then_some(())
    });
    wait(&daemon, "CrowdSec to be back", |status| status["crowdsec"]["is_up"] == true);
    until("the new decision to be in force", LONG, || {
        (daemon.done(&["why", "10.0.0.66"])["verdict"] == "blocked"
            && daemon.done(&["why", "198.51.100.9"])["verdict"] == "passed")
            .then_some(())
    });
    let log = daemon.standard_error();
    assert!(!log.contains("k3y-of") && !log.contains("passw0rd"), "a secret is in the log");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

/// What the server in CrowdSec's place answers: to questions for decisions, to bans; status and body.
type Reply = Arc<Mutex<[(String, String); 2]>>;

fn fake(world: &World) -> (Scripted, Reply) {
    let reply = Reply::default();
    let now = Arc::clone(&reply);
    let server = Scripted::start(&world.gate, "127.0.0.1:9300", move |exchange| {
        let [decisions, alerts] = now.lock().unwrap().clone();
        let line = exchange.line.clone();
        if line.starts_with("POST") {
            exchange.body(1 << 20)?;
        }
        let (status, body) = if line.contains("/v1/decisions/stream") {
            decisions
        } else if line.contains("/v1/watchers/login") {
            ("200 OK".to_owned(), "{\"token\":\"a.session.x\"}".to_owned())
        } else {
            alerts
        };
        exchange.answer(&status, "", &body)?;
        Ok(false)
    });
    (server, reply)
}

fn decision(id: i64, value: &str, more: &str) -> String {
    let scope = if value.contains('/') { "Range" } else { "Ip" };
    let decision = json!({"id": id, "origin": "CAPI", "scenario": "crowdsecurity/ssh", "scope": scope, "type": "ban",
        "value": value, "duration": "3h59m58.123s"});
    let more: Value = serde_json::from_str(if more.is_empty() { "{}" } else { more }).unwrap();
    let mut decision = decision.as_object().unwrap().clone();
    decision.extend(more.as_object().unwrap().clone());
    Value::from(decision).to_string()
}

fn stream(new: &[String], deleted: &[String]) -> String {
    format!("{{\"new\":[{}],\"deleted\":[{}]}}", new.join(","), deleted.join(","))
}

fn say(reply: &Reply, status: &str, body: &str) {
    reply.lock().unwrap()[0] = (status.to_owned(), body.to_owned());
}

fn say_of_bans(reply: &Reply, status: &str) {
    reply.lock().unwrap()[1] = (status.to_owned(), "[]".to_owned());
}

#[test]
fn whatever_it_answers() {
    if !report::may_run("crowdsec::whatever_it_answers") {
        return;
    }
    let world = World::new();
    secrets(&world);
    let (server, reply) = fake(&world);
    let all = [
        decision(1, "10.0.0.66", ""),
        decision(2, "10.0.0.66", "{\"duration\":\"4h\"}"),
        decision(3, "198.51.100.0/24", ""),
        decision(4, "2001:db8:7::/64", ""),
        decision(5, "192.0.2.5", "{\"simulated\":true}"),
        decision(6, "192.0.2.6", "{\"type\":\"captcha\"}"),
        decision(7, "192.0.2.7", "{\"origin\":\"edge-1\"}"),
        decision(8, "DE", "{\"scope\":\"Country\"}"),
        // Safety rules hold for CrowdSec, too: the gateway's own address, an allowlisted one.
        decision(9, "10.0.0.1", ""),
        decision(10, "203.0.113.50", ""),
        decision(11, "192.0.2.11", "{\"duration\":\"-5s\"}"),
        decision(12, "192.0.2.12", "{\"duration\":\"3s\"}"),
    ];
    say(&reply, "200 OK", &stream(&all, &[]));
    say_of_bans(&reply, "201 Created");
    let mut daemon = Daemon::start(
        &world,
        &Settings { guard: "allow = [\"203.0.113.50\"]".to_owned(), ..settings(9300, "max_size = \"16KiB\"") },
    );
    let status = wait(&daemon, "the decisions to be in force", |status| entries(status) >= 3);
    let skipped = |name: &str| status["crowdsec"][name].as_u64();
    // It may have been asked more than once.
    let own = skipped("skipped_own");
    assert_eq!((own > Some(0), skipped("skipped_simulated")), (true, own), "{status}");
    assert_eq!(skipped("skipped_other"), own.map(|own| 3 * own), "{status}");
    say(&reply, "200 OK", &stream(&[], &[]));
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    for (address, verdict) in [
        ("198.51.100.9", "blocked"),
        ("2001:db8:7::1", "blocked"),
        ("192.0.2.7", "passed"),
        ("203.0.113.50", "allowed"),
    ] {
        assert_eq!(daemon.done(&["why", address])["verdict"], verdict, "{address}");
    }
    let first = server.heard()[0].clone();
    assert!(first.line.contains("startup=true") && first.head.contains("k3y-of-the-bouncer"), "{first:?}");
    until("the short decision to end", LONG, || {
        (daemon.done(&["why", "192.0.2.12"])["verdict"] == "passed").then_some(())
    });

    // One of two decisions about the attacker goes, then the other.
    say(&reply, "200 OK", &stream(&[], std::slice::from_ref(&all[0])));
    // The first question from now may have got what was said before.
    let asked = || server.heard().iter().filter(|heard| heard.line.contains("startup=false")).count();
    let before = asked();
    until("questions for news", LONG, || (asked() > before + 1).then_some(()));
    assert_eq!(daemon.done(&["why", "10.0.0.66"])["verdict"], "blocked");
    say(
        &reply,
        "200 OK",
        &stream(&[decision(20, "192.0.2.20", "")], &[all[1].clone(), decision(99, "192.0.2.99", "")]),
    );
    until("the news to be in force", LONG, || {
        (daemon.done(&["why", "10.0.0.66"])["verdict"] == "passed"
            && daemon.done(&["why", "192.0.2.20"])["verdict"] == "blocked")
            .then_some(())
    });

    wrong_answers(&world, &daemon, &reply);
    heals(&daemon, &server, &reply, &all);
    told(&daemon, &server, &reply);

    // The guard starts again while CrowdSec is away: its decisions are in force.
    say(&reply, "500 Internal Server Error", "");
    daemon.kill();
    daemon.start_again();
    assert!(entries(&daemon.status()) > 0, "{}", daemon.status());
    assert_eq!(daemon.done(&["why", "198.51.100.9"])["verdict"], "blocked");

    // They go with the table.
    let text = fs::read_to_string(&daemon.config).unwrap();
    let table = text.find("[crowdsec]").unwrap();
    fs::write(&daemon.config, &text[..table]).unwrap();
    daemon.done(&["reload"]);
    wait(&daemon, "the decisions to be gone", |status| entries(status) == 0 && status.get("crowdsec").is_none());
    until("everybody to be served", LONG, || {
        (daemon.done(&["why", "198.51.100.9"])["verdict"] == "passed").then_some(())
    });
}

/// Whatever is wrong, what is in force stays, and it is told.
fn wrong_answers(world: &World, daemon: &Daemon<'_>, reply: &Reply) {
    let many: Vec<String> = (0..200).map(|number| decision(1_000 + number, "192.0.2.77", "")).collect();
    for (status, body, says) in [
        ("403 Forbidden", "{\"message\":\"access forbidden\"}", "does not know this key"),
        ("500 Internal Server Error", "", "answers 500"),
        ("302 Found", "", "redirects"),
        ("204 No Content", "", "answers 204"),
        ("200 OK", "<html>10.0.0.66</html>", "no stream of decisions"),
        ("200 OK", "{\"new\":[{\"id\":1", "no stream of decisions"),
        ("200 OK", "{\"new\":\"all\"}", "no stream of decisions"),
        ("200 OK", &stream(&many, &[]), "over 16384 bytes"),
    ] {
        say(reply, status, body);
        let told = wait(daemon, &format!("{status} {says} to be told"), |status| {
            status["crowdsec"]["failing"].to_string().contains(says)
        });
        assert_eq!(told["crowdsec"]["is_up"], false, "{told}");
        assert!(told["warnings"].to_string().contains("stay until they expire"), "{told}");
        assert_eq!(daemon.done(&["why", "192.0.2.20"])["verdict"], "blocked", "{status} {says}");
        assert_eq!(daemon.done(&["why", "192.0.2.77"])["verdict"], "passed", "{status} {says}");
        // Well again in between.
        say(reply, "200 OK", &stream(&[decision(20, "192.0.2.20", ""), decision(3, "198.51.100.0/24", "")], &[]));
        wait(daemon, "CrowdSec to be well again", |status| status["crowdsec"]["is_up"] == true);
    }
    until("the metrics", LONG, || {
        let text = admin::get(world, "/metrics", "").ok()?.text();
        let failed = value(&text, "gateway_crowdsec_pulls_total{result=\"failed\"}") > Some(5.0);
        let skipped = value(&text, "gateway_crowdsec_skipped_total{reason=\"simulated\"}") > Some(0.0);
        (failed && skipped).then_some(())
    });
}

/// After an outage all decisions are asked for: what is not among them is gone.
fn heals(daemon: &Daemon<'_>, server: &Scripted, reply: &Reply, all: &[String]) {
    say(reply, "503 Service Unavailable", "");
    wait(daemon, "an outage", |status| status["crowdsec"]["is_up"] == false);
    server.forget();
    say(reply, "200 OK", &stream(&all[2..3], &[]));
    wait(daemon, "CrowdSec to be back", |status| status["crowdsec"]["is_up"] == true && entries(status) == 1);
    assert!(server.heard().iter().any(|heard| heard.line.contains("startup=true")), "{:?}", server.heard());
    assert_eq!(daemon.done(&["why", "192.0.2.20"])["verdict"], "passed");
}

/// Bans are told once CrowdSec takes them, and not again.
fn told(daemon: &Daemon<'_>, server: &Scripted, reply: &Reply) {
    let before = daemon.status()["crowdsec"]["told"].as_u64().unwrap();
    say_of_bans(reply, "500 Internal Server Error");
    server.forget();
    daemon.done(&["block", "add", "203.0.113.20", "--for", "1h"]);
    wait(daemon, "the ban to wait", |status| {
        status["crowdsec"]["waiting"] == 1 && status["crowdsec"]["tell_failures"].as_u64() > Some(0)
    });
    // The session ends: another one is begun.
    say_of_bans(reply, "401 Unauthorized");
    until("another session", LONG, || {
        let heard = server.heard();
        let logins = heard.iter().filter(|heard| heard.line.contains("/v1/watchers/login")).count();
        (logins > 1).then_some(())
    });
    say_of_bans(reply, "201 Created");
    let status = wait(daemon, "the ban to be told", |status| status["crowdsec"]["told"] == before + 1);
    assert_eq!(status["crowdsec"]["waiting"], 0, "{status}");
    let told = server.heard().into_iter().rfind(|heard| heard.line.contains("/v1/alerts")).unwrap();
    let body: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(body[0]["decisions"][0]["value"], "203.0.113.20", "{body}");
    assert_eq!(body[0]["decisions"][0]["origin"], "edge-1", "{body}");
    assert!(told.head.contains("a.session.x"), "{}", told.head);
    // What it will never take is dropped, and counted.
    say_of_bans(reply, "400 Bad Request");
    daemon.done(&["block", "add", "203.0.113.21", "--for", "1h"]);
    wait(daemon, "the ban to be dropped", |status| {
        status["crowdsec"]["waiting"] == 0 && status["crowdsec"]["dropped"] == 1
    });
    say_of_bans(reply, "201 Created");
    lifted(daemon, server, reply);
}

/// That a ban was lifted waits as bans do, behind what was told before.
fn lifted(daemon: &Daemon<'_>, server: &Scripted, reply: &Reply) {
    let before = daemon.status()["crowdsec"]["lifted"].as_u64().unwrap();
    say_of_bans(reply, "503 Service Unavailable");
    server.forget();
    daemon.done(&["block", "del", "203.0.113.20"]);
    wait(daemon, "the unban to wait", |status| status["crowdsec"]["waiting"] == 1);
    until("a try", LONG, || server.heard().iter().any(|heard| heard.line.starts_with("DELETE")).then_some(()));
    // What comes later waits behind it.
    daemon.done(&["block", "add", "203.0.113.22", "--for", "1h"]);
    say_of_bans(reply, "200 OK");
    let status = wait(daemon, "the unban to be told", |status| status["crowdsec"]["lifted"] == before + 1);
    assert!(status["crowdsec"]["failing"].is_null(), "{status}");
    let line = server.heard().into_iter().find(|heard| heard.line.starts_with("DELETE")).unwrap().line;
    assert!(line.contains("/v1/decisions?origin=edge-1&type=ban&value=203.0.113.20 "), "{line}");
    wait(daemon, "the later ban to be told", |status| status["crowdsec"]["waiting"] == 0);
    say_of_bans(reply, "201 Created");
}
