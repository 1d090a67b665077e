//! Whether the proxies that serve still answer. One that stands still (stopped, in a loop, without room for what the guard
//! says) is replaced as one that died is, but serves on as far as it does until another one is ready.

use super::*;

impl Supervisor {
    /// Pings the proxies that serve or drain. Returns the generations that have come to a standstill: each is told once, and
    /// another is being started.
    pub(crate) fn ping(&mut self) -> Vec<u64> {
        let (mut still, mut served) = (Vec::new(), Vec::new());
        for proxy in &mut self.proxies {
            let serves = matches!(proxy.state, ProxyState::Serving(_));
            let is_asked = serves || matches!(proxy.state, ProxyState::Draining(_));
            if proxy.condemned || proxy.silent.is_some() || !is_asked {
                continue;
            }
            // Its answer may be among what the guard has not heard yet: that is the guard's doing.
            let is_late = !proxy.share.holds_back();
            if serves && is_late && proxy.pulse.is_missing() {
                tracing::error!(
                    pid = proxy.pid,
                    generation = proxy.generation,
                    "the proxy has come to a standstill: another is started in its place"
                );
                served.push(proxy.state);
                (proxy.pulse.stands_still, proxy.state) = (true, ProxyState::Leftover);
                still.push(proxy.generation);
                continue;
            }
            let ping = proxy.pulse.look(is_late);
            // One that is ending takes no messages, and one that takes none is found by its silence.
            proxy.tell(ping, Vec::new());
        }
        served.into_iter().for_each(|state| self.forgive(state));
        if !still.is_empty() {
            self.standstills += 1;
            self.restarts += 1;
            self.start_if_none_serves();
        }
        still
    }

    /// A proxy has answered a ping.
    pub(crate) fn ponged(&mut self, generation: u64, number: u64) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            proxy.pulse.hear(number);
        }
    }

    /// A worker of a proxy has come to a standstill, and the others drain: another takes its place. `false`: it served nobody
    /// any more.
    pub(crate) fn stalled(&mut self, generation: u64) -> bool {
        let is_new = self.outdated(generation);
        self.standstills += u64::from(is_new);
        is_new
    }

    /// A proxy cannot follow what is in force, and drains: another takes its place. `false`: it served nobody any more.
    pub(crate) fn outdated(&mut self, generation: u64) -> bool {
        let drain = self.drain + GRACE;
        let is_it =
            |proxy: &&mut Proxy| proxy.generation == generation && matches!(proxy.state, ProxyState::Serving(_));
        let Some(proxy) = self.proxies.iter_mut().find(is_it) else { return false };
        let served = std::mem::replace(&mut proxy.state, ProxyState::Draining(Instant::now() + drain));
        self.forgive(served);
        self.restarts += 1;
        self.start_if_none_serves();
        true
    }
}
