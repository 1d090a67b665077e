//! What one worker needs to reach the servers of an upstream, and what all workers share of it.

use std::{rc::Rc, sync::Arc};

use rustls::ClientConfig;

use super::{
    connection::{
        dial::Dialer,
        pool::Pool,
        tls::{ServerTls, SharedTls},
    },
    server::state::UpstreamState,
};
use crate::settings::upstream::{self, Upstream};

pub(super) mod failing;
pub(super) mod health;
pub(super) mod state;

/// One upstream, as all workers share it. It outlives configurations that change nothing of it.
pub(in crate::proxy) struct SharedUpstream {
    pub(in crate::proxy) state: Arc<UpstreamState>,
    tls: SharedTls,
}

/// One server, as one worker sees it.
pub(super) struct ServerPool {
    pub(super) pool: Rc<Pool>,
}

impl SharedUpstream {
    /// An upstream of a configuration. `before`: the one of the same name in the configuration before.
    pub(in crate::proxy) fn new(settings: &Upstream, before: Option<&Arc<Self>>) -> Arc<Self> {
        match before {
            Some(before) if settings.is_like(&before.state.settings) => Arc::clone(before),
            Some(before) => Arc::new(Self {
                state: Arc::new(before.state.succeeded_by(settings)),
                // Pools that are kept have it. Others may not: requests of the configuration before would speak TLS by
                // settings that are not theirs.
                tls: match settings.connects_like(&before.state.settings) {
                    true => SharedTls::clone(&before.tls),
                    false => SharedTls::default(),
                },
            }),
            None => Arc::new(Self { state: Arc::new(UpstreamState::new(settings)), tls: SharedTls::default() }),
        }
    }

    /// The name of the upstream.
    pub(in crate::proxy) fn name(&self) -> &str {
        &self.state.settings.name
    }

    /// Goes on with what is known of the servers of `before`.
    pub(in crate::proxy) fn put_in_force(&self, before: &Self) {
        if !Arc::ptr_eq(&self.state, &before.state) {
            self.state.take_over(&before.state);
        }
    }

    /// New connections speak TLS like this from now on.
    pub(in crate::proxy) fn speaks(&self, tls: Option<Arc<ClientConfig>>) {
        self.tls.store(tls);
    }

    /// Opens connections to the server at `address`: those of requests, and those of health checks.
    fn dialer(&self, address: &str) -> Dialer {
        let settings = &self.state.settings;
        let secure = settings.tls.as_ref().and_then(|tls| ServerTls::new(&self.tls, tls, address));
        Dialer::new(address, secure, settings.resolve)
    }

    /// One worker's pools, one for each server: that of `known` where there is one.
    pub(super) fn servers(&self, known: impl Fn(&str) -> Option<Rc<Pool>>) -> Box<[ServerPool]> {
        let settings = &self.state.settings;
        let server = |server: &upstream::UpstreamServer| {
            let pool =
                known(&server.address).unwrap_or_else(|| Rc::new(Pool::new(self.dialer(&server.address), settings)));
            ServerPool { pool }
        };
        settings.servers.iter().map(server).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{os::file::NamedFile, settings::tls::UpstreamTls};

    fn settings(name: &str, ca: &str, weight: u32) -> Upstream {
        let ca = NamedFile { path: "ca".into(), bytes: Arc::from(ca.as_bytes()) };
        let server_name = Some(name.to_owned());
        let tls = UpstreamTls { ca, server_name, certificate: None, accepts_any: false, pins: Vec::new() };
        let server = upstream::UpstreamServer { address: "127.0.0.1:1".to_owned(), weight };
        Upstream { tls: Some(tls), servers: vec![server], ..Upstream::default() }
    }

    #[test]
    fn tls_is_shared_where_connections_are_made_in_the_same_way() {
        let before = SharedUpstream::new(&settings("a", "1", 1), None);
        for (name, ca, weight, is_shared) in
            [("a", "1", 1, true), ("a", "2", 1, true), ("a", "2", 2, true), ("b", "1", 1, false), ("b", "2", 2, false)]
        {
            let after = SharedUpstream::new(&settings(name, ca, weight), Some(&before));
            assert_eq!(after.tls.is_same(&before.tls), is_shared, "{name} {ca} {weight}");
        }
        let plain = Upstream { tls: None, ..settings("a", "1", 1) };
        assert!(!SharedUpstream::new(&plain, Some(&before)).tls.is_same(&before.tls));
    }
}
