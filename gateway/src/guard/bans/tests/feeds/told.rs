//! What is said of imports that fail, of files that are gone, and of lists that nothing enforces.

use super::*;

impl World {
    /// Begins an import and gives it up.
    fn abort(&mut self, feed: &str, reason: Option<&str>) -> String {
        let (now, feed) = (self.now, Some(feed.to_owned()));
        let begin = ControlRequest::BlockImportBegin { feed, seconds: None, shadow: false, force: false };
        let ControlAnswer::Import(begun) = self.guard().handle(begin, &OPERATOR, now) else {
            panic!("it is not begun")
        };
        let abort = ControlRequest::BlockImportAbort { id: begun.id, reason: reason.map(str::to_owned) };
        let ControlAnswer::Done { message, .. } = self.guard().handle(abort, &OPERATOR, now) else { panic!("refused") };
        message
    }
}

#[test]
fn an_import_that_is_given_up_leaves_nothing_but_its_reason() {
    let mut world = World::new("feed-abort");
    for _ in 0..10 {
        assert_eq!(world.abort("a", None), "nothing was changed");
    }
    world.warned(&[]);
    assert_eq!(world.abort("a", Some("a.html is a web page")), "nothing was changed");
    world.warned(&["feed:a: refused (unreadable): a.html is a web page"]);
    assert!(!world.guard().feed_warnings()[0].contains("stays in force"), "nothing was ever loaded");
    // There is no such list: what removes a list dismisses the warning.
    for dismissed in [true, false] {
        let told = world.import(Some("a"), None, false, &[]);
        assert!(
            matches!(&told, ControlAnswer::Import(import) if import.dismissed == dismissed && import.removed == 0),
            "{told:?}"
        );
        world.warned(&[]);
    }
    done(&world.import(Some("a"), None, false, &["192.0.2.1"]), 1, 0, 0, 0);
    let stays = "nothing was changed; what was loaded before stays in force";
    assert_eq!(world.abort("a", Some(&"x".repeat(10_000))), stays);
    assert!(world.guard().feed_warnings()[0].len() < 1_000, "what a command says is bounded");
    world.warned(&["x; what was loaded before stays in force"]);
    done(&world.import(Some("a"), None, false, &["192.0.2.1"]), 0, 1, 0, 0);
    world.warned(&[]);
    world.abort("b", Some("b is a web page"));
    let now = world.now;
    assert!(matches!(world.guard().handle(ControlRequest::BlockFlush, &OPERATOR, now), ControlAnswer::Done { .. }));
    world.finish();
    world.warned(&[]);
}

