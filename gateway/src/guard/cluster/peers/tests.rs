//! Which letters count: those of machines of the cluster, whole, in their order, each once, and not for ever.

use std::sync::Arc;

use aws_lc_rs::{rand::SystemRandom, signature::KeyPair as _};

use super::*;
use crate::{
    os::file::NamedFile,
    policy::auth::revocation::Revoked,
    settings::cluster::{ClusterNode, ClusterStore, Stale, StoreMode},
};

/// Long after 1970.
const START: Now = Now { monotonic: 3_600 * SECOND, unix_millis: 1_790_000_000_000 };

fn later(seconds: u64) -> Now {
    Now { monotonic: START.monotonic + seconds * SECOND, unix_millis: START.unix_millis + seconds * 1_000 }
}

fn pair() -> Ed25519KeyPair {
    let fresh = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(fresh.as_ref()).unwrap()
}

fn settings(node: &str, secret: u8, keys: &[(&str, &Ed25519KeyPair)]) -> cluster::Settings {
    let node_of = |(name, pair): &(&str, &Ed25519KeyPair)| ClusterNode {
        name: (*name).to_owned(),
        key: pair.public_key().as_ref().try_into().unwrap(),
    };
    cluster::Settings {
        node: node.to_owned(),
        key_file: "cluster.key".into(),
        secret: NamedFile { path: "cluster.secret".into(), bytes: Arc::from([secret; 32]) },
        nodes: keys.iter().map(node_of).collect(),
        bans: true,
        revocations: true,
        api_keys: true,
        ticket_keys: true,
        revocation_stale: Stale::Serve,
        revocation_stale_after: std::time::Duration::from_secs(60),
        store: ClusterStore {
            servers: vec!["127.0.0.1:6379".to_owned()],
            mode: StoreMode::Standalone,
            user: None,
            password: None,
            sentinel_password: None,
            tls: None,
            prefix: "gateway".to_owned(),
            timeout: std::time::Duration::from_millis(50),
        },
    }
}

/// A writer `a`, and a reader `b` that trusts it.
struct World {
    a: LetterWriter,
    b: cluster::Settings,
    peers: Peers,
    a_pair: Ed25519KeyPair,
}

fn copy(pair: &Ed25519KeyPair) -> Ed25519KeyPair {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V2Der};
    let der: Pkcs8V2Der<'_> = pair.as_der().unwrap();
    Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap()
}

impl World {
    fn new() -> Self {
        let (a_pair, b_pair) = (pair(), pair());
        let keys = [("a", &a_pair), ("b", &b_pair)];
        let a = LetterWriter::new(&settings("a", 7, &keys), copy(&a_pair), 100);
        let b = settings("b", 7, &keys);
        let mut peers = Peers::default();
        peers.configure(Some(&b));
        Self { a, b, peers, a_pair }
    }

    fn hear(&mut self, letter: &[u8], now: Now) -> Result<Option<PeerMessage>, LetterError> {
        self.peers.hear(letter, &self.b, now)
    }

    /// A starts, and says all that it has to say: nothing.
    fn met() -> Self {
        let mut world = Self::new();
        let whole = world.a.whole(Vec::new(), Vec::new(), START).unwrap().0;
        assert!(matches!(world.hear(&whole[0], START), Ok(Some(PeerMessage::Whole { .. }))));
        world
    }

    fn change(&mut self, number: u8, now: Now) -> Vec<u8> {
        self.a.changes(vec![fact(number)], now).remove(0)
    }
}

fn fact(number: u8) -> ClusterFact {
    let source = format!("192.0.2.{number}").parse().unwrap();
    let (started, until) = (START.unix_millis, Some(START.unix_millis + 60_000));
    ClusterFact::Block { source, started, until, by: "rule:r".to_owned(), reason: "tests".to_owned() }
}

fn said(number: u8) -> Result<Option<PeerMessage>, LetterError> {
    Ok(Some(PeerMessage::Change { node: "a".to_owned(), facts: vec![fact(number)] }))
}

