//! Decides which of the things that are pinned are ours, opens them without a program, and takes them out of the kernel.
//!
//! *Invariant:* nothing is removed while a single thing lies among the pins that this program did not put there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, Map, MapData},
    programs::{
        links::{FdLink, LinkType, PinnedLink},
        loaded_programs,
    },
};
use gateway_common::maps::{LAYOUT, Limits, name};
use nix::net::if_::if_nametoindex;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{
    Attached, Kernel, KernelError, Laid, Parts, attach,
    bits::{Bits, Hashed},
    load, refused, sys,
    tries::Tries,
};
use crate::settings::guard::Settings;

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
struct Found {
    links: Vec<(PathBuf, PinnedAt)>,
    maps: Vec<(PathBuf, MapData)>,
    folders: Vec<PathBuf>,
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

fn unpin(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fault(path, format!("cannot be removed: {error}")))
        }
        _ => Ok(()),
    }
}

fn fault(path: &Path, reason: String) -> KernelError {
    KernelError::Pin { path: path.display().to_string(), reason }
}

fn foreign(path: &Path, what: &str) -> KernelError {
    fault(
        path,
        format!("{what}, so it is not the gateway's: nothing is removed. Move it elsewhere, or remove it by hand"),
    )
}

/// What of ours is pinned below `pin_dir`, folders from the innermost.
fn survey(pin_dir: &Path) -> Result<Found, KernelError> {
    let mut found = Found::default();
    if !pin_dir.exists() {
        return Ok(found);
    }
    let is_bpffs = statfs(pin_dir).is_ok_and(|there| there.filesystem_type() == BPF_FS_MAGIC);
    if !is_bpffs {
        return Err(foreign(pin_dir, "is on no BPF file system"));
    }
    for folder in entries(pin_dir)? {
        let named = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_layout = named.strip_prefix('v').is_some_and(|digits| digits.parse::<u32>().is_ok());
        if !folder.is_dir() || !(is_layout || folder == load::links(pin_dir)) {
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

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            KernelError::NotPermitted { what: format!("reading {}", folder.display()), source }
        }
        _ => fault(folder, source.to_string()),
    };
    let listed = fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

/// The link pinned at `path`, which must be of our program.
fn link(path: &Path) -> Result<PinnedAt, KernelError> {
    let named = path.file_name().unwrap_or_default().to_string_lossy();
    let (interface, native) =
        attach::pinned_name(&named).ok_or_else(|| foreign(path, "has a name that no link of it has"))?;
    let link: FdLink =
        PinnedLink::from_pin(path).map_err(|error| foreign(path, &format!("is no link ({error})")))?.into();
    let info = link.info().map_err(|error| fault(path, error.to_string()))?;
    if !matches!(info.link_type(), Ok(LinkType::Xdp)) {
        return Err(foreign(path, "is no link of XDP"));
    }
    let program = info.program_id();
    // Names can be read with rights only; the link's kind and its name must do where they are missing.
    let other = loaded_programs().flatten().find(|loaded| loaded.id() == program);
    if other.is_some_and(|loaded| loaded.name_as_str() != Some(load::PROGRAM)) {
        return Err(foreign(path, "holds another program"));
    }
    let in_force = sys::link_interface(path).map_err(|error| fault(path, error.to_string()))? != 0;
    Ok(PinnedAt { interface: interface.to_owned(), native, program, in_force })
}

impl Kernel {
    /// Opens what a guard has pinned, and makes nothing: for when none runs. What is attached stays as it is, and so
    /// does what is said to it about capacities.
    ///
    /// # Errors
    /// [`KernelError::Pin`] if maps of this program's layout are not pinned.
    pub fn open_pinned(settings: &Settings) -> Result<Self, KernelError> {
        let folder = settings.pin_dir.join(format!("v{LAYOUT}"));
        let links = pinned_links(&settings.pin_dir)?;
        let open = |name: &'static str| {
            let shape = load::shape(settings, name)?;
            let path = folder.join(name);
            let pinned = shape.pinned(&path)?.ok_or_else(|| fault(&path, "no map is pinned there".to_owned()))?;
            if !pinned.is_readable {
                return Err(fault(&path, "is no map of this program's layout".to_owned()));
            }
            let entries = pinned.entries;
            Ok((Map::from_map_data(pinned.map).map_err(refused(name, "opening"))?, entries))
        };
        let (bans, max_bans) = open(name::BANS)?;
        let bits = |name| Bits::adopt(name, open(name)?.0.try_into().map_err(refused(name, "opening"))?);
        let limits: Array<_, Laid<Limits>> = open(name::LIM)?.0.try_into().map_err(refused(name::LIM, "opening"))?;
        let Laid(in_force) = limits.get(&0, 0).map_err(refused(name::LIM, "reading limits"))?;
        let parts = Parts {
            bans,
            max_bans,
            ban_bits: bits(name::BANBITS)?,
            hashed: Hashed { seed: in_force.seed, mask: in_force.ban_bits },
            events: None,
            hits: open(name::HITS)?.0,
            limits,
            ports: open(name::PORTS)?.0,
            stats: open(name::STATS)?.0,
            rules4: Tries::open_pinned(name::RULES4, open(name::RULES4)?.0, bits(name::RULEBITS4)?, &folder)?,
            rules6: Tries::open_pinned(name::RULES6, open(name::RULES6)?.0, bits(name::RULEBITS6)?, &folder)?,
        };
        let mut kernel = Self::assemble(settings, parts, None)?;
        let attached = links.into_iter().filter(|at| at.in_force);
        let attached = attached.map(|at| Attached {
            index: if_nametoindex(&*at.interface).unwrap_or(0),
            name: at.interface,
            native: at.native,
            adopted: true,
            note: None,
        });
        kernel.interfaces = attached.collect();
        Ok(kernel)
    }

    /// Attaches where it is wanted and is not: where the interface was made or made anew, or somebody took the program
    /// off. The names of those where it had to, and what stands in the way of the others, a sentence each.
    pub fn reattach(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut again, mut failing) = (Vec::new(), Vec::new());
        let (Some(program), None) = (&mut self.program, &self.released) else { return (again, failing) };
        let folder = load::links(&self.pin_dir);
        let is_on = |name: &String| attach::is_attached(name, self.program_id);
        if !self.wanted.iter().all(is_on) {
            // A link that is held keeps its interface.
            self.held.release();
        }
        for name in &self.wanted {
            let is_on = attach::is_attached(name, self.program_id);
            if let Some(at) = self.interfaces.iter().position(|at| at.name == *name) {
                if is_on {
                    continue;
                }
                // Its interface is gone, has another name, or somebody took the program off.
                self.absent.push((self.interfaces.remove(at), self.links.remove(at)));
            }
            let before = self.absent.iter().position(|(at, _)| at.name == *name);
            let before = before.map(|at| self.absent.remove(at));
            let (attached, link) = match (before, attach::again(program, &folder, name, self.mode, is_on)) {
                (Some(same), Ok(None)) => same,
                (_, Ok(Some(new))) => {
                    again.push(name.clone());
                    new
                }
                (before, Err(error)) => {
                    failing.push(error.to_string());
                    self.absent.extend(before);
                    continue;
                }
                (None, Ok(None)) => continue,
            };
            self.interfaces.push(attached);
            self.links.push(link);
        }
        if !again.is_empty() || self.held.is_empty() {
            self.held.renew(&self.pin_dir);
        }
        match self.pin_again() {
            Ok(pinned) => again.extend(pinned),
            Err(error) => failing.push(error),
        }
        (again, failing)
    }

    /// Detaches from every interface and removes the pins: nothing is judged any more.
    ///
    /// # Errors
    /// [`KernelError::Pin`] if a pin cannot be removed, or one is not ours.
    pub fn detach(self) -> Result<(), KernelError> {
        // The last of descriptor and pin to go detaches.
        drop((self.links, self.absent, self.held));
        remove(&self.pin_dir).map(|_| ())
    }

    /// Takes links and pins out of the kernel and keeps what is open, so that [`Self::attach`] can undo it: no packet
    /// is judged meanwhile.
    ///
    /// # Errors
    /// As [`remove`].
    pub fn release(&mut self) -> Result<Removed, KernelError> {
        if self.released.is_some() {
            return Ok(Removed::default());
        }
        let found = survey(&self.pin_dir)?;
        for (path, _) in &found.links {
            unpin(path)?;
        }
        // The last of descriptor and pin to go detaches.
        self.links.clear();
        self.absent.clear();
        self.interfaces.clear();
        self.held.release();
        for (path, _) in &found.maps {
            unpin(path)?;
        }
        let removed = Removed { links: found.links.len(), maps: found.maps.len() };
        self.released = Some(found.maps);
        Ok(removed)
    }

    /// Undoes [`Self::release`]: pins the maps again and attaches wherever it is wanted. What stands in the way of an
    /// interface is told as by [`Self::reattach`].
    ///
    /// # Errors
    /// [`KernelError::Pin`].
    pub fn attach(&mut self) -> Result<(Vec<String>, Vec<String>), KernelError> {
        if let Some(maps) = self.released.take() {
            for (path, map) in &maps {
                if !path.exists()
                    && let Err(error) = map.pin(path)
                {
                    let failed = fault(path, format!("the map cannot be pinned again: {error}"));
                    self.released = Some(maps);
                    return Err(failed);
                }
            }
        }
        Ok(self.reattach())
    }

    /// Entries and capacity of the maps that can fill up: bans, rules of IPv4, rules of IPv6.
    #[must_use]
    pub fn usage(&self) -> [(&'static str, usize, u32); 3] {
        let rules = self.rules();
        let ipv4 = rules.iter().filter(|(source, _)| source.address().is_ipv4()).count();
        [
            (name::BANS, self.bans().len(), self.max_bans),
            (name::RULES4, ipv4, self.rules4.capacity()),
            (name::RULES6, rules.len() - ipv4, self.rules6.capacity()),
        ]
    }
}
