//! What one worker needs to reach the servers of an upstream, and what all workers share of it.

use std::{rc::Rc, sync::Arc};

use super::{dial::Dialer, pool::Pool, state::UpstreamState, tls::ServerTls};
use crate::{
    settings::upstream::{self, Upstream},
    swap::Swap,
    tls::Tls,
};

/// One upstream, as all workers share it.
pub(in crate::proxy) struct SharedUpstream {
    pub(in crate::proxy) state: Arc<UpstreamState>,
    tls: Arc<Swap<Tls>>,
    /// Its position in the settings.
    index: usize,
}

/// One server, as one worker sees it.
pub(super) struct ServerPool {
    pub(super) pool: Rc<Pool>,
}

impl SharedUpstream {
    pub(in crate::proxy) fn new(settings: &Upstream, index: usize, tls: &Arc<Swap<Tls>>) -> Self {
        Self { state: Arc::new(UpstreamState::new(settings)), tls: Arc::clone(tls), index }
    }

    /// TLS to the server at `address`. `None`: without TLS.
    pub(super) fn secure(&self, address: &str) -> Option<ServerTls> {
        let tls = self.state.settings.tls.as_ref()?;
        ServerTls::new(&self.tls, self.index, tls, address)
    }

    /// One worker's pools, one for each server.
    pub(super) fn servers(&self) -> Box<[ServerPool]> {
        let settings = &self.state.settings;
        let server = |server: &upstream::Server| {
            let dialer = Dialer::new(&server.address, self.secure(&server.address), settings.resolve);
            ServerPool { pool: Rc::new(Pool::new(dialer, settings)) }
        };
        settings.servers.iter().map(server).collect()
    }
}
