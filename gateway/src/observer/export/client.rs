//! Posts a request of OTLP to a collector, and reads what it says: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::wire;
use crate::{message::observer::collector::Collector, settings::audit::AnchorUrl, text::digits::decimal, tls};

/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest response that is read.
const LONGEST_RESPONSE: usize = 16 * 1_024;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExportOutcome {
    /// It is worth another try, after this time at least.
    Failed { why: String, wait: Duration },
    /// The collector does not want it: it would not the next time either.
    Refused(String),
    /// It was taken, but for so many of its parts.
    Taken { rejected: u64, why: String },
}

/// A collector that can be spoken to.
pub(super) struct CollectorClient {
    endpoint: AnchorUrl,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    headers: HeaderMap,
    service: String,
}

impl CollectorClient {
    /// # Errors
    /// For people: what cannot be used.
    pub(super) fn new(collector: &Collector) -> Result<Self, String> {
        let Collector { endpoint, ca, headers: told, service } = collector;
        let tls = match endpoint.is_tls {
            false => None,
            true => {
                let config = tls::outgoing(ca.as_deref().unwrap_or_default()).map_err(|fault| fault.message)?;
                let name = ServerName::try_from(endpoint.host.clone());
                Some((config, name.map_err(|_error| format!("{} is no name of a server", endpoint.host))?))
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in told {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self { endpoint: endpoint.clone(), tls, headers, service: service.clone() })
    }

    /// `service.name`.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Posts one request.
    pub(super) async fn post(&self, body: Vec<u8>) -> ExportOutcome {
        match timeout(TIMEOUT, self.exchange(body)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => ExportOutcome::Failed { why: error.to_string(), wait: Duration::ZERO },
            Err(_late) => ExportOutcome::Failed { why: "no answer in time".to_owned(), wait: Duration::ZERO },
        }
    }

    async fn exchange(&self, body: Vec<u8>) -> io::Result<ExportOutcome> {
        let stream = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await?;
        match &self.tls {
            None => self.speak(stream, body).await,
            Some((config, name)) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
                self.speak(stream, body).await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        body: Vec<u8>,
    ) -> io::Result<ExportOutcome> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut request = Request::post(self.endpoint.path.as_str()).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            let headers = request.headers_mut();
            headers.extend(self.headers.clone());
            let host = HeaderValue::try_from(&self.endpoint.authority).map_err(io::Error::other)?;
            headers.insert(header::HOST, host);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            let agent = HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION")));
            headers.entry(header::USER_AGENT).or_insert(agent);
        }
        let request = request.map_err(io::Error::other)?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, body) = response.into_parts();
            // What is longer, or breaks off, says nothing more of what was taken.
            let body = Limited::new(body, LONGEST_RESPONSE).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            io::Result::Ok(outcome(head.status, &head.headers, &body))
        };
        let mut answered = pin!(answered);
        tokio::select! {
            answered = &mut answered => answered,
            ended = connection => {
                ended.map_err(io::Error::other)?;
                // A server that closes with its response has said all of it.
                answered.await
            }
        }
    }
}

fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ExportOutcome {
    match status.as_u16() {
        200..=299 => {
            let (rejected, why) = wire::partial_success(body).unwrap_or_default();
            ExportOutcome::Taken { rejected, why }
        }
        429 | 502..=504 => {
            let wait = headers.get(header::RETRY_AFTER).and_then(|value| decimal(value.to_str().ok()?));
            ExportOutcome::Failed { why: format!("status {status}"), wait: Duration::from_secs(wait.unwrap_or(0)) }
        }
        _ => ExportOutcome::Refused(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, retry_after: Option<&str>, body: &[u8], expect: &ExportOutcome) {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::try_from(text).unwrap());
        }
        assert_eq!(outcome(StatusCode::from_u16(status).unwrap(), &headers, body), *expect, "{status}");
    }

    #[test]
    fn what_collectors_say() {
        let failed = |status: &str, seconds| ExportOutcome::Failed {
            why: format!("status {status}"),
            wait: Duration::from_secs(seconds),
        };
        let taken = |rejected, why: &str| ExportOutcome::Taken { rejected, why: why.to_owned() };
        check(200, None, b"", &taken(0, ""));
        check(200, None, b"\x0a\x07\x08\x03\x12\x03odd", &taken(3, "odd"));
        check(200, None, b"<html>", &taken(0, ""));
        check(503, Some("7"), b"", &failed("503 Service Unavailable", 7));
        check(429, Some("Fri, 31 Dec 1999 23:59:59 GMT"), b"", &failed("429 Too Many Requests", 0));
        check(502, None, b"", &failed("502 Bad Gateway", 0));
        check(400, None, b"", &ExportOutcome::Refused("status 400 Bad Request".to_owned()));
        check(500, None, b"", &ExportOutcome::Refused("status 500 Internal Server Error".to_owned()));
        check(307, None, b"", &ExportOutcome::Refused("status 307 Temporary Redirect".to_owned()));
    }
}
