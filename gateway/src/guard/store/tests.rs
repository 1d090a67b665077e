//! What the store remembers over restarts.

use std::path::Path;

use rusqlite::Connection;

use super::{schema::FIRST, *};
use crate::web::request_id::RequestId;

fn anchor(seq: u64) -> CommittedHead {
    CommittedHead { seq, hash: format!("hash {seq}"), first: "first".to_owned() }
}

fn draft(source: &str) -> BanRecord {
    BanRecord {
        relay: None,
        id: 0,
        source: source.parse().unwrap(),
        reason: "why".to_owned(),
        actor: "rule:bad-tokens".to_owned(),
        rule: Some("bad-tokens".to_owned()),
        evidence: vec![RequestId(1), RequestId(u128::MAX)],
        shadow: false,
        started: 1_000,
        expires: Some(2_000),
        boot: "boot".to_owned(),
        expires_monotonic: Some(5),
        reaction_micros: None,
        connections_closed: None,
        ended: None,
        confirm: None,
        packets: 0,
        bytes: 0,
    }
}

fn add(store: &mut BanStore, source: &str, seq: u64) -> u64 {
    let change = store.change().unwrap();
    let id = change.begin(&draft(source)).unwrap();
    change.commit(&anchor(seq)).unwrap();
    id
}

fn end(store: &mut BanStore, id: u64, seq: u64) {
    let change = store.change().unwrap();
    change.end(id, &BanEnd { at: 3_000, how: "expired".to_owned() }, 7, 700).unwrap();
    change.commit(&anchor(seq)).unwrap();
}

#[test]
fn remembers_over_a_restart() {
    let path = std::env::temp_dir().join(format!("gateway-store-{}.db", std::process::id()));
    let mut store = BanStore::open(&path).unwrap();
    assert_eq!(store.anchor().unwrap(), None);
    let id = add(&mut store, "192.0.2.7", 1);
    let change = store.change().unwrap();
    change.reacted(id, 42).unwrap();
    change.closed(id, 3).unwrap();
    change.commit(&anchor(2)).unwrap();
    // What is not committed never was.
    let change = store.change().unwrap();
    change.begin(&draft("192.0.2.8")).unwrap();
    drop(change);
    drop(store);
    let store = BanStore::open(&path).unwrap();
    let expect = BanRecord { id, reaction_micros: Some(42), connections_closed: Some(3), ..draft("192.0.2.7") };
    assert_eq!(store.in_force().unwrap(), [expect]);
    assert_eq!(store.anchor().unwrap(), Some(anchor(2)));
    assert_eq!(read_anchor(&path).unwrap(), Some(anchor(2)));
    store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    assert!(matches!(BanStore::open(&path), Err(StoreError::Newer { found: 99 })));
    for ending in ["db", "db-wal", "db-shm"] {
        drop(std::fs::remove_file(path.with_extension(ending)));
    }
}

