//! What an operator should know of the store and the audit chain.

use super::Journal;
use crate::text::counted::counted;

impl Journal {
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
