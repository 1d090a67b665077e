//! Which keys are good, for whom, and what is said of those that are not.

use http::HeaderValue;

use super::{
    record::{KeyRecord, Network, Profile},
    *,
};
use crate::policy::auth::{
    revocation::{RevocationChange, Revoked},
    tables::CredentialTables,
};

const PEPPER: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn settings() -> api_keys::Settings {
    api_keys::Settings { header: http::HeaderName::from_static("x-api-key"), prefix: "gwk".to_owned(), pepper: None }
}

fn record(key: &str, name: &str) -> KeyRecord {
    let tag = Pepper::new(PEPPER).tag(&sha256(key.as_bytes()));
    let profile = Profile { roles: vec!["reader".to_owned()], ..Profile::default() };
    let id = text::read(key.as_bytes(), "gwk");
    let is_foreign = id.is_err();
    let text::KeyId(id) = id.unwrap_or_else(|_foreign| text::KeyId::of_foreign(&sha256(key.as_bytes())));
    let (expires, is_revoked, is_replaced) = (None, false, false);
    KeyRecord { id, tag, name: name.to_owned(), profile, expires, is_revoked, is_replaced, is_foreign }
}

/// The tables with these keys.
fn tables(records: Vec<KeyRecord>) -> Arc<CredentialTables> {
    let tables = CredentialTables::default();
    tables.set_state(TableState::Ready(Pepper::new(PEPPER).into()));
    tables.change(records, &[], Vec::new());
    Arc::new(tables)
}

fn judge(tables: &Arc<CredentialTables>, key: &str, client: &str, host: &str) -> Result<Arc<Identity>, Refusal> {
    let keys = ApiKeys::new(&settings(), Arc::clone(tables)).unwrap();
    let used = Use { client: client.parse().ok(), host };
    keys.judge(key.as_bytes(), used, Now { monotonic: 0, unix_millis: NOW * 1_000 })
}

#[track_caller]
fn refuses(tables: &Arc<CredentialTables>, key: &str, signal: Signal, says: &str) {
    let refusal = judge(tables, key, "192.0.2.1", "api.example").unwrap_err();
    assert_eq!((refusal.reject, refusal.signal), (Reject::InvalidCredentials, Some(signal)), "{refusal:?}");
    assert!(refusal.detail.contains(says), "{refusal:?}, not {says:?}");
    let secret = key.rsplit('_').next().unwrap_or_default();
    assert!(secret.is_empty() || !refusal.detail.contains(secret), "{refusal:?} tells the secret");
}

#[test]
fn k01_which_keys_are_good() {
    let (_, good) = text::generate("gwk").unwrap();
    let (_, other) = text::generate("gwk").unwrap();
    let (_, unknown) = text::generate("gwk").unwrap();
    let with = |change: fn(&mut KeyRecord)| {
        let mut record = record(&good, "deploy");
        change(&mut record);
        tables(vec![record])
    };
    let all = with(|_| {});
    let identity = judge(&all, &good, "192.0.2.1", "api.example").unwrap();
    assert_eq!((identity.principal(), identity.roles().collect::<Vec<_>>()), ("key:deploy", vec!["reader"]));
    assert_eq!(identity.expires(), u64::MAX);
    assert!(Arc::ptr_eq(&identity, &judge(&all, &good, "192.0.2.1", "").unwrap()), "made once");
    refuses(&all, &unknown, Signal::UnknownKey, "there is no API key");
    refuses(&all, &good[..good.len() - 1], Signal::UnfitToken, "not in the form");
    refuses(&all, "", Signal::UnfitToken, "not in the form");
    let last = if good.ends_with('0') { '1' } else { '0' };
    refuses(&all, &format!("{}{last}", &good[..good.len() - 1]), Signal::UnfitToken, "");
    // The id of one and the secret of another, with a right checksum.
    let mixed = format!("{}{}", &good[..16], &other[16..other.len() - 6]);
    let sum = crc32fast::hash(mixed.as_bytes());
    let mixed = format!("{mixed}{}", &text::KeyId(u64::from(sum)).to_string()[5..]);
    refuses(&all, &mixed, Signal::ForgedToken, "not the secret of the API key");
    refuses(&with(|key| key.is_revoked = true), &good, Signal::RevokedToken, "(deploy) is revoked");
    refuses(&with(|key| key.expires = Some(NOW)), &good, Signal::ExpiredToken, "(deploy) has expired");
    let expires = judge(&with(|key| key.expires = Some(NOW + 1)), &good, "192.0.2.1", "").unwrap().expires();
    assert_eq!(expires, NOW + 1);
    refuses(
        &with(|key| key.profile.sources = vec![Network("192.0.2.2".parse().unwrap())]),
        &good,
        Signal::Forbidden,
        "may not be used from 192.0.2.1",
    );
    refuses(
        &with(|key| key.profile.hosts = vec!["other.example".to_owned()]),
        &good,
        Signal::Forbidden,
        "may not be used for api.example",
    );
    // Another pepper.
    all.set_state(TableState::Ready(Pepper::new(b"another pepper").into()));
    refuses(&all, &good, Signal::ForgedToken, "not the secret");
    all.set_state(TableState::Unknown("the store is locked".to_owned()));
    let refusal = judge(&all, &good, "192.0.2.1", "").unwrap_err();
    assert_eq!((refusal.reject, refusal.signal, &*refusal.detail), (Reject::Unavailable, None, "the store is locked"));
}

