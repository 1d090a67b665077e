//! Decides what is said of one route: which requests it is for, and what becomes of them.

use http::{HeaderName, Method};

use super::NamedFile;
use crate::authz;

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// `route.host`, lower case, without port: `a.example`, or `*.a.example` for each name that has one label more.
    /// `None`: every host.
    pub host: Option<String>,
    /// `route.path`: `/items/{id}`, or `/files/{*rest}` for everything below.
    pub path: String,
    /// `route.methods`; empty: every method but CONNECT and TRACE.
    pub methods: Vec<Method>,
    /// `route.when`: all must be met.
    pub when: Vec<Condition>,
    /// `route.require`.
    pub require: authz::Requirement,
    /// `route.upstream`: an index into [`Settings::upstreams`](super::Settings::upstreams).
    pub upstream: usize,
    /// `route.schema`: a JSON Schema that the body must match.
    pub schema: Option<NamedFile>,
    /// `route.max_body`, in bytes.
    pub max_body: Option<u64>,
    /// Whether requests that were served are in the access log. `route.access_log`.
    pub access_log: bool,
    /// What its connections may become; `None`: nothing.
    pub upgrade: Option<Upgrade>,
}

/// What the connections of a route may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// At least one, in lower case. `route.upgrade`.
    pub protocols: Vec<String>,
    /// Whose pages browsers may open them from, in lower case; empty: anybody's. `route.origins`.
    pub origins: Vec<String>,
    /// Whether they go on when the token that opened them has expired. `route.outlives_token`.
    pub outlives_token: bool,
}

/// What a request must have besides host, path and method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What it must be.
    pub test: Test,
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `header`.
    Header(HeaderName),
    /// `query`: a parameter's name, decoded.
    Query(String),
}

/// What the value must be. What is there more than once has no value: it is only present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `equals`, byte for byte.
    Equals(String),
    /// `prefix`.
    Prefix(String),
    /// `present = true`.
    Present,
}
