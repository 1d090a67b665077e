//! The programs that are measured, and what their maps hold.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, MapData, PerCpuHashMap, PerCpuValues},
    programs::Xdp,
    util::nr_cpus,
};
use gateway::{
    guard::kernel::Kernel,
    settings::guard::{Settings, SourceLimit, SynCookies},
};
use gateway_common::{
    limit::Rate,
    maps::{Ban, LAYOUT, Limits, NEVER, Rule, name},
    source::{Source, SourceKey},
};
use support::guard_settings::guard_settings;

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../gateway/ebpf/guard.bpf.o");

/// Where banned addresses begin, each one after the other; xdp-filter has the first of them.
pub(crate) const BANNED: u32 = 0x0b00_0000;
/// Where denied prefixes begin: networks of 24 bits, one after the other. What lies before is not denied.
pub(crate) const DENIED: u32 = 0x4000_0100;
/// From here on nobody is known.
pub(crate) const UNKNOWN: u32 = 0x6000_0000;

/// How many exact entries fit: the default of `guard.max_bans`.
const MOST: u32 = 1 << 20;

/// Which limits are in force while something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budgets {
    /// None.
    Off,
    /// All, so generous that nobody is over them, and every packet is charged.
    Charged,
    /// As `Charged`, of a source that is below what is worth a budget.
    Quiet,
    /// Those of `examples/gateway.toml`.
    Usual,
    /// One packet an hour.
    Spent,
    /// One packet an hour of all sources together.
    AllSpent,
    /// The same; and connections that proved themselves have a lane of their own.
    AllSpentWithLane,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Laid(Limits);

// SAFETY: plain words without padding, valid whatever their bits.
unsafe impl Pod for Laid {}

/// The gateway's program with its maps as the daemon makes and fills them.
pub(crate) struct Guard {
    kernel: Kernel,
    ebpf: Ebpf,
    /// Another object, with the same maps.
    beside: Option<Ebpf>,
    limits: Array<MapData, Laid>,
    settings: Settings,
    in_force: Option<Budgets>,
    filled: u32,
    ruled: u32,
    pub(crate) loaded: Loaded,
}

/// What loading the program cost.
pub(crate) struct Loaded {
    /// Relocation, verification and translation, without making maps.
    pub(crate) time: Duration,
    pub(crate) verified_instructions: u32,
    pub(crate) jitted_bytes: u32,
}

impl Guard {
    pub(crate) fn load(beside: Option<&Path>) -> anyhow::Result<Self> {
        let settings = settings();
        let beside = beside.map(|path| fs::read(path).with_context(|| format!("{} cannot be read", path.display())));
        let beside = beside.transpose()?;
        // What an interrupted run left is of another process' limits.
        drop(fs::remove_dir_all(&settings.pin_dir));
        let mut kernel = Some(Kernel::load(&settings, &[443])?);
        let opened = Self::open(&settings, &mut kernel, beside.as_deref());
        if let (Err(_), Some(kernel)) = (&opened, kernel) {
            kernel.detach()?;
            drop(fs::remove_dir_all(&settings.pin_dir));
        }
        opened
    }

    fn open(settings: &Settings, kernel: &mut Option<Kernel>, beside: Option<&[u8]>) -> anyhow::Result<Self> {
        let pins = settings.pin_dir.join(format!("v{LAYOUT}"));
        let ebpf = open(OBJECT, &pins, settings.max_bans)?;
        let (ebpf, loaded) = ebpf;
        let beside = match beside {
            Some(object) => {
                let opened = open(object, &pins, settings.max_bans);
                Some(opened.context("the other object cannot be loaded: it must have the same layout of maps")?.0)
            }
            None => None,
        };
        let limits = aya::maps::Map::Array(MapData::from_pin(pins.join(name::LIM))?).try_into()?;
        let (kernel, settings) = (kernel.take().context("no kernel")?, settings.clone());
        Ok(Self { kernel, ebpf, beside, limits, settings, in_force: None, filled: 0, ruled: 0, loaded })
    }

