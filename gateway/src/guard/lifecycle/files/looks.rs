//! Looks at what may change beside the gateway: files of lists, and addresses of this host.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use crate::{
    guard::{
        bans,
        lifecycle::service::{Done, Service, in_background},
        processes::proxies::listeners::{self, ABSENT},
    },
    os::clock::Now,
    settings::{crowdsec::LIST, feed::FeedPurpose},
};

impl Service<'_> {
    /// Looks at the files of feeds, beside the loop: they may be on a slow disk, and long.
    pub(in crate::guard::lifecycle) fn look_at_feeds(&mut self, beside: &mpsc::Sender<Done>) {
        let Some(mut watcher) = self.watched.feeds.take() else { return };
        let feeds = self.config.guard.feeds.clone();
        let crowdsec = self.config.guard.crowdsec.as_ref().filter(|crowdsec| crowdsec.pulls()).map(|_| LIST);
        let banning = feeds.iter().filter(|feed| feed.purpose == FeedPurpose::Ban).map(|feed| feed.name.as_str());
        let names: Vec<&str> = banning.chain(crowdsec).collect();
        self.guard.keep_feed_files(&names, Now::read());
        if feeds.is_empty() {
            self.watched.feeds = Some(watcher);
            return;
        }
        let (digests, has_lists) = (self.guard.feed_digests(), self.guard.has_lists());
        in_background(beside, move || {
            let news = watcher.poll(&feeds, &digests, has_lists);
            let operators = if news.is_empty() { bans::LoggedIn::default() } else { bans::operators() };
            Done::Looked(watcher, news, operators)
        });
    }

    /// Addresses come and go; their sockets stay.
    pub(in crate::guard::lifecycle) fn look_for_addresses(&mut self) {
        let absent = self.absent();
        for address in absent.iter().filter(|address| !self.absent.contains(address)) {
            tracing::warn!(%address, "a listener waits: {ABSENT}");
        }
        for address in self.absent.iter().filter(|address| !absent.contains(address)) {
            tracing::info!(%address, "the address of a listener is there");
        }
        self.absent = absent;
    }

    pub(in crate::guard::lifecycle) fn absent(&self) -> Vec<SocketAddr> {
        let addresses = self.config.proxy.listeners.iter().map(|listener| listener.address);
        addresses.filter(|address| !listeners::is_here(*address)).collect()
    }
}
