//! Lines of access logs, and what is read of them.

use super::read;
use crate::{cli::replay::record::What, signal::Signal, web::request_id::RequestId};

/// The time, the client, the path, the user agent, the principal, the status, and what it says.
type Expected<'a> = (u64, &'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>, u16, What);

#[track_caller]
fn check(line: &str, expect: Option<Expected<'_>>) {
    let read = read(line);
    let found = read.as_ref().map(|it| {
        let texts = (it.path.as_deref(), it.agent.as_deref(), it.principal.as_deref());
        (it.time, it.client.to_string(), texts, it.status, it.what)
    });
    let expect = expect.map(|(time, client, path, agent, principal, status, what)| {
        (time, client.to_owned(), (path, agent, principal), status, what)
    });
    assert_eq!(found, expect, "{line}");
}

#[test]
fn each_format() {
    let of = |signal| What::Signal(signal);
    check(
        r#"{"time":"2025-11-24T16:00:00.123Z","id":"0a","client":"203.0.113.7","status":404,"path":"/a","principal":"ada"}"#,
        Some((1_764_000_000_123, "203.0.113.7", Some("/a"), None, Some("ada"), 404, What::Answered)),
    );
    check(
        r#"{"time":"2025-11-24T16:00:00.123Z","client":"2001:db8::7","status":401,"reject":"invalid_token","signal":"forged_token"}"#,
        Some((1_764_000_000_123, "2001:db8::7", None, None, None, 401, of(Signal::ForgedToken))),
    );
    check(
        r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","status":503,"reject":"unavailable"}"#,
        Some((1_764_000_000_123, "203.0.113.7", None, None, None, 503, What::Nothing)),
    );
    check(
        r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","status":404,"signal":"upstream_not_found"}"#,
        Some((1_764_000_000_123, "203.0.113.7", None, None, None, 404, What::Answered)),
    );
    check(
        r#"{"@timestamp":"2025-11-24T16:00:00.123Z","source.ip":"203.0.113.7","http.response.status_code":403,"url.path":"/b","user.name":"bob","user_agent.original":"curl","gateway.signal":"forbidden","gateway.reject":"forbidden"}"#,
        Some((1_764_000_000_123, "203.0.113.7", Some("/b"), Some("curl"), Some("bob"), 403, of(Signal::Forbidden))),
    );
    check(
        r#"203.0.113.7 - - [24/Nov/2025:17:00:00 +0100] "GET /a/b?c=d HTTP/1.1" 404 12 "-" "Mozilla \"5\" (x)""#,
        Some((
            1_764_000_000_000,
            "203.0.113.7",
            Some("/a/b"),
            Some("Mozilla \\\"5\\\" (x)"),
            None,
            404,
            What::Answered,
        )),
    );
    check(
        r#"::1 - ada [24/Nov/2025:16:00:00 +0000] "\x16\x03\x01" 400 0 "-" "-""#,
        Some((1_764_000_000_000, "::1", None, None, Some("ada"), 400, of(Signal::BadRequest))),
    );
    check(
        r#"10.0.0.1 - - [24/Nov/2025:16:00:00 +0000] "GET / HTTP/1.0" 429 0"#,
        Some((1_764_000_000_000, "10.0.0.1", Some("/"), None, None, 429, of(Signal::OverLimit))),
    );
    check(
        r#"www.example.com:443 203.0.113.7 - ada [24/Nov/2025:16:00:00 +0000] "GET /a HTTP/1.1" 404 12 "-" "x""#,
        Some((1_764_000_000_000, "203.0.113.7", Some("/a"), Some("x"), Some("ada"), 404, What::Answered)),
    );
    check(
        r#"10.0.0.1 203.0.113.7 - - [24/Nov/2025:16:00:00 +0000] "GET http://h/a?b HTTP/1.1" 404 12 "-" "x""#,
        Some((1_764_000_000_000, "203.0.113.7", Some("/a"), Some("x"), None, 404, What::Answered)),
    );
    for nonsense in ["", "{", "{}", "hello world", "a - - [x] \"GET\" 1", "\u{0}\u{1}", "1.1.1.1 - - [24/Nov/2025"] {
        check(nonsense, None);
    }
}

