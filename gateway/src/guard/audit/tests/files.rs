//! A chain over several files: rotation and every crash in it, deletion by age, keys that take each other's place.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use super::*;
use crate::{anchor::SignedHead, guard::state_files::NEXT_LOG, settings::audit::Retention};

/// When the first record was written.
pub(super) const START: u64 = 1_700_000_000_000;

/// Three files with checkpoints: records 1 to 4, 5 to 9, 10 and on.
#[track_caller]
fn three_files(name: &str) -> Place {
    let place = Place::new(name);
    let (mut store, mut audit, _) = place.open();
    for file in 0..3_u64 {
        for number in 0..3 {
            audit.append("ban", START + file * 1_000, members(json!({"ban": file * 10 + number}))).unwrap();
        }
        audit.checkpoint(START + file * 1_000).unwrap();
        if file < 2 {
            let (event, members) = audit.rotate().unwrap();
            audit.append(event, START + file * 1_000, members).unwrap();
        }
    }
    audit.sync().unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    place
}

pub(super) fn names(place: &Place) -> Vec<String> {
    let all = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = all.filter(|name| name.contains("jsonl")).collect();
    names.sort();
    names
}

const FIRST: &str = "audit-00000000000000000001.jsonl";
const SECOND: &str = "audit-00000000000000000005.jsonl";

#[test]
fn the_chain_goes_on_over_files_and_restarts() {
    let place = three_files("files");
    assert_eq!(names(&place), [FIRST, SECOND, LOG]);
    let found = verify(&place.0);
    assert_eq!((found.records, found.files, found.checkpoints, found.first_bad), (14, 3, 3, None));
    assert_eq!(found.checkpoint.unwrap().seq, 13);
    assert_eq!(place.fill(3), []);
    let (_, mut audit, findings) = place.open();
    assert_eq!(findings, []);
    audit.rotate().unwrap();
    assert_eq!(names(&place)[2], "audit-00000000000000000010.jsonl");
    assert_eq!(verify(&place.0).first_bad, None);
    // The file that is written is empty.
    drop(audit);
    assert_eq!(place.fill(1), []);
    assert_eq!(verify(&place.0).first_bad, None);
}

/// Changes files of three and expects the first bad place: its file, line and reason. Then a guard goes on, twice.
#[track_caller]
fn check_files(name: &str, change: impl FnOnce(&Path), expect: Option<(&str, u64, &str)>) {
    let place = three_files(name);
    change(&place.0);
    let found = verify(&place.0).first_bad;
    match (expect, &found) {
        (None, None) => {}
        (Some((file, line, reason)), Some(bad)) => {
            let is_it = bad.file.ends_with(file) && bad.line == line && bad.reason.contains(reason);
            assert!(is_it, "{name}: {bad:?}");
        }
        (expect, found) => panic!("{name}: expected {expect:?}, found {found:?}"),
    }
    for _ in 0..2 {
        place.fill(1);
        assert_eq!(verify(&place.0).first_bad.is_some(), expect.is_some(), "{name}: nothing hides or makes a break");
    }
}

