//! Finds what is pinned, tells whether it is ours, and takes it out of the kernel.
//!
//! *Invariant:* nothing is removed while a single thing lies among the pins that this program did not put there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::MapData,
    programs::{
        links::{FdLink, LinkType, PinnedLink},
        loaded_programs,
    },
};
use nix::net::if_::if_nametoindex;

use super::{
    attach::pinned_name,
    error::KernelError,
    held::{entries, fault, is_on_bpffs},
    load::{links, object::Variant},
    sys,
};

/// A link that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedAt {
    /// The interface that it was made for.
    pub interface: String,
    /// In the driver; else in the network stack.
    pub native: bool,
    /// The program's id.
    pub program: u32,
    /// Whether its interface is still there.
    pub in_force: bool,
}

/// Everything of ours below a folder of pins.
#[derive(Debug, Default)]
pub(super) struct FoundPins {
    pub(super) links: Vec<(PathBuf, PinnedAt)>,
    pub(super) maps: Vec<(PathBuf, MapData)>,
    pub(super) folders: Vec<PathBuf>,
}

/// What was removed from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links: so many interfaces are free.
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

/// The links that are pinned below `pin_dir`. Needs the rights to open them.
///
/// # Errors
/// [`KernelError::Pin`] where something is pinned that is not ours.
pub fn pinned_links(pin_dir: &Path) -> Result<Vec<PinnedAt>, KernelError> {
    Ok(survey(pin_dir)?.links.into_iter().map(|(_, at)| at).collect())
}

/// Whether anything is pinned below `pin_dir`, or may be, as it cannot be looked into.
#[must_use]
pub fn is_pinned(pin_dir: &Path) -> bool {
    let has_pins = |folder: &PathBuf| !folder.is_dir() || entries(folder).map_or(true, |pins| !pins.is_empty());
    match pin_dir.try_exists() {
        Ok(false) => false,
        Ok(true) => entries(pin_dir).map_or(true, |folders| folders.iter().any(has_pins)),
        Err(_denied) => true,
    }
}

/// The id of the XDP program on an interface, whoever's it is.
///
/// # Errors
/// There is no such interface, or the kernel does not say.
pub fn attached_program(interface: &str) -> io::Result<Option<u32>> {
    sys::attached_program(if_nametoindex(interface)?)
}

/// Removes every link and map below `pin_dir`, of whatever layout: for when no guard runs.
///
/// # Errors
/// [`KernelError::Pin`] where something is pinned that is not ours: nothing is removed then.
pub fn remove(pin_dir: &Path) -> Result<Removed, KernelError> {
    let found = survey(pin_dir)?;
    // Links first: no packet is judged by half of the maps.
    for path in found.links.iter().map(|(path, _)| path).chain(found.maps.iter().map(|(path, _)| path)) {
        unpin(path)?;
    }
    for folder in &found.folders {
        fs::remove_dir(folder).map_err(|error| fault(folder, format!("cannot be removed: {error}")))?;
    }
    Ok(Removed { links: found.links.len(), maps: found.maps.len() })
}

pub(super) fn unpin(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fault(path, format!("cannot be removed: {error}")))
        }
        _ => Ok(()),
    }
}

fn foreign(path: &Path, what: &str) -> KernelError {
    fault(
        path,
        format!("{what}, so it is not the gateway's: nothing is removed. Move it elsewhere, or remove it by hand"),
    )
}

/// What of ours is pinned below `pin_dir`, folders from the innermost.
pub(super) fn survey(pin_dir: &Path) -> Result<FoundPins, KernelError> {
    let mut found = FoundPins::default();
    if !pin_dir.exists() {
        return Ok(found);
    }
    if !is_on_bpffs(pin_dir) {
        return Err(foreign(pin_dir, "is on no BPF file system"));
    }
    for folder in entries(pin_dir)? {
        let named = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_layout = named.strip_prefix('v').is_some_and(|digits| digits.parse::<u32>().is_ok());
        if !folder.is_dir() || !(is_layout || folder == links(pin_dir)) {
            return Err(foreign(&folder, "is neither a folder of links nor one of maps"));
        }
        for path in entries(&folder)? {
            if is_layout {
                let map = MapData::from_pin(&path).map_err(|error| foreign(&path, &format!("is no map ({error})")))?;
                found.maps.push((path, map));
            } else {
                let at = link(&path)?;
                found.links.push((path, at));
            }
        }
        found.folders.push(folder);
    }
    found.folders.push(pin_dir.to_owned());
    Ok(found)
}

/// The link pinned at `path`, which must be of our program.
fn link(path: &Path) -> Result<PinnedAt, KernelError> {
    let named = path.file_name().unwrap_or_default().to_string_lossy();
    let (interface, native) = pinned_name(&named).ok_or_else(|| foreign(path, "has a name that no link of it has"))?;
    let link: FdLink =
        PinnedLink::from_pin(path).map_err(|error| foreign(path, &format!("is no link ({error})")))?.into();
    let info = link.info().map_err(|error| fault(path, error.to_string()))?;
    if !matches!(info.link_type(), Ok(LinkType::Xdp)) {
        return Err(foreign(path, "is no link of XDP"));
    }
    let program = info.program_id();
    // Names can be read with rights only; the link's kind and its name must do where they are missing.
    let other = loaded_programs().flatten().find(|loaded| loaded.id() == program);
    if other.is_some_and(|loaded| !loaded.name_as_str().is_some_and(Variant::is_one)) {
        return Err(foreign(path, "holds another program"));
    }
    let in_force = sys::link_interface(path).map_err(|error| fault(path, error.to_string()))? != 0;
    Ok(PinnedAt { interface: interface.to_owned(), native, program, in_force })
}
