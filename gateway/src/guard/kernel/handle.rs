//! The kernel program, loaded and attached, and its maps: entered, removed and counted.

use std::{
    fmt, io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, IterableMap as _, Map, MapData, PerCpuArray},
    programs::links::FdLink,
};
use gateway_common::{
    maps::{Ban, Budget, Event, Hits, Limits, PacketCount, Rule, name, port},
    presence,
    source::{Source, SourceKey},
    verdict::Verdict,
};

use super::{
    attach::{self, Attached},
    error::{KernelError, refused},
    events::Events,
    held::HeldPins,
    host, load,
    load::object::{self, Laid, Variant, map, read_ban, take},
    maps::{
        bits::{self, Bits},
        limits,
        tries::{self, Tries, errno},
    },
    sys,
    trace::Tracer,
};
use crate::settings::guard::{self, AttachMode};

/// The kernel program, loaded and attached, and its maps. Everything after [`Self::load`] works without any capability.
///
/// Dropping it leaves links and maps pinned: packets go on being judged. [`Self::detach`] removes both.
pub struct Kernel {
    pub(super) interfaces: Vec<Attached>,
    /// Open descriptors are the right to use what they are of.
    pub(super) links: Vec<FdLink>,
    /// Parts of the program that the kernel refused.
    pub(super) left_out: Vec<String>,
    /// Where it was attached and is not at the moment.
    pub(super) absent: Vec<(Attached, FdLink)>,
    /// `None`: opened from its pins; nothing can be attached.
    pub(super) program: Option<Ebpf>,
    /// Which of its programs is in force, and its number.
    pub(super) variant: Variant,
    pub(super) program_id: u32,
    /// `None`: the kernel refused the traced variant, or nothing can be attached.
    pub(super) tracer: Option<Tracer>,
    pub(super) mode: AttachMode,
    /// Where it is to be attached; [`Self::interfaces`] is where it is.
    pub(super) wanted: Vec<String>,
    /// Maps whose pins were given up together with the links, and where those were.
    pub(super) released: Option<Vec<(PathBuf, MapData)>>,
    pub(super) pin_dir: PathBuf,
    pub(super) held: HeldPins,
    pub(super) bans: HashMap<MapData, u64, Laid<Ban>>,
    pub(super) max_bans: u32,
    pub(super) budgets: HashMap<MapData, u64, Laid<Budget>>,
    pub(super) ban_bits: Bits,
    /// Bans that are gone, whose bits may still be set.
    pub(super) gone: u32,
    pub(super) hashed: bits::Hashed,
    /// `None`: opened from its pins.
    pub(super) events: Option<Events>,
    pub(super) hits: Array<MapData, Laid<Hits>>,
    pub(super) limits: Array<MapData, Laid<Limits>>,
    pub(super) ports: Array<MapData, u32>,
    pub(super) guarded: Vec<u16>,
    pub(super) stats: PerCpuArray<MapData, Laid<PacketCount>>,
    pub(super) rules4: Tries<4>,
    pub(super) rules6: Tries<16>,
}

/// The maps that this side uses.
pub(super) struct Maps {
    pub(super) bans: Map,
    pub(super) max_bans: u32,
    pub(super) budgets: Map,
    pub(super) ban_bits: Bits,
    pub(super) hashed: bits::Hashed,
    pub(super) events: Option<Events>,
    pub(super) hits: Map,
    pub(super) limits: Array<MapData, Laid<Limits>>,
    pub(super) ports: Map,
    pub(super) stats: Map,
    pub(super) rules4: Tries<4>,
    pub(super) rules6: Tries<16>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kernel").field("interfaces", &self.interfaces).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads the program, takes over what an earlier guard pinned, and attaches to every interface of the settings.
    ///
    /// Bans, rules and counters that are pinned go on; only those of a map whose capacity changed are counted anew (of
    /// these, bans and rules are carried over).
    ///
    /// # Errors
    /// Whatever keeps a single interface that is there from being guarded; nothing stays attached then that was not
    /// before. One that is not there is waited for: see [`Self::reattach`].
    pub fn load(settings: &guard::Settings, guarded_tcp_ports: &[u16]) -> Result<Self, KernelError> {
        Self::load_object(load::OBJECT, settings, guarded_tcp_ports)
    }

