//! What the chain tells after it was tampered with, cut off or written half.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::{Map, json};

use super::*;
use crate::guard::{
    state_files::{KEY, LOG, PUBLIC, STORE},
    store::BanStore,
};

mod clock;
mod files;

/// A state directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-audit-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> (BanStore, AuditChain, Vec<AuditFinding>) {
        let store = BanStore::open(&self.0.join(STORE)).unwrap();
        let anchor = store.anchor().unwrap();
        let (audit, findings) = AuditChain::open(&self.0, anchor.as_ref()).unwrap();
        (store, audit, findings)
    }

    /// Appends `count` records, anchored, with a checkpoint after the third.
    fn fill(&self, count: u64) -> Vec<AuditFinding> {
        self.fill_from(0, count)
    }

    fn fill_from(&self, start: u64, count: u64) -> Vec<AuditFinding> {
        let (mut store, mut audit, findings) = self.open();
        for number in start..start + count {
            let members = json!({"ban": number, "reason": "line\nbreak \"quoted\""});
            audit.append("ban", 1_700_000_000_000 + number, members.as_object().unwrap().clone()).unwrap();
            if number == start + 2 {
                audit.checkpoint(1_700_000_000_000).unwrap();
            }
        }
        audit.sync().unwrap();
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        findings
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.0.join(LOG)).unwrap().lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.0.join(LOG), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Changes a chain of eight lines, the fourth a checkpoint, and expects its first bad line and why.
#[track_caller]
fn check(name: &str, change: impl FnOnce(&mut Vec<String>), expect: Option<(u64, &str)>) {
    let place = Place::new(name);
    place.fill(7);
    let mut lines = place.lines();
    assert_eq!(lines.len(), 8);
    change(&mut lines);
    place.write(&lines);
    let found = verify(&place.0);
    match (expect, &found.first_bad) {
        (None, None) => assert_eq!(found.records, 8),
        (Some((line, reason)), Some(bad)) => {
            assert!(bad.line == line && bad.reason.contains(reason), "{name}: {bad:?}");
            assert_eq!(found.records, line - 1, "{name}: {bad:?}");
            // Whoever starts a guard on it is told, and the chain goes on without hiding the break.
            let findings = place.fill(1);
            assert!(findings.iter().any(|finding| finding.tampered), "{name}: {findings:?}");
            // The store has moved on: it no longer knows the one line that was replaced, but what should follow it.
            let after = verify(&place.0).first_bad.map_or(0, |bad| bad.line);
            assert!(after == line || after == line + 1, "{name}: line {after}");
        }
        (expect, found) => panic!("{name}: expected {expect:?}, found {found:?}"),
    }
}

#[test]
fn a01_names_the_first_bad_record() {
    check("whole", |_| {}, None);
    check("flip", |lines| lines[4] = lines[4].replacen("\"ban\":3", "\"ban\":4", 1), Some((5, "was changed")));
    check("flip-time", |lines| lines[0] = lines[0].replacen("2023", "2024", 1), Some((1, "was changed")));
    check("flip-last", |lines| lines[7] = lines[7].replacen("\"ban\":6", "\"ban\":5", 1), Some((8, "was changed")));
    check("flip-brace", |lines| lines[2].push(' '), Some((3, "was changed")));
    check("no-record", |lines| lines[2] = "{}".to_owned(), Some((3, "no audit record")));
    check("delete", |lines| drop(lines.remove(4)), Some((5, "records are missing")));
    check("delete-first", |lines| drop(lines.remove(0)), Some((1, "records are missing")));
    check("reorder", |lines| lines.swap(4, 5), Some((5, "records are missing")));
    check("duplicate", |lines| lines.insert(5, lines[4].clone()), Some((6, "twice or out of order")));
    check("truncate", |lines| lines.truncate(6), Some((7, "missing at the end")));
    check("empty", Vec::clear, Some((1, "missing at the end")));
    check("twice", |lines| lines.extend(lines.clone()), Some((9, "twice or out of order")));
}

/// A whole chain of other hands: their own key, their own store.
fn forged(name: &str, count: u64) -> Vec<String> {
    let place = Place::new(name);
    place.fill_from(100, count);
    place.lines()
}

#[test]
fn a01_names_a_replaced_chain() {
    check("replaced", |lines| *lines = forged("replaced-by", 9), Some((1, "file was replaced")));
    check("joined", |lines| lines.extend(forged("joined-by", 9)), Some((9, "twice or out of order")));
}