#[test]
fn a01_names_the_file_and_line_of_the_first_bad_record() {
    let edit = |file: &'static str, edit: fn(&mut Vec<String>)| {
        move |folder: &Path| {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            edit(&mut lines);
            fs::write(folder.join(file), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        }
    };
    check_files("files-whole", |_| {}, None);
    check_files(
        "files-flip",
        edit(SECOND, |lines| lines[2] = lines[2].replacen("\"ban\":11", "\"ban\":12", 1)),
        Some((SECOND, 3, "was changed")),
    );
    check_files("files-delete", edit(SECOND, |lines| drop(lines.remove(1))), Some((SECOND, 2, "missing")));
    check_files("files-cut", edit(SECOND, |lines| lines.truncate(3)), Some((LOG, 1, "missing")));
    check_files("files-swap", edit(FIRST, |lines| lines.swap(0, 1)), Some((FIRST, 1, "missing")));
    check_files("files-twice", edit(FIRST, |lines| lines.push(lines[3].clone())), Some((FIRST, 5, "twice")));
    check_files(
        "files-middle",
        |folder| fs::remove_file(folder.join(SECOND)).unwrap(),
        Some((LOG, 1, "records are missing")),
    );
    check_files(
        "files-first",
        |folder| fs::remove_file(folder.join(FIRST)).unwrap(),
        Some((SECOND, 1, "none tells that they were deleted")),
    );
    check_files(
        "files-last",
        |folder| fs::remove_file(folder.join(LOG)).unwrap(),
        Some((SECOND, 6, "missing at the end")),
    );
    check_files(
        "files-torn-middle",
        |folder| {
            let text = fs::read_to_string(folder.join(FIRST)).unwrap();
            fs::write(folder.join(FIRST), &text[..text.len() - 9]).unwrap();
        },
        Some((FIRST, 4, "cut off in the middle")),
    );
    check_files(
        "files-exchanged",
        |folder| {
            fs::rename(folder.join(FIRST), folder.join("x")).unwrap();
            fs::rename(folder.join(SECOND), folder.join(FIRST)).unwrap();
            fs::rename(folder.join("x"), folder.join(SECOND)).unwrap();
        },
        Some((FIRST, 1, "missing")),
    );
    check_files(
        "files-copy",
        |folder| {
            fs::copy(folder.join(FIRST), folder.join("audit-00000000000000000003.jsonl")).unwrap();
        },
        Some(("audit-00000000000000000003.jsonl", 1, "twice")),
    );
}

#[test]
fn a02_no_crash_in_a_rotation_breaks_the_chain() {
    for (name, crash) in [
        ("made", (|folder: &Path| fs::write(folder.join(NEXT_LOG), "").unwrap()) as fn(&Path)),
        ("renamed", |folder| {
            fs::write(folder.join(NEXT_LOG), "").unwrap();
            fs::rename(folder.join(LOG), folder.join("audit-00000000000000000010.jsonl")).unwrap();
        }),
        ("begun", |folder| {
            fs::rename(folder.join(LOG), folder.join("audit-00000000000000000010.jsonl")).unwrap();
            fs::write(folder.join(LOG), "").unwrap();
        }),
        ("torn", |folder| {
            fs::rename(folder.join(LOG), folder.join("audit-00000000000000000010.jsonl")).unwrap();
            fs::write(folder.join(LOG), "{\"seq\":15,\"ti").unwrap();
        }),
    ] {
        let place = three_files(&format!("crash-{name}"));
        crash(&place.0);
        let findings = place.fill(1);
        assert!(findings.iter().all(|finding| !finding.tampered), "{name}: {findings:?}");
        let (mut store, mut audit, _) = place.open();
        audit.rotate().unwrap();
        audit.append("ban", START, Map::new()).unwrap();
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        let found = verify(&place.0);
        assert_eq!((found.records, found.first_bad), (16, None), "{name}");
    }
}

#[test]
fn what_cannot_be_closed_goes_on_as_it_was() {
    let place = three_files("stuck");
    let (mut store, mut audit, _) = place.open();
    fs::write(place.0.join("audit-00000000000000000010.jsonl"), "in the way").unwrap();
    assert!(audit.rotate().is_err());
    audit.append("ban", START, Map::new()).unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    fs::remove_file(place.0.join("audit-00000000000000000010.jsonl")).unwrap();
    assert_eq!(verify(&place.0).first_bad, None);
}

#[test]
fn closed_files_are_deleted_as_they_are_told_to_be_and_no_others() {
    let (all, second) = (Retention::default(), Duration::from_secs(1));
    for (name, keep, expect) in [
        ("all", all, 3),
        ("files", Retention { files: Some(1), ..all }, 2),
        ("none", Retention { files: Some(0), ..all }, 1),
        ("bytes", Retention { bytes: Some(10), ..all }, 1),
        ("much", Retention { bytes: Some(1 << 20), files: Some(2), age: Some(second * 60) }, 3),
        ("age", Retention { age: Some(second * 2), ..all }, 2),
    ] {
        let place = three_files(&format!("keep-{name}"));
        let (mut store, mut audit, _) = place.open();
        while let Some((event, members, path)) = audit.retirement(&keep, START + 2_500).unwrap() {
            audit.append(event, START + 2_500, members).unwrap();
            store.change().unwrap().commit(&audit.anchor()).unwrap();
            assert!(path.exists(), "{name}: the record comes first");
            audit.delete(path);
        }
        // A crash before files are deleted, though the chain says that they are.
        assert_eq!(verify(&place.0).first_bad, None, "{name}");
        audit.sync().unwrap();
        assert_eq!(names(&place).len(), expect, "{name}");
        let found = verify(&place.0);
        assert_eq!(found.first_bad, None, "{name}");
        assert_eq!(found.notes.len(), usize::from(expect < 3), "{name}: {:?}", found.notes);
        assert_eq!(place.fill(1), [], "{name}");
        // More is gone than the chain tells of.
        if expect == 2 {
            fs::remove_file(place.0.join(&names(&place)[0])).unwrap();
            assert!(verify(&place.0).first_bad.is_some(), "{name}");
        }
    }
}

