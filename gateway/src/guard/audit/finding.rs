//! What was found wrong with files of the state folder, to be told and put right.

use super::redo::Redo;

/// What was found at the start and is put right or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// What the chain calls it.
    pub event: &'static str,
    /// What, as a sentence.
    pub text: String,
    /// Whether somebody must have changed the files; else a crash explains it.
    pub tampered: bool,
    /// The first and the last of the records that the store never heard of.
    pub ahead: Option<[u64; 2]>,
    /// The chain tells of it already: it is not recorded again.
    pub is_told: bool,
    /// What those tell of.
    pub(crate) redo: Redo,
}

impl AuditFinding {
    /// What is neither a crash nor somebody's doing.
    pub(crate) const fn new(event: &'static str, text: String) -> Self {
        Self { event, text, tampered: false, ahead: None, is_told: false, redo: Redo::new() }
    }

    pub(super) fn recovered(text: String, ahead: Option<[u64; 2]>, redo: Redo) -> Self {
        Self { ahead, redo, ..Self::new("chain_recovered", text) }
    }

    pub(super) fn broken(text: String) -> Self {
        Self { tampered: true, ..Self::new("chain_broken", text) }
    }
}
