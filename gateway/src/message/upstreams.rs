//! What the proxy tells of upstreams: which of their servers are used, and why some fail.

use serde::{Deserialize, Serialize};

use crate::policy::detect::Discounted;

/// The longest reason why a server fails, in bytes.
pub const LONGEST_FAILURE: usize = 160;

/// How the servers of an upstream are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamReport {
    /// Its name.
    pub name: String,
    /// Addresses as configured, and how each server is.
    pub servers: Vec<(String, ServerState)>,
    /// Those of them that could not be connected to when a request last tried.
    pub failing: Vec<FailingServer>,
    /// Requests that found no server to use.
    pub without_server: u64,
    /// Requests over `max_requests`, `max_pending` or `concurrency`, refused.
    pub over_limit: u64,
    /// Tries after the first of a request.
    pub retries: u64,
    /// Requests that may wait for a response at once, where that is limited by `concurrency`.
    pub limit: Option<u32>,
    /// Its failures that count against nobody, at most [`MAX_DISCOUNTED`](crate::policy::detect::MAX_DISCOUNTED).
    #[serde(default)]
    pub discounted: Vec<Discounted>,
}

/// A server that could not be connected to when a request last tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingServer {
    /// Its address as configured.
    pub server: String,
    /// Why the last attempt failed.
    pub why: String,
    /// When the first attempt failed since the last one that did not: milliseconds since 1970.
    pub since: u64,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Its health checks fail.
    Down,
    /// It failed too many requests in a row.
    Ejected,
    /// It is used, and could not be connected to when a request last tried. No health check says more.
    Failing,
    /// It came back and gets less than its share for a while.
    Slow,
    /// It is used.
    Up,
}
