//! Single entries of the list without a name: who removes one is told what is so then.

use rusqlite::Connection;

use super::*;

#[test]
fn what_whoever_removes_an_entry_is_told() {
    let gone = "192.0.2.1 is no longer blocked";
    let still = |how: &str| format!("the block of 192.0.2.1 is removed, and it is still {how}");
    for (name, unnamed, list, by_hand, told) in [
        ("alone", &["192.0.2.1"][..], None, None, gone.to_owned()),
        (
            "itself",
            &["192.0.2.1", "192.0.2.0/24"],
            None,
            None,
            still("blocked as part of 192.0.2.0/24, listed by import"),
        ),
        ("hand", &["192.0.2.1"], None, Some("192.0.2.0/24"), still("blocked as part of 192.0.2.0/24, ban 1")),
        ("before", &["192.0.2.1"], Some((true, "192.0.2.1")), None, still("blocked, listed by feed:a")),
        ("after", &["192.0.2.1"], Some((false, "192.0.2.1")), None, still("blocked, listed by feed:a")),
        (
            "around",
            &["192.0.2.1"],
            Some((false, "192.0.2.0/30")),
            None,
            still("blocked as part of 192.0.2.0/30, listed by feed:a"),
        ),
    ] {
        let mut world = World::new(&format!("unlist-{name}"));
        for is_first in [true, false] {
            if let Some((_, source)) = list.filter(|(first, _)| *first == is_first) {
                done(&world.import(Some("a"), None, false, &[source]), 1, 0, 0, 0);
            }
            if is_first {
                drop(world.import(None, None, false, unnamed));
            }
        }
        if let Some(source) = by_hand {
            assert_eq!(world.add(source), "done 1");
        }
        assert_eq!(world.unblock("192.0.2.1"), told, "{name}");
        let again = world.unblock("192.0.2.1");
        assert!(!again.contains("is removed") && !again.contains("no longer"), "{name}: {again}");
    }
}

/// As `block del` of other blocks: what cannot be recorded is lifted all the same, and recorded once it can be.
#[test]
fn what_is_lifted_is_lifted_where_nothing_can_be_recorded() {
    let mut world = World::new("unlist-full");
    done(&world.import(None, None, false, &["192.0.2.1", "192.0.2.2"]), 2, 0, 0, 0);
    done(&world.import(Some("a"), None, false, &["192.0.2.3"]), 1, 0, 0, 0);
    done(&world.import(Some("b"), None, false, &["192.0.2.4"]), 1, 0, 0, 0);
    let other = Connection::open(world.folder.join(state_files::STORE)).unwrap();
    let full = |what: &str| {
        format!("CREATE TRIGGER full_{what} BEFORE {what} ON feed BEGIN SELECT RAISE(ABORT, 'no room'); END;")
    };
    let chunks = "CREATE TRIGGER full_chunk BEFORE INSERT ON feed_chunk BEGIN SELECT RAISE(ABORT, 'no room'); END;";
    other.execute_batch(&[full("INSERT"), full("UPDATE"), full("DELETE"), chunks.to_owned()].concat()).unwrap();
    for source in ["192.0.2.1", "192.0.2.2"] {
        let told = world.unblock(source);
        let expect = format!("{source} is no longer blocked; it could not be recorded (");
        assert!(told.starts_with(&expect) && told.contains("it is recorded once it can be"), "{told}");
    }
    assert_eq!(world.kernel(), ["192.0.2.3", "192.0.2.4"]);
    let told = world.import(Some("a"), None, false, &[]);
    let unrecorded = |told: &ImportProgress| {
        told.removed == 1 && told.unrecorded.as_ref().is_some_and(|text| text.contains("could not be recorded"))
    };
    assert!(matches!(&told, ControlAnswer::Import(told) if unrecorded(told)), "{told:?}");
    assert_eq!(world.handle(ControlRequest::BlockFlush), "done 1");
    world.finish();
    assert!(world.kernel().is_empty());
    // What blocks is refused as before.
    code(&world.import(Some("c"), None, false, &["192.0.2.5"]), "store_failed");
    let gone = ["INSERT", "UPDATE", "DELETE", "chunk"].map(|what| format!("DROP TRIGGER full_{what};"));
    other.execute_batch(&gone.concat()).unwrap();
    world.pass(1);
    assert!(!world.guard().journal.is_failing());
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert!(world.kernel().is_empty(), "{:?}", world.kernel());
}
