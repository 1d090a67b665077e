//! Interim responses (1xx) of upstreams: clients of HTTP/1.1 and HTTP/2 get them as they come, in order and in bounds,
//! whatever the upstream speaks; and nothing of the final response depends on them (RFC 9110 15.2, RFC 8297, F22).

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request},
    http2_call::post,
    pki::HOST,
    report,
    settings::Settings,
    wait::SOON,
    world::{GOOD_V4, World},
};

use self::stepped::{Step, Stepped, good, hint, then_hello};
use crate::h2_hostile::{END_HEADERS, END_STREAM, HEADERS, Raw, frame, get};

mod stepped;

/// The most interim responses of one request.
const MOST: usize = 16;

/// A route to this upstream.
fn route(path: &str, upstream: &str) -> String {
    format!(
        "[[route]]\npath = \"/{path}/{{*rest}}\"\nmethods = [\"GET\", \"HEAD\", \"POST\"]\nrequire = [\"public\"]\n\
         upstream = \"{upstream}\"\nresponse_headers = {{ remove = [\"x-secret\"] }}\n"
    )
}

/// Routes to a server of HTTP/1.1, `/one`, and to one of HTTP/2, `/two`, with these lines in the tables of both.
fn settings(more: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1".to_owned(),
        timeouts: "response = \"2s\"".to_owned(),
        upstream: format!("servers = [\"127.0.0.1:9001\"]\n{more}"),
        routes: route("one", "items") + &route("two", "two"),
        more: format!("[upstream.two]\nservers = [\"127.0.0.1:9002\"]\nprotocol = \"http2\"\n{more}"),
        ..Settings::default()
    }
}

