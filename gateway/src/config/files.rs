//! Where files that the configuration names are read from: the disk, or what somebody has read already.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest file that is read, in bytes. Far over any key set or schema; a wrong path must not fill the memory.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The most files of one folder that are listed.
const MAX_FILES: usize = 10_000;

/// Where files come from.
pub trait Files {
    /// The whole content of `path`.
    ///
    /// # Errors
    /// As reading a file.
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;

    /// The files of `folder`, whatever is in them.
    ///
    /// # Errors
    /// As reading a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let _ = folder;
        Ok(Vec::new())
    }

    /// The permission bits of `path`, where it has any.
    fn mode(&self, path: &Path) -> Option<u32> {
        let _ = path;
        None
    }
}

/// The disk. Reads regular files of at most [`MAX_FILE_BYTES`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        // Asked before it is opened: opening a named pipe would wait for a writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut content = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        Ok(content.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.take(MAX_FILES);
        entries.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        Some(fs::metadata(path).ok()?.permissions().mode())
    }
}

/// The disk, for whoever wants to know what a configuration says without the right to read all that it names: a file that
/// may not be read is empty.
#[derive(Debug, Default)]
pub struct Permitted(RefCell<Vec<PathBuf>>);

impl Permitted {
    /// What could not be read.
    #[must_use]
    pub fn denied(self) -> Vec<PathBuf> {
        self.0.into_inner()
    }
}

impl Files for Permitted {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match Disk.read(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.0.borrow_mut().push(path.to_owned());
                Ok(Arc::default())
            }
            read => read,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        Disk.mode(path)
    }
}

/// Reads through to other files and remembers what it read.
pub struct RecordingFiles<'a> {
    files: &'a dyn Files,
    read: RefCell<BTreeMap<PathBuf, Arc<[u8]>>>,
}

impl<'a> RecordingFiles<'a> {
    /// Remembers what is read from `files`.
    #[must_use]
    pub fn new(files: &'a dyn Files) -> Self {
        Self { files, read: RefCell::default() }
    }

    /// What was read, by path.
    #[must_use]
    pub fn contents(self) -> BTreeMap<PathBuf, Arc<[u8]>> {
        self.read.into_inner()
    }
}

impl Files for RecordingFiles<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        let content = self.files.read(path)?;
        self.read.borrow_mut().insert(path.to_owned(), Arc::clone(&content));
        Ok(content)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.list(folder)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.files.mode(path)
    }
}
