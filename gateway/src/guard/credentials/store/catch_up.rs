//! What the audit chain tells of revocations and the store does not know is done again: it was lost, or is a copy from before.

use std::fmt;

use super::*;
use crate::{
    guard::credentials::{behind::UnseenRecords, redo::CredentialRedo},
    text::counted::counted,
};

/// How much was taken over from the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct CatchUpCounts {
    pub(in super::super) tokens: usize,
    pub(in super::super) keys: usize,
    /// Keys that are good for less long, as another took their place.
    pub(in super::super) replaced: usize,
}

impl CatchUpCounts {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for CatchUpCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of tokens and {} of keys", counted(self.tokens, "revocation", "revocations"), self.keys)?;
        match self.replaced {
            0 => Ok(()),
            replaced => {
                write!(out, ", and the end of {} rotated,", counted(replaced, "key that was", "keys that were"))
            }
        }
    }
}

impl CredentialStore {
    /// Does again what the audit chain tells of revocations; how much that was.
    pub(super) fn redo(&mut self, state_dir: &Path, now: u64) -> Result<CatchUpCounts, CredentialError> {
        let newest = UnseenRecords::look(state_dir, None)?.newest;
        let taken = self.take_over(CredentialRedo::read(state_dir, u64::MAX)?, now)?;
        self.note_seen(newest.as_ref())?;
        Ok(taken)
    }

    /// Does again what the store has not seen; what is to be said of that.
    pub(super) fn catch_up(
        &mut self,
        path: &Path,
        state_dir: &Path,
        now: u64,
    ) -> Result<Option<String>, CredentialError> {
        let path = path.display();
        let seen = self.seen()?;
        let behind = match UnseenRecords::look(state_dir, seen.as_ref()) {
            Ok(behind) => behind,
            // No reason to refuse every client.
            Err(error) => {
                let hint = "if it was restored from a backup, revoke again what was revoked since";
                return Ok(Some(format!("it cannot be told whether {path} is up to date: {error}; {hint}")));
            }
        };
        let UnseenRecords { newest, credentials, is_tied, missing } = behind;
        let mut told = Vec::new();
        if credentials.is_some() || missing.is_some() || (seen.is_some() && newest.is_some() && !is_tied) {
            let after = seen.filter(|_| is_tied).map_or(0, |seen| seen.seq);
            let redo = CredentialRedo::read(state_dir, after)?;
            let (made, imported, last) = (redo.made.clone(), redo.imported, redo.last);
            let has_unrecorded = !self.unrecorded()?.is_empty();
            let taken = self.take_over(redo, now)?;
            let mut lost = 0;
            for id in made {
                lost += u64::from(self.key(id)?.is_none());
            }
            if !has_unrecorded {
                lost = lost.saturating_add(imported);
            }
            // A store that was lost once does not know all keys that were ever made.
            if !taken.is_nothing() || (is_tied && lost > 0) {
                told.push(format!(
                    "{path} is older than the audit chain, as a copy from a backup is: {taken} were taken over from the \
                     audit chain"
                ));
                if lost > 0 {
                    told.push(counted(
                        lost,
                        "key that was made since is lost: make it anew",
                        "keys that were made since are lost: make them anew",
                    ));
                }
            }
            if credentials.is_some_and(|newest| newest > last) {
                told.push(format!(
                    "{path} does not know what the audit chain tells of keys and tokens after record {last}, and that \
                     cannot be trusted, as the chain is broken (see `gateway audit verify`): revoke again what was \
                     revoked since"
                ));
            }
        }
        if let Some([first, last]) = missing {
            told.push(format!(
                "records {first} to {last} of the audit chain are not there, and {path} has not seen them: if it was \
                 restored from a backup, revoke again what was revoked since"
            ));
        }
        self.note_seen(newest.as_ref())?;
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    pub(in super::super) fn take_over(
        &mut self,
        redo: CredentialRedo,
        now: u64,
    ) -> Result<CatchUpCounts, CredentialError> {
        let CredentialRedo { revocations, keys, replaced, .. } = redo;
        let change = self.change()?;
        let mut taken = CatchUpCounts::default();
        for (what, row) in revocations {
            if row.expires.is_none_or(|expires| expires > now)
                && rows::put_revocation(&change, &RevocationRow { revoked: what, ..row })?
            {
                taken.tokens += 1;
            }
        }
        for (id, row) in keys {
            if change.prepare_cached("SELECT 1 FROM key WHERE id = ?")?.exists([signed(id)])? {
                let mut revoke =
                    change.prepare_cached("UPDATE key SET revoked = ? WHERE id = ? AND revoked IS NULL")?;
                taken.keys += revoke.execute([signed(now.saturating_mul(1_000)), signed(id)])?;
            } else {
                // It stays revoked when it is imported again.
                let row = RevocationRow { revoked: Revoked::Key(id), ..row };
                taken.keys += usize::from(rows::put_revocation(&change, &row)?);
            }
        }
        for (id, until) in replaced {
            let mut end = change.prepare_cached(
                "UPDATE key SET expires = ?1 WHERE id = ?2 AND revoked IS NULL AND (expires IS NULL OR expires > ?1)",
            )?;
            taken.replaced += end.execute([signed(until), signed(id)])?;
        }
        change.commit()?;
        Ok(taken)
    }

    /// The record of the audit chain up to which the store knows what became of its keys.
    pub(in super::super) fn seen(&self) -> Result<Option<SeenRecord>, CredentialError> {
        let mut query = self.connection.prepare_cached("SELECT seq, hash FROM seen")?;
        let seen = query.query_row([], |row| Ok((row.get::<_, i64>("seq")?, row.get("hash")?))).optional()?;
        Ok(seen.map(|(seq, hash)| SeenRecord { seq: seq.cast_unsigned(), hash }))
    }

    /// The chain ends with this record, and has none that the store does not know.
    pub(in super::super) fn note_seen(&self, newest: Option<&SeenRecord>) -> Result<(), CredentialError> {
        if let Some(newest) = newest
            && self.seen()?.as_ref() != Some(newest)
        {
            rows::put_seen(&self.connection, newest.seq, &newest.hash)?;
        }
        Ok(())
    }
}
