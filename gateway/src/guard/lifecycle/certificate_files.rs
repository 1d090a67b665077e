//! Reads the files that TLS is made from again: when one has changed and stopped changing. What they
//! then hold comes into force as a whole, or not at all. Polled, so that it works however files are replaced.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    clock::Now,
    config::{Disk, Files as _},
    diagnostic::Diagnostic,
    settings::proxy::Settings,
    tls::{self, Chain, Tickets, Tls},
};

/// Modification time, size and inode; `None`: it cannot be looked at.
type Stat = Option<(i64, i64, u64, u64)>;

/// What became of a look.
pub(crate) enum TlsNews {
    /// Files hold something else, which is good.
    Changed(Box<Settings>, Vec<(PathBuf, Vec<u8>)>),
    /// What is in force is what the files hold.
    Same,
    /// What the files hold cannot be used, and why.
    Unusable(String),
}

/// What is remembered of the files.
#[derive(Default)]
pub(crate) struct TlsWatcher {
    last: HashMap<PathBuf, Stat>,
    handled: Option<HashMap<PathBuf, Stat>>,
}

impl TlsWatcher {
    /// Looks at every file of `settings`, which are in force. `None`: nothing has changed, or is still changing.
    pub(crate) fn poll(&mut self, settings: &Settings, now: Now) -> Option<TlsNews> {
        let stats: HashMap<PathBuf, Stat> =
            settings.tls_files().map(|file| (file.path.clone(), stat(&file.path))).collect();
        let settled = self.last == stats;
        self.last.clone_from(&stats);
        if !settled || self.handled.as_ref() == Some(&stats) {
            return None;
        }
        self.handled = Some(stats);
        // All are compared with what is in force: what could not be used alone may be good with what changed now.
        Some(match read(settings, now) {
            Ok(None) => TlsNews::Same,
            Ok(Some((settings, files))) => TlsNews::Changed(Box::new(settings), files),
            Err(why) => TlsNews::Unusable(why),
        })
    }
}

/// `settings` with what the files hold now, and those that hold something else. `None`: none does.
#[expect(clippy::type_complexity, reason = "what changed, beside the whole that it makes")]
fn read(settings: &Settings, now: Now) -> Result<Option<(Settings, Vec<(PathBuf, Vec<u8>)>)>, String> {
    let mut new = settings.clone();
    let mut files: HashMap<PathBuf, Vec<u8>> = HashMap::new();
    for file in new.tls_files_mut() {
        let bytes = Disk.read(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))?;
        if bytes != file.bytes {
            files.insert(file.path.clone(), bytes.to_vec());
            file.bytes = bytes;
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    let tickets = Chain::new(now).and_then(Tickets::new).map(Arc::new).ok_or("the machine has no randomness")?;
    Tls::new(&new, &tickets, now).map_err(|diagnostics| told(&diagnostics))?;
    let over: Vec<Diagnostic> = tls::over(&new, now);
    let was_over = tls::over(settings, now);
    let fresh: Vec<Diagnostic> = over.into_iter().filter(|diagnostic| !was_over.contains(diagnostic)).collect();
    if !fresh.is_empty() {
        return Err(told(&fresh));
    }
    Ok(Some((new, files.into_iter().collect())))
}

fn told(diagnostics: &[Diagnostic]) -> String {
    let mut all: Vec<String> = diagnostics.iter().take(10).map(ToString::to_string).collect();
    if diagnostics.len() > all.len() {
        all.push(format!("and {} more", diagnostics.len() - all.len()));
    }
    all.join("; ")
}

fn stat(path: &Path) -> Stat {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}
