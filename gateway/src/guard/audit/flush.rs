//! What of the audit chain is to be brought to the disk, by another thread than the one that decides.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

/// Files to flush, and then to delete.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    pub(super) files: Vec<File>,
    /// The folder, where files of it were renamed.
    pub(super) folder: Option<File>,
    /// Closed files that the chain says are deleted: once that is on the disk.
    pub(super) delete: Vec<PathBuf>,
}

impl Flush {
    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folder.is_none() && self.delete.is_empty()
    }

    /// Does it, and waits for the disk.
    ///
    /// # Errors
    /// The disk fails: nothing is deleted then.
    pub(crate) fn run(self) -> io::Result<()> {
        for file in self.files {
            file.sync_data()?;
        }
        if let Some(folder) = self.folder {
            folder.sync_all()?;
        }
        for path in self.delete {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %path.display(), "a closed file of the audit chain could not be deleted");
                }
                _ => tracing::info!(file = %path.display(), "a closed file of the audit chain was deleted by its age"),
            }
        }
        Ok(())
    }
}
