//! What becomes of proxies: they serve, or end; another is started where that was the one that served.

use super::*;

/// What became of a proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyOutcome {
    /// It serves.
    Ready,
    /// A generation that was to serve never will; an older one may still.
    Failed(u64, String),
    /// The generation that served is gone and another is started.
    Died(u64, String),
    /// One that had drained is gone.
    Left,
}

impl Supervisor {
    /// A proxy is ready: it serves, and those before it drain. One that was not told to serve fails.
    pub(crate) fn ready(&mut self, generation: u64) -> Option<ProxyOutcome> {
        let proxy = self.proxies.iter_mut().find(|proxy| proxy.generation == generation)?;
        let ProxyState::Starting(_) = proxy.state else { return None };
        if !proxy.is_committed {
            let how = "it says that it is ready before it was told to serve";
            kill(&self.launcher, proxy, how);
            return Some(ProxyOutcome::Failed(generation, how.to_owned()));
        }
        proxy.state = ProxyState::Serving(Instant::now());
        if let Some(program) = proxy.program.take() {
            self.programs.proxies = program;
        }
        tracing::info!(pid = proxy.pid, generation, "the proxy is serving");
        self.spent = Vec::new();
        self.replace_older();
        Some(ProxyOutcome::Ready)
    }

    /// A process has ended. Starts another proxy where that was the one that served; `None`: it was no proxy.
    pub(crate) fn exited(&mut self, pid: u32, status: i32) -> Option<ProxyOutcome> {
        let at = self.proxies.iter().position(|proxy| proxy.pid == pid)?;
        let proxy = self.proxies.remove(at);
        let outcome = self.bury(&proxy, ExitStatus::from_raw(status));
        self.start_if_none_serves();
        Some(outcome)
    }

    /// Has another proxy started where none serves or starts.
    pub(crate) fn start_if_none_serves(&mut self) {
        if !self.stopping && self.restart_at.is_none() && !self.serves() && !self.starts() {
            self.restart_at = Some(Instant::now() + back_off(self.deaths));
            self.deaths += 1;
        }
    }

    /// A proxy is lost that was in this state: where it had served for long, those before it do not count any more, and
    /// another is started at once.
    pub(super) fn forgive(&mut self, state: ProxyState) {
        if let ProxyState::Serving(since) = state
            && since.elapsed() >= SETTLED
        {
            self.deaths = 0;
        }
    }

    fn bury(&mut self, proxy: &Proxy, status: ExitStatus) -> ProxyOutcome {
        let Proxy { generation, pid, state, .. } = *proxy;
        match state {
            ProxyState::Draining(_) => {
                tracing::info!(pid, %status, "a proxy has drained");
                ProxyOutcome::Left
            }
            _ if self.stopping => ProxyOutcome::Left,
            // Told when it was found.
            _ if proxy.pulse.stands_still => ProxyOutcome::Left,
            ProxyState::Starting(_) | ProxyState::Adopting(_) => {
                ProxyOutcome::Failed(generation, format!("the proxy (pid {pid}) never got ready: {status}"))
            }
            ProxyState::Leftover => ProxyOutcome::Died(generation, format!("pid {pid}: {status}")),
            ProxyState::Serving(_) => {
                self.forgive(state);
                self.restarts += 1;
                tracing::error!(pid, %status, "the proxy died; its listeners stay open");
                ProxyOutcome::Died(proxy.generation, format!("pid {pid}: {status}"))
            }
        }
    }
}
