//! What stands for a file in the document that is made of a multipart body: its size, which schemas judge.

use crate::text::digits;

/// With it, the text is no number: a schema that takes any value would have it read as one.
const PREFIX: &str = "file:";

/// What stands for a file of so many bytes.
pub(in crate::policy::validate) fn of_file(bytes: usize) -> String {
    format!("{PREFIX}{bytes}")
}

/// How many bytes the file has that a text stands for.
pub(super) fn file_bytes(text: &str) -> Option<u64> {
    digits::decimal(text.strip_prefix(PREFIX)?)
}