#[test]
fn keys_of_other_programs() {
    let key = "sk_live_0123456789abcdef";
    refuses(&tables(Vec::new()), key, Signal::UnfitToken, "not in the form");
    let all = tables(vec![record(key, "acme")]);
    assert_eq!(judge(&all, key, "192.0.2.1", "").unwrap().principal(), "key:acme");
    refuses(&all, "sk_live_0123456789abcdeg", Signal::UnknownKey, "there is no API key");
    refuses(&all, &"a".repeat(513), Signal::UnfitToken, "not in the form");
}

#[test]
fn where_a_key_stands() {
    let keys = ApiKeys::new(&settings(), Arc::default()).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer gwk_a"));
    assert_eq!(keys.find(&headers), Ok(None));
    headers.insert("x-api-key", HeaderValue::from_static("a"));
    assert_eq!(keys.find(&headers), Ok(Some(&b"a"[..])));
    headers.append("X-Api-Key", HeaderValue::from_static("b"));
    assert_eq!(keys.find(&headers).unwrap_err().reject, Reject::BadRequest);
    let pepper = crate::os::file::NamedFile { path: "p".into(), bytes: vec![1; Pepper::SHORTEST - 1].into() };
    let short = ApiKeys::new(&api_keys::Settings { pepper: Some(pepper), ..settings() }, Arc::default());
    assert!(short.unwrap_err().to_string().contains("could be guessed"));
}

#[test]
fn what_is_revoked_is_known_at_once() {
    let (id, key) = text::generate("gwk").unwrap();
    let all = tables(vec![record(&key, "a")]);
    let identity = judge(&all, &key, "192.0.2.1", "").unwrap();
    let epoch = all.epoch();
    assert!(!all.is_revoked(&identity, NOW));
    let revoked = KeyRecord { is_revoked: true, ..record(&key, "a") };
    all.change(vec![revoked], &[], Vec::new());
    assert!(all.epoch() > epoch && all.is_revoked(&identity, NOW));
    all.change(Vec::new(), &[id.0], Vec::new());
    assert!(all.is_revoked(&identity, NOW), "a key that is not known any more");
    refuses(&all, &key, Signal::UnknownKey, "there is no API key");
}

#[test]
fn a_key_that_the_list_of_revocations_names_is_refused() {
    let (id, key) = text::generate("gwk").unwrap();
    let (_, other) = text::generate("gwk").unwrap();
    let all = tables(vec![record(&key, "a"), record(&other, "b")]);
    let mixed = format!("{}{}", &key[..16], &other[16..other.len() - 6]);
    let sum = crc32fast::hash(mixed.as_bytes());
    let forged = format!("{mixed}{}", &text::KeyId(u64::from(sum)).to_string()[5..]);
    for _ in 0..2 {
        assert!(judge(&all, &key, "192.0.2.1", "").is_ok());
        all.change(Vec::new(), &[], vec![RevocationChange::Revoked(Revoked::Key(id.0))]);
        refuses(&all, &key, Signal::RevokedToken, "(a) is revoked");
        refuses(&all, &forged, Signal::ForgedToken, "not the secret");
        assert!(judge(&all, &other, "192.0.2.1", "").is_ok());
        all.change(Vec::new(), &[], vec![RevocationChange::Lifted(Revoked::Key(id.0))]);
    }
}

#[test]
fn keys_that_were_lost_are_not_held_against_clients() {
    let (_, good) = text::generate("gwk").unwrap();
    let (_, unknown) = text::generate("gwk").unwrap();
    let all = tables(vec![record(&good, "a")]);
    refuses(&all, &unknown, Signal::UnknownKey, "there is no API key");
    all.keys.set_lost(true);
    let refusal = judge(&all, &unknown, "192.0.2.1", "").unwrap_err();
    assert_eq!((refusal.reject, refusal.row().signal), (Reject::InvalidCredentials, None), "{refusal:?}");
    // What no key can be is a guess as before.
    refuses(&all, &unknown[..unknown.len() - 1], Signal::UnfitToken, "not in the form");
    assert!(judge(&all, &good, "192.0.2.1", "").is_ok());
    all.keys.set_lost(false);
    refuses(&all, &unknown, Signal::UnknownKey, "there is no API key");
}

