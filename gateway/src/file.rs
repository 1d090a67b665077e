//! A file that the configuration names, with its content.

use std::{fmt, path::PathBuf, sync::Arc};

/// A file that the configuration names, and what was in it when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As the configuration names it, relative paths resolved against the configuration's folder.
    pub path: PathBuf,
    /// Its content. May be a secret: never printed.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ({} bytes)", self.path, self.bytes.len())
    }
}
