//! Ejections, health and the limits on requests, as rows of events.

use std::time::Duration;

use super::*;
use crate::settings::upstream::UpstreamServer;

const SECOND: u64 = 1_000_000_000;
const OFF: u64 = u64::MAX;

fn state(servers: usize, share: u8) -> UpstreamState {
    let server = |index| UpstreamServer { address: format!("10.0.0.{index}:80"), weight: 1 };
    let (time, longest) = (Duration::from_secs(10), Duration::from_secs(60));
    UpstreamState::new(&Upstream {
        servers: (0..servers).map(server).collect(),
        ejection: Some(Ejection { failures: 3, clients: 2, statuses: vec![502], time, longest, share }),
        slow_start: Duration::from_secs(10),
        max_requests: 2,
        max_pending: 1,
        ..Upstream::default()
    })
}

#[test]
fn ejections_grow_and_end() {
    let state = state(2, 50);
    let mut now = SECOND;
    for seconds in [10, 20, 40, 60, 60] {
        for _ in 0..2 {
            state.unreachable(0, now);
            assert_eq!(state.usable(), 0b11);
        }
        state.unreachable(0, now);
        assert_eq!(state.usable(), 0b10, "ejected");
        for _ in 0..9 {
            state.unreachable(1, now);
        }
        assert_eq!(state.usable(), 0b10, "never more than the share");
        state.succeeded(1);
        state.tick(now + seconds * SECOND - 1);
        assert_eq!(state.usable(), 0b10, "{seconds}");
        now += seconds * SECOND;
        state.tick(now);
        assert_eq!(state.usable(), 0b11, "{seconds}");
    }
    state.tick(now + 61 * SECOND);
    (0..3).for_each(|_| state.unreachable(0, now));
    state.tick(now + 10 * SECOND);
    assert_eq!(state.usable(), 0b11, "what is long ago is forgotten");
}

#[test]
fn answers_between_failures_count() {
    let state = state(2, 100);
    for _ in 0..9 {
        state.unreachable(0, 0);
        assert!(!state.answered(0, 1, 0));
        state.succeeded(0);
    }
    assert_eq!(state.usable(), 0b11);
}

/// Whom a server answered that it is broken, 0: it could not be reached, [`OFF`]: it broke off; whether it is asked
/// itself, and whether it is out.
#[track_caller]
fn check(askers: &[u64], expect: (bool, bool)) {
    let state = state(2, 100);
    let doubted = askers.iter().fold(false, |doubted, asker| match asker {
        0 => {
            state.unreachable(0, SECOND);
            doubted
        }
        &OFF => state.failed(0, SECOND) || doubted,
        asker => state.answered(0, *asker, SECOND) || doubted,
    });
    assert_eq!((doubted, state.usable() == 0b10), expect, "{askers:?}");
    if doubted {
        assert!(!state.failed(0, SECOND), "it is asked once at a time");
        state.probed(0, true, SECOND);
        assert_eq!(state.usable(), 0b11, "it answers");
        assert!(!state.answered(0, 1, SECOND) && !state.failed(0, SECOND), "another row begins");
        assert!(state.failed(0, SECOND));
        state.probed(0, false, SECOND);
        assert_eq!(state.usable(), 0b10, "it does not");
    }
}

#[test]
fn one_client_alone_proves_nothing() {
    check(&[0, 0], (false, false));
    check(&[0, 0, 0], (false, true));
    check(&[1, 1, 1], (true, false));
    check(&[1; 99], (true, false));
    check(&[1, 1, 2], (false, true));
    check(&[0, 1, 1], (true, false));
    check(&[0, 0, 1], (true, false));
    check(&[0, 1, 2], (false, true));
    // Anybody can have a request that makes a server break off, from as many addresses as he has.
    check(&[OFF, OFF, OFF], (true, false));
    check(&[OFF; 99], (true, false));
    check(&[1, 2, OFF], (true, false));
    check(&[0, 0, OFF], (true, false));
    let client = |text: &str| asker(text.parse().unwrap());
    assert_eq!(client("2001:db8:1:1::/64"), client("2001:db8:1:2::/64"), "of one network");
    assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
}

