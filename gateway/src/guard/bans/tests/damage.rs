//! What becomes of bans when the store is damaged, missing, older than the kernel, locked, or cannot be written.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use rusqlite::Connection;

use super::*;

mod behind;
mod rows;

/// Everything that is in force, as an operator sees it.
fn in_force(world: &mut World) -> Vec<String> {
    let now = world.now;
    let guard = world.guard();
    let mut all: Vec<String> = guard.entries(now).iter().map(|entry| format!("ban {}", entry.source)).collect();
    let allows = guard.enforcer.prefixes().allows.values().filter(|allow| allow.actor != "config");
    all.extend(allows.map(|allow| format!("allow {}", allow.source)));
    all.extend(guard.feeds.sources().map(|source| format!("listed {source}")));
    all.extend(guard.promoted().iter().map(|what| format!("promoted {what}")));
    all.sort();
    all
}

/// Two bans, a prefix, an allowance, a list and a promotion; the kernel keeps them when the guard is killed.
fn furnished(name: &str) -> (World, Vec<String>) {
    let mut world = World::new(name);
    for source in ["192.0.2.7", "2001:db8:1::/64", "198.51.100.0/24"] {
        assert_eq!(world.add(source), "done 1", "{source}");
    }
    let source = "203.0.113.200".parse().unwrap();
    assert_eq!(world.handle(ControlRequest::AllowAdd { source, reason: "us".into(), yes: false }), "done 1");
    import(&mut world, &["192.0.2.99"]);
    assert_eq!(world.handle(ControlRequest::ShadowPromote { what: "rule.trial".into() }), "done 1");
    let before = in_force(&mut world);
    assert_eq!(before.len(), 6, "{before:?}");
    (world, before)
}

/// The list `drop` has these sources from now on.
fn import(world: &mut World, sources: &[&str]) {
    let now = world.now;
    let begin =
        ControlRequest::BlockImportBegin { feed: Some("drop".into()), seconds: None, shadow: false, force: false };
    let ControlAnswer::Import(import) = world.guard().handle(begin, &OPERATOR, now) else { panic!("no import") };
    let entry = |source: &&str| crate::guard::control::ImportEntry(1, source.parse().unwrap(), None, None);
    let entries = sources.iter().map(entry).collect();
    drop(world.guard().handle(ControlRequest::BlockImportChunk { id: import.id, entries }, &OPERATOR, now));
    let (sender, _receiver) = tokio::sync::oneshot::channel();
    world.guard().import_commit((import.id, "ab".to_owned(), sources.is_empty()), &OPERATOR, sender, now);
    world.guard().finish_work(now);
}

/// What the kernel holds of lists.
fn of_lists(world: &mut World) -> usize {
    world.guard().enforcer.path().bans().iter().filter(|(_, ban)| ban.id & crate::guard::bans::feeds::FED != 0).count()
}

#[track_caller]
fn check(name: &str, spoil: impl FnOnce(&Path), says: &str) {
    let (mut world, before) = furnished(name);
    let kernel = world.crash();
    let store = world.folder.join(state_files::STORE);
    spoil(&store);
    world.start(kernel);
    assert_eq!(in_force(&mut world), before, "{name}");
    for (address, verdict) in [("192.0.2.7", "blocked"), ("198.51.100.9", "blocked"), ("203.0.113.200", "allowed")] {
        assert_eq!(world.why(address).verdict, verdict, "{name}: {address}");
    }
    let told = world.guard().shortfalls.standing().join("\n");
    assert!(told.contains(says), "{name}: {told}");
    let verified = verify(&world.folder);
    assert!(verified.first_bad.is_none(), "{name}: {verified:?}");
    assert!(says.is_empty() || !verified.notes.is_empty() || says.contains("did not know"), "{name}: {verified:?}");
    // It is remembered: the kernel's word is not needed a second time.
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(in_force(&mut world), before, "{name}, again");
    // And goes on: numbers are not given twice.
    assert_eq!(world.handle(ControlRequest::BlockDel { source: "192.0.2.7".parse().unwrap() }), "done 1");
    let used = world.guard().ledger.ids().last().copied();
    world.ask("192.0.2.50", "bad-tokens").unwrap();
    assert!(world.guard().ledger.ids().last().copied() > used, "{name}");
}