/// The guard's loop cannot wait until a compressed file is unpacked: what follows it says how it ends.
#[test]
fn a_compressed_file_is_deleted_unread() {
    let (files, age) = (Retention { files: Some(1), ..Retention::default() }, Duration::from_millis(500));
    let age = Retention { age: Some(age), ..Retention::default() };
    for (name, keep, compressed) in [("files", files, 1), ("age", age, 1), ("both", age, 2)] {
        let place = three_files(&format!("keep-compressed-{name}"));
        let (last, hash, _) = crate::guard::audit::files::last_record(&place.0.join(FIRST)).unwrap().unwrap();
        let expect = json!([{"file": format!("{FIRST}.gz"), "last": last, "hash": hash}]);
        let second = fs::read(place.0.join(SECOND)).unwrap();
        for file in [FIRST, SECOND].into_iter().take(compressed) {
            fs::remove_file(place.0.join(file)).unwrap();
        }
        fs::write(place.0.join(format!("{FIRST}.gz")), "nothing that could be unpacked").unwrap();
        if compressed > 1 {
            let file = fs::File::create(place.0.join(format!("{SECOND}.gz"))).unwrap();
            let mut writer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            std::io::Write::write_all(&mut writer, &second).unwrap();
            writer.finish().unwrap();
        }
        let (mut store, mut audit, findings) = place.open();
        assert_eq!(findings, [], "{name}");
        if keep.age.is_some() {
            assert_eq!(audit.retirement(&keep, START + 500).unwrap(), None, "{name}: it is not old enough");
        }
        let (event, members, path) = audit.retirement(&keep, START + 501).unwrap().unwrap();
        assert_eq!(members["retired"], expect, "{name}");
        audit.append(event, START + 501, members).unwrap();
        audit.delete(path);
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        audit.sync().unwrap();
        assert_eq!(verify(&place.0).first_bad, None, "{name}");
    }
}

#[test]
fn a_key_takes_the_place_of_another_and_no_crash_between_leaves_the_chain_unsigned() {
    let old = |place: &Place| fs::read(place.0.join(KEY)).unwrap();
    for (name, crash) in [("done", None), ("before", Some(true)), ("after", Some(false))] {
        let place = three_files(&format!("key-{name}"));
        let public = PublicKeys::read(&place.0).unwrap();
        let before = old(&place);
        let (mut store, mut audit, _) = place.open();
        audit.rotate_key(START, members(json!({"actor": "operator:0"}))).unwrap();
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        drop(audit);
        match crash {
            None => {}
            // The next key was kept, and no record tells of it.
            Some(true) => {
                let mut lines = place.lines();
                lines.pop();
                place.write(&lines);
                fs::rename(place.0.join(KEY), place.0.join("audit.key.new")).unwrap();
                fs::write(place.0.join(KEY), &before).unwrap();
                fs::remove_file(place.0.join(STORE)).unwrap();
            }
            // The record is there, the key is not in its place.
            Some(false) => {
                fs::rename(place.0.join(KEY), place.0.join("audit.key.new")).unwrap();
                fs::write(place.0.join(KEY), &before).unwrap();
                fs::write(place.0.join(PUBLIC), public.to_text()).unwrap();
            }
        }
        place.fill(3);
        let found = verify(&place.0);
        assert_eq!(found.first_bad, None, "{name}");
        assert_eq!(old(&place) == before, crash == Some(true), "{name}");
        // Who knows the first key alone believes the next.
        let against = Against { keys: Some(public), ..Against::default() };
        let found = verify_against(&place.0, &against, &mut |_, _| {});
        assert_eq!((found.checkpoints, found.first_bad), (4, None), "{name}");
    }
}

