//! Records the guard's decisions in its [`Journal`], which may ask what is in force to make the store anew.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    journal::{AllInForce, Records},
    *,
};
use crate::{
    anchor::SignedHead,
    guard::{
        audit::{Flush, Unflushed},
        store,
    },
};

impl Guard {
    /// Records a decision. It must not be done if that fails.
    pub(super) fn decide(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
    ) -> Result<(), Refused> {
        self.recording(|journal, in_force| journal.decide(event, now, members, write, in_force))
    }

    /// Records a decision that cannot wait: the store learns of it with [`Self::catch_up`].
    pub(super) fn decide_ahead(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
        write: Write,
    ) -> Result<(), Refused> {
        self.recording(|journal, in_force| journal.decide_ahead(event, now, members, write, in_force))
    }

    /// Records what is done whatever comes of it; why it is not recorded yet, if it is not.
    pub(super) fn decide_anyway(&mut self, records: Records, now: Now, write: Write) -> Option<String> {
        self.recording(|journal, in_force| journal.decide_anyway(records, now, write, in_force))
    }

    /// Records several lines of one decision, and what it changes, as one.
    pub(super) fn settle(&mut self, records: Records, now: Now, write: Write) -> Result<(), Refused> {
        self.recording(|journal, in_force| journal.settle(records, now, write, in_force))
    }

    /// Records what has happened anyway. A failure is told, and changes nothing.
    pub(crate) fn tell(&mut self, event: &'static str, now: Now, members: Map<String, Value>) {
        self.recording(|journal, in_force| journal.tell(event, now, members, in_force));
    }

    /// Records an operator's order that somebody else carries out. It must not be carried out if that fails.
    pub(crate) fn record_order(
        &mut self,
        event: &'static str,
        now: Now,
        members: Map<String, Value>,
    ) -> Result<(), Refused> {
        self.decide(event, now, members, nothing()).map_err(|refused| {
            let message = format!("nothing was changed: the audit chain cannot be written: {}", refused.message);
            Refused::new("not_recorded", message)
        })
    }

    /// Records what the store of credentials has decided; whether it could be recorded.
    pub(crate) fn record_of_others(&mut self, event: &'static str, now: Now, members: Map<String, Value>) -> bool {
        let recorded = self.decide(event, now, members, nothing());
        if let Err(refused) = &recorded {
            tracing::error!(event, error = %refused, "a record could not be written: it is tried again");
        }
        recorded.is_ok()
    }

    /// The number and the hash of the chain's newest record.
    pub(crate) fn chain_end(&self) -> (u64, String) {
        self.journal.chain_end()
    }

    /// Records what is done or was found whatever comes of the record; later, if it cannot be recorded now.
    pub(crate) fn record(&mut self, event: &'static str, members: Map<String, Value>, now: Now) {
        self.recording(|journal, in_force| journal.record(event, members, now, in_force));
    }

    /// Changes the store without a decision behind it; whether it could be.
    pub(super) fn amend(&mut self, write: impl Fn(&StoreChange<'_>) -> Result<(), StoreError> + 'static) -> bool {
        self.recording(|journal, in_force| journal.amend(write, in_force))
    }

    /// When log and store are to learn of what is in force already: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) fn catch_up_at(&self) -> Option<u64> {
        self.journal.catch_up_at().into_iter().chain(self.log_lines.due()).min()
    }

    /// Has log and store learn of what is in force already. The store does also before anything else is recorded.
    pub(crate) fn catch_up(&mut self) {
        self.log_lines.write();
        self.recording(Journal::catch_up);
    }

    /// Who is told of decisions.
    pub(crate) fn watchers(&self) -> Watchers {
        self.journal.watchers().clone()
    }

    /// What of the audit chain is to be brought to the disk.
    pub(crate) fn unflushed(&mut self) -> Option<Flush> {
        self.journal.unflushed()
    }

    /// A closed file of the audit chain that is to be compressed by somebody else, until [`Self::compressed`].
    pub(crate) fn compressible(&mut self) -> Option<PathBuf> {
        self.journal.compressible(&self.settings.audit)
    }

    /// A closed file of the audit chain was compressed, or could not be.
    pub(crate) fn compressed(&mut self, path: &Path, done: io::Result<()>) {
        self.journal.compressed(path, done);
    }

    /// What was to be flushed is not on the disk.
    pub(crate) fn not_flushed(&mut self, unflushed: Unflushed) {
        self.journal.not_flushed(unflushed);
    }

    /// Once a minute, and at the end: records what was refused, and what would have been. `refused` counts from the start.
    pub(crate) fn record_refusals(&mut self, refused: &BTreeMap<String, u64>, now: Now) {
        let verdicts = self.enforcer.path().verdicts().into_iter();
        let shadow = verdicts.filter(|(verdict, _)| verdict.name().starts_with("shadow"));
        let packets: Vec<_> = shadow.map(|(verdict, count)| (verdict.name(), count.packets)).collect();
        let records = self.security_log.take(refused, packets.into_iter());
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.settle(records, now, nothing()) {
            tracing::error!(%error, "what was refused in the last minute could not be recorded");
        }
    }

    /// The last checkpoint of the audit chain.
    pub(crate) fn signed_head(&self) -> Option<&SignedHead> {
        self.journal.signed_head()
    }

    /// Has another key sign the audit chain from now on.
    pub(super) fn rotate_key(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let public = self.recording(|journal, in_force| journal.rotate_key(actor, now, in_force))?;
        tracing::warn!(%actor, public, "another key signs the audit chain");
        Ok((
            format!("the audit chain is signed by {public} from now on: keep it where this machine cannot change it"),
            1,
        ))
    }

    /// Where the store is; `None`: nobody else may open it.
    pub(crate) fn store_path(&self) -> Option<PathBuf> {
        self.journal.store().checkpointed()
    }

    /// Has the audit chain on the disk.
    pub(crate) fn sync(&mut self) {
        self.journal.sync();
    }

    /// Gives the journal what it may have to ask for.
    pub(super) fn recording<T>(&mut self, record: impl FnOnce(&mut Journal, AllInForce<'_>) -> T) -> T {
        let Self { journal, ledger, enforcer, policy, feeds, settings, .. } = self;
        let done =
            record(journal, &|| everything(ledger, enforcer.prefixes(), policy, settings.safety.unban_grace, feeds));
        if self.journal.take_remade() {
            self.policy.good.save_again();
        }
        done
    }
}

/// All that is in force, for a store that does not know it.
fn everything(
    ledger: &Ledger,
    prefixes: &Prefixes,
    policy: &BanPolicy,
    unban_grace: std::time::Duration,
    feeds: &Feeds,
) -> Vec<Write> {
    let mut all: Vec<Write> = Vec::new();
    for record in ledger.records() {
        let record = record.clone();
        all.push(Box::new(move |change| change.keep(&record)));
    }
    for allow in prefixes.operators().cloned() {
        let AllowEntry { source, reason, actor } = allow;
        let allowed = store::AllowanceRecord { source, reason, actor };
        all.push(Box::new(move |change| change.allow(&allowed, 0)));
    }
    for (what, actor) in policy.promoted.clone() {
        let promotion = store::Promotion { what, actor, at: 0 };
        all.push(Box::new(move |change| change.promote(&promotion)));
    }
    for pardon in policy.pardons.stored(unban_grace) {
        all.push(Box::new(move |change| change.pardon(&pardon, 0, pardons::MOST)));
    }
    for (row, content) in feeds.rows() {
        all.push(Box::new(move |change| change.keep_feed(&row, &content)));
    }
    all
}
