//! What a receiver does not want is tried again: somebody may put its key right.

use super::*;

/// One that groups and repeats by itself, as PagerDuty and Opsgenie.
fn pager() -> Receiver {
    let (group_wait, group_interval, repeat) = (Duration::ZERO, Duration::from_secs(5), Duration::ZERO);
    Receiver { group_wait, group_interval, repeat, ..receiver() }
}

fn refused() -> NotificationOutcome {
    NotificationOutcome::refused("400".to_owned())
}

/// These of the alerts are refused, by their place; `taken`: so many were answered, and then there was a failure.
fn only(refused: &[usize], taken: Option<usize>) -> NotificationOutcome {
    let (why, refused) = ("400".to_owned(), refused.to_vec());
    match taken {
        Some(taken) => NotificationOutcome::Failed { why, wait: 0, taken, refused },
        None => NotificationOutcome::Refused { why, alerts: RefusedAlerts::Only(refused) },
    }
}

/// What is sent at each second, and what is answered.
#[track_caller]
fn check(world: &mut World, seconds: &[(u64, &str, NotificationOutcome)]) {
    for (second, expect, outcome) in seconds {
        assert_eq!(world.next(*second), *expect, "at {second}");
        world.outbox.done(outcome, world.receiver.resolved, at(*second));
    }
}

const SENT: NotificationOutcome = NotificationOutcome::Sent;

#[test]
fn it_is_tried_again_by_every_receiver() {
    let minute = Receiver { repeat: Duration::from_secs(60), ..pager() };
    for (receiver, pause) in [(pager(), 300), (Receiver { repeat: receiver().repeat, ..pager() }, 300), (minute, 60)] {
        let mut world = World::new(receiver);
        world.begins("down", "a", 0);
        check(&mut world, &[(0, "+down-a", refused()), (pause - 1, "", SENT), (pause, "+down-a", refused())]);
        // It outlives the observer.
        world.outbox = serde_json::from_str(&serde_json::to_string(&world.outbox).unwrap()).unwrap();
        check(&mut world, &[(2 * pause - 1, "", SENT), (2 * pause, "+down-a", SENT), (2 * pause + 1, "", SENT)]);
    }
}

#[test]
fn other_settings_have_it_tried_at_once() {
    let mut world = World::new(pager());
    world.begins("down", "a", 0);
    check(&mut world, &[(0, "+down-a", refused()), (10, "", SENT)]);
    world.outbox.forget_refusals();
    check(&mut world, &[(10, "+down-a", SENT), (400, "", SENT)]);
}

#[test]
fn only_what_was_refused_is_tried_again_and_by_itself() {
    let mut world = World::new(pager());
    for server in ["a", "b", "c"] {
        world.begins("down", server, 0);
    }
    check(&mut world, &[(0, "+down-a +down-b +down-c", only(&[1], None)), (299, "", SENT)]);
    // What is new goes out meanwhile, without it.
    world.begins("down", "d", 299);
    check(&mut world, &[(299, "+down-a +down-c +down-d", SENT), (300, "", SENT), (304, "+down-b", SENT)]);
    // A failure behind it: it is not taken for told, and the rest is tried as soon as ever.
    let mut world = World::new(pager());
    for server in ["a", "b", "c"] {
        world.begins("down", server, 0);
    }
    check(&mut world, &[(0, "+down-a +down-b +down-c", only(&[0], Some(2))), (1, "+down-c", SENT)]);
    check(&mut world, &[(299, "", SENT), (300, "+down-a", SENT), (1_000, "", SENT)]);
    // In one request there may be one that has all of it refused.
    let mut world = World::new(receiver());
    world.begins("down", "a", 0);
    check(&mut world, &[(10, "+down-a", SENT)]);
    world.begins("down", "b", 10);
    check(&mut world, &[(310, "+down-a +down-b", refused())]);
    world.begins("down", "c", 310);
    check(&mut world, &[(320, "+down-c", SENT), (620, "+down-b", refused())]);
    check(&mut world, &[(920, "+down-b", SENT), (921, "", SENT)]);
    // Of many, each has its turn.
    let mut world = World::new(Receiver { max_per_hour: 1_000, ..pager() });
    (0..MAX_TOLD + 1).for_each(|server| world.begins("down", &format!("{server:02}"), 0));
    let mut tries: BTreeMap<String, usize> = BTreeMap::new();
    for second in 0..600 {
        let told = world.next(second);
        told.split(' ').filter(|alert| !alert.is_empty()).for_each(|it| *tries.entry(it.to_owned()).or_default() += 1);
        world.outbox.done(&refused(), true, at(second));
    }
    assert!(tries.len() == MAX_TOLD + 1 && tries.values().all(|tries| *tries == 2), "{tries:?}");
}

