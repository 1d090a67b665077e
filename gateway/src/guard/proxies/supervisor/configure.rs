//! What is said to a proxy of another configuration: to compile it, then to serve it or to forget it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{ProxyState, Supervisor, say, seal};
use crate::message::{Bundle, MAX_DESCRIPTORS, ToProxy};

/// The number by which a proxy knows the configuration that it was started with.
pub(crate) const STARTED_WITH: u64 = 0;

/// The sockets of the listeners of a configuration, in its order; `None`: those that there are already.
pub(crate) type NewSockets = Vec<Option<Vec<OwnedFd>>>;

impl Supervisor {
    /// Has the proxy that serves compile `bundle`, with sockets for the listeners that are new. Returns its generation.
    ///
    /// # Errors
    /// No proxy serves, or there are not enough descriptors or memory.
    pub(crate) fn configure(&mut self, reload: u64, bundle: &Bundle, sockets: &NewSockets) -> io::Result<u64> {
        let sealed = seal(bundle)?;
        let mut messages = Vec::new();
        for (listener, sockets) in (0..).zip(sockets) {
            for some in sockets.iter().flat_map(|sockets| sockets.chunks(MAX_DESCRIPTORS)) {
                let copies = some.iter().map(|socket| socket.as_fd().try_clone_to_owned());
                messages.push((ToProxy::Listen { listener }, copies.collect::<io::Result<Vec<_>>>()?));
            }
        }
        messages.push((ToProxy::Configure { reload }, vec![sealed]));
        let serving = self.proxies.iter_mut().find(|proxy| matches!(proxy.state, ProxyState::Serving(_)));
        let proxy = serving.ok_or_else(|| io::Error::other("no proxy serves"))?;
        for (message, descriptors) in messages {
            say(proxy, message, descriptors);
        }
        Ok(proxy.generation)
    }

    /// Has a proxy serve what it has compiled. From now on no older one serves what is in force.
    pub(crate) fn commit(&mut self, generation: u64, reload: u64) {
        self.oldest = self.oldest.max(generation);
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            proxy.is_committed = true;
        }
        self.say(generation, ToProxy::Commit { reload });
    }

    /// Has a proxy forget what it compiled, or still compiles.
    pub(crate) fn abort(&mut self, generation: u64, reload: u64) {
        self.say(generation, ToProxy::Abort { reload });
    }

    fn say(&mut self, generation: u64, message: ToProxy) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            say(proxy, message, Vec::new());
        }
    }
}