/// Rewrites line `from` and all after it so that hashes and order are right: only what is outside the file tells.
fn rewrite(lines: &mut [String], from: usize) {
    let hash_of = |line: &str| line[line.len() - 66..line.len() - 2].to_owned();
    let mut before = hash_of(&lines[from - 1]);
    for line in &mut lines[from..] {
        let body = line[..line.find(",\"prev\":").unwrap()].replacen("\"reason\":\"line", "\"reason\":\"lime", 1);
        let hashed = format!("{body},\"prev\":\"{before}\"");
        before = HEXLOWER.encode(digest::digest(&digest::SHA256, hashed.as_bytes()).as_ref());
        *line = format!("{hashed},\"hash\":\"{before}\"}}");
    }
}

#[test]
fn a01_names_a_chain_that_was_computed_anew() {
    check("anew-after-checkpoint", |lines| rewrite(lines, 5), Some((8, "file was replaced")));
    check("anew-before-checkpoint", |lines| rewrite(lines, 1), Some((4, "signature")));
}

#[test]
fn a01_finds_an_old_copy() {
    let place = Place::new("rollback");
    place.fill(7);
    let old = place.lines();
    place.fill(3);
    place.write(&old);
    let bad = verify(&place.0).first_bad.unwrap();
    assert!(bad.line == 9 && bad.reason.contains("missing at the end"), "{bad:?}");
}

#[test]
fn a01_finds_a_store_that_was_replaced() {
    let place = Place::new("store");
    place.fill(7);
    for ending in ["db", "db-wal", "db-shm"] {
        drop(fs::remove_file(place.0.join(STORE).with_extension(ending)));
    }
    assert!(verify(&place.0).first_bad.is_some());
    let findings = place.fill(1);
    assert_eq!(findings.iter().map(|finding| finding.event).collect::<Vec<_>>(), ["store_replaced"]);
    // The chain itself is whole, and nobody says otherwise.
    assert_eq!(verify(&place.0).first_bad, None);
}

#[test]
fn a02_recovers_from_a_crash() {
    let place = Place::new("crash");
    place.fill(7);
    // Records that the store never heard of, the last one torn.
    let (_store, mut audit, _) = place.open();
    audit.append("ban", 0, Map::new()).unwrap();
    audit.append("ban", 0, Map::new()).unwrap();
    drop(audit);
    let text = fs::read_to_string(place.0.join(LOG)).unwrap();
    fs::write(place.0.join(LOG), &text[..text.len() - 40]).unwrap();
    assert_eq!(verify(&place.0).first_bad.unwrap().line, 10);
    let findings = place.fill(1);
    assert!(findings.iter().all(|finding| !finding.tampered), "{findings:?}");
    assert_eq!(findings.iter().map(|finding| finding.ahead).collect::<Vec<_>>(), [None, Some([9, 9])]);
    let found = verify(&place.0);
    assert_eq!((found.records, found.first_bad), (10, None));
}

#[test]
fn a01_finds_every_byte_that_was_changed() {
    let place = Place::new("bytes");
    place.fill(3);
    let (whole, anchors) =
        (fs::read(place.0.join(LOG)).unwrap(), Against { without_store: true, ..Against::default() });
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(place.0.join(LOG), &bytes).unwrap();
        let line = 1 + whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        let found = read_records(&place.0, &anchors, &mut |_| Ok(()), &mut |_, _| {}).unwrap();
        // The end of the file is not signed yet: the store tells of that.
        assert!(found.first_bad.is_some_and(|bad| bad.line == line), "byte {at} of line {line}");
    }
}

#[test]
fn a02_a_last_record_cut_off_at_any_byte_is_told_as_what_it_is() {
    let place = Place::new("cut");
    place.fill(2);
    let (_, mut audit, _) = place.open();
    let anchored = fs::read(place.0.join(LOG)).unwrap();
    audit.append("ban", 0, Map::new()).unwrap();
    drop(audit);
    let whole = fs::read(place.0.join(LOG)).unwrap();
    let last = anchored.iter().rposition(|byte| *byte == b'{').unwrap();
    for length in last..=whole.len() {
        fs::write(place.0.join(LOG), &whole[..length]).unwrap();
        let (_, _, findings) = place.open();
        let is_tampered = findings.iter().any(|finding| finding.tampered);
        // What the store knows was complete once; what it does not know may have been torn by a crash.
        assert_eq!(is_tampered, length < anchored.len(), "{length}: {findings:?}");
        let is_told = length > anchored.len() || is_tampered;
        assert_eq!(!findings.is_empty(), is_told, "{length}: {findings:?}");
        assert_eq!(verify(&place.0).first_bad.is_some(), is_tampered, "{length}");
    }
}

