//! What operators do with revocations of tokens, and what the file of revocations says.

use std::collections::HashSet;

use super::*;
use crate::{
    guard::{
        control::{RevocationPage, RevocationShown},
        credentials::{store::remove_revocation, work::revoked_text},
    },
    os::clock::rfc3339,
};

/// How many revocations are shown on one page.
const PAGE: usize = 500;

impl CredentialWriterState {
    pub(super) fn revoke(
        &mut self,
        revoked: Revoked,
        expires: Option<u64>,
        reason: String,
        actor: &str,
        now: Now,
    ) -> CommandResult {
        let store = self.store()?;
        if store.count_revocations()? >= revocation::MOST {
            let hint = "lift some, or give them an end with --for";
            return Err(Refused::new("full", format!("there are {} revocations: {hint}", revocation::MOST)).into());
        }
        let what = revoked_text(&revoked);
        let row = RevocationRow {
            number: 0,
            revoked,
            expires,
            reason: reason.clone(),
            actor: actor.to_owned(),
            added: now.unix_millis,
        };
        let change = store.change()?;
        let is_new = rows::put_revocation(&change, &row)?;
        let members =
            json!({"actor": actor, "what": what, "revoked": row.revoked, "expires": expires, "reason": reason});
        store::record(&change, "token_revoke", &members)?;
        change.commit()?;
        let message = if is_new { format!("revoked: {what}") } else { format!("revoked already: {what}") };
        // Told again all the same: the proxy's word is what counts.
        let changes = vec![CredentialChange::Revoked(row.revoked)];
        Ok((ControlAnswer::Done { message, changed: is_new.into() }, changes))
    }

    pub(super) fn lift(&mut self, number: u64, actor: &str) -> CommandResult {
        let store = self.store()?;
        let row = store.revocations(number.saturating_sub(1), 1)?.pop().filter(|row| row.number == number);
        let Some(row) = row else {
            let hint = "`gateway token revocations list` shows them";
            return Err(Refused::new("not_found", format!("there is no revocation {number}: {hint}")).into());
        };
        if row.actor == FILE {
            let what = format!("revocation {number} stands in the file of revocations: remove its line");
            return Err(Refused::new("of_file", what).into());
        }
        if let Some(node) =
            row.actor.strip_prefix(rows::PEER).filter(|node| self.nodes.iter().any(|known| known == node))
        {
            let what = format!("revocation {number} is of the machine {node}: lift it there");
            return Err(Refused::new("of_peer", what).into());
        }
        let store = self.store()?;
        let what = revoked_text(&row.revoked);
        let members = json!({"actor": actor, "what": what, "revoked": row.revoked});
        let change = store.change()?;
        let lifted = remove_revocation(&change, row)?;
        store::record(&change, "token_unrevoke", &members)?;
        change.commit()?;
        let message = match &lifted {
            Some(_) => format!("not revoked any more: {what}"),
            None => format!("revocation {number} is removed; another one still revokes {what}"),
        };
        Ok((ControlAnswer::Done { message, changed: 1 }, lifted.into_iter().map(CredentialChange::Lifted).collect()))
    }

    pub(super) fn revocations(&mut self, after: u64) -> CommandResult {
        let page = self.store()?.revocations(after, PAGE)?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|row| row.number);
        let moment = |seconds: u64| rfc3339(seconds.saturating_mul(1_000));
        let revocations = page.into_iter().map(|row| RevocationShown {
            number: row.number,
            what: revoked_text(&row.revoked),
            expires: row.expires.map(moment),
            reason: row.reason,
            actor: row.actor,
            added: rfc3339(row.added),
        });
        let page = RevocationPage { revocations: revocations.collect(), next };
        Ok((ControlAnswer::Revocations(Box::new(page)), Vec::new()))
    }

    /// The file of revocations was read. What the store cannot take is in force all the same, and written once that is
    /// possible.
    pub(super) fn take_file(&mut self, revoked: Vec<Revoked>, is_whole: bool, now: Now) -> CredentialWork {
        let before = self.unwritten.replace(Unwritten { revoked, is_whole });
        if let Some(worked) = self.write_file(now) {
            return worked;
        }
        let before = before.map_or_else(Vec::new, |unwritten| unwritten.revoked);
        let Some(Unwritten { revoked, is_whole }) = self.unwritten.take() else { return CredentialWork::default() };
        let known: HashSet<&Revoked> = before.iter().collect();
        let news: Vec<Revoked> = revoked.iter().filter(|one| !known.contains(one)).cloned().collect();
        let changes = news.iter().cloned().map(CredentialChange::Revoked).collect();
        // Nothing is lifted: whether anybody else revokes it is not known.
        let revoked = if is_whole { revoked } else { before.into_iter().chain(news).take(revocation::MOST).collect() };
        self.unwritten = Some(Unwritten { revoked, is_whole });
        CredentialWork { changes, ..CredentialWork::default() }
    }

    /// Writes what the file said and the store does not have yet. `None`: there is nothing, or it cannot be written.
    pub(super) fn write_file(&mut self, now: Now) -> Option<CredentialWork> {
        let unwritten = self.unwritten.take()?;
        match self.file(&unwritten.revoked, unwritten.is_whole, now) {
            Ok(changes) => Some(CredentialWork { changes, records: self.unrecorded(), ..CredentialWork::default() }),
            Err(error) => {
                if self.store.is_some() {
                    tracing::error!(%error, "the store of credentials could not be changed");
                }
                self.unwritten = Some(unwritten);
                None
            }
        }
    }

    /// What the file says is in force, and what it says no longer is lifted if all of it could be read.
    fn file(
        &mut self,
        revoked: &[Revoked],
        is_whole: bool,
        now: Now,
    ) -> Result<Vec<CredentialChange>, CredentialError> {
        let store = self.store()?;
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        if is_whole {
            let said: HashSet<&Revoked> = revoked.iter().collect();
            let mut after = 0;
            loop {
                let page = store.revocations(after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.number;
                gone.extend(page.into_iter().filter(|row| row.actor == FILE && !said.contains(&row.revoked)));
            }
        }
        let change = store.change()?;
        let removed = gone.len();
        for row in gone {
            changes.extend(remove_revocation(&change, row)?.map(CredentialChange::Lifted));
        }
        let mut added: u64 = 0;
        for revoked in revoked {
            let row = RevocationRow {
                number: 0,
                revoked: revoked.clone(),
                expires: None,
                reason: String::new(),
                actor: FILE.to_owned(),
                added: now.unix_millis,
            };
            if rows::put_revocation(&change, &row)? {
                added += 1;
                changes.push(CredentialChange::Revoked(row.revoked));
            }
        }
        if added > 0 || removed > 0 {
            store::record(&change, "revocation_file", &json!({"added": added, "removed": removed}))?;
        }
        change.commit()?;
        Ok(changes)
    }
}
