//! Heads in pieces of every size, good and hostile, and what a second parser makes of them; bodies and where they end.

use std::{future::poll_fn, rc::Rc, task::Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use proptest::prelude::*;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::{
    head::{HeadReader, RequestHead},
    request_reader::RequestReader,
};
use crate::{
    client::Trusted,
    os::file::seed,
    proxy::{
        connection::{
            Connection,
            client_io::{ClientIo, Stream},
        },
        framing::length::Framing,
        pieces::spoiled,
        reading,
        timing::deadline,
    },
    refusal::Reject,
    settings::proxy::{HeadLimits, Trust},
};

const LIMIT: usize = 16 * 1_024;

/// Reads `bytes` in pieces of `size`: the first head, and what is left behind it.
fn take(bytes: &[u8], size: usize) -> Result<Option<(RequestHead, Vec<u8>)>, Reject> {
    let (mut reader, mut taken) = (HeadReader::default(), 0);
    for piece in bytes.chunks(size) {
        taken += piece.len();
        let mut fresh = Bytes::copy_from_slice(piece);
        match reader.take(&mut fresh, HeadLimits { bytes: LIMIT, headers: 100, target: LIMIT }) {
            Ok(Some(head)) => return Ok(Some((head, [&fresh[..], &bytes[taken..]].concat()))),
            Ok(None) => assert!(fresh.is_empty()),
            Err(malformed) => return Err(malformed.refusal.reject),
        }
    }
    Ok(None)
}

/// What is read of `bytes`, the same in pieces of every size.
#[track_caller]
fn read(bytes: &[u8]) -> Result<Option<(RequestHead, Vec<u8>)>, Reject> {
    seed(bytes);
    assert_eq!(reading::http1(bytes), None);
    let whole = take(bytes, bytes.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        let pieces = take(bytes, size);
        assert_eq!(format!("{pieces:?}"), format!("{whole:?}"), "in pieces of {size}");
    }
    whole
}

#[track_caller]
fn good(lines: &str, framing: Framing, keeps: bool) {
    let behind = b"GET /next";
    let bytes = [lines.as_bytes(), behind].concat();
    let (head, rest) = read(&bytes).unwrap().unwrap();
    assert_eq!((head.framing, head.keeps, &rest[..]), (framing, keeps, &behind[..]), "{lines:?}");
}

#[test]
fn good_heads() {
    let chunked = || Framing::Chunked(Default::default());
    good("GET / HTTP/1.1\r\n\r\n", Framing::None, true);
    good("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n", Framing::None, true);
    good("GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n", Framing::None, false);
    good("GET / HTTP/1.0\r\n\r\n", Framing::None, false);
    good("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Framing::None, true);
    good("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", Framing::None, false);
    good("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true);
    good("POST / HTTP/1.1\r\nContent-Length:0\r\n\r\n", Framing::Length(0), true);
    good("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", Framing::Length(u64::MAX), true);
    good("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), false);
    good("POST / HTTP/1.1\r\ntransfer-ENCODING: Chunked\r\n\r\n", chunked(), true);
    good("OPTIONS * HTTP/1.1\r\n\r\n", Framing::None, true);
    let (head, _) =
        read(b"PUT /a?b=%20c HTTP/1.1\r\nA:  x y \t\r\nB:\r\nA: z\r\nExpect: 100-Continue\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.parts.method, head.parts.version, head.expects), (Method::PUT, Version::HTTP_11, true));
    assert_eq!(head.parts.uri, "/a?b=%20c");
    let lines: Vec<_> =
        head.parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(lines, [("a", "x y"), ("a", "z"), ("b", ""), ("expect", "100-Continue")]);
    let (head, _) = read(b"GET /a?q=\"x\"&r=<y> HTTP/1.1\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.parts.uri, "/a?q=%22x%22&r=%3Cy%3E");
    // Only a target that is a URL itself can be about the server as a whole.
    for (target, uri) in [
        ("*", "*"),
        ("http://a.example", "http://a.example*"),
        ("http://a.example/", "http://a.example/"),
        ("http://a.example?b=://c", "http://a.example/?b=://c"),
        ("/login?next=https://app.example", "/login?next=https://app.example"),
        ("/a://b", "/a://b"),
    ] {
        let (head, _) = read(format!("OPTIONS {target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(head.parts.uri.to_string(), uri, "{target}");
    }
    for partial in ["", "\r", "\r\n", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r"] {
        assert!(read(partial.as_bytes()).unwrap().is_none(), "{partial:?}");
    }
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, expect: Reject) {
    let bytes = bytes.as_ref();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(read(bytes).map(|_head| ()), Err(expect), "{text:?}");
}

#[test]
fn f01_to_f20_heads_that_are_refused() {
    for head in [
        // F07
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\r\n\r\n",
        // F19
        "GET /#a HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET /<a>?b=\"c\" HTTP/1.1\r\n\r\n",
        // F17
        "GET /\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // F01 to F05
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        // F06, F20
        "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nNoColon\r\n\r\n",
    ] {
        refused(head, Reject::BadRequest);
    }
    let long = "x".repeat(LIMIT);
    refused(format!("GET /{long} HTTP/1.1\r\n\r\n"), Reject::UriTooLong);
    refused(format!("GET /{long}{long}"), Reject::UriTooLong);
    refused(format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), Reject::HeadersTooLarge);
    refused(format!("GET / HTTP/1.1\r\nX: {long}"), Reject::HeadersTooLarge);
    refused(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101)), Reject::HeadersTooLarge);
    let most = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert!(read(most.as_bytes()).unwrap().is_some());
    // At the limit, and one byte above.
    let fill = |more: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LIMIT - 23 + more));
    assert_eq!(fill(0).len(), LIMIT);
    assert!(read(fill(0).as_bytes()).unwrap().is_some());
    refused(fill(1), Reject::HeadersTooLarge);
}

/// The data of a chunked body, its trailers, and what is left behind it.
type Chunked = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// What is read of a chunked body in pieces of `size`.
fn chunked(bytes: &[u8], size: usize) -> Result<Option<Chunked>, &'static str> {
    let (mut framing, mut data, mut taken) = (Framing::Chunked(Default::default()), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        taken += piece.len();
        let mut fresh = Bytes::copy_from_slice(piece);
        while let Some(more) = framing.take(&mut fresh)? {
            data.extend_from_slice(&more);
        }
        if framing.is_over() {
            return Ok(Some((data, framing.trailers()?, [&fresh[..], &bytes[taken..]].concat())));
        }
        assert!(fresh.is_empty());
    }
    Ok(None)
}

#[test]
fn f08_to_f11_chunked_bodies() {
    let long = format!("5;{}\r\nhello\r\n", "e".repeat(5_000));
    let many = "x: y\r\n".repeat(33);
    for (bytes, expect) in [
        ("5\r\nhello\r\n0\r\n\r\nnext", Ok(Some(("hello", 0)))),
        ("5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nnext", Ok(Some(("hello0123456789", 0)))),
        ("0\r\nX: y\r\nZ:\r\n\r\nnext", Ok(Some(("", 2)))),
        ("5\r\nhello\r\n0\r\n\r", Ok(None)),
        (&long.repeat(3), Ok(None)),
        (&long.repeat(4), Err("chunk line or trailers too long")),
        ("0\r\nX : y\r\n\r\n", Err("trailers break HTTP")),
        ("0\r\nX: y\r\n z\r\n\r\n", Err("trailers break HTTP")),
        (&format!("0\r\n{many}\r\n"), Err("trailers break HTTP")),
        ("0\r\nX: y\n\r\n", Err("chunk breaks HTTP")),
        ("5 \r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP")),
        ("\r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP")),
        ("0x5\r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP")),
        ("11111111111111111\r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP")),
        ("5\r\nhelloxx0\r\n\r\n", Err("chunk breaks HTTP")),
        ("5;a\nb\r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP")),
    ] {
        check_chunks(bytes, expect);
    }
}