    /// The program; or the other one.
    pub(crate) fn program(&self, other: bool) -> anyhow::Result<BorrowedFd<'_>> {
        let ebpf = if other { self.beside.as_ref().context("no other object")? } else { &self.ebpf };
        let program: &Xdp = ebpf.program("guard").context("no program")?.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    /// Enters exact entries until there are so many.
    pub(crate) fn ban(&mut self, until: u32) -> anyhow::Result<()> {
        let fresh: Vec<_> = (self.filled..until)
            .map(|number| (SourceKey::ipv4(BANNED + number), Ban { expires: NEVER - 1, id: 1, packets: 0, bytes: 0 }))
            .collect();
        self.kernel.ban_many(&fresh)?;
        self.filled = self.filled.max(until);
        Ok(())
    }

    /// Enters prefixes until there are so many.
    pub(crate) fn deny(&mut self, until: u32) -> anyhow::Result<()> {
        let network = |number: u32| Source::network(Ipv4Addr::from_bits(DENIED + number * 256).into(), 24);
        let rules: Vec<_> = (0..until)
            .filter_map(|number| Some((network(number)?, Rule::new(Rule::DENY, number % 1_024, NEVER - 1))))
            .collect();
        if until > self.ruled {
            self.kernel.swap_rules(&rules)?;
            self.ruled = until;
        }
        Ok(())
    }

    /// Puts limits in force.
    pub(crate) fn limit(&mut self, budgets: Budgets) -> anyhow::Result<()> {
        if self.in_force == Some(budgets) {
            return Ok(());
        }
        let limit = |per_second, burst| Some(SourceLimit { per_second, burst, shadow: false });
        let (packets, bytes, syns) = match budgets {
            Budgets::AllSpent | Budgets::AllSpentWithLane | Budgets::Off => (None, None, None),
            Budgets::Charged | Budgets::Quiet => {
                (limit(1_000_000_000, 1 << 30), limit(1 << 37, 1 << 37), limit(1_000_000_000, 1 << 30))
            }
            Budgets::Usual => (limit(20_000, 40_000), limit(64 << 20, 128 << 20), limit(200, 400)),
            Budgets::Spent => (limit(1, 1), limit(1 << 37, 1 << 37), limit(1_000_000_000, 1 << 30)),
        };
        self.settings.packet_limit = packets;
        self.settings.byte_limit = bytes;
        self.settings.syn_limit = syns;
        let all = Some(SynCookies { per_second: 1_000_000_000, burst: 1 << 30 });
        let is_off = matches!(budgets, Budgets::AllSpent | Budgets::AllSpentWithLane | Budgets::Off);
        self.settings.syn_cookies = if is_off { None } else { all };
        self.kernel.apply(&self.settings, &[443])?;
        let threshold = match budgets {
            Budgets::Charged => 1,
            Budgets::Quiet => u32::MAX,
            Budgets::AllSpent | Budgets::AllSpentWithLane | Budgets::Off | Budgets::Spent | Budgets::Usual => 0,
        };
        if threshold != 0 {
            let Laid(limits) = self.limits.get(&0, 0)?;
            self.limits.set(0, Laid(Limits { sketch_threshold: threshold, ..limits }), 0)?;
        }
        if matches!(budgets, Budgets::AllSpent | Budgets::AllSpentWithLane) {
            let rate = |rate: Option<Rate>| rate.context("a rate");
            let Laid(limits) = self.limits.get(&0, 0)?;
            let all_packets = rate(Rate::per(1, 3_600_000_000_000, 1))?;
            let fast_lane = match budgets {
                Budgets::AllSpentWithLane => rate(Rate::per_second(1_000_000_000, 1 << 30))?,
                _ => Rate::UNLIMITED,
            };
            self.limits.set(0, Laid(Limits { all_packets, fast_lane, ..limits }), 0)?;
        }
        self.in_force = Some(budgets);
        Ok(())
    }

    /// One source may send so many packets a second, and has its budget from the first one on.
    pub(crate) fn limit_one(&mut self, per_second: u64, burst: u64) -> anyhow::Result<()> {
        self.limit(Budgets::Off)?;
        self.settings.packet_limit = Some(SourceLimit { per_second, burst, shadow: false });
        self.kernel.apply(&self.settings, &[443])?;
        self.in_force = None;
        Ok(())
    }

