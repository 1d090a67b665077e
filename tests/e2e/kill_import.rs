//! What kill -9 of the guard leaves in the middle of an import: the list as it was, or as it should be, in the store, in
//! the kernel's maps and by the audit chain.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use gateway_common::source::{IPV6_PREFIX, Source};
use serde_json::Value;
use support::{
    daemon::Daemon,
    kernel_view,
    random::Random,
    report,
    settings::Settings,
    wait::{SOON, pause, until},
    world::World,
};

use crate::kill::rounds;

/// Each half of a list is of so many addresses.
const HALF: u32 = 2_000;

#[test]
fn killed_in_an_import_the_list_is_the_old_or_the_new_one() {
    if !report::may_run("kill_import") {
        return;
    }
    let world = World::new();
    let mut daemon = Daemon::start(&world, &Settings::default());
    let mut random = Random::new();
    // Two lists that share a half.
    let lists = [0, HALF].map(|from| {
        let mut text = String::new();
        for number in from..from + 2 * HALF {
            let [_, high, middle, low] = number.to_be_bytes();
            writeln!(text, "100.{}.{middle}.{low}", 64 + high).unwrap();
        }
        for number in from / HALF..from / HALF + 20 {
            writeln!(text, "198.51.{number}.0/24").unwrap();
        }
        let path = world.folder.join(format!("list-{from}"));
        fs::write(&path, &text).unwrap();
        (
            path.to_str().unwrap().to_owned(),
            text.lines().map(|line| line.parse().unwrap()).collect::<BTreeSet<Source>>(),
        )
    });
    let start = Instant::now();
    daemon.done(&["block", "import", &lists[0].0, "--feed", "faults"]);
    let whole = start.elapsed();
    let (mut current, mut kept, mut replaced, mut unconfirmed) = (0, 0, 0, 0);
    let rounds = rounds();
    for round in 1..=rounds {
        let next = 1 - current;
        // Longer than an import takes alone: the maps are filled after the answer, or before.
        let window = u64::try_from(whole.as_micros()).unwrap() * 3 / 2;
        let lives = Duration::from_micros(random.below(window));
        let told = thread::scope(|scope| {
            let config = daemon.config.to_str().unwrap().to_owned();
            let path = &lists[next].0;
            let import = scope.spawn(move || {
                support::daemon::gateway(&["--config", &config, "block", "import", path, "--feed", "faults"])
            });
            pause(lives);
            daemon.kill();
            import.join().unwrap()
        });
        daemon.start_again();
        let exported = daemon.done(&["block", "export", "--feed", "faults"]);
        let exported: BTreeSet<Source> = exported
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["value"].as_str().unwrap().parse().unwrap())
            .collect();
        let found = lists.iter().position(|list| list.1 == exported);
        let Some(found) = found else {
            panic!("round {round}: {} entries, which are neither list", exported.len());
        };
        assert!(told.code != 0 || found == next, "round {round}: the import was confirmed, and is not there");
        unconfirmed += u32::from(told.code != 0 && found == next);
        *if found == next { &mut replaced } else { &mut kept } += 1;
        current = found;
        in_kernel(&world, &exported, round);

        let verified = daemon.cli(&["audit", "verify"]);
        assert_eq!(verified.json["valid"], true, "round {round}: {}", verified.json);
        let list = fs::read(&lists[current].0).unwrap();
        let digest = HEXLOWER.encode(digest::digest(&digest::SHA256, &list).as_ref());
        assert_eq!(last_import(&world), Some(digest), "round {round}: the audit chain tells of another list");
    }
    report::note(&format!(
        "kill: {rounds} imports of {} lines ({whole:?} each), {kept} left the old list, {replaced} the new one, of \
         which {unconfirmed} unconfirmed",
        2 * HALF + 20
    ));
}

/// The kernel's maps hold exactly the list, at the latest when the guard has put it there.
#[track_caller]
fn in_kernel(world: &World, list: &BTreeSet<Source>, round: u32) {
    let exact: BTreeSet<u64> = list.iter().filter_map(|source| Some(source.key(IPV6_PREFIX)?.0)).collect();
    let prefixes: BTreeSet<String> =
        list.iter().filter(|source| source.key(IPV6_PREFIX).is_none()).map(ToString::to_string).collect();
    until(&format!("round {round}: the kernel to have what is listed"), SOON, || {
        let kernel = kernel_view::blocked(world);
        (kernel.exact.into_keys().collect::<BTreeSet<u64>>() == exact && kernel.prefixes == prefixes).then_some(())
    });
}

/// What the audit chain says was imported last.
fn last_import(world: &World) -> Option<String> {
    let text = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ahead = |seq: u64| {
        records.iter().any(|record| {
            let [first, last] = [0, 1].map(|end| record["ahead"][end].as_u64());
            first.is_some_and(|first| first <= seq) && last.is_some_and(|last| seq <= last)
        })
    };
    let mut imports = records.iter().filter(|record| record["event"] == "import");
    let last = imports.rfind(|record| !ahead(record["seq"].as_u64().unwrap()))?;
    last["digest"].as_str().map(str::to_owned)
}
