//! Decides how what was decided is recorded: store and audit chain as one, before it is done.
//!
//! A ban that a rule asks for does not wait for the store, nor for the store to learn of the ban before it: the audit
//! chain has its record first, then the kernel its entry. The store learns of all such bans as one change, once no other
//! has come for [`SETTLE`]. Where another process has locked the
//! store nothing waits for it: the store learns once it is free. A guard that dies before that leaves the kernel's
//! entry, which the next guard takes over, as its number is one that the store has never given. Where nothing can be recorded at all,
//! only what an operator lifts is done; it is recorded once there is room.
//!
//! *Invariant:* what is owed is written in the order in which it was decided, and nothing goes before it.

use super::*;
use crate::guard::{control::watch, state_files, store};

/// How many decisions may wait to be recorded. More are refused.
const OWED: usize = 10_000;

/// How many of them are written at once.
const AT_ONCE: usize = 1_000;

/// How many bans of rules may be in force before the store learns of them.
const AHEAD: usize = 1_000;

/// How long after the last of them it does, in nanoseconds: 20 ms.
const SETTLE: u64 = 20_000_000;

/// How long after the first of them it does, however many come: 250 ms.
const SETTLED: u64 = 250_000_000;

/// What is said of a store that was lost while the guard ran.
const MADE_ANEW: &str = "it was made anew of what is in force";

