//! Lists as the guard takes them: judged, replaced as a whole, beneath the blocks that are made one by one.

use tokio::sync::oneshot;

use super::*;
use crate::{
    guard::{
        control::{ImportEntry, ImportProgress},
        feeds::list::{FeedNews, FileContent},
    },
    settings::feed::{Feed, FeedPlace, FeedPurpose},
};

mod never_ban;
mod queue;
mod removed;
mod told;

impl World {
    /// As [`Self::new`], where the kernel drops packets.
    fn attached(name: &str) -> Self {
        let mut world = Self::new(name);
        drop(world.crash());
        world.start(Box::new(AtAccept::attached()));
        world.guard().settings.interfaces = vec!["eth0".to_owned()];
        world
    }

    fn import(&mut self, feed: Option<&str>, seconds: Option<u64>, shadow: bool, sources: &[&str]) -> ControlAnswer {
        let feed = feed.map(str::to_owned);
        self.import_as(ControlRequest::BlockImportBegin { feed, seconds, shadow, force: false }, sources)
    }

    fn import_as(&mut self, begin: ControlRequest, sources: &[&str]) -> ControlAnswer {
        match self.commit(begin, sources) {
            Ok(mut answer) => {
                self.finish();
                answer.try_recv().unwrap()
            }
            Err(refused) => refused,
        }
    }

    /// Sends a list: the answer comes once it is in force.
    fn commit(
        &mut self,
        begin: ControlRequest,
        sources: &[&str],
    ) -> Result<oneshot::Receiver<ControlAnswer>, ControlAnswer> {
        let now = self.now;
        let id = match self.guard().handle(begin, &OPERATOR, now) {
            ControlAnswer::Import(import) => import.id,
            refused => return Err(refused),
        };
        let entries = (1..).zip(sources).map(|(line, text)| ImportEntry(line, text.parse().unwrap(), None, None));
        let entries = entries.collect();
        let taken = self.guard().handle(ControlRequest::BlockImportChunk { id, entries }, &OPERATOR, now);
        let (sender, receiver) = oneshot::channel();
        if !matches!(taken, ControlAnswer::Import(_)) {
            return Err(taken);
        }
        self.guard().import_commit((id, "ab".to_owned(), sources.is_empty()), &OPERATOR, sender, now);
        Ok(receiver)
    }

