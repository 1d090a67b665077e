//! Opens store and audit chain as an earlier guard left them. One that cannot be used is set aside, what can be read of it
//! is kept, and the gateway goes on.

use std::{fs, io, path::Path};

use crate::guard::{
    audit::{self, AuditChain, AuditFinding},
    state_files::{STORE, not_files, set_aside},
    store::{BanStore, Salvage, StoreError},
};

/// Store and audit chain as they could be opened.
pub(crate) struct OpenedState {
    pub(crate) store: BanStore,
    pub(crate) audit: AuditChain,
    pub(crate) findings: Vec<AuditFinding>,
    /// The store does not know all that a guard before this one decided: what the kernel holds is taken over.
    pub(crate) is_behind: bool,
}

/// Opens what an earlier guard left in `state_dir`, or begins anew.
///
/// # Errors
/// There is neither a place nor memory for it.
pub(crate) fn open(state_dir: &Path) -> Result<OpenedState, StoreError> {
    let path = state_dir.join(STORE);
    let mut findings = Vec::new();
    for odd in not_files(state_dir) {
        let text = match set_aside(&odd) {
            Ok(aside) => format!("{} is no regular file and was set aside as {}", odd.display(), aside.display()),
            // Opening it would wait for ever.
            Err(error) => {
                return Err(io::Error::other(format!("{} is no regular file: {error}", odd.display())).into());
            }
        };
        findings.push(AuditFinding::new("store_set_aside", text));
    }
    let had_chain = audit::has_records(state_dir);
    let was_there = fs::symlink_metadata(&path).is_ok();
    let opened = BanStore::open(&path).and_then(|store| is_readable(&store).map(|()| store));
    let (store, is_behind) = match opened {
        Ok(store) if !was_there && had_chain => {
            let text = format!("{} is missing although there is an audit chain: it was made anew", path.display());
            findings.push(AuditFinding::new("store_missing", text));
            (store, true)
        }
        Ok(store) => (store, false),
        Err(error) if error.is_damage() => match begin_anew(&path, &error) {
            Ok((store, text)) => {
                findings.push(AuditFinding::new("store_set_aside", text));
                (store, true)
            }
            // It cannot even be renamed: it lies on a disk that cannot be written.
            Err(_unwritable) => (BanStore::stand_in(&path, &error)?, true),
        },
        Err(error) => (BanStore::stand_in(&path, &error)?, true),
    };
    let anchor = store.anchor()?;
    let is_behind = is_behind || anchor.is_none() && had_chain;
    let (audit, found) = AuditChain::open(state_dir, anchor.as_ref())?;
    findings.extend(found);
    Ok(OpenedState { store, audit, findings, is_behind })
}

/// Opens the same for a command while no guard runs: what would have to be mended is left for the guard to mend, and to
/// tell of.
///
/// # Errors
/// For people.
pub(crate) fn open_whole(state_dir: &Path) -> Result<OpenedState, String> {
    let path = state_dir.join(STORE);
    let mend = "`gateway run` mends it: it takes over what the audit chain and the kernel hold";
    if let Some(odd) = not_files(state_dir).next() {
        return Err(format!("{} is no regular file: {mend}", odd.display()));
    }
    let had_chain = audit::has_records(state_dir);
    if had_chain && fs::symlink_metadata(&path).is_err() {
        return Err(format!("{} is missing although there is an audit chain: {mend}", path.display()));
    }
    let opened = BanStore::open(&path).and_then(|store| is_readable(&store).map(|()| store));
    let store =
        opened.map_err(|error| if error.is_damage() { format!("{error}: {mend}") } else { error.to_string() })?;
    let anchor = store.anchor().map_err(|error| error.to_string())?;
    if had_chain && anchor.is_none() {
        return Err(format!("{} is empty although there is an audit chain: {mend}", path.display()));
    }
    let (audit, findings) =
        AuditChain::open_whole(state_dir, anchor.as_ref()).map_err(|error| format!("the audit chain: {error}"))?;
    Ok(OpenedState { store, audit, findings, is_behind: false })
}

/// Whether everything that a guard begins with can be read. Lists aside: each is judged by itself.
fn is_readable(store: &BanStore) -> Result<(), StoreError> {
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
pub(crate) fn begin_anew(path: &Path, because: &StoreError) -> Result<(BanStore, String), StoreError> {
    let aside = set_aside(path)?;
    let salvage = Salvage::of(&aside);
    let mut store = BanStore::open(path)?;
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
    // With its anchor, the chain is read from there on alone.
    let lost = if salvage.lost_promotions && salvage.anchor.is_some() {
        "; what `gateway shadow promote` has promoted could not be read, and is in shadow again: promote it anew"
    } else {
        ""
    };
    let kept = if salvage.is_empty() {
        format!("nothing could be read of it{lost}")
    } else {
        let (bans, allows, lists) = (salvage.records.len(), salvage.allowed.len(), salvage.feeds.len());
        let promotions = salvage.promotions.len();
        format!(
            "{bans} bans, {allows} allowances, {promotions} promotions and {lists} lists could be read of it and are \
             kept{lost}"
        )
    };
    Ok((store, format!("{} was set aside as {} ({because}); {kept}", path.display(), aside.display())))
}