#[test]
fn changes_count_in_their_order_and_once() {
    let mut world = World::met();
    let letters: Vec<_> = (1..=4).map(|number| world.change(number, START)).collect();
    assert_eq!(world.hear(&letters[1], START), Err(LetterError::Untimely), "before the first");
    assert_eq!(world.hear(&letters[0], START), said(1));
    assert_eq!(world.hear(&letters[0], START), Err(LetterError::Old), "again");
    assert_eq!(world.hear(&letters[2], START), Err(LetterError::Untimely), "the second is missing");
    assert_eq!(world.hear(&letters[1], START), said(2));
    assert_eq!(world.hear(&letters[2], START), said(3));
    // The fourth is kept back: the whole makes up for it.
    let whole = world.a.whole((1..=4).map(fact).collect(), Vec::new(), later(9)).unwrap().0;
    let facts: Vec<ClusterFact> = (1..=4).map(fact).collect();
    assert_eq!(world.hear(&whole[0], later(9)), Ok(Some(PeerMessage::Whole { node: "a".to_owned(), facts })));
    assert_eq!(world.hear(&letters[3], later(9)), Err(LetterError::Old), "it comes late");
    assert_eq!(world.hear(&whole[0], later(9)), Err(LetterError::Old), "again");
    let next = world.change(5, later(10));
    assert_eq!(world.hear(&next, later(10)), said(5));
}

#[test]
fn nothing_counts_before_the_whole() {
    let mut world = World::new();
    let change = world.change(1, START);
    assert_eq!(world.hear(&change, START), Err(LetterError::Untimely));
    assert_eq!(world.peers.each().next().unwrap().1.age(START), None);
}

/// What a stolen store can do with letters that it has: nothing.
#[test]
fn forged_cut_and_foreign_letters() {
    let mut world = World::met();
    let letter = world.change(1, START);
    for at in 0..letter.len() {
        let mut other = letter.clone();
        other[at] ^= 1;
        let heard = world.hear(&other, START);
        assert!(
            matches!(heard, Err(LetterError::Forged | LetterError::Malformed | LetterError::Foreign)),
            "byte {at}: {heard:?}"
        );
        let heard = world.hear(&letter[..at], START);
        assert!(matches!(heard, Err(LetterError::Forged | LetterError::Malformed)), "{at} bytes: {heard:?}");
    }
    assert_eq!(world.hear(&[&letter[..], b"x"].concat(), START), Err(LetterError::Forged));
    assert_eq!(world.hear(&vec![0; 40_000], START), Err(LetterError::Malformed));
    assert_eq!(world.hear(&[], START), Err(LetterError::Malformed));
    // Signed by somebody else in the name of a.
    let thief = pair();
    let keys = [("a", &thief), ("b", &thief), ("c", &thief)];
    let mut forger = LetterWriter::new(&settings("a", 7, &keys), copy(&thief), 100);
    forger.number = world.a.number - 1;
    assert_eq!(world.hear(&forger.changes(vec![fact(1)], START)[0], START), Err(LetterError::Forged));
    // A machine that is not of the cluster.
    let mut stranger = LetterWriter::new(&settings("c", 7, &keys), copy(&thief), 100);
    assert_eq!(world.hear(&stranger.changes(vec![fact(1)], START)[0], START), Err(LetterError::Foreign));
    // Of a cluster with another secret, by the right key.
    let mut other = LetterWriter::new(&settings("a", 8, &keys), copy(&world.a_pair), 100);
    assert_eq!(world.hear(&other.changes(vec![fact(1)], START)[0], START), Err(LetterError::Foreign));
    // Its own name, by its own key.
    let own = world.b.clone();
    let mut mirror = LetterWriter::new(&cluster::Settings { node: "b".to_owned(), ..own }, copy(&thief), 100);
    assert!(world.hear(&mirror.changes(vec![fact(1)], START)[0], START).is_err());
    // None of it has moved anything.
    assert_eq!(world.hear(&letter, START), said(1));
}

