//! Records what is decided: store and audit chain as one, before it is done.
//!
//! A ban that a rule asks for does not wait for the store, nor for the store to learn of the ban before it: the audit
//! chain has its record first, then the kernel its entry. The store learns of all such bans as one change, once no other
//! has come for [`SETTLE`]. Where another process has locked the store nothing waits for it: the store learns once it is
//! free. A guard that dies before that leaves the kernel's entry, which the next guard takes over, as its number is one
//! that the store has never given. Where nothing can be recorded at all, only what an operator lifts is done; it is
//! recorded once there is room.
//!
//! *Invariant:* what is owed is written in the order in which it was decided, and nothing goes before it.

use std::{cell::RefCell, collections::VecDeque};

use serde_json::{Map, Value};

use super::refused::Refused;
use crate::{
    guard::{
        audit::{AuditChain, Unflushed, members_of},
        control::watch::{self, Watchers},
        store::{BanStore, StoreChange, StoreError},
    },
    os::clock::Now,
    text::counted::counted,
};

mod recall;
mod repair;
mod upkeep;

use recall::Unrecalled;

/// How many decisions may wait to be recorded. More are refused.
const OWED: usize = 10_000;

/// How many bans of rules may be in force before the store learns of them.
const AHEAD: usize = 1_000;

/// How long after the last of them it does, in nanoseconds: 20 ms.
pub(super) const SETTLE: u64 = 20_000_000;

/// How long after the first of them it does, however many come: 250 ms.
pub(super) const SETTLED: u64 = 250_000_000;

/// What a decision changes in the store.
pub(super) type Write = Box<dyn Fn(&StoreChange<'_>) -> Result<(), StoreError>>;

/// Records of one decision.
pub(super) type Records = Vec<(&'static str, Map<String, Value>)>;

/// All that is in force, as it is written to a store that does not know it. Asked where the store has to be made anew.
pub(super) type AllInForce<'a> = &'a dyn Fn() -> Vec<Write>;

/// A decision that is in force and not recorded as a whole.
struct UnrecordedDecision {
    /// What the audit chain is still to have; empty: it has it.
    records: Records,
    unix_millis: u64,
    write: Write,
}

/// Nothing of the store changes.
pub(super) fn nothing() -> Write {
    Box::new(|_change| Ok(()))
}

/// What is said of a store that was lost while the guard ran.
const MADE_ANEW: &str = "it was made anew of what is in force";

/// Why a decision was not recorded.
enum Failed {
    Audit(std::io::Error),
    /// As before: nothing was tried again. Why, as it was said then.
    Still(String),
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
            Self::Still(_) | Self::Store(_) => "store_failed",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Audit(error) => format!("the audit chain cannot be written: {error}"),
            Self::Still(why) => why.clone(),
            Self::Store(error) => error.to_string(),
        }
    }
}

/// Store and audit chain, and what they do not know yet.
pub(super) struct Journal {
    store: BanStore,
    audit: AuditChain,
    /// What is in force and still to be recorded, in order.
    owed: VecDeque<UnrecordedDecision>,
    /// Where all of it are bans of rules that the store learns of in a moment: how many, when the first and when the
    /// last of them was made.
    ahead: Option<(usize, u64, u64)>,
    /// The guard lives on, so that it can make up for what is owed.
    may_owe: bool,
    /// The last failure to record something; gone with the next success.
    failing: Option<String>,
    /// How often something could not be recorded.
    failures: u64,
    /// What was wrong with the files since the start.
    findings: Vec<String>,
    /// The store was made anew, and nobody was told so yet.
    is_remade: bool,
    /// What was asked of the store and could not be read.
    unrecalled: RefCell<Unrecalled>,
    /// Why a file of the chain cannot be closed, or a closed one be deleted or compressed.
    stuck: Option<String>,
    /// More closed files of the audit chain are to be deleted than were at once.
    is_retiring: bool,
    /// A closed file of the chain is being compressed.
    is_compressing: bool,
    watchers: Watchers,
}

impl Journal {
    /// Over what was opened. Until [`Self::live_on`] nothing may be owed.
    pub(super) fn new(store: BanStore, audit: AuditChain) -> Self {
        Self {
            store,
            audit,
            owed: VecDeque::new(),
            ahead: None,
            may_owe: false,
            failing: None,
            failures: 0,
            findings: Vec::new(),
            is_remade: false,
            unrecalled: RefCell::default(),
            stuck: None,
            is_retiring: false,
            is_compressing: false,
            watchers: Watchers::default(),
        }
    }