/// What a decision changes in the store.
pub(super) type Write = Box<dyn Fn(&Change<'_>) -> Result<(), StoreError>>;

/// Records of one decision.
pub(super) type Records = Vec<(&'static str, Map<String, Value>)>;

/// A decision that is in force and not recorded as a whole.
pub(super) struct Owed {
    /// What the audit chain is still to have; empty: it has it.
    records: Records,
    unix_millis: u64,
    write: Write,
}

/// Nothing of the store changes.
pub(super) fn nothing() -> Write {
    Box::new(|_change| Ok(()))
}

/// Why a decision was not recorded.
enum Failed {
    Audit(std::io::Error),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failed {
    const fn code(&self) -> &'static str {
        match self {
            Self::Audit(_) => "audit_failed",
            Self::Store(_) => "store_failed",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Audit(error) => format!("the audit chain cannot be written: {error}"),
            Self::Store(error) => error.to_string(),
        }
    }
}

impl Guard {
    /// Records a decision. It must not be done if that fails.
    pub(super) fn decide(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
    ) -> Result<(), Refused> {
        self.settle(vec![(event, members)], now, write, false).map(drop)
    }

    /// Records a decision that cannot wait: the audit chain has it, the store learns of it with [`Self::catch_up`].
    pub(super) fn decide_ahead(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
    ) -> Result<(), Refused> {
        let records = vec![(event, members)];
        let is_well = self.may_owe && self.failing.is_none() && !self.store.stands_in();
        let ahead = self.ahead.map_or(0, |(many, _, _)| many);
        let has_room = self.owed.len() == ahead && ahead < AHEAD;
        if !is_well || !has_room || self.append(&records, now).is_err() {
            return self.settle(records, now, write, false).map(drop);
        }
        self.owed.push_back(Owed { records: Vec::new(), unix_millis: now.unix_millis, write });
        let first = self.ahead.map_or(now.monotonic, |(_, first, _)| first);
        self.ahead = Some((self.owed.len(), first, now.monotonic));
        self.tell_watchers(&records, now);
        Ok(())
    }

    /// When the store is to learn of what is in force already: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) fn catch_up_at(&self) -> Option<u64> {
        self.ahead.map(|(_, first, last)| last.saturating_add(SETTLE).min(first.saturating_add(SETTLED)))
    }

    /// Has the store learn of what is in force already; also before anything else is recorded.
    pub(crate) fn catch_up(&mut self) {
        if self.ahead.take().is_some() {
            self.pay();
        }
    }

    /// Records what is done whatever comes of it; why it is not recorded yet, if it is not.
    pub(super) fn decide_anyway(&mut self, records: Records, now: Now, write: Write) -> Option<String> {
        self.settle(records, now, write, true).unwrap_or_else(|refused| Some(refused.message))
    }

    /// Records what has happened anyway. A failure is told, and changes nothing.
    pub(crate) fn tell(&mut self, event: &'static str, now: Now, members: Map<String, Value>) {
        if let Err(refused) = self.decide(event, now, members, nothing()) {
            tracing::error!(event, error = %refused, "a record could not be written");
        }
    }

    /// Records what the start has found and done; later, if it cannot be recorded now.
    pub(super) fn record(&mut self, event: &'static str, members: Map<String, Value>, now: Now) {
        if let Some(error) = self.decide_anyway(vec![(event, members)], now, nothing()) {
            tracing::error!(event, error, "a record could not be written: it is tried again");
        }
    }

    /// Records of one decision, and what it changes, as one. Done `anyway`: why it is not recorded yet.
    pub(super) fn settle(
        &mut self,
        records: Records,
        now: Now,
        write: Write,
        anyway: bool,
    ) -> Result<Option<String>, Refused> {
        self.catch_up();
        let mut failed = if self.owed.is_empty() {
            match self.write(&records, now, &write) {
                Ok(()) => {
                    self.failing = None;
                    return Ok(None);
                }
                Err(failed) => failed,
            }
        } else if self.owed.iter().all(|one| one.records.is_empty()) {
            Failed::Store(StoreError::Behind)
        } else {
            let why = self.failing.clone().unwrap_or_else(|| "it is still behind".to_owned());
            Failed::Store(StoreError::Unwritable(why))
        };
        if let Failed::Store(error) = &failed
            && error.is_damage()
            && self.remake(&error.to_string(), now).is_ok()
        {
            match self.write(&records, now, &write) {
                Ok(()) => return Ok(None),
                Err(again) => failed = again,
            }
        }
        let has_room = self.may_owe && self.owed.len() < OWED;
        if matches!(&failed, Failed::Store(error) if error.is_busy()) && has_room {
            match self.append(&records, now) {
                Ok(()) => {
                    self.owed.push_back(Owed { records: Vec::new(), unix_millis: now.unix_millis, write });
                    self.tell_watchers(&records, now);
                    return Ok(None);
                }
                Err(error) => failed = Failed::Audit(error),
            }
        }
        let message = failed.message();
        self.fail(&message);
        if !anyway {
            return Err(Refused::new(failed.code(), format!("nothing was changed: {message}")));
        }
        if has_room {
            self.tell_watchers(&records, now);
            self.owed.push_back(Owed { records, unix_millis: now.unix_millis, write });
        }
        Ok(Some(message))
    }

    /// Writes to the store and the audit chain as one; neither is changed if either fails.
    fn write(&mut self, records: &Records, now: Now, write: &Write) -> Result<(), Failed> {
        let change = self.store.change()?;
        write(&change)?;
        let mark = self.audit.mark();
        let mut all = records.iter();
        let appended = all.try_for_each(|(event, members)| self.audit.append(event, now.unix_millis, members.clone()));
        let failed = match appended.map(|()| change.commit(&self.audit.anchor())) {
            Ok(Ok(())) => {
                self.tell_watchers(records, now);
                return Ok(());
            }
            Ok(Err(error)) => Failed::Store(error),
            Err(error) => Failed::Audit(error),
        };
        // The chain must not tell of what was not done, but that it was not, if it still can.
        let of = records.last().map_or("", |(event, _)| event);
        let members = members_of([("of", of.into()), ("error", failed.message().into())]);
        let told = self.audit.rewind(mark).and_then(|()| self.audit.append("not_done", now.unix_millis, members));
        if let Err(error) = told {
            tracing::error!(%error, "the audit chain cannot be written");
        }
        Err(failed)
    }

    /// Writes to the audit chain alone: all of it or nothing.
    fn append(&mut self, records: &Records, now: Now) -> std::io::Result<()> {
        let mark = self.audit.mark();
        let mut all = records.iter();
        let appended = all.try_for_each(|(event, members)| self.audit.append(event, now.unix_millis, members.clone()));
        if appended.is_err() {
            self.audit.rewind(mark)?;
        }
        appended
    }

    fn tell_watchers(&self, records: &Records, now: Now) {
        if self.watchers.is_empty() {
            return;
        }
        for (event, members) in records {
            self.watchers.tell(&watch::line(event, now.unix_millis, members));
        }
    }

    /// Changes the store without a decision behind it; whether it could be.
    pub(super) fn amend(&mut self, write: impl Fn(&Change<'_>) -> Result<(), StoreError> + 'static) -> bool {
        self.catch_up();
        if !self.owed.is_empty() {
            let has_room = self.owed.len() < OWED;
            if has_room {
                self.owed.push_back(Owed { records: Vec::new(), unix_millis: 0, write: Box::new(write) });
            }
            return has_room;
        }
        let anchor = self.audit.anchor();
        let amended = self.store.change().and_then(|change| {
            write(&change)?;
            change.commit(&anchor)
        });
        match &amended {
            Err(error) if error.is_busy() && self.may_owe => {
                self.owed.push_back(Owed { records: Vec::new(), unix_millis: 0, write: Box::new(write) });
                return true;
            }
            Err(error) => self.fail(&error.to_string()),
            Ok(()) => {}
        }
        amended.is_ok()
    }

    pub(super) fn fail(&mut self, text: &str) {
        if self.failing.is_none() {
            tracing::error!(error = text, "decisions cannot be recorded");
        }
        self.failures += 1;
        self.failing = Some(text.to_owned());
    }

    /// Once a second: looks after the files, and makes up for what is owed.
    pub(super) fn try_again(&mut self, now: Now) {
        self.look_after_files(now);
        if self.failing.is_none() && self.owed.is_empty() {
            return;
        }
        if self.store.stands_in() && !self.reopen() {
            return;
        }
        if !self.pay() {
            return;
        }
        let Some(failed) = self.failing.clone() else { return };
        // Asked without a decision, so that nothing is half written each second.
        if !self.amend(|_| Ok(())) {
            return;
        }
        if let Err(error) = self.store.share() {
            tracing::warn!(%error, "nobody else can read the store until the next start");
        }
        self.failing = None;
        self.tell("recovered", now, members(json!({"failed": failed})));
    }

    /// The file that the store stood in for can be written again: it gets all that is in force.
    fn reopen(&mut self) -> bool {
        let anchor = self.audit.anchor();
        match self.store.reopen() {
            Err(error) if error.is_damage() => return self.remake(&error.to_string(), Now::read()).is_ok(),
            Err(error) if error.is_busy() => return false,
            Err(error) => {
                self.fail(&error.to_string());
                return false;
            }
            Ok(()) => {}
        }
        let all = self.everything();
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
    fn pay(&mut self) -> bool {
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
                        && self.remake(&error.to_string(), Now::read()).is_ok()
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
    pub(super) fn pay_at_last(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        if let Err(error) = self.store.be_patient() {
            tracing::warn!(%error, "a locked store is not waited for");
        }
        if !self.pay() {
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
    fn look_after_files(&mut self, now: Now) {
        if !self.store.is_in_place()
            && let Err(error) = self.remake("it is gone, or another file is in its place", now)
        {
            self.fail(&format!("the ban store cannot be made again: {error}"));
        }
        if !self.audit.is_in_place() {
            match self.audit.begin_anew() {
                Ok(()) => {
                    let text = "the audit chain's file is gone, or another is in its place: the chain goes on in it";
                    self.standing.push(format!("{text}; see `gateway audit verify`"));
                    self.record("chain_broken", members(json!({"finding": text})), now);
                }
                Err(error) => self.fail(&format!("the audit chain cannot be made again: {error}")),
            }
        }
    }

    /// Sets a store aside that is of no use and makes another of what is in force.
    fn remake(&mut self, because: &str, now: Now) -> Result<(), StoreError> {
        let Some(path) = self.store.path().map(std::path::Path::to_owned) else {
            return Err(StoreError::Unwritable(because.to_owned()));
        };
        let aside = match std::fs::symlink_metadata(&path) {
            Ok(_) => format!(" and was set aside as {}", state_files::set_aside(&path)?.display()),
            Err(_missing) => String::new(),
        };
        let mut store = Store::open(&path)?;
        store.hurry()?;
        let all = self.everything();
        let change = store.change()?;
        all.iter().try_for_each(|write| write(&change))?;
        change.commit(&self.audit.anchor())?;
        self.store = store;
        self.good.save_again();
        // What they change is in force, and so in the new store.
        self.owed.retain(|one| !one.records.is_empty());
        self.owed.iter_mut().for_each(|one| one.write = nothing());
        let text = format!(
            "{} could not be used any more ({because}){aside}: {MADE_ANEW}; what has ended before is not in it",
            path.display()
        );
        tracing::error!("{text}");
        self.standing.retain(|warning| !warning.contains(MADE_ANEW));
        self.standing.push(text.clone());
        self.record("store_set_aside", members(json!({"finding": text})), now);
        Ok(())
    }

    /// All that is in force, for a store that does not know it.
    fn everything(&self) -> Vec<Write> {
        let mut all: Vec<Write> = Vec::new();
        for record in self.in_force.values() {
            let record = record.clone();
            all.push(Box::new(move |change| change.keep(&record)));
        }
        for allow in self.prefixes.allows.values().filter(|allow| allow.actor != "config").cloned() {
            let Allow { source, reason, actor } = allow;
            let allowed = store::Allowed { source, reason, actor };
            all.push(Box::new(move |change| change.allow(&allowed, 0)));
        }
        for (what, actor) in self.promoted.clone() {
            let promotion = store::Promotion { what, actor, at: 0 };
            all.push(Box::new(move |change| change.promote(&promotion)));
        }
        for pardon in self.pardons.stored(self.settings.safety.unban_grace) {
            all.push(Box::new(move |change| change.pardon(&pardon, 0, pardon::MOST)));
        }
        for (row, content) in self.feeds.rows() {
            all.push(Box::new(move |change| change.keep_feed(&row, &content)));
        }
        all
    }

    /// How many decisions are in force that the store does not know yet, for `status`.
    pub(super) fn owed_warning(&self) -> Option<String> {
        let many = self.owed.iter().filter(|one| one.records.is_empty()).count();
        (many > 0).then(|| {
            format!(
                "another process has locked the ban store: {many} changes are in force and in the audit chain, and \
                 are written to it once it is free"
            )
        })
    }
}