fn gone(store: &Path) {
    for ending in ["", "-wal", "-shm"] {
        drop(fs::remove_file(state_files::beside(store, ending)));
    }
}

fn sql(store: &Path, statements: &str) {
    Connection::open(store).unwrap().execute_batch(statements).unwrap();
}

#[test]
fn what_was_taken_over_ends_in_time() {
    let mut world = World::new("ends");
    let id = world.ask("192.0.2.7", "bad-tokens").unwrap();
    let kernel = world.crash();
    gone(&world.folder.join(state_files::STORE));
    world.start(kernel);
    assert_eq!(world.guard().ledger.ids(), [id]);
    world.pass(599);
    assert_eq!(world.guard().ledger.ids(), [id]);
    world.pass(1);
    assert!(world.guard().ledger.is_empty());
}

#[test]
fn what_the_kernel_holds_is_in_force_whatever_became_of_the_store() {
    let aside = "was set aside as";
    check("store-whole", |_| {}, "");
    check("store-missing", gone, "is missing although");
    check(
        "store-empty",
        |store| {
            gone(store);
            fs::write(store, "").unwrap()
        },
        "did not know",
    );
    check(
        "store-rubbish",
        |store| {
            gone(store);
            fs::write(store, "not a database, whatever it says").unwrap()
        },
        aside,
    );
    check(
        "store-cut",
        |store| {
            sql(store, "PRAGMA wal_checkpoint(TRUNCATE)");
            fs::OpenOptions::new().write(true).open(store).unwrap().set_len(9_000).unwrap();
        },
        aside,
    );
    check(
        "store-page",
        |store| {
            use std::os::unix::fs::FileExt as _;
            sql(store, "PRAGMA wal_checkpoint(TRUNCATE)");
            let file = fs::OpenOptions::new().write(true).open(store).unwrap();
            file.write_all_at(&[0xff; 4_096], 4_096).unwrap();
        },
        aside,
    );
    check(
        "store-header",
        |store| {
            use std::os::unix::fs::FileExt as _;
            gone(&state_files::beside(store, "-none"));
            sql(store, "PRAGMA wal_checkpoint(TRUNCATE)");
            fs::OpenOptions::new().write(true).open(store).unwrap().write_all_at(&[0; 100], 0).unwrap();
        },
        aside,
    );
    check(
        "store-folder",
        |store| {
            gone(store);
            fs::create_dir(store).unwrap()
        },
        aside,
    );
    check(
        "store-loop",
        |store| {
            gone(store);
            symlink(store, store).unwrap()
        },
        aside,
    );
    check("store-newer", |store| sql(store, "PRAGMA user_version = 99"), aside);
    check("store-row", |store| sql(store, "UPDATE ban SET source = 'nobody' WHERE source = '192.0.2.7'"), aside);
    check("store-table", |store| sql(store, "DROP TABLE pardon"), aside);
    check("store-list", |store| sql(store, "UPDATE feed_chunk SET content = x'ff'"), "did not know");
}

#[test]
fn a_link_is_followed() {
    let (mut world, before) = furnished("store-link");
    drop(world.crash());
    let (store, elsewhere) = (world.folder.join(state_files::STORE), world.folder.join("elsewhere.db"));
    sql(&store, "PRAGMA wal_checkpoint(TRUNCATE)");
    fs::rename(&store, &elsewhere).unwrap();
    gone(&store);
    symlink(&elsewhere, &store).unwrap();
    world.start(Box::new(AtAccept::default()));
    assert_eq!(in_force(&mut world), before);
}

