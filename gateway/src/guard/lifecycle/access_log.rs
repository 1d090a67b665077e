//! Opens the access log, and makes the folders that the guard writes to.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;

use crate::{
    guard::log_files,
    settings::access_log::{LogFile, Output, Settings},
};

/// Opens the outputs that the proxy cannot open itself, in their order: files for appending, and standard output.
pub(crate) fn open_logs(settings: &Settings) -> Result<Vec<File>> {
    let opened = settings.outputs.iter().filter(|output| output.is_opened());
    opened.map(|output| if let Output::File(file) = output { open_log(file) } else { stdout() }).collect()
}

fn stdout() -> Result<File> {
    use std::os::fd::AsFd as _;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn open_log(file: &LogFile) -> Result<File> {
    let path = &file.path;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder, 0o755)?;
    }
    let opened = if file.rotate.is_some() { log_files::open_rotated(path) } else { log_files::open(path) };
    opened.with_context(|| format!("access log: {} cannot be opened", path.display()))
}

/// The folders of files that are rotated.
pub(crate) fn rotates_in(settings: &Settings) -> BTreeSet<PathBuf> {
    let rotated = settings.files().filter(|file| file.rotate.is_some());
    rotated.filter_map(|file| file.path.parent().map(Path::to_owned)).collect()
}

/// A key to hash principals by, until the guard ends.
pub(crate) fn key() -> [u8; 32] {
    let mut key = [0; 32];
    if aws_lc_rs::rand::fill(&mut key).is_err() {
        tracing::error!("the machine has no randomness: hashes of principals in the access log can be guessed");
    }
    key
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
