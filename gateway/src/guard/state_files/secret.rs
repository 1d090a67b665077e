//! Secrets of the state folder: random bytes in a file that its owner alone may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use aws_lc_rs::rand;

use super::beside;

/// Makes a file of `N` random bytes: whole, or not at all.
///
/// # Errors
/// The folder cannot be written, or the machine has no randomness.
pub(crate) fn make<const N: usize>(path: &Path) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_unspecified| io::Error::other("the machine has no randomness"))?;
    let next = beside(path, ".new");
    // What a crash has left, whoever may read it.
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(bytes)
}