#[test]
fn f09_extensions_follow_the_grammar() {
    for good in ["a", "a=b", "a;b", "a=b;c=\"d;e\\\"\u{fc}\t\";f", " a\t= b ;\tc", "a=\"\"", "!#$%&'*+-.^_`|~=1"] {
        check_chunks(&format!("5;{good}\r\nhello\r\n0;{good}\r\n\r\nnext"), Ok(Some(("hello", 0))));
    }
    for wrong in [
        "",
        " ",
        ";a",
        "a;",
        "=b",
        "a=",
        "a= ",
        "a ",
        "a=b ",
        "a=\"b\" ",
        "a=\"",
        "a=\"b",
        "a=\"b\\\"",
        "a=\"b\"c",
        "a=b\"c\"",
        "a b",
        "a=b c",
        "a=b=c",
        "a,b",
        "a=(b)",
        "a:b",
        "\u{fc}",
        "a=\u{fc}",
        "a\0",
        "a=\"\x7f\"",
        "a=\"\x0b\"",
        "\"a\"",
    ] {
        check_chunks(&format!("5;{wrong}\r\nhello\r\n0\r\n\r\n"), Err("chunk breaks HTTP"));
        check_chunks(&format!("5\r\nhello\r\n0;{wrong}\r\n\r\n"), Err("chunk breaks HTTP"));
    }
    // Blanks before the first are taken for a part of the size by some.
    check_chunks("5 ;a\r\nhello\r\n0\r\n\r\n", Err("chunk breaks HTTP"));
}

