//! How much a process may tell.

/// The most bytes of a label's value; what is longer is cut.
pub const MAX_LABEL: usize = 200;

/// `text` as the value of a label: cut to [`MAX_LABEL`].
#[must_use]
pub fn label(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_LABEL)).unwrap_or_default().to_owned()
}

/// The most routes, upstreams and the like that are told by name. What is over it is counted as [`OTHER`].
pub const MAX_NAMES: usize = 2_000;

/// The most that one process may tell: series, where eight buckets of a histogram count as one.
pub const MAX_WEIGHT: usize = 50_000;

/// The label that stands for everything over [`MAX_NAMES`].
pub const OTHER: &str = "other";

/// The most traces in one message.
pub const MAX_TRACES: usize = 50;
