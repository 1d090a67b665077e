//! The HTTP/2 clients of a soak: many requests at once on one connection, until it says goodbye.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::stage::Stage;
use crate::{
    http1::TIMEOUT,
    http2::get,
    pki::{HOST, PKI},
    random::Random,
    wait::slowly,
};

const NAME: &str = "HTTP/2";

/// As many streams as are open at once.
const AT_ONCE: u64 = 6;

type Sender = http2::SendRequest<Full<Bytes>>;

pub(super) fn asks_much_at_once(stage: &Stage<'_>, random: &mut Random) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(visit(stage, random));
    if let Err(error) = outcome {
        stage.request_counts.failed(NAME, &error);
    }
}

/// Takes one answer in small pieces, by windows that stay small.
pub(super) fn reads_slowly(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "HTTP/2, slow reader";
    const PIECE: u32 = 16 * 1_024;
    let length = u64::from(PIECE) * (32 + random.below(64));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let outcome = runtime.block_on(async {
        let (mut sender, driver) = connect(stage, random, Some(PIECE)).await?;
        let answer = sender.send_request(get(&format!("/big/{length}"), stage.token)).await;
        let mut body = answer.map_err(|error| error.to_string())?.into_body();
        let (mut taken, mut rested) = (0, 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("{error:?}"))?;
            taken += u64::try_from(frame.data_ref().map_or(0, Bytes::len)).unwrap();
            if taken >= rested + u64::from(PIECE) {
                rested = taken;
                slowly(Duration::from_millis(20)).await;
            }
        }
        drop(sender);
        leave(driver).await?;
        if taken == length { Ok(()) } else { Err(format!("{taken} instead of {length} bytes")) }
    });
    match outcome {
        Ok(()) => stage.request_counts.served(NAME),
        Err(error) => stage.request_counts.failed(NAME, &format!("{error} after {:.1?}", started.elapsed())),
    }
}

type Driver = JoinHandle<hyper::Result<()>>;

async fn connect(stage: &Stage<'_>, random: &mut Random, window: Option<u32>) -> Result<(Sender, Driver), String> {
    let tcp = stage.client(random).tcp(TIMEOUT).map_err(|error| error.to_string())?;
    tcp.set_nonblocking(true).unwrap();
    let connector = TlsConnector::from(PKI.client(rustls::ALL_VERSIONS, &[b"h2"]));
    let tcp = TcpStream::from_std(tcp).unwrap();
    let connected = timeout(TIMEOUT, connector.connect(ServerName::try_from(HOST).unwrap(), tcp));
    let tls = connected.await.map_err(|_late| "no handshake")?.map_err(|error| error.to_string())?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(tls)).await.map_err(|error| error.to_string())?;
    Ok((sender, tokio::spawn(connection)))
}

/// With the last sender gone, the connection says goodbye itself.
async fn leave(driver: Driver) -> Result<(), String> {
    timeout(TIMEOUT, driver).await.map_err(|_late| "the connection does not end")?.unwrap().unwrap_or_default();
    Ok(())
}

async fn visit(stage: &Stage<'_>, random: &mut Random) -> Result<(), String> {
    let (mut sender, driver) = connect(stage, random, None).await?;
    for _ in 0..=random.below(100) {
        if stage.is_over() || sender.ready().await.is_err() {
            break;
        }
        let mut answers = JoinSet::new();
        for _ in 0..AT_ONCE {
            answers.spawn(exchange(sender.clone(), stage.token.to_owned(), random.below(1_000_000)));
        }
        for answer in answers.join_all().await {
            match answer {
                Ok(()) => stage.request_counts.served(NAME),
                Err(None) => {
                    stage.request_counts.by_design(NAME, "stream not begun before the goodbye, to be asked again")
                }
                Err(Some(how)) => stage.request_counts.failed(NAME, &how),
            }
        }
        slowly(Duration::from_millis(10 + random.below(40))).await;
    }
    drop(sender);
    leave(driver).await
}

/// One request. `Err(None)`: the server has said that it will not be served on this connection (RFC 9113 6.8).
async fn exchange(mut sender: Sender, token: String, number: u64) -> Result<(), Option<String>> {
    let answer = timeout(TIMEOUT, async {
        let (head, body) = sender.send_request(get(&format!("/items/{number}"), &token)).await?.into_parts();
        Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
    });
    match answer.await {
        Err(_late) => Err(Some("no answer".to_owned())),
        Ok(Ok((status, body))) if status == 200 && body == format!("item {number}") => Ok(()),
        Ok(Ok((status, body))) => Err(Some(format!("{status}: {}", String::from_utf8_lossy(&body)))),
        Ok(Err(error)) if is_goodbye(&error) => Err(None),
        Ok(Err(error)) => Err(Some(format!("{error:?}"))),
    }
}

fn is_goodbye(error: &hyper::Error) -> bool {
    let reason = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    let told = reason.is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        refused || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
    });
    // Never sent.
    told || error.is_canceled()
}
