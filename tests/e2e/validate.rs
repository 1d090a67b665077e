//! Which bodies reach an upstream, over the wire.

use std::{fmt::Write as _, fs, thread};

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

#[test]
fn bodies_must_be_what_the_schema_says() {
    if !report::may_run("validate") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["editor"]);
    let json = "application/json";
    let long = format!(r#"{{"name":"{}"}}"#, "n".repeat(2_000));
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));

    for (case, media_type, body, status) in [
        ("good", json, r#"{"name":"nail","price":0.5}"#, 201),
        ("good, with charset", "application/json; charset=utf-8", r#"{"name":"nail"}"#, 201),
        ("good, a kind of JSON", "application/merge+json", r#"{"name":"nail"}"#, 201),
        ("another media type", "text/plain", r#"{"name":"nail"}"#, 415),
        ("another charset", "application/json; charset=utf-16", r#"{"name":"nail"}"#, 415),
        ("a form", "application/x-www-form-urlencoded", "name=nail", 415),
        ("a member missing", json, r#"{"price":1}"#, 422),
        ("a member too many", json, r#"{"name":"nail","admin":true}"#, 422),
        ("a member of another type", json, r#"{"name":7}"#, 422),
        ("no object", json, "[]", 422),
        ("no JSON", json, "{\"name\":", 400),
        ("more than one value", json, r#"{"name":"nail"} {}"#, 400),
        ("a member twice", json, r#"{"name":"nail","name":"bomb"}"#, 400),
        ("no UTF-8 text", json, "\u{feff}{\"name\":\"nail\"}", 400),
        ("nested deep", json, deep.as_str(), 400),
        ("empty", json, "", 400),
        ("too large", json, long.as_str(), 413),
    ] {
        upstream.forget();
        let request = Request::new("POST", "/items").token(&token).body(media_type, body.as_bytes());
        let response = client.send(&request).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(upstream.received().len(), usize::from(status == 201), "{case}: what reached the upstream");
        assert!(!response.text().contains("bomb"), "{case}: the body is given back: {}", response.text());
        assert_eq!(daemon.logged(&response.id())["status"], status, "{case}");
    }

    // Without a length the limit holds all the same, and what is left of the body is never read as a request.
    upstream.forget();
    let mut request = format!("POST /items HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n");
    request.push_str("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = "GET /health HTTP/1.1\r\nHost: api.example.com\r\n\r\n".repeat(4);
    let mut connection = client.connect().unwrap();
    for _ in 0..40 {
        write!(request, "{:x}\r\n{chunk}\r\n", chunk.len()).unwrap();
    }
    // The gateway may close before all of it is written.
    drop(connection.write(request.as_bytes()));
    assert_eq!(connection.response("POST").unwrap().status, 413);
    drop(connection.write(b"0\r\n\r\n"));
    assert!(connection.ends(), "the connection goes on after half a body");
    assert_eq!(upstream.received().len(), 0);

    // A body without a type, and a good one in chunks.
    let untyped = Request::new("POST", "/items").token(&token).header("Content-Length", "0");
    assert_eq!(client.send(&untyped).unwrap().status, 415);
    // What the upstream would decode is not what was judged (B05).
    for coding in ["gzip", "deflate", "br", "gzip, identity"] {
        let coded = Request::new("POST", "/items").token(&token).header("Content-Encoding", coding);
        let response = client.send(&coded.body("application/json", br#"{"name":"nail"}"#)).unwrap();
        assert_eq!(response.status, 415, "Content-Encoding: {coding}");
    }
    let mut connection = client.connect().unwrap();
    let head = format!(
        "POST /items HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.write(format!("{head}7\r\n{{\"name\"\r\n8\r\n:\"nail\"}}\r\n0\r\n\r\n").as_bytes()).unwrap();
    let response = connection.response("POST").unwrap();
    assert_eq!((response.status, response.json()["name"].as_str().map(str::len)), (201, Some(4)));
}

/// Each asks for the same below by more than one of its parts.
const BRANCHES: &str = r##"{"oneOf":[
    {"type":"object","properties":{"op":{"const":"not"},"arg":{"$ref":"#"}},"required":["op","arg"]},
    {"type":"object","properties":{"op":{"const":"neg"},"arg":{"$ref":"#"}},"required":["op","arg"]},
    {"type":"array","items":{"$ref":"#"}},
    {"type":"array","items":{"$ref":"#"}},
    {"type":"string"}
]}"##;

/// A pattern that takes long for a text that is long, and shorter for others.
const DEAR: &str = r#"{"items":{"pattern":"(a|b)[ab]{500}c[ab]{500}d"}}"#;

/// What the sample upstream says of paths that it does not know.
const PASSED: u16 = 404;

#[test]
fn b06_hostile_bodies_cost_what_they_are_long() {
    if !report::may_run("validate: hostile") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("branches.json"), BRANCHES).unwrap();
    fs::write(world.folder.join("dear.json"), DEAR).unwrap();
    let judged = |path: &str, schema: &str| {
        route(path, "[\"POST\"]", "[\"public\"]", &format!("schema = \"{schema}\"\nmax_body = \"8MiB\""))
    };
    let settings = Settings {
        interfaces: Vec::new(),
        proxy: "workers = 1".to_owned(),
        rules: String::new(),
        routes: [
            route("/health", "[\"GET\"]", "[\"public\"]", ""),
            judged("/branches", "branches.json"),
            judged("/dear", "dear.json"),
        ]
        .concat(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let proxy = daemon.proxy_pid();
    let client = Client::new(&world, GOOD_V4);
    let nested = |open: &str, depth: usize, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let operator = r#"{"op":"not","arg":"#;
    let many = format!("[{}0]", "[[1]],".repeat(60_000));
    // A text for each: those of 30 bytes at once, the others by somebody else.
    let dear = format!("[\"{}\"]", "ab".repeat(2_000_000));
    for (path, body, status, detail) in [
        ("/branches", nested(operator, 18, "1", "}"), 422, "body: oneOf"),
        ("/branches", nested(operator, 60, "1", "}"), 422, "body: oneOf"),
        ("/branches", nested(operator, 60, "\"x\"", "}"), PASSED, ""),
        ("/branches", nested("[", 60, "1", "]"), 422, "body: oneOf"),
        ("/branches", many, 422, "body: oneOf"),
        ("/dear", "[\"ab\"]".to_owned(), 422, "body: pattern at /0"),
        ("/dear", dear, 400, "body: more work than its size is worth"),
    ] {
        upstream.forget();
        let request = Request::new("POST", path).body("application/json", body.as_bytes());
        let answer = client.send(&request).unwrap();
        let start = &body[..body.len().min(40)];
        assert_eq!(answer.status, status, "{start}");
        assert_eq!(upstream.received().len(), usize::from(status == PASSED), "{start}");
        let logged = daemon.logged(&answer.id());
        assert_eq!(logged["detail"].as_str().unwrap_or_default(), detail, "{start}: {logged}");
    }
    let too_complex = daemon.access_log().iter().filter(|line| line["reject"] == "body_too_complex").count();
    assert_eq!(too_complex, 1);

    // The only worker serves others while a body is judged: whoever asks then has the answer first.
    let long = format!("[{}\"\"]", format!("\"{}\",", "ab".repeat(30)).repeat(60_000));
    let mut upload = client.connect().unwrap();
    let head = "POST /dear HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n";
    upload.write(format!("{head}Content-Length: {}\r\n\r\n{long}", long.len()).as_bytes()).unwrap();
    let mut kept = client.connect().unwrap();
    let answered = thread::scope(|scope| {
        let judged = scope.spawn(move || upload.response("POST").unwrap().status);
        assert_eq!(kept.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
        assert!(!judged.is_finished(), "it was judged before others were served");
        judged.join().unwrap()
    });
    assert_eq!(answered, 422);
    assert_eq!(daemon.proxy_pid(), proxy, "the same proxy");
}