#[test]
fn old_letters_do_not_count() {
    let mut world = World::met();
    let (first, second) = (
        world.a.whole(vec![fact(1)], Vec::new(), START).unwrap().0,
        world.a.whole(vec![fact(2)], Vec::new(), START).unwrap().0,
    );
    assert!(world.hear(&second[0], later(100)).is_ok(), "written at the same time, it is later all the same");
    assert_eq!(world.hear(&first[0], later(100)).map(drop), Err(LetterError::Old));
    let whole = world.a.whole(vec![fact(1)], Vec::new(), later(1)).unwrap().0;
    assert_eq!(world.hear(&whole[0], later(302)), Err(LetterError::Stale), "kept back for five minutes");
    let before = world.change(1, later(1));
    let whole = world.a.whole(vec![fact(1)], Vec::new(), later(400)).unwrap().0;
    assert_eq!(world.hear(&whole[0], later(90)), Err(LetterError::Stale), "written in the future");
    // Another start of a: what it said before does not count any more.
    let mut again = LetterWriter::new(&world.a_settings(), copy(&world.a_pair), 101);
    let whole = again.whole(vec![fact(2)], Vec::new(), later(2)).unwrap().0;
    assert!(matches!(world.hear(&whole[0], later(2)), Ok(Some(PeerMessage::Whole { .. }))));
    assert_eq!(world.hear(&before, later(2)), Err(LetterError::Old));
    let change = again.changes(vec![fact(3)], later(3)).remove(0);
    assert_eq!(world.hear(&change, later(3)), said(3));
}

impl World {
    fn a_settings(&self) -> cluster::Settings {
        cluster::Settings { node: "a".to_owned(), ..self.b.clone() }
    }
}

/// A whole in parts counts once all have come, in any order; parts of different wholes do not mix.
#[test]
fn wholes_in_parts() {
    let mut world = World::new();
    let facts = |from: u8, count: usize| (0..count).map(|_| fact(from)).collect::<Vec<_>>();
    let first = world.a.whole(facts(1, 150), Vec::new(), START).unwrap().0;
    let second = world.a.whole(facts(2, 150), Vec::new(), later(1)).unwrap().0;
    assert_eq!((first.len(), second.len()), (3, 3));
    assert_eq!(world.hear(&first[2], later(1)), Ok(None));
    assert_eq!(world.hear(&second[1], later(1)), Ok(None));
    assert_eq!(world.hear(&first[0], later(1)), Err(LetterError::Old), "a later one has begun");
    assert_eq!(world.hear(&second[1], later(1)), Ok(None), "again");
    assert_eq!(world.hear(&second[0], later(1)), Ok(None));
    let Ok(Some(PeerMessage::Whole { facts: heard, .. })) = world.hear(&second[2], later(1)) else {
        panic!("it is whole")
    };
    assert_eq!(heard, facts(2, 150));
    assert_eq!(
        world.a.whole(facts(1, 64 * 321), Vec::new(), START).unwrap().0.len(),
        320,
        "what was decided first is left out"
    );
}

/// What is told in turn takes what room there is beside all else, and lifts nothing by not being there.
#[test]
fn what_is_told_in_turn() {
    let mut world = World::met();
    let facts = |from: u8, count: usize| (0..count).map(|_| fact(from)).collect::<Vec<_>>();
    for (at, (count, more, expect)) in (1..).zip([(10, 70, 70), (20_000, 4_000, 0), (9_000, 20_000, 8_920), (0, 0, 0)])
    {
        let (whole, told) = world.a.whole(facts(1, count), facts(2, more), later(at)).unwrap();
        assert_eq!(told, expect, "{more} beside {count}");
        let mut said = None;
        for letter in &whole {
            said = world.hear(letter, later(at)).unwrap().or(said);
        }
        let Some(PeerMessage::Whole { facts: heard, .. }) = said else { panic!("{more} beside {count}") };
        assert!(heard == [facts(1, count), facts(2, told)].concat(), "{more} beside {count}");
    }
}

