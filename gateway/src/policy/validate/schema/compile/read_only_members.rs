//! The members of a value that are `readOnly` or `writeOnly`.

use std::collections::BTreeSet;

/// Which members of a value are read-only.
#[derive(Debug, Default)]
pub(super) struct ReadOnlyMembers {
    /// Whatever else holds of the value.
    pub(super) all: BTreeSet<Box<str>>,
    /// By one alternative, and not by another.
    pub(super) some: BTreeSet<Box<str>>,
}

impl ReadOnlyMembers {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.some.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.all.extend(other.all);
        self.some.extend(other.some);
    }

    /// What alternatives have in common, and what only some of them say.
    pub(super) fn of_alternatives(branches: Vec<Self>) -> Self {
        let mut found = Self::default();
        for branch in &branches {
            found.some.extend(branch.all.iter().chain(&branch.some).cloned());
        }
        found.all =
            found.some.iter().filter(|name| branches.iter().all(|it| it.all.contains(*name))).cloned().collect();
        found.some.retain(|name| !found.all.contains(name));
        found
    }
}
