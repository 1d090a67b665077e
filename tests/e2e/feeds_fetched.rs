//! Lists that are fetched by URL, from a server that does everything wrong: what is in force stays until there is a list that
//! may be taken, over restarts and outages.

use std::{
    fs,
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
    wait::until,
    world::{ATTACKER_V4, World},
};

const SILENCE: Duration = Duration::from_millis(300);

const LONG: Duration = Duration::from_secs(30);

/// What the server answers: status, headers, body; and what its checksum is.
type Reply = Arc<Mutex<(String, String, String)>>;

fn serve(world: &World) -> (Scripted, Reply) {
    let reply = Reply::default();
    let now = Arc::clone(&reply);
    let server = Scripted::start(&world.gate, "127.0.0.1:9200", move |exchange| {
        let (status, headers, body) = now.lock().unwrap().clone();
        match status.as_str() {
            "break off" => exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n192.0.2.1\n")?,
            "" => {}
            status => exchange.answer(status, &headers, &body)?,
        }
        Ok(false)
    });
    (server, reply)
}

fn say(reply: &Reply, status: &str, headers: &str, body: &str) {
    *reply.lock().unwrap() = (status.to_owned(), headers.to_owned(), body.to_owned());
}

/// A list with so many entries, the attacker among them.
fn list(entries: usize) -> String {
    let others = (1..entries).map(|number| format!("203.0.113.{number}\n"));
    others.chain(["10.0.0.66\n".to_owned()]).collect()
}

fn settings(more: &str) -> Settings {
    let feed = format!(
        "[[feed]]\nname = \"f\"\nurl = \"http://127.0.0.1:9200/lists/f.txt?key=hidden\"\nallow_http = true\nevery = \"1s\"\n\
         timeout = \"2s\"\n{more}\n"
    );
    Settings { more: format!("{}{feed}", admin::TABLE), ..Settings::default() }
}

#[track_caller]
fn wait(daemon: &Daemon<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, LONG, || {
        let status = daemon.status();
        is_so(&status).then_some(status)
    })
}

fn metric(world: &World, row: &str) -> Option<f64> {
    value(&admin::get(world, "/metrics", "").ok()?.text(), row)
}

