//! `[connection_limit.NAME]`: how many connections and TLS handshakes a source may make.

use super::limit;

/// Limits by when they are asked. Each counts by address alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// When a connection is accepted: those at once, and new ones in a time.
    pub accepted: limit::Settings,
    /// Before a TLS handshake begins.
    pub handshake: limit::Settings,
}

impl Settings {
    /// The limits that count only, as `connection_limit.NAME`.
    pub fn in_shadow(&self) -> impl Iterator<Item = String> {
        let limits = self.accepted.limits.iter().chain(&self.handshake.limits);
        limits.filter(|limit| limit.shadow).map(|limit| format!("connection_limit.{}", limit.name))
    }
}
