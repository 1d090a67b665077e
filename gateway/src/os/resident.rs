//! How much memory this process has, as the kernel says.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// The file that tells it. Opened before a sandbox closes the file system.
pub(crate) struct Resident {
    statm: File,
    /// Bytes.
    page: u64,
}

impl Resident {
    /// Opens the file.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn open() -> io::Result<Self> {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
        Ok(Self { statm: File::open("/proc/self/statm")?, page })
    }

    /// Bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0)?;
        let pages = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()?.split(' ').nth(1)?.parse().ok());
        let pages: u64 = pages.ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages.saturating_mul(self.page))
    }
}
