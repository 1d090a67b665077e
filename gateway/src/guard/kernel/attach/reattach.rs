//! Opens what is pinned without a program, and takes the program out of the kernel and puts it back.

use std::path::Path;

use aya::maps::{Array, Map};
use gateway_common::maps::{LAYOUT, Limits, name};
use nix::net::if_::if_nametoindex;

use crate::{
    guard::kernel::{
        attach::{self, Attached},
        error::{KernelError, refused},
        handle::{Kernel, Maps},
        held::{HeldPins, fault, hold, is_on_bpffs},
        load::{self, object::Laid},
        maps::{
            bits::{self, Bits},
            tries::Tries,
        },
        pins::{Removed, pinned_links, remove, survey, unpin},
    },
    settings::guard::{self, BPFFS},
};

impl Kernel {
    /// Opens what a guard has pinned, and makes nothing: for when none runs. What is attached stays as it is, and so
    /// does what is said to it about capacities.
    ///
    /// # Errors
    /// [`KernelError::Pin`] if maps of this program's layout are not pinned.
    pub fn open_pinned(settings: &guard::Settings) -> Result<Self, KernelError> {
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
        let maps = Maps {
            bans,
            max_bans,
            budgets: open(name::BUDGETS)?.0,
            ban_bits: bits(name::BANBITS)?,
            hashed: bits::Hashed { seed: in_force.seed, mask: in_force.ban_bits },
            events: None,
            hits: open(name::HITS)?.0,
            limits,
            ports: open(name::PORTS)?.0,
            stats: open(name::STATS)?.0,
            rules4: Tries::open_pinned(name::RULES4, open(name::RULES4)?.0, bits(name::RULEBITS4)?, &folder)?,
            rules6: Tries::open_pinned(name::RULES6, open(name::RULES6)?.0, bits(name::RULEBITS6)?, &folder)?,
        };
        let mut kernel = Self::assemble(settings, maps, None)?;
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
        let variant = self.variant;
        let (Some(program), None) = (&mut self.program, &self.released) else { return (again, failing) };
        let folder = load::links(&self.pin_dir);
        let program_id = self.program_id;
        let off: Vec<&String> = self.wanted.iter().filter(|name| !attach::is_attached(name, program_id)).collect();
        // A link that is held keeps its interface.
        self.held.release_some(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(attach::pinned_name);
            path.starts_with(&folder) && name.is_some_and(|(name, _)| off.iter().any(|off| **off == name))
        });
        // First: a link is pinned in a folder that may be gone.
        let pinned = pin_again(&mut self.held, &self.pin_dir);
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
            let (attached, link) = match (before, attach::again((program, variant), &folder, name, self.mode, is_on)) {
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
        // Where the pins are not to be found, what is held is all that can make them again.
        if pinned.is_ok() && (!again.is_empty() || self.held.is_empty()) {
            self.held.renew(&self.pin_dir);
        }
        match pinned {
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
        let (mut again, failing) = self.reattach();
        again.extend(self.pin_late()?);
        Ok((again, failing))
    }

    /// Pins the links that could not be pinned when they were made: those that are now.
    fn pin_late(&mut self) -> Result<Vec<String>, KernelError> {
        let (mode, variant, folder) = (self.mode, self.variant, load::links(&self.pin_dir));
        let Some(program) = &mut self.program else { return Ok(Vec::new()) };
        let mut done = Vec::new();
        for index in 0..self.interfaces.len() {
            if !self.interfaces.get(index).is_some_and(Attached::is_unpinned) {
                continue;
            }
            let (at, link) = (self.interfaces.remove(index), self.links.remove(index));
            let (at, link) = attach::pin_late((program, variant), &folder, at, link, mode)?;
            if !at.is_unpinned() {
                done.push(format!("{}, which is pinned again", at.name));
            }
            self.interfaces.insert(index, at);
            self.links.insert(index, link);
        }
        if !done.is_empty() {
            self.held.renew(&self.pin_dir);
        }
        Ok(done)
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

/// Pins again what somebody has removed: what was done, and what stands in the way.
fn pin_again(held: &mut HeldPins, pin_dir: &Path) -> Result<Option<String>, String> {
    let told = |error: &str, remedy: &str| {
        format!(
            "the pins in {} are gone and cannot be made again ({error}): if the guard ends, packets are dropped again \
             once the next one has started. {remedy}",
            pin_dir.display()
        )
    };
    if !is_on_bpffs(pin_dir) {
        let place = if pin_dir.starts_with(BPFFS) { Path::new(BPFFS) } else { pin_dir.parent().unwrap_or(pin_dir) };
        let remedy =
            format!("`mount -t bpf -o mode=0700 bpf {}`: they are made again within a second", place.display());
        return Err(told("no BPF file system is mounted there", &remedy));
    }
    let again = held.pin_again().map_err(|error| told(&error.to_string(), "Start the gateway anew"))?;
    if again == 0 {
        return Ok(None);
    }
    // The folder may be another one.
    held.hold = hold(pin_dir).ok().flatten().or(held.hold.take());
    Ok(Some(format!("{again} pins in {}", pin_dir.display())))
}
