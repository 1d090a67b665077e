//! Who is told what, and when.

use std::{collections::BTreeMap, time::Duration};

use super::{super::silence::Silences, *};
use crate::{
    message::observer::alert::NewSilence,
    os::clock::SECOND,
    settings::{
        alert::{Match, ReceiverKind, Severity},
        audit::SyslogServer,
        outbound::Dial,
    },
};

mod refused;

pub(in crate::observer::alert) fn receiver() -> Receiver {
    Receiver {
        name: "ops".to_owned(),
        kind: ReceiverKind::Syslog(SyslogServer::Unix("/dev/log".into())),
        dial: Dial::none(),
        severity: Severity::Warning,
        filter: Vec::new(),
        group_by: vec!["alertname".to_owned()],
        group_wait: Duration::from_secs(10),
        group_interval: Duration::from_secs(300),
        repeat: Duration::from_secs(3_600),
        max_per_hour: 60,
        resolved: true,
        heartbeat: None,
    }
}

fn at(second: u64) -> Now {
    Now { monotonic: second * SECOND, unix_millis: 1_000_000_000_000 + second * 1_000 }
}

fn alert(name: &str, server: &str) -> TrackedAlert {
    let labels = [("alertname", name), ("server", server)];
    TrackedAlert {
        fingerprint: format!("{name}-{server}"),
        severity: Severity::Warning,
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        summary: String::new(),
        runbook: None,
        began: 0,
        ended: None,
    }
}

/// One receiver, second by second.
struct World {
    receiver: Receiver,
    outbox: Outbox,
    silences: Silences,
}

impl World {
    fn new(receiver: Receiver) -> Self {
        Self { receiver, outbox: Outbox::default(), silences: Silences::default() }
    }

    fn begins(&mut self, name: &str, server: &str, second: u64) {
        self.outbox.take(&self.receiver, &AlertChange::Began(alert(name, server)), at(second));
    }

    fn ends(&mut self, name: &str, server: &str, second: u64) {
        let ended = TrackedAlert { ended: Some(at(second).unix_millis), ..alert(name, server) };
        self.outbox.take(&self.receiver, &AlertChange::Ended(ended), at(second));
    }

    /// A reload changes the receiver, which is told again of these, as they go on.
    fn reload(&mut self, receiver: Receiver, firing: &[(&str, &str)], second: u64) {
        self.receiver = receiver;
        for (name, server) in firing {
            self.begins(name, server, second);
        }
    }

    /// What is sent at this second: `+` begins or goes on, `-` has ended.
    fn next(&mut self, second: u64) -> String {
        let Some(it) = self.outbox.next(&self.receiver, &self.silences, at(second)) else { return String::new() };
        let firing = it.firing.iter().map(|alert| format!("+{}", alert.fingerprint));
        let mut told: Vec<String> =
            firing.chain(it.ended.iter().map(|alert| format!("-{}", alert.fingerprint))).collect();
        told.sort();
        told.join(" ")
    }

    #[track_caller]
    fn sends(&mut self, second: u64, expect: &str) {
        assert_eq!(self.next(second), expect, "at {second}");
        self.outbox.done(&NotificationOutcome::Sent, self.receiver.resolved, at(second));
    }

    #[track_caller]
    fn fails(&mut self, second: u64, expect: &str, wait: u64) {
        assert_eq!(self.next(second), expect, "at {second}");
        let outcome = NotificationOutcome::Failed { why: "no".to_owned(), wait, taken: 0, refused: Vec::new() };
        self.outbox.done(&outcome, self.receiver.resolved, at(second));
    }
}

#[test]
fn alerts_come_in_groups() {
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    world.sends(5, "");
    world.begins("down", "b", 5);
    world.begins("disk", "x", 6);
    world.sends(10, "+down-a +down-b");
    world.sends(15, "");
    world.sends(16, "+disk-x");
    // The next one of a group waits, and tells all that goes on.
    world.begins("down", "c", 20);
    world.ends("down", "a", 30);
    world.sends(309, "");
    world.sends(310, "+down-b +down-c -down-a");
    world.sends(311, "");
    world.ends("down", "b", 400);
    world.ends("down", "c", 401);
    world.sends(610, "-down-b -down-c");
    // Only the other group goes on: it is repeated.
    world.sends(3_615, "");
    world.sends(3_616, "+disk-x");
}

