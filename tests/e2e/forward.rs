//! What reaches the upstream, and what of its answer reaches the client.

use std::time::{Duration, Instant};

use support::{
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    http2,
    pki::PKI,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, GOOD_V6, World},
};

#[test]
fn requests_and_answers_pass_as_they_must() {
    if !report::may_run("forward") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { proxy: "workers = 1".to_owned(), rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);

    headers(&client, &upstream);
    aliases(&client, &upstream);
    repeated(&client, &upstream);
    connections(&client, &upstream);
    streams(&client);
    http2(&world, &upstream, &daemon);
    tls_versions(&client);

    // The upstream breaks off: the client must see that something is missing.
    let mut broken = client.connect().unwrap();
    broken.write(b"GET /files/broken HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    let answer = broken.response("GET");
    assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(|answer| answer.status == 502), "{answer:?}");

    drop(upstream);
    let response = client.get("/health", "").unwrap();
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(!response.text().contains("127.0.0.1"), "an upstream's address is told: {}", response.text());
    let line = daemon.logged(&response.id());
    assert_eq!((&line["reject"], &line["signal"]), (&"upstream_failed".into(), &serde_json::Value::Null), "{line}");
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    assert_eq!(client.get("/health", "").unwrap().status, 200, "an upstream that is back is used again");
}

/// T01 to T05: what the gateway says about a request, only the gateway says.
fn headers(client: &Client<'_>, upstream: &Upstream) {
    upstream.forget();
    let token = tokens::good("ada", &["reader"]);
    let request = Request::new("GET", "/items/%37?b=2&a=1")
        .token(&token)
        .header("X-Request-Id", "mine")
        .header("X-Forwarded-For", "203.0.113.1")
        .header("X-Forwarded-Proto", "gopher")
        .header("X-Forwarded-Host", "evil.example")
        .header("Forwarded", "for=203.0.113.1")
        .header("X-Real-IP", "203.0.113.1")
        .header("X_Forwarded_For", "203.0.113.1")
        .header("Connection", "keep-alive, X-Hop, X-Forwarded-For")
        .header("X-Hop", "1")
        .header("Keep-Alive", "timeout=9")
        .header("TE", "trailers")
        .header("Proxy-Connection", "keep-alive")
        .header("Upgrade", "h2c")
        .header("X-Plain", "kept");
    let response = client.send(&request).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let received = upstream.received().pop().expect("a request");
    assert_eq!(received.target, "/items/7?b=2&a=1", "one reading of the path, the query as it came");
    for (name, values) in [
        ("host", vec!["api.example.com"]),
        ("x-plain", vec!["kept"]),
        ("x-forwarded-for", vec!["10.0.0.2"]),
        ("x-forwarded-proto", vec!["https"]),
        ("x-request-id", vec![response.header("x-request-id").unwrap()]),
        ("x-hop", vec![]),
        ("keep-alive", vec![]),
        ("proxy-connection", vec![]),
        ("upgrade", vec![]),
        ("x-real-ip", vec![]),
        ("x_forwarded_for", vec![]),
    ] {
        assert_eq!(received.header(name), values, "{name} of {:?}", received.headers);
    }
    for (name, value) in &received.headers {
        assert!(!value.contains("203.0.113.1") && !value.contains("evil"), "{name}: {value} got through");
    }
    assert_ne!(response.id(), "mine");
    assert_eq!(response.header("keep-alive"), None, "a header of the other hop got through");
    assert_eq!(response.header("content-type"), Some("application/json"));

    let mut connection = client.connect().unwrap();
    let head = connection.exchange(&Request::new("HEAD", "/items/7").token(&token)).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
}

/// T02: whatever separates its words, a name that a backend could fold into one of ours does not pass.
fn aliases(client: &Client<'_>, upstream: &Upstream) {
    upstream.forget();
    let separators: Vec<char> = "!#$%&'*+.^_`|~".chars().collect();
    for separator in &separators {
        let mut request = Request::new("GET", "/health").header("X-Plain", "kept");
        for words in ["X User", "x forwarded for", "X Authenticated Principal", "Remote User", "X-Real IP"] {
            request = request.header(&words.replace(' ', &separator.to_string()), "root");
        }
        assert_eq!(client.send(&request).unwrap().status, 200, "{separator}");
    }
    let received = upstream.received();
    assert_eq!(received.len(), separators.len());
    for request in received {
        assert_eq!(request.header("x-plain"), ["kept"]);
        assert!(request.headers.iter().all(|(_, value)| value != "root"), "got through: {:?}", request.headers);
    }
}