/// Lists that somebody has begun and does not go on with keep nobody else from importing.
#[test]
fn nobody_keeps_others_from_importing() {
    let mut world = World::new("feed-sessions");
    let start = world.now.monotonic;
    let begin = |world: &mut World, who: &Actor, seconds: u64| {
        let now = Now { monotonic: start + seconds * SECOND, ..world.now };
        let begin = ControlRequest::BlockImportBegin { feed: None, seconds: None, shadow: false, force: false };
        match world.guard().handle(begin, who, now) {
            ControlAnswer::Import(begun) => Ok(begun.id),
            ControlAnswer::Refused { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    };
    let goes_on = |world: &mut World, id: u64, who: &Actor, seconds: u64| {
        let now = Now { monotonic: start + seconds * SECOND, ..world.now };
        let chunk = ControlRequest::BlockImportChunk { id, entries: Vec::new() };
        matches!(world.guard().handle(chunk, who, now), ControlAnswer::Import(_))
    };
    let token = |name: u64| Actor::Token(format!("t{name}"));
    let busy = Err("busy".to_owned());
    // One token has two places, and a third list takes the place of the one that has stalled.
    let [first, second] = [0, 1].map(|_| begin(&mut world, &token(1), 0).unwrap());
    assert_eq!(begin(&mut world, &token(1), 1), busy);
    assert!(goes_on(&mut world, second, &token(1), 5));
    assert!(!goes_on(&mut world, second, &token(2), 5), "it belongs to whoever began it");
    let third = begin(&mut world, &token(1), 5).unwrap();
    assert!(!goes_on(&mut world, first, &token(1), 5) && goes_on(&mut world, second, &token(1), 5));
    // Four tokens that go on with two lists each keep nobody out.
    for other in 2..=4 {
        assert!((0..2).all(|_| begin(&mut world, &token(other), 6).is_ok()), "{other}");
    }
    let own = begin(&mut world, &OPERATOR, 6).unwrap();
    assert!(!goes_on(&mut world, second, &token(1), 6) && goes_on(&mut world, third, &token(1), 6));
    assert!(goes_on(&mut world, own, &OPERATOR, 6));
    // What has stalled goes before what arrives.
    assert!(goes_on(&mut world, third, &token(1), 12) && goes_on(&mut world, own, &OPERATOR, 12));
    let other = begin(&mut world, &token(5), 12).unwrap();
    for (id, who) in [(third, token(1)), (own, OPERATOR), (other, token(5))] {
        assert!(goes_on(&mut world, id, &who, 12), "{who}");
    }
}

/// What was imported without a name goes as a whole, and so does what is said of it, as with every other list.
#[test]
fn a_list_without_a_name_is_removed_as_others_are() {
    let mut world = World::new("feed-nameless");
    let refused = world.import(None, None, false, &["127.0.0.1"]);
    assert!(matches!(&refused, ControlAnswer::Refused { code, .. } if code == "empty"), "{refused:?}");
    let warnings = world.guard().feed_warnings();
    assert!(matches!(&warnings[..], [one] if one.starts_with("import: refused (empty)")), "{warnings:?}");
    for dismissed in [true, false] {
        let told = world.import(Some(""), None, false, &[]);
        assert!(
            matches!(&told, ControlAnswer::Import(import) if import.dismissed == dismissed && import.removed == 0),
            "{told:?}"
        );
        assert_eq!(world.guard().feed_warnings(), [] as [&str; 0]);
    }
    done(&world.import(None, None, true, &["192.0.2.1"]), 1, 0, 0, 0);
    done(&world.import(None, None, true, &["192.0.2.2"]), 1, 1, 0, 0);
    done(&world.import(Some("a"), None, false, &["192.0.2.3"]), 1, 0, 0, 0);
    done(&world.import(Some(""), None, false, &[]), 0, 0, 2, 0);
    let lists: Vec<String> = world.guard().feed_list().into_iter().map(|list| list.name).collect();
    assert_eq!(lists, ["a"]);
    done(&world.import(None, None, false, &["192.0.2.1"]), 1, 0, 0, 0);
}

/// Its command has told that it failed: it does not come into force once the store is free.
#[test]
fn an_import_that_nobody_waits_for_does_not_come_into_force() {
    for is_waited_for in [true, false] {
        let mut world = World::new(&format!("feed-gone-{is_waited_for}"));
        let now = world.now;
        let other = rusqlite::Connection::open(world.folder.join(state_files::STORE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begin =
            ControlRequest::BlockImportBegin { feed: Some("a".into()), seconds: None, shadow: false, force: false };
        let ControlAnswer::Import(begun) = world.guard().handle(begin, &OPERATOR, now) else {
            panic!("it is not begun")
        };
        let entries = vec![ImportEntry(1, "192.0.2.1".parse().unwrap(), None, None)];
        drop(world.guard().handle(ControlRequest::BlockImportChunk { id: begun.id, entries }, &OPERATOR, now));
        let (sender, receiver) = oneshot::channel();
        world.guard().import_commit((begun.id, "ab".to_owned(), false), &OPERATOR, sender, now);
        world.finish();
        assert!(world.kernel().is_empty(), "the store is locked");
        let receiver = is_waited_for.then_some(receiver);
        other.execute_batch("ROLLBACK").unwrap();
        world.pass(1);
        world.finish();
        assert_eq!(world.kernel().len(), usize::from(is_waited_for));
        world.warned(if is_waited_for { &[] } else { &["refused (abandoned)"] });
        drop(receiver);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_over_once_the_configuration_does_not_name_it() {
    let mut world = World::new("feed-file-gone");
    let feed = || Feed::new("f".to_owned(), FeedPlace::File("/f".into()), FeedPurpose::Ban);
    let now = world.now;
    let unusable = || FeedNews::Unusable("/f: No such file or directory".to_owned());
    world.guard().feed_file(feed(), unusable(), now);
    world.abort("imported", Some("it is a web page"));
    world.warned(&["feed:f: /f: No such file", "feed:imported: "]);
    assert!(world.guard().feed_warnings()[0].ends_with("No such file or directory"), "nothing was ever loaded");
    world.file(&[("192.0.2.1", None)]);
    world.guard().feed_file(feed(), unusable(), now);
    world.warned(&["No such file or directory; what was loaded before stays in force", "feed:imported: "]);
    world.guard().keep_feed_files(&["f"], now);
    world.warned(&["feed:f: ", "feed:imported: "]);
    world.guard().keep_feed_files(&[], now);
    world.finish();
    world.warned(&["feed:imported: "]);
}

#[test]
fn what_is_said_where_no_packet_is_dropped() {
    let mut world = World::attached("feed-detached");
    done(&world.import(Some("a"), None, false, &["192.0.2.1"]), 1, 0, 0, 0);
    done(&world.import(Some("b"), None, true, &["192.0.2.2"]), 1, 0, 0, 0);
    assert_eq!(world.add("192.0.2.3"), "done 1");
    world.ask("192.0.2.4", "trial").unwrap();
    let counted = "It is served. In shadow its packets are counted for ";
    let at_accept = "Its connections are refused at accept for another ";
    let later = "It is served. Its packets are dropped once XDP is attached, for as long as feed:a lists it.";
    let table = [
        ("192.0.2.1", ("blocked", "Its packets are dropped for as long as feed:a lists it."), ("passed", later)),
        ("192.0.2.2", ("shadow_blocked", counted), ("shadow_blocked", counted)),
        ("192.0.2.3", ("blocked", "Its packets are dropped for another "), ("blocked", at_accept)),
        ("192.0.2.4", ("shadow_blocked", counted), ("shadow_blocked", counted)),
        ("192.0.2.5", ("passed", "Nothing: it was never banned"), ("passed", "Nothing: it was never banned")),
    ];
    let now = world.now;
    for is_attached in [true, false] {
        if !is_attached {
            let ControlAnswer::Done { message, .. } = world.guard().handle(ControlRequest::Detach, &OPERATOR, now)
            else {
                panic!("it is not detached")
            };
            assert!(message.contains("1 listed source is served meanwhile"), "{message}");
        }
        for (address, attached, detached) in table {
            let (verdict, next) = if is_attached { attached } else { detached };
            let why = world.why(address);
            assert_eq!(why.verdict, verdict, "{address}: {is_attached}");
            assert!(
                why.next.starts_with(next) && (verdict == "blocked" || !why.next.contains("served again")),
                "{}",
                why.next
            );
            let is_told = !is_attached && matches!(address, "192.0.2.1" | "192.0.2.3");
            assert_eq!(why.unattached.is_some_and(|why| why.contains("`gateway attach`")), is_told, "{address}");
        }
        let warns = world.guard().feed_warnings().iter().any(|one| one.contains("`gateway attach`"));
        assert_eq!(warns, !is_attached);
        let told = world.guard().handle(ControlRequest::BlockList, &OPERATOR, now);
        assert!(
            matches!(&told, ControlAnswer::Blocks { unattached, .. } if unattached.is_some() != is_attached),
            "{told:?}"
        );
        let told = world.import(Some("a"), None, false, &["192.0.2.1"]);
        assert!(matches!(&told, ControlAnswer::Import(told) if told.unattached.is_some() != is_attached), "{told:?}");
    }
}

#[test]
fn what_comes_after_a_ban_is_what_lasts_longer() {
    const MINUTE: u64 = 60;
    // Ends of lists, of one address and of a network around it, and whether they enforce; then what follows a ban of 1h.
    for (case, lists, expect) in [
        ("then-none", &[][..], "then it is served again"),
        ("then-ended", &[("192.0.2.7", Some(10 * MINUTE), false)], "then it is served again"),
        ("then-longer", &[("192.0.2.7", Some(120 * MINUTE), false)], "still blocked, by feed:0, which lists 192.0.2.7"),
        ("then-open", &[("192.0.2.7", None, false)], "still blocked, by feed:0, which lists 192.0.2.7"),
        ("then-shadow", &[("192.0.2.7", None, true)], "then it is served again"),
        (
            "then-wider",
            &[("192.0.2.7", Some(10 * MINUTE), false), ("192.0.2.0/24", Some(120 * MINUTE), false)],
            "still blocked, by feed:1, which lists 192.0.2.0/24",
        ),
    ] {
        let mut world = World::attached(case);
        for (number, (source, seconds, shadow)) in lists.iter().enumerate() {
            world.import(Some(&number.to_string()), *seconds, *shadow, &[*source]);
        }
        let now = world.now;
        let block = ControlRequest::BlockAdd {
            source: "192.0.2.7".parse().unwrap(),
            seconds: Some(60 * MINUTE),
            reason: "tests".into(),
            shadow: false,
            confirm: None,
            force: false,
        };
        let told = world.guard().handle(block, &OPERATOR, now);
        assert!(matches!(told, ControlAnswer::Done { .. }), "{case}: {told:?}");
        let next = world.why("192.0.2.7").next;
        assert!(next.contains(expect), "{case}: {next}");
    }
    let mut world = World::attached("then-listed");
    world.import(Some("a"), Some(10 * MINUTE), false, &["192.0.2.7"]);
    let next = world.why("192.0.2.7").next;
    assert_eq!(next, "Its packets are dropped for another 10m, or until feed:a no longer lists it.");
}
