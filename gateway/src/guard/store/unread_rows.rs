//! The rows of the ban store that could not be read.

use std::{cell::RefCell, collections::BTreeSet};

use super::error::StoreError;

/// How many are told apart.
const MOST: usize = 100;

/// What could not be read, each once.
#[derive(Debug, Default)]
pub(super) struct UnreadRows(pub(super) RefCell<BTreeSet<String>>);

impl UnreadRows {
    pub(super) fn note(&self, table: &str, error: &StoreError) {
        let what = format!("{table}: {error}");
        let mut known = self.0.borrow_mut();
        if known.len() < MOST && !known.contains(&what) {
            tracing::warn!("a row of the ban store is left out, {what}");
            known.insert(what);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