    /// How many packets had this verdict so far.
    pub(crate) fn counted(&self, verdict: gateway_common::verdict::Verdict) -> u64 {
        self.kernel.verdicts().into_iter().find(|(of, _)| *of == verdict).map_or(0, |(_, count)| count.packets)
    }

    /// Removes what is pinned.
    pub(crate) fn remove(self) -> anyhow::Result<()> {
        let folder = self.settings.pin_dir.clone();
        self.kernel.detach()?;
        drop(fs::remove_dir_all(folder));
        Ok(())
    }
}

fn open(object: &[u8], pins: &Path, bans: u32) -> anyhow::Result<(Ebpf, Loaded)> {
    let mut loader = EbpfLoader::new();
    let names = fs::read_dir(pins)?.flatten().map(|pin| pin.file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    for name in &names {
        loader.map_pin_path(name.as_str(), pins.join(name));
    }
    let mut ebpf = loader.map_max_entries(name::BANS, bans).load(object)?;
    let program: &mut Xdp = ebpf.program_mut("guard").context("no program")?.try_into()?;
    let started = Instant::now();
    program.load()?;
    let time = started.elapsed();
    let info = program.info()?;
    let verified_instructions = info.verified_instruction_count().unwrap_or(0);
    Ok((ebpf, Loaded { time, verified_instructions, jitted_bytes: info.size_jitted() }))
}

/// As `examples/gateway.toml`, and on no interface.
fn settings() -> Settings {
    // Eight times the default of rules: as many as there are exact entries.
    Settings { max_bans: MOST, max_rules: MOST, ..guard_settings("/sys/fs/bpf/gateway-bench") }
}

/// One of xdp-filter's programs, with one source blocked.
pub(crate) struct Filter {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl Filter {
    /// The program of this name; `None`, and why, if it is not installed.
    pub(crate) fn load(name: &str) -> anyhow::Result<Result<Self, String>> {
        const FOLDERS: [&str; 3] = ["/usr/lib/x86_64-linux-gnu/bpf", "/usr/lib/aarch64-linux-gnu/bpf", "/usr/lib/bpf"];
        let found = FOLDERS.iter().map(|folder| Path::new(folder).join(format!("{name}.o"))).find(|path| path.exists());
        let Some(path) = found else {
            return Ok(Err(format!("xdp-filter's {name}.o is not installed (Debian: the package xdp-tools)")));
        };
        let pins = PathBuf::from(format!("/sys/fs/bpf/gateway-bench-{name}"));
        drop(fs::remove_dir_all(&pins));
        fs::create_dir_all(&pins)?;
        let mut ebpf = EbpfLoader::new().default_map_pin_directory(&pins).load_file(path)?;
        let program = ebpf.programs().next().map(|(name, _)| name.to_owned()).context("no program")?;
        let program: &mut Xdp = ebpf.program_mut(&program).context("no program")?.try_into()?;
        program.load()?;
        let mut filter = Self { ebpf, pins };
        filter.block(BANNED)?;
        Ok(Ok(filter))
    }

    pub(crate) fn program(&self) -> anyhow::Result<BorrowedFd<'_>> {
        let (_, program) = self.ebpf.programs().next().context("no program")?;
        let program: &Xdp = program.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    /// As `xdp-filter ip --mode src ADDRESS` does.
    fn block(&mut self, address: u32) -> anyhow::Result<()> {
        /// `MAP_FLAG_SRC`; the kernel's half counts hits above the flags.
        const SOURCE: u64 = 1;
        let map = self.ebpf.map_mut("filter_ipv4").context("no map of IPv4 addresses")?;
        let mut map: PerCpuHashMap<_, u32, u64> = map.try_into()?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let values = PerCpuValues::try_from(vec![SOURCE; cpus]).map_err(io::Error::other)?;
        map.insert(address.to_be(), values, 0)?;
        Ok(())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.pins));
    }
}

/// Says no early to whoever may not load programs.
pub(crate) fn may_load() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading BPF programs needs root");
    }
    Ok(())
}
