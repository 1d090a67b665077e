//! Delivers what the guard gives: a POST request or a message of syslog, to somebody outside. The guard connects to nobody.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, UnixDatagram, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    message::{
        channel::{Channel, sealed::unseal},
        observer::delivery::{Delivered, Delivery, LONGEST_RESPONSE, Parcel},
    },
    observer::fetch::short,
    settings::audit::{AnchorUrl, SyslogServer},
    tls,
};

/// How long a delivery may take, its answer included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Delivers what is in `sealed`, and answers on `answer`.
pub(super) async fn deliver(sealed: OwnedFd, answer: OwnedFd) {
    let delivered = match unseal::<Delivery>(sealed) {
        Ok(delivery) => {
            let sent = timeout(TIMEOUT, send(delivery)).await;
            sent.unwrap_or_else(|_elapsed| Err(format!("nothing came within {} s", TIMEOUT.as_secs())))
        }
        Err(error) => Err(format!("the delivery cannot be read: {error}")),
    };
    let delivered = Delivered(delivered.map_err(|why| short(&why)));
    let told = async { Channel::new(answer)?.send(&delivered, &[]).await };
    if let Err(error) = told.await {
        tracing::debug!(%error, "nobody waits for what became of a delivery");
    }
}

/// Delivers something.
///
/// # Errors
/// For people: why it could not be delivered.
pub(super) async fn send(Delivery { what, ca }: Delivery) -> Result<Vec<u8>, String> {
    let said = |error: io::Error| error.to_string();
    match what {
        Parcel::Post { url, content_type, body } => {
            let stream = TcpStream::connect((&*url.host, url.port)).await.map_err(said)?;
            if url.is_tls {
                post(encrypt(stream, &url.host, ca.as_deref()).await?, &url, &content_type, body).await
            } else {
                post(stream, &url, &content_type, body).await
            }
        }
        Parcel::Syslog { server, message } => match server {
            SyslogServer::Unix(path) => {
                let socket = UnixDatagram::unbound().map_err(said)?;
                socket.send_to(message.as_bytes(), &path).await.map_err(said)?;
                Ok(Vec::new())
            }
            SyslogServer::Udp(server) => {
                let (host, port) = split(&server)?;
                let to = address(host, port).await.map_err(said)?;
                let from: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                UdpSocket::bind(from).await.map_err(said)?.send_to(message.as_bytes(), to).await.map_err(said)?;
                Ok(Vec::new())
            }
            SyslogServer::Tcp(server) => {
                let (host, port) = split(&server)?;
                frame(TcpStream::connect((host, port)).await.map_err(said)?, &message).await.map_err(said)
            }
            SyslogServer::Tls(server) => {
                let (host, port) = split(&server)?;
                let stream = TcpStream::connect((host, port)).await.map_err(said)?;
                frame(encrypt(stream, host, ca.as_deref()).await?, &message).await.map_err(said)
            }
        },
    }
}

/// A host, IPv6 without brackets, and a port.
fn split(server: &str) -> Result<(&str, u16), String> {
    let (host, port) = server.rsplit_once(':').ok_or_else(|| format!("{server} has no port"))?;
    let port = port.parse().map_err(|_error| format!("{server} has no port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

async fn address(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut found = lookup_host((host, port)).await?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))
}

async fn encrypt(stream: TcpStream, host: &str, ca: Option<&[u8]>) -> Result<TlsStream<TcpStream>, String> {
    let config = tls::outgoing(ca.unwrap_or_default()).map_err(|fault| fault.message)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_error| format!("{host} is no name of a server"))?;
    TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.map_err(|error| error.to_string())
}

/// One message of syslog over a stream, its length before it (RFC 6587 3.4.1, RFC 5425 4.3).
async fn frame(mut stream: impl AsyncWrite + Unpin, message: &str) -> io::Result<Vec<u8>> {
    stream.write_all(format!("{} {message}", message.len()).as_bytes()).await?;
    stream.shutdown().await?;
    Ok(Vec::new())
}

async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    url: &AnchorUrl,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a delivery's connection ended");
        }
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(&url.path)
        .header(header::HOST, &url.authority)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)));
    let response = sender.send_request(request.map_err(|error| error.to_string())?).await.map_err(said)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_RESPONSE).collect().await;
    // A redirect is not followed: it leads to whom nobody named.
    if !status.is_success() {
        return Err(format!("the server answers {status}"));
    }
    let body = body.map_err(|error| format!("the response cannot be read: {error}"))?;
    Ok(body.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (server, expect) in [
            ("log.example:601", Some(("log.example", 601))),
            ("[2001:db8::1]:514", Some(("2001:db8::1", 514))),
            ("log.example", None),
            ("log.example:x", None),
        ] {
            assert_eq!(split(server).ok(), expect, "{server}");
        }
    }
}
