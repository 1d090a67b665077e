//! The TLS handshake with a client. The hello is read first: its server name selects the TLS configuration for the
//! rest.
//!
//! *Invariant:* no more than [`MOST_BYTES`] are read before there is a whole hello, in however many records and segments
//! it comes.

use std::{borrow::Cow, io, sync::Arc};

use bytes::BufMut as _;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    policy::auth::certificate::ClientCertificate,
    tls::{
        Secured, Tls, TlsListener,
        hello::{self, Ja4},
    },
};

/// What a hello may have: with post-quantum keys and encrypted names they have two to four kilobytes.
const MOST_BYTES: usize = 16 * 1_024;

/// What is read at once.
const PIECE: usize = 2 * 1_024;

/// What alerts say (RFC 8446 6).
const UNEXPECTED_MESSAGE: u8 = 10;
const HANDSHAKE_FAILURE: u8 = 40;
const INTERNAL_ERROR: u8 = 80;
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

/// A fatal alert.
const fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// A handshake that did not come to its end.
pub(super) enum HandshakeError {
    /// Nobody said anything.
    Gone,
    /// The client left in the middle of it.
    Left(&'static str),
    /// Nobody did anything wrong.
    NoOffence(Cow<'static, str>),
    /// The client had no certificate to show.
    NoCertificate,
    /// The client did.
    Offence(Cow<'static, str>),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            None => Self::Gone,
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            // It asks for a protocol that others speak, and is told that we do not (RFC 7301 3.2).
            Some(rustls::Error::NoApplicationProtocol) => {
                Self::NoOffence("TLS handshake failed: no common protocol (ALPN)".into())
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::NoOffence(format!("the client refuses the TLS handshake: {alert:?}").into())
            }
            Some(error) => offence(error)
                .map_or_else(|| Self::NoOffence(format!("TLS handshake failed: {error}").into()), Self::Offence),
        }
    }
}

/// A handshake that failed.
pub(super) struct FailedHandshake {
    pub(super) why: HandshakeError,
    /// The hello's fingerprint, where it is wanted and the hello could be read.
    pub(super) ja4: Option<Ja4>,
    /// The socket of a client that was told why. It may still be sending, and must have the time to read that.
    pub(super) socket: Option<TcpStream>,
}

/// A client's hello. The handshake goes on by the configuration of its server name.
pub(super) struct Hello<'tls> {
    /// Its fingerprint, where it is wanted.
    pub(super) ja4: Option<Ja4>,
    settings: &'tls TlsListener,
    accepted: Accepted,
    name: Option<String>,
    socket: TcpStream,
}

/// Reads the hello on a connection that came in by `listener`.
pub(super) async fn hello(tls: &Tls, listener: usize, mut socket: TcpStream) -> Result<Hello<'_>, FailedHandshake> {
    let Some(settings) = tls.listener(listener) else {
        return Err(FailedHandshake { why: HandshakeError::Gone, ja4: None, socket: None });
    };
    let fingerprint = |received: &[u8]| settings.ja4.then(|| hello::ja4(received)).flatten();
    let mut received = Vec::new();
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        received.reserve(PIECE);
        let before = received.len();
        // One byte over is enough to know, and rustls takes no more than a record at once.
        let space = MOST_BYTES.saturating_add(1).saturating_sub(before);
        if !matches!(socket.read_buf(&mut (&mut received).limit(space)).await, Ok(1..)) {
            return Err(FailedHandshake { why: left(&received), ja4: None, socket: None });
        }
        let mut fresh = received.get(before..).unwrap_or_default();
        while !fresh.is_empty() {
            if let Err(error) = acceptor.read_tls(&mut fresh) {
                let why = HandshakeError::NoOffence(format!("TLS handshake failed: {error}").into());
                return Err(FailedHandshake { why, ja4: None, socket: None });
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) if received.len() > MOST_BYTES => {
                farewell(&mut socket, &alert(DECODE_ERROR)).await;
                return Err(FailedHandshake {
                    why: HandshakeError::Offence("TLS hello too large".into()),
                    ja4: None,
                    socket: Some(socket),
                });
            }
            Ok(None) => {}
            Err((error, given)) => {
                refuse(&mut socket, &error, given).await;
                let (why, ja4) = (io::Error::other(error).into(), fingerprint(&received));
                return Err(FailedHandshake { why, ja4, socket: Some(socket) });
            }
        }
    };
    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
    Ok(Hello { ja4: fingerprint(&received), settings, accepted, name, socket })
}

/// What is said of a client that left before its hello was whole.
fn left(received: &[u8]) -> HandshakeError {
    match received {
        // Scanners, and load balancers that look whether somebody listens.
        [] => HandshakeError::Gone,
        _ => HandshakeError::Left("the client left within its TLS hello"),
    }
}

