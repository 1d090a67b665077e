//! `[validate]`: how strictly schemas are read.

/// What becomes of a `format` that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formats {
    /// It says something to readers, and nothing is checked.
    #[default]
    Annotate,
    /// The schema is refused.
    Strict,
}
