//! What becomes of single rows of the store that cannot be read, and of reads that fail while the guard runs.

use super::*;

/// Somebody has written a row that this program never writes: it costs that row, and is told.
#[test]
fn a_row_that_cannot_be_read_costs_itself_alone() {
    for (name, spoil, says) in [
        ("row-source", "UPDATE ban SET source = 'nobody' WHERE source = '192.0.2.7'", "in ban 1"),
        ("row-text", "UPDATE ban SET source = CAST(x'ff' AS TEXT) WHERE source = '192.0.2.7'", "in ban 1"),
        ("row-reason", "UPDATE ban SET reason = CAST(x'ff' AS TEXT) WHERE source = '192.0.2.7'", "in ban 1"),
        ("row-good", "INSERT INTO good VALUES (CAST(x'ff' AS TEXT), 9223372036854775807, '1:1:1')", "table good"),
        ("row-pardon", "INSERT INTO pardon VALUES ('nobody', 'x', 9223372036854775807)", "table pardon"),
        ("row-promotion", "INSERT INTO promotion VALUES (CAST(x'ff' AS TEXT), 'x', 1)", "table promotion"),
    ] {
        let mut world = World::new(name);
        for source in ["192.0.2.7", "192.0.2.8"] {
            world.ask(source, "bad-tokens").unwrap();
        }
        world.pass(600);
        assert_eq!(world.add("192.0.2.9"), "done 1");
        let kernel = world.crash();
        sql(&world.folder.join(state_files::STORE), spoil);
        world.start(kernel);
        assert!(world.guard().ledger.len() == 1 && world.guard().shortfalls.standing().is_empty(), "{name}");
        let expect = usize::from(!says.contains("ban"));
        assert_eq!(["192.0.2.7", "192.0.2.8"].map(|source| world.why(source).history.len()), [expect, 1], "{name}");
        let told: Vec<String> = world.guard().journal.warnings().collect();
        assert!(matches!(&*told, [one] if one.contains(says)), "{name}: {told:?}");
    }
}

/// A store that is set aside for a row keeps the other rows of the same table.
#[test]
fn an_allowance_that_cannot_be_read_costs_no_other() {
    let (mut world, before) = furnished("row-allow");
    drop(world.crash());
    sql(&world.folder.join(state_files::STORE), "INSERT INTO allow VALUES ('nobody', 'x', 'y', 1)");
    world.start(Box::new(AtAccept::default()));
    assert_eq!(in_force(&mut world), before);
    let allow = world.why("203.0.113.200").shields.join("\n");
    assert!(allow.contains("operator:0"), "{allow}");
}

/// A read of what has ended fails: rules ban all the same, `why` answers, and the file is made anew.
#[test]
fn what_has_ended_and_cannot_be_read_keeps_nobody_from_being_banned() {
    let mut world = World::new("read-failed");
    for source in ["192.0.2.7", "192.0.2.8"] {
        world.ask(source, "bad-tokens").unwrap();
    }
    world.pass(600);
    sql(&world.folder.join(state_files::STORE), "ALTER TABLE ban RENAME COLUMN how TO whatever");
    let id = world.ask("192.0.2.7", "bad-tokens").unwrap();
    for (address, verdict) in [("192.0.2.7", "blocked"), ("192.0.2.8", "passed")] {
        let why = world.why(address);
        assert_eq!((&*why.verdict, why.history.len()), (verdict, 0));
        assert!(why.history_unknown.is_some() && !why.next.contains("never banned"), "{why:?}");
    }
    let told = world.guard().journal.warnings().collect::<Vec<_>>().join("\n");
    assert!(told.contains("times since the start"), "{told}");
    world.pass(1);
    let told = world.guard().journal.findings().join("\n");
    assert!(told.contains("made anew"), "{told}");
    assert_eq!(world.why("192.0.2.7").history_unknown, None);
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(world.guard().ledger.ids(), [id]);
}
