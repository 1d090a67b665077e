//! The configuration and its files as the guard sends them: the proxy opens no file.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;

use super::{Bundle, InForce};
use crate::{
    config::{Document, Files},
    os::clock,
};

impl Bundle {
    /// A configuration, and what was read for it. Nothing is in force yet.
    #[must_use]
    pub fn new(document: &Document, mut read: BTreeMap<PathBuf, Arc<[u8]>>) -> Self {
        read.remove(document.path());
        Self {
            number: clock::monotonic(),
            path: document.path().to_owned(),
            text: document.text().to_owned(),
            files: read.into_iter().map(|(path, content)| (path, content.to_vec())).collect(),
            in_force: InForce::default(),
            tickets: None,
            log_key: [0; 32],
            seed: None,
            keys: Vec::new(),
            is_first: false,
        }
    }

    /// Goes on with files that were renewed, as far as it has them.
    pub(crate) fn renew(&mut self, renewed: &[(PathBuf, Vec<u8>)]) {
        for (path, bytes) in renewed {
            if let Some((_, content)) = self.files.iter_mut().find(|(known, _)| known == path) {
                content.clone_from(bytes);
            }
        }
    }
}

/// Without what the files hold: private keys, passwords, a pepper.
impl std::fmt::Debug for Bundle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, path, text, files, .. } = self;
        write!(out, "Bundle({number}, {path:?}, {} bytes, {} files)", text.len(), files.len())
    }
}

/// The digest of a file's content: by this it is known whether it has changed.
pub(crate) fn file_digest(content: &[u8]) -> [u8; 32] {
    let mut found = [0; 32];
    for (byte, of) in found.iter_mut().zip(digest::digest(&digest::SHA256, content).as_ref()) {
        *byte = *of;
    }
    found
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

    /// Only what the guard has read is there.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let within = self.files.iter().map(|(path, _)| path).filter(|path| path.parent() == Some(folder));
        Ok(within.cloned().collect())
    }
}
