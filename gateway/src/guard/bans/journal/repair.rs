//! Makes up for what could not be recorded, and makes files again that are gone or damaged.

use serde_json::json;

use super::{AllInForce, Failed, Journal, MADE_ANEW, nothing};
use crate::{
    guard::{
        audit::members,
        state_files,
        store::{BanStore, StoreError},
    },
    os::clock::Now,
};

/// How many decisions are written at once.
const AT_ONCE: usize = 1_000;

impl Journal {
    /// Once a second: looks after the files, and makes up for what is owed.
    pub(in super::super) fn try_again(&mut self, now: Now, in_force: AllInForce<'_>) {
        self.look_after_files(now, in_force);
        if self.failing.is_none() && self.owed.is_empty() {
            return;
        }
        if self.store.stands_in() && !self.reopen(in_force) {
            return;
        }
        if !self.pay(in_force) {
            return;
        }
        let Some(failed) = self.failing.clone() else { return };
        // Asked without a decision, so that nothing is half written each second.
        if !self.amend(|_| Ok(()), in_force) {
            return;
        }
        if let Err(error) = self.store.share() {
            tracing::warn!(%error, "nobody else can read the store until the next start");
        }
        self.failing = None;
        self.tell("recovered", now, members(json!({"failed": failed})), in_force);
    }

    /// The file that the store stood in for can be written again: it gets all that is in force.
    fn reopen(&mut self, in_force: AllInForce<'_>) -> bool {
        let anchor = self.audit.anchor();
        match self.store.reopen() {
            Err(error) if error.is_damage() => return self.remake(&error.to_string(), Now::read(), in_force).is_ok(),
            Err(error) if error.is_busy() => return false,
            Err(error) => {
                self.fail(&error.to_string());
                return false;
            }
            Ok(()) => {}
        }
        let all = in_force();
        let written = self.store.change().and_then(|change| {
            all.iter().try_for_each(|write| write(&change))?;
            change.commit(&anchor)
        });
        if let Err(error) = written {
            self.fail(&error.to_string());
            return false;
        }
        true
    }

    /// Writes some of what is owed; whether nothing is left.
    pub(super) fn pay(&mut self, in_force: AllInForce<'_>) -> bool {
        self.ahead = None;
        while !self.owed.is_empty() {
            let some = self.owed.len().min(AT_ONCE);
            let mark = self.audit.mark();
            match self.pay_some(some) {
                Ok(()) => drop(self.owed.drain(..some)),
                Err(failed) => {
                    if let Err(error) = self.audit.rewind(mark) {
                        tracing::error!(%error, "the audit chain cannot be written");
                    }
                    if let Failed::Store(error) = &failed
                        && error.is_damage()
                        && self.remake(&error.to_string(), Now::read(), in_force).is_ok()
                    {
                        return self.owed.is_empty();
                    }
                    if !matches!(&failed, Failed::Store(error) if error.is_busy()) {
                        self.fail(&failed.message());
                    }
                    return false;
                }
            }
        }
        true
    }

    /// At the end: whoever has locked the store is waited for.
    pub(in super::super) fn pay_at_last(&mut self, in_force: AllInForce<'_>) {
        if self.owed.is_empty() {
            return;
        }
        if let Err(error) = self.store.be_patient() {
            tracing::warn!(%error, "a locked store is not waited for");
        }
        if !self.pay(in_force) {
            tracing::error!(owed = self.owed.len(), "decisions end with the guard that could not be recorded");
        }
    }

    fn pay_some(&mut self, some: usize) -> Result<(), Failed> {
        let change = self.store.change()?;
        for one in self.owed.iter().take(some) {
            for (event, members) in &one.records {
                self.audit.append(event, one.unix_millis, members.clone()).map_err(Failed::Audit)?;
            }
            (one.write)(&change)?;
        }
        Ok(change.commit(&self.audit.anchor())?)
    }

    /// Files that are gone are made again, from what is in force.
    fn look_after_files(&mut self, now: Now, in_force: AllInForce<'_>) {
        let because = match self.take_damage() {
            None if !self.store.is_in_place() => Some("it is gone, or another file is in its place".to_owned()),
            damage => damage,
        };
        if let Some(because) = because
            && let Err(error) = self.remake(&because, now, in_force)
        {
            self.fail(&format!("the ban store cannot be made again: {error}"));
        }
        if !self.audit.is_in_place() {
            match self.audit.begin_anew() {
                Ok(()) => {
                    let text = "the audit chain's file is gone, or another is in its place: the chain goes on in it";
                    self.findings.push(format!("{text}; see `gateway audit verify`"));
                    self.record("chain_broken", members(json!({"finding": text})), now, in_force);
                }
                Err(error) => self.fail(&format!("the audit chain cannot be made again: {error}")),
            }
        }
    }

    /// Sets a store aside that is of no use and makes another of what is in force.
    pub(super) fn remake(&mut self, because: &str, now: Now, in_force: AllInForce<'_>) -> Result<(), StoreError> {
        let Some(path) = self.store.path().map(std::path::Path::to_owned) else {
            return Err(StoreError::Unwritable(because.to_owned()));
        };
        let aside = match std::fs::symlink_metadata(&path) {
            Ok(_) => format!(" and was set aside as {}", state_files::set_aside(&path)?.display()),
            Err(_missing) => String::new(),
        };
        let mut store = BanStore::open(&path)?;
        store.hurry()?;
        let all = in_force();
        let change = store.change()?;
        all.iter().try_for_each(|write| write(&change))?;
        change.commit(&self.audit.anchor())?;
        self.store = store;
        // What was read of the one before says nothing of this one.
        self.take_damage();
        self.is_remade = true;
        // What they change is in force, and so in the new store.
        self.owed.retain(|one| !one.records.is_empty());
        self.owed.iter_mut().for_each(|one| one.write = nothing());
        let text = format!(
            "{} could not be used any more ({because}){aside}: {MADE_ANEW}; what has ended before is not in it",
            path.display()
        );
        tracing::error!("{text}");
        self.findings.retain(|warning| !warning.contains(MADE_ANEW));
        self.findings.push(text.clone());
        self.record("store_set_aside", members(json!({"finding": text})), now, in_force);
        Ok(())
    }
}