impl Hello<'_> {
    /// The rest of the handshake.
    pub(super) async fn finish(
        self,
        tls: &Tls,
        listener: usize,
    ) -> Result<(TlsStream<TcpStream>, Secured), FailedHandshake> {
        let Self { ja4, settings, accepted, name, mut socket } = self;
        if !settings.serves(name.as_deref()) {
            farewell(&mut socket, &alert(UNRECOGNIZED_NAME)).await;
            let why = HandshakeError::NoOffence(match name {
                Some(name) => format!("no certificate for {name:?}, which the client asks for").into(),
                None => "no certificate for a client that asks for no name".into(),
            });
            return Err(FailedHandshake { why, ja4, socket: Some(socket) });
        }
        let asked = tls.asked(listener, name.as_deref());
        let Some(config) = settings.config(asked) else {
            return Err(FailedHandshake { why: HandshakeError::Gone, ja4, socket: None });
        };
        let failed = |error: rustls::Error, ja4, socket| {
            Err(FailedHandshake { why: io::Error::other(error).into(), ja4, socket: Some(socket) })
        };
        let mut session = match accepted.into_connection(Arc::clone(config)) {
            Ok(session) => session,
            Err((error, given)) => {
                refuse(&mut socket, &error, given).await;
                return failed(error, ja4, socket);
            }
        };
        // What came right behind the hello is in the session already, where no read would find it.
        if let Err(error) = session.process_new_packets() {
            let mut bytes = Vec::new();
            while matches!(session.write_tls(&mut bytes), Ok(1..)) {}
            farewell(&mut socket, &bytes).await;
            return failed(error, ja4, socket);
        }
        let shaking = TlsAcceptor::from(Arc::clone(config)).accept_with(socket, |fresh| *fresh = session);
        let mut stream = match shaking.into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut socket)) => {
                // The alert has left.
                socket.shutdown().await.unwrap_or_default();
                let why = match HandshakeError::from(error) {
                    HandshakeError::Gone => HandshakeError::Left("the client left during the TLS handshake"),
                    failed => failed,
                };
                return Err(FailedHandshake { why, ja4, socket: Some(socket) });
            }
        };
        let session = stream.get_ref().1;
        let shown = match (asked.and_then(|asked| tls.trust(asked)), session.peer_certificates()) {
            (Some(trust), Some([leaf, ..])) => match ClientCertificate::read(leaf, &trust.names) {
                Some(shown) => Some(shown),
                None => {
                    let why = HandshakeError::Offence("client certificate with names that can be misread".into());
                    // The handshake is over, and with it the time for alerts about certificates.
                    stream.shutdown().await.unwrap_or_default();
                    return Err(FailedHandshake { why, ja4, socket: Some(stream.into_inner().0) });
                }
            },
            _ => None,
        };
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let hsts = settings.hsts.clone();
        Ok((stream, Secured { version, is_http2, asked, shown, hsts }))
    }
}

/// Refuses a hello by the alert that rustls `given` for it. It gives none for some faults: then nothing has been sent so
/// far, and nothing is encrypted.
async fn refuse(socket: &mut TcpStream, error: &rustls::Error, mut given: AcceptedAlert) {
    let mut bytes = Vec::new();
    given.write_all(&mut bytes).unwrap_or_default();
    if bytes.is_empty() {
        bytes.extend(alert(match error {
            // No signature that the client takes can be made by the key of the certificate: rustls has no name for that.
            rustls::Error::General(_) => HANDSHAKE_FAILURE,
            rustls::Error::FailedToGetRandomBytes | rustls::Error::FailedToGetCurrentTime => INTERNAL_ERROR,
            _ => UNEXPECTED_MESSAGE,
        }));
    }
    farewell(socket, &bytes).await;
}

/// Says why, as far as the client takes it at once.
async fn farewell(socket: &mut TcpStream, alert: &[u8]) {
    if socket.write_all(alert).await.is_ok() {
        socket.shutdown().await.unwrap_or_default();
    }
}

/// What a failed handshake says of the client. `None`: nothing. It spoke something other than TLS, or TLS that breaks
/// the rules or that we do not speak, or it showed a certificate that is not good. A client that closes, that refuses
/// our certificate, or that wants another protocol does nothing wrong.
fn offence(error: &rustls::Error) -> Option<Cow<'static, str>> {
    use rustls::{CertificateError as C, Error as E};
    Some(Cow::Borrowed(match error {
        E::InvalidCertificate(error) => match error {
            C::Expired | C::ExpiredContext { .. } => "client certificate expired",
            C::NotValidYet | C::NotValidYetContext { .. } => "client certificate not valid yet",
            C::Revoked => "client certificate revoked",
            C::UnknownIssuer => "client certificate of an unknown authority",
            C::UnknownRevocationStatus => "client certificate that no revocation list covers",
            C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => {
                "client certificate, and the revocation list is over"
            }
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => "client certificate for another purpose",
            C::BadSignature => "client certificate with a bad signature",
            C::BadEncoding => "client certificate that cannot be read",
            C::Other(other) => return Some(format!("client certificate not good: {}", other.0).into()),
            error => return Some(format!("client certificate not good: {error:?}").into()),
        },
        E::PeerIncompatible(why) => return Some(format!("TLS handshake failed: {why:?}").into()),
        E::InvalidMessage(why) => return Some(format!("TLS handshake failed, or no TLS: {why:?}").into()),
        E::PeerMisbehaved(why) => return Some(format!("TLS handshake failed, against the rules: {why:?}").into()),
        E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::DecryptError
        | E::PeerSentOversizedRecord => return Some(format!("TLS handshake failed: {error}").into()),
        _ => return None,
    }))
}