#[test]
fn a_store_from_before_does_not_lift_what_came_after() {
    let (mut world, _) = furnished("store-backup");
    let store = world.folder.join(state_files::STORE);
    sql(&store, "PRAGMA wal_checkpoint(TRUNCATE)");
    let backup = fs::read(&store).unwrap();
    world.ask("192.0.2.8", "bad-tokens").unwrap();
    assert_eq!(world.add("198.51.101.0/24"), "done 1");
    import(&mut world, &["192.0.2.98"]);
    let before = in_force(&mut world);
    let kernel = world.crash();
    gone(&store);
    fs::write(&store, backup).unwrap();
    world.start(kernel);
    assert_eq!(in_force(&mut world), before);
    assert_eq!(of_lists(&mut world), 1);
    let told = world.guard().shortfalls.standing().join("\n");
    assert!(told.contains("the newest entries of 1 list: feed:drop"), "{told}");
    // What the chain tells has its reason, too.
    assert_eq!(world.why("192.0.2.8").entry.unwrap().actor, "rule:bad-tokens");
    assert_eq!(world.why("192.0.2.8").evidence.len(), 3);
    // As it is where the chain alone is left: after a reboot the kernel holds nothing.
    drop(world.crash());
    gone(&store);
    world.boot = "two";
    world.start(Box::new(AtAccept::default()));
    let (after, lists) = (in_force(&mut world), "listed 192.0.2.98");
    assert!(before.iter().all(|one| one == lists || after.contains(one)), "{before:?} {after:?}");
}

