//! What was refused, left out or lost since the start, and what only a restart can change: an operator should know.

use crate::{
    guard::{bans::refused::Refused, control::LostStatus},
    os::{clock, program_log::sparse::Sparse},
};

/// What does not work as it should.
pub(in crate::guard::bans) struct Shortfalls {
    /// What only a restart can change.
    standing: Vec<String>,
    /// Blocks that were refused because there was no room.
    full: u64,
    full_told: Sparse,
    /// What shadow rules asked for over their pace or their share.
    unlisted: u64,
    lost: LostStatus,
}

impl Shortfalls {
    /// With what the start has found.
    pub(in crate::guard::bans) fn new(standing: Vec<String>) -> Self {
        Self { standing, full: 0, full_told: Sparse::default(), unlisted: 0, lost: LostStatus::default() }
    }

    /// What only a restart can change.
    pub(in crate::guard::bans) fn standing(&self) -> &[String] {
        &self.standing
    }

    /// More that only a restart can change.
    pub(in crate::guard::bans) fn add(&mut self, standing: impl IntoIterator<Item = String>) {
        self.standing.extend(standing);
    }

    /// Nothing is evicted to make room: who looks at the status must see that blocks are missing.
    pub(in crate::guard::bans) fn note_full<T>(&mut self, done: &Result<T, Refused>) {
        if let Err(refused) = done
            && refused.code == "full"
        {
            self.full += 1;
            if let Some(others) = self.full_told.is_due(clock::monotonic()) {
                tracing::error!(refused = self.full, others, "a block was refused: {}", refused.message);
            }
        }
    }

    /// A shadow rule asked for more than its pace or its share.
    pub(in crate::guard::bans) const fn note_unlisted(&mut self) {
        self.unlisted += 1;
    }

    /// So much was lost.
    pub(in crate::guard::bans) const fn note_lost(&mut self, lost: LostStatus) {
        self.lost.add(lost);
    }

    /// What was lost.
    pub(in crate::guard::bans) const fn lost(&self) -> LostStatus {
        self.lost
    }

    /// How many entries of shadow rules are not listed.
    #[cfg(test)]
    pub(in crate::guard::bans) const fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// What has no room, for `status`.
    pub(in crate::guard::bans) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.full > 0 {
            let text = "blocks were refused since the start because there was no room: remove some, or raise guard.max_bans or guard.max_rules";
            warnings.push(format!("{} {text}", self.full));
        }
        if self.unlisted > 0 {
            let text = "sources that shadow rules would have banned are not listed, over guard.max_bans_per_minute or an eighth of guard.max_bans";
            warnings.push(format!("{} {text} (since the start)", self.unlisted));
        }
        warnings
    }
}
