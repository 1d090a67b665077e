//! What a quota lets through by clocks of the test's own, what it remembers, and what processes tell each other of it.

use jiff::{Timestamp, tz::TimeZone};

use super::{spend::MOST_WARNED, *};
use crate::{
    os::clock::SECOND,
    policy::limit::counter::Over,
    settings::limit::quota::{Period, QuotaHeaders, WhenFull},
};

const HOUR: u64 = 3_600 * SECOND;

/// Noon, as most tests begin.
const NOON: &str = "2026-03-10T12:00:00Z";

fn configured(period: Period, when_full: WhenFull) -> Configured {
    Configured {
        period,
        zone_name: "UTC".to_owned(),
        zone: TimeZone::UTC,
        warn_at: vec![50, 80, 100],
        when_full,
        headers: QuotaHeaders::default(),
    }
}

/// A quota, and clocks that tests set.
struct World {
    quota: QuotaCounts,
    rules: QuotaRules,
    monotonic: u64,
    wall: u64,
}

impl World {
    fn new(period: Period, most: u64, capacity: usize, when_full: WhenFull) -> Self {
        let configured = configured(period, when_full);
        let wall = NOON.parse::<Timestamp>().unwrap().as_millisecond();
        let mut world = Self {
            quota: QuotaCounts::new(&configured, capacity, 7),
            rules: QuotaRules::new(&configured, most, None),
            monotonic: 1_000 * HOUR,
            wall: u64::try_from(wall).unwrap(),
        };
        world.pass(0);
        world
    }

    fn day(most: u64) -> Self {
        Self::new(Period::Day, most, 1_000, WhenFull::Share)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.monotonic, unix_millis: self.wall }
    }

    /// Time passes, in nanoseconds.
    fn pass(&mut self, nanos: u64) -> Option<i64> {
        self.monotonic += nanos;
        self.wall += nanos / 1_000_000;
        self.quota.tick(self.now())
    }

    /// Somebody sets the wall clock, by seconds.
    fn step(&mut self, seconds: i64) -> Option<i64> {
        self.wall = self.wall.saturating_add_signed(seconds * 1_000);
        self.quota.tick(self.now())
    }

    fn serve(&self, key: u64) -> bool {
        self.quota.spend(key, 1, &self.rules, self.monotonic, Over::Refused).is_ok()
    }

    fn served(&self, key: u64, count: u64) -> u64 {
        (0..count).filter(|_| self.serve(key)).count().try_into().unwrap()
    }

    /// What another process would know that heard all that this one tells.
    fn tell(&self, other: &Self) {
        let untold = self.quota.untold(50_000, self.monotonic);
        other.quota.take(&untold.span, &untold.rows, other.monotonic);
    }
}