    /// As [`Self::load`], with another object: for tests of what becomes of one that the kernel refuses.
    ///
    /// # Errors
    /// As [`Self::load`].
    #[doc(hidden)]
    pub fn load_object(
        object: &[u8],
        settings: &guard::Settings,
        guarded_tcp_ports: &[u16],
    ) -> Result<Self, KernelError> {
        let load::Loaded { mut ebpf, folder, carried, left_out, hold } = load::load(object, settings)?;
        let bans = take(&mut ebpf, name::BANS)?;
        let limits: Array<_, Laid<Limits>> = map(&mut ebpf, name::LIM)?;
        let Laid(in_force) = limits.get(&0, 0).map_err(refused(name::LIM, "reading limits"))?;
        let hashed =
            bits::Hashed { seed: limits::seed(in_force.seed)?, mask: presence::ban_bits(settings.max_bans) - 1 };
        let banned = match &bans {
            Map::HashMap(data) => hashed.keys(data, settings.max_bans)?,
            _ => Vec::new(),
        };
        let maps = Maps {
            bans,
            max_bans: settings.max_bans,
            budgets: take(&mut ebpf, name::BUDGETS)?,
            ban_bits: Bits::open(name::BANBITS, map(&mut ebpf, name::BANBITS)?, banned.into_iter())?,
            hashed,
            events: Some(Events::open(take(&mut ebpf, name::EVENTS)?)?),
            hits: take(&mut ebpf, name::HITS)?,
            limits,
            ports: take(&mut ebpf, name::PORTS)?,
            stats: take(&mut ebpf, name::STATS)?,
            rules4: Tries::open(&mut ebpf, [name::RULES4, name::RULEBITS4], &folder, settings.max_rules)?,
            rules6: Tries::open(&mut ebpf, [name::RULES6, name::RULEBITS6], &folder, settings.max_rules)?,
        };
        let tracer = Tracer::open(&mut ebpf)?;
        let mut kernel = Self { left_out, tracer, ..Self::assemble(settings, maps, Some(ebpf))? };
        // Whoever gave them is gone, and they are given again where they are due.
        kernel.clear_budgets()?;
        let carried: Vec<_> =
            carried.iter().map(|(key, ban)| (SourceKey(u64::from_ne_bytes(*key)), read_ban(ban))).collect();
        kernel.ban_many(&carried)?;
        // Everything is in place before the first packet is judged by it.
        kernel.apply(settings, guarded_tcp_ports)?;
        let links = load::links(&settings.pin_dir);
        if let Some(program) = &mut kernel.program {
            (kernel.interfaces, kernel.links) = attach::attach(program, &links, &settings.interfaces, settings.mode)?;
        }
        host::remove_earlier(&settings.pin_dir);
        kernel.held.hold = hold;
        kernel.held.renew(&settings.pin_dir);
        Ok(kernel)
    }

    pub(super) fn assemble(
        settings: &guard::Settings,
        maps: Maps,
        mut program: Option<Ebpf>,
    ) -> Result<Self, KernelError> {
        let ports: Array<_, u32> = maps.ports.try_into().map_err(refused(name::PORTS, "opening"))?;
        let bits = sys::elements::<4>(ports.map().fd().as_fd(), ports.len());
        let bits = bits.map_err(|source| KernelError::Map { map: name::PORTS, operation: "reading", source })?;
        let guarded = (0..=u16::MAX).zip(bits).filter(|(_, bits)| *bits != [0; 4]).map(|(number, _)| number).collect();
        let program_id = match &mut program {
            Some(ebpf) => object::id(ebpf, Variant::Untraced)?,
            None => 0,
        };
        Ok(Self {
            interfaces: Vec::new(),
            links: Vec::new(),
            left_out: Vec::new(),
            absent: Vec::new(),
            pin_dir: settings.pin_dir.clone(),
            held: HeldPins::default(),
            bans: maps.bans.try_into().map_err(refused(name::BANS, "opening"))?,
            max_bans: maps.max_bans,
            budgets: maps.budgets.try_into().map_err(refused(name::BUDGETS, "opening"))?,
            ban_bits: maps.ban_bits,
            gone: 0,
            hashed: maps.hashed,
            events: maps.events,
            hits: maps.hits.try_into().map_err(refused(name::HITS, "opening"))?,
            limits: maps.limits,
            ports,
            guarded,
            stats: maps.stats.try_into().map_err(refused(name::STATS, "opening"))?,
            rules4: maps.rules4,
            rules6: maps.rules6,
            variant: Variant::Untraced,
            program_id,
            tracer: None,
            mode: settings.mode,
            wanted: settings.interfaces.clone(),
            released: None,
            program,
        })
    }