/// JSON of others: a status for each of these lines.
#[test]
fn json_of_others() {
    const TIME: u64 = 1_764_000_000_123;
    let of = |signal| What::Signal(signal);
    for (members, path, agent, status, what) in [
        // Filebeat and Elastic Agent.
        (
            r#""source":{"ip":"203.0.113.7"},"http":{"response":{"status_code":404}},"url":{"path":"/b"},"user_agent":{"original":"curl"}"#,
            Some("/b"),
            Some("curl"),
            404,
            What::Answered,
        ),
        (
            r#""source":{"address":"203.0.113.7"},"http":{"response.status_code":429},"url":{"original":"https://h/b?c"}"#,
            Some("/b"),
            None,
            429,
            of(Signal::OverLimit),
        ),
        (
            r#""source.ip":"203.0.113.7","http.response":{"status_code":"404"},"url.original":"/b?c""#,
            Some("/b"),
            None,
            404,
            What::Answered,
        ),
        (
            r#""client":{"ip":"203.0.113.7"},"http":{"response":{"status_code":401}},"gateway":{"signal":"forged_token"}"#,
            None,
            None,
            401,
            of(Signal::ForgedToken),
        ),
        // nginx, with strings alone.
        (
            r#""remote_addr":"203.0.113.7","remote_user":"","request":"GET /b?c HTTP/1.1","status":"408","http_user_agent":"-""#,
            Some("/b"),
            None,
            408,
            of(Signal::SlowClient),
        ),
        (r#""remote_addr":"203.0.113.7","request":"\\x16\\x03","status":400"#, None, None, 400, of(Signal::BadRequest)),
        (r#""remote_addr":"203.0.113.7","request_uri":"/b","status":499"#, Some("/b"), None, 499, What::Nothing),
    ] {
        let expect = Some((TIME, "203.0.113.7", path, agent, None, status, what));
        check(&format!("{{\"@timestamp\":\"2025-11-24T16:00:00.123Z\",{members}}}"), expect);
    }
    let local = r#"{"time_local":"24/Nov/2025:17:00:00 +0100","remote_addr":"203.0.113.7","status":"200"}"#;
    let read = (1_764_000_000_000, "203.0.113.7", None, None, None, 200, What::Answered);
    check(local, Some(read));
    // What has no status, or none that is one, says nothing of how a request ended.
    for status in ["", ",\"status\":null", ",\"status\":\"\"", ",\"status\":\"4x4\"", ",\"status\":70000"] {
        check(&format!("{{\"time\":\"2025-11-24T16:00:00Z\",\"client\":\"203.0.113.7\"{status}}}"), None);
    }
}

/// Lines as the servers write them, from their documentation.
#[test]
fn lines_of_other_servers() {
    let of = |signal| What::Signal(signal);
    // Caddy.
    check(
        r#"{"level":"info","ts":1764000000.1234567,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"10.0.0.1","remote_port":"41342","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/b?c=d","headers":{"User-Agent":["curl/7.82.0"],"Accept":["*/*"]},"tls":{"resumed":false}},"bytes_read":0,"user_id":"ada","duration":0.000929675,"size":10900,"status":404,"resp_headers":{"Server":["Caddy"]}}"#,
        Some((1_764_000_000_123, "203.0.113.7", Some("/b"), Some("curl/7.82.0"), Some("ada"), 404, What::Answered)),
    );
    check(
        r#"{"ts":"2025-11-24T16:00:00.123Z","request":{"remote_ip":"2001:db8::7","uri":"/"},"user_id":"","status":0}"#,
        Some((1_764_000_000_123, "2001:db8::7", Some("/"), None, None, 0, What::Nothing)),
    );
    check(r#"{"level":"info","ts":1764000000.1,"msg":"serving initial configuration"}"#, None);
    // Envoy, as Istio has it write.
    check(
        r#"{"authority":"httpbin:8000","bytes_received":0,"bytes_sent":135,"downstream_local_address":"10.0.0.2:80","downstream_remote_address":"203.0.113.7:38618","duration":5,"method":"GET","path":"/status/418?a=b","protocol":"HTTP/1.1","request_id":"d209e46f-9ed5-9b61-bbdd-43e22662702a","response_code":429,"response_flags":"RL","start_time":"2025-11-24T16:00:00.123Z","upstream_cluster":null,"user_agent":"curl/7.60.0","x_forwarded_for":"-"}"#,
        Some((
            1_764_000_000_123,
            "203.0.113.7",
            Some("/status/418"),
            Some("curl/7.60.0"),
            None,
            429,
            of(Signal::OverLimit),
        )),
    );
    check(
        r#"{"downstream_remote_address":"[::ffff:203.0.113.7]:38618","path":null,"response_code":"400","start_time":"2025-11-24T16:00:00.123Z"}"#,
        Some((1_764_000_000_123, "203.0.113.7", None, None, None, 400, What::Answered)),
    );
    // nginx, by seconds since the epoch.
    check(
        r#"{"msec":"1764000000.123","remote_addr":"203.0.113.7","request":"GET /b HTTP/1.1","status":"200"}"#,
        Some((1_764_000_000_123, "203.0.113.7", Some("/b"), None, None, 200, What::Answered)),
    );
    check(
        r#"{"timestamp":1764000000123,"client":"203.0.113.7","status":200}"#,
        Some((1_764_000_000_123, "203.0.113.7", None, None, None, 200, What::Answered)),
    );
    for (begin, client) in [
        ("Nov 24 16:00:00 lb haproxy[14389]: ", "203.0.113.7"),
        ("<134>Nov 24 16:00:00 haproxy[14389]: ", "2001:db8::7"),
        ("", "203.0.113.7"),
    ] {
        for (rest, path, status, what) in [
            (
                r#"http-in static/srv1 10/0/30/69/109 404 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /b?c HTTP/1.1""#,
                Some("/b"),
                404,
                What::Answered,
            ),
            (
                r#"https-in~ api/<NOSRV> -1/-1/-1/-1/+0 400 0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>""#,
                None,
                400,
                of(Signal::BadRequest),
            ),
            (r#"in api/a 5/0/1/-1/50 -1 0 - - CH-- 2/2/0/0/0 0/0 "GET /b HTTP/1.1""#, Some("/b"), 0, What::Nothing),
            (
                r#"in in/<NOSRV> 0/-1/-1/-1/0 429 188 - - PR-- 2/2/0/0/0 0/0 "GET /b"#,
                Some("/b"),
                429,
                of(Signal::OverLimit),
            ),
        ] {
            check(
                &format!("{begin}{client}:33317 [24/Nov/2025:16:00:00.123] {rest}"),
                Some((1_764_000_000_123, client, path, None, None, status, what)),
            );
        }
        // A connection without HTTP, and one that failed before.
        for rest in ["in api/a 0/0/5007 212 -- 0/0/0/0/3 0/0", "in/1: SSL handshake failure"] {
            check(&format!("{begin}{client}:33317 [24/Nov/2025:16:00:00.123] {rest}"), None);
        }
    }
}

/// Whether the gateway wrote a line, and so whether its id is evidence.
#[test]
fn ids_are_the_gateways_own() {
    const ID: &str = "ca97e45691b0df390000000000000004";
    let id = Some(RequestId(0xca97_e456_91b0_df39_0000_0000_0000_0004));
    for (members, expect) in [
        (r#""time":"T","client":"C","status":200,"duration_us":5"#, id),
        (r#""time":"T","client":"C","status":200,"verdict":"passed""#, id),
        (r#""@timestamp":"T","source.ip":"C","http.response.status_code":200,"gateway.route":"a""#, id),
        (r#""@timestamp":"T","source":{"ip":"C"},"http.response.status_code":200,"gateway":{"listener":"a"}"#, id),
        (r#""@timestamp":"T","client":"C","status":401,"signal":"forged_token""#, id),
        (r#""@timestamp":"T","client":"C","status":403,"reject":"forbidden""#, id),
        // Others have ids, and names of members that the gateway has, too.
        (r#""time":"T","client":"C","status":200"#, None),
        (r#""time":"T","remote_addr":"C","status":200,"duration_us":5"#, None),
        (r#""@timestamp":"T","client":"C","status":200,"verdict":"clean","signal":"SIGTERM""#, None),
        (r#""@timestamp":"T","source.ip":"C","http.response.status_code":200"#, None),
    ] {
        let members = members.replace("\"T\"", "\"2025-11-24T16:00:00Z\"").replace("\"C\"", "\"203.0.113.7\"");
        for name in ["id", "http.request.id"] {
            let read = read(&format!("{{\"{name}\":\"{ID}\",{members}}}")).unwrap();
            assert_eq!((read.id, read.is_ours), (expect, expect.is_some()), "{members}");
        }
    }
}
