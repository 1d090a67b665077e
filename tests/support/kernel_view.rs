//! The kernel's own maps as a test reads them, past everything that the gateway says about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use aya::{
    Pod,
    maps::{ArrayOfMaps, HashMap, LpmTrie, Map, MapData, lpm_trie::Key},
};
use gateway_common::{
    maps::{Rule, name},
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

/// Everything that the pinned maps block, past everything that the gateway says about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Ban ids by the key of their source.
    pub exact: BTreeMap<u64, u64>,
    /// Denied prefixes, as text.
    pub prefixes: BTreeSet<String>,
}

/// Reads the maps that the gateway of this world pinned.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn blocked(world: &World) -> Blocked {
    let bans = Bans::open(world);
    let exact = bans.0.iter().map(|entry| entry.expect("the map of bans")).map(|(key, [_expires, id, ..])| (key, id));
    let mut prefixes = denied::<4>(world, name::RULES4);
    prefixes.extend(denied::<16>(world, name::RULES6));
    Blocked { exact: exact.collect(), prefixes }
}

fn denied<const N: usize>(world: &World, name: &str) -> BTreeSet<String>
where
    [u8; N]: Pod + Into<IpAddr>,
{
    let path = find(&pin_folder(&world.name), name).expect("the pinned rules");
    let outer = Map::ArrayOfMaps(MapData::from_pin(path).expect("the pinned rules"));
    let outer: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; N], [u32; 4]>> = outer.try_into().expect("their layout");
    let rules = outer.get(&0, 0).expect("rules in force");
    let prefix = |key: Key<[u8; N]>| {
        let length = u8::try_from(key.prefix_len()).unwrap();
        Source::network(key.data().into(), length).expect("a prefix").to_string()
    };
    let all = rules.iter().map(|entry| entry.expect("the rules"));
    all.filter(|(_, [action, ..])| *action == Rule::DENY).map(|(key, _)| prefix(key)).collect()
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

/// Changes an IPv4 rule behind the gateway's back: `None` takes it away.
///
/// # Panics
/// If there are no rules, or the prefix is none.
pub fn tamper(world: &World, prefix: &str, rule: Option<Rule>) {
    let source: Source = prefix.parse().expect("a prefix");
    let IpAddr::V4(address) = source.address() else { panic!("{prefix} is not of IPv4") };
    let path = find(&pin_folder(&world.name), name::RULES4).expect("the pinned rules");
    let outer = Map::ArrayOfMaps(MapData::from_pin(path).expect("the pinned rules"));
    let outer: ArrayOfMaps<MapData, LpmTrie<MapData, [u8; 4], [u32; 4]>> = outer.try_into().expect("their layout");
    let mut rules = outer.get(&0, 0).expect("rules in force");
    let key = Key::new(u32::from(source.length()), address.octets());
    match rule {
        Some(rule) => rules.insert(&key, [rule.action, rule.slot, rule.expires_low, rule.expires_high], 0),
        None => rules.remove(&key),
    }
    .expect("to change a rule");
}

/// Pins the map of bans once more, where an earlier layout would have.
///
/// # Panics
/// If it cannot be.
#[must_use]
pub fn pin_as_earlier(world: &World) -> PathBuf {
    let folder = pin_folder(&world.name).join("v1");
    let path = find(&pin_folder(&world.name), name::BANS).expect("the pinned map of bans");
    fs::create_dir(&folder).unwrap();
    MapData::from_pin(path).expect("the pinned map").pin(folder.join(name::BANS)).unwrap();
    folder
}