    /// Where the program is attached, in the order of the settings.
    #[must_use]
    pub fn interfaces(&self) -> &[Attached] {
        &self.interfaces
    }

    /// Parts of the program that the kernel refused and that are left out: what each means, and the kernel's reason.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Enters a ban. What was counted on an existing entry of the same id is kept, but for packets that are dropped in
    /// the very moment.
    ///
    /// # Errors
    /// [`KernelError::Full`]: nothing is evicted for it.
    pub fn ban(&mut self, key: SourceKey, ban: Ban) -> Result<(), KernelError> {
        let ban = self.find_ban(key).map_or(ban, |there| ban.counted_on(there));
        self.expect([key].into_iter())?;
        self.bans.insert(key.0, Laid(ban), 0).map_err(|error| match errno(&error) {
            Some(libc::E2BIG) => {
                KernelError::Full { map: name::BANS, capacity: self.max_bans, setting: "guard.max_bans" }
            }
            _ => refused(name::BANS, "adding a ban")(error),
        })
    }

    /// Makes packets of these keys be looked up in the map of bans: before an entry of theirs is made in it, or it is
    /// not found.
    pub(super) fn expect(&mut self, keys: impl Iterator<Item = SourceKey>) -> Result<(), KernelError> {
        let hashed = self.hashed;
        self.ban_bits.mark(keys.map(|key| hashed.bit(key)))
    }

    /// Lets packets of those who were once banned be looked up no more, once they are many.
    pub(super) fn forget(&mut self, gone: u32) -> Result<(), KernelError> {
        self.gone = self.gone.saturating_add(gone);
        if self.gone <= (self.max_bans / 4).max(1_024) {
            return Ok(());
        }
        let there = self.hashed.keys(self.bans.map(), self.max_bans)?;
        let budgets = self.budget_keys()?;
        self.gone = 0;
        let hashed = self.hashed;
        self.ban_bits.keep(there.into_iter().chain(budgets.into_iter().map(|key| hashed.bit(key))))
    }