#[test]
fn ids_only_grow_and_history_is_bounded() {
    let mut store = BanStore::open(Path::new(":memory:")).unwrap();
    for number in 1..=5 {
        let id = add(&mut store, "192.0.2.7", number);
        assert_eq!(id, number);
        end(&mut store, id, number);
    }
    let kept = add(&mut store, "192.0.2.0/24", 6);
    let change = store.change().unwrap();
    assert_eq!(change.prune(2).unwrap(), 3);
    change.commit(&anchor(7)).unwrap();
    let history = store.history("192.0.2.7".parse().unwrap(), 10).unwrap();
    assert_eq!(history.iter().map(|record| record.id).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(history[0].ended, Some(BanEnd { at: 3_000, how: "expired".to_owned() }));
    assert_eq!((history[0].packets, history[0].bytes), (7, 700));
    end(&mut store, kept, 8);
    assert_eq!(store.history("192.0.2.9".parse().unwrap(), 10).unwrap().len(), 1);
    let change = store.change().unwrap();
    change.prune(0).unwrap();
    change.commit(&anchor(9)).unwrap();
    assert_eq!(add(&mut store, "192.0.2.7", 10), 7, "a pruned id came back");
}

#[test]
fn a_source_is_banned_once() {
    let mut store = BanStore::open(Path::new(":memory:")).unwrap();
    add(&mut store, "192.0.2.7", 1);
    let change = store.change().unwrap();
    assert!(change.begin(&draft("192.0.2.7")).is_err());
}

#[test]
fn allowances() {
    let mut store = BanStore::open(Path::new(":memory:")).unwrap();
    let allowed =
        AllowanceRecord { source: "192.0.2.0/24".parse().unwrap(), reason: "us".into(), actor: "operator:0".into() };
    let change = store.change().unwrap();
    change.allow(&allowed, 1).unwrap();
    change.commit(&anchor(1)).unwrap();
    assert_eq!(store.allowed().unwrap(), std::slice::from_ref(&allowed));
    let change = store.change().unwrap();
    assert!(change.disallow(allowed.source).unwrap());
    assert!(!change.disallow(allowed.source).unwrap());
    change.commit(&anchor(2)).unwrap();
    assert_eq!(store.allowed().unwrap(), []);
}

#[test]
fn a_store_of_the_first_schema_is_brought_forward() {
    let path = std::env::temp_dir().join(format!("gateway-store-first-{}.db", std::process::id()));
    let old = Connection::open(&path).unwrap();
    old.execute_batch(FIRST).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let (columns, values) =
        ("source, reason, actor, evidence, shadow, started, boot", "'192.0.2.7', 'x', 'y', '', 0, 1, 'b'");
    old.execute(&format!("INSERT INTO ban ({columns}) VALUES ({values})"), []).unwrap();
    drop(old);
    let mut store = BanStore::open(&path).unwrap();
    assert_eq!(store.in_force().unwrap()[0].confirm, None);
    let deadline = BanDeadline { unix_millis: 5_000, monotonic: 7 };
    let change = store.change().unwrap();
    change.begin(&BanRecord { confirm: Some(deadline), ..draft("192.0.2.8") }).unwrap();
    change.commit(&anchor(1)).unwrap();
    drop(store);
    let store = BanStore::open(&path).unwrap();
    assert_eq!(store.in_force().unwrap()[1].confirm, Some(deadline));
    for ending in ["db", "db-wal", "db-shm"] {
        drop(std::fs::remove_file(path.with_extension(ending)));
    }
}

#[test]
fn pardons_and_offences() {
    let mut store = BanStore::open(Path::new(":memory:")).unwrap();
    for (number, how) in ["expired", "removed by operator:0", "expired"].into_iter().enumerate() {
        let id = add(&mut store, "192.0.2.7", 1 + number as u64);
        let change = store.change().unwrap();
        change.end(id, &BanEnd { at: 3_000 + number as u64, how: how.to_owned() }, 0, 0).unwrap();
        change.commit(&anchor(1)).unwrap();
    }
    let ended: Vec<u64> =
        store.offences("192.0.2.7".parse().unwrap(), 10).unwrap().iter().map(|offence| offence.ended).collect();
    assert_eq!(ended, [3_000, 3_002]);
    assert_eq!(store.expired_since(3_001, 10).unwrap().len(), 1);
    let pardon = |source: &str, at| Pardon { source: source.parse().unwrap(), actor: "operator:0".to_owned(), at };
    let change = store.change().unwrap();
    for (source, at) in [("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.3", 3), ("192.0.2.4", 4)] {
        change.pardon(&pardon(source, at), 2, 2).unwrap();
    }
    change.unpardon("192.0.2.4".parse().unwrap()).unwrap();
    change.commit(&anchor(2)).unwrap();
    assert_eq!(store.pardons().unwrap(), [pardon("192.0.2.3", 3)]);
}
