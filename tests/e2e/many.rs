//! How long lists of many entries take from a file into the kernel, what they cost, and that nobody waits for them.
//!
//! `GATEWAY_FEED_ENTRIES` is how many (`cargo xtask bench feeds`); `GATEWAY_REPORT` names a file for the figures.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    io::{self, BufRead as _},
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use gateway::{
    config::{Config, Disk},
    guard::{
        control::{ControlAnswer, ControlRequest, client},
        kernel::Kernel,
    },
};
use gateway_common::{
    maps::{Ban, NEVER},
    source::{IPV6_PREFIX, Source, SourceKey},
};
use serde_json::{Map, Value, json};
use support::{
    daemon::Daemon,
    http1::Client,
    report,
    settings::Settings,
    wait::pause,
    world::{ATTACKER_V4, World, pin_folder},
};

/// In the suite.
const ENTRIES: u32 = 20_000;

/// The longest that a ban may wait while a list is loaded: beyond this it waited for the list. How long it waits where
/// nothing else runs is a figure, not a test.
const TIMEOUT: Duration = Duration::from_secs(10);

/// As many bans as a batch of the guard holds.
const BATCH: usize = 2_048;

fn entries() -> u32 {
    env::var("GATEWAY_FEED_ENTRIES").ok().and_then(|entries| entries.parse().ok()).unwrap_or(ENTRIES)
}

fn ipv4(number: u32) -> String {
    // Spread over what is nobody's own: 11.0.0.0/8 and on, every 64th address.
    Ipv4Addr::from_bits(0x0b00_0000 + number * 64 + number % 61).to_string()
}

fn ipv6(number: u32) -> String {
    Ipv6Addr::from_bits((0x2a00_0000_u128 << 96) | (u128::from(number) << 64)).to_string() + "/64"
}

fn network(number: u32) -> String {
    format!("{}/24", Ipv4Addr::from_bits(0x0b00_0000 + number * 256))
}

