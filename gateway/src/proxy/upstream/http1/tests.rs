//! Answers, good and hostile, over real sockets and in pieces; what a second implementation makes of our requests.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::*;
use crate::{
    os::file::seed,
    proxy::{interim::InterimSink, reading, timing::write_batching::WriteBatch},
};

/// What becomes of an answer: its status, its body and whether the connection may go on; or what is wrong.
type Outcome = Result<(u16, Vec<u8>, bool), UpstreamError>;

/// An answer means the same in both.
const FORMS: [HeadFormat; 2] = [HeadFormat::Map, HeadFormat::Lines];

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

fn request(method: &str, body: &[u8]) -> UpstreamRequest {
    let upload = if body.is_empty() { Upload::Empty } else { Upload::Whole(Bytes::copy_from_slice(body).into()) };
    let head = Request::builder().method(method).uri("/a?b=c").header("host", "a.example").body(()).unwrap();
    UpstreamRequest::new(Box::new(head.into_parts().0), upload, b"x-own: 1\r\n".to_vec())
}

/// The statuses of the interim responses that were passed on.
#[derive(Default)]
struct PassedOn(RefCell<Vec<u16>>);

impl InterimSink for PassedOn {
    fn pass(&self, head: Parts) {
        self.0.borrow_mut().push(head.status.as_u16());
    }
}

async fn exchange(
    connection: &mut H1Connection,
    mut request: UpstreamRequest,
    form: HeadFormat,
    interim: &PassedOn,
) -> Outcome {
    let client = ClientSide { write_batch: &WriteBatch::default(), interim };
    let head = connection.send(&mut request, form, &client).await?;
    let mut body = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| connection.poll_piece(cx)).await {
        body.extend_from_slice(&piece?);
    }
    Ok((head.status.as_u16(), body, connection.is_reusable()))
}

fn ask(method: &str, bytes: &[u8], size: usize, form: HeadFormat) -> Outcome {
    ask_noting(method, bytes, size, form, &PassedOn::default())
}

/// Asks a server that answers with `bytes` in pieces of `size` and closes.
fn ask_noting(method: &str, bytes: &[u8], size: usize, form: HeadFormat, interim: &PassedOn) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = bytes.to_vec();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = [0; 4_096];
        let _length = stream.read(&mut head).unwrap();
        for piece in answer.chunks(size) {
            if stream.write_all(piece).is_err() {
                return;
            }
            std::thread::yield_now();
        }
    });
    let outcome = run(async {
        let mut connection =
            H1Connection::new(MaybeTlsStream::Plain(tokio::net::TcpStream::connect(address).await.unwrap().into()));
        exchange(&mut connection, request(method, b""), form, interim).await
    });
    server.join().unwrap();
    outcome
}

#[track_caller]
fn check(method: &str, bytes: &str, expect: Result<(u16, &str, bool), UpstreamError>) {
    seed(bytes.as_bytes());
    assert_eq!(reading::http1(bytes.as_bytes()), None, "{bytes:?}");
    for (size, form) in [1, 5, 64, usize::MAX].into_iter().flat_map(|size| FORMS.map(|form| (size, form))) {
        let expect = expect.map(|(status, body, reusable)| (status, body.as_bytes().to_vec(), reusable));
        let outcome = ask(method, bytes.as_bytes(), size, form);
        // The end of the connection may be seen with the answer, or not yet.
        assert_eq!(outcome, expect, "{method} {bytes:?} in pieces of {size}, {form:?}");
    }
}