#[test]
fn short_ones_are_not_told_and_those_that_could_not_be_are() {
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    world.ends("down", "a", 5);
    world.sends(10, "");
    // The receiver is away meanwhile: it learns what was.
    world.begins("down", "b", 20);
    world.fails(30, "+down-b", 0);
    world.ends("down", "b", 31);
    world.sends(41, "-down-b");
    assert_eq!(world.outbox.groups, []);
    // As it is on its way it ends, and begins again.
    world.begins("down", "c", 100);
    assert_eq!(world.next(110), "+down-c");
    world.ends("down", "c", 111);
    world.outbox.done(&NotificationOutcome::Sent, true, at(112));
    assert_eq!(world.next(500), "-down-c");
    world.begins("down", "c", 501);
    world.outbox.done(&NotificationOutcome::Sent, true, at(502));
    world.sends(900, "+down-c");
}

#[test]
fn failures_make_slow_and_lose_nothing() {
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    let mut tries = Vec::new();
    for second in 0..3_000 {
        if !world.next(second).is_empty() {
            tries.push(second);
            let outcome = NotificationOutcome::failed("no".to_owned());
            world.outbox.done(&outcome, true, at(second));
        }
    }
    assert_eq!(tries[..5], [10, 11, 13, 17, 25]);
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 300), "{tries:?}");
    // 429 with Retry-After: 600.
    world.fails(4_000, "+down-a", 600_000);
    world.sends(4_599, "");
    world.sends(4_600, "+down-a");
    assert_eq!(world.outbox.pace.failures, 0);
}

/// Services that are told of each alert by itself get no alert twice because another one failed.
#[test]
fn what_has_arrived_is_not_sent_again_with_the_rest() {
    let taken = |taken| NotificationOutcome::Failed { why: "429".to_owned(), wait: 0, taken, refused: Vec::new() };
    let mut world = World::new(receiver());
    let check = |world: &mut World, second: u64, expect: &str, outcome: &NotificationOutcome| {
        assert_eq!(world.next(second), expect, "at {second}");
        world.outbox.done(outcome, true, at(second));
    };
    for server in ["a", "b", "c", "d"] {
        world.begins("down", server, 0);
    }
    check(&mut world, 10, "+down-a +down-b +down-c +down-d", &taken(2));
    // One that has arrived ends meanwhile, and so does one that has not: their ends are told.
    world.ends("down", "a", 11);
    world.ends("down", "c", 11);
    check(&mut world, 20, "+down-d -down-a -down-c", &taken(1));
    // What waits outlives the observer.
    world.outbox = serde_json::from_str(&serde_json::to_string(&world.outbox).unwrap()).unwrap();
    check(&mut world, 30, "-down-a -down-c", &taken(1));
    check(&mut world, 40, "-down-c", &NotificationOutcome::Sent);
    // From then on all that goes on is told again, as before.
    world.begins("down", "e", 50);
    check(&mut world, 340, "+down-b +down-d +down-e", &NotificationOutcome::Sent);
    // A repetition that fails half way is no reason to begin anew.
    check(&mut world, 340 + 3_600, "+down-b +down-d +down-e", &taken(2));
    check(&mut world, 340 + 3_610, "+down-e", &NotificationOutcome::Sent);
    world.sends(340 + 3_620, "");
}

#[test]
fn not_more_than_so_many_an_hour() {
    let mut world = World::new(Receiver { max_per_hour: 3, group_wait: Duration::ZERO, ..receiver() });
    let mut sent = 0;
    for second in 0..3_600 {
        world.begins(&format!("alert{second}"), "a", second);
        if !world.next(second).is_empty() {
            sent += 1;
            world.outbox.done(&NotificationOutcome::Sent, true, at(second));
        }
    }
    assert!((3..=6).contains(&sent), "{sent}");
    assert!(world.outbox.groups.len() <= MAX_GROUPS && world.outbox.dropped > 0);
}

#[test]
fn silences_hold_back_and_end() {
    let mut world = World::new(receiver());
    let labels = vec![("alertname".to_owned(), "down".to_owned()), ("server".to_owned(), "a*".to_owned())];
    let new = NewSilence { labels, seconds: 1_000, reason: String::new(), by: "ada".to_owned() };
    let number = world.silences.add(new.clone(), at(0).unix_millis).unwrap();
    world.begins("down", "a1", 0);
    world.begins("down", "b", 0);
    world.sends(10, "+down-b");
    world.sends(400, "");
    // It goes on when the silence is over.
    world.sends(1_000, "+down-a1 +down-b");
    assert!(world.silences.remove(number) && !world.silences.remove(number));
    for _ in 0..200 {
        world.silences.add(new.clone(), at(2_000).unix_millis).unwrap();
    }
    assert!(world.silences.add(new, at(2_000).unix_millis).is_err());
}

