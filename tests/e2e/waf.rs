//! Attacks in requests: what the rules of a route refuse or report, over the wire.

use std::fs;

use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request, Response},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

const TABLES: &str = "[waf.strict]\nmode = \"enforce\"\ninspect_body = \"64KiB\"\n\
    [[waf.strict.exclude]]\nrules = [\"path_traversal\"]\nparameters = [\"query:file\"]\nroutes = [\"strict\"]\n\
    [waf.calm]\ninspect_body = \"64KiB\"\n";

fn settings() -> Settings {
    let routes = [
        route("/strict/{*rest}", "[]", "[\"public\"]", "name = \"strict\"\nwaf = \"strict\"\nmax_body = \"1MiB\""),
        route("/tolerant", "[]", "[\"public\"]", "waf = \"strict\"\nwaf_threshold = 100"),
        route("/calm/{*rest}", "[]", "[\"public\"]", "waf = \"calm\"\nmax_body = \"1MiB\""),
        route("/open/{*rest}", "[]", "[\"public\"]", ""),
    ];
    Settings {
        more: format!("{TABLES}{}{}", routes.concat(), admin::TABLE),
        rules: String::new(),
        ..Settings::default()
    }
}

/// Attacks, each with the rule that finds it and the place that the log names.
fn attacks(path: &str) -> Vec<(Request, &'static str)> {
    let at = |target: &str| Request::new("GET", &format!("{path}{target}"));
    let post = |kind: &str, body: &str| Request::new("POST", &format!("{path}x")).body(kind, body.as_bytes());
    vec![
        (at("x?q=1%27%20or%20%271%27=%271"), "sql_injection in query \"q\""),
        (at("x?q=%253cscript%253ealert(1)"), "xss in query \"q\""),
        (at("x?u=http%253a%255c%255c127.0.0.1%255cx"), "ssrf in query \"u\""),
        (at("x").header("User-Agent", "${jndi:ldap://x/y}"), "expression_injection in header \"user-agent\""),
        (at("x").header("Cookie", "a=b; c=' union select 1,2--"), "sql_injection in cookie \"c\""),
        (post("application/json", "{\"a\":{\"$ne\":1}}"), "nosql_injection in body \"json.a.$ne\""),
        (post("application/x-www-form-urlencoded", "a=b&c=%3B+cat+/etc/passwd"), "in body \"c\""),
        (
            post(
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../../a\"\r\n\r\nb\r\n--x--\r\n",
            ),
            "path_traversal in file \"f\"",
        ),
        (post("text/xml", "${jndi:ldap://x/y}"), "expression_injection in body"),
        (post("application/xml", "<a/>' or '1'='1"), "sql_injection in body"),
        (post("text/xml", "<?xml version='1.0' encoding='utf-7'?><a/>"), "unreadable_body in body"),
        (post("application/x-www-form-urlencoded", "_charset_=ibm037&a=b"), "unreadable_body in body"),
        (post("text/plain", "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///x'>]>"), "xxe in body"),
    ]
}