#[test]
fn good_answers() {
    check("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((200, "hello", true)));
    check("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Ok((200, "", true)));
    check("GET", "HTTP/1.1 200 OK\r\ncontent-length:5\r\nConnection: x, Close\r\n\r\nhello", Ok((200, "hello", false)));
    check("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((200, "hello", false)));
    check("GET", "HTTP/1.1 200 OK\r\n\r\nhello", Ok((200, "hello", false)));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    check("GET", &format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), Ok((200, "hello", true)));
    check("GET", &format!("{chunked}0005;a=b\r\nhello\r\n1 \r\n"), Err(UpstreamError::Malformed("chunk breaks HTTP")));
    check(
        "GET",
        &format!("{chunked}2;x\r\nhe\r\nA\r\nllo worlds\r\n0\r\nX: y\r\n\r\n"),
        Ok((200, "hello worlds", true)),
    );
    check(
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        Ok((204, "", true)),
    );
    check("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((200, "", true)));
    check("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((200, "", true)));
    check("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok((304, "", true)));
    check("GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Ok((101, "", false)));
}

/// Which interim responses `start` passes on before a final one, and what comes of that.
#[track_caller]
fn check_interim(start: &str, passed_on: &[u16], expect: Result<bool, &'static str>) {
    let bytes = format!("{start}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    for (size, form) in [1, 5, usize::MAX].into_iter().flat_map(|size| FORMS.map(|form| (size, form))) {
        let interim = PassedOn::default();
        let outcome = ask_noting("GET", bytes.as_bytes(), size, form, &interim);
        let expect = expect.map(|reusable| (200, b"hello".to_vec(), reusable)).map_err(UpstreamError::Malformed);
        assert_eq!((outcome, &interim.0.take()[..]), (expect, passed_on), "{start:?} in pieces of {size}, {form:?}");
    }
}

#[test]
fn interim_responses_are_passed_on_before_the_final_one() {
    check_interim("", &[], Ok(true));
    check_interim("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", &[103], Ok(true));
    check_interim(
        &[102, 100, 103, 199].map(|code| format!("HTTP/1.1 {code} x\r\n\r\n")).concat(),
        &[102, 100, 103, 199],
        Ok(true),
    );
    check_interim(&"HTTP/1.1 102 x\r\n\r\n".repeat(MAX_INTERIM), &[102; MAX_INTERIM], Ok(true));
    let too_many = Err("too many interim responses");
    check_interim(&"HTTP/1.1 102 x\r\n\r\n".repeat(MAX_INTERIM + 1), &[102; MAX_INTERIM], too_many);
    // F23: what would frame a body makes none, and the connection is not trusted any more.
    for (line, reusable) in [
        ("Content-Length: 0", true),
        ("Content-Length: 5", false),
        ("Transfer-Encoding: chunked", false),
        ("Connection: close", false),
    ] {
        check_interim(&format!("HTTP/1.1 103 x\r\n{line}\r\n\r\n"), &[103], Ok(reusable));
        check_interim(&format!("HTTP/1.1 103 x\r\n{line}\r\n\r\nhi"), &[103], Err("no status line"));
    }
    check_interim("HTTP/1.0 103 x\r\n\r\n", &[103], Ok(false));
    let both = "HTTP/1.1 103 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_interim(both, &[], Err("Content-Length beside Transfer-Encoding"));
    check_interim("HTTP/1.1 103 x\r\nX: a\nY: b\r\n\r\n", &[], Err("head breaks HTTP"));
}

#[test]
fn servers_say_how_long_they_keep_a_connection() {
    for (line, expect) in [
        ("", None),
        ("Keep-Alive: timeout=5\r\n", Some(5)),
        ("connection: keep-alive\r\nkeep-alive: timeout=72, max=9\r\n", Some(72)),
        ("Keep-Alive: soon\r\n", None),
    ] {
        for form in FORMS {
            let mut bytes = Bytes::from(format!("HTTP/1.1 200 OK\r\n{line}Content-Length: 0\r\n\r\n"));
            let head = response::parse(&mut bytes, &Method::GET, form).unwrap().unwrap();
            assert_eq!(head.keeps_for.map(|kept| kept.as_secs()), expect, "{line:?} {form:?}");
        }
    }
}

#[test]
fn f22_hostile_answers() {
    let broken = |detail| Err(UpstreamError::Malformed(detail));
    let head = Err(UpstreamError::Malformed("head breaks HTTP"));
    for (lines, expect) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            broken("Content-Length beside Transfer-Encoding"),
        ),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", broken("more than one Content-Length")),
        ("Content-Length: 5, 5\r\n\r\nhello", broken("Content-Length is not a number")),
        ("Content-Length: +5\r\n\r\nhello", broken("Content-Length is not a number")),
        ("Content-Length: 0x5\r\n\r\nhello", broken("Content-Length is not a number")),
        ("Content-Length:\r\n\r\nhello", broken("Content-Length is not a number")),
        ("Content-Length: 18446744073709551616\r\n\r\nhello", broken("Content-Length is not a number")),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n", broken("Transfer-Encoding other than chunked")),
        ("Transfer-Encoding: identity\r\n\r\n", broken("Transfer-Encoding other than chunked")),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", broken("more than one Transfer-Encoding")),
        ("X: a\nY: b\r\n\r\n", head),
        ("X: a\rY: b\r\n\r\n", head),
        ("X: a\0b\r\n\r\n", head),
        ("X : a\r\n\r\n", head),
        ("X: a\r\n b\r\n\r\n", head),
        (": a\r\n\r\n", head),
        ("X\r\n\r\n", head),
    ] {
        check("GET", &format!("HTTP/1.1 200 OK\r\n{lines}"), expect);
    }
    check(
        "GET",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        broken("Transfer-Encoding other than chunked"),
    );
    for start in ["\r\nHTTP/1.1 200 OK", "ICY 200 OK", " HTTP/1.1 200 OK"] {
        check("GET", &format!("{start}\r\n\r\n"), broken("no status line"));
    }
    for start in ["HTTP/2.0 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK"] {
        check("GET", &format!("{start}\r\n\r\n"), head);
    }
    check("GET", &"HTTP/1.1 100 x\r\n\r\n".repeat(MAX_INTERIM + 1), broken("too many interim responses"));
    check("GET", &format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101)), broken("too many headers"));
    for chunk in [
        "5\nhello\r\n",
        "0x5\r\n",
        "\r\n",
        "+5\r\n",
        "5 \r\n",
        "11111111111111111\r\n",
        "5\r\nhello0\r\n",
        "5;a\nb\r\n",
        "g\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        check("GET", &bytes, broken("chunk breaks HTTP"));
    }
    let long = "x".repeat(9_000);
    for chunk in [
        format!("5;{long}\r\nhello\r\n"),
        format!("0\r\nX: {long}\r\n\r\n"),
        format!("0\r\n{}\r\n", "X: y\r\n".repeat(2_000)),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        let outcome = ask("GET", bytes.as_bytes(), usize::MAX, HeadFormat::Lines);
        assert_eq!(outcome, Err(UpstreamError::Malformed("chunk line or trailers too long")));
    }
    let endless = [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(90).as_bytes(),
        &[b'x'; 70_000],
    ]
    .concat();
    assert_eq!(ask("GET", &endless, usize::MAX, HeadFormat::Lines), Err(UpstreamError::Malformed("head too large")));
}

/// F22, F23: what stands behind an answer is nobody's, and a body that ends early is not whole.
#[test]
fn f23_ends() {
    check("GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Err(UpstreamError::Truncated));
    check("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Err(UpstreamError::Truncated));
    check("GET", "HTTP/1.1 200 OK\r\nContent-Le", Err(UpstreamError::Truncated));
    check("GET", "HTTP/1.1 100 Continue\r\n\r\n", Err(UpstreamError::Truncated));
    check("GET", "", Err(UpstreamError::Closed { sent: true }));
    for (method, bytes) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nhello"),
    ] {
        let Ok((_, body, reusable)) = ask(method, bytes.as_bytes(), usize::MAX, HeadFormat::Lines) else {
            panic!("{bytes:?}")
        };
        assert!((body.is_empty() || body == b"hello") && !reusable, "{bytes:?}");
    }
    check("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Ok((204, "", false)));
    check("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((204, "", false)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent in whatever pieces, a body is what its chunks hold, and nothing panics.
    #[test]
    fn chunks_in_pieces(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
        sizes in prop::collection::vec(1_usize..40, 1..20),
        extra in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        for piece in &pieces {
            write!(bytes, "{:X};e=\"{}\"\r\n", piece.len(), piece.len()).unwrap();
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        let whole = bytes.len();
        bytes.extend_from_slice(&extra);
        let (mut framing, mut body, mut taken) = (Framing::Chunked(Box::default()), Vec::new(), 0);
        let mut sizes = sizes.iter().cycle();
        let mut rest = Bytes::from(bytes);
        while !framing.is_over() && !rest.is_empty() {
            let size = rest.len().min(*sizes.next().unwrap());
            let mut piece = rest.split_to(size);
            taken += size;
            while let Some(data) = framing.take(&mut piece).unwrap() {
                body.extend_from_slice(&data);
            }
            taken -= piece.len();
        }
        prop_assert!(framing.is_over());
        prop_assert_eq!(taken, whole);
        prop_assert_eq!(body, pieces.concat());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..64) {
        let bytes = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat();
        let [map, lines] = FORMS.map(|form| {
            let mut rest = Bytes::copy_from_slice(&bytes);
            let head = response::parse(&mut rest, &Method::GET, form);
            head.map(|head| head.map(|head| (head.parts.status, head.framing, head.keeps, rest)))
        });
        prop_assert_eq!(map, lines);
        let mut framing = Framing::Chunked(Box::default());
        for piece in bytes.chunks(size) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Ok(Some(data)) = framing.take(&mut piece) {
                prop_assert!(!data.is_empty());
            }
        }
    }
}

/// hyper echoes the method, the length and the body of each request.
#[test]
fn a_second_implementation_reads_the_same() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let echo = service_fn(|request: Request<Incoming>| async move {
                let method = request.method().to_string();
                let length = request.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
                let target = request.uri().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let text = format!("{method} {target} {}\n", length.unwrap_or_default());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from([text.as_bytes(), &body].concat()))))
            });
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), echo).await.unwrap();
        });
        let mut connection =
            H1Connection::new(MaybeTlsStream::Plain(tokio::net::TcpStream::connect(address).await.unwrap().into()));
        let count = Cell::new(0);
        for (method, size, length) in [
            ("GET", 0, ""),
            ("POST", 0, "0"),
            ("DELETE", 0, "0"),
            ("POST", 1, "1"),
            ("PUT", 20_000, "20000"),
            ("POST", 3_000_000, "3000000"),
            ("OPTIONS", 0, ""),
            ("PATCH", 16_384, "16384"),
        ] {
            let body: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[0]).collect();
            let expect = [format!("{method} /a?b=c {length}\n").as_bytes(), &body].concat();
            assert!(connection.is_alive());
            let interim = PassedOn::default();
            let outcome = tokio::time::timeout(
                Duration::from_secs(20),
                exchange(&mut connection, request(method, &body), HeadFormat::Lines, &interim),
            );
            assert!(outcome.await.unwrap() == Ok((200, expect, true)), "{method} {size}");
            count.set(count.get() + 1);
        }
        assert_eq!(count.get(), 8);
    });
}

#[test]
fn a_connection_that_the_server_closed_is_not_alive() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = H1Connection::new(MaybeTlsStream::Plain(
            tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into(),
        ));
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(connection.is_alive());
        drop(accepted);
        while connection.is_alive() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
