//! What is known of lists that are fetched, from one fetch to the next and over restarts.

use std::fs;

use super::*;
use crate::{
    os::clock::SECOND,
    settings::{
        feed::{FeedPlace, FeedPurpose, FeedSource},
        outbound::{Dial, SecretUrl},
    },
};

fn feed(name: &str, url: &str) -> Feed {
    let source = FeedSource {
        name: name.to_owned(),
        url: SecretUrl { text: url.to_owned(), file: None },
        token: None,
        checksum: None,
        signed: None,
        max_size: 1_024,
        dial: Dial::none(),
    };
    let (every, stale_after) = (Duration::from_secs(60), Duration::from_secs(180));
    let fetched = FetchedFeed { source, every, stale_after, max_shrink: 500_000 };
    Feed::new(name.to_owned(), FeedPlace::Url(Box::new(fetched)), FeedPurpose::Ban)
}

fn at(seconds: u64) -> Now {
    Now { monotonic: seconds * SECOND, unix_millis: 1_700_000_000_000 + seconds * 1_000 }
}

fn validators(etag: &str) -> Validators {
    Validators { etag: etag.to_owned(), last_modified: String::new() }
}

#[test]
fn what_is_known_outlives_the_guard() {
    let folder = std::env::temp_dir().join(format!("gateway-fetches-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let feeds = [feed("a", "https://a.example/list?key=secret")];
    let mut in_force = HashMap::new();
    let mut fetches = Fetches::open(&folder);
    fetches.configure(&feeds, &in_force, at(0));
    let due = fetches.due(&feeds, &in_force, at(0));
    assert_eq!(due.len(), 1, "nothing is in force");
    assert!(due[0].asked.is_empty());
    assert!(fetches.due(&feeds, &in_force, at(100)).is_empty(), "it is being fetched");
    fetches.changed("a", validators("1"), "d1".to_owned(), 3, at(1));
    fetches.write();
    let written = fs::read_to_string(folder.join(FILE)).unwrap();
    assert!(!written.contains("secret") && written.contains("d1"), "{written}");

    // The store has the list: its server is asked for news, and not before it is time.
    in_force.insert("a".to_owned(), "d1".to_owned());
    let mut fetches = Fetches::open(&folder);
    fetches.configure(&feeds, &in_force, at(10));
    assert!(fetches.due(&feeds, &in_force, at(20)).is_empty());
    let due = fetches.due(&feeds, &in_force, at(80));
    assert_eq!(due[0].asked.etag, "1");
    assert!(!fetches.unchanged("a", "d1".to_owned(), None, at(81)));
    assert_eq!(fetches.states(at(81))[0].unchanged, 1);

    // What is in force is not what the server calls so: the whole list is fetched.
    in_force.insert("a".to_owned(), "other".to_owned());
    assert!(fetches.due(&feeds, &in_force, at(200))[0].asked.is_empty());

    // From elsewhere comes another list, of any length, at once.
    let feeds = [feed("a", "https://b.example/list")];
    let mut fetches = Fetches::open(&folder);
    fetches.configure(&feeds, &in_force, at(20));
    assert_eq!(fetches.may_shrink("a"), Some(1_000_000));
    assert_eq!(fetches.due(&feeds, &in_force, at(20)).len(), 1);

    fs::write(folder.join(FILE), "{\"a\": ").unwrap();
    let damaged = Fetches::open(&folder);
    let told: Vec<_> = damaged.warnings(at(0)).collect();
    assert!(told.len() == 1 && told[0].contains("set aside"), "{told:?}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_old_list_is_told_and_the_same_refusal_once() {
    let feeds = [feed("a", "https://a.example/list?key=secret")];
    let in_force = HashMap::from([("a".to_owned(), "d1".to_owned())]);
    let mut fetches = Fetches::default();
    fetches.configure(&feeds, &in_force, at(0));
    assert_eq!(fetches.due(&feeds, &in_force, at(0)).len(), 1);
    fetches.failed("a", "the server answers 503", 0, at(1));
    let told: Vec<_> = fetches.warnings(at(1)).collect();
    assert!(
        told[0].contains("from https://a.example/ (1 try; never fetched)") && !told[0].contains("secret"),
        "{told:?}"
    );
    assert!(!fetches.states(at(100))[0].is_stale && fetches.states(at(181))[0].is_stale);

    assert!(fetches.refused("a", "d2".to_owned(), "too short", at(190)));
    assert!(!fetches.refused("a", "d2".to_owned(), "too short", at(250)), "recorded once");
    assert!(fetches.refused("a", "d3".to_owned(), "too short", at(310)));
    assert!(fetches.states(at(310))[0].is_stale, "a refused list confirms nothing");
    let told: Vec<_> = fetches.warnings(at(310)).collect();
    assert!(told[0].contains("is refused, for longer than stale_after: too short"), "{told:?}");
    assert!(fetches.unchanged("a", "d1".to_owned(), None, at(320)), "it was refused before");
    let state = &fetches.states(at(320))[0];
    assert!(!state.is_stale && state.refused.is_none() && state.failing.is_none());
    assert_eq!(fetches.warnings(at(320)).count(), 0);

    // An operator takes the next one, and that one alone.
    let (to, mut answered) = oneshot::channel();
    assert!(fetches.refresh("b", true, to, at(320)).is_err(), "there is no such list");
    let (to, _) = oneshot::channel();
    fetches.refresh("a", true, to, at(320)).unwrap();
    assert_eq!(fetches.may_shrink("a"), None);
    assert!(answered.try_recv().is_err());
    assert_eq!(fetches.due(&feeds, &in_force, at(320)).len(), 1, "at once");
    fetches.changed("a", validators("4"), "d4".to_owned(), 1, at(321));
    assert_eq!(fetches.may_shrink("a"), Some(500_000));

    // For something else it is fetched as a whole, at once.
    let other = [Feed { purpose: FeedPurpose::Crawlers, ..feeds[0].clone() }];
    let in_force = HashMap::from([("a".to_owned(), "d4".to_owned())]);
    fetches.configure(&other, &in_force, at(322));
    assert_eq!(fetches.due(&other, &in_force, at(322))[0].asked, Validators::default());

    // One that nobody has asked for yet is not old: there is none.
    let mut others = Fetches::default();
    others.configure(&feeds, &HashMap::new(), at(0));
    let told: Vec<_> = others.warnings(at(181)).collect();
    assert_eq!(told, ["feed:a: never fetched, for longer than stale_after"]);

    // A list that is not in the configuration any more is forgotten.
    fetches.configure(&[], &in_force, at(330));
    assert!(fetches.states(at(330)).is_empty());
}

#[test]
fn another_checksum_has_the_whole_list_fetched() {
    let with = |checksum: Option<&str>| {
        let mut feed = feed("a", "https://a.example/list");
        let FeedPlace::Url(fetched) = &mut feed.place else { panic!("it is fetched") };
        fetched.source.checksum = checksum.map(str::to_owned);
        [feed]
    };
    let (one, other) = (Some("https://a.example/sums"), Some("https://b.example/sums"));
    for (before, after, asked) in [
        (None, None, "1"),
        (one, one, "1"),
        // What is in force was held against nothing, or against something else.
        (None, one, ""),
        (one, other, ""),
        (one, None, ""),
    ] {
        let in_force = HashMap::from([("a".to_owned(), "d1".to_owned())]);
        let mut fetches = Fetches::default();
        fetches.configure(&with(before), &in_force, at(0));
        fetches.due(&with(before), &in_force, at(0));
        fetches.changed("a", validators("1"), "d1".to_owned(), 3, at(1));
        fetches.configure(&with(after), &in_force, at(2));
        let due = fetches.due(&with(after), &in_force, at(200));
        assert_eq!(due[0].asked.etag, asked, "{before:?}, {after:?}");
        assert_eq!(fetches.may_shrink("a"), Some(500_000), "it is the same list: {before:?}, {after:?}");
        if asked.is_empty() {
            let found = HashMap::from([("a".to_owned(), fetches.known["a"].kept.clone())]);
            let mut at_once = Fetches { found, ..Fetches::default() };
            at_once.configure(&with(after), &in_force, at(2));
            assert_eq!(at_once.due(&with(after), &in_force, at(2)).len(), 1, "at once, and after a restart");
        }
    }
}