#[test]
fn fetched() {
    if !report::may_run("feeds_fetched::fetched") {
        return;
    }
    let world = World::new();
    let (server, reply) = serve(&world);
    say(&reply, "200 OK", "ETag: \"one\"\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n", &list(40));
    let mut daemon = Daemon::start(&world, &settings("max_size = \"4KiB\"\nstale_after = \"2s\""));
    let status = wait(&daemon, "the list to be in force", |status| status["feeds"][0]["entries"] == 40);
    assert_eq!(status["feeds"][0]["origin"], "url", "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a listed source is answered");
    assert!(!status.to_string().contains("hidden"), "the path of a URL may be a key: {status}");
    let listed = daemon.done(&["feed", "list"]);
    let first = &listed["feeds"][0];
    assert_eq!((&first["name"], &first["entries"]), (&json!("f"), &json!(40)), "{listed}");
    assert!(listed["guard_pid"].is_null(), "the whole status: {listed}");

    // The server is asked for news, and has none.
    say(&reply, "304 Not Modified", "", "");
    wait(&daemon, "the list to be unchanged", |status| status["fetches"][0]["unchanged"].as_u64() > Some(0));
    let last = server.heard().pop().unwrap().head.to_lowercase();
    assert!(last.contains("if-none-match: \"one\"") && last.contains("if-modified-since: mon, 23 nov"), "{last}");

    nothing_takes_its_place(&daemon, &reply);
    told(&world, &daemon, &reply);

    // The short list is right, says an operator.
    say(&reply, "200 OK", "ETag: \"two\"\r\n", &list(3));
    wait(&daemon, "the short list to be refused", |status| {
        status["fetches"][0]["refused"].to_string().contains("max_shrink")
    });
    let records = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let is_told = |line: &str| line.contains("\"import_refused\"") && line.contains("max_shrink");
    assert!(records.lines().any(is_told), "{records}");
    let told = daemon.done(&["feed", "refresh", "f", "--accept"]);
    assert_eq!(told["changed"], 1, "{told}");
    wait(&daemon, "the short list to be in force", |status| {
        status["feeds"][0]["entries"] == 3 && status["fetches"][0]["refused"].is_null()
    });
    assert_eq!(daemon.cli(&["feed", "refresh", "other"]).json["code"], "not_found");

    let kept = world.folder.join("state/feeds.json");
    until("what is known of the list to be kept", LONG, || {
        fs::read_to_string(&kept).ok()?.contains("two").then_some(())
    });

    // The server is away, and the guard starts again: the last good list is in force.
    say(&reply, "", "", "");
    daemon.kill();
    daemon.start_again();
    let status = daemon.status();
    assert_eq!((&status["feeds"][0]["entries"], &status["feeds"][0]["origin"]), (&json!(3), &json!("url")), "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a listed source is answered after a restart");
    wait(&daemon, "the outage to be told", |status| {
        status["warnings"].to_string().contains("feed:f: cannot be fetched from http://127.0.0.1:9200/")
    });
    // It knows what it has: the server has no news.
    server.forget();
    say(&reply, "304 Not Modified", "", "");
    wait(&daemon, "the server to be back", |status| status["fetches"][0]["unchanged"].as_u64() > Some(0));
    assert!(server.heard().iter().any(|heard| heard.head.contains("\"two\"")), "{:?}", server.heard());
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

/// Whatever the server says, the list of 40 entries stays in force.
fn nothing_takes_its_place(daemon: &Daemon<'_>, reply: &Reply) {
    let page = "<html><body>Too many requests from 10.0.0.1</body></html>\n";
    let words = "too many requests\nfrom 10.0.0.1, try again\nin an hour\n203.0.113.9\n";
    for (status, headers, body, field, says) in [
        ("404 Not Found", "", list(40).as_str(), "failing", "answers 404"),
        ("503 Service Unavailable", "Retry-After: 1\r\n", "", "failing", "answers 503"),
        ("206 Partial Content", "", &list(30), "failing", "answers 206"),
        ("302 Found", "Location: http://127.0.0.1:9200/elsewhere\r\n", "", "failing", "redirects elsewhere"),
        ("200 OK", "Content-Encoding: gzip\r\n", &list(40), "failing", "compressed"),
        ("200 OK", "", &"203.0.113.9 # padding of a list\n".repeat(200), "failing", "over 4096 bytes"),
        ("break off", "", "", "failing", "broke off"),
        ("200 OK", "", "", "refused", "no entry"),
        ("200 OK", "", "# nobody\n", "refused", "no entry"),
        ("200 OK", "", page, "refused", ""),
        ("200 OK", "", words, "refused", "is no list"),
        ("200 OK", "", "{\"errors\":[{\"status\":429}]}", "refused", ""),
        ("200 OK", "", &list(19), "refused", "max_shrink"),
    ] {
        say(reply, status, headers, body);
        let told = wait(daemon, &format!("{status} {says} to be told"), |status| {
            let told = &status["fetches"][0][field];
            told.is_string() && told.to_string().contains(says)
        });
        assert_eq!(told["feeds"][0]["entries"], 40, "{status} {says}: {told}");
        assert!(told["warnings"].to_string().contains("feed:f: "), "{told}");
        // Well again in between, so that each is told anew.
        say(reply, "200 OK", "ETag: \"one\"\r\n", &list(40));
        wait(daemon, "the server to be well again", |status| {
            status["fetches"][0]["failing"].is_null() && status["fetches"][0]["refused"].is_null()
        });
    }
}

/// What metrics and commands say of a server that is away for longer than `stale_after`.
fn told(world: &World, daemon: &Daemon<'_>, reply: &Reply) {
    say(reply, "500 Internal Server Error", "", "");
    // The observer may still tell of the time before.
    wait(daemon, "the list to be old", |status| status["fetches"][0]["is_stale"] == true);
    until("the list to be told as old", LONG, || {
        (metric(world, "gateway_list_stale{list=\"f\",origin=\"url\"}") == Some(1.0)).then_some(())
    });
    assert!(metric(world, "gateway_list_fetches_total{list=\"f\",result=\"failed\"}") > Some(0.0));
    assert!(metric(world, "gateway_list_fetches_total{list=\"f\",result=\"refused\"}") > Some(0.0));
    let refused = daemon.cli(&["feed", "refresh", "f"]);
    assert_eq!((refused.code, &refused.json["code"]), (1, &json!("fetch_failed")), "{}", refused.json);
    let status = daemon.status();
    assert!(status["warnings"].to_string().contains("for longer than stale_after"), "{status}");
    assert_eq!(status["feeds"][0]["entries"], 40, "an old list stays in force");
}

#[test]
fn with_a_checksum_and_a_token() {
    if !report::may_run("feeds_fetched::with_a_checksum_and_a_token") {
        return;
    }
    let world = World::new();
    let (server, reply) = serve(&world);
    let sum = Reply::default();
    let now = Arc::clone(&sum);
    let sums = Scripted::start(&world.gate, "127.0.0.1:9201", move |exchange| {
        let (status, headers, body) = now.lock().unwrap().clone();
        exchange.answer(&status, &headers, &body)?;
        Ok(false)
    });
    fs::write(world.folder.join("token"), "t0ken-of-the-list\n").unwrap();
    say(&reply, "200 OK", "", "10.0.0.66\n");
    say(&sum, "200 OK", "", &format!("{}  f.txt\n", "0".repeat(64)));
    let daemon =
        Daemon::start(&world, &settings("token_file = \"token\"\nsha256_url = \"http://127.0.0.1:9201/f.txt.sha256\""));
    wait(&daemon, "another checksum to be told", |status| {
        status["fetches"][0]["refused"].to_string().contains("SHA-256")
    });
    assert_eq!(daemon.status()["feeds"], json!([]));
    // sha256sum of "10.0.0.66\n".
    let right = sha256(b"10.0.0.66\n");
    say(&sum, "404 Not Found", "", &right);
    wait(&daemon, "the missing checksum to be told", |status| {
        status["fetches"][0]["failing"].to_string().contains("sha256_url")
    });
    say(&sum, "200 OK", "", &format!("{right}  f.txt\n"));
    wait(&daemon, "the list to be in force", |status| status["feeds"][0]["entries"] == 1);
    assert!(server.heard().iter().all(|heard| heard.head.contains("t0ken-of-the-list")));
    assert!(sums.heard().iter().all(|heard| !heard.head.contains("t0ken")), "the token is shown to another server");
    assert!(!daemon.standard_error().contains("t0ken"), "the token is in the log");

    // The list goes with its table.
    let text = fs::read_to_string(&daemon.config).unwrap();
    let feed = text.find("[[feed]]").unwrap();
    fs::write(&daemon.config, &text[..feed]).unwrap();
    daemon.done(&["reload"]);
    wait(&daemon, "the list to be gone", |status| status["feeds"] == json!([]) && status.get("fetches").is_none());
}

#[test]
fn signed() {
    if !report::may_run("feeds_fetched::signed") {
        return;
    }
    const LIST: &str = include_str!("../fixtures/minisign/list.txt");
    const SIGNATURE: &str = include_str!("../fixtures/minisign/list.txt.minisig");
    let key = include_str!("../fixtures/minisign/minisign.pub").lines().nth(1).unwrap();
    let world = World::new();
    let (list, signature) = (Reply::default(), Reply::default());
    let (lists, signatures) = (Arc::clone(&list), Arc::clone(&signature));
    let server = Scripted::start(&world.gate, "127.0.0.1:9200", move |exchange| {
        let of = if exchange.line.contains(".minisig") { &signatures } else { &lists };
        let (status, headers, body) = of.lock().unwrap().clone();
        exchange.answer(&status, &headers, &body)?;
        Ok(false)
    });
    say(&list, "200 OK", "", LIST);
    say(&signature, "404 Not Found", "", "");
    let daemon = Daemon::start(&world, &settings(&format!("minisign = \"{key}\"")));
    wait(&daemon, "the missing signature to be told", |status| {
        status["fetches"][0]["failing"].to_string().contains("the signature: the server answers 404")
    });
    say(&signature, "200 OK", "", include_str!("../fixtures/minisign/list.txt.legacy.minisig"));
    wait(&daemon, "an old signature to be told", |status| {
        status["fetches"][0]["refused"].to_string().contains("old form")
    });
    assert_eq!(daemon.status()["feeds"], json!([]));
    say(&signature, "200 OK", "", SIGNATURE);
    wait(&daemon, "the list to be in force", |status| {
        status["feeds"][0]["entries"] == 2 && status["fetches"][0]["refused"].is_null()
    });
    let asked = server.heard().into_iter().rfind(|heard| heard.line.contains(".minisig")).unwrap().line;
    assert!(asked.starts_with("GET /lists/f.txt.minisig?key=hidden "), "{asked}");

    // A list that somebody has changed is not taken, and that is told.
    say(&list, "200 OK", "", &format!("{LIST}10.0.0.66\n"));
    let status = wait(&daemon, "the changed list to be refused", |status| {
        status["fetches"][0]["refused"].to_string().contains("not of this list")
    });
    assert_eq!(status["feeds"][0]["entries"], 2, "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_answered());
    until("the refusal to be told", LONG, || {
        (metric(&world, "gateway_list_refused{list=\"f\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

fn sha256(bytes: &[u8]) -> String {
    let mut command = std::process::Command::new("sha256sum");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}