/// T07: who says two things about who they are is not more than either, in any order.
fn repeated(client: &Client<'_>, upstream: &Upstream) {
    upstream.forget();
    let (reader, editor) = (tokens::good("ada", &["reader"]), tokens::good("eve", &["editor"]));
    let (reader, editor) = (format!("Bearer {reader}"), format!("Bearer {editor}"));
    let roles = ["reader", "editor"];
    for (name, values, expect) in [
        ("Authorization", [&*reader, &*editor], 400),
        ("Authorization", [&*editor, &*reader], 400),
        ("Authorization", [&*editor, &*editor], 400),
        ("X-Role", roles, 403),
        ("X-Role", [roles[1], roles[0]], 403),
        ("X-Authenticated-Principal", roles, 403),
    ] {
        let mut request = Request::new("POST", "/items").header(name, values[0]).header(name, values[1]);
        if name != "Authorization" {
            request = request.header("Authorization", &reader);
        }
        let answer = client.send(&request.body("application/json", br#"{"name": "x"}"#)).unwrap();
        assert_eq!(answer.status, expect, "{name} twice: {}", answer.text());
    }
    assert_eq!(upstream.received().len(), 0, "a refused request was forwarded");
}

/// Client connections are kept, upstream connections are shared, pipelined requests are answered in order.
fn connections(client: &Client<'_>, upstream: &Upstream) {
    upstream.forget();
    let mut connection = client.connect().unwrap();
    for _ in 0..5 {
        assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    }
    let used: std::collections::BTreeSet<usize> =
        upstream.received().iter().map(|request| request.connection).collect();
    assert_eq!(used.len(), 1, "five requests in a row took {used:?}");

    let pipelined: Vec<u8> =
        ["/files/a", "/items/1", "/files/b"].into_iter().flat_map(|path| Request::new("GET", path).bytes()).collect();
    connection.write(&pipelined).unwrap();
    let answers: Vec<u16> = (0..3).map(|_| connection.response("GET").unwrap().status).collect();
    assert_eq!(answers, [200, 401, 200], "F21: each judged by itself, answered in order");
    let last = Request::new("GET", "/health").header("Connection", "close");
    assert_eq!(connection.exchange(&last).unwrap().status, 200);
    assert!(connection.ends(), "asked to close and did not");
}

/// Neither side's body is held back until it is complete.
fn streams(client: &Client<'_>) {
    let mut connection = client.connect().unwrap();
    let start = Instant::now();
    connection.write(&Request::new("GET", "/stream?30").bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    assert_eq!(connection.chunk().unwrap().unwrap(), b"piece 0\n");
    let first = start.elapsed();
    while connection.chunk().unwrap().is_some() {}
    let all = start.elapsed();
    assert!(all - first > Duration::from_millis(250), "first piece after {first:?}, all after {all:?}");

    let token = tokens::good("ada", &[]);
    let mut connection = client.connect().unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.write(format!("{head}3\r\none\r\n").as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 200, "the answer begins before the request ends");
    assert_eq!(connection.chunk().unwrap().unwrap(), b"one");
    connection.write(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
    assert_eq!(connection.chunk().unwrap().unwrap(), b"two");
    assert_eq!(connection.chunk().unwrap(), None);
    let large = vec![b'x'; 900 * 1_024];
    let echo = client.send(&Request::new("PUT", "/echo").token(&token).body("text/plain", &large)).unwrap();
    assert_eq!((echo.status, echo.body.len()), (200, large.len()));
}

fn http2(world: &World, upstream: &Upstream, daemon: &Daemon<'_>) {
    upstream.forget();
    let client = Client::new(world, GOOD_V6);
    let token = tokens::good("ada", &["reader"]);
    let requests = ["/health", "/items/1", "/items/2", "/slow?200", "/nowhere"].map(|path| http2::get(path, &token));
    let answers = client.send_http2(requests.into()).unwrap();
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404]);
    assert_eq!(&answers[1].body()[..], br#"{"id":"1","name":"item 1"}"#);
    let received = upstream.received();
    let item = received.iter().find(|request| request.target == "/items/1").expect("the item");
    assert_eq!(item.header("host"), ["api.example.com"]);
    assert_eq!(item.header("x-forwarded-for"), ["fd00:0:0:1::2"]);
    let id = answers[1].headers()["x-request-id"].to_str().unwrap();
    let line = daemon.logged(id);
    assert_eq!((&line["protocol"], &line["client"]), (&"HTTP/2.0".into(), &"fd00:0:0:1::2".into()), "{line}");
    assert_eq!(line["tls"], "TLSv1.3", "{line}");
}

fn tls_versions(client: &Client<'_>) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = PKI.client(&[version], &[b"http/1.1"]);
        let mut connection = client.connect_with(config, TIMEOUT).unwrap();
        assert_eq!(connection.tls_version(), Some(version.version));
        assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    }
}
