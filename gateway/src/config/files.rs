//! Decides where files that the configuration names are read from: the disk, or what the guard has read already.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Config;
use crate::message::Bundle;

/// The largest file that is read, in bytes. Far over any key set or schema; a wrong path must not fill the memory.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Where files come from.
pub trait Files {
    /// The whole content of `path`.
    ///
    /// # Errors
    /// As reading a file.
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;

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

    fn mode(&self, path: &Path) -> Option<u32> {
        Disk.mode(path)
    }
}

/// Reads through to other files and remembers what it read.
pub struct Recorder<'a> {
    files: &'a dyn Files,
    read: RefCell<BTreeMap<PathBuf, Arc<[u8]>>>,
}

impl<'a> Recorder<'a> {
    /// Remembers what is read from `files`.
    #[must_use]
    pub fn new(files: &'a dyn Files) -> Self {
        Self { files, read: RefCell::default() }
    }

    /// What a proxy needs to load the same `config` by [`Bundled`]. No bans in it yet.
    #[must_use]
    pub fn bundle(self, config: &Config) -> Bundle {
        let path = config.document.path().to_owned();
        let text = config.document.text().to_owned();
        let mut read = self.read.into_inner();
        read.remove(&path);
        let files = read.into_iter().map(|(path, content)| (path, content.to_vec())).collect();
        Bundle {
            path,
            text,
            files,
            bans: Vec::new(),
            allows: Vec::new(),
            probations: Vec::new(),
            tickets: None,
            promoted: Vec::new(),
        }
    }
}

impl Files for Recorder<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        let content = self.files.read(path)?;
        self.read.borrow_mut().insert(path.to_owned(), Arc::clone(&content));
        Ok(content)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.files.mode(path)
    }
}

/// What the guard sent: the proxy opens no file.
pub struct Bundled<'a>(pub &'a Bundle);

impl Files for Bundled<'_> {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        if path == self.0.path {
            return Ok(self.0.text.as_bytes().into());
        }
        // Sorted by [`Recorder::bundle`]; there may be thousands of certificates.
        let files = &self.0.files;
        let found = files.binary_search_by(|(name, _)| name.as_path().cmp(path)).ok();
        let (_, content) = found
            .and_then(|at| files.get(at))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not among the files that the guard sent"))?;
        Ok(content.as_slice().into())
    }
}