#[test]
fn receivers_choose() {
    let with = |change: &dyn Fn(&mut Receiver)| {
        let mut receiver = receiver();
        change(&mut receiver);
        let mut world = World::new(receiver);
        world.begins("down", "a", 0);
        world.next(1_000)
    };
    assert_eq!(with(&|_| {}), "+down-a");
    assert_eq!(with(&|it| it.severity = Severity::Critical), "");
    assert_eq!(with(&|it| it.filter = vec![Match::new("server", "a")]), "+down-a");
    assert_eq!(with(&|it| it.filter = vec![Match::new("server", "!a")]), "");
    assert_eq!(with(&|it| it.filter = vec![Match::new("team", "shop")]), "");
    // Nobody is told of ends who does not want to know.
    let mut world = World::new(Receiver { resolved: false, ..receiver() });
    world.begins("down", "a", 0);
    world.sends(10, "+down-a");
    world.ends("down", "a", 20);
    world.sends(1_000, "");
    assert_eq!(world.outbox.groups, []);
}

#[test]
fn what_waits_outlives_the_observer() {
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    world.fails(10, "+down-a", 0);
    let kept = serde_json::to_string(&world.outbox).unwrap();
    world.outbox = serde_json::from_str(&kept).unwrap();
    assert_eq!(world.outbox.waiting(&world.receiver, &world.silences, at(20)), 1);
    world.sends(20, "+down-a");
}

/// A clock that was ahead, as that of a machine that has just started, keeps nobody silent once it is set right.
#[test]
fn a_clock_that_is_set_back_holds_back_nothing() {
    const DAY: u64 = 86_400;
    const BEGIN: u64 = 5 * DAY;
    for back in [1_800, DAY] {
        let mut world = World::new(receiver());
        world.begins("down", "a", BEGIN);
        world.sends(BEGIN + 5, "");
        // It is set back while the first notification waits, and then the second, and while the alerts go on.
        let mut second = BEGIN + 6 - back;
        world.sends(second, "");
        world.sends(second + 9, "");
        world.sends(second + 10, "+down-a");
        world.begins("down", "b", second + 20);
        second -= back;
        world.sends(second, "");
        world.sends(second + 299, "");
        world.sends(second + 300, "+down-a +down-b");
        second -= back;
        world.sends(second, "");
        world.sends(second + 3_599, "");
        world.sends(second + 3_600, "+down-a +down-b");
    }
    // The receiver was to be left alone for a while.
    let mut world = World::new(receiver());
    world.begins("down", "a", BEGIN);
    world.fails(BEGIN + 10, "+down-a", 600_000);
    world.sends(BEGIN - 1_000, "");
    world.sends(BEGIN - 990, "+down-a");
    // What waits is known by another observer, which has seen no other clock.
    world.begins("down", "b", BEGIN - 980);
    world.outbox = serde_json::from_str(&serde_json::to_string(&world.outbox).unwrap()).unwrap();
    world.sends(BEGIN - DAY, "");
    world.sends(BEGIN - DAY + 300, "+down-a +down-b");
}

