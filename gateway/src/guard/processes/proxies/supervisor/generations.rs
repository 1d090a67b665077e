//! Which proxies there are, and which of them serves.

use super::{Proxy, ProxyState, Supervisor, say};
use crate::message::ToProxy;

impl Supervisor {
    /// Whether none is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// The generations of all proxies that may serve somebody.
    pub(crate) fn that_serve(&self) -> Vec<u64> {
        let may_serve = |proxy: &&Proxy| !matches!(proxy.state, ProxyState::Starting(_));
        self.proxies.iter().filter(may_serve).map(|proxy| proxy.generation).collect()
    }

    /// The generation that was started last.
    pub(crate) const fn newest(&self) -> u64 {
        self.generation
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
        self.serving().map(|proxy| proxy.pid)
    }

    /// The process ids of all, the one that serves first, and what each does.
    pub(crate) fn states(&self) -> Vec<(u32, &'static str)> {
        let mut all: Vec<(u32, &str)> = self.proxies.iter().map(|proxy| (proxy.pid, self.state(proxy))).collect();
        all.sort_by_key(|(pid, _)| Some(*pid) != self.pid());
        all
    }

    fn state(&self, proxy: &Proxy) -> &'static str {
        match proxy.state {
            _ if proxy.pulse.stands_still => "stands still",
            ProxyState::Adopting(_) | ProxyState::Starting(_) => "starts",
            ProxyState::Serving(_) if proxy.generation >= self.oldest => "serves",
            ProxyState::Serving(_) | ProxyState::Leftover => "serves until another is ready",
            ProxyState::Draining(_) => "drains",
        }
    }

    /// Who serves clients by what is not in force, or is about to be replaced, while nobody serves what is in force.
    pub(crate) fn older(&self) -> Option<u32> {
        let older = self.proxies.iter().filter(|proxy| proxy.is_leftover() && !proxy.pulse.stands_still);
        older.max_by_key(|proxy| proxy.generation).map(|proxy| proxy.pid).filter(|_| self.pid().is_none())
    }

    /// The generation of the proxy that serves.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.serving().map(|proxy| proxy.generation)
    }

    pub(super) fn serving(&self) -> Option<&Proxy> {
        let serving = self.proxies.iter().filter(|proxy| matches!(proxy.state, ProxyState::Serving(_)));
        serving.max_by_key(|proxy| proxy.generation)
    }

    /// Asks the youngest proxy that has served for what budgets have spent, for another one that takes its place. Which it
    /// is; `None`: there is none that understands.
    pub(crate) fn ask_spent(&mut self, heir: Option<u64>, number: u64) -> Option<u64> {
        let Self { launcher, proxies, .. } = self;
        let tells = |proxy: &&mut Proxy| {
            let has_served = !proxy.is_starting() && Some(proxy.generation) != heir;
            has_served && proxy.outbox.is_some() && !proxy.condemned && !proxy.pulse.stands_still
        };
        let proxy = proxies.iter_mut().filter(tells).max_by_key(|proxy| proxy.generation)?;
        say(launcher, proxy, ToProxy::TellSpent { number }, Vec::new());
        Some(proxy.generation)
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
