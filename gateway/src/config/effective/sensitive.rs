//! Values that may be secret: shown as they are in the file, or marked so that only their change can be told.

use serde_json::{Value, json};

/// The one key of an object that stands for a value that may be secret.
const SENSITIVE: &str = "(not shown)";

/// How values are written that may be secret, though the file holds them in the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Sensitive {
    /// As [`sensitive`] knows them, so that two can be compared.
    Marked,
    /// In the form of the file.
    Shown,
}

impl Sensitive {
    pub(super) fn show(self, value: impl Into<Value>) -> Value {
        match self {
            Self::Marked => json!({ SENSITIVE: value.into() }),
            Self::Shown => value.into(),
        }
    }
}

/// The value that was marked as one that may be secret.
pub(crate) fn sensitive(value: &Value) -> Option<&Value> {
    value.as_object().and_then(|object| object.get(SENSITIVE))
}
