//! An alert reaches receivers of every kind, and its end does: webhooks, Alertmanager, mail, chats and services that call
//! people.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
};

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::TIMEOUT,
    report,
    upstream::Upstream,
    wait::{SOON, until},
    world::World,
};

use super::{BLOCKED, Program, Receivers, secret::secret, settings, webhook};

/// The example of Standard Webhooks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Receivers of every kind, besides webhooks.
const EVERY_KIND: &str = r#"
[receiver.am]
type = "alertmanager"
url = "http://127.0.0.1:9093"
allow_http = true

[receiver.mail]
type = "email"
server = "smtp://localhost:2525"
ca = "ca.crt"
allow_private = true
user = "gateway"
password_file = "mail.password"
from = "Gateway <gateway@edge.example>"
to = ["ops@example.com", "Boss <boss@example.com>"]
group_wait = "0s"
group_interval = "1s"

[receiver.slack]
type = "slack"
url_file = "slack.url"
allow_http = true
group_wait = "0s"

[receiver.pager]
type = "pagerduty"
url = "http://127.0.0.1:8088/pager"
allow_http = true
key_file = "key"

[receiver.genie]
type = "opsgenie"
url = "http://127.0.0.1:8088/genie"
allow_http = true
key_file = "key"
"#;

/// What Alertmanager says of its alerts.
fn alertmanager(world: &World) -> Option<Vec<Value>> {
    let mut stream = world.gate.enter(|| TcpStream::connect("127.0.0.1:9093")).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"GET /api/v2/alerts HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

/// Starts Alertmanager, which sends nothing on.
fn start_alertmanager(world: &World) -> Program {
    let folder = world.folder.display();
    fs::write(world.folder.join("am.yml"), "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
    let manager = world
        .gate
        .command("prometheus-alertmanager".as_ref())
        .args(["--web.listen-address=127.0.0.1:9093", "--cluster.listen-address=", "--log.level=error"])
        .args([format!("--config.file={folder}/am.yml"), format!("--storage.path={folder}/am")])
        .stdin(Stdio::null())
        .spawn()
        .expect("prometheus-alertmanager is missing: `cargo xtask setup --all`");
    let manager = Program(manager);
    until("Alertmanager", SOON, || alertmanager(world));
    manager
}

/// A gateway with receivers of every kind.
struct EveryKind<'a> {
    world: &'a World,
    daemon: Daemon<'a>,
    receivers: Receivers,
}

impl<'a> EveryKind<'a> {
    fn start(world: &'a World) -> Self {
        support::pki::PKI.write(&world.folder);
        let path = |name: &str| world.folder.join(name).display().to_string();
        let mail = ["2525", &path("server.crt"), &path("server.key"), "gateway", "pa ss w0rd"];
        let receivers = Receivers::start(world, &mail);
        secret(world, "hook.secret", SECRET);
        secret(world, "mail.password", "pa ss w0rd");
        secret(world, "slack.url", "http://127.0.0.1:8088/services/T0/s3cret");
        secret(world, "key", "0123456789abcdef");
        let hook =
            webhook("hook", "/ok", "secret_file = \"hook.secret\"\nheartbeat = \"1s\"\nmatch = { team = \"ed*\" }");
        let others = webhook("others", "/others", "match = { team = \"!edge\" }");
        let daemon = Daemon::start(world, &settings(&format!("{BLOCKED}{hook}{others}{EVERY_KIND}")));
        Self { world, daemon, receivers }
    }

    /// What came to the webhook, besides heartbeats.
    fn hooked(&self) -> Vec<Value> {
        self.receivers.at("/ok").into_iter().filter(|line| line["body"]["type"] == "alerts").collect()
    }

    /// What Alertmanager knows of the alert.
    fn known(&self) -> Option<Vec<Value>> {
        let all = alertmanager(self.world)?;
        Some(all.into_iter().filter(|alert| alert["labels"]["alertname"] == "blocked").collect())
    }

    /// Waits until the alert is at the webhook, which is returned, at Alertmanager and in a mail.
    #[track_caller]
    fn wait_for_alert(&self) -> Value {
        let told = until("the webhook", SOON, || self.hooked().into_iter().next());
        let alert = &told["body"]["alerts"][0];
        assert_eq!(told["signed"], true, "{told}");
        assert_eq!(
            (&alert["status"], &alert["summary"], &alert["labels"]["team"]),
            (&json!("firing"), &json!("1 sources are blocked for edge"), &json!("edge")),
            "{told}"
        );
        let known = until("the alert at Alertmanager", SOON, || self.known()?.into_iter().next());
        assert_eq!(
            (&known["labels"]["severity"], &known["status"]["state"]),
            (&json!("critical"), &json!("active")),
            "{known}"
        );
        assert_eq!(known["annotations"]["runbook_url"], "https://wiki.example/blocked");
        let mail = until("mail", SOON, || self.receivers.lines("mail").into_iter().next());
        let text = mail["text"].as_str().unwrap();
        let to = json!(["ops@example.com", "boss@example.com"]);
        assert_eq!((&mail["tls"], &mail["to"]), (&json!(true), &to), "{mail}");
        assert!(text.contains("critical blocked") && text.contains("1 sources are blocked for edge"), "{text}");
        alert.clone()
    }

    /// Waits until the services that call people have the alert.
    #[track_caller]
    fn wait_for_services(&self) {
        let slack = until("Slack", SOON, || self.receivers.at("/services/T0/s3cret").into_iter().next());
        assert!(slack["body"]["text"].as_str().unwrap().contains("blocked"), "{slack}");
        let pager = until("PagerDuty", SOON, || self.receivers.at("/pager/v2/enqueue").into_iter().next());
        assert_eq!(
            (&pager["body"]["event_action"], &pager["body"]["routing_key"]),
            (&json!("trigger"), &json!("0123456789abcdef"))
        );
        let genie = until("Opsgenie", SOON, || self.receivers.at("/genie/v2/alerts").into_iter().next());
        assert_eq!(
            (&genie["authorization"], &genie["body"]["priority"]),
            (&json!("GenieKey 0123456789abcdef"), &json!("P1"))
        );
    }

    /// Waits until all know that the alert with this fingerprint has ended.
    #[track_caller]
    fn wait_for_end(&self, fingerprint: &str) {
        until("its end at the webhook", SOON, || {
            self.hooked().iter().any(|line| line["body"]["alerts"][0]["status"] == "ended").then_some(())
        });
        until("its end at Alertmanager", SOON, || self.known()?.is_empty().then_some(()));
        until("its end by mail", SOON, || (self.receivers.lines("mail").len() == 2).then_some(()));
        until("its end at PagerDuty", SOON, || {
            let told = self.receivers.at("/pager/v2/enqueue");
            told.iter().any(|line| line["body"]["event_action"] == "resolve").then_some(())
        });
        let closed = format!("/genie/v2/alerts/{fingerprint}/close?identifierType=alias");
        until("its end at Opsgenie", SOON, || (self.receivers.at(&closed).len() == 1).then_some(()));
    }

    /// A test reaches all of them.
    #[track_caller]
    fn test_all(&self) {
        let tested = self.daemon.done(&["alert", "test"]);
        let results: Vec<&Value> = tested["receivers"].as_array().unwrap().iter().map(|it| &it["tested"]).collect();
        assert_eq!(results, vec![&json!(true); 7], "{tested}");
        until("the test by mail", SOON, || {
            let mails = self.receivers.lines("mail");
            mails.iter().any(|mail| mail["text"].as_str().unwrap().contains("tests whether")).then_some(())
        });
    }
}

#[test]
fn alerts_reach_alertmanager_mail_and_webhooks() {
    if !report::may_run("alerts") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _manager = start_alertmanager(&world);
    let all = EveryKind::start(&world);
    until("a heartbeat", SOON, || {
        all.receivers.at("/ok").iter().any(|line| line["body"]["type"] == "heartbeat").then_some(())
    });
    all.daemon.done(&["block", "add", "203.0.113.7", "--reason", "test"]);
    let alert = all.wait_for_alert();
    all.wait_for_services();
    let listed = all.daemon.done(&["alert", "list"]);
    assert_eq!(
        (&listed["alerts"][0]["name"], &listed["alerts"][0]["state"]),
        (&json!("blocked"), &json!("firing")),
        "{listed}"
    );
    all.daemon.done(&["block", "del", "203.0.113.7"]);
    all.wait_for_end(alert["fingerprint"].as_str().unwrap());
    assert_eq!(all.receivers.at("/others"), [] as [Value; 0], "it is for another team");
    all.test_all();
    let shown = format!("{}{}", all.daemon.done(&["check", "--show"]), all.daemon.standard_error());
    for word in ["s3cret", "pa ss w0rd", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "0123456789abcdef"] {
        assert!(!shown.contains(word), "{word} is told");
    }
}
