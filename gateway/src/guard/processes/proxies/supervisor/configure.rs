//! What is said to a proxy of another configuration: to compile it, then to serve it or to forget it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{ProxyState, Supervisor, say, seal};
pub(crate) use crate::message::STARTED_WITH;
use crate::message::{Bundle, MAX_DESCRIPTORS, ToProxy};

/// The sockets of the listeners of a configuration, in its order; `None`: those that there are already.
pub(crate) type NewSockets = Vec<Option<Vec<OwnedFd>>>;

impl Supervisor {
    /// Has the proxy that serves compile `bundle`, with sockets for the listeners that are new, and with the outputs of the
    /// access log that were opened for it; none of these: they are the same. Returns its generation.
    ///
    /// # Errors
    /// No proxy serves, or there are not enough descriptors or memory.
    pub(crate) fn configure(
        &mut self,
        reload: u64,
        bundle: &Bundle,
        sockets: &NewSockets,
        logs: &[File],
    ) -> io::Result<u64> {
        let sealed = seal(bundle)?;
        let mut messages = Vec::new();
        for (listener, sockets) in (0..).zip(sockets) {
            for some in sockets.iter().flat_map(|sockets| sockets.chunks(MAX_DESCRIPTORS)) {
                let copies = some.iter().map(|socket| socket.as_fd().try_clone_to_owned());
                messages.push((ToProxy::Listen { listener }, copies.collect::<io::Result<Vec<_>>>()?));
            }
        }
        let logs = logs.iter().map(|log| log.as_fd().try_clone_to_owned());
        let handed = std::iter::once(Ok(sealed)).chain(logs).collect::<io::Result<_>>()?;
        messages.push((ToProxy::Configure { reload }, handed));
        let Self { launcher, proxies, .. } = self;
        let serving = proxies.iter_mut().find(|proxy| matches!(proxy.state, ProxyState::Serving(_)));
        let proxy = serving.ok_or_else(|| io::Error::other("no proxy serves"))?;
        for (message, descriptors) in messages {
            say(launcher, proxy, message, descriptors);
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

    /// These outputs of the access log are in force, as the list of this reload. The proxy has them with its configuration.
    pub(crate) fn change_logs(&mut self, logs: Vec<File>, list: u64, generation: u64) {
        (self.access_logs, self.log_list) = (logs, list);
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            proxy.log_list = list;
        }
    }

    /// Has a proxy forget what it compiled, or still compiles.
    pub(crate) fn abort(&mut self, generation: u64, reload: u64) {
        self.say(generation, ToProxy::Abort { reload });
    }

    fn say(&mut self, generation: u64, message: ToProxy) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.generation == generation) {
            say(&self.launcher, proxy, message, Vec::new());
        }
    }
}
