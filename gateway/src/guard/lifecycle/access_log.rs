//! Opens the access log, and makes the folders that the guard writes to.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;

/// Opens the access log for appending; without a path it is standard output.
pub(crate) fn open_log(path: Option<&Path>) -> Result<File> {
    use std::os::fd::AsFd as _;
    let Some(path) = path else {
        return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder, 0o755)?;
    }
    let open = OpenOptions::new().create(true).append(true).mode(0o640).open(path);
    open.with_context(|| format!("proxy.access_log: {} cannot be opened", path.display()))
}

/// Makes a folder with those around it.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    let is_root = geteuid().is_root();
    let hint = if is_root { "" } else { ": `gateway run` has to be started as root" };
    made.with_context(|| format!("{} cannot be made{hint}", path.display()))
}