/// How server 0 of two is shown, where this has happened: `x`: no connection, `c`: a connection, `e`: it was ejected,
/// `d`: health checks say that it is down.
#[track_caller]
fn shown(with_health: bool, happened: &str, expect: ServerState) {
    let mut settings = state(2, 100).settings;
    settings.health = with_health.then(|| crate::settings::upstream::HealthCheck {
        path: "/".to_owned(),
        host: None,
        expect: Vec::new(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        healthy: 1,
        unhealthy: 1,
    });
    let state = UpstreamState::new(&settings);
    for letter in happened.chars() {
        match letter {
            'x' => state.cannot_connect(0, "10.0.0.0:80: cannot connect: refused", 7),
            'c' => state.connected(0),
            'e' => (0..3).for_each(|_| state.unreachable(0, SECOND)),
            _ => state.judge(0, false, SECOND),
        }
    }
    let states: Vec<_> = state.report().servers.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [expect, ServerState::Up], "{happened}");
    // What is known goes on with the next configuration.
    for state in [state.succeeded_by(&settings), state] {
        let report = state.report();
        let why: Vec<_> = report.failing.iter().map(|it| (&*it.server, &*it.why, it.since)).collect();
        let is_told = happened.trim_matches(['e', 'd']).ends_with('x') && !with_health;
        assert_eq!(why, [("10.0.0.0:80", "refused", 7)][usize::from(!is_told)..], "{happened}");
    }
}

#[test]
fn what_could_not_be_connected_to_is_told() {
    shown(false, "", ServerState::Up);
    shown(false, "x", ServerState::Failing);
    shown(false, "xx", ServerState::Failing);
    shown(false, "xc", ServerState::Up);
    shown(false, "cx", ServerState::Failing);
    shown(false, "xe", ServerState::Ejected);
    shown(true, "x", ServerState::Up);
    shown(true, "xd", ServerState::Down);
}

/// A server is itself by its place, and in the next settings by its address: what is known of it is said of no other.
#[test]
fn what_is_known_of_a_server_is_said_of_no_other() {
    use ServerState::{Ejected, Failing, Up};
    let with = |addresses: &[&str]| {
        let server = |address: &&str| UpstreamServer { address: (*address).to_owned(), weight: 1 };
        Upstream { servers: addresses.iter().map(server).collect(), ..state(2, 100).settings }
    };
    let check = |state: &UpstreamState, expect: &[ServerState], failing: usize| {
        let report = state.report();
        let states: Vec<_> = report.servers.iter().map(|(_, state)| *state).collect();
        assert_eq!((states, report.failing.len()), (expect.to_vec(), failing));
    };
    let next = |state: &UpstreamState, addresses: &[&str]| {
        let next = state.succeeded_by(&with(addresses));
        next.take_over(state);
        next
    };
    // Two with one address.
    let twins = UpstreamState::new(&with(&["a:1", "a:1", "b:1"]));
    twins.cannot_connect(1, "refused", 7);
    (0..3).for_each(|_| twins.unreachable(0, SECOND));
    check(&twins, &[Ejected, Failing, Up], 1);
    check(&next(&twins, &["b:1", "a:1", "a:1"]), &[Up, Ejected, Failing], 1);
    check(&next(&twins, &["a:1", "b:1"]), &[Ejected, Up], 0);
    // One that is renamed is another one.
    check(&next(&twins, &["c:1", "d:1", "b:1"]), &[Up, Up, Up], 0);
}

#[test]
fn whoever_comes_back_begins_slowly() {
    let state = state(3, 50);
    state.judge(1, true, 0);
    assert!((0..1_000).all(|random| state.takes(1, random, 0)), "it was never down");
    state.judge(1, false, 0);
    assert_eq!(state.usable(), 0b101);
    state.judge(1, true, 0);
    assert_eq!(state.usable(), 0b111);
    for (now, expect) in [(0, 100), (SECOND / 2, 100), (5 * SECOND, 500), (10 * SECOND, 1_000)] {
        assert_eq!((0..1_000).filter(|random| state.takes(1, *random, now)).count(), expect, "{now}");
    }
    state.tick(10 * SECOND);
    assert!((0..1_000).all(|random| state.takes(1, random, 0)));
}

#[test]
fn places_are_limited() {
    let state = state(1, 50);
    assert!(state.begin() && state.begin() && !state.begin());
    state.end();
    assert!(state.begin() && !state.begin());
    assert!(state.wait() && !state.wait());
    state.judge(0, false, 0);
    assert_eq!(state.usable(), 0);
    let report = state.report();
    assert_eq!((report.over_limit, report.without_server), (3, 1));
    assert_eq!(report.servers, [("10.0.0.0:80".to_owned(), ServerState::Down)]);
}