#[test]
fn a_key_that_was_replaced_is_good_for_a_while() {
    let (_, key) = text::generate("gwk").unwrap();
    // When it expires at first, and once it is replaced; then whether it is over at some moment.
    for (expires, replaced, now, is_over) in [
        (None, NOW, NOW, true),
        (None, NOW + 60, NOW + 59, false),
        (None, NOW + 60, NOW + 60, true),
        (Some(NOW + 100), NOW + 60, NOW + 60, true),
        // It ends as was known from the start: whether a tunnel outlives that is another matter.
        (Some(NOW + 60), NOW + 60, NOW + 60, false),
    ] {
        let with = |expires| vec![KeyRecord { expires, ..record(&key, "a") }];
        let all = tables(with(expires));
        let identity = judge(&all, &key, "192.0.2.1", "").unwrap();
        assert!(!all.is_revoked(&identity, now));
        all.change(with(Some(replaced)), &[], Vec::new());
        assert_eq!(all.is_revoked(&identity, now), is_over, "{expires:?} {replaced} {now}");
    }
}

#[test]
fn what_rests_on_a_replaced_key_ends_with_it() {
    let (_, key) = text::generate("gwk").unwrap();
    let replaced = || vec![KeyRecord { expires: Some(NOW + 60), is_replaced: true, ..record(&key, "a") }];
    let fresh = || {
        let mut loaded = table::LoadedKeys::default();
        replaced().into_iter().for_each(|key| loaded.add(key));
        let tables = tables(Vec::new());
        tables.replace(loaded, Vec::new());
        tables
    };
    let told = || {
        let tables = tables(vec![record(&key, "a")]);
        tables.change(replaced(), &[], Vec::new());
        tables
    };
    // However the proxy comes to know of it; its client came after it was replaced.
    for all in [fresh(), told()] {
        let identity = judge(&all, &key, "192.0.2.1", "").unwrap();
        let epoch = all.epoch();
        assert!(!all.take_ended(NOW + 59) && !all.is_revoked(&identity, NOW + 59));
        assert_eq!(all.epoch(), epoch, "nobody looks again before");
        assert!(all.take_ended(NOW + 60) && all.is_revoked(&identity, NOW + 60));
        assert!(all.epoch() > epoch && !all.take_ended(NOW + 61), "it is told once");
    }
    // One that just expires does not end what rests on it: that is another matter.
    let expiring = tables(vec![KeyRecord { expires: Some(NOW + 60), ..record(&key, "a") }]);
    let identity = judge(&expiring, &key, "192.0.2.1", "").unwrap();
    assert!(!expiring.take_ended(NOW + 90) && !expiring.is_revoked(&identity, NOW + 90));
}

#[test]
fn a_key_that_is_used_is_told_once_an_hour() {
    let (id, key) = text::generate("gwk").unwrap();
    let all = tables(vec![record(&key, "a")]);
    for _ in 0..3 {
        judge(&all, &key, "192.0.2.1", "").unwrap();
    }
    let period = u32::try_from(NOW / table::PERIOD).unwrap();
    assert_eq!(all.keys.take_used(10), [(id.0, period)]);
    judge(&all, &key, "192.0.2.1", "").unwrap();
    assert!(all.keys.take_used(10).is_empty());
}

#[test]
fn many_keys() {
    let record = |number: u64| KeyRecord { id: number, name: format!("k{number}"), ..record("x", "x") };
    let mut loaded = table::LoadedKeys::default();
    (0..5_000).for_each(|number| loaded.add(record(number)));
    let all = CredentialTables::default();
    all.replace(loaded, Vec::new());
    assert_eq!(all.keys.len(), 5_000);
    all.change((4_990..5_010).map(record).collect(), &[0, 1, 77_777], Vec::new());
    assert_eq!(all.keys.len(), 5_008);
    for (number, is_there) in [(0, false), (1, false), (2, true), (4_999, true), (5_009, true), (5_010, false)] {
        assert_eq!(all.keys.find(text::KeyId(number)).is_some(), is_there, "{number}");
    }
    all.replace(table::LoadedKeys::default(), Vec::new());
    assert!(all.keys.is_empty());
}
