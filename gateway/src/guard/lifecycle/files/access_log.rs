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
    config::{Config, Document},
    diagnostic::with_causes,
    guard::{bans, log_files},
    settings::access_log::{self, LogFile, Output},
};

/// An output that cannot be opened.
#[derive(Debug)]
pub(crate) struct ClosedLog {
    /// Which one, from 0.
    output: usize,
    /// Why.
    pub(crate) error: anyhow::Error,
}

impl ClosedLog {
    /// The setting that names it.
    pub(crate) fn key(&self, document: &Document) -> String {
        let table = format!("access_log.output[{}]", self.output);
        let path = format!("{table}.path");
        let is_there = |key: &String| document.names(key);
        [path, table].into_iter().find(is_there).unwrap_or_else(|| "proxy.access_log".to_owned())
    }
}

/// Opens the outputs that the proxy cannot open itself, in their order: files for appending, and standard output.
pub(crate) fn open_logs(settings: &access_log::Settings) -> Result<Vec<File>, ClosedLog> {
    let opened = settings.outputs.iter().enumerate().filter(|(_, output)| output.is_opened());
    let open = |output: &Output| if let Output::File(file) = output { open_log(file) } else { stdout() };
    opened.map(|(index, output)| open(output).map_err(|error| ClosedLog { output: index, error })).collect()
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
    opened.with_context(|| format!("{} cannot be opened", path.display()))
}

/// The folders of files that are rotated.
pub(crate) fn rotates_in(settings: &access_log::Settings) -> BTreeSet<PathBuf> {
    let rotated = settings.files().filter(|file| file.rotate.is_some());
    rotated.filter_map(|file| file.path.parent().map(Path::to_owned)).collect()
}

/// Whether the guard opens the same outputs of the access log for the proxy.
fn opens_the_same(old: &Config, new: &Config) -> bool {
    let opened = |config: &Config| {
        let outputs = config.proxy.access_log.outputs.iter().filter(|output| output.is_opened());
        outputs.map(Output::describe).collect::<Vec<_>>()
    };
    opened(old) == opened(new)
}

/// The guard may remove log files only where it could tell at its start that it would.
pub(in crate::guard::lifecycle) fn may_rotate(
    new: &Config,
    rotates_in: &BTreeSet<PathBuf>,
) -> Result<(), bans::Refused> {
    let denied = new.proxy.access_log.files().find(|file| {
        let is_granted = file.path.parent().is_some_and(|folder| rotates_in.contains(folder));
        file.rotate.is_some() && !is_granted
    });
    let Some(file) = denied else { return Ok(()) };
    let message = format!(
        "{} cannot be rotated: the running gateway removes files in the folders alone that it was started with: restart \
         it (bans stay in force), or write `rotate = false`",
        file.path.display()
    );
    Err(bans::Refused::new("access_log", message))
}

/// The files of a new access log, opened before anything comes into force; `None`: they are the same.
pub(in crate::guard::lifecycle) fn opened(old: &Config, new: &Config) -> Result<Option<Vec<File>>, bans::Refused> {
    if opens_the_same(old, new) {
        return Ok(None);
    }
    let closed = match open_logs(&new.proxy.access_log) {
        Ok(logs) => return Ok(Some(logs)),
        Err(closed) => closed,
    };
    let (key, error) = (closed.key(&new.document), closed.error);
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let hint = match denied.map(io::Error::kind).any(|kind| kind == io::ErrorKind::PermissionDenied) {
        true => ": the running gateway writes in the folders that it was started with: restart it (bans stay in force)",
        false => "",
    };
    let place = new.document.place(&key);
    Err(bans::Refused::new("access_log", format!("{place}: {key}: {}{hint}", with_causes(&error))))
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