/// Both servers, and the paths to them.
fn servers(world: &World) -> [(Stepped, &'static str); 2] {
    let one = Stepped::start(&world.gate, "127.0.0.1:9001", false);
    [(one, "/one/x"), (Stepped::start(&world.gate, "127.0.0.1:9002", true), "/two/x")]
}

/// What a client got: the interim responses with their headers, and the final status and content; `None`: that broke off.
type Seen = (Vec<(u16, Vec<String>)>, Option<(u16, String)>);

/// A head's headers, but for the request id, which is checked.
fn lines<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let (ids, rest): (Vec<_>, Vec<_>) = headers.partition(|(name, _)| *name == "x-request-id");
    assert!(matches!(&ids[..], [(_, id)] if id.len() == 32), "{ids:?}");
    rest.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn seen_by_http1(connection: &mut Connection, method: &str, path: &str) -> Seen {
    connection.write(&Request::new(method, path).bytes()).unwrap();
    let mut interim = Vec::new();
    loop {
        let Ok(head) = connection.head() else { return (interim, None) };
        if head.status < 200 {
            let headers = head.headers.iter().map(|(name, value)| (&**name, &**value));
            interim.push((head.status, lines(headers)));
            continue;
        }
        let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let content = connection.raw(if method == "HEAD" { 0 } else { length });
        return (interim, content.ok().map(|content| (head.status, String::from_utf8(content).unwrap())));
    }
}

fn seen_by_http2(client: &Client<'_>, request: http::Request<()>) -> Seen {
    let caller = client.caller().unwrap();
    let mut call = caller.begin(request, true).unwrap();
    let mut interim = Vec::new();
    while let Ok(Some(head)) = call.interim() {
        let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        interim.push((head.status.as_u16(), lines(headers)));
    }
    let answer = call.answer().ok();
    (interim, answer.map(|it| (it.head.status.as_u16(), String::from_utf8(it.body).unwrap())))
}

fn request(method: &str, path: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(format!("https://{HOST}{path}")).body(()).unwrap()
}

/// What the clients of both protocols see of these steps.
fn seen(client: &Client<'_>, method: &str, path: &str) -> [Seen; 2] {
    let mut connection = client.connect().unwrap();
    [seen_by_http1(&mut connection, method, path), seen_by_http2(client, request(method, path))]
}

const LINK: &str = "link: </a.css>; rel=preload";

/// So many interim responses of this status, without headers.
fn bare(count: usize, status: u16) -> Vec<(u16, Vec<String>)> {
    vec![(status, Vec::new()); count]
}

fn linked(statuses: &[u16]) -> Vec<(u16, Vec<String>)> {
    statuses.iter().map(|status| (*status, vec![LINK.to_owned()])).collect()
}

#[track_caller]
fn check(context: impl Debug, seen: &[Seen], interim: &[(u16, Vec<String>)], status: u16) {
    for (seen, client) in seen.iter().zip(["HTTP/1.1", "HTTP/2"]) {
        assert_eq!(seen.0, interim, "{context:?}, client of {client}: {:?}", seen.1);
        let got = seen.1.as_ref().map(|(status, content)| (*status, content == "hello"));
        assert_eq!(got, Some((status, status == 200)), "{context:?}, client of {client}");
    }
}

fn started(what: &str, settings: &Settings, test: impl FnOnce(&Client<'_>, &[(Stepped, &str)], &Daemon<'_>)) {
    if !report::may_run(what) {
        return;
    }
    let world = World::new();
    let servers = servers(&world);
    let daemon = Daemon::start(&world, settings);
    test(&Client::new(&world, GOOD_V4), &servers, &daemon);
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

#[test]
fn interim_responses_reach_clients_in_order_and_in_bounds() {
    started("interim: both ways", &settings(""), |client, servers, _| {
        // Of these, four are no more than 64 KiB, and five are.
        let link = format!("<{}>", "x".repeat(15_000));
        let large = [&vec![Step::Head(103, vec![("link", link.clone())]); 5][..], &[hint(103)]].concat();
        let large_seen = [&vec![(103, vec![format!("link: {link}")]); 4][..], &linked(&[103])].concat();
        let of_the_gateway = ["strict-transport-security", "x-request-id", "x-secret", "content-length"];
        let secret = Step::Head(103, of_the_gateway.iter().map(|name| (*name, "0".to_owned())).collect());
        for (steps, interim, status) in [
            (then_hello(&[]), Vec::new(), 200),
            (then_hello(&[hint(103)]), linked(&[103]), 200),
            (then_hello(&[hint(102), hint(103), hint(103), hint(199)]), linked(&[102, 103, 103, 199]), 200),
            // The gateway answers `Expect` itself, and did not ask for 100.
            (then_hello(&[hint(100), hint(103), hint(100)]), linked(&[103]), 200),
            (then_hello(&[secret]), bare(1, 103), 200),
            (then_hello(&[Step::Heads(MOST, 102)]), bare(MOST, 102), 200),
            (then_hello(&[Step::Heads(MOST + 1, 102)]), bare(MOST, 102), 502),
            (then_hello(&[Step::Heads(50_000, 103)]), bare(MOST, 103), 502),
            (then_hello(&large), large_seen, 200),
            (vec![hint(103), Step::Close], linked(&[103]), 502),
        ] {
            for (server, path) in servers {
                server.answer(&steps);
                check((path, &steps), &seen(client, "GET", path), &interim, status);
            }
        }
        // Without content, too, and the next request on the same connection has its own.
        for (server, path) in servers {
            let mut connection = client.connect().unwrap();
            server.answer(&[hint(103), good(), Step::Last("")]);
            let head = (linked(&[103]), Some((200, String::new())));
            assert_eq!(seen_by_http1(&mut connection, "HEAD", path), head, "{path}");
            server.answer(&then_hello(&[hint(103)]));
            for _ in 0..2 {
                let whole = (linked(&[103]), Some((200, "hello".to_owned())));
                assert_eq!(seen_by_http1(&mut connection, "GET", path), whole, "{path}");
            }
            // Pipelined: each before its own final response.
            let asked = Request::new("GET", path).bytes();
            connection.write(&[&asked[..], &asked].concat()).unwrap();
            for status in [103, 200, 103, 200] {
                assert_eq!(connection.head().unwrap().status, status, "{path}");
                connection.raw(if status == 200 { 5 } else { 0 }).unwrap();
            }
        }
    });
}

#[test]
fn interim_responses_arrive_before_the_final_one_is_there() {
    started("interim: at once", &settings(""), |client, servers, daemon| {
        for (server, path) in servers {
            server.answer(&then_hello(&[hint(103), Step::Gate]));
            let mut connection = client.connect().unwrap();
            connection.write(&Request::new("GET", path).bytes()).unwrap();
            let early = connection.head().unwrap();
            assert_eq!((early.status, early.header("connection")), (103, None), "{path}");
            server.open_gate();
            let answer = connection.response("GET").unwrap();
            assert_eq!((answer.status, &*answer.text()), (200, "hello"), "{path}");
            assert_eq!(early.id(), answer.id(), "{path}");
            assert_eq!(daemon.logged(&answer.id())["status"], 200, "{path}: the log has the final status");

            let caller = client.caller().unwrap();
            let mut call = caller.begin(request("GET", path), true).unwrap();
            assert_eq!(call.interim().unwrap().map(|head| head.status.as_u16()), Some(103), "{path}");
            server.open_gate();
            assert_eq!(call.answer().unwrap().body, b"hello", "{path}");

            // While the body is still sent, beside our own 100, and without the server's.
            server.answer(&then_hello(&[hint(103), hint(100), Step::Gate, Step::Body(5)]));
            let mut connection = client.connect().unwrap();
            let expecting = Request::new("POST", path).header("Expect", "100-continue").header("Content-Length", "5");
            connection.write(&expecting.bytes()).unwrap();
            let mut early = [connection.head().unwrap().status, connection.head().unwrap().status];
            early.sort_unstable();
            assert_eq!(early, [100, 103], "{path}");
            connection.write(b"bytes").unwrap();
            server.open_gate();
            let answer = connection.head().unwrap();
            assert_eq!(answer.status, 200, "{path}");
            let mut call = caller.begin(post(path, "text/plain"), false).unwrap();
            call.send(b"by").unwrap();
            assert_eq!(call.interim().unwrap().map(|head| head.status.as_u16()), Some(103), "{path}");
            call.send(b"tes").unwrap();
            call.end(None).unwrap();
            server.open_gate();
            assert_eq!(call.answer().unwrap().body, b"hello", "{path}");

            // A server that closes meanwhile: the final response is ours.
            server.answer(&[hint(103), Step::Close]);
            let mut call = caller.begin(post(path, "text/plain"), false).unwrap();
            call.send(b"by").unwrap();
            assert_eq!(call.interim().unwrap().map(|head| head.status.as_u16()), Some(103), "{path}");
            assert_eq!(call.answer().unwrap().head.status.as_u16(), 502, "{path}");
        }
    });
}

#[test]
fn f22_f23_hostile_interim_responses_harm_nobody() {
    started("interim: hostile", &settings(""), |client, servers, _| {
        let [(one, path), (two, path_two)] = servers else { panic!("two servers") };
        let with = |lines: &[(&'static str, &str)]| {
            let own = lines.iter().map(|(name, value)| (*name, (*value).to_owned()));
            Step::Head(103, own.chain([("link", "</a.css>; rel=preload".to_owned())]).collect())
        };
        // What frames a body or belongs to the connection does not pass, and the connection is not used again.
        for (lines, kept) in [
            (&[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5")][..], true),
            (&[("upgrade", "h2c"), ("te", "trailers"), ("proxy-authenticate", "Basic")], true),
            (&[("content-length", "5")], false),
            (&[("transfer-encoding", "chunked")], false),
        ] {
            one.answer(&then_hello(&[with(lines)]));
            check(lines, &seen(client, "GET", path), &linked(&[103]), 200);
            let before = one.connections();
            check(lines, &seen(client, "GET", path)[..1], &linked(&[103]), 200);
            assert_eq!(one.connections() == before, kept, "{lines:?}");
            // Bytes that such a head seems to announce are no response.
            one.answer(&then_hello(&[with(lines), Step::Data("12345")]));
            check(lines, &seen(client, "GET", path), &linked(&[103]), 502);
        }
        // Behind the final response: what comes there is nobody's.
        one.answer(&[good(), Step::Data("hello"), hint(103), good(), Step::Data("evil!")]);
        for _ in 0..3 {
            check("behind", &seen(client, "GET", path), &[], 200);
        }
        one.answer(&then_hello(&[]));
        check("after", &seen(client, "GET", path), &[], 200);

        // By HTTP/2: no status follows the end of the stream, or the final head.
        for steps in [vec![Step::LastHead(103)], vec![good(), hint(103), Step::Last("hello")]] {
            two.answer(&steps);
            for (interim, answer) in seen(client, "GET", path_two) {
                assert!(interim.len() <= 1, "{steps:?}: {interim:?}");
                assert!(answer.is_none_or(|(status, _)| status == 502), "{steps:?}");
            }
        }
        // HTTP/2 has no 101.
        two.answer(&then_hello(&[hint(101), hint(103)]));
        check("101", &seen(client, "GET", path_two), &linked(&[103]), 200);
    });
}

#[test]
fn some_clients_get_no_interim_responses() {
    for (setting, by_http1, by_http2) in
        [("forward", &[103][..], &[103][..]), ("http2", &[], &[103]), ("drop", &[], &[])]
    {
        let settings = settings(&format!("interim_responses = \"{setting}\"\n"));
        started("interim: setting", &settings, |client, servers, _| {
            for (server, path) in servers {
                server.answer(&then_hello(&[hint(103)]));
                let [first, second] = seen(client, "GET", path);
                assert_eq!((first.0, second.0), (linked(by_http1), linked(by_http2)), "{setting:?} {path}");
                // HTTP/1.0 does not know them (RFC 9110 15.2).
                let mut old = client.connect().unwrap();
                old.write(format!("GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
                assert_eq!(old.head().unwrap().status, 200, "{setting:?} {path}");
                // Nor has gRPC a use for them.
                let caller = client.caller().unwrap();
                let mut call = caller.begin(post(path, "application/grpc"), true).unwrap();
                assert!(call.interim().unwrap().is_none(), "{setting:?} {path}");
            }
        });
    }
}

/// RFC 7541 4.2: whoever has made our table smaller is told so in the first block, be it of an interim response.
#[test]
fn the_first_block_tells_of_the_table() {
    started("interim: table", &settings(""), |client, servers, _| {
        let (server, path) = &servers[0];
        server.answer(&then_hello(&[hint(103)]));
        let mut raw = Raw::open(client, &[0, 1, 0, 0, 0, 0]).unwrap();
        raw.write(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(path, &[]))).unwrap();
        let heard = raw.hear(SOON, |heard| heard.heads.len() == 2);
        let starts: Vec<_> = heard.heads.iter().map(|(_, block)| block[..2].to_vec()).collect();
        assert_eq!((starts[0][0], starts[1][0]), (0x20, 0x88), "{heard:?}");

        server.answer(&then_hello(&[Step::Body(5)]));
        let mut raw = Raw::open(client, &[0, 1, 0, 0, 0, 0]).unwrap();
        let head = get(path, &[("expect", "100-continue"), ("content-length", "5")]);
        raw.write(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
        let heard = raw.hear(SOON, |heard| !heard.heads.is_empty());
        assert_eq!(heard.heads, [(1, b"\x20\x08\x03100".to_vec())]);
    });
}

/// An interim response is no progress: a server that sends nothing else is late all the same.
#[test]
fn interim_responses_extend_no_deadline() {
    started("interim: deadline", &settings(""), |client, servers, _| {
        let every = vec![[hint(103), Step::Pause(Duration::from_millis(700))]; 10].concat();
        for (server, path) in servers {
            server.answer(&then_hello(&every));
            let began = Instant::now();
            for (interim, answer) in seen(client, "GET", path) {
                assert_eq!(answer.map(|(status, _)| status), Some(504), "{path}");
                assert!((1..=4).contains(&interim.len()), "{path}: {interim:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(14), "{path}: {:?}", began.elapsed());
        }
    });
}

/// A request is sent again after an interim response as before it: only where that is safe, and as long as nothing of a
/// final response was passed on.
#[test]
fn a_retry_may_follow_an_interim_response() {
    let retry = "servers = [\"127.0.0.1:9001\", \"127.0.0.1:9003\"]\n\
        [upstream.items.retry]\nstatuses = [503]\nbudget = 100\nreserve = 100\n";
    let settings =
        Settings { upstream: retry.to_owned(), routes: route("one", "items"), more: String::new(), ..settings("") };
    if !report::may_run("interim: retries") {
        return;
    }
    let world = World::new();
    let first = Stepped::start(&world.gate, "127.0.0.1:9001", false);
    let second = Stepped::start(&world.gate, "127.0.0.1:9003", false);
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    second.answer(&then_hello(&[hint(103)]));
    let busy = vec![hint(102), Step::Head(503, vec![("content-length", "5".to_owned())]), Step::Last("sorry")];
    for (steps, refused) in [(vec![hint(102), Step::Close], 502), (busy, 503)] {
        first.answer(&steps);
        for (method, again) in [("GET", true), ("POST", false)] {
            let all: Vec<_> = (0..6).flat_map(|_| seen(&client, method, "/one/x")).collect();
            let (met, passed): (Vec<_>, Vec<_>) = all.into_iter().partition(|(interim, _)| interim[0].0 == 102);
            // The other server has every second turn, and after a retry the next request begins with the first again.
            assert!(!met.is_empty(), "{method}: the first server has its turn");
            for (interim, answer) in met {
                let statuses: Vec<_> = interim.iter().map(|(status, _)| *status).collect();
                let expect = if again { (vec![102, 103], 200) } else { (vec![102], refused) };
                assert_eq!((statuses, answer.unwrap().0), expect, "{method} after {steps:?}");
            }
            assert!(passed.iter().all(|(interim, _)| *interim == linked(&[103])), "{method}");
        }
    }
}
