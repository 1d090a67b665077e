//! Signs the audit chain, closes its files and deletes old ones: once a second, beside the decisions.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{AllInForce, Journal};
use crate::{
    anchor::SignedHead,
    guard::{
        audit::{Flush, members_of},
        bans::{Actor, Refused},
        control::AuditState,
    },
    os::clock::Now,
    settings::audit,
};

/// Whether closed files are to be deleted is asked every so many seconds; what fails is tried again as seldom.
const SELDOM: u64 = 60;

/// How many closed files are deleted at once, at most.
const RETIRED_AT_ONCE: usize = 16;

impl Journal {
    /// Once a second.
    pub(in super::super) fn keep_chain(
        &mut self,
        settings: &audit::Settings,
        ticks: u64,
        now: Now,
        in_force: AllInForce<'_>,
    ) {
        let is_time = ticks.is_multiple_of(settings.checkpoint.as_secs().max(1));
        if self.audit.checkpoint_due() || self.audit.checkpoint_worthwhile() && is_time {
            self.checkpoint(now, in_force);
        }
        let is_retry = ticks.is_multiple_of(SELDOM);
        if self.audit.rotation_due(settings.max_size) && (self.stuck.is_none() || is_retry) {
            self.rotate(now, in_force);
        }
        // Files may be closed every second. Where more than a few are to go, the next second goes on.
        // What is being compressed is not deleted under it.
        if (is_retry || self.is_retiring) && !self.is_compressing {
            self.is_retiring = (0..RETIRED_AT_ONCE).all(|_| self.retire(settings, now, in_force));
        }
    }

    /// Signs the chain.
    pub(in super::super) fn checkpoint(&mut self, now: Now, in_force: AllInForce<'_>) {
        let signed = self.audit.checkpoint(now.unix_millis);
        match signed {
            Ok(()) => drop(self.amend(|_| Ok(()), in_force)),
            Err(error) => self.fail(&format!("the audit chain cannot be written: {error}")),
        }
    }

    /// Closes the file, signed, and begins the next. Decisions go on in the one that is there where that cannot be.
    fn rotate(&mut self, now: Now, in_force: AllInForce<'_>) {
        // What is ahead of the store is in the file that is closed, which the store then knows.
        self.catch_up(in_force);
        if self.audit.checkpoint_worthwhile() {
            self.checkpoint(now, in_force);
        }
        match self.audit.rotate() {
            Ok((event, members)) => {
                self.stuck = None;
                self.record(event, members, now, in_force);
            }
            Err(error) => self.stick(format!("the file of the audit chain cannot be closed, it grows: {error}")),
        }
    }

    /// Has the oldest closed file deleted, if it is not to be kept, once the chain says so; whether it was.
    fn retire(&mut self, settings: &audit::Settings, now: Now, in_force: AllInForce<'_>) -> bool {
        if !self.audit.rotation_due(settings.max_size) {
            // What was in the way is gone, or is told again here.
            self.stuck = None;
        }
        match self.audit.retirement(&settings.keep, now.unix_millis) {
            Ok(None) => false,
            Ok(Some((event, members, path))) => {
                let is_told = self.settle(vec![(event, members)], now, super::nothing(), in_force).is_ok();
                if is_told {
                    self.audit.delete(path);
                }
                is_told
            }
            Err(error) => {
                self.stick(format!("a closed file of the audit chain cannot be deleted: {error}"));
                false
            }
        }
    }

    /// Has another key sign from now on; its public half.
    pub(in super::super) fn rotate_key(
        &mut self,
        actor: &Actor,
        now: Now,
        in_force: AllInForce<'_>,
    ) -> Result<String, Refused> {
        self.catch_up(in_force);
        let members = members_of([("actor", actor.to_string().into())]);
        let failed = |error: io::Error| Refused::new("audit_failed", format!("the key stays: {error}"));
        let public = self.audit.rotate_key(now.unix_millis, members).map_err(failed)?;
        self.checkpoint(now, in_force);
        Ok(public)
    }

    /// The number and the hash of the chain's newest record.
    pub(in super::super) fn chain_end(&self) -> (u64, String) {
        let anchor = self.audit.anchor();
        (anchor.seq, anchor.hash)
    }

    /// The last checkpoint.
    pub(in super::super) const fn signed_head(&self) -> Option<&SignedHead> {
        self.audit.signed_head()
    }

    /// How the chain is, for `status`.
    pub(in super::super) fn state(&self) -> AuditState {
        let (files, bytes) = self.audit.files();
        let signed = self.audit.signed_head();
        AuditState {
            records: self.audit.anchor().seq,
            files: u64::try_from(files).unwrap_or(u64::MAX),
            bytes,
            signed: signed.map_or(0, |head| head.seq),
            signed_at: signed.map(|head| head.time.clone()).unwrap_or_default(),
            anchors: Vec::new(),
        }
    }

    fn stick(&mut self, text: String) {
        if self.stuck.is_none() {
            tracing::error!("{text}");
        }
        self.stuck = Some(text);
    }

    /// A closed file that is to be compressed by somebody else, until [`Self::compressed`].
    pub(in super::super) fn compressible(&mut self, settings: &audit::Settings) -> Option<PathBuf> {
        if !settings.compress || self.is_compressing {
            return None;
        }
        let path = self.audit.compressible();
        self.is_compressing = path.is_some();
        path
    }

    /// A closed file was compressed, or could not be.
    pub(in super::super) fn compressed(&mut self, path: &Path, done: io::Result<()>) {
        self.is_compressing = false;
        match done {
            Ok(()) => self.audit.compressed(path),
            Err(error) => {
                self.stick(format!("a closed file of the audit chain is not compressed: {}: {error}", path.display()));
            }
        }
    }

    /// What of the audit chain is to be brought to the disk.
    pub(in super::super) fn unflushed(&mut self) -> Option<Flush> {
        self.audit.unflushed()
    }
}
