//! What is counted of requests, as `status` tells it; and what Prometheus makes of it: M01, and the end of certificates.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    report,
    scripted::Scripted,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// A connection that carries a request is busy, and idle afterwards.
#[test]
fn connections_to_upstreams_are_busy_or_idle() {
    if !report::may_run("metrics") {
        return;
    }
    let world = World::new();
    let may_answer = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&may_answer);
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", move |exchange| {
        until("leave to answer", 4 * SOON, || answers.load(Ordering::Relaxed).then_some(()));
        exchange.answer("200 OK", "", "").map(|()| true)
    });
    let settings = Settings { interfaces: Vec::new(), more: admin::TABLE.to_owned(), ..Settings::default() };
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let shown = |busy: u8, idle: u8| {
        let lines = [("busy", busy), ("idle", idle)]
            .map(|(what, count)| format!("gateway_upstream_{what}_connections{{upstream=\"items\"}} {count}\n"));
        until(&lines.concat(), SOON, || {
            let text = admin::get(&world, "/metrics", "").ok()?.text();
            lines.iter().all(|line| text.contains(line.as_str())).then_some(())
        });
    };
    shown(0, 0);
    let mut slow = client.connect().unwrap();
    slow.write(&Request::new("GET", "/slow").bytes()).unwrap();
    shown(1, 0);
    may_answer.store(true, Ordering::Relaxed);
    assert_eq!(slow.response("GET").unwrap().status, 200);
    shown(0, 1);
}

#[test]
fn m01_requests_are_counted_and_told() {
    if !report::may_run("metrics") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["reader"]);
    let mut kept = client.connect().unwrap();
    for _ in 0..5 {
        assert_eq!(kept.exchange(&Request::new("GET", "/items/1").token(&token)).unwrap().status, 200);
    }
    assert_eq!(client.get("/items/1", "no.such.token").unwrap().status, 401);
    assert_eq!(client.get("/nowhere", "").unwrap().status, 404);
    let expect = [
        ("/connections", 1),
        ("/answers/2xx", 5),
        ("/answers/4xx", 2),
        ("/answers/5xx", 0),
        ("/refused/invalid_token", 1),
        ("/refused/not_found", 1),
        ("/refused/forbidden", 0),
        ("/signals/malformed_token", 1),
        ("/signals/unknown_route", 1),
    ];
    until(&format!("{expect:?}"), SOON, || {
        let requests = &daemon.status()["requests"];
        let is = |(path, count): &(&str, u64)| requests.pointer(path).and_then(Value::as_u64) == Some(*count);
        expect.iter().all(is).then_some(())
    });

    // A reload keeps sums and connections. The sums outlast the proxy that counted them; its connection is gone with it.
    let proxy = daemon.proxy_pid();
    daemon.done(&["reload"]);
    let counted = |daemon: &Daemon<'_>, answers: u64, connections: u64| {
        until(&format!("{answers} answers and {connections} connections"), SOON, || {
            let requests = &daemon.status()["requests"];
            (requests["answers"]["2xx"] == answers && requests["connections"] == connections).then_some(())
        });
    };
    assert_eq!(kept.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    counted(&daemon, 6, 1);
    support::daemon::send(proxy, nix::sys::signal::Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    assert!(kept.ends());
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    counted(&daemon, 7, 0);

    // Each certificate has its end.
    let ends = daemon.status()["certificates"].clone();
    let ends = ends.as_array().unwrap();
    assert_eq!((ends.len(), &ends[1]["key"]), (2, &"listener[1]".into()), "{ends:?}");
    assert!(ends[0]["not_after"].as_i64() > Some(1_767_225_600), "{ends:?}");

    let output = Command::new(support::daemon::binary()).args(["status", "--prometheus"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("add [admin]"), "{told}");
}

/// A Prometheus that scrapes the gateway every second. It is killed in the end.
struct Prometheus<'world> {
    world: &'world World,
    child: Child,
}

impl<'world> Prometheus<'world> {
    fn start(world: &'world World) -> Self {
        let folder = world.folder.join("prometheus");
        fs::create_dir_all(&folder).unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus/gateway-rules.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules}]\nscrape_configs:\n  \
             - {{job_name: gateway, static_configs: [{{targets: ['127.0.0.1:9901']}}]}}\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = world.gate.command("prometheus".as_ref());
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--enable-feature=native-histograms"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { world, child }
    }

    /// The value that a query finds; `None`: none yet.
    fn query(&self, query: &str) -> Option<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let stream = self.world.gate.enter(|| TcpStream::connect("127.0.0.1:9090")).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        let path = format!("/api/v1/query?query={encoded}");
        let text = admin::ask(stream, &path, "").ok()?.text();
        let json: Value = serde_json::from_str(text.get(text.find('{')?..=text.rfind('}')?)?).ok()?;
        json.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn prometheus_reads_the_right_numbers() {
    if !report::may_run("metrics: prometheus") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), more: admin::TABLE.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["reader"]);
    for _ in 0..7 {
        assert_eq!(client.get("/items/1", &token).unwrap().status, 200);
    }
    assert_eq!(client.get("/items/1", "no.such.token").unwrap().status, 401);
    daemon.done(&["block", "add", "203.0.113.7", "--for", "1h"]);
    let prometheus = Prometheus::start(&world);
    for (query, expect) in [
        ("up{job=\"gateway\"}", 1.0),
        ("gateway_http_requests_total{route=\"/items/{id}\",status=\"2xx\"}", 7.0),
        ("sum(gateway_http_requests_total{route=\"/items/{id}\"})", 8.0),
        ("gateway_upstream_requests_total{upstream=\"items\",status=\"2xx\"}", 7.0),
        ("gateway_authentications_total{result=\"accepted\"}", 7.0),
        ("gateway_authentications_total{result=\"invalid_token\"}", 1.0),
        ("gateway_tls_handshakes_total{version=\"1.3\"}", 8.0),
        ("gateway_bans{origin=\"operator\",mode=\"enforce\"}", 1.0),
        ("gateway_bans_started_total{origin=\"operator\"}", 1.0),
        // Native histograms: Prometheus asks for the protobuf form.
        ("histogram_count(gateway_http_request_duration_seconds{route=\"/items/{id}\"})", 8.0),
        ("histogram_count(gateway_upstream_response_duration_seconds{upstream=\"items\"})", 7.0),
        ("histogram_fraction(0, 60, gateway_http_request_duration_seconds{route=\"/items/{id}\"})", 1.0),
        ("gateway_process_seccomp_allowed_calls{role=\"guard\"} > bool 100", 1.0),
        ("count(gateway_process_resident_memory_bytes > 1e6)", 3.0),
        ("gateway_process_capabilities{role=\"proxy\"}", 0.0),
        // Of the rules that are shipped.
        ("count(ALERTS) or vector(0)", 0.0),
    ] {
        let mut last = None;
        until(&format!("{query} to be {expect}"), SOON, || {
            last = prometheus.query(query);
            (last == Some(expect)).then_some(())
        });
    }
}

