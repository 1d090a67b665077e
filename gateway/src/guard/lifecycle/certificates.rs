//! Puts new certificates in force: the guard and every proxy take them over while all connections go on.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::sync::mpsc;

use super::{
    certificate_files::{TlsNews, TlsWatcher},
    service::{Done, Service},
};
use crate::{
    clock::Now,
    guard::{audit, control::CertificateEnd},
    tls,
};

/// What certificates soon end is found out every so many seconds.
const HOUR: u64 = 3_600;

impl Service<'_> {
    /// Looks at the files, beside the loop.
    pub(super) fn look_at_certificates(&mut self, beside: &mpsc::Sender<Done>) {
        if self.ticks.is_multiple_of(HOUR) {
            self.find_outdated();
        }
        if self.config.proxy.tls_files().next().is_none() {
            return;
        }
        let Some(mut watcher) = self.certificates.watcher.take() else { return };
        let (settings, epoch, beside) = (self.config.proxy.clone(), self.certificates.epoch, beside.clone());
        tokio::task::spawn_blocking(move || {
            let news = watcher.poll(&settings, Now::read());
            if beside.blocking_send(Done::Certificates(epoch, watcher, news)).is_err() {
                tracing::debug!("the guard stopped before the certificates were read");
            }
        });
    }

    /// The files were looked at while the configuration of `epoch` was in force.
    pub(super) fn looked_at_certificates(&mut self, epoch: u64, watcher: TlsWatcher, news: Option<TlsNews>) {
        if epoch != self.certificates.epoch {
            return;
        }
        self.certificates.watcher = Some(watcher);
        match news {
            None => {}
            Some(TlsNews::Same) => self.certificates.unusable = None,
            Some(TlsNews::Unusable(why)) => {
                tracing::error!(why, "new TLS files cannot be used; those before stay in force");
                let members = audit::members(json!({"why": why}));
                self.guard.tell("certificates_refused", Now::read(), members);
                self.certificates.unusable = Some(format!("new TLS files are not in force: {why}"));
            }
            Some(TlsNews::Changed(settings, files)) => {
                let mut names: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
                names.sort();
                if !self.hand_over(&files) {
                    // The next look finds the same.
                    self.certificates.watcher = Some(TlsWatcher::default());
                    return;
                }
                for (path, bytes) in files {
                    let known = &mut self.supervisor.bundle.files;
                    if let Some((_, content)) = known.iter_mut().find(|(known, _)| *known == path) {
                        *content = bytes;
                    }
                }
                self.config.proxy = *settings;
                self.certificates.unusable = None;
                self.find_outdated();
                tracing::info!(files = names.join(", "), "new TLS files are in force");
                self.guard.tell("certificates", Now::read(), audit::members(json!({"files": names})));
            }
        }
    }

    /// Hands changed files to every proxy; `false`: it failed.
    fn hand_over(&mut self, files: &[(PathBuf, Vec<u8>)]) -> bool {
        let handed = self.supervisor.hand_over(files);
        if let Err(error) = &handed {
            tracing::error!(%error, "new TLS files cannot be handed to the proxy");
        }
        handed.is_ok()
    }

    /// What has ended or soon will: told in the log whenever it changes, which is once a day at most.
    pub(super) fn find_outdated(&mut self) {
        let end = |(key, path, not_after): (String, &Path, i64)| {
            let path = path.display().to_string();
            CertificateEnd { key, path, not_after }
        };
        self.certificates.ends = tls::ends(&self.config.proxy).map(end).collect();
        let found: Vec<String> =
            tls::outdated(&self.config.proxy, Now::read()).iter().map(ToString::to_string).collect();
        for warning in found.iter().filter(|warning| !self.certificates.outdated.contains(warning)) {
            tracing::warn!("{warning}");
        }
        // A staple that is over is left out once everything is compiled anew.
        if found.iter().any(|warning| warning.contains(".ocsp: ")) && found != self.certificates.outdated {
            self.hand_over(&[]);
        }
        self.certificates.outdated = found;
    }
}
