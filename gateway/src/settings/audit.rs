//! The audit chain: how long its files get, which are kept, and how often it is signed.

use std::time::Duration;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `audit.max_size`: a file of at least so many bytes is closed, and another begun.
    pub max_size: u64,
    /// `audit.checkpoint`: how long a record stays unsigned at most.
    pub checkpoint: Duration,
    /// What of closed files is kept.
    pub keep: Keep,
}

/// Closed files beyond any of these are deleted, the oldest first. All `None`: none ever is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `audit.keep_files`.
    pub files: Option<usize>,
    /// `audit.keep_size`: bytes of all of them together.
    pub bytes: Option<u64>,
    /// `audit.keep_for`: since their last record.
    pub age: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_size: 64 << 20, checkpoint: Duration::from_secs(60), keep: Keep::default() }
    }
}
