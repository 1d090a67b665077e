//! How many of the requests that are offered get through, by a clock of the test's own: at any rate, over window edges,
//! with many keys, and while the configuration is put in force anew every second.

use super::*;

/// Offers `offered` requests a second for some seconds, of each key in turn, to a limit of `rate` a second for each key.
#[track_caller]
fn check(offered: u64, keys: u32, rate: u64, burst: u64, reloads: bool) {
    let text = format!("[limit.address]\nrequests = {rate}\nburst = {burst}\ncapacity = 1000000\n");
    let mut world = World::new(&text);
    let (gap, seconds) = (SECOND / offered, if offered < 5_000 { 10 } else { 4 });
    let (mut admitted, mut second) = (0_u64, 0);
    for number in 0..offered * seconds {
        let now = START + number * gap;
        if reloads && (now - START) / SECOND > second {
            second += 1;
            world.reload(&text, now);
        }
        admitted += u64::from(world.addressed(u32::try_from(number % u64::from(keys)).unwrap(), now));
    }
    let each = offered * seconds / u64::from(keys);
    let expect = u64::from(keys) * each.min(rate * seconds + burst);
    // One percent of the rate and the burst, as what comes at the very end is not there yet.
    let most = expect / 100 + u64::from(keys);
    assert!(admitted.abs_diff(expect) <= most, "{offered}/s of {keys} keys: {admitted}, not {expect}");
}

#[test]
fn d05_d07_admits_rate_and_burst() {
    for (offered, keys, rate, burst) in [
        (10, 1, 5, 5),
        (10, 1, 100, 100),
        (1_000, 1, 100, 10),
        (1_000, 10, 50, 100),
        (5_000, 100, 10, 20),
        (5_000, 1, 3_333, 10),
        (50_000, 1, 1_000, 1_000),
        (50_000, 1, 25_000, 100),
        (50_000, 1_000, 10, 10),
        (50_000, 100_000, 1, 3),
    ] {
        check(offered, keys, rate, burst, false);
        check(offered, keys, rate, burst, true);
    }
}

/// Each second the rate is another; the counts go on.
#[test]
fn d07_a_changed_rate_earns_no_burst() {
    let text = |rate: u64| format!("[limit.address]\nrequests = {rate}\nburst = {rate}\n");
    let mut world = World::new(&text(100));
    let mut admitted = 0;
    for number in 0..10_000_u64 {
        let now = START + number * (SECOND / 1_000);
        if number % 1_000 == 0 {
            world.reload(&text(if number / 1_000 % 2 == 0 { 100 } else { 200 }), now);
        }
        admitted += u64::from(world.addressed(1, now));
    }
    // Five seconds of each, the first burst, and one burst more whenever the larger comes: as many units are taken.
    assert!((1_500..=1_500 + 100 + 5 * 100 + 15).contains(&admitted), "{admitted}");
}

/// Two tables of one size, one larger and one smaller: nobody begins anew.
#[test]
fn another_capacity_keeps_the_counts() {
    let text = |capacity: u32| format!("[limit.address]\nrequests = 5\nper = \"1h\"\ncapacity = {capacity}\n");
    let mut world = World::new(&text(1_000));
    (0..100).for_each(|number| assert!((0..5).all(|_| world.addressed(number, START))));
    for capacity in [100_000, 2_000] {
        world.reload(&text(capacity), START);
        let again = (0..100).filter(|number| world.addressed(*number, START)).count();
        assert_eq!(again, 0, "{capacity}");
    }
}
