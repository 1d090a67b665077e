//! Which proxies there are, and which of them serves.

use super::{Proxy, ProxyState, Supervisor};

impl Supervisor {
    /// Whether none is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// Whether a proxy is starting.
    pub(crate) fn starts(&self) -> bool {
        self.proxies.iter().any(Proxy::is_starting)
    }

    /// Whether the proxy of this generation is starting.
    pub(crate) fn is_starting(&self, generation: u64) -> bool {
        self.proxies.iter().any(|proxy| proxy.generation == generation && proxy.is_starting())
    }

    /// Whether a proxy serves the configuration in force.
    pub(crate) fn serves(&self) -> bool {
        self.serving().is_some_and(|proxy| proxy.generation >= self.oldest)
    }

    /// The process id of the proxy that serves.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.serving().map(|proxy| proxy.child.id())
    }

    /// The generation of the proxy that serves.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.serving().map(|proxy| proxy.generation)
    }

    pub(super) fn serving(&self) -> Option<&Proxy> {
        self.proxies.iter().find(|proxy| matches!(proxy.state, ProxyState::Serving(_)))
    }

    /// The youngest generation that drains.
    pub(crate) fn retiring(&self) -> Option<u64> {
        let draining = self.proxies.iter().filter(|proxy| matches!(proxy.state, ProxyState::Draining(_)));
        draining.map(|proxy| proxy.generation).max()
    }

    /// How many died in a row before they had served for long.
    pub(crate) const fn deaths(&self) -> usize {
        self.deaths
    }
}
