//! Decides what becomes of a file of the state folder that cannot be used: it is set aside, what can be read of it is
//! kept, and the gateway goes on.
//!
//! *Invariant:* nothing is deleted but the oldest of many files that were set aside. A link is followed: whoever can
//! make one in this folder is the guard's own user.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::guard::{
    audit::{self, Audit, Finding},
    store::{Salvage, Store, StoreError, beside},
};

/// How many files of one name are kept that were set aside.
const KEPT: usize = 5;

/// What stands between a file's name and the time at which it was set aside.
const ASIDE: &str = ".damaged-";

/// What SQLite keeps beside a store.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Store and audit chain as they could be opened.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) audit: Audit,
    pub(crate) findings: Vec<Finding>,
    /// The store does not know all that a guard before this one decided: what the kernel holds is taken over.
    pub(crate) is_behind: bool,
}

/// Opens what an earlier guard left in `state_dir`, or begins anew.
///
/// # Errors
/// There is neither a place nor memory for it.
pub(crate) fn open(state_dir: &Path) -> Result<State, StoreError> {
    let path = state_dir.join(audit::STORE);
    let mut findings = Vec::new();
    for odd in not_files(state_dir) {
        let text = match set_aside(&odd) {
            Ok(aside) => format!("{} is no regular file and was set aside as {}", odd.display(), aside.display()),
            // Opening it would wait for ever.
            Err(error) => {
                return Err(io::Error::other(format!("{} is no regular file: {error}", odd.display())).into());
            }
        };
        findings.push(Finding::new("store_set_aside", text));
    }
    let had_chain = fs::metadata(state_dir.join(audit::LOG)).is_ok_and(|found| found.len() > 0);
    let was_there = fs::symlink_metadata(&path).is_ok();
    let opened = Store::open(&path).and_then(|store| is_readable(&store).map(|()| store));
    let (store, is_behind) = match opened {
        Ok(store) if !was_there && had_chain => {
            let text = format!("{} is missing although there is an audit chain: it was made anew", path.display());
            findings.push(Finding::new("store_missing", text));
            (store, true)
        }
        Ok(store) => (store, false),
        Err(error) if error.is_damage() => match begin_anew(&path, &error) {
            Ok((store, text)) => {
                findings.push(Finding::new("store_set_aside", text));
                (store, true)
            }
            // It cannot even be renamed: it lies on a disk that cannot be written.
            Err(_unwritable) => (Store::stand_in(&path, &error)?, true),
        },
        Err(error) => (Store::stand_in(&path, &error)?, true),
    };
    let anchor = store.anchor()?;
    let is_behind = is_behind || anchor.is_none() && had_chain;
    let (audit, found) = Audit::open(state_dir, anchor.as_ref())?;
    findings.extend(found);
    Ok(State { store, audit, findings, is_behind })
}

/// What lies in the place of a file of the state folder and can be opened without an end: pipes, sockets, devices.
pub(crate) fn not_files(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let of_store = ["", BESIDE[0], BESIDE[1]].map(|ending| state_dir.join(format!("{}{ending}", audit::STORE)));
    let others = [audit::LOG, audit::KEY, audit::PUBLIC].map(|name| state_dir.join(name));
    let new = [audit::KEY, audit::PUBLIC].map(|name| state_dir.join(format!("{name}.new")));
    let all = of_store.into_iter().chain(others).chain(new);
    all.filter(|path| fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()))
}

/// Opens the same for a command while no guard runs: what would have to be mended is left for the guard to mend, and to
/// tell of.
///
/// # Errors
/// For people.
pub(crate) fn open_whole(state_dir: &Path) -> Result<State, String> {
    let path = state_dir.join(audit::STORE);
    let mend = "`gateway run` mends it: it takes over what the audit chain and the kernel hold";
    if let Some(odd) = not_files(state_dir).next() {
        return Err(format!("{} is no regular file: {mend}", odd.display()));
    }
    let had_chain = fs::metadata(state_dir.join(audit::LOG)).is_ok_and(|found| found.len() > 0);
    if had_chain && fs::symlink_metadata(&path).is_err() {
        return Err(format!("{} is missing although there is an audit chain: {mend}", path.display()));
    }
    let opened = Store::open(&path).and_then(|store| is_readable(&store).map(|()| store));
    let store =
        opened.map_err(|error| if error.is_damage() { format!("{error}: {mend}") } else { error.to_string() })?;
    let anchor = store.anchor().map_err(|error| error.to_string())?;
    if had_chain && anchor.is_none() {
        return Err(format!("{} is empty although there is an audit chain: {mend}", path.display()));
    }
    let (audit, findings) =
        Audit::open_whole(state_dir, anchor.as_ref()).map_err(|error| format!("the audit chain: {error}"))?;
    Ok(State { store, audit, findings, is_behind: false })
}

/// Whether everything that a guard begins with can be read. Lists aside: each is judged by itself.
fn is_readable(store: &Store) -> Result<(), StoreError> {
    store.in_force()?;
    store.allowed()?;
    store.pardons()?;
    store.promotions()?;
    store.anchor()?;
    Ok(())
}

/// Sets a store aside and makes a new one of what can be read of it; with what to tell of it.
///
/// # Errors
/// Nothing can be written there.
pub(crate) fn begin_anew(path: &Path, because: &StoreError) -> Result<(Store, String), StoreError> {
    let aside = set_aside(path)?;
    let salvage = Salvage::of(&aside);
    let mut store = Store::open(path)?;
    let change = store.change()?;
    if let Err(error) = salvage.write(&change) {
        drop(change);
        tracing::error!(%error, "what could be read of the damaged store could not be kept");
    } else {
        match &salvage.anchor {
            Some(anchor) => change.commit(anchor)?,
            None => change.commit_without_anchor()?,
        }
    }
    let kept = if salvage.is_empty() {
        "nothing could be read of it".to_owned()
    } else {
        let (bans, allows, lists) = (salvage.records.len(), salvage.allowed.len(), salvage.feeds.len());
        format!("{bans} bans, {allows} allowances and {lists} lists could be read of it and are kept")
    };
    Ok((store, format!("{} was set aside as {} ({because}); {kept}", path.display(), aside.display())))
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