#[test]
fn d05_exact_across_threads() {
    let world = World::day(10_000);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (world, admitted) = (&world, &admitted);
            scope.spawn(move || {
                for number in 0..5_000_u64 {
                    world.serve(1_000 + (thread * 5_000 + number) % 300);
                    admitted.fetch_add(world.served(1, 1), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 10_000);
}

/// Offered at any rate, of few keys and many, over three edges of an hour.
#[test]
fn d05_d07_each_hour_lets_through_what_it_says() {
    for (offered, keys, most) in [
        (10_u64, 1_u64, 400_u64),
        (10, 1, 100),
        (1_000, 10, 4_000),
        (5_000, 100, 300),
        (50_000, 1, 300_000),
        (50_000, 1_000, 300),
        (50_000, 100_000, 1),
    ] {
        // So long on either side of an edge, so that nobody offers for three hours.
        let side = if offered < 5_000 { 30 } else { 4 };
        let mut world = World::new(Period::Hour, most, 200_000, WhenFull::Share);
        let (mut admitted, gap) = (0, SECOND / offered);
        for edge in 0..3 {
            world.pass(HOUR - side * SECOND - if edge > 0 { side * SECOND } else { 0 });
            for number in 0..offered * 2 * side {
                admitted += u64::from(world.serve(((number % keys) << 32) | (number % keys)));
                world.monotonic += gap;
                if (number + 1) % offered == 0 {
                    world.wall += 1_000;
                    world.quota.tick(world.now());
                }
            }
        }
        // The first and the last hour have one side of an edge, those between have two.
        let once = offered * side / keys;
        let expect = keys * 2 * (most.min(once) + most.min(2 * once));
        let most = expect / 100 + 2 * keys;
        assert!(admitted.abs_diff(expect) <= most, "{offered}/s of {keys} keys: {admitted}, not {expect}");
    }
}

/// The edge itself: not one request of the new day before it, and not one of the old day after it, whenever the clocks are
/// looked at.
#[test]
fn d07_window_edge() {
    let mut world = World::day(10);
    world.pass(12 * HOUR - SECOND / 2);
    assert_eq!(world.served(1, 20), 10);
    world.monotonic += SECOND / 2 - 1;
    assert_eq!(world.served(1, 20), 0);
    world.monotonic += 1;
    assert_eq!(world.served(1, 20), 10, "nobody has looked at the clocks yet");
    world.wall += 500;
    world.pass(0);
    assert_eq!(world.served(1, 20), 0, "the same day");
    world.pass(SECOND);
    assert_eq!(world.served(1, 20), 0);
}

/// The wall clock is set by an hour, forth or back, before midnight and after it, and back again or not.
#[test]
fn d07_clock() {
    for (before, first, between, second) in [
        (HOUR * 23 / 2, 3_600, 0, 0),
        (HOUR * 23 / 2, 3_600, HOUR / 6, -3_600),
        (HOUR * 23 / 2, -3_600, HOUR / 6, 3_600),
        (HOUR * 25 / 2, -3_600, 0, 0),
        (HOUR * 25 / 2, -3_600, HOUR / 6, 3_600),
        (HOUR * 25 / 2, 3_600, HOUR / 6, -3_600),
        (HOUR, 3_600, 0, 0),
        (HOUR, -3_600, 0, 0),
    ] {
        let mut world = World::day(10);
        let (mut admitted, mut days) = (0, 0);
        let mut passed = 0;
        while passed < 4 * 24 * HOUR {
            if passed == before {
                assert_eq!(world.step(first), Some(first), "it is told");
            }
            if second != 0 && passed == before + between {
                world.step(second);
            }
            let more = world.served(1, 20);
            assert!(more == 0 || more == 10, "{first} {second}: {more}");
            admitted += more;
            days += u64::from(more > 0);
            passed += HOUR / 6;
            world.pass(HOUR / 6);
        }
        // Noon to noon: five days, whatever the clock says.
        assert_eq!((admitted, days), (50, 5), "{before} {first} {between} {second}");
    }
}

/// Whoever is refused stays so, however many come who were never seen.
#[test]
fn d06_evicted_offender() {
    for when_full in [WhenFull::Share, WhenFull::Refuse] {
        let world = World::new(Period::Day, 10, 1_000, when_full);
        assert_eq!(world.served(u64::MAX, 20), 10);
        let admitted = (0..200_000_u64).filter(|key| world.serve(key.wrapping_mul(0x9e37_79b9_7f4a_7c15))).count();
        assert_eq!(world.served(u64::MAX, 20), 0);
        let (counts, keys) = world.quota.counts();
        assert!(keys <= 1_000 && counts.evicted == 0 && counts.shared > 190_000, "{counts:?} {keys}");
        let own = 1_000 - 1;
        let most = own + if when_full == WhenFull::Share { 10 * 4 } else { 0 };
        assert!((own - 100..=most).contains(&admitted), "{when_full:?} {admitted}");
    }
}

#[test]
fn d06_memory_is_flat_at_capacity() {
    let mut world = World::new(Period::Day, 1, 1_000_000, WhenFull::Share);
    let spread = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let offender = u64::MAX;
    assert_eq!(world.served(offender, 5), 1);
    let held = |world: &World| world.quota.parts.iter().map(|part| lock(part).used.len()).sum::<usize>();
    assert!((0..1_200_000).filter(|key| world.serve(spread(*key))).count() > 990_000);
    let before = held(&world);
    assert!((990_000..=1_000_000).contains(&before), "{before}");
    assert!((1_200_000..1_800_000).filter(|key| world.serve(spread(*key))).count() <= PARTS);
    assert_eq!((held(&world), world.serve(offender)), (before, false));
    // The next day there is room for others in the same memory.
    world.pass(24 * HOUR);
    assert!(world.serve(offender));
    let admitted = (5_000_000..5_800_000_u64).filter(|key| world.serve(spread(*key))).count();
    assert!(admitted > 790_000, "{admitted}");
    assert_eq!((held(&world), world.serve(offender)), (before, false));
    // What is to be told is in the table itself.
    let untold: usize = world.quota.parts.iter().map(|part| lock(part).changed.len()).sum();
    assert!(untold <= before, "{untold}");
}

#[test]
fn a_changed_capacity_forgets_nobody() {
    let world = World::new(Period::Day, 5, 10_000, WhenFull::Share);
    (0..5_000_u64).for_each(|key| assert_eq!(world.served(key << 32, 9), 5));
    for capacity in [1_000, 100_000] {
        world.quota.resize(capacity);
        assert!((0..5_000_u64).all(|key| !world.serve(key << 32)), "{capacity}");
    }
}

#[test]
fn costs_are_charged_afterwards_and_refunds_go_back() {
    let world = World::day(100);
    let left = |units| world.quota.spend(1, units, &world.rules, world.monotonic, Over::Refused).map(|left| left.units);
    let too_few = |units| Err(TooFew { units, reset: 12 * 3_600 });
    assert_eq!(left(0), Ok(100));
    world.quota.charge(1, 99, &world.rules, world.monotonic);
    assert_eq!(left(0), Ok(1));
    assert_eq!(left(2), too_few(1), "a weight that does not fit");
    world.quota.charge(1, 70, &world.rules, world.monotonic);
    assert_eq!(left(0), too_few(0), "more than there was");
    assert_eq!(world.quota.find(1, world.monotonic), Some(169));
    world.quota.refund(1, 70, &world.rules, world.monotonic);
    assert_eq!(left(1), Ok(0));
    assert_eq!(left(1), too_few(0));
    assert_eq!(world.quota.set(1, 10, &world.rules, world.monotonic), Some(10));
    assert_eq!(left(1), Ok(89));
}

/// Each threshold is told once, by whatever it is crossed.
#[test]
fn warnings_come_once() {
    let mut world = World::day(10);
    let warned = |world: &World| {
        world.quota.untold(50_000, world.monotonic).warned.iter().map(|warned| warned.percent).collect::<Vec<_>>()
    };
    assert_eq!((world.served(1, 4), warned(&world)), (4, vec![]));
    assert_eq!((world.served(1, 1), warned(&world)), (1, vec![50]));
    assert_eq!((world.served(1, 2), warned(&world)), (2, vec![]));
    world.quota.charge(1, 5, &world.rules, world.monotonic);
    assert_eq!(warned(&world), [100], "the highest of those that are crossed at once");
    assert_eq!((world.served(1, 9), warned(&world)), (0, vec![]));
    world.pass(24 * HOUR);
    assert_eq!((world.served(1, 5), warned(&world)), (5, vec![50]));
    for key in 0..100_000_u64 {
        world.served(key << 32 | 5, 5);
    }
    assert!(warned(&world).len() <= 4 * MOST_WARNED);
    assert!(world.quota.crossings() > 300);
}

/// Two processes count as one, as soon as each has told the other; and one that starts goes on with what is known.
#[test]
fn processes_share_what_was_used_up() {
    let (one, other) = (World::day(100), World::day(100));
    assert_eq!(one.served(1, 30), 30);
    one.tell(&other);
    assert_eq!(other.served(1, 20), 20);
    assert_eq!(one.served(1, 10), 10);
    one.tell(&other);
    other.tell(&one);
    let used = |world: &World| world.quota.find(1, world.monotonic);
    assert_eq!((used(&one), used(&other)), (Some(60), Some(60)));
    assert!(one.quota.untold(50_000, one.monotonic).rows.is_empty(), "what another one has used is not told again");
    // An operator gives some back.
    one.quota.set(1, 5, &one.rules, one.monotonic);
    one.tell(&other);
    assert_eq!((used(&one), used(&other)), (Some(5), Some(5)));
    // Another day is none of its business.
    let mut late = World::day(100);
    late.pass(24 * HOUR);
    one.served(1, 3);
    one.tell(&late);
    assert_eq!(used(&late), None);
    // One that starts.
    let third = World::day(100);
    third.served(1, 2);
    third.quota.restore(one.quota.span(one.monotonic), &[(1, 8), (2, 100)], third.monotonic);
    assert_eq!((used(&third), third.serve(2)), (Some(10), false));
    let rows = third.quota.untold(50_000, third.monotonic).rows;
    assert_eq!(rows, [UsedRow { key: 1, units: 2, is_whole: false, name: None }]);
}

/// A guard that knows nothing is told everything, once.
#[test]
fn another_guard_is_told_everything() {
    let world = World::day(100);
    (0..200_u64).for_each(|key| assert_eq!(world.served(key << 32, 3), 3));
    assert_eq!(world.quota.untold(50_000, world.monotonic).rows.len(), 200);
    world.served(0, 1);
    world.quota.retell();
    let rows = world.quota.untold(50_000, world.monotonic).rows;
    assert_eq!((rows.len(), rows.iter().map(|row| row.units).sum::<i64>()), (200, 601));
    assert!(rows.iter().all(|row| row.is_whole));
    world.served(0, 1);
    let rows = world.quota.untold(50_000, world.monotonic).rows;
    assert_eq!(rows, [UsedRow { key: 0, units: 1, is_whole: false, name: None }]);
}

/// As much is told at once as a guard can take; nothing is lost.
#[test]
fn d06_what_is_too_much_is_told_later() {
    let world = World::new(Period::Day, 100, 200_000, WhenFull::Share);
    let keys = 120_000_u64;
    (0..keys).for_each(|key| assert!(world.serve(key.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
    let mut told = 0;
    for round in 0..4 {
        let rows = world.quota.untold(50_000, world.monotonic).rows.len();
        assert!(rows <= 50_000 && (rows > 0 || round == 3), "{round} {rows}");
        told += rows;
    }
    assert_eq!(u64::try_from(told).unwrap(), keys);
}
