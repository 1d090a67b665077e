//! Traces: which requests are told, with which spans, and what an upstream hears of them. A collector of Python decodes
//! them by opentelemetry-proto.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request},
    pki::{PKI, Pki},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The collector. It is killed in the end.
struct Collector {
    child: Child,
    told: PathBuf,
}

impl Collector {
    fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    /// One that speaks TLS and asks for `Authorization: Bearer s3cret`.
    fn start_secured(world: &World) -> Self {
        let folder = world.folder.display();
        Self::start_with(world, &[&format!("{folder}/server.crt"), &format!("{folder}/server.key"), "Bearer s3cret"])
    }

    fn start_with(world: &World, more: &[&str]) -> Self {
        let told = world.folder.join("told.jsonl");
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/otlp/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/otlp_receiver.py");
        assert!(fs::exists(python).unwrap(), "opentelemetry-proto is missing: `cargo xtask setup --all`");
        let mut command = world.gate.command(python.as_ref());
        let child = command.args([script, "4318"]).arg(&told).args(more).stdin(Stdio::null()).spawn().unwrap();
        Self { child, told }
    }

    /// What it was told: spans, points, records.
    fn told(&self, what: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.told).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|it: &Value| it["what"] == what).collect()
    }

    /// The spans of the trace that has a span with this name, that one first.
    #[track_caller]
    fn trace(&self, name: &str) -> Vec<Value> {
        let root = until(name, SOON, || self.told("span").into_iter().find(|span| span["name"] == name));
        let others =
            self.told("span").into_iter().filter(|span| span["trace"] == root["trace"] && span["name"] != name);
        [root.clone()].into_iter().chain(others).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn sampled_requests_and_errors_are_told() {
    if !report::may_run("traces") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let usual = Settings::default();
    let settings = Settings {
        interfaces: Vec::new(),
        // Every request connects, whichever worker serves it.
        upstream: format!("{}max_idle = 0\n", usual.upstream),
        routes: format!("{}{}", usual.routes, route("/gone", "[\"GET\"]", "[\"public\"]", "").replace("items", "gone")),
        more: format!(
            "[upstream.gone]\nservers = [\"127.0.0.1:9\"]\n{}[traces]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n\
             accept = \"everybody\"\nservice = \"edge\"\n",
            admin::TABLE
        ),
        ..usual
    };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);

    // Not asked for, and not failed: not told.
    assert_eq!(client.get("/stream?1", "").unwrap().status, 200);
    let told = upstream.received()[0].header("traceparent").join(" ");
    assert!(told.starts_with("00-") && told.ends_with("-00"), "{told}");
    upstream.forget();

    // Asked for by whoever began the trace.
    let context = format!("00-{TRACE}-{PARENT}-01");
    let request = Request::new("GET", "/health").header("traceparent", &context).header("tracestate", "vendor=1");
    assert_eq!(client.send(&request).unwrap().status, 200);
    let told = upstream.received()[0].header("traceparent").join(" ");
    assert_eq!(upstream.received()[0].header("tracestate"), ["vendor=1"]);
    // Failed: told, whatever the rate.
    assert_eq!(client.get("/gone", "").unwrap().status, 502);

    // The collector comes late, and is not well at first.
    let collector = Collector::start(&world);
    let spans = collector.trace("GET /health");
    let root = &spans[0];
    assert_eq!((&root["trace"], &root["parent"]), (&TRACE.into(), &PARENT.into()), "{spans:?}");
    assert_eq!((&root["service"], &root["kind"], &root["error"]), (&"edge".into(), &2.into(), &false.into()));
    for (key, expect) in [
        ("http.request.method", Value::from("GET")),
        ("http.route", "/health".into()),
        ("http.response.status_code", 200.into()),
        ("url.scheme", "https".into()),
        ("network.protocol.version", "1.1".into()),
    ] {
        assert_eq!(root["attributes"][key], expect, "{key} of {root}");
    }
    let id = root["attributes"]["gateway.request_id"].as_str().unwrap();
    assert_eq!(daemon.logged(id)["path"], "/health");
    let steps: Vec<&str> = spans.iter().skip(1).map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["tls_handshake", "route", "authorize", "GET", "connect", "respond"]);
    let time = |span: &Value, key: &str| span[key].as_u64().unwrap();
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let (handshake, sent, connect) = (named("tls_handshake"), named("GET"), named("connect"));
    for span in &spans[1..] {
        let (is_first, above) = (span == handshake, if span == connect { sent } else { root });
        assert_eq!(span["parent"], above["span"], "{span}");
        assert!(is_first || time(span, "start") >= time(above, "start"), "{span} {above}");
        assert!(time(span, "end") <= time(above, "end"), "{span} {above}");
    }
    assert_eq!(time(handshake, "end"), time(root, "start"));
    assert_eq!(handshake["attributes"], json!({"tls.protocol.name": "tls", "tls.protocol.version": "1.3"}));
    let server = json!({"server.address": "127.0.0.1", "server.port": 9_000});
    assert_eq!(connect["attributes"], server);
    // What the upstream heard is the span of the request to it.
    assert_eq!(told, format!("00-{TRACE}-{}-01", sent["span"].as_str().unwrap()));
    assert_eq!((&sent["kind"], &sent["error"]), (&3.into(), &false.into()));
    for (key, expect) in [
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!(200)),
        ("gateway.upstream", json!("items")),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(9_000)),
    ] {
        assert_eq!(sent["attributes"][key], expect, "{key} of {sent}");
    }

    let failed = collector.trace("GET /gone");
    assert_eq!((&failed[0]["error"], &failed[0]["parent"]), (&true.into(), &"".into()), "{failed:?}");
    assert_eq!(failed[0]["attributes"]["error.type"], "upstream_failed");
    let sent = failed.iter().find(|span| span["kind"] == 3).unwrap();
    assert_eq!(
        (&sent["error"], &sent["attributes"]["error.type"]),
        (&true.into(), &"upstream_failed".into()),
        "{sent}"
    );
    assert!(collector.told("span").iter().all(|span| span["name"] != "GET /stream"), "nobody asked for it");

    let text = until("the counts", SOON, || admin::get(&world, "/metrics", "").ok().map(|answer| answer.text()));
    for what in ["traces", "traces_exported"] {
        assert_eq!(value(&text, &format!("gateway_lost_total{{what=\"{what}\"}}")), Some(0.0), "{what}");
    }
}