#[test]
fn ends_are_told_after_a_reload() {
    let firing = [("down", "a"), ("down", "b")];
    let worse = Receiver { severity: Severity::Critical, ..receiver() };
    let other = Receiver { filter: vec![Match::new("server", "b")], ..receiver() };
    let by_server = Receiver { group_by: vec!["server".to_owned()], ..receiver() };
    let together = Receiver { group_by: Vec::new(), ..receiver() };
    // What is told of at once, a day later, and once both have ended.
    for (changed, at_once, later, at_the_end) in [
        (worse, "-down-a -down-b", "", ""),
        (other, "-down-a", "+down-b", "-down-b"),
        (by_server, "", "+down-a", "-down-a"),
        (together, "", "+down-a +down-b", "-down-a -down-b"),
    ] {
        let mut world = World::new(receiver());
        firing.iter().for_each(|(name, server)| world.begins(name, server, 0));
        world.sends(10, "+down-a +down-b");
        world.reload(changed.clone(), &firing, 400);
        let told = world.next(410);
        // What goes on may come beside what has ended.
        assert_eq!(told.trim_start_matches("+down-b "), at_once, "{changed:?}");
        world.outbox.done(&NotificationOutcome::Sent, true, at(410));
        world.sends(90_000, later);
        firing.iter().for_each(|(name, server)| world.ends(name, server, 100_000));
        world.sends(100_010, at_the_end);
        world.next(100_020);
        world.outbox.done(&NotificationOutcome::Sent, true, at(100_020));
        assert_eq!(world.outbox.groups, [], "{changed:?}");
    }
    // It wants to know of more than before.
    let mut world = World::new(Receiver { severity: Severity::Critical, ..receiver() });
    world.begins("down", "a", 0);
    world.sends(10, "");
    world.reload(receiver(), &[("down", "a")], 20);
    world.sends(30, "+down-a");
    // An end that nobody has looked at since the reload.
    world.receiver.group_by = vec!["server".to_owned()];
    world.receiver.severity = Severity::Critical;
    world.ends("down", "a", 400);
    world.sends(410, "-down-a");
}

#[test]
fn a_reload_while_a_notification_is_on_its_way() {
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    assert_eq!(world.next(10), "+down-a");
    world.reload(Receiver { group_by: vec!["server".to_owned()], ..receiver() }, &[("down", "a")], 11);
    world.outbox.done(&NotificationOutcome::Sent, true, at(12));
    world.sends(300, "");
    world.ends("down", "a", 400);
    world.sends(410, "-down-a");
    assert_eq!(world.outbox.groups, []);
}

#[test]
fn more_groups_than_there_is_room_for_are_not_made() {
    let mut world = World::new(Receiver { group_wait: Duration::ZERO, ..receiver() });
    let servers: Vec<String> = (0..MAX_GROUPS + 10).map(|server| server.to_string()).collect();
    for name in ["down", "slow"] {
        servers.iter().for_each(|server| world.begins(name, server, 0));
    }
    let known = world.outbox.groups.iter().map(|(_, group)| group.entries.len()).sum::<usize>();
    let by_both = vec!["alertname".to_owned(), "server".to_owned()];
    let firing: Vec<(&str, &str)> = servers.iter().map(|server| ("down", &**server)).collect();
    world.reload(Receiver { group_by: by_both, ..receiver() }, &firing, 1);
    let after = world.outbox.groups.iter().map(|(_, group)| group.entries.len()).sum::<usize>();
    assert!(after >= known && world.outbox.groups.len() <= MAX_GROUPS + 1, "{known} {after}");
}

#[test]
fn what_always_fails_holds_back_nothing_else() {
    let mut world = World::new(receiver());
    world.begins("bad", "a", 0);
    world.fails(10, "+bad-a", 0);
    world.begins("down", "b", 10);
    world.begins("down", "c", 10);
    world.sends(20, "+down-b +down-c");
    world.fails(21, "+bad-a", 0);
    world.fails(22, "+bad-a", 0);
    world.ends("down", "b", 400);
    world.sends(420, "+down-c -down-b");
    world.sends(421, "+bad-a");
}

#[test]
fn another_severity_is_news() {
    let worse = TrackedAlert { severity: Severity::Critical, ..alert("down", "a") };
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    world.sends(10, "+down-a");
    world.outbox.take(&world.receiver, &AlertChange::Began(worse.clone()), at(400));
    world.sends(410, "+down-a");
    world.sends(800, "");
    world.ends("down", "a", 900);
    world.sends(910, "-down-a");
    // Alertmanager takes it for another alert: the one before has ended.
    let url = crate::settings::outbound::SecretUrl { text: "https://alerts.example/".to_owned(), file: None };
    let mut world = World::new(Receiver { kind: ReceiverKind::Alertmanager { url, token: None }, ..receiver() });
    world.begins("down", "a", 0);
    world.sends(10, "+down-a");
    world.outbox.take(&world.receiver, &AlertChange::Began(worse), at(400));
    world.sends(410, "+down-a -down-a-warning");
    world.sends(800, "");
    world.ends("down", "a", 900);
    world.sends(910, "-down-a");
    assert_eq!(world.outbox.groups, []);
}
