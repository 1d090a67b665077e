//! What the writer of the store does, job by job, over a real file.

use std::{fs, path::Path};

use tokio::sync::oneshot;

use super::*;
use crate::{
    guard::{
        control::{KeyMade, KeyPage},
        credentials::redo::CredentialRedo,
    },
    message::credentials::CredentialReader,
    policy::auth::api_key::record::{KeyRecord, Profile},
};

mod clock;
mod file;
mod records;

const NOW: u64 = 1_800_000_000;

const fn at(seconds: u64) -> Now {
    Now { monotonic: 0, unix_millis: seconds * 1_000 }
}

fn newest() -> SeenRecord {
    SeenRecord { seq: 1, hash: "h".to_owned() }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("gateway-credentials-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn writer(folder: &Path) -> (CredentialWriterState, CredentialWork) {
    let mut writer = CredentialWriterState::new(folder.to_owned());
    let worked = writer.work(CredentialJob::Configure { wanted: ConfiguredCredentials::Keys(None), now: at(NOW) });
    (writer, worked)
}

fn order(writer: &mut CredentialWriterState, order: CredentialCommand, now: Now) -> (ControlAnswer, CredentialWork) {
    let (to, _waits) = oneshot::channel();
    let mut worked = writer.work(CredentialJob::Order { order, actor: "operator:0".to_owned(), now, to });
    let (answer, _to) = worked.answer.take().unwrap();
    (answer, worked)
}

fn make(name: &str, expires: Option<u64>) -> CredentialCommand {
    CredentialCommand::Make { prefix: "gwk".to_owned(), name: name.to_owned(), profile: Profile::default(), expires }
}

#[track_caller]
fn made(answer: ControlAnswer) -> KeyMade {
    match answer {
        ControlAnswer::KeyMade(made) => *made,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(answer: &ControlAnswer) -> &str {
    match answer {
        ControlAnswer::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// What proxies are handed: the pepper, how many keys, and what is revoked.
fn handed(worked: CredentialWork) -> (Result<Vec<u8>, String>, Vec<KeyRecord>, Vec<Revoked>) {
    let mut reader = CredentialReader::begin(worked.whole.unwrap()).unwrap();
    let (mut keys, mut revoked) = (Vec::new(), Vec::new());
    while let Some(piece) = reader.piece().unwrap() {
        for change in piece {
            match change {
                CredentialChange::Key(key) => keys.push(key),
                CredentialChange::Revoked(what) => revoked.push(what),
                other => panic!("{other:?}"),
            }
        }
    }
    (reader.opening.pepper, keys, revoked)
}

#[test]
fn the_life_of_a_key() {
    let folder = folder("life");
    let (mut writer, opened) = writer(&folder);
    assert_eq!(opened.warnings, Some(Vec::new()));
    let (answer, worked) = order(&mut writer, make("deploy", Some(NOW + 1_000)), at(NOW));
    let first = made(answer);
    assert_eq!((worked.changes.len(), worked.records.len(), &*worked.records[0].event), (1, 1, "api_key_new"));
    let told = format!("{:?} {}", worked.changes, worked.records[0].members["key"]);
    assert!(!told.contains(&first.key[16..]), "the secret is told to nobody else");
    assert_eq!(refused(&order(&mut writer, make("deploy", None), at(NOW)).0), "exists");

    let rotate = |what: &str, overlap| CredentialCommand::Rotate {
        prefix: "gwk".to_owned(),
        what: what.to_owned(),
        overlap,
        expires: None,
    };
    let (answer, worked) = order(&mut writer, rotate(&first.id, 100), at(NOW));
    let second = made(answer);
    assert_eq!((&second.replaces, worked.changes.len()), (&Some(first.id.clone()), 2));
    let expires = |id: &str, changes: &[CredentialChange]| {
        let of = |change: &CredentialChange| match change {
            CredentialChange::Key(key) if crate::policy::auth::api_key::text::KeyId(key.id).to_string() == id => {
                Some(key.expires)
            }
            _ => None,
        };
        changes.iter().find_map(of).unwrap()
    };
    assert_eq!(expires(&first.id, &worked.changes), Some(NOW + 100));
    assert_eq!(expires(&second.id, &worked.changes), Some(NOW + 1_000), "as the one before");
    // By its name it is the newest that goes on; one that was replaced is not rotated again.
    assert_eq!(refused(&order(&mut writer, rotate(&first.id, 0), at(NOW)).0), "not_good");
    assert_eq!(made(order(&mut writer, rotate("deploy", 0), at(NOW)).0).replaces, Some(second.id));
    assert_eq!(refused(&order(&mut writer, rotate("nobody", 0), at(NOW)).0), "not_found");
    assert_eq!(refused(&order(&mut writer, rotate("deploy", 0), at(NOW + 2_000)).0), "not_good");

    let revoke = || CredentialCommand::RevokeKey { what: "deploy".to_owned(), reason: "x".to_owned() };
    let (answer, worked) = order(&mut writer, revoke(), at(NOW));
    assert!(matches!(answer, ControlAnswer::Done { changed: 3, .. }), "{answer:?}");
    assert!(worked.changes.iter().all(|change| matches!(change, CredentialChange::Key(key) if key.is_revoked)));
    assert_eq!(refused(&order(&mut writer, revoke(), at(NOW)).0), "revoked_already");
    made(order(&mut writer, make("deploy", None), at(NOW)).0);
    let (_, keys, _) = handed(writer.work(CredentialJob::Gather(at(NOW + 91 * 86_400))));
    assert_eq!(keys.len(), 1, "what was revoked long ago is not handed on");

    // Uses, to be seen.
    let id = crate::policy::auth::api_key::text::KeyId(keys[0].id).to_string();
    writer.work(CredentialJob::Used(vec![(keys[0].id, NOW), (keys[0].id, NOW - 7_200), (7, NOW)]));
    let ControlAnswer::Keys(page) = order(&mut writer, CredentialCommand::Show { what: id }, at(NOW)).0 else {
        panic!("no keys")
    };
    let KeyPage { keys: shown, .. } = *page;
    assert_eq!(shown[0].used.as_deref(), Some("2027-01-15T08:00:00.000Z"));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_key_is_meant_by_its_id_before_any_other_by_its_name() {
    let folder = folder("namesake");
    let (mut writer, _) = writer(&folder);
    let first = made(order(&mut writer, make("first", None), at(NOW)).0);
    let second = made(order(&mut writer, make(&first.id, None), at(NOW)).0);
    let mut revoke = |what: &str| {
        let (answer, worked) =
            order(&mut writer, CredentialCommand::RevokeKey { what: what.to_owned(), reason: String::new() }, at(NOW));
        let id = |change: &CredentialChange| match change {
            CredentialChange::Key(key) => crate::policy::auth::api_key::text::KeyId(key.id).to_string(),
            other => panic!("{other:?}"),
        };
        (matches!(answer, ControlAnswer::Done { .. }), worked.changes.iter().map(id).collect::<Vec<_>>())
    };
    assert_eq!(revoke(&first.id), (true, vec![first.id.clone()]));
    assert_eq!(revoke(&first.id), (false, Vec::new()));
    assert_eq!(revoke(&second.id), (true, vec![second.id.clone()]));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_another_guard_finds() {
    let folder = folder("again");
    let (mut one, _) = writer(&folder);
    made(order(&mut one, make("a", None), at(NOW)).0);
    let revoked = || Revoked::Token { issuer: "i".to_owned(), id: "t".to_owned() };
    let order_of = |expires| CredentialCommand::Revoke { revoked: revoked(), expires, reason: String::new() };
    order(&mut one, order_of(Some(NOW + 60)), at(NOW));
    drop(one);
    // The chain never had the two records: they are told again until it has.
    let (mut two, opened) = writer(&folder);
    let events: Vec<&str> = opened.records.iter().map(|record| &*record.event).collect();
    assert_eq!(events, ["api_key_new", "token_revoke"]);
    let numbers = opened.records.iter().map(|record| record.number).collect();
    assert!(two.work(CredentialJob::Recorded(numbers, newest())).records.is_empty());
    let (pepper, keys, all) = handed(opened);
    assert_eq!((pepper.unwrap().len(), keys.len(), all), (32, 1, vec![revoked()]));
    // It is over in a minute.
    assert!(two.work(CredentialJob::Tidy(at(NOW + 59), newest())).changes.is_empty());
    assert_eq!(two.work(CredentialJob::Tidy(at(NOW + 60), newest())).changes, [CredentialChange::Lifted(revoked())]);
    drop(two);

    // Without the pepper it is not known which keys are good.
    fs::rename(folder.join("api_keys.pepper"), folder.join("aside")).unwrap();
    let (mut three, opened) = writer(&folder);
    assert!(opened.warnings.as_ref().unwrap()[0].contains("is missing"), "{:?}", opened.warnings);
    assert_eq!(refused(&order(&mut three, make("b", None), at(NOW)).0), "keys_unavailable");
    assert!(handed(opened).0.unwrap_err().contains("is missing"));
    fs::write(folder.join("api_keys.pepper"), [9; 32]).unwrap();
    let worked = three.work(CredentialJob::Tidy(at(NOW), newest()));
    assert!(worked.warnings.unwrap()[0].contains("is another one"));
    // Once it is back, all is well without a restart.
    fs::rename(folder.join("aside"), folder.join("api_keys.pepper")).unwrap();
    let worked = three.work(CredentialJob::Tidy(at(NOW), newest()));
    assert_eq!(worked.warnings, Some(Vec::new()));
    assert!(handed(worked).0.is_ok());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_key_that_was_revoked_stays_so_when_its_store_was_lost() {
    let folder = folder("redone");
    let (mut writer, _) = writer(&folder);
    let key = |id: u64| KeyRecord {
        id,
        tag: [1; 32],
        name: format!("k{id}"),
        profile: Profile::default(),
        expires: None,
        is_revoked: false,
        is_replaced: false,
        is_foreign: true,
    };
    order(&mut writer, CredentialCommand::Import { keys: vec![key(1), key(2)] }, at(NOW));
    let row = |id| RevocationRow {
        number: 0,
        revoked: Revoked::Key(id),
        expires: None,
        reason: "x".to_owned(),
        actor: "operator:0".to_owned(),
        added: NOW * 1_000,
    };
    for told in [
        "0 revocations of tokens and 2 of keys, and the end of 1 key that was rotated,",
        "0 revocations of tokens and 0 of keys",
    ] {
        let redo = CredentialRedo {
            keys: [1, 3].map(|id| (id, row(id))).into(),
            replaced: [(2, NOW + 9)].into(),
            ..CredentialRedo::default()
        };
        assert_eq!(writer.store.as_mut().unwrap().take_over(redo, NOW).unwrap().to_string(), told);
    }
    order(&mut writer, CredentialCommand::Import { keys: vec![key(3)] }, at(NOW));
    let (_, keys, revoked) = handed(writer.work(CredentialJob::Gather(at(NOW))));
    let mut found: Vec<_> = keys.iter().map(|key| (key.id, key.is_revoked, key.expires)).collect();
    found.sort_unstable();
    let expected = vec![(1, true, None), (2, false, Some(NOW + 9)), (3, false, None)];
    assert_eq!((found, revoked), (expected, vec![Revoked::Key(3)]));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn damaged_stores() {
    for (name, damage) in [("cut", 0_usize), ("junk", 100)] {
        let folder = folder(name);
        let (mut one, _) = writer(&folder);
        for number in 0..200 {
            made(order(&mut one, make(&format!("k{number}"), None), at(NOW)).0);
        }
        order(
            &mut one,
            CredentialCommand::Revoke { revoked: Revoked::Key(1), expires: None, reason: String::new() },
            at(NOW),
        );
        drop(one);
        let path = folder.join(store::FILE);
        drop(fs::remove_file(folder.join("credentials.db-wal")));
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            0 => bytes.truncate(bytes.len() - 3_000),
            at => bytes[at..at + 20_000].fill(0xa5),
        }
        fs::write(&path, bytes).unwrap();
        let (mut two, opened) = writer(&folder);
        let warnings = opened.warnings.clone().unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("was set aside as")), "{name}: {warnings:?}");
        let whole = opened.whole.as_ref().unwrap().try_clone().unwrap();
        assert!(CredentialReader::begin(whole).unwrap().opening.lost_keys, "{name}");
        let (pepper, keys, _) = handed(opened);
        assert!(pepper.is_ok() || keys.is_empty(), "{name}");
        // It goes on with what could be read.
        two.work(CredentialJob::Tidy(at(NOW), newest()));
        assert!(two.store.as_ref().unwrap().has_keys().is_ok(), "{name}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// What somebody else has written into a row costs that row alone.
#[test]
fn a_row_that_cannot_be_read_costs_itself_alone() {
    for (name, spoil, keys, revocations) in [
        ("row-key", "UPDATE key SET roles = CAST(x'ff' AS TEXT) WHERE name = 'a'", 1, 1),
        ("row-revocation", "UPDATE revocation SET reason = CAST(x'ff' AS TEXT)", 2, 0),
    ] {
        let folder = folder(name);
        let (mut one, _) = writer(&folder);
        for name in ["a", "b"] {
            made(order(&mut one, make(name, None), at(NOW)).0);
        }
        let revoke = CredentialCommand::Revoke { revoked: Revoked::Key(1), expires: None, reason: String::new() };
        order(&mut one, revoke, at(NOW));
        drop(one);
        rusqlite::Connection::open(folder.join(store::FILE)).unwrap().execute_batch(spoil).unwrap();
        let (two, opened) = writer(&folder);
        assert_eq!(two.trouble, None, "{name}");
        let warnings = opened.warnings.clone().unwrap();
        assert!(matches!(&*warnings, [one] if one.contains("was set aside as")), "{name}: {warnings:?}");
        let (pepper, found, revoked) = handed(opened);
        assert!(pepper.is_ok() && (found.len(), revoked.len()) == (keys, revocations), "{name}: {found:?} {revoked:?}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn imports() {
    let folder = folder("import");
    let (mut writer, _) = writer(&folder);
    let key = |id: u64, byte: u8| KeyRecord {
        id,
        tag: [byte; 32],
        name: format!("k{id}"),
        profile: Profile::default(),
        expires: None,
        is_revoked: false,
        is_replaced: false,
        is_foreign: true,
    };
    let mut import = |keys: Vec<KeyRecord>| order(&mut writer, CredentialCommand::Import { keys }, at(NOW));
    let (answer, worked) = import(vec![key(1, 1), key(u64::MAX, 2)]);
    assert!(matches!(answer, ControlAnswer::Done { changed: 2, .. }), "{answer:?}");
    let CredentialChange::Key(first) = &worked.changes[0] else { panic!("no key") };
    assert_ne!(first.tag, [1; 32], "it is hashed with the pepper");
    let (answer, worked) = import(vec![key(1, 1), key(3, 3)]);
    assert!(matches!(answer, ControlAnswer::Done { changed: 1, .. }) && worked.changes.len() == 1, "{answer:?}");
    let (answer, worked) = import(vec![key(4, 4), key(1, 9)]);
    assert_eq!((refused(&answer), worked.changes.len()), ("exists", 0));
    assert!(
        matches!(import(vec![key(4, 4)]).0, ControlAnswer::Done { changed: 1, .. }),
        "nothing of that part was kept"
    );
    fs::remove_dir_all(&folder).unwrap();
}

/// Others are told of the newest keys all the time, and of all others page by page, over and over again; what has changed is told
/// at once, however old it is.
#[test]
fn however_many_keys_there_are_others_hear_of_each() {
    let folder = folder("pages");
    let (mut writer, _) = writer(&folder);
    writer.work(CredentialJob::Share { nodes: vec!["a".to_owned()], now: at(NOW) });
    let imported = |number: u64| KeyRecord {
        id: number + 1,
        tag: std::array::from_fn(|at| if at < 8 { number.to_le_bytes()[at] } else { 7 }),
        name: format!("key-{number}"),
        profile: Profile::default(),
        expires: None,
        is_revoked: false,
        is_replaced: false,
        is_foreign: true,
    };
    let mut import = |numbers: std::ops::Range<u64>, second: u64| {
        let keys = numbers.map(imported).collect();
        order(&mut writer, CredentialCommand::Import { keys }, at(NOW + second)).1.own.unwrap()
    };
    let own = import(0..3_000, 0);
    assert_eq!((own.keys.len(), own.is_more_keys), (3_000, false));
    let own = import(3_000..14_000, 1);
    assert!(own.is_more_keys);
    let id = |row: &rows::KeyRow| row.record.id;
    let newest: std::collections::BTreeSet<u64> = own.keys.iter().take(8_000).map(id).collect();
    for round in ["first", "second"] {
        let mut pages: Vec<usize> = Vec::new();
        let mut told = newest.clone();
        while told.len() < 14_000 {
            let (rows, _) = writer.work(CredentialJob::Page(at(NOW + 2))).page.unwrap();
            pages.push(rows.len());
            told.extend(rows.iter().map(id));
            assert!(pages.len() <= 3, "{round}: {pages:?}");
        }
        assert_eq!(pages, [4_000, 2_000], "{round}");
    }
    let revoke = CredentialCommand::RevokeKey { what: "key-7".to_owned(), reason: String::new() };
    let own = order(&mut writer, revoke, at(NOW + 3)).1.own.unwrap();
    assert!(
        own.keys.iter().any(|row| row.record.name == "key-7" && row.record.is_revoked),
        "it is not among the newest"
    );
    fs::remove_dir_all(folder).unwrap();
}