#[track_caller]
fn check_chunks(bytes: &str, expect: Result<Option<(&str, usize)>, &str>) {
    {
        let whole = ["POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", bytes].concat();
        seed(whole.as_bytes());
        assert_eq!(reading::http1(whole.as_bytes()), None, "{bytes:.40?}");
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let read = chunked(bytes.as_bytes(), size);
            let read = read.as_ref().map(|read| {
                read.as_ref().map(|(data, trailers, rest)| {
                    assert_eq!(rest, b"next");
                    (std::str::from_utf8(data).unwrap(), trailers.as_ref().map_or(0, HeaderMap::len))
                })
            });
            assert_eq!(read.map_err(|error| *error), expect, "{bytes:.40?} in pieces of {size}");
        }
    }
}

#[test]
fn whatever_is_read_is_passed_on_as_it_was_read() {
    for bytes in [
        "GET /a/%7eb;c=d//%2f?x=%zz HTTP/1.1\r\nHost: A.example.:080\r\nCookie: a\r\nCookie: b\r\nX-User: 1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nConnection: x-a\r\nX-A: b\r\n\r\nGET http://a?b HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab\r\nGET / HTTP/1.1\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nab\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nServer:  a \r\nContent-Length:2\r\nConnection: keep-alive\r\n\r\nab",
        "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: close, x-a\r\nX-A: b\r\n\r\n1\r\na\r\n0\r\nB: c\r\n\r\n",
        "HTTP/1.0 404 Not Found\r\nDate: now\r\nX-Request-Id: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nuntil it ends",
        "HTTP/1.1 304 x\r\nContent-Length: 5\r\nStrict-Transport-Security: max-age=1\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
    ] {
        seed(bytes.as_bytes());
        assert_eq!(reading::http1(bytes.as_bytes()), None, "{bytes:?}");
        for spoiled in spoiled(bytes.as_bytes()) {
            assert_eq!(reading::http1(&spoiled), None, "{:?}", String::from_utf8_lossy(&spoiled));
        }
    }
}

