//! `[timeouts]`: how long each step of a connection and of a request may take.

use std::time::Duration;

/// Deadlines of a connection and of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake. `timeouts.handshake`.
    pub handshake: Duration,
    /// From a request's first byte (or accept) to the end of its head. `timeouts.headers`.
    pub headers: Duration,
    /// A kept-alive connection without a request. `timeouts.idle`.
    pub idle: Duration,
    /// Between two pieces of a request's body. `timeouts.body`.
    pub body: Duration,
    /// What a client has to send or take while it is waited for, in bytes a second over windows of `body`; 0: nothing.
    /// `timeouts.least_rate`.
    pub least_rate: u64,
    /// Connecting to an upstream. `timeouts.connect`.
    pub connect: Duration,
    /// From the request's end to the head of the upstream's answer. `timeouts.response`.
    pub response: Duration,
    /// A tunnel that carries nothing. `timeouts.tunnel_idle`.
    pub tunnel_idle: Duration,
    /// A tunnel, however busy. `timeouts.tunnel`.
    pub tunnel: Duration,
}