#[test]
fn a_break_is_told_once_however_often_the_gateway_starts() {
    let place = Place::new("once");
    place.fill(7);
    let mut lines = place.lines();
    lines.remove(4);
    place.write(&lines);
    let tell = || {
        let (mut store, mut audit, findings) = place.open();
        audit.append("start", 0, Map::new()).unwrap();
        for finding in findings.iter().filter(|finding| finding.tampered && !finding.is_told) {
            audit.append(finding.event, 0, members(json!({"finding": finding.text}))).unwrap();
        }
        store.change().unwrap().commit(&audit.anchor()).unwrap();
        findings.iter().filter(|finding| finding.tampered).map(|finding| finding.is_told).collect::<Vec<_>>()
    };
    assert_eq!([tell(), tell(), tell()], [[false], [true], [true]]);
    assert_eq!(verify(&place.0).notes.len(), 1);
    // Another break is another thing to tell.
    let mut lines = place.lines();
    let last = lines.len() - 1;
    lines.remove(last);
    place.write(&lines);
    assert_eq!([tell(), tell()], [[false], [true]]);
}

#[test]
fn what_was_not_done_is_taken_back() {
    let place = Place::new("rewind");
    place.fill(2);
    let (mut store, mut audit, _) = place.open();
    let mark = audit.mark();
    audit.append("ban", 0, Map::new()).unwrap();
    audit.append("ban", 0, Map::new()).unwrap();
    audit.rewind(mark).unwrap();
    audit.append("not_done", 0, Map::new()).unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    let found = verify(&place.0);
    assert_eq!((found.records, found.first_bad), (3, None));
    assert!(place.lines().iter().all(|line| !line.contains("\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"ban\"")));
}

#[test]
fn files_are_not_for_everybody() {
    let place = Place::new("modes");
    place.fill(1);
    for (name, mode) in [(LOG, 0o640), (KEY, 0o600), (PUBLIC, 0o644)] {
        let found = fs::metadata(place.0.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{name}: {found:o}");
    }
}

#[test]
fn a_record_that_is_too_long_is_shortened() {
    let place = Place::new("long");
    let (mut store, mut audit, _) = place.open();
    let cases = [
        json!({"actor": "x", "changes": vec!["y".repeat(1_000); 200]}),
        json!({"actor": "x", "reason": "\u{1}".repeat(70_000)}),
        (0..10_000).map(|at| (at.to_string(), json!("z"))).collect(),
    ];
    for members in cases {
        audit.append("reload", 1_700_000_000_000, members.as_object().unwrap().clone()).unwrap();
        let line = place.lines().pop().unwrap();
        assert!(line.len() < 32 * 1_024, "{}", line.len());
        assert!(line.contains("\"event\":\"reload\"") && line.contains("\"shortened\":true"), "{line}");
        assert!(members.get("actor").is_none() || line.contains("\"actor\":\"x\""), "{line}");
    }
    audit.checkpoint(1_700_000_000_000).unwrap();
    audit.sync().unwrap();
    store.change().unwrap().commit(&audit.anchor()).unwrap();
    drop((store, audit));
    let (_, audit, findings) = place.open();
    assert_eq!((audit.anchor().seq, findings.len()), (4, 0), "{findings:?}");
}

/// A store that cannot be read says nothing of the chain: it is neither whole nor broken.
#[test]
fn a_damaged_store_breaks_no_chain() {
    type Spoil = fn(&Place);
    let table: [(&str, Spoil, bool, &str); 4] = [
        ("junk", |place| fs::write(place.0.join(STORE), [7; 20_000]).unwrap(), true, "not a database"),
        ("cut", |place| fs::write(place.0.join(STORE), b"SQLite format 3\0").unwrap(), true, "cannot be used"),
        ("missing", |place| fs::remove_file(place.0.join(STORE)).unwrap(), false, "is missing"),
        ("empty", |place| fs::write(place.0.join(STORE), b"").unwrap(), true, "no such table"),
    ];
    for (name, spoil, is_unjudged, reason) in table {
        let place = Place::new(&format!("store-{name}"));
        place.fill(7);
        for ending in ["-wal", "-shm"] {
            fs::remove_file(place.0.join(format!("{STORE}{ending}"))).unwrap_or_default();
        }
        spoil(&place);
        let found = verify(&place.0);
        let bad = found.first_bad.expect("nothing that cannot be judged is whole");
        assert!(bad.reason.contains(reason), "{name}: {bad}");
        let unjudged = found.unjudged.as_ref();
        assert_eq!(unjudged.is_some(), is_unjudged, "{name}: {unjudged:?}");
        assert!(unjudged.is_none_or(|it| !it.is_denied && it.reason.contains("`gateway run` repairs")), "{unjudged:?}");
        let alone = verify_against(&place.0, &Against { without_store: true, ..Against::default() }, &mut |_, _| {});
        assert_eq!((alone.records, alone.first_bad, alone.unjudged), (8, None, None), "{name}");
    }
}