/// However long facts are, each letter is as short as it may be, and none of them is lost.
#[test]
fn long_facts_are_told_in_more_letters() {
    let mut world = World::met();
    let revoke = |number: usize, length: usize| ClusterFact::Revoke {
        revoked: Revoked::Token { issuer: "i".repeat(length), id: format!("{number:0>length$}") },
        expires: None,
        at: START.unix_millis,
        by: "operator:0".to_owned(),
        reason: "r".repeat(200),
    };
    let facts: Vec<ClusterFact> = (0..200).map(|number| revoke(number, 1_024)).collect();
    let mut heard = Vec::new();
    for letter in world.a.changes(facts.clone(), START) {
        match world.hear(&letter, START) {
            Ok(Some(PeerMessage::Change { facts, .. })) => heard.extend(facts),
            other => panic!("{other:?}"),
        }
    }
    assert!(heard == facts);
    let whole = world.a.whole(facts.clone(), Vec::new(), later(1)).unwrap().0;
    assert!(whole.len() > 10, "{} letters", whole.len());
    let mut said = None;
    for letter in &whole {
        said = world.hear(letter, later(1)).unwrap().or(said);
    }
    assert!(said == Some(PeerMessage::Whole { node: "a".to_owned(), facts }));
    // More than the store has room for: the last are left out.
    let many: Vec<ClusterFact> = (0..2_500).map(|number| revoke(number, 1_024)).collect();
    let whole = world.a.whole(many, Vec::new(), later(2)).unwrap().0;
    let bytes: usize = whole.iter().map(Vec::len).sum();
    assert!((2 << 20..3 << 20).contains(&bytes), "{bytes}");
    let said = whole.iter().filter_map(|letter| world.hear(letter, later(2)).unwrap()).next();
    assert!(matches!(said, Some(PeerMessage::Whole { facts, .. }) if facts[0] == ClusterFact::Cut), "and it says so");
    let too_long = world.a.changes(vec![revoke(1, 1_025)], later(2)).remove(0);
    assert_eq!(world.hear(&too_long, later(2)), Err(LetterError::Malformed));
}

#[test]
fn how_old_it_is() {
    let mut world = World::met();
    let age = |world: &World, now| world.peers.each().next().unwrap().1.age(now);
    assert_eq!(age(&world, later(40)), Some(40));
    let change = world.change(1, later(41));
    world.hear(&change, later(41)).unwrap();
    assert_eq!(age(&world, later(42)), Some(1));
    assert_eq!(world.hear(&change, later(50)), Err(LetterError::Old));
    assert_eq!(age(&world, later(50)), Some(9), "a replay makes nothing younger");
    world.peers.configure(None);
    assert_eq!(world.peers.each().count(), 0);
}

/// Whose word does not count has no name: what it said before is lifted.
#[test]
fn without_bans_nobodys_word_counts() {
    let (a, b) = (pair(), pair());
    let settings = settings("b", 7, &[("a", &a), ("b", &b)]);
    let mut cluster = super::super::Cluster::default();
    for (bans, expect) in [(true, vec!["a"]), (false, vec![]), (true, vec!["a"])] {
        let settings = cluster::Settings { bans, ..settings.clone() };
        assert!(cluster.configure(Some(&settings), std::path::Path::new("/no-such-folder"), START));
        assert!(!cluster.configure(Some(&settings), std::path::Path::new("/no-such-folder"), START), "told once");
        assert_eq!(cluster.nodes().0, expect, "{bans}");
    }
    assert!(cluster.configure(None, std::path::Path::new("/no-such-folder"), START) && cluster.nodes().0.is_empty());
}

