//! An HTTP/2 client that asks several requests at once on one connection.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    http1::{Client, TIMEOUT},
    pki::{HOST, PKI},
};

/// A `GET` of `path`, with a bearer token unless it is empty.
///
/// # Panics
/// If `path` is no path.
#[must_use]
pub fn get(path: &str, token: &str) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::get(format!("https://{HOST}{path}"));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}

impl Client<'_> {
    /// Sends all requests at once on one connection; answers in the order of the requests.
    ///
    /// # Errors
    /// As the connection; an answer that does not come is an error of its own.
    pub fn send_http2(
        &self,
        requests: Vec<http::Request<Full<Bytes>>>,
    ) -> io::Result<Vec<io::Result<http::Response<Bytes>>>> {
        let tcp = self.tcp(TIMEOUT)?;
        tcp.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connector = TlsConnector::from(PKI.client(rustls::ALL_VERSIONS, &[b"h2"]));
            let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
            let tls = connector.connect(name, TcpStream::from_std(tcp)?).await?;
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.map_err(io::Error::other)?;
            let driver = tokio::spawn(connection);

            let mut answers = JoinSet::new();
            for (position, request) in requests.into_iter().enumerate() {
                let mut sender = sender.clone();
                answers.spawn(async move {
                    let exchange = async {
                        let (parts, body) = sender.send_request(request).await?.into_parts();
                        Ok::<_, hyper::Error>(http::Response::from_parts(parts, body.collect().await?.to_bytes()))
                    };
                    let answer = match timeout(TIMEOUT, exchange).await {
                        Ok(answer) => answer.map_err(io::Error::other),
                        Err(late) => Err(late.into()),
                    };
                    (position, answer)
                });
            }
            let mut answers = answers.join_all().await;
            answers.sort_by_key(|answer| answer.0);
            drop(sender);
            // The connection ends with its last sender; that it does not hang is part of the test.
            drop(timeout(Duration::from_secs(1), driver).await);
            Ok(answers.into_iter().map(|answer| answer.1).collect())
        })
    }
}
