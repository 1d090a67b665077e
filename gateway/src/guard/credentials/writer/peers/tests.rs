//! Revocations and keys that other machines tell of.

use std::slice;

use super::*;
use crate::{guard::control::ControlAnswer, policy::auth::api_key::record::Profile};

const NOW: Now = Now { monotonic: 0, unix_millis: 1_800_000_000_000 };

fn writer(name: &str) -> (CredentialWriterState, PathBuf) {
    let folder = std::env::temp_dir().join(format!("gateway-peers-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let mut writer = CredentialWriterState::new(folder.clone());
    writer.work(CredentialJob::Share { nodes: vec!["a".to_owned(), "b".to_owned()], now: NOW });
    writer.work(CredentialJob::Configure { wanted: ConfiguredCredentials::Revocations, now: NOW });
    (writer, folder)
}

fn token(id: &str) -> Revoked {
    Revoked::Token { issuer: "i".to_owned(), id: id.to_owned() }
}

/// What another machine says: all that it revokes, or what is new.
fn says(node: &str, revoked: &[&str], restored: &[&str], whole: Option<u64>) -> PeerSays {
    let revoked = revoked.iter().map(|id| (token(id), None, NOW.unix_millis, "tests".to_owned()));
    PeerSays {
        node: node.to_owned(),
        revoked: revoked.collect(),
        restored: restored.iter().map(|id| token(id)).collect(),
        keys: Vec::new(),
        is_all: whole.is_some(),
        whole,
    }
}

fn order(writer: &mut CredentialWriterState, order: CredentialCommand) -> (ControlAnswer, CredentialWork) {
    let (to, _waits) = tokio::sync::oneshot::channel();
    let mut worked = writer.work(CredentialJob::Order { order, actor: "operator:0".to_owned(), now: NOW, to });
    let (answer, _to) = worked.answer.take().unwrap();
    (answer, worked)
}

fn revoke(writer: &mut CredentialWriterState, id: &str) -> CredentialWork {
    order(writer, CredentialCommand::Revoke { revoked: token(id), expires: None, reason: String::new() }).1
}

#[track_caller]
fn hears(writer: &mut CredentialWriterState, said: PeerSays, expect: &[CredentialChange]) {
    let worked = writer.work(CredentialJob::Peer { said, now: NOW });
    assert_eq!(worked.changes, expect);
    assert!(worked.taken.is_some() && worked.own.is_none(), "what others revoke is not passed on");
}

fn revoked(id: &str) -> CredentialChange {
    CredentialChange::Revoked(token(id))
}

fn lifted(id: &str) -> CredentialChange {
    CredentialChange::Lifted(token(id))
}

#[test]
fn each_machine_lifts_what_it_has_revoked_itself() {
    let (mut writer, folder) = writer("lift");
    hears(&mut writer, says("a", &["1", "2"], &[], Some(1)), &[revoked("1"), revoked("2")]);
    hears(&mut writer, says("a", &["1", "2"], &[], Some(2)), &[]);
    hears(&mut writer, says("b", &["2"], &[], Some(3)), &[revoked("2")]);
    hears(&mut writer, says("b", &[], &["1"], None), &[]);
    hears(&mut writer, says("a", &[], &["2"], None), &[]);
    hears(&mut writer, says("b", &[], &["2"], None), &[lifted("2")]);
    assert_eq!(revoke(&mut writer, "1").own.unwrap().rows.len(), 1, "its own alone is told");
    hears(&mut writer, says("a", &[], &[], Some(4)), &[]);
    hears(&mut writer, says("a", &["3"], &[], None), &[revoked("3")]);
    // A whole that is not all of it lifts nothing.
    hears(&mut writer, PeerSays { is_all: false, ..says("a", &[], &[], Some(5)) }, &[]);
    hears(&mut writer, says("a", &["4"], &[], Some(6)), &[lifted("3"), revoked("4")]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_operator_lifts_what_a_machine_said_that_is_gone() {
    let (mut writer, folder) = writer("gone");
    hears(&mut writer, says("a", &["1"], &[], Some(1)), &[revoked("1")]);
    let number = writer.store().unwrap().revocations(0, 9).unwrap()[0].number;
    let (answer, _) = order(&mut writer, CredentialCommand::Lift { number });
    assert!(matches!(&answer, ControlAnswer::Refused { code, .. } if code == "of_peer"), "{answer:?}");
    writer.work(CredentialJob::Share { nodes: vec!["b".to_owned()], now: NOW });
    let (answer, worked) = order(&mut writer, CredentialCommand::Lift { number });
    assert!(matches!(answer, ControlAnswer::Done { .. }), "{answer:?}");
    assert_eq!(worked.changes, [lifted("1")]);
    std::fs::remove_dir_all(folder).unwrap();
}

fn writer_with_keys(name: &str) -> (CredentialWriterState, PathBuf, Tag) {
    let (mut writer, folder) = writer(name);
    writer.work(CredentialJob::Configure { wanted: ConfiguredCredentials::Keys(Some(vec![7; 32])), now: NOW });
    (writer, folder, Pepper::new(&[7; 32]).check())
}

fn key(id: u64, change: &dyn Fn(&mut KeyRecord)) -> KeyRecord {
    let (expires, is_revoked, is_replaced, is_foreign) = (None, false, false, false);
    let (name, profile) = (format!("key-{id}"), Profile::default());
    let mut record = KeyRecord { id, tag: [7; 32], name, profile, expires, is_revoked, is_replaced, is_foreign };
    change(&mut record);
    record
}

/// `a` has made these keys.
fn told(records: &[KeyRecord], pepper: Tag) -> PeerSays {
    let keys = records.iter().map(|record| (record.clone(), 5, "operator:0".to_owned(), pepper));
    PeerSays { keys: keys.collect(), ..says("a", &[], &[], None) }
}

#[test]
fn a_key_of_another_machine_is_good_here_and_its_own_to_change() {
    let (mut writer, folder, pepper) = writer_with_keys("keys");
    let first = key(1, &|_| {});
    let changed = |record: &KeyRecord| CredentialChange::Key(record.clone());
    hears(&mut writer, told(slice::from_ref(&first), pepper), &[changed(&first)]);
    hears(&mut writer, told(slice::from_ref(&first), pepper), &[]);
    hears(&mut writer, told(&[key(2, &|_| {})], [9; 32]), &[]);
    // Another machine, or another tag, changes nothing of it.
    hears(&mut writer, PeerSays { node: "b".to_owned(), ..told(&[key(1, &|key| key.is_revoked = true)], pepper) }, &[]);
    hears(&mut writer, told(&[key(1, &|key| key.tag = [8; 32])], pepper), &[]);
    let rotated = key(1, &|key| (key.expires, key.is_replaced) = (Some(NOW.unix_seconds() + 60), true));
    hears(&mut writer, told(slice::from_ref(&rotated), pepper), &[changed(&rotated)]);
    // Revoked here: its own machine does not make it good again.
    let (answer, _) =
        order(&mut writer, CredentialCommand::RevokeKey { what: "key-1".to_owned(), reason: String::new() });
    assert!(matches!(answer, ControlAnswer::Done { .. }), "{answer:?}");
    let later = key(1, &|key| key.expires = Some(NOW.unix_seconds() + 90));
    let worked = writer.work(CredentialJob::Peer { said: told(&[later], pepper), now: NOW });
    assert!(matches!(&worked.changes[..], [CredentialChange::Key(key)] if key.is_revoked), "{:?}", worked.changes);
    let rotate = |what: &str| CredentialCommand::Rotate {
        prefix: "gwk".to_owned(),
        what: what.to_owned(),
        overlap: 0,
        expires: None,
    };
    hears(&mut writer, told(&[key(3, &|_| {})], pepper), &[changed(&key(3, &|_| {}))]);
    let (answer, _) = order(&mut writer, rotate("key-3"));
    assert!(matches!(&answer, ControlAnswer::Refused { code, .. } if code == "of_peer"), "{answer:?}");
    // What others have made is not passed on; what is made here is told.
    let make = CredentialCommand::Make {
        prefix: "gwk".to_owned(),
        name: "own".to_owned(),
        profile: Profile::default(),
        expires: None,
    };
    let own = order(&mut writer, make).1.own.unwrap();
    assert_eq!((own.keys.len(), &*own.keys[0].record.name, own.pepper), (1, "own", pepper));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whoever made a key, and whatever came first: it is revoked for ever, and other machines speak of it for 90 days.
#[test]
fn a_key_that_another_machine_has_revoked_stays_revoked() {
    let (mut writer, folder, pepper) = writer_with_keys("stays");
    let make = CredentialCommand::Make {
        prefix: "gwk".to_owned(),
        name: "own".to_owned(),
        profile: Profile::default(),
        expires: None,
    };
    let own = order(&mut writer, make).1.own.unwrap().keys[0].record.id;
    let expires = Some(NOW.unix_seconds() + 90 * 86_400);
    // An earlier version wrote this row alone.
    let row = RevocationRow {
        number: 0,
        revoked: Revoked::Key(2),
        expires,
        reason: "lost (operator:0)".to_owned(),
        actor: "cluster:b".to_owned(),
        added: NOW.unix_millis,
    };
    let change = writer.store().unwrap().change().unwrap();
    rows::put_key(
        &change,
        &KeyRow {
            record: key(2, &|_| {}),
            actor: "operator:0".to_owned(),
            created: 5,
            used: None,
            revoked: None,
            replaced_by: None,
        },
    )
    .unwrap();
    rows::put_revocation(&change, &row).unwrap();
    change.commit().unwrap();
    writer.work(CredentialJob::Peer { said: told(&[key(1, &|_| {})], pepper), now: NOW });
    let all = [own, 1, 2, 3];
    let revoked = all.map(|id| (Revoked::Key(id), expires, NOW.unix_millis, row.reason.clone()));
    let said = PeerSays { revoked: revoked.to_vec(), ..says("b", &[], &[], Some(1)) };
    let worked = writer.work(CredentialJob::Peer { said, now: NOW });
    let is_told = |id: u64| {
        let is_it =
            |change: &&CredentialChange| matches!(change, CredentialChange::Key(key) if key.id == id && key.is_revoked);
        worked.changes.iter().any(|change| is_it(&change))
    };
    assert_eq!(all.map(is_told), [true, true, true, false], "the last is not known here yet");
    assert_eq!(worked.records.iter().filter(|record| record.event == "api_key_revoke").count(), 3);
    writer.work(CredentialJob::Peer { said: told(&[key(3, &|_| {})], pepper), now: NOW });
    // Long after, nobody speaks of them any more.
    let after = Now { unix_millis: NOW.unix_millis + 91 * 86_400_000, ..NOW };
    writer.work(CredentialJob::Peer { said: says("b", &[], &[], Some(2)), now: after });
    for id in all {
        let key = writer.store().unwrap().key(id).unwrap().unwrap();
        assert!(key.record.is_revoked && key.revoked == Some(NOW.unix_millis), "{key:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Its keys cannot be written: what it revokes is told to the proxies all the same, and it is asked for all again.
#[test]
fn what_is_revoked_is_told_whatever_becomes_of_keys() {
    let (mut writer, folder, pepper) = writer_with_keys("broken");
    let change = writer.store().unwrap().change().unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON key BEGIN SELECT RAISE(ABORT, 'full'); END";
    change.execute_batch(broken).unwrap();
    change.commit().unwrap();
    let said = PeerSays { keys: told(&[key(1, &|_| {})], pepper).keys, ..says("a", &["1"], &[], Some(1)) };
    let worked = writer.work(CredentialJob::Peer { said, now: NOW });
    assert_eq!(worked.changes, [revoked("1")]);
    assert_eq!(
        worked.taken,
        Some(PeerOutcome { node: "a".to_owned(), whole: None, changed: 1, refused: 0, no_room: 0 })
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_one_machine_may_revoke_is_bounded() {
    let (mut writer, folder) = writer("bounded");
    let ids: Vec<String> = (0..MOST_OF_PEER + 7).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let worked = writer.work(CredentialJob::Peer { said: says("a", &ids, &[], Some(1)), now: NOW });
    let taken = worked.taken.unwrap();
    assert_eq!((worked.changes.len(), taken.changed, taken.refused), (MOST_OF_PEER, 20_000, 7));
    hears(&mut writer, says("b", &["x"], &[], None), &[revoked("x")]);
    std::fs::remove_dir_all(folder).unwrap();
}