/// A machine whose clock is set back is heard at once, and what it said before stays said.
#[test]
fn d07_a_clock_that_is_set_back_silences_nobody() {
    for back in [2, 60, 240] {
        let (mut world, now, after) = (World::met(), later(300), later(300 - back));
        let first = world.a.whole(vec![fact(1)], Vec::new(), now).unwrap().0;
        let change = world.change(2, now);
        assert!(world.hear(&first[0], now).is_ok());
        assert_eq!(world.hear(&change, now), said(2));
        assert!(world.a.is_ahead_of(after), "{back}");
        let kept_back = world.a.whole(vec![fact(9)], Vec::new(), now).unwrap().0;
        world.a.begin(101);
        let whole = world.a.whole(vec![fact(1)], Vec::new(), after).unwrap().0;
        let behind = i64::try_from(back / 10 * 10_000).unwrap();
        let facts = vec![fact(1).shifted(behind)];
        assert_eq!(world.hear(&whole[0], now), Ok(Some(PeerMessage::Whole { node: "a".to_owned(), facts })), "{back}");
        // The same number again, and later by its clock: it counts.
        let whole = world.a.whole(vec![fact(3)], Vec::new(), later(301 - back)).unwrap().0;
        assert!(matches!(world.hear(&whole[0], later(301)), Ok(Some(PeerMessage::Whole { .. }))), "{back}");
        let next = world.change(4, later(301 - back));
        let facts = vec![fact(4).shifted(behind)];
        let expect = PeerMessage::Change { node: "a".to_owned(), facts };
        assert_eq!(world.hear(&next, later(301)), Ok(Some(expect)), "{back}: a ban is as long by either clock");
        for letter in [&first[0], &change, &kept_back[0], &whole[0], &next] {
            assert_eq!(world.hear(letter, later(301)), Err(LetterError::Old), "{back}: a letter is repeated");
        }
    }
}

/// A clock that is set back a little is waited for: the others hear what is said meanwhile, in the same epoch.
#[test]
fn d07_a_clock_that_goes_back_a_little() {
    let mut world = World::met();
    let back = Now { unix_millis: START.unix_millis - 900, ..START };
    assert!(!world.a.is_ahead_of(back));
    for number in 1..4 {
        let whole = world.a.whole(vec![fact(number)], Vec::new(), back).unwrap().0;
        assert!(matches!(world.hear(&whole[0], START), Ok(Some(PeerMessage::Whole { .. }))), "{number}");
        let change = world.change(number, back);
        assert_eq!(world.hear(&change, START), said(number));
    }
}

/// The guard of a machine looks at the clock before it writes: it begins an epoch that is kept, and tells all at once.
#[test]
fn d07_the_guard_begins_anew() {
    let folder = std::env::temp_dir().join(format!("gateway-cluster-clock-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("node.key");
    super::super::make_key(&key).unwrap();
    let own = super::super::key::read(&key).unwrap();
    let (b, keys) = (pair(), |a: &Ed25519KeyPair, b: &Ed25519KeyPair| settings("a", 7, &[("a", a), ("b", b)]));
    let a = cluster::Settings { key_file: key, ..keys(&own, &b) };
    let b = cluster::Settings { node: "b".to_owned(), ..a.clone() };
    let mut peers = Peers::default();
    peers.configure(Some(&b));
    let mut cluster = super::super::Cluster::default();
    cluster.configure(Some(&a), &folder, START);
    let epoch = || std::fs::read_to_string(folder.join("cluster.epoch")).unwrap().trim().parse::<u64>().unwrap();
    let first = epoch();
    assert!(cluster.is_whole_due(START));
    let whole = cluster.whole(vec![fact(1)], Vec::new(), START).0;
    assert!(peers.hear(&whole[0], &b, START).is_ok());
    let back = Now { monotonic: START.monotonic + SECOND, unix_millis: START.unix_millis - 200_000 };
    cluster.look_at_clock(back);
    assert!(epoch() > first && cluster.is_whole_due(back));
    let whole = cluster.whole(vec![fact(1)], Vec::new(), back).0;
    assert!(matches!(peers.hear(&whole[0], &b, later(1)), Ok(Some(PeerMessage::Whole { .. }))));
    cluster.look_at_clock(back);
    assert!(!cluster.is_whole_due(back), "told once");
    std::fs::remove_dir_all(&folder).unwrap();
}
