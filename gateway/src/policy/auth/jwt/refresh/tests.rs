//! The policy of fetching, on a clock of its own.

use super::*;
use crate::{os::clock::SECOND, settings};

fn refresh() -> Refresh<u32> {
    Refresh::new(&settings::jwt::tests::fetch(), 0)
}

fn name(kid: &str) -> KeyName {
    KeyName { kid: Some(kid.into()), algorithm: "ES256".into() }
}

const fn at(seconds: u64) -> u64 {
    seconds * SECOND
}

/// What a set of these keys has.
fn has(kids: &'static [&'static str]) -> impl Fn(&KeyName) -> KeyPresence {
    move |name| match name.kid.as_deref() {
        Some(kid) if kids.contains(&kid) => KeyPresence::Known,
        Some("gone") => KeyPresence::Gone,
        _ => KeyPresence::Never,
    }
}

/// A refresh that has fetched at `began` what is there one second later.
fn fetched(began: u64) -> Refresh<u32> {
    let mut refresh = refresh();
    refresh.begin(at(began));
    refresh.succeed(has(&[]), None, 0, at(began + 1));
    refresh
}

#[test]
fn an_unknown_key_is_fetched_once_for_all() {
    let mut refresh = fetched(0);
    assert_eq!(refresh.ask(&name("a"), 1, at(100)), RefreshDecision::Fetch);
    refresh.begin(at(100));
    assert_eq!(refresh.due(), None);
    assert_eq!(refresh.ask(&name("a"), 2, at(101)), RefreshDecision::Join);
    assert_eq!(refresh.ask(&name("b"), 3, at(101)), RefreshDecision::Join);
    let settled = refresh.succeed(has(&["a"]), None, 0, at(102));
    assert_eq!(settled, Settled { unknown: vec![], wronged: vec![] });
    // It began before these came, so that it says nothing of them.
    assert_eq!([at(100), at(101)].map(|asked| refresh.decides(asked)), [true, false]);
}

#[test]
fn nobody_is_blamed_before_a_fetch_that_began_later() {
    let mut refresh = fetched(100);
    // The last fetch is too fresh for another.
    assert_eq!(refresh.ask(&name("x"), 1, at(103)), RefreshDecision::Later(Duration::from_secs(7)));
    assert_eq!(refresh.ask(&name("y"), 2, at(104)), RefreshDecision::Later(Duration::from_secs(6)));
    assert_eq!(refresh.due(), Some(at(110)), "what is undecided is decided as soon as may be");
    refresh.begin(at(110));
    let settled = refresh.succeed(has(&["y"]), None, 0, at(111));
    assert_eq!(settled, Settled { unknown: vec![1], wronged: vec![] });
    assert_eq!(refresh.due(), Some(at(111) + 15 * 60 * SECOND));
    // The issuer may publish it a moment later: it is looked for once more.
    assert_eq!(refresh.ask(&name("x"), 3, at(112)), RefreshDecision::Later(Duration::from_secs(8)));
    assert_eq!(refresh.due(), Some(at(120)));
    refresh.begin(at(120));
    let settled = refresh.succeed(has(&["y"]), None, 0, at(121));
    assert_eq!(settled, Settled { unknown: vec![3], wronged: vec![] });
    assert_eq!(refresh.ask(&name("x"), 4, at(122)), RefreshDecision::Absent);
    // What was nobody's may be somebody's later.
    assert_eq!(refresh.ask(&name("x"), 5, at(130)), RefreshDecision::Fetch);
    refresh.begin(at(130));
    let settled = refresh.succeed(has(&["x", "y"]), None, 0, at(131));
    assert_eq!(settled, Settled { unknown: vec![], wronged: vec![1, 3, 4] });
}

/// An issuer signs by a key, and publishes it later. Requests come all the time, and the keys are fetched as often as may be.
#[test]
fn a_key_that_is_published_late_is_nobodys_for_no_request_that_comes_later() {
    // In tenths of a second after the first request by the key: the fetch of that one begins at once.
    for published in 1..100_u64 {
        let (mut refresh, mut fetches, mut fetching) = (fetched(0), Vec::new(), None);
        let tenth = |tenths: u64| at(100) + tenths * SECOND / 10;
        let (mut wronged, mut is_known) = (Vec::new(), false);
        for now in 0..200_u64 {
            let due = refresh.due().is_some_and(|due| due <= tenth(now));
            let asked = (!is_known).then(|| refresh.ask(&name("late"), u32::try_from(now).unwrap(), tenth(now)));
            if asked == Some(RefreshDecision::Absent) && now >= published {
                wronged.push(now);
            }
            if fetching.is_none() && (due || asked == Some(RefreshDecision::Fetch)) {
                refresh.begin(tenth(now));
                fetching = Some(now);
                fetches.push(now);
            }
            // A fetch takes a fifth of a second, and finds what is there at its end.
            if fetching.take_if(|began| now >= *began + 2).is_some() {
                is_known = now >= published;
                let kids: &'static [&'static str] = if is_known { &["late"] } else { &[] };
                refresh.succeed(has(kids), None, 0, tenth(now));
                if !is_known {
                    // The request that had it fetched is refused.
                    refresh.note_absent(name("late"), KeyPresence::Never, 0, tenth(now));
                }
            }
        }
        assert!(wronged.is_empty(), "published after {published} tenths: wrong at {wronged:?}, fetches at {fetches:?}");
        assert!(is_known && fetches.windows(2).all(|pair| pair[1] - pair[0] >= 100), "{published}: {fetches:?}");
    }
}