    /// Removes a ban; what it was, with its counters.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn unban(&mut self, key: SourceKey) -> Result<Option<Ban>, KernelError> {
        let ban = self.find_ban(key);
        match self.bans.remove(&key.0) {
            Err(error) if errno(&error) != Some(libc::ENOENT) => Err(refused(name::BANS, "removing a ban")(error)),
            _ => {
                self.forget(1)?;
                Ok(ban)
            }
        }
    }

    /// The ban of a source, expired or not, with its counters.
    #[must_use]
    pub fn find_ban(&self, key: SourceKey) -> Option<Ban> {
        self.bans.get(&key.0, 0).ok().map(|Laid(ban)| ban)
    }

    /// Every ban, expired or not, with its counters.
    #[must_use]
    pub fn bans(&self) -> Vec<(SourceKey, Ban)> {
        let all = sys::dump(self.bans.map().fd().as_fd(), self.max_bans).unwrap_or_else(|error| {
            tracing::error!(%error, "bans cannot be read from the kernel");
            Vec::new()
        });
        all.into_iter().map(|(key, ban)| (SourceKey(u64::from_ne_bytes(key)), read_ban(&ban))).collect()
    }

    /// Enters or replaces the rule of a prefix.
    ///
    /// # Errors
    /// [`KernelError::Full`]: nothing is evicted for it.
    pub fn put_rule(&mut self, source: Source, rule: Rule) -> Result<(), KernelError> {
        match source.address() {
            IpAddr::V4(address) => self.rules4.put((address.octets(), source.length()), rule),
            IpAddr::V6(address) => self.rules6.put((address.octets(), source.length()), rule),
        }
    }

    /// Removes the rule of exactly this prefix, if there is one.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn remove_rule(&mut self, source: Source) -> Result<(), KernelError> {
        match source.address() {
            IpAddr::V4(address) => self.rules4.remove((address.octets(), source.length())),
            IpAddr::V6(address) => self.rules6.remove((address.octets(), source.length())),
        }
    }

    /// Every rule in force, both families.
    #[must_use]
    pub fn rules(&self) -> Vec<(Source, Rule)> {
        let failed = |error: &io::Error| tracing::error!(%error, "rules cannot be read from the kernel");
        let rules4 = self.rules4.all().inspect_err(failed).unwrap_or_default();
        let rules6 = self.rules6.all().inspect_err(failed).unwrap_or_default();
        tries::sources(rules4).chain(tries::sources(rules6)).collect()
    }

    /// Replaces all rules at once: no packet sees half of the old and half of the new.
    ///
    /// # Errors
    /// [`KernelError::Full`]; the old rules stay in force then.
    pub fn swap_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        let (mut rules4, mut rules6) = (Vec::new(), Vec::new());
        for (source, rule) in rules {
            match source.address() {
                IpAddr::V4(address) => rules4.push(((address.octets(), source.length()), *rule)),
                IpAddr::V6(address) => rules6.push(((address.octets(), source.length()), *rule)),
            }
        }
        self.rules4.check(rules4.len())?;
        self.rules6.check(rules6.len())?;
        self.rules4.swap(&rules4)?;
        self.rules6.swap(&rules6)
    }

    /// What the rules that count in `slot` dropped.
    #[must_use]
    pub fn hits(&self, slot: u32) -> Hits {
        self.hits.get(&slot, 0).map(|Laid(hits)| hits).unwrap_or_default()
    }

    /// Counts these slots from zero again, for other rules. Slots are numbered from 0 to below [`Self::slots`].
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn clear_hits(&mut self, slots: &[u32]) -> Result<(), KernelError> {
        let none = vec![Hits::default(); slots.len()];
        sys::enter(self.hits.map().fd().as_fd(), slots, &none).map_err(|(_, source)| KernelError::Map {
            map: name::HITS,
            operation: "clearing counters",
            source,
        })
    }

    /// How many slots there are; rules with a higher one are not counted.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.hits.len()
    }

    /// What happened to packets since the maps were made, summed over CPUs.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(Verdict, PacketCount)> {
        let sum = |sum: PacketCount, Laid(count): &Laid<PacketCount>| PacketCount {
            packets: sum.packets.saturating_add(count.packets),
            bytes: sum.bytes.saturating_add(count.bytes),
        };
        let of = |verdict: Verdict| {
            let cpus = self.stats.get(&(verdict as u32), 0);
            (verdict, cpus.map(|cpus| cpus.iter().fold(PacketCount::default(), sum)).unwrap_or_default())
        };
        Verdict::ALL.into_iter().map(of).collect()
    }

    /// Puts scope, limits and guarded ports into force. Capacities need a restart; for interfaces see [`Self::attach_also`].
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn apply(&mut self, settings: &guard::Settings, guarded_tcp_ports: &[u16]) -> Result<(), KernelError> {
        for number in guarded_tcp_ports {
            self.ports.set(u32::from(*number), port::TCP, 0).map_err(refused(name::PORTS, "guarding a port"))?;
        }
        for number in self.guarded.iter().filter(|number| !guarded_tcp_ports.contains(number)) {
            self.ports.set(u32::from(*number), 0, 0).map_err(refused(name::PORTS, "releasing a port"))?;
        }
        self.guarded = guarded_tcp_ports.to_vec();
        let limits = limits::of(settings, self.hashed);
        self.limits.set(0, Laid(limits), 0).map_err(refused(name::LIM, "setting limits"))
    }

    /// Puts new limits in force, for the ports that are guarded already.
    pub(crate) fn limit(&mut self, settings: &guard::Settings) -> Result<(), KernelError> {
        let ports = self.guarded.clone();
        self.apply(settings, &ports)
    }

    /// Samples of what was dropped or answered since the last call, oldest first, at most `most`. The kernel keeps some
    /// thousand, and tells of at most [`EVENTS_PER_SECOND`](gateway_common::maps::EVENTS_PER_SECOND) of a verdict on each CPU.
    pub fn events(&mut self, most: usize) -> Vec<Event> {
        self.events.as_mut().map(|events| events.take(most)).unwrap_or_default()
    }

    /// Readable while there are [`Self::events`]. `None`: there never are any.
    #[must_use]
    pub fn events_waiting(&self) -> Option<OwnedFd> {
        self.events.as_ref().and_then(|events| events.descriptor().ok())
    }
}
