//! Puts new certificates in force: the guard and every proxy take them over while all connections go on.

pub(in crate::guard::lifecycle) mod certificate_files;
pub(in crate::guard::lifecycle) mod certificate_state;
pub(in crate::guard::lifecycle) mod ticket_keys;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    guard::{
        audit,
        control::CertificateEnd,
        lifecycle::{
            certificates::certificate_files::{TlsNews, TlsWatcher},
            reload::prepare::PreparedConfig,
            service::{Done, Service},
        },
    },
    os::clock::Now,
    tls,
};

/// What certificates soon end is found out every so many seconds.
const HOUR: u64 = 3_600;

impl Service<'_> {
    /// Looks at the files, beside the loop.
    pub(in crate::guard::lifecycle) fn look_at_certificates(&mut self, beside: &mpsc::Sender<Done>) {
        if self.ticks.is_multiple_of(HOUR) {
            self.find_outdated();
        }
        if certificate_files::watched(&self.config.proxy).next().is_none() {
            return;
        }
        let Some(mut watcher) = self.watched.certificates.watcher.take() else { return };
        let (settings, epoch, beside) = (self.config.proxy.clone(), self.watched.certificates.epoch, beside.clone());
        tokio::task::spawn_blocking(move || {
            let news = watcher.poll(&settings, Now::read());
            if beside.blocking_send(Done::Certificates(epoch, watcher, news)).is_err() {
                tracing::debug!("the guard stopped before the certificates were read");
            }
        });
    }

    /// The files were looked at while the configuration of `epoch` was in force.
    pub(in crate::guard::lifecycle) fn looked_at_certificates(
        &mut self,
        epoch: u64,
        watcher: TlsWatcher,
        news: Option<TlsNews>,
    ) {
        if epoch != self.watched.certificates.epoch {
            return;
        }
        self.watched.certificates.watcher = Some(watcher);
        match news {
            None => {}
            Some(TlsNews::Same) => self.watched.certificates.unusable = None,
            Some(TlsNews::Unusable(why)) => {
                self.reloading.counts.files_refused += 1;
                tracing::error!(why, "changed files of TLS or keys cannot be used; those before stay in force");
                let members = audit::members(json!({"why": why}));
                self.guard.tell("certificates_refused", Now::read(), members);
                self.watched.certificates.unusable =
                    Some(format!("changed files of TLS or keys are not in force: {why}"));
            }
            Some(TlsNews::Changed(settings, files)) => {
                let mut names: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
                names.sort();
                let Some(copies) = self.copies(&files) else {
                    // The next look finds the same.
                    self.watched.certificates.watcher = Some(TlsWatcher::default());
                    return;
                };
                self.supervisor.bundle.renew(&files);
                if self.reloading.is_preparing
                    || self.reloading.compilation.is_some()
                    || self.reloading.current.is_some()
                {
                    self.watched.certificates.renewed_meanwhile.extend(files);
                }
                self.config.proxy = *settings;
                // Before any proxy has them: a guard after this one has them as well, and takes nothing back.
                self.keep();
                self.supervisor.hand_over(copies);
                self.watched.certificates.unusable = None;
                self.reloading.counts.files += 1;
                self.find_outdated();
                tracing::info!(files = names.join(", "), "changed files of TLS or keys are in force");
                self.guard.tell("certificates", Now::read(), audit::members(json!({"files": names})));
            }
        }
    }

    /// A reload goes on with the files that were renewed after its configuration was read. Otherwise it would take them
    /// back, and a certificate that was revoked meanwhile would be good again.
    pub(in crate::guard::lifecycle) fn renew_prepared(&mut self, prepared: &mut PreparedConfig) {
        let files = std::mem::take(&mut self.watched.certificates.renewed_meanwhile);
        if files.is_empty() {
            return;
        }
        let (settings, bundle) = (&mut prepared.config.proxy, &mut prepared.bundle);
        if let Err(why) = certificate_files::renew(settings, bundle, &files, Now::read()) {
            tracing::warn!(
                why,
                "TLS files that were renewed during the reload cannot be used with its configuration; those that were \
                 read with it are used"
            );
        }
    }

    /// Changed files for every proxy; `None`: there are not enough descriptors or memory.
    fn copies(&self, files: &[(PathBuf, Vec<u8>)]) -> Option<Vec<(u64, OwnedFd)>> {
        let copies = self.supervisor.copies(files);
        if let Err(error) = &copies {
            tracing::error!(%error, "changed files cannot be handed to the proxy");
        }
        copies.ok()
    }

    /// What has ended or soon will: told in the log whenever it changes, which is once a day at most.
    pub(in crate::guard::lifecycle) fn find_outdated(&mut self) {
        let end = |(key, path, not_after): (String, &Path, i64)| {
            let path = path.display().to_string();
            CertificateEnd { key, path, not_after }
        };
        self.watched.certificates.ends = tls::ends(&self.config.proxy).map(end).collect();
        let found: Vec<String> =
            tls::outdated(&self.config.proxy, Now::read()).iter().map(ToString::to_string).collect();
        for warning in found.iter().filter(|warning| !self.watched.certificates.outdated.contains(warning)) {
            tracing::warn!("{warning}");
        }
        // A staple that is over is left out once everything is compiled anew.
        if found.iter().any(|warning| warning.contains(".ocsp: "))
            && found != self.watched.certificates.outdated
            && let Some(copies) = self.copies(&[])
        {
            self.supervisor.hand_over(copies);
        }
        self.watched.certificates.outdated = found;
    }
}