#[test]
fn a_locked_store_costs_no_decision() {
    let (mut world, _) = furnished("store-locked");
    let store = world.folder.join(state_files::STORE);
    let other = Connection::open(&store).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.ask("192.0.2.8", "bad-tokens").unwrap();
    assert_eq!(world.handle(ControlRequest::BlockDel { source: "192.0.2.7".parse().unwrap() }), "done 1");
    let before = in_force(&mut world);
    assert!(world.guard().journal.owed_warning().is_some());
    // The chain has it already, in order.
    let events = world.events();
    assert_eq!(events[events.len() - 2..], ["ban", "unban"], "{events:?}");
    // Killed before the store has heard of it: the kernel tells.
    let kernel = world.crash();
    other.execute_batch("ROLLBACK").unwrap();
    world.start(kernel);
    assert_eq!(in_force(&mut world), before);

    // Not killed: the store hears of it once it is free.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.ask("192.0.2.9", "bad-tokens").unwrap();
    world.pass(1);
    assert!(world.guard().journal.owed_warning().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    world.pass(1);
    assert!(world.guard().journal.owed_warning().is_none());
    let before = in_force(&mut world);
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(in_force(&mut world), before);
    assert!(verify(&world.folder).first_bad.is_none());
}

/// A reload asks nobody who may be late: what operators allow while the store is locked goes on, through reloads that name
/// the same sources and such that do not.
#[test]
fn a_reload_keeps_allowances_that_the_store_has_not_heard_of() {
    let (mut world, _) = furnished("store-locked-allow");
    let add = |world: &mut World, source: &str| {
        let source = source.parse().unwrap();
        assert_eq!(world.handle(ControlRequest::AllowAdd { source, reason: "us".into(), yes: false }), "done 1");
    };
    let other = Connection::open(world.folder.join(state_files::STORE)).unwrap();
    add(&mut world, "203.0.113.201");
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    add(&mut world, "203.0.113.202");
    assert_eq!(world.handle(ControlRequest::AllowDel { source: "203.0.113.200".parse().unwrap() }), "done 1");
    assert!(world.guard().journal.owed_warning().is_some());
    let before = in_force(&mut world);
    assert!(before.contains(&"allow 203.0.113.202".to_owned()) && !before.contains(&"allow 203.0.113.200".to_owned()));
    let own = World::settings().allow;
    // The configuration names one of them for a while.
    let named = [own.clone(), vec!["203.0.113.201".parse().unwrap()]].concat();
    for allow in [own.clone(), named, own] {
        let rules = world.guard().policy.rules.clone();
        let parts = (guard::Settings { allow, ..World::settings() }, rules, ProtectedAddresses::default());
        let now = world.now;
        world.guard().reconfigure(parts.0, parts.1, parts.2, &[], now).unwrap();
        assert_eq!(world.why("203.0.113.201").verdict, "allowed");
    }
    assert_eq!(in_force(&mut world), before);
    other.execute_batch("ROLLBACK").unwrap();
    world.pass(1);
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(in_force(&mut world), before);
}

#[test]
fn a_store_that_is_lost_while_the_guard_runs_is_made_anew() {
    for (name, spoil) in [
        ("store-removed", (|store: &Path| gone(store)) as fn(&Path)),
        ("store-replaced", |store| {
            fs::write(store.with_extension("new"), "another").unwrap();
            fs::rename(store.with_extension("new"), store).unwrap();
        }),
    ] {
        let (mut world, before) = furnished(name);
        spoil(&world.folder.join(state_files::STORE));
        world.pass(1);
        let told = world.guard().journal.findings().join("\n");
        assert!(told.contains("made anew"), "{told}");
        drop(world.crash());
        world.start(Box::new(AtAccept::default()));
        assert_eq!(in_force(&mut world), before, "{name}");
        assert!(verify(&world.folder).first_bad.is_none(), "{name}");
    }
}

#[test]
fn a_key_or_a_chain_that_is_lost_is_told_and_the_chain_goes_on() {
    for (name, file, spoil, whole, says) in [
        (
            "key-missing",
            state_files::KEY,
            (|path: &Path| fs::remove_file(path).unwrap()) as fn(&Path),
            true,
            "is missing",
        ),
        ("key-empty", state_files::KEY, |path| fs::write(path, "").unwrap(), true, "cannot be used"),
        (
            "key-cut",
            state_files::KEY,
            |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap(),
            true,
            "cannot be used",
        ),
        (
            "key-folder",
            state_files::KEY,
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap()
            },
            true,
            "cannot be used",
        ),
        ("public-missing", state_files::PUBLIC, |path| fs::remove_file(path).unwrap(), true, ""),
        ("public-rubbish", state_files::PUBLIC, |path| fs::write(path, "zz").unwrap(), true, ""),
        (
            "both-missing",
            state_files::KEY,
            |path| {
                fs::remove_file(path).unwrap();
                fs::remove_file(path.with_file_name(state_files::PUBLIC)).unwrap();
            },
            true,
            "is missing",
        ),
        ("chain-missing", state_files::LOG, |path| fs::remove_file(path).unwrap(), false, "chain is broken"),
        (
            "chain-folder",
            state_files::LOG,
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap()
            },
            false,
            "chain is broken",
        ),
    ] {
        let (mut world, before) = furnished(name);
        let now = world.now;
        world.guard().tick(now, 60);
        let chain = fs::read_to_string(world.folder.join(state_files::LOG)).unwrap();
        assert!(chain.contains("\"checkpoint\""), "{chain}");
        let kernel = world.crash();
        spoil(&world.folder.join(file));
        world.start(kernel);
        assert_eq!(in_force(&mut world), before, "{name}");
        let told = world.guard().shortfalls.standing().join("\n");
        assert!(told.contains(says) && told.is_empty() == says.is_empty(), "{name}: {told}");
        world.guard().tick(now, 60);
        let verified = verify(&world.folder);
        assert_eq!(verified.first_bad.is_none(), whole, "{name}: {verified:?}");
        assert_eq!(verified.notes.is_empty(), says.is_empty(), "{name}: {verified:?}");
        // A second start finds nothing new.
        let kernel = world.crash();
        world.start(kernel);
        let told = world.guard().shortfalls.standing().join("\n");
        assert_eq!(told.is_empty(), whole, "{name}: {told}");
        if !whole {
            // A world that ends well expects its chain to be whole.
            world.guard = None;
            fs::remove_dir_all(&world.folder).unwrap();
            std::mem::forget(world);
        }
    }
}

#[test]
fn what_an_earlier_version_left_is_gone_on_with() {
    let fixture = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/state-one-file"));
    let mut world = World::new("earlier");
    drop(world.crash());
    for entry in fs::read_dir(fixture).unwrap().flatten() {
        let to = world.folder.join(entry.file_name());
        fs::copy(entry.path(), &to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for ending in ["-wal", "-shm"] {
        fs::remove_file(world.folder.join(format!("{}{ending}", state_files::STORE))).unwrap_or_default();
    }
    assert_eq!(verify(&world.folder).first_bad, None);
    world.start(Box::new(AtAccept::default()));
    let told = world.guard().shortfalls.standing().join("\n");
    assert_eq!(told, "");
    assert_eq!(world.handle(ControlRequest::BlockDel { source: "192.0.2.77".parse().unwrap() }), "done 1");
    // Its file is closed, and the next begins.
    world.guard().settings.audit.max_size = 1;
    let now = world.now;
    world.guard().tick(now, 1);
    assert_eq!(world.add("192.0.2.78"), "done 1");
    let verified = verify(&world.folder);
    assert_eq!((verified.first_bad, verified.files), (None, 2));
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(verify(&world.folder).first_bad, None);
}
