//! What operators do with revocations of tokens, and what the file of revocations says.

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

/// Of so many that proxies were told of, while the store could not take them, it is remembered which to lift.
const MOST_TOLD: usize = 2 * revocation::MOST;

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
        let is_first = std::mem::take(&mut self.awaits_file);
        let Unwritten { revoked: before, mut told, is_whole: _ } = self.unwritten.take().unwrap_or_default();
        let revoked = if is_whole {
            revoked
        } else {
            // Nothing is lifted, also of what the store does not have.
            let known: HashSet<Revoked> = before.iter().cloned().collect();
            let news = revoked.into_iter().filter(|one| !known.contains(one));
            before.into_iter().chain(news).take(revocation::MOST).collect()
        };
        if told.len() >= MOST_TOLD {
            // The rest is lifted with the next whole.
            told.clear();
        }
        self.unwritten = Some(Unwritten { revoked, is_whole, told });
        let worked = self.write_file(now).unwrap_or_else(|| self.tell_unwritten());
        if !is_first || self.wanted == ConfiguredCredentials::Nothing {
            return worked;
        }
        // It is known from now on what is revoked.
        let CredentialWork { whole, warnings, .. } = self.gather(now);
        CredentialWork { whole, warnings, is_new: true, ..worked }
    }

    /// What proxies do not know yet of what the store does not have.
    fn tell_unwritten(&mut self) -> CredentialWork {
        let Some(Unwritten { revoked, told, .. }) = &mut self.unwritten else { return CredentialWork::default() };
        let news = revoked.iter().filter(|one| !told.contains(*one) && told.insert((*one).clone()));
        let changes = news.cloned().map(CredentialChange::Revoked).collect();
        CredentialWork { changes, ..CredentialWork::default() }
    }

    /// Writes what the file said and the store does not have yet. `None`: there is nothing, or it cannot be written.
    pub(super) fn write_file(&mut self, now: Now) -> Option<CredentialWork> {
        let unwritten = self.unwritten.take()?;
        match self.file(&unwritten, now) {
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
    fn file(&mut self, unwritten: &Unwritten, now: Now) -> Result<Vec<CredentialChange>, CredentialError> {
        let Unwritten { revoked, is_whole, told } = unwritten;
        let store = self.store()?;
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        let said: HashSet<&Revoked> = revoked.iter().collect();
        if *is_whole {
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
        // Proxies were told of it, and the store never had it.
        for one in told.iter().filter(|one| !said.contains(one)) {
            if !rows::is_revoked(&change, one)? {
                changes.push(CredentialChange::Lifted(one.clone()));
            }
        }
        if added > 0 || removed > 0 {
            store::record(&change, "revocation_file", &json!({"added": added, "removed": removed}))?;
        }
        change.commit()?;
        Ok(changes)
    }
}
