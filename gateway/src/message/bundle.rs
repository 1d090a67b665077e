//! The configuration and its files as the guard sends them: the proxy opens no file.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Bundle;
use crate::config::{Document, Files};

impl Bundle {
    /// A configuration, and what was read for it. No bans in it yet.
    #[must_use]
    pub fn new(document: &Document, mut read: BTreeMap<PathBuf, Arc<[u8]>>) -> Self {
        read.remove(document.path());
        Self {
            path: document.path().to_owned(),
            text: document.text().to_owned(),
            files: read.into_iter().map(|(path, content)| (path, content.to_vec())).collect(),
            bans: Vec::new(),
            allows: Vec::new(),
            probations: Vec::new(),
            tickets: None,
            promoted: Vec::new(),
            log_key: [0; 32],
        }
    }
}

impl Files for Bundle {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == self.path {
            return Ok(self.text.as_bytes().into());
        }
        // Sorted by [`Self::new`]; there may be thousands of certificates.
        let found = self.files.binary_search_by(|(name, _)| name.as_path().cmp(path)).ok();
        let (_, content) = found
            .and_then(|at| self.files.get(at))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not among the files that the guard sent"))?;
        Ok(content.as_slice().into())
    }
}
