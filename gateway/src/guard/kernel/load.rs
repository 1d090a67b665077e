//! Loads the program: what is reused of an earlier guard's maps, and what is made anew.
//!
//! *Invariant:* a pinned map is used only if its type, sizes, capacity and flags are exactly those that this program
//! was compiled with: the kernel copies as many bytes as the map says, not as many as there is room for.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, MapType},
    programs::ProgramError,
};
use caps::CapSet;
use gateway_common::{
    maps::{ADVANCES, BUDGETS, EVENT_BYTES, KEPT, LAYOUT, SKETCH_CELLS, VERDICTS, name},
    presence::{RULE_BITS, ban_bits},
};
use nix::mount::{MsFlags, mount};

use super::{
    error::{KernelError, refused},
    held::{self, Hold},
    load::object::{Variant, program},
    sys,
};
use crate::settings::guard::{self, BPFFS};

pub(super) mod object;
pub(super) mod parts;

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/guard.bpf.o");

/// How a map must look to be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapShape {
    pub(super) name: &'static str,
    pub(super) kind: MapType,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

/// A map that is pinned where one is expected.
pub(super) struct Pinned {
    pub(super) map: MapData,
    pub(super) id: Option<u32>,
    /// It is exactly as expected.
    pub(super) fits: bool,
    /// It differs in its capacity alone: its entries can be read.
    pub(super) is_readable: bool,
    pub(super) entries: u32,
}

impl MapShape {
    /// What is pinned at `path`.
    pub(super) fn pinned(&self, path: &Path) -> Result<Option<Pinned>, KernelError> {
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(path).map_err(|error| KernelError::Pin {
            path: path.display().to_string(),
            reason: format!("not a map that can be opened ({error}): remove it"),
        })?;
        let info = map.info().map_err(refused(self.name, "inspecting"))?;
        let is_readable = info.map_type().ok() == Some(self.kind)
            && info.key_size() == self.key
            && info.value_size() == self.value
            && info.map_flags() == self.flags;
        let entries = info.max_entries();
        Ok(Some(Pinned {
            id: Some(info.id()),
            fits: is_readable && entries == self.entries,
            is_readable,
            entries,
            map,
        }))
    }

    /// Gives up what is pinned at `path`. A program that uses it keeps it.
    pub(super) fn unpin(&self, path: &Path) -> Result<(), KernelError> {
        fs::remove_file(path).map_err(|error| KernelError::Pin {
            path: path.display().to_string(),
            reason: format!("the map of another size cannot be removed: {error}"),
        })
    }
}

/// How many counters of rules there are.
pub(super) const fn slots(settings: &guard::Settings) -> u32 {
    settings.max_rules.saturating_mul(2)
}

/// Every map that the program names.
fn shapes(settings: &guard::Settings) -> [MapShape; 20] {
    let shape = |name, kind, key, value, entries| MapShape { name, kind, key, value, entries, flags: 0 };
    [
        // First: where it is made anew, so are the limits, which say how long it is.
        shape(name::BANBITS, MapType::Array, 4, 8, ban_bits(settings.max_bans) / 64),
        shape(name::ALL, MapType::Array, 4, 8, 2),
        shape(name::BUDGETS, MapType::Hash, 8, 104, BUDGETS),
        shape(name::ADVANCES, MapType::PerCpuArray, 4, 32, ADVANCES),
        shape(name::BANS, MapType::Hash, 8, 32, settings.max_bans),
        shape(name::CPU, MapType::PerCpuArray, 4, 40, 1),
        shape(name::EVENTS, MapType::RingBuf, 0, 0, EVENT_BYTES),
        shape(name::GATES, MapType::PerCpuArray, 4, 16, VERDICTS),
        shape(name::HITS, MapType::Array, 4, 16, slots(settings)),
        shape(name::KEPT, MapType::Array, 4, 24, KEPT),
        shape(name::LIM, MapType::Array, 4, 144, 1),
        shape(name::PORTS, MapType::Array, 4, 4, 65_536),
        shape(name::RULEBITS4, MapType::Array, 4, 8, RULE_BITS / 64),
        shape(name::RULEBITS6, MapType::Array, 4, 8, RULE_BITS / 64),
        shape(name::RULES4, MapType::ArrayOfMaps, 4, 4, 1),
        shape(name::RULES6, MapType::ArrayOfMaps, 4, 4, 1),
        shape(name::SKETCH, MapType::PerCpuArray, 4, 4, 2 * SKETCH_CELLS),
        shape(name::SRCS, MapType::LruHash, 8, 24, settings.max_sources),
        shape(name::STATS, MapType::PerCpuArray, 4, 16, VERDICTS),
        shape(name::SYNS, MapType::Array, 4, 8, 1),
    ]
}

/// How the map of this name must look.
pub(super) fn shape(settings: &guard::Settings, name: &'static str) -> Result<MapShape, KernelError> {
    let named = shapes(settings).into_iter().find(|shape| shape.name == name);
    named.ok_or_else(|| KernelError::Object(format!("it has no map {name}")))
}