    /// What whoever removes a block is told.
    fn unblock(&mut self, source: &str) -> String {
        let (now, del) = (self.now, ControlRequest::BlockDel { source: source.parse().unwrap() });
        match self.guard().handle_at_once(del, &OPERATOR, now) {
            ControlAnswer::Done { message, .. } | ControlAnswer::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// The file of the feed `f` says this by now, each line for so many seconds.
    fn file(&mut self, lines: &[(&str, Option<u64>)]) {
        self.file_of("f", lines);
        self.finish();
    }

    /// So does that of another feed, and nothing is done about it yet.
    fn file_of(&mut self, name: &str, lines: &[(&str, Option<u64>)]) {
        let entry =
            |(line, (text, seconds)): (u32, &(&str, _))| ImportEntry(line, text.parse().unwrap(), *seconds, None);
        let entries = (1..).zip(lines).map(entry).collect();
        let content = FileContent { digest: "ab".to_owned(), entries, errors: Vec::new(), failed: 0, is_blank: false };
        let feed = Feed::new(name.to_owned(), FeedPlace::File(PathBuf::new()), FeedPurpose::Ban);
        let now = self.now;
        self.guard().feed_file(feed, FeedNews::Changed(content), now);
    }

    /// A minute's work comes after so many seconds.
    fn minutes(&mut self, seconds: u64) {
        self.pass(seconds);
        let now = self.now;
        self.guard().tick(now, 60);
        self.finish();
    }

    /// `status` warns of each of these, and of nothing else about feeds.
    #[track_caller]
    fn warned(&mut self, parts: &[&str]) {
        let mut warnings = self.guard().feed_warnings();
        warnings.retain(|warning| warning.starts_with("feed:"));
        assert_eq!(warnings.len(), parts.len(), "{warnings:?}");
        for (warning, part) in warnings.iter().zip(parts) {
            assert!(warning.contains(part), "{warning}");
        }
    }

    /// Does all work that waits.
    fn finish(&mut self) {
        let now = self.now;
        self.guard().finish_work(now);
    }

    /// What the kernel has, by source: `-` in front of what is only counted.
    fn kernel(&mut self) -> Vec<String> {
        let drops = self.guard().enforcer.path();
        let bans = drops.bans().into_iter().map(|(key, ban)| (Source::from_key(key, 64), ban.is_shadow()));
        let rules = drops.rules().into_iter().filter(|(_, rule)| rule.action != maps::Rule::ALLOW);
        let rules = rules.map(|(source, rule)| (source, rule.action == maps::Rule::SHADOW));
        let mut all: Vec<String> =
            bans.chain(rules).map(|(source, shadow)| format!("{}{source}", if shadow { "-" } else { "" })).collect();
        all.sort();
        all
    }
}

#[track_caller]
fn done(answer: &ControlAnswer, added: u64, unchanged: u64, removed: u64, refused: u64) {
    let ControlAnswer::Import(import) = answer else { panic!("{answer:?}") };
    let ImportProgress { added: a, unchanged: u, removed: r, refused: f, .. } = **import;
    assert_eq!((a, u, r, f), (added, unchanged, removed, refused));
}

#[track_caller]
fn code(answer: &ControlAnswer, expect: &str) {
    assert!(matches!(answer, ControlAnswer::Refused { code, .. } if code == expect), "{answer:?}");
}

#[test]
fn good_clients_are_refused_line_by_line() {
    let mut world = World::new("feed-good");
    let now = world.now;
    let source = "192.0.2.1".parse().unwrap();
    world.guard().hear_good(&[crate::message::GoodClient { source, principal: 7 }], now);
    let list = ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", "198.51.100.0/24"];
    let begin =
        |shadow, force| ControlRequest::BlockImportBegin { feed: Some("a".into()), seconds: None, shadow, force };
    done(&world.import_as(begin(false, false), &list), 2, 0, 0, 2);
    assert_eq!(world.kernel(), ["192.0.2.2", "198.51.100.0/24"]);
    done(&world.import_as(begin(true, false), &list), 2, 2, 0, 0);
    done(&world.import_as(begin(false, true), &list), 0, 4, 0, 0);
    assert_eq!(world.kernel().len(), 4);
    // Good no more.
    world.pass(601);
    done(&world.import_as(begin(false, false), &list), 0, 4, 0, 0);
}

#[test]
fn lines_are_held_while_they_would_block_good_clients() {
    let mut world = World::new("feed-held");
    let now = world.now;
    let source = "192.0.2.1".parse().unwrap();
    world.guard().hear_good(&[crate::message::GoodClient { source, principal: 7 }], now);
    // 203.0.113.2 is the gateway's own address, and stays refused.
    let list = [("192.0.2.1", None), ("203.0.113.2", None), ("192.0.2.2", None), ("192.0.2.0/24", Some(3_600))];
    let own = "1 entry is not loaded, the first is line 2 (own_address)";
    let held = "2 entries are not loaded while they would block good clients, the first was line 1 (good_client)";
    world.file(&list);
    assert_eq!(world.kernel(), ["192.0.2.2"]);
    world.warned(&[own, held]);
    world.minutes(60);
    assert_eq!(world.kernel(), ["192.0.2.2"], "it is good still");
    world.warned(&[own, held]);
    world.minutes(600);
    assert_eq!(world.kernel(), ["192.0.2.0/24", "192.0.2.1", "192.0.2.2"]);
    world.warned(&[own]);
    let left = world.why("192.0.2.9").entry.unwrap().remaining_seconds;
    assert_eq!(left, Some(3_600 - 660), "its time began when the file was read");
    // A file without the line: nothing is held that it does not say.
    let now = world.now;
    let source = "198.51.100.1".parse().unwrap();
    world.guard().hear_good(&[crate::message::GoodClient { source, principal: 7 }], now);
    world.file(&[("198.51.100.1", None)]);
    assert!(world.kernel().is_empty());
    world.file(&[("192.0.2.2", None), ("198.51.100.1", Some(60))]);
    world.minutes(660);
    assert_eq!(world.kernel(), ["192.0.2.2"], "a line that has ended meanwhile does not come");
    world.warned(&[]);
}

#[test]
fn only_so_many_lines_are_held() {
    let mut world = World::new("feed-held-many");
    let now = world.now;
    let source = "192.0.2.1".parse().unwrap();
    world.guard().hear_good(&[crate::message::GoodClient { source, principal: 7 }], now);
    world.file(&[("192.0.2.1", None); 5_000]);
    world.warned(&["904 entries are not loaded, the first is line 4097 (good_client)", "4096 entries are not loaded"]);
    world.minutes(660);
    assert_eq!(world.kernel(), ["192.0.2.1"]);
}

#[test]
fn what_two_lists_name_stays_for_the_other() {
    let mut world = World::new("feed-two");
    let list = ["192.0.2.1", "198.51.100.0/24"];
    done(&world.import(Some("a"), None, false, &list), 2, 0, 0, 0);
    done(&world.import(Some("b"), None, false, &list), 2, 0, 0, 0);
    for (gone, left) in [("a", &list[..]), ("b", &[])] {
        done(&world.import(Some(gone), None, false, &[]), 0, 0, 2, 0);
        assert_eq!(world.kernel(), left, "without {gone}");
    }
    assert_eq!(world.guard().feeds.exact, 0);
}

#[test]
fn unbanned_by_hand_and_still_listed() {
    let mut world = World::attached("feed-unban");
    done(&world.import(Some("a"), None, false, &["192.0.2.0/24"]), 1, 0, 0, 0);
    assert_eq!(world.add("192.0.2.1"), "done 1");
    let now = world.now;
    let del = ControlRequest::BlockDel { source: "192.0.2.1".parse().unwrap() };
    let ControlAnswer::Done { message, .. } = world.guard().handle(del, &OPERATOR, now) else { panic!("refused") };
    assert!(
        message.starts_with("the block of 192.0.2.1 is removed, and it is still blocked as part of 192.0.2.0/24"),
        "{message}"
    );
    assert_eq!(world.why("192.0.2.1").verdict, "blocked");
}

#[test]
fn a_named_list_is_replaced_and_one_without_a_name_grows() {
    let mut world = World::new("feed-replace");
    let list = ["192.0.2.1", "198.51.100.0/24", "10.0.0.1", "203.0.113.2", "0.0.0.0/0", "192.0.2.1"];
    done(&world.import(Some("a"), None, false, &list), 2, 0, 0, 3);
    assert_eq!(world.kernel(), ["192.0.2.1", "198.51.100.0/24"]);
    done(&world.import(Some("a"), None, false, &["192.0.2.2", "198.51.100.0/24"]), 1, 1, 1, 0);
    assert_eq!(world.kernel(), ["192.0.2.2", "198.51.100.0/24"]);
    done(&world.import(Some("a"), None, true, &["192.0.2.2", "198.51.100.0/24"]), 0, 2, 0, 0);
    assert_eq!(world.kernel(), ["-192.0.2.2", "-198.51.100.0/24"]);
    done(&world.import(None, None, false, &["192.0.2.9"]), 1, 0, 0, 0);
    done(&world.import(None, Some(60), false, &["192.0.2.2", "192.0.2.9"]), 1, 1, 0, 0);
    assert_eq!(world.kernel(), ["-198.51.100.0/24", "192.0.2.2", "192.0.2.9"], "enforcing goes before counting");
    world.pass(1);
    assert_eq!(world.guard().enforcer.repairs(), 0);
    done(&world.import(Some("a"), None, false, &[]), 0, 0, 2, 0);
    assert_eq!(world.kernel(), ["192.0.2.2", "192.0.2.9"]);
    assert_eq!(world.unblock("192.0.2.9"), "192.0.2.9 is no longer blocked");
    assert_eq!(world.kernel(), ["192.0.2.2"]);
    let now = world.now;
    assert!(matches!(
        world.guard().handle(ControlRequest::BlockFlush, &OPERATOR, now),
        ControlAnswer::Done { changed: 1, .. }
    ));
    world.finish();
    assert!(world.kernel().is_empty());
    assert_eq!(world.guard().feeds.exact, 0);
}

#[test]
fn a_block_made_by_hand_lies_over_a_list() {
    let mut world = World::attached("feed-over");
    done(&world.import(Some("a"), None, false, &["192.0.2.1", "192.0.2.0/24"]), 2, 0, 0, 0);
    let now = world.now;
    for source in ["192.0.2.1", "192.0.2.0/24"] {
        let source: Source = source.parse().unwrap();
        let add = ControlRequest::BlockAdd {
            source,
            seconds: Some(60),
            reason: "r".to_owned(),
            shadow: true,
            confirm: None,
            force: false,
        };
        assert!(matches!(world.guard().handle(add, &OPERATOR, now), ControlAnswer::Done { .. }));
        assert_eq!(world.kernel(), ["192.0.2.0/24", "192.0.2.1"], "what is listed is enforced");
        let del = ControlRequest::BlockDel { source };
        assert!(matches!(world.guard().handle(del.clone(), &OPERATOR, now), ControlAnswer::Done { .. }));
        assert_eq!(world.kernel(), ["192.0.2.0/24", "192.0.2.1"]);
        code(&world.guard().handle(del, &OPERATOR, now), "in_feed");
    }
    let why = world.guard().why("192.0.2.1".parse().unwrap(), now).unwrap();
    assert_eq!((why.verdict.as_str(), why.entry.unwrap().actor.as_str()), ("blocked", "feed:a"));
    world.pass(1);
    assert_eq!(world.guard().enforcer.repairs(), 0);
}

#[test]
fn a_promoted_block_does_not_take_the_place_of_a_list_that_lasts_longer() {
    let mut world = World::new("feed-promote");
    done(&world.import(Some("a"), None, false, &["192.0.2.1"]), 1, 0, 0, 0);
    let now = world.now;
    let source: Source = "192.0.2.1".parse().unwrap();
    let add = ControlRequest::BlockAdd {
        source,
        seconds: Some(60),
        reason: "r".to_owned(),
        shadow: true,
        confirm: None,
        force: false,
    };
    let guard = world.guard();
    assert!(matches!(guard.handle(add, &OPERATOR, now), ControlAnswer::Done { .. }));
    let id = guard.find(source).unwrap().id;
    let key = guard.key(source).unwrap();
    let listed = guard.enforcer.path().find_ban(key).unwrap();
    assert_ne!(listed.id & !maps::Ban::SHADOW, id);
    let promote = ControlRequest::ShadowPromote { what: id.to_string() };
    assert!(matches!(guard.handle(promote, &OPERATOR, now), ControlAnswer::Done { .. }));
    let found = guard.enforcer.path().find_ban(key).unwrap();
    assert_eq!((found.id, found.expires), (listed.id, listed.expires));
    // Nor does a block of a client behind a trusted proxy, of which the kernel knows nothing.
    let record = BanRecord { relay: Some("192.0.2.9".parse().unwrap()), ..guard.find(source).unwrap().clone() };
    guard.enforcer.path_mut().unban(key).unwrap();
    guard.enter_again(&record).unwrap();
    assert!(guard.enforcer.path().find_ban(key).is_none());
}

#[test]
fn a_restart_finds_the_old_content_or_the_new() {
    let mut world = World::new("feed-crash");
    done(&world.import(Some("a"), Some(600), false, &["192.0.2.1", "192.0.2.0/24"]), 2, 0, 0, 0);
    for stop_after in 0..12 {
        let now = world.now;
        let guard = world.guard();
        let ControlAnswer::Import(import) =
            guard.import_begin(Some("a".to_owned()), Some(600), false, false, &OPERATOR, now).unwrap()
        else {
            return;
        };
        let names = [format!("192.0.2.{}", 10 + stop_after), "198.51.100.0/24".to_owned()];
        let entries = names.iter().map(|text| ImportEntry(1, text.parse().unwrap(), None, None)).collect();
        guard.import_chunk(import.id, entries, &OPERATOR, now).unwrap();
        let (sender, _receiver) = oneshot::channel();
        guard.import_commit((import.id, String::new(), false), &OPERATOR, sender, now);
        for _ in 0..stop_after {
            match guard.planning() {
                Some(planning) => guard.planned(planning.run(), now),
                None => guard.work(now),
            }
        }
        let before: Vec<Source> = guard.feeds.sources().collect();
        let drops = world.crash();
        world.start(drops);
        let after: Vec<Source> = world.guard().feeds.sources().collect();
        assert_eq!(before, after, "after {stop_after} steps");
        let mut expect: Vec<String> = after.iter().map(ToString::to_string).collect();
        expect.sort();
        assert_eq!(world.kernel(), expect, "after {stop_after} steps");
        assert_eq!(world.guard().feeds.exact, 1);
    }
    world.boot = "two";
    world.now = Now { monotonic: SECOND, unix_millis: world.now.unix_millis + 300_000 };
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert_eq!(world.kernel().len(), 2);
    let now = world.now;
    let entry = world.guard().fed_entry("198.51.100.7".parse().unwrap(), now).unwrap();
    assert_eq!(entry.remaining_seconds, Some(300));
    world.now.unix_millis += 400_000;
    drop(world.crash());
    world.start(Box::new(AtAccept::default()));
    assert!(world.kernel().is_empty());
}

#[test]
fn a_list_that_does_not_fit_is_refused_as_a_whole() {
    let mut world = World::new("feed-full");
    done(&world.import(Some("a"), None, false, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]), 3, 0, 0, 0);
    code(&world.import(Some("b"), None, false, &["192.0.2.4", "192.0.2.5"]), "full");
    assert_eq!(world.kernel().len(), 3);
    let now = world.now;
    assert!(world.guard().feed_warnings().iter().any(|warning| warning.contains("guard.max_bans")));
    // As many as before, all of them others: there is no room for both at once.
    done(&world.import(Some("a"), None, false, &["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"]), 4, 0, 3, 0);
    assert_eq!(world.kernel(), ["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"]);
    let add = ControlRequest::BlockAdd {
        source: "192.0.2.8".parse().unwrap(),
        seconds: None,
        reason: "r".to_owned(),
        shadow: false,
        confirm: None,
        force: false,
    };
    code(&world.guard().handle(add, &OPERATOR, now), "full");
    let rules = ["192.0.0.0/24", "192.0.1.0/24", "192.0.3.0/24", "192.0.4.0/24"];
    code(&world.import(Some("c"), None, false, &rules), "full");
}

#[test]
fn what_is_added_without_a_name_does_not_change_the_mode_of_what_is_there() {
    for (name, shadow, kernel) in [("enforced", false, "192.0.2.1"), ("shadow", true, "-192.0.2.1")] {
        let mut world = World::new(&format!("feed-mode-{name}"));
        done(&world.import(None, None, shadow, &["192.0.2.1"]), 1, 0, 0, 0);
        code(&world.import(None, None, !shadow, &["192.0.2.2"]), "other_mode");
        code(&world.import(None, None, !shadow, &["192.0.2.1"]), "other_mode");
        assert_eq!(world.kernel(), [kernel], "{name}");
        done(&world.import(None, None, shadow, &["192.0.2.1"]), 0, 1, 0, 0);
        done(&world.import(Some("b"), None, !shadow, &["192.0.2.2"]), 1, 0, 0, 0);
        let now = world.now;
        world.guard().handle(ControlRequest::BlockFlush, &OPERATOR, now);
        world.finish();
        done(&world.import(None, None, !shadow, &["192.0.2.2"]), 1, 0, 0, 0);
    }
}

#[test]
fn a_page_after_the_other() {
    let mut world = World::new("feed-export");
    done(&world.import(Some("a"), None, false, &["192.0.2.1", "192.0.2.0/24"]), 2, 0, 0, 0);
    done(&world.import(None, Some(60), true, &["192.0.2.7"]), 1, 0, 0, 0);
    let now = world.now;
    let (mut cursor, mut told) = (None, Vec::new());
    loop {
        let ControlAnswer::Exported { entries, next } = world.guard().export(None, cursor, now).unwrap() else {
            return;
        };
        told.extend(entries.into_iter().map(|entry| format!("{} {} {:?}", entry.source, entry.actor, entry.seconds)));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(told, ["192.0.2.0/24 feed:a None", "192.0.2.1 feed:a None", "192.0.2.7 import Some(60)"]);
    assert!(world.guard().export(Some("b"), None, now).is_err());
}

/// What a list of ranges says by now: these networks, and so many lines that cannot be read.
fn ranges(world: &mut World, networks: &[&str], failed: u64) {
    let entry = |(line, text): (u32, &&str)| ImportEntry(line, text.parse().unwrap(), None, None);
    let errors = (0..failed).map(|_| crate::lists::LineError { line: 9, message: "nonsense".to_owned() }).collect();
    let entries = (1..).zip(networks).map(entry).collect();
    let content = FileContent { digest: "cd".to_owned(), entries, errors, failed, is_blank: false };
    let place = FeedPlace::File(PathBuf::new());
    let feed = Feed::new("google".to_owned(), place, FeedPurpose::Crawlers);
    let now = world.now;
    world.guard().settings.feeds = vec![feed.clone()];
    world.guard().feed_file(feed, FeedNews::Changed(content), now);
    world.finish();
}

#[test]
fn ranges_of_crawlers_ban_nobody() {
    let mut world = World::new("feed-ranges");
    let told = |world: &mut World| -> Vec<Option<usize>> {
        let notices = world.guard().notices();
        let ranges = notices.iter().map(|notice| match notice {
            ToProxy::CrawlerRanges(ranges) => ranges.networks.as_ref().map(Vec::len),
            other => panic!("{other:?}"),
        });
        ranges.collect()
    };
    ranges(&mut world, &["192.0.2.0/24", "2001:db8::/64"], 0);
    assert!(world.kernel().is_empty(), "{:?}", world.kernel());
    assert_eq!(told(&mut world), [Some(2)]);
    world.warned(&[]);
    let list = &world.guard().feed_list()[0];
    assert_eq!((list.name.as_str(), list.entries, list.mode.as_str()), ("google", 2, "crawlers"));
    assert_eq!(world.guard().feed_digests()["google"], "cd");
    let now = world.now;
    assert_eq!(world.guard().listed("google", now), 2, "it does not shrink by mistake either");

    // What would verify half of the internet is passed over; what is of no use changes nothing.
    ranges(&mut world, &["0.0.0.0/1", "192.0.2.0/24", "2000::/3"], 1);
    assert_eq!(told(&mut world), [Some(1)]);
    world.warned(&["2 networks are wider than any crawler's, and passed over: 0.0.0.0/1 is the first; 1 line cannot"]);
    for (networks, failed, warning) in [
        (vec![], 3, "names no network; what was loaded before stays in force"),
        (vec!["0.0.0.0/0"], 0, "names no network; what was loaded before"),
        (vec!["192.0.2.1"; 3_001], 0, "it has 3001 networks, and proxies take 3000; what was loaded before"),
    ] {
        ranges(&mut world, &networks, failed);
        assert!(told(&mut world).is_empty());
        world.warned(&[warning]);
        assert_eq!(world.guard().crawler_ranges()[0].networks.as_ref().map(Vec::len), Some(1));
    }
    ranges(&mut world, &["198.51.100.0/24"], 0);
    world.warned(&[]);
    assert_eq!(told(&mut world), [Some(1)]);

    world.guard().settings.feeds.clear();
    let now = world.now;
    world.guard().keep_feed_files(&[], now);
    assert_eq!(told(&mut world), [None], "it is in the configuration no more");
    assert!(world.guard().crawler_ranges().is_empty() && world.guard().feed_list().is_empty());
}
