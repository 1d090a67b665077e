//! What becomes of lists and bans where the store is a copy from before, or was locked when they changed.

use super::*;

/// The whole folder is a copy from before: no record tells of what came after, and the kernel alone does.
#[test]
fn a_folder_from_before_lifts_nothing_that_the_kernel_can_prove() {
    for (name, later, says) in [
        ("folder-ban", (|world: &mut World| assert_eq!(world.add("192.0.2.8"), "done 1")) as fn(&mut World), "1 ban"),
        ("folder-list", |world| import(world, &["192.0.2.98"]), "1 entry"),
    ] {
        let mut world = World::new(name);
        assert_eq!(world.add("192.0.2.7"), "done 1");
        let store = world.folder.join(state_files::STORE);
        sql(&store, "PRAGMA wal_checkpoint(TRUNCATE)");
        let chain = world.folder.join(state_files::LOG);
        let backups = [(&store, fs::read(&store).unwrap()), (&chain, fs::read(&chain).unwrap())];
        later(&mut world);
        let before = in_force(&mut world);
        let kernel = world.crash();
        gone(&store);
        backups.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        world.start(kernel);
        assert_eq!(in_force(&mut world), before, "{name}");
        let told = world.guard().shortfalls.standing().join("\n");
        assert!(told.contains("did not know all that was in force") && told.contains(says), "{name}: {told}");
    }
}

/// Where a ban proves that the store is behind, entries of lists are taken over as prefixes are.
#[test]
fn one_number_proves_all() {
    let mut world = World::new("folder-both");
    import(&mut world, &["192.0.2.99"]);
    let store = world.folder.join(state_files::STORE);
    sql(&store, "PRAGMA wal_checkpoint(TRUNCATE)");
    let chain = world.folder.join(state_files::LOG);
    let backups = [(&store, fs::read(&store).unwrap()), (&chain, fs::read(&chain).unwrap())];
    import(&mut world, &["192.0.2.99", "192.0.2.98", "198.51.101.0/24"]);
    assert_eq!(world.add("192.0.2.200"), "done 1");
    let before = in_force(&mut world);
    let kernel = world.crash();
    gone(&store);
    backups.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    world.start(kernel);
    assert_eq!(in_force(&mut world), before);
}

/// What an operator has removed while the store was locked is not there again after a kill.
#[test]
fn lists_that_are_removed_while_the_store_is_locked_stay_so() {
    for (name, remove) in [
        (
            "locked-flush",
            (|world: &mut World| assert_eq!(world.handle(ControlRequest::BlockFlush), "done 4")) as fn(&mut World),
        ),
        ("locked-removal", |world| import(world, &[])),
    ] {
        for is_worked in [false, true] {
            let (mut world, _) = furnished(name);
            let other = Connection::open(world.folder.join(state_files::STORE)).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            remove(&mut world);
            if is_worked {
                let now = world.now;
                world.guard().finish_work(now);
            }
            let kernel = world.crash();
            other.execute_batch("ROLLBACK").unwrap();
            world.start(kernel);
            let after = in_force(&mut world);
            assert!(after.iter().all(|one| !one.starts_with("listed")), "{name} {is_worked}: {after:?}");
            assert_eq!(of_lists(&mut world), 0, "{name} {is_worked}");
            drop(world.crash());
            world.start(Box::new(AtAccept::default()));
            assert_eq!(in_force(&mut world), after, "{name} {is_worked}, again");
        }
    }
}