proptest! {
    /// Whatever comes is read in one way, however it is cut; what is taken for a head, a second parser takes, too.
    #[test]
    fn any_bytes_are_read_in_one_way(
        lines in prop::collection::vec("[ -~]{0,12}(\r\n|\n|\r|)", 0..6),
        target in "[/a-z?#% ]{0,6}",
        size in 1_usize..9,
    ) {
        let bytes = [format!("GET /{target} HTTP/1.1\r\n"), lines.concat(), "\r\n\r\n".to_owned()].concat();
        let (whole, pieces) = (take(bytes.as_bytes(), bytes.len()), take(bytes.as_bytes(), size));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        if let Ok(Some((head, rest))) = whole {
            let mut space = [httparse::EMPTY_HEADER; 100];
            let mut parsed = httparse::Request::new(&mut space);
            let length = parsed.parse(bytes.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(rest.len(), bytes.len() - length);
            prop_assert_eq!(head.parts.headers.len(), parsed.headers.len());
        }
    }
}

/// A client, and what its connection is read by.
async fn connected() -> (TcpStream, Rc<RequestReader>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    let connection = Rc::new(Connection::new(Trusted::new(&Trust::default(), 64).peer(peer), address));
    let io = ClientIo::new(Stream::Plain(socket.into()), Rc::clone(&connection));
    (client, RequestReader::new(&io, &connection))
}

/// Whether a client counts as gone that closes its sending side so many milliseconds after a response of unknown length has
/// begun, and is sent nothing from then on; `None`: it closes before that.
async fn counts_as_gone(closes_after: Option<u64>) -> bool {
    const MILLI: u64 = 1_000_000;
    let (mut client, reader) = connected().await;
    let begin = deadline::now();
    if closes_after.is_none() {
        client.shutdown().await.unwrap();
        poll_fn(|cx| {
            assert!(reader.poll_left(cx).is_pending());
            if reader.is_half_closed() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    assert!(!reader.answers());
    poll_fn(|cx| {
        assert!(reader.poll_left_response(true, cx).is_pending());
        Poll::Ready(())
    })
    .await;
    if let Some(after) = closes_after {
        deadline::tick(begin + after * MILLI);
        client.shutdown().await.unwrap();
    }
    poll_fn(|cx| {
        assert!(reader.poll_left_response(true, cx).is_pending());
        if reader.is_half_closed() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let closed = begin + closes_after.unwrap_or_default() * MILLI;
    for after in [10, 60_000] {
        deadline::tick(closed + after * MILLI);
    }
    let mut is_gone = false;
    poll_fn(|cx| {
        is_gone = reader.poll_left_response(true, cx).is_ready();
        Poll::Ready(())
    })
    .await;
    is_gone
}

#[tokio::test]
async fn who_closes_the_sending_side_before_the_response_can_be_there_waits_for_it() {
    for (closes_after, expect) in
        [(None, false), (Some(0), false), (Some(900), false), (Some(1_200), true), (Some(10_000), true)]
    {
        assert_eq!(counts_as_gone(closes_after).await, expect, "{closes_after:?} ms");
    }
}

/// F15: a client that was never told to send its body may send it or not.
#[tokio::test]
async fn who_waits_to_be_told_is_known_when_the_answer_begins() {
    let limits = HeadLimits { bytes: LIMIT, headers: 100, target: LIMIT };
    // Whether the client waits, whether anybody asks for the body, and whether it comes with the head.
    for (expects, asked, sent, expect) in
        [(true, false, "", true), (true, true, "", false), (true, true, "hello", false), (false, false, "", false)]
    {
        let (mut client, reader) = connected().await;
        let line = if expects { "Expect: 100-continue\r\n" } else { "" };
        let request = format!("POST / HTTP/1.1\r\nContent-Length: 5\r\n{line}\r\n{sent}");
        client.write_all(request.as_bytes()).await.unwrap();
        let head = poll_fn(|cx| reader.poll_head(limits, cx)).await.unwrap().unwrap();
        assert_eq!(head.expects, expects);
        let mut body = reader.body().unwrap();
        if asked {
            let piece = poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await;
            assert_eq!(piece.is_ready(), !sent.is_empty());
        }
        assert_eq!(reader.answers(), expect, "{request:?}, asked: {asked}");
    }
}
