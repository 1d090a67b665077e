//! What is done after a ban, or a little at a time, so that no ban waits for it.

use rusqlite::Connection;

use super::*;

impl World {
    /// A look that began so many seconds after now has seen these operators.
    fn saw(&mut self, operators: &[&str], seconds: u64) {
        let operators = operators.iter().map(|text| (text.parse().unwrap(), safety::Protection::Operator)).collect();
        let (began, now) = (self.now.monotonic + seconds * SECOND, self.now);
        self.guard().saw(None, LoggedIn(operators), began, now);
    }

    fn verdict(&mut self, address: &str) -> String {
        self.why(address).verdict
    }
}

#[test]
fn whoever_logged_in_a_moment_before_a_ban_is_let_go() {
    let mut world = World::new("operator");
    for address in ["192.0.2.7", "192.0.2.8", "2001:db8:0:7::1"] {
        world.ask(address, "bad-tokens").unwrap();
    }
    assert!(world.guard().unproven_since().is_some());
    world.pass(1);
    world.now.monotonic -= SECOND;
    // What began before the ban proves nothing about it, and is not acted on.
    world.now.monotonic -= 1;
    world.saw(&["192.0.2.7", "2001:db8:0:7::1"], 0);
    world.now.monotonic += 1;
    assert!(world.guard().unproven_since().is_some());
    assert_eq!(world.verdict("192.0.2.7"), "blocked");
    world.saw(&["192.0.2.7", "2001:db8:0:7::1"], 1);
    assert!(world.guard().unproven_since().is_none());
    for (address, verdict) in [("192.0.2.7", "passed"), ("192.0.2.8", "blocked"), ("2001:db8:0:7::9", "passed")] {
        assert_eq!(world.verdict(address), verdict, "{address}");
    }
    let how = world.why("192.0.2.7").history[0].how.clone();
    assert_eq!(how, "taken back: operator_session, somebody is logged in from there");
    // Known by now, it is not banned in the first place.
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("operator_session"));
    assert!(world.guard().unproven_since().is_none());
    // What an operator insists on stays.
    world.saw(&[], 2);
    assert_eq!(world.add("192.0.2.7"), "done 1");
    world.saw(&["192.0.2.7"], 3);
    assert_eq!(world.verdict("192.0.2.7"), "blocked");
}

#[test]
fn many_bans_end_a_few_at_a_time() {
    let mut world = World::new("sweep");
    let settings = &mut world.guard().settings;
    (settings.max_bans, settings.max_bans_per_minute) = (1_000, 1_000);
    for number in 1..=50 {
        world.ask(&format!("192.0.2.{number}"), "bad-tokens").unwrap();
    }
    // One that ends early leaves nothing behind that could end another.
    assert_eq!(world.handle(ControlRequest::BlockDel { source: "192.0.2.50".parse().unwrap() }), "done 1");
    assert_eq!(world.add("192.0.2.50"), "done 1");
    world.pass(600);
    assert!(world.guard().has_work(), "all at once");
    for _ in 0..10 {
        let now = world.now;
        if world.guard().has_work() {
            world.guard().work(now);
        }
    }
    let left: Vec<Source> = world.guard().ledger.records().map(|record| record.source).collect();
    assert_eq!(left, ["192.0.2.50".parse().unwrap()]);
    assert!(!world.guard().has_work());
}

