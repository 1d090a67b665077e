//! The audit chain: how long its files get, which are kept, how often it is signed, and where its head is sent.

use std::{path::PathBuf, time::Duration};

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `audit.max_size`: a file of at least so many bytes is closed, and another begun.
    pub max_size: u64,
    /// `audit.checkpoint`: how long a record stays unsigned at most.
    pub checkpoint: Duration,
    /// What of closed files is kept.
    pub keep: Keep,
    /// `[[audit.anchor]]`.
    pub anchors: Vec<Anchor>,
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

/// `[[audit.anchor]]`: where checkpoints are sent, so that a cut tail and an older copy are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// `name`: in `status`, in warnings and in the name of files.
    pub name: String,
    /// What it is.
    pub target: Target,
    /// `every`: no more often than this; the newest checkpoint is sent.
    pub every: Duration,
}

/// What an anchor is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `file`: a line is appended to it.
    File(PathBuf),
}

impl Target {
    /// What `status` calls it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_size: 64 << 20, checkpoint: Duration::from_secs(60), keep: Keep::default(), anchors: Vec::new() }
    }
}