#[test]
fn the_rules_that_are_shipped_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");
    for arguments in [["check", "rules", "gateway-rules.yml"], ["test", "rules", "gateway-rules.test.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(folder).output();
        let output = output.expect("`promtool` of the package prometheus: `cargo xtask setup --all`");
        assert!(output.status.success(), "{output:?}");
    }
}

/// Of a file of rules or of their tests: what stands behind this key, line by line, with the lines that belong to it.
fn entries<'text>(text: &'text str, key: &str) -> Vec<(&'text str, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &'text str| line.trim_start().strip_prefix("- ")?.strip_prefix(key)?.strip_prefix(": ");
    let depth = |line: &str| line.len() - line.trim_start().len();
    let found = lines.iter().enumerate().filter_map(|(at, &line)| Some((at, begins(line)?)));
    let entry = |(at, name): (usize, &'text str)| {
        let below = lines[at + 1..].iter().take_while(|line| depth(line) > depth(lines[at]));
        (name, below.fold(String::new(), |all, line| format!("{all}{line}\n")))
    };
    found.map(entry).collect()
}

#[test]
fn each_rule_that_is_shipped_has_a_row() {
    let read = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");
        fs::read_to_string(format!("{folder}/{name}")).unwrap()
    };
    let (rules, tests) = (read("gateway-rules.yml"), read("gateway-rules.test.yml"));
    for (rule, row, has) in [("alert", "alertname", "exp_labels"), ("record", "expr", "labels")] {
        let rows = entries(&tests, row);
        let rules = entries(&rules, rule);
        assert!(rules.len() > 5, "{rules:?}");
        // A row in which it stays silent would pass as well if it could never fire.
        let fires = |name: &str| rows.iter().any(|(of, below)| *of == name && below.contains(has));
        let missing: Vec<&str> = rules.iter().map(|(name, _)| *name).filter(|name| !fires(name)).collect();
        assert!(missing.is_empty(), "no row of gateway-rules.test.yml has these: {missing:?}");
    }
}
