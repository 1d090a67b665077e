//! Decides what a test sees of the kernel's own counters, past everything that the gateway says about them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, Map, MapData};
use gateway_common::{
    maps::name,
    source::{IPV6_PREFIX, Source},
};

use crate::{
    wait::{SOON, until},
    world::{World, pin_folder},
};

/// The map of bans, opened where the gateway pinned it.
pub struct Bans(HashMap<MapData, u64, [u64; 4]>);

impl Bans {
    /// Opens the pinned map.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn open(world: &World) -> Self {
        let pins = pin_folder(&world.name);
        let path = until("the pinned map of bans", SOON, || find(&pins, name::BANS));
        let data = MapData::from_pin(path).expect("the pinned map");
        Self(HashMap::try_from(Map::HashMap(data)).expect("its layout"))
    }

    /// Packets dropped by the entry of `source`; 0 if there is none.
    ///
    /// # Panics
    /// If `source` is none that bans are made for.
    #[must_use]
    pub fn packets(&self, source: &str) -> u64 {
        let source: Source = source.parse().expect("a source");
        let key = source.key(IPV6_PREFIX).expect("an address or a client's prefix");
        self.0.get(&key.0, 0).map_or(0, |[_expires, _id, packets, _bytes]| packets)
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        if let Some(found) = find(&path, name) {
            return Some(found);
        }
    }
    None
}