/// Whoever has a token by a key that was replaced needs another token, and does not have to wait for that.
#[test]
fn a_key_that_has_gone_is_looked_for_once() {
    let mut refresh = fetched(0);
    assert_eq!(refresh.ask(&name("gone"), 1, at(100)), RefreshDecision::Fetch);
    refresh.begin(at(100));
    refresh.succeed(has(&["a"]), None, 0, at(101));
    refresh.note_absent(name("gone"), KeyPresence::Gone, 1, at(101));
    assert_eq!(refresh.ask(&name("gone"), 2, at(102)), RefreshDecision::Absent);
}

#[test]
fn a_fetch_that_fails_blames_nobody() {
    let mut refresh = fetched(0);
    refresh.begin(at(100));
    assert_eq!(refresh.ask(&name("a"), 1, at(100)), RefreshDecision::Join);
    refresh.fail(0, at(105));
    assert_eq!(refresh.ask(&name("a"), 1, at(106)), RefreshDecision::Later(Duration::from_secs(4)));
    refresh.begin(at(110));
    refresh.fail(0, at(115));
    assert_eq!(refresh.due(), Some(at(135)), "what is undecided is forgotten, and the pause is twice as long");
    refresh.begin(at(135));
    assert_eq!(refresh.succeed(has(&[]), None, 0, at(136)), Settled { unknown: vec![], wronged: vec![] });
}

#[test]
fn the_pause_grows_to_a_bound() {
    let mut refresh = refresh();
    let mut now = 0;
    let pauses = [10, 20, 40, 80, 160, 300, 300].map(|expect| {
        refresh.begin(now);
        refresh.fail(0, now);
        let due = refresh.due().unwrap();
        let pause = (due - now) / SECOND;
        now = due;
        (pause, expect)
    });
    assert!(pauses.iter().all(|(pause, expect)| pause == expect), "{pauses:?}");
}

/// J07: whatever comes, there is a cool-down between two fetches, and what is remembered is bounded.
#[test]
fn j07_a_flood_of_unknown_keys() {
    let mut refresh = fetched(0);
    let (mut fetches, mut begun) = (0, None);
    for request in 0..100_000_u64 {
        let now = at(100) + request * SECOND / 1_000;
        match refresh.ask(&name(&format!("k{request}")), u32::try_from(request).unwrap(), now) {
            RefreshDecision::Fetch => {
                refresh.begin(now);
                fetches += 1;
                begun = Some(now);
            }
            RefreshDecision::Absent => panic!("nobody has asked for it before"),
            RefreshDecision::Join | RefreshDecision::Later(_) => {}
        }
        if begun.is_some_and(|begun| now >= begun + SECOND / 10) {
            refresh.succeed(has(&[]), None, 0, now);
            begun = None;
        } else if begun.is_none() && refresh.due().is_some_and(|due| due <= now) {
            refresh.begin(now);
            (fetches, begun) = (fetches + 1, Some(now));
        }
        assert!(refresh.undecided.len() <= MAX_UNDECIDED && refresh.absent.len() <= MAX_ABSENT);
    }
    assert!((10..=11).contains(&fetches), "{fetches} fetches in 100 s");
}

#[test]
fn how_long_keys_are_fresh() {
    for (control, age, expect) in [
        (&["max-age=300"][..], None, Some(300)),
        (&["public, max-age=300, must-revalidate"], Some("100"), Some(200)),
        (&["public", "Max-Age = \"60\""], None, Some(60)),
        (&["max-age=300"], Some("400"), Some(0)),
        (&["max-age=300, no-cache"], None, Some(0)),
        (&["no-store"], None, Some(0)),
        (&["max-age=99999999999999999999999"], None, Some(u64::from(u32::MAX))),
        (&["max-age=-1"], None, None),
        (&["max-age=1e9"], None, None),
        (&["s-maxage=10"], None, None),
        (&[], Some("5"), None),
    ] {
        let found = max_age(control, age).map(|found| found.as_secs());
        assert_eq!(found, expect, "{control:?} {age:?}");
    }
    let refresh = |max_age: Option<u64>, random| {
        let mut refresh = refresh();
        refresh.begin(0);
        refresh.succeed(has(&[]), max_age.map(Duration::from_secs), random, 0);
        refresh.due().unwrap() / SECOND
    };
    assert_eq!([None, Some(0), Some(300), Some(100_000)].map(|it| refresh(it, 0)), [900, 60, 300, 900]);
    assert_eq!(refresh(None, 999), 810, "a tenth sooner at most");
}
