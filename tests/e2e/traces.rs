//! Traces: which requests are told, with which spans, and what an upstream hears of them. A collector of Python decodes
//! them by opentelemetry-proto.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::Value;
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::{Client, Request},
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
    spans: PathBuf,
}

impl Collector {
    fn start(world: &World) -> Self {
        let spans = world.folder.join("spans.jsonl");
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/otlp/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/otlp_receiver.py");
        assert!(fs::exists(python).unwrap(), "opentelemetry-proto is missing: `cargo xtask setup --all`");
        let mut command = world.gate.command(python.as_ref());
        let child = command.args([script, "4318"]).arg(&spans).stdin(Stdio::null()).spawn().unwrap();
        Self { child, spans }
    }

    fn spans(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.spans).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The spans of the trace that has a span with this name, that one first.
    #[track_caller]
    fn trace(&self, name: &str) -> Vec<Value> {
        let root = until(name, SOON, || self.spans().into_iter().find(|span| span["name"] == name));
        let others = self.spans().into_iter().filter(|span| span["trace"] == root["trace"] && span["name"] != name);
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
    assert_eq!(steps, ["route", "authorize", "upstream", "respond"]);
    let time = |span: &Value, key: &str| span[key].as_u64().unwrap();
    for span in &spans[1..] {
        assert_eq!(span["parent"], root["span"], "{span}");
        assert!(time(span, "start") >= time(root, "start") && time(span, "end") <= time(root, "end"), "{span} {root}");
    }
    // What the upstream heard is the span of the request to it.
    assert_eq!(told, format!("00-{TRACE}-{}-01", spans[3]["span"].as_str().unwrap()));

    let failed = collector.trace("GET /gone");
    assert_eq!((&failed[0]["error"], &failed[0]["parent"]), (&true.into(), &"".into()), "{failed:?}");
    assert_eq!(failed[0]["attributes"]["error.type"], "upstream_failed");
    assert!(collector.spans().iter().all(|span| span["name"] != "GET /stream"), "nobody asked for it");

    let text = until("the counts", SOON, || admin::get(&world, "/metrics", "").ok().map(|answer| answer.text()));
    for what in ["traces", "traces_exported"] {
        assert_eq!(value(&text, &format!("gateway_lost_total{{what=\"{what}\"}}")), Some(0.0), "{what}");
    }
}
