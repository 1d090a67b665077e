//! What kill -9 of the guard leaves at any moment: store, kernel maps and audit chain say the same, and each change is
//! there as a whole or not at all.
//!
//! `GATEWAY_FAULT_ROUNDS` is how often it is killed (`cargo xtask bench faults`); `GATEWAY_TEST_SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    ops::RangeInclusive,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use gateway::guard::control::{ControlAnswer, ControlRequest, client};
use gateway_common::source::{IPV6_PREFIX, Source};
use serde_json::Value;
use support::{
    daemon::Daemon,
    kernel_view,
    random::Random,
    report,
    settings::Settings,
    wait::pause,
    world::{World, pin_folder},
};

/// In the suite; a round takes about half a second.
const ROUNDS: u32 = 10;
/// How long the guard works before it is killed, at most.
const LONGEST: u64 = 250;

#[test]
fn killed_at_any_moment_nothing_is_half_done() {
    if !report::may_run("kill") {
        return;
    }
    let rounds = rounds();
    let world = World::new();
    let settings = Settings { guard: "max_bans = 4096\nmax_rules = 1024\n".to_owned(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let mut random = Random::new();
    let mut known = Known::default();
    let mut figures = Figures::default();
    let socket = world.folder.join("control.sock");
    for round in 1..=rounds {
        let lives = Duration::from_millis(random.below(LONGEST));
        let begun = thread::scope(|scope| {
            let work = scope.spawn(|| work(&socket, &mut known, &mut random, &mut figures));
            pause(lives);
            daemon.kill();
            work.join().unwrap()
        });
        let start = Instant::now();
        daemon.start_again();
        figures.restart(start.elapsed());

        let list = daemon.done(&["block", "list"]);
        let listed = listed(&list);
        let sources: BTreeSet<Source> = listed.keys().copied().collect();
        if sources != known.blocked {
            let after = begun.as_ref().map(|change| known.clone().with(change));
            assert_eq!(
                Some(&sources),
                after.as_ref().map(|known| &known.blocked),
                "round {round}: neither what was confirmed nor that and all of {begun:?}; {:?} were confirmed",
                known.blocked
            );
        }
        known.blocked = sources;
        known.allowed = allowed(&daemon.done(&["allow", "list"]));
        if begun.is_some() {
            figures.begun += 1;
        }
        agree(&world, &listed, round);
        let verified = daemon.cli(&["audit", "verify"]);
        assert_eq!(verified.json["valid"], true, "round {round}: {}", verified.json);
        let told = replay(&world.folder.join("state/audit.jsonl"));
        assert_eq!(told, listed, "round {round}: the audit chain tells of other bans than the store has");
        assert!(daemon.status()["warnings"].as_array().is_some_and(|warnings| {
            warnings.iter().all(|warning| !warning.as_str().unwrap().contains("repaired"))
        }));
    }
    let audit = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let undone = audit.lines().filter(|line| line.contains("\"undone\":[")).count();
    report::note(&format!("kill: {rounds} rounds, {}, {undone} between record and commit", figures.text(rounds)));
}

/// How often the guard is killed.
pub(crate) fn rounds() -> u32 {
    env::var("GATEWAY_FAULT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// What an operator does over and over.
#[derive(Clone, Debug)]
enum Change {
    Add(Source),
    Del(Source),
    Flush,
    Allow(Source),
    Disallow(Source),
}

/// What the guard has confirmed.
#[derive(Clone, Debug, Default)]
struct Known {
    blocked: BTreeSet<Source>,
    allowed: BTreeSet<Source>,
}

impl Known {
    fn with(mut self, change: &Change) -> Self {
        match change {
            Change::Add(source) => drop(self.blocked.insert(*source)),
            Change::Del(source) => drop(self.blocked.remove(source)),
            Change::Flush => self.blocked.clear(),
            Change::Allow(source) => {
                self.blocked.retain(|blocked| !source.covers(blocked));
                self.allowed.insert(*source);
            }
            Change::Disallow(source) => drop(self.allowed.remove(source)),
        }
        self
    }

    fn next(&self, random: &mut Random) -> Change {
        let number = |random: &mut Random, bound| u8::try_from(random.below(bound)).unwrap();
        match random.below(100) {
            0..50 => Change::Add(source(&format!("203.0.{}.{}", number(random, 4), number(random, 250)))),
            50..60 => Change::Add(source(&format!("2001:db8:{}::/64", number(random, 200)))),
            60..75 => Change::Add(source(&format!("198.{}.{}.0/24", number(random, 2), number(random, 100)))),
            75..90 => match self.blocked.iter().nth(usize::try_from(random.below(400)).unwrap()) {
                Some(blocked) => Change::Del(*blocked),
                None => Change::Add(source("192.0.2.0/28")),
            },
            90 => Change::Flush,
            91..95 => Change::Allow(source(&format!("203.0.{}.0/25", number(random, 4)))),
            _ => match self.allowed.first() {
                Some(allowed) => Change::Disallow(*allowed),
                None => Change::Allow(source("203.0.0.0/25")),
            },
        }
    }
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

/// Asks for one change after the other until nobody answers: the change that was not confirmed.
fn work(socket: &Path, known: &mut Known, random: &mut Random, figures: &mut Figures) -> Option<Change> {
    loop {
        let change = known.next(random);
        let request = match change.clone() {
            Change::Add(source) => ControlRequest::BlockAdd {
                source,
                seconds: Some(3_600),
                reason: "faults".to_owned(),
                shadow: false,
                confirm: None,
                force: false,
            },
            Change::Del(source) => ControlRequest::BlockDel { source },
            Change::Flush => ControlRequest::BlockFlush,
            Change::Allow(source) => ControlRequest::AllowAdd { source, reason: "faults".to_owned(), yes: false },
            Change::Disallow(source) => ControlRequest::AllowDel { source },
        };
        match client::ask(socket, &request) {
            Ok(ControlAnswer::Done { .. }) => {
                *known = std::mem::take(known).with(&change);
                figures.confirmed += 1;
            }
            // What is allowed is not blocked.
            Ok(ControlAnswer::Refused { code, .. }) if code == "allowlisted" => {}
            Ok(other) => panic!("{change:?}: {other:?}"),
            Err(client::Unreachable::Gone(_) | client::Unreachable::Missing(_)) => return None,
            Err(_broken_off) => return Some(change),
        }
    }
}

/// The kernel's maps hold what is listed, by the same ids, and nothing else.
#[track_caller]
fn agree(world: &World, listed: &BTreeMap<Source, u64>, round: u32) {
    let kernel = kernel_view::blocked(world);
    let exact = listed.iter().filter_map(|(source, id)| Some((source.key(IPV6_PREFIX)?.0, *id)));
    assert_eq!(kernel.exact, exact.collect(), "round {round}: the map of bans");
    let prefixes = listed.keys().filter(|source| source.key(IPV6_PREFIX).is_none());
    assert_eq!(kernel.prefixes, prefixes.map(ToString::to_string).collect(), "round {round}: the rules");
    assert!(pin_folder(&world.name).exists());
}

fn listed(list: &Value) -> BTreeMap<Source, u64> {
    let entries = list["entries"].as_array().unwrap();
    entries.iter().map(|entry| (source(entry["source"].as_str().unwrap()), entry["id"].as_u64().unwrap())).collect()
}

fn allowed(list: &Value) -> BTreeSet<Source> {
    let entries = list["entries"].as_array().unwrap();
    entries.iter().map(|entry| source(entry["source"].as_str().unwrap())).collect()
}

/// The bans in force by what the audit chain tells, read as anybody could read it.
fn replay(path: &Path) -> BTreeMap<Source, u64> {
    let text = fs::read_to_string(path).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let undone: Vec<RangeInclusive<u64>> = (records.iter())
        .filter_map(|record| Some(record["undone"][0].as_u64()?..=record["undone"][1].as_u64()?))
        .collect();
    let mut bans: BTreeMap<u64, Source> = BTreeMap::new();
    for record in &records {
        let seq = record["seq"].as_u64().unwrap();
        if undone.iter().any(|range| range.contains(&seq)) {
            continue;
        }
        match (record["event"].as_str().unwrap(), record["ban"].as_u64()) {
            ("ban", Some(ban)) => {
                if let Some(old) = record["replaces"].as_u64() {
                    bans.remove(&old);
                }
                bans.insert(ban, source(record["source"].as_str().unwrap()));
            }
            ("unban" | "expiry", Some(ban)) => drop(bans.remove(&ban)),
            ("flush", None) => bans.clear(),
            _ => {}
        }
    }
    bans.into_iter().map(|(id, source)| (source, id)).collect()
}

/// What happened over all rounds.
#[derive(Debug, Default)]
struct Figures {
    confirmed: u32,
    begun: u32,
    restarts: Duration,
    longest: Duration,
}

impl Figures {
    fn restart(&mut self, took: Duration) {
        self.restarts += took;
        self.longest = self.longest.max(took);
    }

    fn text(&self, rounds: u32) -> String {
        format!(
            "{} changes confirmed, {} rounds ended in the middle of one; a restart took {:?} on average, {:?} at most",
            self.confirmed,
            self.begun,
            self.restarts / rounds.max(1),
            self.longest
        )
    }
}
