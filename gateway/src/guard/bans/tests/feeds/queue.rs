//! Lists that wait for their turn: what the guard itself wants of them is never lost, and nobody who lifts something waits
//! for the imports of others.

use rusqlite::Connection;

use super::*;

impl World {
    /// As [`Self::new`], with room for many entries.
    fn roomy(name: &str) -> Self {
        let mut world = Self::new(name);
        world.guard().settings.max_bans = 10_000;
        world
    }

    /// Another process locks the store, until what is given ends.
    fn lock(&self) -> Connection {
        let other = Connection::open(self.folder.join(state_files::STORE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    }

    /// The store is free again, and a second passes.
    fn unlock(&mut self, other: &Connection) {
        other.execute_batch("ROLLBACK").unwrap();
        self.pass(1);
        self.finish();
    }

    fn begin_of(feed: &str) -> ControlRequest {
        ControlRequest::BlockImportBegin { feed: Some(feed.to_owned()), seconds: None, shadow: false, force: false }
    }

    /// The names of the lists in force.
    fn lists(&mut self) -> Vec<String> {
        self.guard().feed_list().into_iter().map(|list| list.name).collect()
    }
}

#[test]
fn any_number_of_files_comes_into_force() {
    let mut world = World::roomy("feed-many-files");
    for number in 0..70 {
        world.file_of(&format!("f{number}"), &[(&format!("192.0.2.{number}"), None)]);
    }
    // What a file says by now takes the place of what waits.
    world.file_of("f0", &[("198.51.100.1", None)]);
    assert_eq!(world.guard().waiting_lists(), 70);
    world.finish();
    assert_eq!((world.lists().len(), world.kernel().len()), (70, 70));
    assert_eq!(world.why("198.51.100.1").entry.unwrap().actor, "feed:f0");
    assert_eq!(world.why("192.0.2.0").verdict, "passed");
    // All of them are gone from the configuration.
    let now = world.now;
    world.guard().keep_feed_files(&[], now);
    world.finish();
    assert!(world.kernel().is_empty() && world.lists().is_empty());
}

#[test]
fn any_number_of_lists_is_flushed() {
    let mut world = World::roomy("feed-many-flushed");
    for number in 0..70 {
        let name = format!("l{number}");
        done(&world.import(Some(&name), None, false, &[&format!("192.0.2.{number}")]), 1, 0, 0, 0);
    }
    assert_eq!(world.handle(ControlRequest::BlockFlush), "done 70");
    world.finish();
    assert!(world.kernel().is_empty() && world.lists().is_empty());
    assert_eq!(world.guard().feeds.exact, 0);
}

/// Also those that are gone from the configuration wait once, however often that is seen.
#[test]
fn what_follows_files_waits_for_a_locked_store() {
    let mut world = World::roomy("feed-files-locked");
    world.file(&[("192.0.2.1", None)]);
    let other = world.lock();
    for _ in 0..100 {
        let now = world.now;
        world.guard().keep_feed_files(&[], now);
        world.finish();
        world.pass(1);
    }
    assert!(world.guard().has_lists() && world.guard().waiting_lists() <= 1);
    // Nothing is done that the next guard would not know of.
    assert_eq!((world.kernel(), world.lists()), (vec!["192.0.2.1".to_owned()], vec!["f".to_owned()]));
    assert!(!world.events().iter().skip(2).any(|event| event == "import"), "{:?}", world.events());
    let kernel = world.crash();
    other.execute_batch("ROLLBACK").unwrap();
    world.start(kernel);
    assert_eq!(world.kernel(), ["192.0.2.1"]);
    let now = world.now;
    world.guard().keep_feed_files(&[], now);
    world.finish();
    assert!(world.kernel().is_empty() && world.lists().is_empty());
}

#[test]
fn operators_are_told_when_too_much_waits() {
    let mut world = World::roomy("feed-too-many");
    let mut waiting = Vec::new();
    let mut told = Vec::new();
    for number in 0..70 {
        let answer = world.commit(World::begin_of(&format!("l{number}")), &[&format!("192.0.2.{number}")]);
        let mut answer = answer.unwrap();
        match answer.try_recv() {
            Ok(refused) => told.push(refused),
            Err(_empty) => waiting.push(answer),
        }
    }
    assert_eq!((waiting.len(), told.len()), (64, 6));
    told.iter().for_each(|told| code(told, "busy"));
    // The files of the configuration and what removes something have room all the same.
    world.file_of("f", &[("198.51.100.1", None)]);
    let mut removal = world.commit(World::begin_of("none"), &[]).unwrap();
    // Who does not wait any more holds no place.
    drop(waiting.split_off(60));
    let mut late = world.commit(World::begin_of("late"), &["198.51.100.2"]).unwrap();
    world.finish();
    assert_eq!(world.lists().len(), 62);
    for answer in waiting.iter_mut().chain([&mut late, &mut removal]) {
        assert!(matches!(answer.try_recv(), Ok(ControlAnswer::Import(_))));
    }
}

/// A list that waits for a locked store is none that whoever lifts something waits for.
#[test]
fn what_is_lifted_goes_first() {
    for is_file in [true, false] {
        let mut world = World::roomy(&format!("feed-first-{is_file}"));
        done(&world.import(None, None, false, &["192.0.2.1", "192.0.2.2"]), 2, 0, 0, 0);
        done(&world.import(Some("b"), None, false, &["192.0.2.3"]), 1, 0, 0, 0);
        let other = world.lock();
        let answer = if is_file {
            world.file(&[("198.51.100.1", None)]);
            None
        } else {
            let answer = world.commit(World::begin_of("a"), &["198.51.100.1"]).unwrap();
            world.finish();
            Some(answer)
        };
        assert!(world.guard().has_lists() && !world.guard().has_work(), "it waits");
        let locked = "; another process has locked the ban store, which learns of it once it is free";
        let again = ": if the gateway is killed before that, the next one blocks it again";
        assert_eq!(world.unblock("192.0.2.1"), format!("192.0.2.1 is no longer blocked{locked}{again}"));
        assert_eq!(world.kernel(), ["192.0.2.2", "192.0.2.3"]);
        let mut removal = world.commit(World::begin_of("b"), &[]).unwrap();
        world.finish();
        let told = removal.try_recv().unwrap();
        assert!(matches!(&told, ControlAnswer::Import(told) if told.unrecorded.as_deref() == Some(locked)), "{told:?}");
        assert_eq!(world.kernel(), ["192.0.2.2"]);
        world.unlock(&other);
        assert_eq!(world.kernel(), ["192.0.2.2", "198.51.100.1"], "the other list has its turn");
        assert!(answer.is_none_or(|mut answer| matches!(answer.try_recv(), Ok(ControlAnswer::Import(_)))));
        drop(world.crash());
        world.start(Box::new(AtAccept::default()));
        assert_eq!(world.kernel(), ["192.0.2.2", "198.51.100.1"], "the store has learned of all of it");
    }
}

#[test]
fn all_is_flushed_while_a_list_waits_for_a_locked_store() {
    let mut world = World::roomy("feed-flush-locked");
    done(&world.import(Some("b"), None, false, &["192.0.2.3"]), 1, 0, 0, 0);
    let other = world.lock();
    let mut first = world.commit(World::begin_of("a"), &["198.51.100.1"]).unwrap();
    world.finish();
    let mut second = world.commit(World::begin_of("c"), &["198.51.100.2"]).unwrap();
    let now = world.now;
    let told = world.guard().handle(ControlRequest::BlockFlush, &OPERATOR, now);
    let locked = "1 block removed; another process has locked the ban store, which learns of it once it is free";
    assert!(matches!(&told, ControlAnswer::Done { message, changed: 1 } if message == locked), "{told:?}");
    world.finish();
    assert!(world.kernel().is_empty() && world.lists().is_empty());
    for answer in [&mut first, &mut second] {
        code(&answer.try_recv().unwrap(), "flushed");
    }
    world.unlock(&other);
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert!(world.kernel().is_empty() && world.lists().is_empty());
}

/// Eight operators who import keep nobody from removing a list.
#[test]
fn a_list_is_removed_while_others_import() {
    let mut world = World::roomy("feed-remove-busy");
    done(&world.import(Some("a"), None, false, &["192.0.2.1"]), 1, 0, 0, 0);
    let now = world.now;
    for name in 0..8 {
        let who = Actor::Token(format!("t{name}"));
        let begun = world.guard().handle(World::begin_of(&format!("l{name}")), &who, now);
        assert!(matches!(begun, ControlAnswer::Import(_)), "{begun:?}");
    }
    code(&world.commit(World::begin_of("b"), &["192.0.2.2"]).unwrap_err(), "busy");
    let mut removal = world.commit(World::begin_of("a"), &[]).unwrap();
    world.finish();
    done(&removal.try_recv().unwrap(), 0, 0, 1, 0);
}

/// What is repaired and attached again waits for no list that waits for a locked store.
#[test]
fn the_kernel_is_looked_after_while_a_list_waits() {
    for many in [0, 1_000_u64] {
        let mut world = World::roomy(&format!("feed-repair-{many}"));
        drop(world.crash());
        world.start(Box::new(AtAccept::taken_off()));
        world.guard().settings.max_bans = 10_000;
        let sources: Vec<String> = (0..many).map(|number| format!("8.8.{}.{}", number / 250, number % 250)).collect();
        let sources: Vec<&str> = sources.iter().map(String::as_str).chain(["192.0.2.1"]).collect();
        done(&world.import(Some("b"), None, false, &sources), many + 1, 0, 0, 0);
        let other = world.lock();
        let _answer = world.commit(World::begin_of("a"), &["198.51.100.1"]).unwrap();
        world.finish();
        let key = SourceKey::ipv4(0xc000_0201);
        world.guard().enforcer.path_mut().unban(key).unwrap();
        let now = world.now;
        world.guard().tick(now, 10);
        assert!(world.guard().has_lists(), "it waits");
        world.finish();
        assert!(world.guard().enforcer.path().find_ban(key).is_some(), "{many}");
        // The entry, and the interface.
        assert_eq!(world.guard().enforcer.repairs(), 2, "{many}");
        assert!(world.events().contains(&"repair".to_owned()));
        world.unlock(&other);
        assert_eq!(world.lists(), ["b", "a"]);
    }
}