#[test]
fn the_store_learns_of_rules_bans_after_the_kernel_and_together() {
    let mut world = World::new("ahead");
    let stored = |world: &World| {
        let read = BanStore::read(&world.folder.join(state_files::STORE)).unwrap();
        read.in_force().unwrap().into_iter().map(|record| record.source.to_string()).collect::<Vec<_>>()
    };
    let began = world.now.monotonic;
    assert_eq!(world.guard().catch_up_at(), None);
    // The last counts, but the first not for ever.
    for (address, millis, due) in [("192.0.2.7", 0, 20), ("192.0.2.8", 240, 250)] {
        world.now.monotonic = began + millis * 1_000_000;
        world.ask(address, "bad-tokens").unwrap();
        assert_eq!(world.guard().catch_up_at(), Some(began + due * 1_000_000), "{address}");
    }
    assert_eq!(world.guard().notices().len(), 2, "in force");
    assert_eq!(world.events().iter().filter(|event| *event == "ban").count(), 2, "recorded");
    assert!(stored(&world).is_empty());
    assert_eq!(world.guard().journal.owed_warning(), None, "nobody has locked it");
    world.guard().catch_up();
    assert_eq!(world.guard().catch_up_at(), None);
    assert_eq!(stored(&world), ["192.0.2.7", "192.0.2.8"]);

    // What somebody else wrote into the store gives way to what is in force.
    world.pass(60);
    let other = Connection::open(world.folder.join(state_files::STORE)).unwrap();
    let changed =
        other.execute("UPDATE ban SET source = '192.0.2.11' WHERE source = '192.0.2.8' AND ended IS NULL", []);
    assert_eq!(changed, Ok(1));
    let id = world.ask("192.0.2.11", "bad-tokens").unwrap();
    world.guard().catch_up();
    let ids = |world: &World| {
        let read = BanStore::read(&world.folder.join(state_files::STORE)).unwrap();
        read.in_force().unwrap().into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert!(ids(&world).contains(&id));

    // Killed, and even rebooted, before the store has heard: the chain tells.
    for (boot, address) in [("one", "192.0.2.9"), ("two", "192.0.2.10")] {
        world.pass(60);
        let id = world.ask(address, "bad-tokens").unwrap();
        let kernel = world.crash();
        let kernel = if boot == world.boot { kernel } else { Box::new(AtAccept::default()) };
        world.boot = boot;
        world.start(kernel);
        let why = world.why(address);
        let entry = why.entry.unwrap();
        assert_eq!(
            (why.verdict.as_str(), entry.id, entry.actor.as_str()),
            ("blocked", id, "rule:bad-tokens"),
            "{boot}"
        );
    }
}

#[test]
fn the_store_learns_figures_later_and_at_the_end() {
    let mut world = World::new("figures");
    let first = world.ask("192.0.2.7", "bad-tokens").unwrap();
    let second = world.ask("192.0.2.8", "bad-tokens").unwrap();
    let now = world.now.monotonic;
    for (id, connections) in [(first, 2), (second, 3)] {
        world.guard().reacted(id, now - 500_000, now);
        world.guard().closed(id, connections);
    }
    let figures = |world: &mut World, address| {
        let why = world.why(address);
        (why.reaction_micros, why.connections_closed)
    };
    assert_eq!(figures(&mut world, "192.0.2.7"), (Some(500), Some(2)));
    world.pass(1);
    let kernel = world.crash();
    world.start(kernel);
    assert_eq!(figures(&mut world, "192.0.2.8"), (Some(500), Some(3)));
}

/// Rules and operators that want so many places, each where there are 32: how many of each they get.
#[track_caller]
fn check_room(case: &str, wants: &[(&str, u32)], expect: &[usize]) {
    let mut world = World::new(case);
    let settings = &mut world.guard().settings;
    (settings.max_bans, settings.max_bans_per_minute) = (32, 1_000);
    settings.safety.breaker.share = 100;
    let mut next = 0x0b00_0000;
    let got: Vec<usize> = wants
        .iter()
        .map(|(who, many)| {
            let mut want = || {
                next += 1;
                let address = std::net::Ipv4Addr::from_bits(next).to_string();
                if *who == "operator" { world.add(&address) == "done 1" } else { world.ask(&address, who).is_ok() }
            };
            (0..*many).filter(|_| want()).count()
        })
        .collect();
    assert_eq!(got, expect, "{case}: {wants:?}");
    let shadows = world.guard().ledger.records().filter(|record| record.shadow).count();
    assert_eq!(world.guard().ledger.shadows(), shadows, "{case}");
}

#[test]
fn everybody_has_a_share_of_the_table() {
    check_room("room-shadows", &[("trial", 100), ("bad-tokens", 100), ("operator", 100)], &[4, 26, 2]);
    check_room("room-rules", &[("bad-tokens", 100), ("trial", 100), ("operator", 100)], &[30, 0, 2]);
    check_room("room-operators", &[("operator", 100), ("bad-tokens", 1), ("trial", 1)], &[32, 0, 0]);
}

#[test]
fn shadow_rules_are_paced_and_pause_nobody() {
    let mut world = World::new("shadow-pace");
    (world.guard().settings.max_bans, world.guard().settings.max_bans_per_minute) = (1_000, 3);
    let asked: Vec<_> = (1..=5).map(|number| world.ask(&format!("192.0.2.{number}"), "trial")).collect();
    assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 3);
    assert_eq!(asked[4], Err("shadow_pace"));
    assert!(world.ask("198.51.100.1", "bad-tokens").is_ok(), "rules that enforce go on");
    assert_eq!(world.guard().shortfalls.unlisted(), 2);
    world.pass(20);
    assert!(world.ask("192.0.2.6", "trial").is_ok());
    // One that ends, or is promoted, is none any more.
    world.pass(600);
    assert_eq!(world.guard().ledger.shadows(), 0);
}

/// Nothing that a rule's ban waits for reads a file: a slow disk, or a long table of connections, would hold up the kernel's
/// entry. What is known of the host is looked at beside the loop, and kept in [`ProtectedAddresses`].
#[test]
fn no_file_is_read_between_an_ask_and_its_entry() {
    let bans = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/guard/bans");
    let mut files: Vec<PathBuf> = ["ask.rs", "change.rs", "enforcer.rs", "ledger.rs", "recording.rs"]
        .iter()
        .map(|name| bans.join(name))
        .collect();
    for folder in ["ask", "enforcer", "policy"] {
        files.extend(fs::read_dir(bans.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    // The one that looks at the host, which nothing here may call.
    files.retain(|path| path.is_file() && !path.ends_with("policy/protected_addresses.rs"));
    assert!(files.len() > 20, "{files:?}");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for reads in ["fs::", "File::", "/proc/", "/sys/", "ProtectedAddresses::look", "Command::new"] {
            assert!(!code.contains(reads), "{}: {reads}", path.display());
        }
    }
}
