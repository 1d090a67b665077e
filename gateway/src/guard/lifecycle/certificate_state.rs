//! What the guard knows of certificates beyond the configuration: which end soon, which cannot be used, the ticket keys.

use std::path::PathBuf;

use super::certificate_files::TlsWatcher;
use crate::{clock::Now, guard::control::CertificateEnd, tls::Chain};

/// What is known of certificates beyond the configuration.
pub(super) struct Certificates {
    /// By which keys the proxies let clients resume TLS sessions.
    pub(super) tickets: Option<Chain>,
    /// Looks at the files; absent while it does.
    pub(super) watcher: Option<TlsWatcher>,
    /// So often another configuration came into force.
    pub(super) epoch: u64,
    /// What has ended or soon will.
    pub(super) outdated: Vec<String>,
    /// What came into force after the configuration of a reload was read.
    pub(super) renewed_meanwhile: Vec<(PathBuf, Vec<u8>)>,
    /// Why the files' content is not in force.
    pub(super) unusable: Option<String>,
    /// When each one ends.
    pub(super) ends: Vec<CertificateEnd>,
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
    pub(super) fn chain(&mut self, now: Now) -> Option<&Chain> {
        self.follow(now);
        self.tickets.as_ref()
    }

    /// Goes on with the time. `true`: it is another chain, of which proxies are to be told.
    pub(super) fn follow(&mut self, now: Now) -> bool {
        match &mut self.tickets {
            Some(chain) => chain.follow(now),
            None => {
                self.tickets = Chain::new(now);
                false
            }
        }
    }

    /// Another configuration is in force: its files are looked at anew.
    pub(super) fn renewed(&mut self) {
        self.epoch += 1;
        self.watcher = Some(TlsWatcher::default());
        self.unusable = None;
    }

    pub(super) fn ends(&self) -> Vec<CertificateEnd> {
        self.ends.clone()
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.outdated.iter().chain(&self.unusable).cloned()
    }
}
