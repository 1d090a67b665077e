//! TLS to servers: the handshake, ALPN, and the reason in plain words when it fails.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{AlertDescription, ClientConfig, Error};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(in crate::proxy) use crate::tls::describe;
use crate::{collections::swap::Swap, proxy::tcp::Tcp, settings::tls::UpstreamTls, tls::server_name};

/// The protocols that are offered by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::upstream) enum Alpn {
    /// HTTP/2 before HTTP/1.1.
    Any,
    Http1,
    /// HTTP/2 only.
    Http2,
}

impl Alpn {
    const fn names(self) -> &'static [&'static [u8]] {
        match self {
            Self::Any => &[HTTP2, b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[HTTP2],
        }
    }
}

const HTTP2: &[u8] = b"h2";

/// How TLS is spoken to the servers of one upstream, by the files of this moment; `None`: not at all.
#[derive(Clone)]
pub(in crate::proxy::upstream) struct SharedTls(Arc<Swap<Option<Arc<ClientConfig>>>>);

impl Default for SharedTls {
    fn default() -> Self {
        Self(Arc::new(Swap::new(None)))
    }
}

impl SharedTls {
    pub(in crate::proxy::upstream) fn store(&self, config: Option<Arc<ClientConfig>>) {
        self.0.store(config);
    }

    #[cfg(test)]
    pub(in crate::proxy::upstream) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// TLS to one server.
pub(in crate::proxy::upstream) struct ServerTls {
    tls: SharedTls,
    name: ServerName<'static>,
}

impl ServerTls {
    /// For the server at `address`, which is `host:port`. `None`: no certificate can have this name.
    pub(in crate::proxy::upstream) fn new(tls: &SharedTls, settings: &UpstreamTls, address: &str) -> Option<Self> {
        Some(Self { tls: tls.clone(), name: server_name(settings, address)? })
    }

    /// The handshake on a new connection, with the present configuration.
    pub(in crate::proxy::upstream) async fn connect(
        &self,
        socket: TcpStream,
        offer: Alpn,
    ) -> io::Result<MaybeTlsStream> {
        let config = self.tls.0.load().as_ref().clone().ok_or(io::ErrorKind::NotFound)?;
        let names = offer.names().iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(config);
        let stream =
            MaybeTlsStream::Tls(Box::new(connector.with_alpn(names).connect(self.name.clone(), socket.into()).await?));
        // A server without ALPN does not say that it refuses.
        if offer == Alpn::Http2 && !stream.is_http2(offer) {
            return Err(io::Error::other(Error::NoApplicationProtocol));
        }
        Ok(stream)
    }
}

/// A connection to a server, with TLS or without.
pub(in crate::proxy::upstream) enum MaybeTlsStream {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl MaybeTlsStream {
    /// Whether it speaks HTTP/2. `offer` is what was offered.
    pub(in crate::proxy::upstream) fn is_http2(&self, offer: Alpn) -> bool {
        match self {
            Self::Plain(_) => offer == Alpn::Http2,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// An alert by which a server refuses the gateway's certificate. In TLS 1.3 it comes after the gateway's handshake is
/// done.
pub(in crate::proxy::upstream) fn refusal(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as A;
    let Error::AlertReceived(alert) = error.get_ref()?.downcast_ref()? else { return None };
    Some(match alert {
        A::CertificateRequired => "it wants a certificate of the gateway",
        A::BadCertificate => "it refuses the gateway's certificate: BadCertificate",
        A::UnsupportedCertificate => "it refuses the gateway's certificate: UnsupportedCertificate",
        A::CertificateRevoked => "it refuses the gateway's certificate: CertificateRevoked",
        A::CertificateExpired => "it refuses the gateway's certificate: CertificateExpired",
        A::CertificateUnknown => "it refuses the gateway's certificate: CertificateUnknown",
        A::UnknownCA => "it refuses the gateway's certificate: UnknownCA",
        A::AccessDenied => "it refuses the gateway's certificate: AccessDenied",
        A::DecryptError => "it refuses the gateway's certificate: DecryptError",
        A::HandshakeFailure => "it refuses the TLS handshake: HandshakeFailure",
        _ => return None,
    })
}
