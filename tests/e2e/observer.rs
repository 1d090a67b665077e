//! The observer: what it tells, to whom, and that nobody waits for it (M01).

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use rustls::{ClientConnection, StreamOwned};
use support::{
    admin::{self, value},
    authority::{Authority, Issued, Speaks},
    daemon::{Daemon, send},
    http1::{self, Client, Request, TIMEOUT},
    pki::PKI,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

fn settings(admin: &str) -> Settings {
    Settings { interfaces: Vec::new(), more: admin.to_owned(), ..Settings::default() }
}

/// Waits until all rows have these values; the text that has them.
#[track_caller]
fn told(world: &World, rows: &[(&str, f64)]) -> String {
    let mut last = String::new();
    until(&format!("{rows:?}"), SOON, || {
        last = admin::get(world, "/metrics", "").ok()?.text();
        let wrong: Vec<_> = rows.iter().filter(|(row, expect)| value(&last, row) != Some(*expect)).collect();
        wrong.is_empty().then_some(())
    });
    last
}

/// The observer's process, once there is one that is not `than`.
#[track_caller]
fn observer(daemon: &Daemon<'_>, than: u32) -> u32 {
    until("another observer", SOON, || {
        let pid = daemon.status()["observer_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
        (pid != than).then_some(pid)
    })
}

#[test]
fn m01_metrics_are_told_on_the_admin_listener_alone() {
    if !report::may_run("observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(admin::TABLE));
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["reader"]);
    let mut kept = client.connect().unwrap();
    for _ in 0..5 {
        assert_eq!(kept.exchange(&Request::new("GET", "/items/1").token(&token)).unwrap().status, 200);
    }
    assert_eq!(client.get("/items/1", "no.such.token").unwrap().status, 401);
    // What a client names is never a label.
    assert_eq!(client.get("/nowhere/%3Cb%3E", "").unwrap().status, 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(client.get(path, "").unwrap().status, 404, "{path} is for the admin listener");
    }
    let requests = "gateway_http_requests_total{route=\"/items/{id}\",status";
    let text = told(
        &world,
        &[
            (&format!("{requests}=\"2xx\"}}"), 5.0),
            (&format!("{requests}=\"4xx\"}}"), 1.0),
            ("gateway_http_requests_total{route=\"(none)\",status=\"4xx\"}", 4.0),
            ("gateway_http_request_duration_seconds_count{route=\"/items/{id}\"}", 6.0),
            ("gateway_http_connections", 1.0),
            ("gateway_http_refusals_total{reason=\"invalid_token\"}", 1.0),
            ("gateway_http_refusals_total{reason=\"not_found\"}", 4.0),
            ("gateway_signals_total{signal=\"malformed_token\"}", 1.0),
            ("gateway_upstream_server_state{upstream=\"items\",server=\"127.0.0.1:9000\",state=\"up\"}", 1.0),
            ("gateway_process_up{role=\"proxy\"}", 1.0),
            ("gateway_blocks_max", 1_000_000.0),
            ("gateway_lost_total{what=\"log_lines\"}", 0.0),
        ],
    );
    assert!(!text.contains("10.0.0.2") && !text.contains("/items/1") && !text.contains("ada"), "{text}");
    assert!(!text.contains("3Cb"), "{text}");
    lint(&text);

    for (accept, expect) in [
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/vnd.google.protobuf",
        ),
    ] {
        let answer = admin::get(&world, "/metrics", &format!("Accept: {accept}\r\n")).unwrap();
        assert!(answer.status == 200 && answer.head.contains(expect), "{accept}: {}", answer.head);
        assert_eq!(answer.text().ends_with("# EOF\n"), accept.contains("openmetrics"), "{accept}");
    }
    for (path, more, expect) in [
        ("/healthz", "", 200),
        ("/readyz", "", 200),
        ("/", "", 404),
        ("/metrics", "Host: evil.example\r\n", 403),
        ("/metrics", "Host: evil.example:9901\r\n", 403),
        ("/metrics", "Host: 127.0.0.1:9901\r\n", 200),
        ("/%2e%2e/metrics", "", 404),
    ] {
        assert_eq!(admin::get(&world, path, more).unwrap().status, expect, "{path} {more}");
    }

    // The sums outlast the proxy that counted them; its connection is gone with it.
    let proxy = daemon.proxy_pid();
    daemon.done(&["reload"]);
    assert_eq!(daemon.proxy_pid(), proxy);
    send(proxy, Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    assert!(kept.ends());
    assert_eq!(client.get("/items/1", &token).unwrap().status, 200);
    told(
        &world,
        &[
            (&format!("{requests}=\"2xx\"}}"), 6.0),
            ("gateway_http_connections", 0.0),
            ("gateway_config_reloads_total{result=\"ok\"}", 1.0),
            ("gateway_config_last_reload_successful", 1.0),
        ],
    );
    daemon.edit("[admin]", "[admin]\nadress = \"\"");
    assert_eq!(daemon.cli(&["reload"]).code, 1);
    told(&world, &[("gateway_config_last_reload_successful", 0.0)]);
    // It stops being ready once no proxy serves.
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
}

/// Without `promtool`, the names are judged by the tests of the table alone.
fn lint(text: &str) {
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("`promtool` of the package prometheus: `cargo xtask setup --all`");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn m01_nobody_waits_for_an_observer_that_stands_still_or_for_slow_readers() {
    if !report::may_run("observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // Of a user of its own, as Debian has it.
    let daemon = Daemon::start(&world, &settings(&format!("{}user = \"daemon\"\n", admin::TABLE)));
    let client = Client::new(&world, GOOD_V4);
    let serves = || {
        for _ in 0..50 {
            assert_eq!(client.get("/health", "").unwrap().status, 200);
        }
        assert_eq!(daemon.cli(&["block", "list"]).code, 0);
    };
    let row = "gateway_http_requests_total{route=\"/health\",status=\"2xx\"}";
    serves();
    told(&world, &[(row, 50.0)]);

    // It holds no right.
    let first = observer(&daemon, 0);
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    for line in
        ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t1\t1\t1\t1"]
    {
        assert!(status.contains(line), "{line}: {status}");
    }

    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert!(groups.trim().is_empty(), "{groups}");
    let told_of = daemon.status()["processes"].as_array().unwrap().clone();
    let uid = |role: &str| told_of.iter().find(|process| process["role"] == role).unwrap()["sandbox"]["uid"].as_u64();
    assert_eq!(["guard", "proxy", "observer"].map(uid), [Some(0), Some(65_534), Some(1)], "{told_of:?}");

    // Clients that never read what they asked for.
    let lazy: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = world.gate.enter(|| TcpStream::connect(admin::ADDRESS)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    serves();
    drop(lazy);
    told(&world, &[(row, 100.0)]);

    // Stopped: its sockets fill, and nothing else happens. What was counted meanwhile is told later.
    send(first, Signal::SIGSTOP);
    serves();
    support::wait::pause(Duration::from_secs(3));
    serves();
    send(first, Signal::SIGCONT);
    told(&world, &[(row, 200.0)]);

    // Killed: another one knows all that the living proxy has counted.
    send(first, Signal::SIGKILL);
    serves();
    let second = observer(&daemon, first);
    told(&world, &[(row, 250.0), ("gateway_process_restarts_total{role=\"observer\"}", 1.0)]);
    // Stopped when the gateway ends, it ends with it.
    send(second, Signal::SIGSTOP);
    daemon.signal(Signal::SIGTERM);
    let mut daemon = daemon;
    daemon.ended();
    until("the observer to be gone", SOON, || {
        (!fs::exists(format!("/proc/{second}/fd/0")).unwrap_or(false)).then_some(())
    });
}

#[test]
fn other_machines_need_tls_and_a_token() {
    if !report::may_run("observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("scrape.token"), "a-token-of-27-characters-it\n").unwrap();
    let table = "[admin]\naddress = \"10.0.0.1:9901\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n\
                 token_file = \"scrape.token\"\n";
    let daemon = Daemon::start(&world, &settings(table));
    let target: SocketAddr = "10.0.0.1:9901".parse().unwrap();
    let ask = |more: &str| {
        let tcp = world.outside.connect(GOOD_V4, target, TIMEOUT).unwrap();
        tcp.set_read_timeout(Some(TIMEOUT)).unwrap();
        let name = rustls::pki_types::ServerName::try_from("10.0.0.1").unwrap();
        let tls = ClientConnection::new(Arc::clone(&http1::tls()), name).unwrap();
        admin::ask(StreamOwned::new(tls, tcp), "/metrics", more)
    };
    until("the observer", SOON, || ask("").ok());
    for (more, expect) in [
        ("", 401),
        ("Authorization: Bearer a-token-of-27-characters-no\r\n", 401),
        ("Authorization: Bearer a-token-of-27-characters-it\r\n", 200),
        ("Authorization: Bearer a-token-of-27-characters-it\r\nHost: evil.example\r\n", 403),
    ] {
        assert_eq!(ask(more).unwrap().status, expect, "{more}");
    }
    let plain = world.outside.connect(GOOD_V4, target, TIMEOUT).unwrap();
    plain.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert!(admin::ask(plain, "/metrics", "").is_err());
    // Another token, without a new observer.
    let first = observer(&daemon, 0);
    fs::write(world.folder.join("scrape.token"), "another-token-of-24-bytes\n").unwrap();
    daemon.done(&["reload"]);
    until("the new token", SOON, || {
        (ask("Authorization: Bearer another-token-of-24-bytes\r\n").ok()?.status == 200).then_some(())
    });
    assert_eq!(ask("Authorization: Bearer a-token-of-27-characters-it\r\n").unwrap().status, 401);
    assert_eq!(observer(&daemon, 0), first);
}

/// Each asks with the certificate of its own, or none.
#[test]
fn other_machines_may_show_a_certificate_instead_of_a_token() {
    if !report::may_run("observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let (monitors, strangers) = (Authority::new("monitors"), Authority::new("strangers"));
    fs::write(world.folder.join("monitors.pem"), monitors.pem()).unwrap();
    let table = "[admin]\naddress = \"10.0.0.1:9901\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n\
                 client_ca = \"monitors.pem\"\n";
    let daemon = Daemon::start(&world, &settings(table));
    let ask = |shows: Option<&Issued>| {
        let tcp = world.outside.connect(GOOD_V4, "10.0.0.1:9901".parse().unwrap(), TIMEOUT)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        let name = rustls::pki_types::ServerName::try_from("10.0.0.1").unwrap();
        let speaks = Speaks { trusts: &[&PKI.authority_pem], shows, ..Speaks::default() };
        let tls = ClientConnection::new(speaks.config(), name).unwrap();
        admin::ask(StreamOwned::new(tls, tcp), "/metrics", "").map(|answer| answer.status)
    };
    let good = monitors.client("prometheus", 1, 2_100);
    assert_eq!(until("the observer", SOON, || ask(Some(&good)).ok()), 200);
    let (expired, foreign) = (monitors.client("prometheus", 2, 2_001), strangers.client("prometheus", 1, 2_100));
    for (who, shows) in
        [("nobody", None), ("one of another authority", Some(&foreign)), ("one whose time is over", Some(&expired))]
    {
        assert!(ask(shows).is_err(), "{who} is let in");
    }
    // Another authority, without a new observer.
    let first = observer(&daemon, 0);
    fs::write(world.folder.join("monitors.pem"), strangers.pem()).unwrap();
    until("the other authority", SOON, || ask(Some(&foreign)).ok().filter(|status| *status == 200));
    assert!(ask(Some(&good)).is_err(), "an authority that is gone is believed");
    assert_eq!(observer(&daemon, 0), first);
}

#[test]
fn a_unix_socket_is_for_root_and_the_proxys_group() {
    if !report::may_run("observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings("[admin]\nsocket = \"admin.sock\"\n"));
    let path = world.folder.join("admin.sock");
    let answer =
        until("the observer", SOON, || admin::at_socket(&path, "/readyz").ok().filter(|answer| answer.status == 200));
    assert_eq!(answer.text(), "ok\n");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid(), metadata.gid()), (0o660, 0, 65_534));
    daemon.edit("admin.sock", "other.sock");
    let told = daemon.cli(&["reload"]);
    assert!(told.code == 1 && told.json["message"].to_string().contains("admin.socket"), "{}", told.json);
    daemon.edit("other.sock", "admin.sock");

    // The next guard finds the observer listening there, and hands it another socket.
    let (guard, first) = (daemon.guard_pid(), observer(&daemon, 0));
    send(guard, Signal::SIGKILL);
    let _next = daemon.guard_pid_other_than(guard);
    until("the observer of the guard before", SOON, || {
        admin::at_socket(&path, "/readyz").ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(observer(&daemon, 0), first);
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    assert!(!path.exists(), "the socket is left");
}
