//! One traced request, as the observer is told it: the request itself, and how long each step of it took.

use serde::{Deserialize, Serialize};

use super::limits::MAX_LABEL;

/// One traced request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The trace (W3C Trace Context).
    pub id: u128,
    /// The span of the request.
    pub span: u64,
    /// The span that it belongs to, where another system began the trace.
    pub parent: Option<u64>,
    /// When it began: nanoseconds since 1970.
    pub began: u64,
    /// Nanoseconds.
    pub took: u64,
    /// One of the methods that there are, or `_OTHER`.
    pub method: String,
    /// The path of the route, as the configuration has it.
    pub route: Option<String>,
    /// The status of the response; 499: its client had left.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: String,
    /// `1.0`, `1.1` or `2`.
    pub version: String,
    /// The label of the refusal.
    pub refusal: Option<String>,
    /// `TLSv1.3`, `TLSv1.2`; `None`: the client speaks none.
    pub tls: Option<String>,
    /// The upstream.
    pub upstream: Option<String>,
    /// Which server of it was asked last, `host:port`.
    pub server: Option<String>,
    /// What that answered.
    pub upstream_status: Option<u16>,
    /// How often the request was sent again.
    pub retries: u32,
    /// The request's id in the access log.
    pub request_id: u128,
    /// In the order of their beginnings.
    pub steps: Vec<StepSpan>,
}

/// One step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpan {
    /// Which.
    pub step: TraceStep,
    /// Its span.
    pub span: u64,
    /// When it began, in nanoseconds after the request. A handshake ended when its first request began.
    pub after: u64,
    /// Nanoseconds.
    pub took: u64,
}

/// The steps of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceStep {
    /// Who is it, and is it allowed.
    Authenticate,
    /// May it do that.
    Authorize,
    /// A connection to the server was opened.
    Connect,
    /// The TLS handshake with the client, before the first request of its connection.
    Handshake,
    /// The response on its way to the client.
    Respond,
    /// Limits, the target, the route.
    Route,
    /// From forwarding to the head of the response, retries included.
    Upstream,
    /// The body is read and checked, where a schema asks for it.
    Validate,
}

impl TraceStep {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Connect => "connect",
            Self::Handshake => "tls_handshake",
            Self::Respond => "respond",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Validate => "validate",
        }
    }
}

impl Trace {
    /// Whether it is what a trace must be.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let texts = [Some(&self.method), self.route.as_ref(), Some(&self.scheme), Some(&self.version)];
        let more = [self.refusal.as_ref(), self.tls.as_ref(), self.upstream.as_ref(), self.server.as_ref()];
        self.id != 0
            && self.span != 0
            && self.steps.len() <= 8
            && texts.into_iter().chain(more).flatten().all(|text| text.len() <= MAX_LABEL)
    }
}
