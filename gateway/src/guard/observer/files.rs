//! Opens the files in which the observer keeps what outlives it, which has no right to open any.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

/// Their folder, in the state folder.
const FOLDER: &str = "observer";

/// Their names. The observer writes two of a name by turns.
const NAMES: [&str; 4] = ["alerts.0", "alerts.1", "usual.0", "usual.1"];

/// Opens them, or makes them.
///
/// # Errors
/// The folder cannot be made, or something else is in the place of a file.
pub(crate) fn open(state_dir: &Path) -> io::Result<Vec<OwnedFd>> {
    let folder = state_dir.join(FOLDER);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // No link is followed, and no pipe waited for.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(folder.join(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{name} is no file")));
        }
        Ok(OwnedFd::from(file))
    };
    NAMES.into_iter().map(open).collect()
}
