//! What of the audit chain is to be brought to the disk, by another thread than the one that decides.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
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

/// The disk failed.
#[derive(Debug)]
pub(crate) struct Unflushed {
    pub(crate) error: io::Error,
    /// What is not done yet.
    pub(super) left: Flush,
}

impl Flush {
    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folder.is_none() && self.delete.is_empty()
    }

    /// Adds a file, unless it is there already: a disk that fails for long costs one descriptor for each file.
    pub(super) fn add(&mut self, file: File) {
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
        let new = identity(&file);
        if new.is_none() || self.files.iter().all(|there| identity(there) != new) {
            self.files.push(file);
        }
    }

    /// Adds what an earlier one has left undone.
    pub(super) fn merge(&mut self, left: Self) {
        left.files.into_iter().for_each(|file| self.add(file));
        self.folder = self.folder.take().or(left.folder);
        let later = std::mem::replace(&mut self.delete, left.delete);
        self.delete.extend(later);
    }

    /// Does it, and waits for the disk.
    ///
    /// # Errors
    /// The disk fails: nothing is deleted then, and what is left to do comes back.
    pub(crate) fn run(mut self) -> Result<(), Unflushed> {
        while let Some(file) = self.files.first() {
            if let Err(error) = file.sync_data() {
                return Err(Unflushed { error, left: self });
            }
            self.files.remove(0);
        }
        if let Some(Err(error)) = self.folder.as_ref().map(File::sync_all) {
            return Err(Unflushed { error, left: self });
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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_is_left_undone_is_done_with_the_next() {
        let path = std::env::temp_dir().join(format!("gateway-flush-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let file = || File::open(&path).unwrap();
        // A pipe cannot be flushed.
        let mut flush = Flush { folder: Some(file()), delete: vec![path.clone()], ..Flush::default() };
        flush.add(file());
        let same = File::from(OwnedFd::from(io::pipe().unwrap().0));
        flush.add(same.try_clone().unwrap());
        flush.add(same);
        assert_eq!(flush.files.len(), 2, "no file is in it twice");
        let Unflushed { left, .. } = flush.run().unwrap_err();
        assert_eq!((left.files.len(), left.folder.is_some(), left.delete.len()), (1, true, 1));
        assert!(path.exists(), "nothing is deleted before all is on the disk");
        let mut next = Flush { delete: vec![path.with_extension("later")], ..Flush::default() };
        next.add(file());
        next.merge(left);
        assert_eq!((next.files.len(), next.folder.is_some()), (2, true));
        assert_eq!(next.delete, [path.clone(), path.with_extension("later")]);
        next.files.pop();
        next.run().unwrap();
        assert!(!path.exists());
    }
}