/// A kind of list: its name, how many lines of how many, and one of them.
type Kind = (&'static str, fn(u32) -> u32, fn(u32) -> String);

const KINDS: [Kind; 3] = [
    ("exact IPv4", |entries| entries, ipv4),
    ("exact IPv4 and IPv6", |entries| entries, |number| if number % 2 == 0 { ipv4(number) } else { ipv6(number) }),
    ("networks", |entries| entries.min(1 << 17), network),
];

#[test]
fn lists_of_many_entries_are_loaded_beside_everything_else() {
    if !report::may_run("many") {
        return;
    }
    let mut figures = Vec::new();
    for (name, count, line) in KINDS {
        figures.push(measure(name, count(entries()), line));
    }
    figures.push(map_alone(entries()));
    for figure in &figures {
        report::note(&format!("many: {}", text(figure)));
    }
    if let Some(path) = env::var_os("GATEWAY_REPORT") {
        fs::write(path, serde_json::to_vec(&figures).unwrap()).unwrap();
    }
}

fn text(figure: &Map<String, Value>) -> String {
    figure
        .iter()
        .map(|(name, value)| format!("{name} {}", value.to_string().trim_matches('"')))
        .collect::<Vec<_>>()
        .join(", ")
}

fn measure(name: &str, count: u32, line: fn(u32) -> String) -> Map<String, Value> {
    let mut figure = Map::new();
    let mut note = |what: &str, value: Value| drop(figure.insert(what.to_owned(), value));
    let world = World::new();
    let most = (count + count / 4).max(1_000);
    let guard = format!("max_bans = {most}\nmax_rules = {}\n", (1 << 17) + 1_024);
    let mut daemon = Daemon::start(&world, &Settings { guard, ..Settings::default() });
    let list = |name: &str, numbers: &mut dyn Iterator<Item = u32>| {
        let mut text = format!("{ATTACKER_V4}\n");
        numbers.for_each(|number| writeln!(text, "{}", line(number)).unwrap());
        let path = world.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = list("whole", &mut (0..count));
    // A tenth is others.
    let tenth = count / 10;
    let other = list("other", &mut (tenth..count + tenth));
    note("list", name.into());
    note("entries", (count + 1).into());
    note("guard_mib_before", mebibytes(resident(daemon.guard_pid())));
    note("maps_mib", mebibytes(maps(daemon.guard_pid())));

    for (what, path, added) in [("load", &whole, count + 1), ("change", &other, tenth), ("same", &other, 0)] {
        let (told, took, waits) = beside(&daemon, &world.folder, &["block", "import", path, "--feed", "many"]);
        assert_eq!(told["added"], json!(added), "{name}, {what}: {told}");
        assert!(waits.longest < TIMEOUT, "{name}, {what}: a block waited {:?}", waits.longest);
        note(&format!("{what}_seconds"), seconds(took));
        note(&format!("{what}_longest_wait_ms"), millis(waits.longest));
        note(&format!("{what}_blocks_meanwhile"), waits.count.into());
    }
    note("maps_mib_loaded", mebibytes(maps(daemon.guard_pid())));
    note("guard_mib_loaded", mebibytes(resident(daemon.guard_pid())));
    note("guard_mib_most", mebibytes(status_of(daemon.guard_pid(), "VmHWM:")));
    note("store_mib", mebibytes(size(&world.folder.join("state"))));

    let knocks = AtomicU32::new(0);
    let took = restart(&world, &mut daemon, &knocks);
    note("restart_seconds", seconds(took));
    note("knocks_dropped_meanwhile", knocks.into_inner().into());
    note("guard_mib_restarted", mebibytes(resident(daemon.guard_pid())));
    let status = daemon.status();
    assert_eq!(status["feeds"][0]["entries"], json!(count + 1), "{status}");
    assert!(!status["warnings"].to_string().contains("repaired"), "{status}");
    let (_, _, waits) = beside(&daemon, &world.folder, &["status"]);
    // Longer than the comparison with the kernel takes its turn.
    note("idle_longest_wait_ms", millis(waits.longest.max(idle(&world))));
    let (told, took, waits) = beside(&daemon, &world.folder, &["block", "flush", "--yes"]);
    assert!(told["changed"].as_u64() > Some(u64::from(count)), "{told}");
    note("flush_seconds", seconds(took));
    note("flush_longest_wait_ms", millis(waits.longest));
    figure
}

/// Batches into the map of bans by themselves.
fn map_alone(count: u32) -> Map<String, Value> {
    let world = World::new();
    support::pki::PKI.write(&world.folder);
    let path = world.folder.join("gateway.toml");
    let settings = Settings { guard: format!("max_bans = {count}\n"), ..Settings::default() };
    fs::write(&path, settings.text(&world.folder, &pin_folder(&world.name))).unwrap();
    let guard = Config::load(&path, &Disk).unwrap_or_else(|errors| panic!("{errors}")).guard;
    let (new, again) = world.gate.enter(|| {
        let mut kernel = Kernel::load(&guard, &[443]).unwrap();
        let keys: Vec<SourceKey> =
            (0..count).map(|number| ipv4(number).parse::<Source>().unwrap().key(IPV6_PREFIX).unwrap()).collect();
        let mut fill = |id| {
            let bans: Vec<_> =
                keys.iter().map(|key| (*key, Ban { expires: NEVER, id, packets: 0, bytes: 0 })).collect();
            let start = Instant::now();
            bans.chunks(BATCH).for_each(|some| kernel.ban_many(some).unwrap());
            start.elapsed()
        };
        let took = (fill(1), fill(2));
        kernel.detach().unwrap();
        took
    });
    let rate = |took: Duration| json!((f64::from(count) / took.as_secs_f64()).round());
    let mut figure = Map::new();
    for (name, value) in [
        ("list", json!("the map by itself")),
        ("entries", json!(count)),
        ("inserted_per_second", rate(new)),
        ("updated_per_second", rate(again)),
    ] {
        figure.insert(name.to_owned(), value);
    }
    figure
}

/// How long blocks that were made one by one waited.
struct Waits {
    longest: Duration,
    count: u32,
}

/// Runs a command, and makes and removes a block over and over meanwhile.
#[track_caller]
fn beside(daemon: &Daemon<'_>, folder: &Path, arguments: &[&str]) -> (Value, Duration, Waits) {
    let socket = folder.join("control.sock");
    let over = AtomicBool::new(false);
    let (told, took, waits) = thread::scope(|scope| {
        let waits = scope.spawn(|| block_until(&socket, || over.load(Ordering::Relaxed)));
        let start = Instant::now();
        let told = daemon.cli(arguments);
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        (told, took, waits.join().unwrap())
    });
    assert_eq!(told.code, 0, "{arguments:?}: {} {}", told.json, told.errors);
    (told.json, took, waits)
}

fn block_until(socket: &Path, over: impl Fn() -> bool) -> Waits {
    let source: Source = "203.0.113.9".parse().unwrap();
    let mut waits = Waits { longest: Duration::ZERO, count: 0 };
    while waits.count == 0 || !over() {
        let reason = String::from("many");
        let add =
            ControlRequest::BlockAdd { source, seconds: Some(60), reason, shadow: false, confirm: None, force: false };
        let start = Instant::now();
        let answer = client::ask(socket, &add).unwrap();
        waits.longest = waits.longest.max(start.elapsed());
        waits.count += 1;
        assert!(matches!(answer, ControlAnswer::Done { .. }), "{answer:?}");
        pause(Duration::from_millis(2));
    }
    waits
}

/// The comparison with the kernel comes every ten seconds: at full size it is waited for.
fn idle(world: &World) -> Duration {
    let long = Duration::from_secs(if entries() > ENTRIES { 12 } else { 1 });
    let start = Instant::now();
    block_until(&world.folder.join("control.sock"), || start.elapsed() > long).longest
}

/// kill -9 and a new guard, while a listed source goes on knocking.
fn restart(world: &World, daemon: &mut Daemon<'_>, knocks: &AtomicU32) -> Duration {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let attacker = Client::new(world, ATTACKER_V4);
            while !over.load(Ordering::Relaxed) {
                let answer = attacker.tcp(Duration::from_millis(20)).map(|_stream| ()).map_err(|error| error.kind());
                assert_eq!(answer, Err(io::ErrorKind::TimedOut), "a gap after {knocks:?} knocks");
                knocks.fetch_add(1, Ordering::Relaxed);
            }
        });
        daemon.kill();
        let start = Instant::now();
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| daemon.start_again()));
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        again.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        took
    })
}

fn status_of(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

fn resident(pid: u32) -> u64 {
    status_of(pid, "VmRSS:")
}

/// What the kernel charges for the maps that a process has open, each counted once.
fn maps(pid: u32) -> u64 {
    let mut charged = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let Ok(file) = fs::File::open(entry.path()) else { continue };
        let lines = io::BufReader::new(file).lines().map_while(Result::ok);
        let fields: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
            .collect();
        if let (Some(id), Some(bytes)) = (fields.get("map_id"), fields.get("memlock")) {
            charged.insert(id.clone(), bytes.parse::<u64>().unwrap());
        }
    }
    charged.values().sum()
}

fn size(folder: &Path) -> u64 {
    // What is taken away between the listing and the question has no size.
    fs::read_dir(folder).unwrap().flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn mebibytes(bytes: u64) -> Value {
    json!(bytes.div_ceil(1 << 20))
}

fn seconds(took: Duration) -> Value {
    json!((took.as_secs_f64() * 100.0).round() / 100.0)
}

fn millis(took: Duration) -> Value {
    json!((took.as_secs_f64() * 10_000.0).round() / 10.0)
}