    /// Records a decision. It must not be done if that fails.
    pub(super) fn decide(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
        in_force: AllInForce<'_>,
    ) -> Result<(), Refused> {
        self.settle(vec![(event, members)], now, write, in_force)
    }

    /// Records a decision that cannot wait: the audit chain has it, the store learns of it with [`Self::catch_up`].
    pub(super) fn decide_ahead(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
        in_force: AllInForce<'_>,
    ) -> Result<(), Refused> {
        let records = vec![(event, members)];
        let is_well = self.may_owe && self.failing.is_none() && !self.store.stands_in();
        let ahead = self.ahead.map_or(0, |(many, _, _)| many);
        let has_room = self.owed.len() == ahead && ahead < AHEAD;
        if !is_well || !has_room || self.append(&records, now).is_err() {
            return self.settle(records, now, write, in_force);
        }
        self.owed.push_back(UnrecordedDecision { records: Vec::new(), unix_millis: now.unix_millis, write });
        let first = self.ahead.map_or(now.monotonic, |(_, first, _)| first);
        self.ahead = Some((self.owed.len(), first, now.monotonic));
        self.tell_watchers(&records, now);
        Ok(())
    }

    /// When the store is to learn of what is in force already: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) fn catch_up_at(&self) -> Option<u64> {
        self.ahead.map(|(_, first, last)| last.saturating_add(SETTLE).min(first.saturating_add(SETTLED)))
    }

    /// Has the store learn of what is in force already; also before anything else is recorded.
    pub(super) fn catch_up(&mut self, in_force: AllInForce<'_>) {
        if self.ahead.take().is_some() {
            self.pay(in_force);
        }
    }

    /// Records what is done whatever comes of it; why it is not recorded yet, if it is not.
    pub(super) fn decide_anyway(
        &mut self,
        records: Records,
        now: Now,
        write: Write,
        in_force: AllInForce<'_>,
    ) -> Option<String> {
        self.settle_with(records, now, write, true, in_force).unwrap_or_else(|refused| Some(refused.message))
    }

    /// Records what has happened anyway. A failure is told, and changes nothing.
    pub(super) fn tell(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        in_force: AllInForce<'_>,
    ) {
        if let Err(refused) = self.decide(event, now, members, nothing(), in_force) {
            tracing::error!(event, error = %refused, "a record could not be written");
        }
    }

    /// Records what the start has found and done; later, if it cannot be recorded now.
    pub(super) fn record(
        &mut self,
        event: &'static str,
        members: Map<String, Value>,
        now: Now,
        in_force: AllInForce<'_>,
    ) {
        if let Some(error) = self.decide_anyway(vec![(event, members)], now, nothing(), in_force) {
            tracing::error!(event, error, "a record could not be written: it is tried again");
        }
    }

    /// Records several lines of one decision, and what it changes, as one.
    pub(super) fn settle(
        &mut self,
        records: Records,
        now: Now,
        write: Write,
        in_force: AllInForce<'_>,
    ) -> Result<(), Refused> {
        self.settle_with(records, now, write, false, in_force).map(drop)
    }

    /// As [`Self::settle`]. Done `anyway`: why it is not recorded yet.
    fn settle_with(
        &mut self,
        records: Records,
        now: Now,
        write: Write,
        anyway: bool,
        in_force: AllInForce<'_>,
    ) -> Result<Option<String>, Refused> {
        self.catch_up(in_force);
        let mut failed = if self.owed.is_empty() {
            match self.write(&records, now, &write) {
                Ok(()) => {
                    self.failing = None;
                    return Ok(None);
                }
                Err(failed) => failed,
            }
        } else if self.failing.is_none() && self.owed.iter().all(|one| one.records.is_empty()) {
            Failed::Store(StoreError::Behind)
        } else {
            Failed::Still(self.failing.clone().unwrap_or_else(|| "earlier decisions are not recorded yet".to_owned()))
        };
        if let Failed::Store(error) = &failed
            && error.is_damage()
            && self.remake(&error.to_string(), now, in_force).is_ok()
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
                    self.owed.push_back(UnrecordedDecision {
                        records: Vec::new(),
                        unix_millis: now.unix_millis,
                        write,
                    });
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
            self.owed.push_back(UnrecordedDecision { records, unix_millis: now.unix_millis, write });
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
    pub(super) fn amend(
        &mut self,
        write: impl Fn(&StoreChange<'_>) -> Result<(), StoreError> + 'static,
        in_force: AllInForce<'_>,
    ) -> bool {
        self.catch_up(in_force);
        if !self.owed.is_empty() {
            let has_room = self.owed.len() < OWED;
            if has_room {
                self.owed.push_back(UnrecordedDecision { records: Vec::new(), unix_millis: 0, write: Box::new(write) });
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
                self.owed.push_back(UnrecordedDecision { records: Vec::new(), unix_millis: 0, write: Box::new(write) });
                return true;
            }
            Err(error) => self.fail(&error.to_string()),
            Ok(()) => {}
        }
        amended.is_ok()
    }

    fn fail(&mut self, text: &str) {
        if self.failing.is_none() {
            tracing::error!(error = text, "decisions cannot be recorded");
        }
        self.failures += 1;
        self.failing = Some(text.to_owned());
    }

    /// The store was made anew since this was asked last: what is not in force has to be saved again.
    pub(super) const fn take_remade(&mut self) -> bool {
        std::mem::replace(&mut self.is_remade, false)
    }

    /// The guard lives on from here: it makes up for what is owed, and waits for nobody who has locked the store.
    pub(super) fn live_on(&mut self) {
        self.may_owe = true;
        if let Err(error) = self.store.hurry() {
            tracing::warn!(%error, "a locked store is waited for");
        }
    }

    /// Whether what cannot be recorded now is made up for.
    pub(super) const fn may_owe(&self) -> bool {
        self.may_owe
    }

    /// Whether another process has locked the store, so that what can wait waits.
    pub(super) fn is_locked(&mut self, in_force: AllInForce<'_>) -> bool {
        self.catch_up(in_force);
        let is_behind = !self.owed.is_empty() && self.failing.is_none();
        self.may_owe && (is_behind || self.owed.is_empty() && self.store.change().is_err_and(|error| error.is_busy()))
    }

    /// Whether nothing can be recorded.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// What was recorded, for whoever reads. What is in force and the store does not know yet is not in it.
    pub(super) const fn store(&self) -> &BanStore {
        &self.store
    }

    /// A change of the store that nothing is decided by, as a whole. What was decided before comes first.
    pub(super) fn beside<T>(
        &mut self,
        write: impl FnOnce(&StoreChange<'_>) -> Result<T, StoreError>,
        in_force: AllInForce<'_>,
    ) -> Result<T, StoreError> {
        let was_remade = self.is_remade;
        self.catch_up(in_force);
        if self.is_remade && !was_remade {
            // What was written before as a part of the same whole is not in the new store.
            return Err(StoreError::Unwritable(MADE_ANEW.to_owned()));
        }
        if !self.owed.is_empty() {
            // Only a store that is locked is worth waiting for.
            return Err(self.failing.clone().map_or(StoreError::Behind, StoreError::Failing));
        }
        let anchor = self.audit.anchor();
        let change = self.store.change()?;
        let done = write(&change)?;
        change.commit(&anchor)?;
        Ok(done)
    }

    /// What was to be flushed is not on the disk.
    pub(super) fn not_flushed(&mut self, unflushed: Unflushed) {
        let error = self.audit.not_flushed(unflushed);
        self.fail(&format!("the audit chain cannot be flushed: {error}"));
    }

    /// Has the audit chain on the disk.
    pub(super) fn sync(&mut self) {
        if let Err(error) = self.audit.sync() {
            self.fail(&format!("the audit chain cannot be flushed: {error}"));
        }
    }

    /// Who is told of decisions.
    pub(super) const fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// What an operator should know of the files.
    pub(super) fn findings(&self) -> &[String] {
        &self.findings
    }

    /// How many decisions are in force that the store does not know yet, for `status`.
    pub(super) fn owed_warning(&self) -> Option<String> {
        let many = self.owed.iter().filter(|one| one.records.is_empty()).count();
        // What is ahead is written in a moment; what fails for another reason is told of as that.
        (many > 0 && self.ahead.is_none() && self.failing.is_none()).then(|| {
            format!(
                "another process has locked the ban store: {} in force and in the audit chain, and written to it once it is \
                 free",
                counted(many, "change is", "changes are")
            )
        })
    }

    /// What keeps rules from banning anybody, for `why`.
    pub(super) fn shield(&self) -> Option<String> {
        let failing = self.failing.as_ref();
        failing.map(|failing| format!("rules ban nobody while decisions cannot be recorded: {failing}"))
    }

    /// What an operator should know of what cannot be recorded.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let failures = self.failures;
        let failing = self.failing.as_ref().map(|failing| {
            format!(
                "decisions cannot be recorded, so nobody is banned; what an operator lifts is lifted ({failures} \
                 failures so far; it is tried every second): {failing}"
            )
        });
        let reads = self.unrecalled.borrow().warning().into_iter().chain(self.store.unread_warning());
        failing.into_iter().chain(self.owed_warning()).chain(self.stuck.clone()).chain(reads)
    }
}