#[test]
fn a_key_that_was_replaced_signs_no_more_and_no_stranger_introduces_one() {
    let place = three_files("key-retired");
    let before = fs::read(place.0.join(KEY)).unwrap();
    let (mut store, mut audit, _) = place.open();
    audit.rotate_key(START, Map::new()).unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    drop(audit);
    // Whoever has the old key goes on with it.
    fs::write(place.0.join(KEY), before).unwrap();
    place.fill(3);
    let bad = verify(&place.0).first_bad.unwrap();
    assert!(bad.reason.contains("signature"), "{bad:?}");
    // A key of other hands, which nobody of this chain has signed.
    let (place, other) = (three_files("key-stranger"), three_files("key-other"));
    fs::copy(other.0.join(KEY), place.0.join(KEY)).unwrap();
    let (mut store, mut audit, _) = place.open();
    fs::copy(other.0.join(PUBLIC), place.0.join(PUBLIC)).unwrap();
    audit.rotate_key(START, Map::new()).unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    let keys = PublicKeys::parse(fs::read_to_string(place.0.join(PUBLIC)).unwrap().lines().next().unwrap()).unwrap();
    let against = Against { keys: Some(keys), ..Against::default() };
    assert!(verify_against(&place.0, &against, &mut |_, _| {}).first_bad.is_some());
}

/// The heads that were signed, as an anchor would have kept them.
fn heads(place: &Place) -> Vec<SignedHead> {
    let mut heads = Vec::new();
    for end in 0..3 {
        let copy = three_files(&format!("heads-{}", place.0.file_name().unwrap().display()));
        for name in names(place) {
            fs::copy(place.0.join(&name), copy.0.join(&name)).unwrap();
        }
        for name in names(place).iter().rev().take(2 - end) {
            fs::remove_file(copy.0.join(name)).unwrap();
        }
        fs::copy(place.0.join(PUBLIC), copy.0.join(PUBLIC)).unwrap();
        let against = Against { without_store: true, ..Against::default() };
        heads.push(verify_against(&copy.0, &against, &mut |_, _| {}).checkpoint.unwrap());
    }
    heads
}

#[test]
fn a01_anchors_find_what_store_and_key_cannot() {
    let place = three_files("anchors");
    let heads = heads(&place);
    assert_eq!(heads.iter().map(|head| head.seq).collect::<Vec<_>>(), [3, 8, 13]);
    let public = PublicKeys::read(&place.0).unwrap();
    let judge = |outside: &Outside| {
        let against = Against { without_store: true, outside: outside.clone(), keys: Some(public.clone()) };
        verify_against(&place.0, &against, &mut |_, _| {})
    };
    let mut outside = Outside::default();
    for head in &heads {
        outside.add_anchor("vault", head).unwrap();
    }
    let stamp = |head: &SignedHead| CheckpointStamp {
        name: "stamp".to_owned(),
        imprint: digest::digest(&digest::SHA256, &crate::anchor::signed_text(head.seq, &head.hash)).as_ref().to_vec(),
        time: "noon".to_owned(),
    };
    outside.add_stamp(stamp(&heads[2]));
    let found = judge(&outside);
    assert_eq!(found.first_bad, None);
    assert_eq!(found.notes, ["3 anchors agree with the chain", "stamp: record 13 and all before it existed at noon"]);
    // The tail is cut off in store and file alike: the files alone seem whole.
    fs::remove_file(place.0.join(LOG)).unwrap();
    assert_eq!(judge(&Outside::default()).first_bad, None);
    let bad = judge(&outside).first_bad.unwrap();
    assert!(bad.reason.contains("4 records are missing at the end: the anchor vault"), "{bad:?}");
    let mut stamped = Outside::default();
    stamped.add_stamp(stamp(&heads[2]));
    assert!(judge(&stamped).first_bad.unwrap().reason.contains("its end was cut off"));
    // Another chain of the same key.
    let mut forged = heads[1].clone();
    forged.hash = heads[0].hash.clone();
    assert!(outside.add_anchor("forged", &forged).unwrap_err().contains("not signed by the key"));
    // A chain that is another altogether, whose key is another.
    let mut other = Outside::default();
    other.add_anchor("other", &self::heads(&three_files("anchors-other"))[1]).unwrap();
    let bad = judge(&other).first_bad.unwrap();
    assert!(bad.file.ends_with(SECOND) && bad.line == 4 && bad.reason.contains("another record"), "{bad:?}");
    assert!(bad.reason.contains("by a key that the chain does not name"), "{bad:?}");
}

