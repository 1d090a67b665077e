//! Which bodies reach an upstream, over the wire.

use std::fmt::Write as _;

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
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
    for coding in ["gzip", "deflate", "identity"] {
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