#[test]
fn attacks_are_refused_where_a_route_asks_for_it() {
    if !report::may_run("waf") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let send = |request: &Request| -> Response { client.send(request).unwrap() };
    for (request, finding) in attacks("/strict/") {
        upstream.forget();
        let response = send(&request);
        assert_eq!(response.status, 403, "{finding}: {}", response.text());
        assert_eq!(upstream.received().len(), 0, "{finding} reached the upstream");
        let line = daemon.logged(&response.id());
        let detail = line["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(finding) && detail.starts_with("waf strict: "), "{finding}: {line}");
        assert_eq!((&line["reject"], &line["signal"]), (&"injection".into(), &"injection".into()), "{line}");
    }
    // What cannot be inspected does not pass.
    let large = vec![b'a'; 70_000];
    let post = |path: &str, body: &[u8]| Request::new("POST", path).body("text/plain", body);
    assert_eq!(send(&post("/strict/x", &large)).status, 413);
    assert_eq!(send(&post("/strict/x", b"a").header("Content-Encoding", "gzip")).status, 415);
    let utf_16 = Request::new("POST", "/strict/x").body("text/plain; charset=utf-16", b"a");
    assert_eq!(send(&utf_16).status, 415);
    let without_body = Request::new("GET", "/strict/x").header("Content-Type", "text/plain; charset=utf-16");
    assert_ne!(send(&without_body).status, 415);
    // What is no text is none of the firewall's business, unless it says that it is.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0<script>alert(1)</script>";
    let part = |head: &str| [head.as_bytes(), b"\r\n\r\n", png, b"\r\n--x--\r\n"].concat();
    let named = |name: &str, kind: &str| {
        part(&format!("--x\r\nContent-Disposition: form-data; name=\"f\"; {name}\r\nContent-Type: {kind}"))
    };
    let multipart = "multipart/form-data; boundary=x";
    for (kind, body, passes) in [
        ("image/png", png.to_vec(), true),
        ("text/plain", png.to_vec(), false),
        ("image/png", b"<script>alert(1)</script>".to_vec(), false),
        (multipart, named("filename=\"a.png\"", "image/png"), true),
        (multipart, named("filename*=UTF-8''a.png", "image/png"), false),
        (multipart, named("filename*=UTF-8''a.png", "text/plain"), false),
        (multipart, named("filename=\"../../a.png\"", "image/png"), false),
    ] {
        let status = send(&Request::new("POST", "/strict/x").body(kind, &body)).status;
        assert_eq!(status != 403, passes, "{kind} {:?}: {status}", String::from_utf8_lossy(&body));
    }
    // Exceptions and thresholds are those of the route; another route is not inspected at all.
    for (target, passes) in [
        ("/strict/x?file=../../a", true),
        ("/strict/x?other=../../a", false),
        ("/tolerant?q=1%27%20or%20%271%27=%271", true),
        ("/open/x?q=1%27%20or%20%271%27=%271", true),
        ("/strict/x?q=plain", true),
    ] {
        upstream.forget();
        let status = send(&Request::new("GET", target)).status;
        assert_eq!((status != 403, upstream.received().len()), (passes, usize::from(passes)), "{target}: {status}");
    }
    // A large good body comes through whole, by way of the threads.
    upstream.forget();
    let fine = "word ".repeat(10_000);
    assert_ne!(send(&post("/strict/x", fine.as_bytes())).status, 403);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn reports_refuse_nothing_and_are_counted() {
    if !report::may_run("waf: report") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let rule = "[[rule]]\nname = \"injection\"\nsignals = [\"injection\"]\ncount = 3\nwithin = \"1m\"\nban = \"10m\"\n";
    let daemon = Daemon::start(&world, &Settings { rules: rule.to_owned(), ..settings() });
    let client = Client::new(&world, ATTACKER_V4);
    let attacks = attacks("/calm/");
    for (request, finding) in &attacks {
        upstream.forget();
        let response = client.send(request).unwrap();
        assert_ne!(response.status, 403, "{finding}");
        assert_eq!(upstream.received().len(), 1, "{finding} did not reach the upstream");
        let line = daemon.logged(&response.id());
        assert_eq!(line["would_deny"], "waf", "{line}");
        assert!(line["detail"].as_str().is_some_and(|detail| detail.contains(finding)), "{finding}: {line}");
    }
    let large = Request::new("POST", "/calm/x").body("text/plain", &vec![b'a'; 70_000]);
    assert_ne!(client.send(&large).unwrap().status, 413);
    // What is longer than `inspect_body` is not inspected, whether its length was told or not.
    for (length, is_found) in [(60_000, true), (70_000, false)] {
        let body = ["<script>".as_bytes(), &vec![b'a'; length]].concat();
        let whole = Request::new("POST", "/calm/x").body("text/plain", &body).bytes();
        let chunked = Request::new("POST", "/calm/x").header("Transfer-Encoding", "chunked").bytes();
        let chunk = format!("{:x}\r\n", body.len());
        let chunked = [&*chunked, chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for bytes in [whole, chunked] {
            let mut connection = client.connect().unwrap();
            connection.write(&bytes).unwrap();
            let response = connection.response("POST").unwrap();
            assert_ne!(response.status, 413);
            let line = daemon.logged(&response.id());
            assert_eq!(line["would_deny"] == "waf", is_found, "{length}: {line}");
        }
    }
    // What is larger passes as it comes: the upstream hears of it before it has ended.
    upstream.forget();
    let head = Request::new("POST", "/calm/x").header("Transfer-Encoding", "chunked").bytes();
    let mut connection = client.connect().unwrap();
    connection.write(&[&*head, b"11170\r\n", &vec![b'a'; 70_000], b"\r\n"].concat()).unwrap();
    until("the upstream to hear of it", SOON, || (upstream.received().len() == 1).then_some(()));
    drop(connection);
    until("the counts", SOON, || {
        let page = admin::get(&world, "/metrics", "").unwrap().text();
        let reported = format!("gateway_waf_requests_total{{waf=\"calm\",result=\"reported\"}} {}", attacks.len() + 2);
        (page.contains(&reported) && page.contains("gateway_waf_matches_total{waf=\"calm\",rule=\"xxe\"} 1"))
            .then_some(())
    });
    // Enforced, it is a signal, and a rule bans.
    for _ in 0..3 {
        drop(client.send(&Request::new("GET", "/strict/x?q=%3Cscript%3Ealert(1)")));
    }
    until("the ban", SOON, || client.is_ignored(std::time::Duration::from_millis(200)).then_some(()));
}

#[test]
fn a_request_from_a_file_is_judged() {
    let folder = std::env::temp_dir().join(format!("gwt-{}-waf", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("gateway.toml");
    let base = "listener = [{ address = \"127.0.0.1:8080\" }]\nupstream.items.servers = [\"127.0.0.1:9000\"]\n";
    let routes = "[[route]]\npath = \"/items\"\nrequire = [\"public\"]\nupstream = \"items\"\nwaf = \"api\"\n\
        [[route]]\npath = \"/open\"\nrequire = [\"public\"]\nupstream = \"items\"\n";
    fs::write(&config, format!("guard.interfaces = []\n{base}[waf.api]\n{routes}")).unwrap();
    let file = folder.join("request.txt");
    let judge = |request: &str, more: &[&str]| {
        fs::write(&file, request).unwrap();
        let (config, file) = (config.to_str().unwrap(), file.to_str().unwrap());
        support::daemon::gateway(&[&["--config", config, "waf", "test", file], more].concat())
    };
    for (request, more, code) in [
        ("GET /items?q=plain HTTP/1.1\r\nHost: a.example\r\n\r\n", &[][..], 0),
        ("GET /items?q=%3Cscript%3E HTTP/1.1\nHost: a.example\n\n", &[], 1),
        (
            "POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n{\"a\":\"../../etc/passwd\"}",
            &[],
            1,
        ),
        ("GET /open?q=%3Cscript%3E HTTP/1.1\r\nHost: a\r\n\r\n", &[], 2),
        ("GET /nowhere?q=%3Cscript%3E HTTP/1.1\r\nHost: a\r\n\r\n", &["--waf", "api"], 1),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &["--waf", "other"], 2),
        ("nothing", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n<scrip", &[], 0),
        ("POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na=<script>", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\na=<script>", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: +6\r\n\r\n<scrip", &[], 2),
        (
            "POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<scr\r\n4;a=b\r\nipt>\r\n0\r\nT: b\r\n\r\n",
            &[],
            1,
        ),
        ("POST /items HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\n\n4\n<scr\n0\n\n", &[], 0),
        ("POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n<script>", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab\r\n0\r\n\r\n", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nmore", &[], 2),
        ("POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nab", &[], 2),
    ] {
        let told = judge(request, more);
        assert_eq!(told.code, code, "{request:?}: {}", told.json);
        if code < 2 {
            assert_eq!(told.json["attack"], code == 1, "{}", told.json);
            assert_eq!(told.json["findings"].as_array().is_some_and(|all| !all.is_empty()), code == 1, "{}", told.json);
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Debian's package of the Core Rule Set; `cargo xtask setup --all` installs it.
const CORE_RULES: &str = "[waf.core]\nmode = \"enforce\"\nbuiltin = false\ninspect_body = \"64KiB\"\n\
    rules = [\"/etc/modsecurity/crs/crs-setup.conf\", \"/usr/share/modsecurity-crs/rules/*.conf\", \"own*.conf\"]\n\
    [[waf.core.exclude]]\nrules = [\"942100-942999\"]\nparameters = [\"free\"]\n";

/// A rule of the operator's own.
const OWN: &str =
    "SecRule ARGS:word \"@pmFromFile words.data\" \"id:1,phase:2,t:none,t:lowercase,log,deny,msg:'A word'\"\n";

#[test]
fn the_core_rule_set_refuses_what_it_finds() {
    if !report::may_run("waf: core rule set") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("own.conf"), OWN).unwrap();
    fs::write(world.folder.join("words.data"), "forbidden\n").unwrap();
    let more = format!("{CORE_RULES}{}", route("/core", "[]", "[\"public\"]", "waf = \"core\""));
    let daemon = Daemon::start(&world, &Settings { more, rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let agent = |request: Request| request.header("User-Agent", "test/1.0").header("Accept", "*/*");
    let form = |body: &str| Request::new("POST", "/core").body("application/x-www-form-urlencoded", body.as_bytes());
    for (request, rule) in [
        (Request::new("GET", "/core?q=plain+words&free=1+2"), ""),
        (Request::new("GET", "/core?q=1%27%20or%20%271%27=%271"), "942100 in query \"q\""),
        (Request::new("GET", "/core?free=1%27%20or%20%271%27=%271"), ""),
        (form("q=%3Cscript%3Ealert(1)%3C/script%3E"), "in body \"q\""),
        (form("word=FORBIDDEN"), "1 in body \"word\""),
        (form("word=allowed"), ""),
        (Request::new("GET", "/core?file=../../../etc/passwd"), "in query \"file\""),
    ] {
        upstream.forget();
        let response = client.send(&agent(request)).unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!(upstream.received().len(), usize::from(rule.is_empty()), "{rule}: {line}");
        assert_eq!(response.status == 403, !rule.is_empty(), "{rule}: {line}");
        assert!(line["detail"].as_str().unwrap_or_default().contains(rule), "{rule}: {line}");
    }
    // A list of words takes effect when it changes, without a reload.
    fs::write(world.folder.join("words.data"), "allowed\n").unwrap();
    until("the other words", SOON, || (client.send(&agent(form("word=allowed"))).unwrap().status == 403).then_some(()));
}

#[test]
fn files_that_lost_their_rules_do_not_switch_the_firewall_off() {
    if !report::may_run("waf: torn files") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let rules = world.folder.join("own.conf");
    fs::write(world.folder.join("words.data"), "forbidden\n").unwrap();
    fs::write(&rules, OWN).unwrap();
    let table = "[waf.own]\nmode = \"enforce\"\nbuiltin = false\nrules = [\"own.conf\"]\n";
    let more = format!("{table}{}", route("/own", "[]", "[\"public\"]", "waf = \"own\""));
    let daemon = Daemon::start(&world, &Settings { more, rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let attack = Request::new("GET", "/own?word=forbidden");
    assert_eq!(client.send(&attack).unwrap().status, 403);
    for torn in ["", "# nothing\n", OWN.get(..40).unwrap_or_default()] {
        fs::write(&rules, torn).unwrap();
        until("the warning", SOON, || {
            let status = daemon.status();
            let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
            let is_told =
                |it: &serde_json::Value| it.as_str().is_some_and(|it| it.contains("changed files are not in force"));
            warnings.iter().any(is_told).then_some(())
        });
        assert_eq!(client.send(&attack).unwrap().status, 403, "{torn:?}");
        fs::write(&rules, OWN).unwrap();
        until("no warning", SOON, || {
            let status = daemon.status();
            let warnings = status["warnings"].to_string();
            (!warnings.contains("changed files are not in force")).then_some(())
        });
    }
}

/// A list of words is deleted together with the rule that names it: nothing is missed.
#[test]
fn a_file_that_goes_with_what_names_it_is_not_missed() {
    if !report::may_run("waf: files that go together") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let file = |name: &str| world.folder.join(name);
    fs::write(file("words.data"), "forbidden\n").unwrap();
    fs::write(file("own.conf"), OWN).unwrap();
    let table = "[waf.own]\nmode = \"enforce\"\nbuiltin = false\nrules = [\"own.conf\"]\n";
    let more = format!("{table}{}", route("/own", "[]", "[\"public\"]", "waf = \"own\""));
    let daemon = Daemon::start(&world, &Settings { more, rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let ask = |query: &str| client.send(&Request::new("GET", &format!("/own?{query}"))).unwrap().status;
    assert_eq!((ask("other=bad") == 403, ask("word=forbidden")), (false, 403));
    fs::write(file("next"), "SecRule ARGS:other \"@rx bad\" \"id:2,phase:2,deny\"\n").unwrap();
    fs::remove_file(file("words.data")).unwrap();
    fs::rename(file("next"), file("own.conf")).unwrap();
    until("the other rule", SOON, || (ask("other=bad") == 403).then_some(()));
    // What the next looks find is told by the metrics of files, and in the record.
    fs::write(file("item.schema.json"), "{}").unwrap();
    let chain = || fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let took = || chain().lines().filter(|line| line.contains("\"event\":\"files\"")).count() == 2;
    until("the next files", SOON, || took().then_some(()));
    assert!(!chain().contains("files_refused"), "{}", chain());
    assert!(!daemon.status()["warnings"].to_string().contains("not in force"), "{}", daemon.status()["warnings"]);
}

#[test]
fn a_file_that_is_gone_for_a_moment_takes_no_rule_away() {
    if !report::may_run("waf: files that are gone") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let file = |name: &str| world.folder.join(name);
    fs::write(file("words.data"), "forbidden\n").unwrap();
    fs::write(file("own-a.conf"), OWN).unwrap();
    fs::write(file("own-b.conf"), "SecRule ARGS:other \"@rx bad\" \"id:2,phase:2,deny\"\n").unwrap();
    let table = "[waf.own]\nmode = \"enforce\"\nbuiltin = false\nrules = [\"own*.conf\"]\n";
    let more = format!("{table}{}", route("/own", "[]", "[\"public\"]", "waf = \"own\""));
    let daemon = Daemon::start(&world, &Settings { more, rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let ask = |query: &str| client.send(&Request::new("GET", &format!("/own?{query}"))).unwrap().status;
    let warns = || daemon.status()["warnings"].to_string().contains("changed files are not in force");
    assert_eq!((ask("other=bad"), ask("word=forbidden")), (403, 403));
    fs::rename(file("own-b.conf"), file("away")).unwrap();
    until("the warning", SOON, || warns().then_some(()));
    assert_eq!(ask("other=bad"), 403, "its rules stay");
    // Another file that changes meanwhile takes effect.
    fs::write(file("words.data"), "unwanted\n").unwrap();
    until("the other word", SOON, || (ask("word=unwanted") == 403).then_some(()));
    assert_eq!(ask("other=bad"), 403, "its rules stay still");
    fs::rename(file("away"), file("own-b.conf")).unwrap();
    until("no warning", SOON, || (!warns()).then_some(()));
    assert_eq!(ask("other=bad"), 403);
    // An operator who reloads means it.
    fs::remove_file(file("own-b.conf")).unwrap();
    daemon.done(&["reload"]);
    until("the rule to be gone", SOON, || (ask("other=bad") != 403).then_some(()));
}

#[test]
fn exceptions_for_what_there_is_not_are_refused() {
    let folder = std::env::temp_dir().join(format!("gwt-{}-waf-names", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("gateway.toml");
    let base = "guard.interfaces = []\nlistener = [{ address = \"127.0.0.1:8080\" }]\n\
        upstream.items.servers = [\"127.0.0.1:9000\"]\n[waf.api]\n[[waf.api.exclude]]\n";
    let route = "[[route]]\npath = \"/items\"\nrequire = [\"public\"]\nupstream = \"items\"\nwaf = \"api\"\n";
    for (exclude, told) in [
        ("rules = [\"xss\", \"tag:attack-sqli\"]\nparameters = [\"query:a\"]\n", &[][..]),
        ("rules = [\"xss\", \"sql_injektion\"]\n", &["waf.api.exclude[0].rules[1]", "sql_injection", "\"line\":6"]),
        ("rules = [\"tag:attack-sqly\"]\n", &["waf.api.exclude[0].rules[0]", "tag:attack-sqli", "\"line\":6"]),
        ("rules = [\"942100\"]\n", &["waf.api.exclude[0].rules[0]", "no rule has the number 942100"]),
        (
            "rules = [\"xss\"]\nparameters = [\"quary:a\"]\n",
            &["waf.api.exclude[0].parameters[0]", "query:a", "\"line\":7"],
        ),
    ] {
        fs::write(&config, format!("{base}{exclude}{route}")).unwrap();
        let found = support::daemon::gateway(&["--config", config.to_str().unwrap(), "check"]);
        assert_eq!(found.code == 0, told.is_empty(), "{exclude}: {}", found.json);
        let shown = found.json.to_string();
        assert!(told.iter().all(|part| shown.contains(part)), "{exclude}: {shown}");
    }
    fs::remove_dir_all(folder).unwrap();
}