/// The program in the kernel, its maps pinned, and the bans of a map that had another capacity.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) folder: PathBuf,
    pub(super) carried: Vec<([u8; 8], [u8; 32])>,
    /// Parts of the program that the kernel refused.
    pub(super) left_out: Vec<String>,
    pub(super) hold: Option<Hold>,
}

/// Loads the program with the maps that are pinned, or new ones.
pub(super) fn load(object: &[u8], settings: &guard::Settings) -> Result<Loaded, KernelError> {
    let (folder, hold) = folder(&settings.pin_dir)?;
    let shapes = shapes(settings);
    let (mut carried, mut is_resized) = (Vec::new(), false);
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    for shape in &shapes {
        let path = folder.join(shape.name);
        if let Some(pinned) = shape.pinned(&path)?
            && (!pinned.fits || is_resized && shape.name == name::LIM)
        {
            // The program that is attached goes on with the maps that it has.
            is_resized |= shape.name == name::BANBITS;
            if shape.name == name::BANS && pinned.is_readable {
                use std::os::fd::AsFd as _;
                carried = sys::dump(pinned.map.fd().as_fd(), pinned.entries).map_err(|source| KernelError::Map {
                    map: shape.name,
                    operation: "reading",
                    source,
                })?;
                if carried.len() > shape.entries as usize {
                    return Err(KernelError::Full {
                        map: shape.name,
                        capacity: shape.entries,
                        setting: "guard.max_bans",
                    });
                }
            }
            shape.unpin(&path)?;
        }
        if shape.kind != MapType::ArrayOfMaps {
            loader.map_max_entries(shape.name, shape.entries);
        }
        loader.map_pin_path(shape.name, path);
    }
    let (mut ebpf, left_out) = parts::load(&mut loader, object)?;
    works_without_rights(&mut ebpf)?;
    Ok(Loaded { ebpf, folder, carried, left_out, hold })
}

/// Tries whether the kernel takes the program; nothing of it stays. What it would be loaded without, and why.
///
/// # Errors
/// As loading it.
pub fn trial() -> Result<Vec<String>, KernelError> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    let (mut ebpf, left_out) = parts::load(&mut loader, OBJECT)?;
    works_without_rights(&mut ebpf)?;
    Ok(left_out)
}

/// The guard gives up its rights once all is loaded. Before Linux 5.19, open maps are of no use to who has none.
fn works_without_rights(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let program = program(ebpf, Variant::Untraced)?;
    let probed = thread::scope(|scope| {
        let probe = scope.spawn(|| {
            // Of this thread alone, which ends.
            caps::clear(None, CapSet::Effective).map_err(|error| io::Error::other(error.to_string()))?;
            program.info().map_err(|error| match error {
                ProgramError::SyscallError(error) => error.io_error,
                error => io::Error::other(error.to_string()),
            })
        });
        probe.join().unwrap_or_else(|_panic| Err(io::Error::other("the attempt panicked")))
    });
    match probed {
        Ok(_info) => Ok(()),
        Err(error) => Err(KernelError::TooOld(error)),
    }
}

/// The folder that maps of this layout are pinned in, for this user and this process alone.
fn folder(pin_dir: &Path) -> Result<(PathBuf, Option<Hold>), KernelError> {
    bpffs(pin_dir)?;
    // Nothing is touched of what another gateway has pinned.
    let mut hold = held::hold(pin_dir)?;
    let folder = pin_dir.join(format!("v{LAYOUT}"));
    let links = links(pin_dir);
    for folder in [pin_dir, &folder, &links] {
        fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    KernelError::NotPermitted { what: format!("making {}", folder.display()), source }
                }
                kind => {
                    let help = match kind {
                        io::ErrorKind::ReadOnlyFilesystem => {
                            ": name guard.pin_dir in ReadWritePaths= of the systemd unit, or have it writable otherwise"
                        }
                        _ => "",
                    };
                    let reason = format!("the folder for pins cannot be made: {source}{help}");
                    KernelError::Pin { path: folder.display().to_string(), reason }
                }
            })?;
        if hold.is_none() {
            hold = held::hold(pin_dir)?;
        }
    }
    Ok((folder, hold))
}

/// The folder that links are pinned in, whatever the layout of the maps.
pub(super) fn links(pin_dir: &Path) -> PathBuf {
    pin_dir.join("links")
}

/// Makes sure that `pin_dir` is on a BPF file system; mounts one where it belongs if there is none.
fn bpffs(pin_dir: &Path) -> Result<(), KernelError> {
    if held::is_on_bpffs(pin_dir) {
        return Ok(());
    }
    let refuse = |source| KernelError::NoBpffs { path: pin_dir.display().to_string(), source };
    if !pin_dir.starts_with(BPFFS) {
        return Err(refuse(io::Error::other(format!("only {BPFFS} is mounted without being asked"))));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).map_err(|error| refuse(error.into()))?;
    if held::is_on_bpffs(pin_dir) {
        Ok(())
    } else {
        Err(refuse(io::Error::other("it is still none after mounting one")))
    }
}