#[test]
fn ends_are_tried_again_for_a_day() {
    const DAY: u64 = 86_400;
    let mut world = World::new(pager());
    world.begins("down", "a", 0);
    check(&mut world, &[(0, "+down-a", SENT)]);
    world.ends("down", "a", 100);
    check(&mut world, &[(100, "-down-a", refused()), (399, "", SENT), (400, "-down-a", SENT)]);
    assert_eq!(world.outbox.groups, []);
    // Nobody has heard that it began: its end says so. What nobody takes at all does not stay for ever.
    world.begins("down", "b", 1_000);
    check(&mut world, &[(1_000, "+down-b", refused())]);
    world.ends("down", "b", 1_100);
    check(&mut world, &[(1_100, "-down-b", refused()), (1_099 + DAY, "-down-b", refused())]);
    assert_eq!(world.outbox.groups.len(), 1);
    check(&mut world, &[(1_399 + DAY, "-down-b", refused())]);
    assert_eq!(world.outbox.groups, []);
    // It goes on, and another severity is news at once.
    let worse = TrackedAlert { severity: Severity::Critical, ..alert("down", "c") };
    let start = 3 * DAY;
    world.begins("down", "c", start);
    check(&mut world, &[(start, "+down-c", refused()), (start + DAY, "+down-c", refused())]);
    world.outbox.take(&world.receiver, &AlertChange::Began(worse), at(start + DAY + 1));
    check(&mut world, &[(start + DAY + 1, "+down-c", SENT)]);
}

/// Some recipients of a mail have it: it is not sent again for the others.
#[test]
fn what_some_have_is_told() {
    let mut world = World::new(Receiver { repeat: Duration::ZERO, ..receiver() });
    world.begins("down", "a", 0);
    check(&mut world, &[(10, "+down-a", only(&[], None)), (2_000, "", SENT)]);
    assert_eq!(world.outbox.pace.failures, 1);
}

/// Somebody has put the receiver right: what waits arrives in a few notifications. One that it can never take keeps no other.
#[test]
fn what_was_refused_together_is_soon_told() {
    let with_seven = |receiver: Receiver| {
        let mut world = World::new(receiver);
        for server in ["a", "b", "c", "d", "e", "f", "g"] {
            world.begins("down", server, 0);
        }
        assert_ne!(world.next(0), "");
        world.outbox.done(&refused(), true, at(0));
        world
    };
    let mut world = with_seven(pager());
    check(&mut world, &[(300, "+down-a", SENT), (305, "+down-b +down-c", SENT)]);
    check(&mut world, &[(310, "+down-d +down-e +down-f +down-g", refused()), (311, "+down-d", refused())]);
    check(&mut world, &[(312, "+down-e", SENT), (317, "+down-f +down-g", SENT), (610, "", SENT)]);
    check(&mut world, &[(611, "+down-d", SENT), (2_000, "", SENT)]);

    // Each alert has an answer of its own, or the receiver is told all of them in any case.
    let url = || crate::settings::outbound::SecretUrl { text: "https://events.example/".to_owned(), file: None };
    let key = crate::os::file::NamedFile { path: "/key".into(), bytes: Vec::new().into() };
    let all = "+down-a +down-b +down-c +down-d +down-e +down-f +down-g";
    for (kind, again) in [
        (ReceiverKind::PagerDuty { url: url(), key }, only(&[0, 1, 2, 3, 4, 5, 6], None)),
        (ReceiverKind::Alertmanager { url: url(), token: None }, refused()),
    ] {
        let mut world = with_seven(Receiver { kind, ..pager() });
        check(&mut world, &[(300, all, again), (301, "", SENT), (599, "", SENT), (600, all, SENT)]);
    }
}

/// What is new waits for no retry, whatever is left of the budget.
#[test]
fn pages_do_not_wait_for_retries() {
    let mut world = World::new(Receiver { max_per_hour: 12, ..pager() });
    world.begins("down", "a", 0);
    check(&mut world, &[(0, "+down-a", refused())]);
    for second in 1..=6 {
        let name = format!("full-{second}");
        world.begins(&name, "x", second);
        world.sends(second, &format!("+{name}-x"));
    }
    // Half of the budget is used, and this one fails once.
    world.begins("disk", "x", 301);
    world.fails(301, "+disk-x", 0);
    check(&mut world, &[(302, "+disk-x", SENT), (900, "", SENT), (901, "+down-a", SENT)]);

    // A retry has been due for longer.
    let mut world = World::new(pager());
    world.begins("down", "a", 0);
    world.begins("down", "b", 0);
    check(&mut world, &[(0, "+down-a +down-b", only(&[1], None))]);
    world.begins("full", "x", 301);
    check(&mut world, &[(301, "+full-x", SENT), (302, "+down-b", SENT)]);
}
