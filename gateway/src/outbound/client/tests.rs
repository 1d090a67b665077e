//! The client against servers on this host that answer what no server should.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::settings::jwt::tests::fetch;

fn server(change: impl FnOnce(&mut crate::settings::outbound::OutboundServer)) -> Server {
    let mut settings = fetch().server;
    // Long enough for an answer on a busy machine.
    settings.timeout = Duration::from_secs(2);
    settings.tls.accepts_any = true;
    change(&mut settings);
    Server::new(&settings).unwrap()
}

/// What a client gets that asks a server which answers with these bytes, and then waits.
fn ask(answer: &'static [u8], url: &str) -> Result<OutboundResponse, FailureKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 1_024];
            let _read = socket.read(&mut head).await.unwrap();
            socket.write_all(answer).await.unwrap_or_default();
            // It closes where the answer says so.
            if !answer.ends_with(b"...") {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let url = Url::parse(&url.replace("PORT", &port.to_string())).unwrap();
        let asked = OutboundClient::new(1).ask(&server(|_| {}), OutboundRequest::get(url, 20)).await;
        asked.map_err(|failure| failure.kind)
    })
}

#[track_caller]
fn check(answer: &'static [u8], expect: Result<&str, FailureKind>) {
    let got = ask(answer, "http://127.0.0.1:PORT/keys").map(|answer| answer.body);
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]);
    assert_eq!(got.as_ref().map(|body| body.as_ref()).map_err(|kind| *kind), expect.map(str::as_bytes), "{shown}");
}

#[test]
fn answers() {
    use FailureKind as K;
    const LONG: &[u8] = &{
        let mut bytes = [b'a'; 40_000];
        let start = *b"HTTP/1.1 200 OK\r\nX: ";
        let mut at = 0;
        while at < start.len() {
            bytes[at] = start[at];
            at += 1;
        }
        bytes
    };
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok("{}"));
    check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", Ok("{}"));
    check(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", Ok("{}"));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n12345678901234567890", Ok("12345678901234567890"));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", Err(K::TooLarge));
    check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n123456789012345678901\r\n", Err(K::TooLarge));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n123...", Err(K::Connection));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n123", Err(K::Timeout));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n", Err(K::Timeout));
    check(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", Err(K::Redirect));
    check(b"HTTP/1.1 304 Not Modified\r\n\r\n", Ok(""));
    check(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", Err(K::Content));
    check(b"SSH-2.0-OpenSSH_9.2\r\n...", Err(K::Connection));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", Err(K::Connection));
    check(LONG, Err(K::TooLarge));
    check(b"...", Err(K::Connection));
    let secure = ask(b"HTTP/1.1 400 Bad Request\r\n\r\n...", "https://127.0.0.1:PORT/keys");
    assert_eq!(secure.map(|answer| answer.status), Err(K::Address), "this host is asked by http alone here");
}

/// What may be connected to, by which settings.
#[test]
fn addresses_are_judged_before_they_are_connected_to() {
    let (none, http, private) = (
        server(|settings| settings.allow_http = false),
        server(|_| {}),
        server(|settings| (settings.allow_http, settings.allow_private) = (false, true)),
    );
    for (address, is_https, by) in [
        ("1.1.1.1", true, [true, true, true]),
        ("1.1.1.1", false, [false, false, false]),
        ("127.0.0.1", true, [false, false, true]),
        ("127.0.0.1", false, [false, true, true]),
        ("::1", false, [false, true, true]),
        ("10.0.0.1", true, [false, false, true]),
        ("10.0.0.1", false, [false, false, false]),
        ("::ffff:10.0.0.1", true, [false, false, true]),
        ("169.254.169.254", true, [false, false, false]),
        ("0.0.0.0", true, [false, false, false]),
        ("224.0.0.1", true, [false, false, false]),
    ] {
        let may =
            [&none, &http, &private].map(|server| may_connect(server, is_https, address.parse().unwrap()).is_ok());
        assert_eq!(may, by, "{address} {is_https}");
    }
    let url = Url::parse("https://id.example/").unwrap();
    let addresses = ["10.0.0.1:443", "1.1.1.1:443"].map(|address| address.parse().unwrap());
    assert_eq!(judge(&none, &url, &addresses).unwrap(), [addresses[1]]);
    let refused = judge(&none, &url, &addresses[..1]).unwrap_err();
    assert_eq!(refused.to_string(), "the address 10.0.0.1 of id.example is private: not connected to");
}
