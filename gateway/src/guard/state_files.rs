//! The files of the state folder: their names, who may change them, and how one that cannot be used is set aside.
//!
//! *Invariant:* nothing is deleted but the oldest of many files that were set aside. A link is followed: whoever can
//! make one in this folder is the guard's own user.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub(crate) mod json_file;
pub(crate) mod lock;
pub(crate) mod secret;
pub(crate) mod sqlite;

/// The audit chain, in the state folder.
pub const LOG: &str = "audit.jsonl";
/// The file that takes its place, while it is made.
pub(crate) const NEXT_LOG: &str = "audit.jsonl.new";
/// The key that signs checkpoints, PKCS#8; readable by the guard's user only.
pub const KEY: &str = "audit.key";
/// The public half, hexadecimal, for whoever verifies.
pub const PUBLIC: &str = "audit.pub";
/// The store, whose anchor the verification compares with.
pub const STORE: &str = "bans.db";

/// How many files of one name are kept that were set aside.
const KEPT: usize = 5;

/// What stands between a file's name and the time at which it was set aside.
const ASIDE: &str = ".damaged-";

/// What SQLite keeps beside a store.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Whether a gateway keeps its state in this folder, or did.
#[must_use]
pub fn is_state(folder: &Path) -> bool {
    [LOG, STORE, KEY].into_iter().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

/// What lies in the place of a file of the state folder and can be opened without an end: pipes, sockets, devices.
pub(crate) fn not_files(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let of_store = ["", BESIDE[0], BESIDE[1]].map(|ending| state_dir.join(format!("{}{ending}", STORE)));
    let others = [LOG, KEY, PUBLIC].map(|name| state_dir.join(name));
    let new = [KEY, PUBLIC].map(|name| state_dir.join(format!("{name}.new")));
    let all = of_store.into_iter().chain(others).chain(new);
    all.filter(|path| fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()))
}

/// The path of a file that SQLite keeps beside its own.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames a file, a folder or a link out of the way; to what.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S%.9fZ").to_string();
    let names = (0..100).map(|more| match more {
        0 => beside(path, &format!("{ASIDE}{stamp}")),
        more => beside(path, &format!("{ASIDE}{stamp}-{more}")),
    });
    let free = names.into_iter().find(|aside| fs::symlink_metadata(aside).is_err());
    let aside = free.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
    fs::rename(path, &aside)?;
    for ending in BESIDE {
        match fs::rename(beside(path, ending), beside(&aside, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    tracing::error!(file = %path.display(), aside = %aside.display(), "a file of the state folder is set aside");
    forget_oldest(path);
    Ok(aside)
}

/// Keeps the number of files that were set aside bounded.
fn forget_oldest(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let start = format!("{name}{ASIDE}");
    let is_one = |found: &String| found.starts_with(&start) && !BESIDE.iter().any(|ending| found.ends_with(ending));
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut aside: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_one).collect();
    // Times sort as text.
    aside.sort();
    for name in aside.iter().take(aside.len().saturating_sub(KEPT)) {
        let old = folder.join(name);
        let removed = if old.is_dir() { fs::remove_dir(&old) } else { fs::remove_file(&old) };
        if let Err(error) = removed {
            tracing::warn!(%error, file = name, "an old file that was set aside stays");
        }
        for ending in BESIDE {
            // Most have none.
            fs::remove_file(beside(&old, ending)).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_are_kept() {
        let folder = std::env::temp_dir().join(format!("gateway-aside-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("bans.db");
        let mut names = Vec::new();
        for number in 0..KEPT + 3 {
            fs::write(&path, number.to_string()).unwrap();
            fs::write(beside(&path, "-wal"), "wal").unwrap();
            names.push(set_aside(&path).unwrap());
        }
        let left: Vec<String> = names.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
        assert_eq!(left, ["3", "4", "5", "6", "7"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2 * KEPT);
        fs::remove_dir_all(&folder).unwrap();
    }
}
