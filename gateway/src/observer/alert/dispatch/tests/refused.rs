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
