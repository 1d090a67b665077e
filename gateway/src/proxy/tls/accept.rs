//! Decides how a handshake goes: the client's hello first, which says by what name it came and so who has to be shown,
//! then the rest by the configuration that this name has.
//!
//! *Invariant:* no more than [`MOST_BYTES`] are read before there is a whole hello, in however many records and segments
//! it comes.

use std::{borrow::Cow, cell::OnceCell, io, sync::Arc};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{StartHandshake, server::TlsStream};

use super::{
    Hsts, Tls,
    hello::{self, Ja4},
    offence,
};
use crate::auth::certificate::Shown;

/// What a hello may have: with post-quantum keys and encrypted names they have two to four kilobytes.
const MOST_BYTES: usize = 16 * 1_024;

/// What is read at once.
const PIECE: usize = 2 * 1_024;

/// A fatal alert (RFC 8446 6): `unrecognized_name` (112), `decode_error` (50).
const fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// What a handshake said of its client.
pub(in crate::proxy) struct Secured {
    /// `TLSv1.2`, `TLSv1.3`.
    pub(in crate::proxy) version: &'static str,
    /// Whether HTTP/2 was agreed on.
    pub(in crate::proxy) is_http2: bool,
    /// Which certificates it was asked for: an index into the settings.
    pub(in crate::proxy) asked: Option<usize>,
    /// The one that it showed.
    pub(in crate::proxy) shown: Option<Shown>,
    /// What its browser is told with every answer.
    pub(in crate::proxy) hsts: Option<Arc<Hsts>>,
}

/// A handshake that did not come to its end.
pub(in crate::proxy) enum Failed {
    /// Nobody said anything.
    Gone,
    /// Nobody did anything wrong.
    NoOffence(Cow<'static, str>),
    /// The client had no certificate to show.
    NoCertificate,
    /// The client did.
    Offence(Cow<'static, str>),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            None => Self::Gone,
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::NoOffence(format!("the client refuses the TLS handshake: {alert:?}").into())
            }
            Some(error) => offence(error)
                .map_or_else(|| Self::NoOffence(format!("TLS handshake failed: {error}").into()), Self::Offence),
        }
    }
}

/// Shakes hands on a connection that came in by `listener`. The hello's fingerprint, where it is wanted, is in `ja4` even
/// if nothing comes of it. Where the client was told why, its socket is in `left`: it may still be sending, and must have
/// the time to hear it.
pub(in crate::proxy) async fn accept(
    tls: &Tls,
    listener: usize,
    mut socket: TcpStream,
    ja4: &OnceCell<Ja4>,
    left: &mut Option<TcpStream>,
) -> Result<(TlsStream<TcpStream>, Secured), Failed> {
    let Some(settings) = tls.listeners.get(listener).and_then(Option::as_ref) else { return Err(Failed::Gone) };
    let mut received = Vec::new();
    let note = |received: &[u8]| {
        if let Some(made) = settings.ja4.then(|| hello::ja4(received)).flatten() {
            ja4.set(made).unwrap_or_default();
        }
    };
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        received.reserve(PIECE);
        let before = received.len();
        if socket.read_buf(&mut received).await? == 0 {
            return Err(Failed::Gone);
        }
        let mut fresh = received.get(before..).unwrap_or_default();
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) if received.len() > MOST_BYTES => {
                farewell(&mut socket, &alert(50)).await;
                *left = Some(socket);
                return Err(Failed::Offence("TLS hello too large".into()));
            }
            Ok(None) => {}
            Err((error, mut alert)) => {
                note(&received);
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes).unwrap_or_default();
                farewell(&mut socket, &bytes).await;
                *left = Some(socket);
                return Err(io::Error::other(error).into());
            }
        }
    };
    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
    if !settings.choice.has(name.as_deref()) {
        farewell(&mut socket, &alert(112)).await;
        *left = Some(socket);
        return Err(Failed::NoOffence(match name {
            Some(name) => format!("no certificate for {name:?}, which the client asks for").into(),
            None => "no certificate for a client that asks for no name".into(),
        }));
    }
    note(&received);
    drop(received);
    let asked = tls.demands.of(listener, name.as_deref());
    let config = settings.configs.get(asked.map_or(0, |asked| asked.saturating_add(1))).ok_or(Failed::Gone)?;
    let shaking = StartHandshake::from_parts(accepted, socket).into_stream(Arc::clone(config));
    let stream = match shaking.into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut socket)) => {
            // The alert has left.
            socket.shutdown().await.unwrap_or_default();
            *left = Some(socket);
            return Err(match Failed::from(error) {
                Failed::Gone => Failed::NoOffence("the client left during the TLS handshake".into()),
                failed => failed,
            });
        }
    };
    let session = stream.get_ref().1;
    let shown = match (asked.and_then(|asked| tls.trusts.get(asked)), session.peer_certificates()) {
        (Some(trust), Some([leaf, ..])) => {
            let shown = Shown::read(leaf, &trust.name, &trust.roles);
            Some(shown.ok_or(Failed::Offence("client certificate with names that can be misread".into()))?)
        }
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

/// Says why, as far as the client takes it at once.
async fn farewell(socket: &mut TcpStream, alert: &[u8]) {
    if socket.write_all(alert).await.is_ok() {
        socket.shutdown().await.unwrap_or_default();
    }
}
