//! Binds the listeners that a new configuration has and the one in force has not, before it is in force.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use crate::{
    config::Config,
    guard::{
        bans,
        lifecycle::service::Service,
        processes::{launcher::LISTENER, proxies::supervisor::NewSockets},
    },
    settings::{listener::Listener, proxy},
};

impl Service<'_> {
    /// Binds listeners that are new.
    pub(in crate::guard::lifecycle) fn bind_new(&mut self, new: &Config) -> Result<NewSockets, bans::Refused> {
        let launcher = &mut self.supervisor.launcher;
        let added = without(&new.proxy, &self.config.proxy);
        let bind = |listener: &Listener| {
            let is_new = added.contains(&listener.address);
            is_new.then(|| launcher.bind(LISTENER, listener.address, new.proxy.workers, Duration::ZERO)).transpose()
        };
        let bound: Result<_, _> = new.proxy.listeners.iter().map(bind).collect();
        bound.map_err(|error| {
            self.unbind(&added);
            bans::Refused::new("listener", error.to_string())
        })
    }

    /// Has the launcher keep the sockets of these listeners no longer.
    pub(in crate::guard::lifecycle) fn unbind(&self, addresses: &[SocketAddr]) {
        addresses.iter().for_each(|address| self.supervisor.launcher.unbind(*address));
    }

    /// The sockets of all listeners of a configuration, in its order.
    pub(in crate::guard::lifecycle) fn sockets_of(
        &self,
        config: &Config,
        new: &NewSockets,
    ) -> io::Result<Vec<Vec<OwnedFd>>> {
        let all = config.proxy.listeners.iter().zip(new).map(|(listener, new)| {
            let known = self.config.proxy.listeners.iter().position(|known| known.address == listener.address);
            let known = known.and_then(|known| self.supervisor.sockets.get(known));
            let sockets = new.as_ref().or(known).into_iter().flatten();
            sockets.map(|socket| socket.as_fd().try_clone_to_owned()).collect()
        });
        all.collect()
    }
}

/// The addresses of listeners that `some` has and `others` has not.
pub(in crate::guard::lifecycle) fn without(some: &proxy::Settings, others: &proxy::Settings) -> Vec<SocketAddr> {
    let has = |address| others.listeners.iter().any(|listener| listener.address == address);
    some.listeners.iter().map(|listener| listener.address).filter(|address| !has(*address)).collect()
}
