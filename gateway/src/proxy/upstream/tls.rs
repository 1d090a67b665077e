//! Decides whether a server is the one that it should be: its certificate is judged by the authorities that are named,
//! or by those that the system trusts, unless a key whose name says how dangerous that is lets anything pass.

use std::{
    borrow::Cow,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    fault::Fault,
    proxy::tls::{Swap, Tls, private_key, roots, settings::Client},
};

/// What is offered by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 before HTTP/1.1.
    Any,
    Http1,
    /// Nothing else will do.
    Http2,
}

impl Offer {
    const fn names(self) -> &'static [&'static [u8]] {
        match self {
            Self::Any => &[HTTP2, b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[HTTP2],
        }
    }
}

const HTTP2: &[u8] = b"h2";

/// How the gateway speaks TLS to the servers of an upstream.
///
/// # Errors
/// `ca`, `certificate` or `private_key`: not what it should be.
pub(in crate::proxy) fn config(
    settings: &Client,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Vec<Fault>> {
    let fault = |key: &str, message: String| vec![Fault::new(key, message)];
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| fault("ca", error.to_string()))?;
    let builder = if settings.accepts_any {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(provider))))
    } else {
        let roots = roots(&settings.ca.bytes).map_err(|found| vec![Fault { key: "ca".to_owned(), ..found }])?;
        builder.with_root_certificates(roots)
    };
    let config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = crate::proxy::tls::chain(&certificate.bytes).map_err(|fault| vec![fault])?;
            let key = private_key(&key.bytes).map_err(|fault| vec![fault])?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                Error::InconsistentKeys(_) => fault("private_key", "is not the key of the certificate".to_owned()),
                error => fault("certificate", format!("cannot be used: {error}")),
            })?
        }
    };
    Ok(Arc::new(config))
}

/// How one server is spoken to.
pub(super) struct Secure {
    tls: Arc<Swap<Tls>>,
    /// Whose configuration: an index into the settings.
    upstream: usize,
    name: ServerName<'static>,
}

impl Secure {
    /// For the server at `address`, which is `host:port`. `None`: that is no name that a certificate could have.
    pub(super) fn new(tls: &Arc<Swap<Tls>>, upstream: usize, settings: &Client, address: &str) -> Option<Self> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = settings.server_name.as_deref().unwrap_or(host);
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let name = match plain.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_name) => ServerName::try_from(plain.to_owned()).ok()?,
        };
        Some(Self { tls: Arc::clone(tls), upstream, name })
    }

    /// The handshake on a new connection, by what is in force now.
    pub(super) async fn connect(&self, socket: TcpStream, offer: Offer) -> io::Result<Stream> {
        let config = self.tls.load().upstream(self.upstream).ok_or(io::ErrorKind::NotFound)?;
        let names = offer.names().iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(config);
        let stream = Stream::Tls(Box::new(connector.with_alpn(names).connect(self.name.clone(), socket).await?));
        // A server without ALPN says nothing.
        if offer == Offer::Http2 && !stream.is_http2(offer) {
            return Err(io::Error::other(Error::NoApplicationProtocol));
        }
        Ok(stream)
    }
}

/// A connection to a server.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether HTTP/2 is spoken on it; `offer`: what was offered.
    pub(super) fn is_http2(&self, offer: Offer) -> bool {
        match self {
            Self::Plain(_) => offer == Offer::Http2,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
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

/// Why a connection could not be made, for the log.
pub(super) fn describe(error: &io::Error) -> Cow<'static, str> {
    use CertificateError as C;
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error.kind().to_string().into();
    };
    Cow::Borrowed(match tls {
        Error::InvalidCertificate(error) => match error {
            C::Expired | C::ExpiredContext { .. } => "its certificate has expired",
            C::NotValidYet | C::NotValidYetContext { .. } => "its certificate is not valid yet",
            C::UnknownIssuer => "its certificate is of an unknown authority",
            C::NotValidForName | C::NotValidForNameContext { .. } => "its certificate is for another name",
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => "its certificate is for another purpose",
            C::BadSignature => "its certificate has a bad signature",
            _ => "its certificate is not good",
        },
        Error::AlertReceived(AlertDescription::CertificateRequired) => "it wants a certificate of the gateway",
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it does not agree to the version of HTTP that it is to speak (ALPN)"
        }
        Error::AlertReceived(alert) => return format!("it refuses the TLS handshake: {alert:?}").into(),
        Error::InvalidMessage(_) => "it does not speak TLS",
        Error::PeerIncompatible(_) => "it speaks no TLS that is safe",
        _ => "the TLS handshake failed",
    })
}

/// Takes any certificate; that its key signed the handshake is still asked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