/// Deletes all closed files of three, as the chain tells: record 10 is the first that is there.
fn retired(place: &Place) {
    let (mut store, mut audit, _) = place.open();
    let keep = Retention { files: Some(0), ..Retention::default() };
    while let Some((event, members, path)) = audit.retirement(&keep, START).unwrap() {
        audit.append(event, START, members).unwrap();
        audit.delete(path);
    }
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    audit.sync().unwrap();
    assert_eq!(names(place), [LOG]);
}

#[test]
fn a01_a_chain_that_begins_behind_what_the_store_knows_is_not_believed() {
    for (records, reason) in [
        (3, "the store knows number 4 last"),
        (7, "the store knows number 8 last"),
        (8, "another record before this one"),
        (9, "another record of this number"),
    ] {
        let (place, other) = (Place::new(&format!("behind-{records}")), three_files(&format!("behind-by-{records}")));
        place.fill(records);
        retired(&other);
        assert_eq!(verify(&other.0).first_bad, None);
        for name in [LOG, KEY, PUBLIC] {
            fs::copy(other.0.join(name), place.0.join(name)).unwrap();
        }
        let bad = verify(&place.0).first_bad.unwrap();
        assert!(bad.line == 1 && bad.reason.contains(reason), "{records}: {bad:?}");
        let (.., findings) = place.open();
        let broken: Vec<_> = findings.iter().filter(|finding| finding.tampered && !finding.is_told).collect();
        assert_eq!(broken.len(), 1, "{records}: {findings:?}");
        assert!(findings.iter().all(|finding| finding.redo.is_empty()), "{records}: nothing of it counts");
        place.fill(1);
        assert!(verify(&place.0).first_bad.is_some(), "{records}: nothing hides the break");
    }
}

/// Another chain's record of this number, as an anchor would have kept it.
fn other_head(seq: u64) -> SignedHead {
    let place = Place::new(&format!("other-head-{seq}"));
    place.fill(seq - 1);
    let (_store, mut audit, _) = place.open();
    audit.checkpoint(START).unwrap();
    let head = audit.signed_head().unwrap().clone();
    assert_eq!(head.seq, seq);
    head
}

#[test]
fn a01_anchors_of_before_the_first_record_are_compared_with_what_the_chain_tells() {
    let place = three_files("anchors-before");
    let heads = heads(&place);
    let whole: Vec<&SignedHead> = heads.iter().collect();
    let public = PublicKeys::read(&place.0).unwrap();
    retired(&place);
    let (fourth, ninth) = (other_head(4), other_head(9));
    for (name, anchors, expect) in [
        ("all", whole, None),
        ("one", vec![&heads[2]], None),
        (
            "older",
            vec![&heads[0], &heads[1]],
            Some("no anchor is of a record that is there: the newest is of record 8"),
        ),
        ("before", vec![&heads[2], &ninth], Some("knows another record 9")),
        ("told", vec![&heads[2], &fourth], Some("knows another record 4")),
    ] {
        let mut outside = Outside::default();
        anchors.into_iter().for_each(|head| outside.add_anchor("vault", head).unwrap());
        let against = Against { without_store: true, outside, keys: Some(public.clone()) };
        let bad = verify_against(&place.0, &against, &mut |_, _| {}).first_bad;
        match (expect, &bad) {
            (None, None) => {}
            (Some(reason), Some(bad)) => assert!(bad.reason.contains(reason), "{name}: {bad:?}"),
            (expect, bad) => panic!("{name}: expected {expect:?}, found {bad:?}"),
        }
    }
}