#[test]
fn metrics_and_decisions_go_to_a_collector_by_https() {
    if !report::may_run("traces") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("collector-ca.pem"), &PKI.authority_pem).unwrap();
    fs::write(world.folder.join("otlp.headers"), "# the collector's\nAuthorization: Bearer s3cret\n").unwrap();
    fs::set_permissions(world.folder.join("otlp.headers"), Permissions::from_mode(0o600)).unwrap();
    let table = |name: &str, signal: &str, more: &str| {
        format!(
            "[{name}]\nendpoint = \"https://10.0.0.1:4318/v1/{signal}\"\nca = \"collector-ca.pem\"\n\
             headers_file = \"otlp.headers\"\nservice = \"edge\"\n{more}\n"
        )
    };
    let more = [
        admin::TABLE.to_owned(),
        table("traces", "traces", "sample = 1"),
        table("otlp_metrics", "metrics", "interval = \"1s\""),
        table("otlp_logs", "logs", ""),
    ];
    let settings = Settings { interfaces: Vec::new(), more: more.concat(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    let collector = Collector::start_secured(&world);
    assert_eq!(collector.trace("GET /health")[0]["service"], "edge");

    let point = |name: &str, attributes: &Value| {
        let all = collector.told("point");
        all.into_iter().rev().find(|point| point["name"] == name && point["attributes"] == *attributes)
    };
    let of_health = json!({"route": "/health", "status": "2xx"});
    let requests = "gateway_http_requests_total";
    let counted = until("the metrics", SOON, || point(requests, &of_health));
    assert_eq!((&counted["kind"], &counted["value"]), (&json!("sum"), &json!(1)), "{counted}");
    assert!(counted["start"].as_u64().unwrap() <= counted["time"].as_u64().unwrap(), "{counted}");
    // They are cumulative, and told again and again.
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    until("the next metrics", SOON, || point(requests, &of_health).filter(|point| point["value"] == 2));
    let took = point("gateway_http_request_duration_seconds", &json!({"route": "/health"})).unwrap();
    assert_eq!((&took["kind"], &took["unit"]), (&json!("histogram"), &json!("s")), "{took}");
    let up = point("gateway_process_up", &json!({"role": "proxy"})).unwrap();
    assert_eq!((&up["kind"], &up["value"]), (&json!("gauge"), &json!(1.0)), "{up}");

    daemon.done(&["block", "add", "203.0.113.9", "--for", "1h", "--reason", "by hand"]);
    let record = until("the decision", SOON, || {
        collector.told("record").into_iter().find(|record| record["event"] == "gateway.ban")
    });
    assert_eq!((&record["severity"], &record["service"]), (&json!("WARN"), &json!("edge")), "{record}");
    assert_eq!(record["attributes"]["gateway.actor"], "operator:0", "{record}");
    assert!(record["body"].as_str().unwrap().contains("203.0.113.9"), "{record}");

    // The secret is the observer's alone.
    let shown = daemon.done(&["check"]).to_string();
    let log = fs::read_to_string(world.folder.join("stderr.log")).unwrap();
    assert!(shown.contains("otlp.headers") && !shown.contains("s3cret") && !log.contains("s3cret"));

    // A collector that nobody vouches for gets nothing.
    fs::write(world.folder.join("collector-ca.pem"), &Pki::generate(&[]).authority_pem).unwrap();
    daemon.done(&["reload"]);
    let before = until("the end", SOON, || {
        let before = collector.told("point").len();
        support::wait::pause(Duration::from_secs(3));
        (collector.told("point").len() == before).then_some(before)
    });
    daemon.done(&["block", "add", "203.0.113.10"]);
    support::wait::pause(Duration::from_secs(3));
    assert_eq!(collector.told("point").len(), before);
    assert!(collector.told("record").iter().all(|record| !record["body"].to_string().contains("203.0.113.10")));
}
