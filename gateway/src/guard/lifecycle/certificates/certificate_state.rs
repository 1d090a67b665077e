//! What the guard knows of certificates beyond the configuration: which end soon, which cannot be used, the ticket keys.

use std::path::PathBuf;

use crate::{
    guard::{control::CertificateEnd, lifecycle::certificates::certificate_files::TlsWatcher},
    os::clock::Now,
    tls::Chain,
};

/// What is known of certificates beyond the configuration.
pub(in crate::guard::lifecycle) struct Certificates {
    /// By which keys the proxies let clients resume TLS sessions.
    pub(in crate::guard::lifecycle) tickets: Option<Chain>,
    /// Looks at the files; absent while it does.
    pub(in crate::guard::lifecycle) watcher: Option<TlsWatcher>,
    /// So often another configuration came into force.
    pub(in crate::guard::lifecycle) epoch: u64,
    /// What has ended or soon will.
    pub(in crate::guard::lifecycle) outdated: Vec<String>,
    /// What came into force after the configuration of a reload was read.
    pub(in crate::guard::lifecycle) renewed_meanwhile: Vec<(PathBuf, Vec<u8>)>,
    /// Why the files' content is not in force.
    pub(in crate::guard::lifecycle) unusable: Option<String>,
    /// When each one ends.
    pub(in crate::guard::lifecycle) ends: Vec<CertificateEnd>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            tickets: None,
            watcher: Some(TlsWatcher::default()),
            epoch: 0,
            outdated: Vec::new(),
            renewed_meanwhile: Vec::new(),
            unusable: None,
            ends: Vec::new(),
        }
    }
}

impl Certificates {
    /// Where the chain of ticket keys is at `now`. Every proxy gets the same, so that clients resume their sessions with
    /// any of them.
    pub(in crate::guard::lifecycle) fn chain(&mut self, now: Now) -> Option<&Chain> {
        self.follow(now);
        self.tickets.as_ref()
    }

    /// Goes on with the time. `true`: it is another chain, of which proxies are to be told.
    pub(in crate::guard::lifecycle) fn follow(&mut self, now: Now) -> bool {
        match &mut self.tickets {
            Some(chain) => chain.follow(now),
            None => {
                self.tickets = Chain::new(now);
                false
            }
        }
    }

    /// Another configuration is in force: its files are looked at anew.
    pub(in crate::guard::lifecycle) fn renewed(&mut self) {
        self.epoch += 1;
        self.watcher = Some(TlsWatcher::default());
        self.unusable = None;
    }

    pub(in crate::guard::lifecycle) fn ends(&self) -> Vec<CertificateEnd> {
        self.ends.clone()
    }

    pub(in crate::guard::lifecycle) fn warnings(&self) -> impl Iterator<Item = String> {
        self.outdated.iter().chain(&self.unusable).cloned()
    }
}
