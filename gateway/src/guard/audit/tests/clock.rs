//! A chain whose times go back, as the wall clock was set back.

use std::{fs, time::Duration};

use serde_json::json;

use super::{
    files::{START, names},
    *,
};
use crate::settings::audit::Retention;

/// A file is as old as its newest record, whatever the clock said when it was closed.
#[test]
fn a02_no_file_is_deleted_early_because_the_clock_was_set_back() {
    let keep = Retention { age: Some(Duration::from_secs(2)), ..Retention::default() };
    for (name, first, last, is_deleted) in [
        ("old", START, START, true),
        ("new", START + 1_000, START + 1_000, false),
        ("back", START + 1_000, 0, false),
        ("ahead", START, START + 86_400_000, false),
    ] {
        let place = Place::new(&format!("keep-clock-{name}"));
        let (_store, mut audit, _) = place.open();
        audit.append("ban", first, Map::new()).unwrap();
        audit.append("ban", last, Map::new()).unwrap();
        let (event, told) = audit.rotate().unwrap();
        audit.append(event, last, told).unwrap();
        audit.sync().unwrap();
        assert_eq!(audit.retirement(&keep, START + 2_500).unwrap().is_some(), is_deleted, "{name}");
    }
}

/// Numbers and hashes order the chain. Times are only what the clock said.
#[test]
fn a02_a_clock_that_is_set_back_breaks_no_chain_and_hides_no_cut() {
    let place = Place::new("clock");
    let mut outside = Outside::default();
    // An hour back, a day ahead, to where clocks begin, and right again: with a restart before each.
    for unix_millis in [START, START - 3_600_000, START + 86_400_000, 0, START + 1_000] {
        let (mut store, mut audit, findings) = place.open();
        assert_eq!(findings, [], "{unix_millis}");
        audit.append("ban", unix_millis, members(json!({"ban": 1}))).unwrap();
        audit.checkpoint(unix_millis).unwrap();
        let (event, told) = audit.rotate().unwrap();
        audit.append(event, unix_millis, told).unwrap();
        audit.sync().unwrap();
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        let found = verify(&place.0);
        assert_eq!(found.first_bad, None, "{unix_millis}");
        outside.add_anchor("vault", &found.checkpoint.unwrap()).unwrap();
    }
    let judge = || {
        let against = Against { without_store: true, outside: outside.clone(), keys: None };
        verify_against(&place.0, &against, &mut |_, _| {})
    };
    let found = judge();
    assert_eq!((found.records, found.files, found.first_bad), (15, 6, None));
    assert_eq!(found.notes, ["5 anchors agree with the chain"]);
    // An anchor with an older time is of a newer record: what is cut off is missed all the same.
    for name in names(&place).iter().rev().take(3) {
        fs::remove_file(place.0.join(name)).unwrap();
    }
    let bad = judge().first_bad.unwrap();
    assert!(bad.reason.contains("missing at the end: the anchor vault"), "{bad:?}");
}
