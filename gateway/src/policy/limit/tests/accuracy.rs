//! How many of the requests that are offered get through, by a clock of the test's own: at any rate, over window edges,
//! with many keys, and while the configuration is put in force anew every second.

use super::*;

/// What is offered: so many requests a second for so many seconds, of each key in turn, to a limit of so many requests in so
/// many seconds for each key.
#[derive(Clone, Copy, Debug)]
struct Offer {
    per_second: u64,
    seconds: u64,
    keys: u32,
    requests: u64,
    per: u64,
    burst: u64,
}

impl Offer {
    const fn new(per_second: u64, keys: u32, requests: u64, per: u64, burst: u64, seconds: u64) -> Self {
        Self { per_second, seconds, keys, requests, per, burst }
    }

    fn text(&self) -> String {
        let Self { requests, per, burst, .. } = self;
        format!("[limit.address]\nrequests = {requests}\nper = \"{per}s\"\nburst = {burst}\ncapacity = 1000000\n")
    }

    /// What a bucket of tokens lets through of one key, whose requests are so many nanoseconds apart.
    fn of_each(&self, count: u64, gap: u64) -> u64 {
        let cost = self.per * SECOND / self.requests;
        assert_eq!(self.per * SECOND % self.requests, 0, "no fractions in what is expected: {self:?}");
        let (mut tokens, mut admitted) = (self.burst * cost, 0);
        for number in 0..count {
            tokens = if number == 0 { tokens } else { (tokens + gap).min(self.burst * cost) };
            if tokens >= cost {
                (tokens, admitted) = (tokens - cost, admitted + 1);
            }
        }
        admitted
    }

    /// Whether what is admitted is what a bucket of tokens lets through for each key, within a hundredth.
    #[track_caller]
    fn check(&self, reloads: bool) {
        let (text, keys) = (self.text(), u64::from(self.keys));
        let mut world = World::new(&text);
        let (gap, all) = (SECOND / self.per_second, self.per_second * self.seconds);
        let (mut admitted, mut second) = (0_u64, 0);
        for number in 0..all {
            let now = START + number * gap;
            if reloads && (now - START) / SECOND > second {
                second += 1;
                world.reload(&text, now);
            }
            admitted += u64::from(world.addressed(u32::try_from(number % keys).unwrap(), now));
        }
        let expect = keys * self.of_each(all / keys, keys * gap);
        assert!(expect < all, "nothing is refused, so that it shows nothing: {self:?}");
        assert!(admitted.abs_diff(expect) <= expect / 100, "{self:?}: {admitted}, not {expect}");
    }
}

#[test]
fn d05_d07_admits_rate_and_burst() {
    for offer in [
        Offer::new(10, 1, 5, 1, 5, 10),
        Offer::new(10, 10, 1, 4, 2, 20),
        Offer::new(100, 1, 10, 1, 1, 10),
        Offer::new(1_000, 1, 100, 1, 10, 10),
        Offer::new(1_000, 10, 50, 1, 100, 10),
        Offer::new(1_000, 1_000, 1, 10, 2, 30),
        Offer::new(5_000, 1, 2_500, 1, 10, 4),
        Offer::new(5_000, 100, 10, 1, 20, 4),
        Offer::new(5_000, 10_000, 1, 60, 3, 20),
        Offer::new(50_000, 1, 1_000, 1, 1_000, 4),
        Offer::new(50_000, 1, 25_000, 1, 100, 4),
        Offer::new(50_000, 1_000, 10, 1, 10, 4),
        Offer::new(50_000, 10_000, 1, 1, 1, 4),
        Offer::new(50_000, 100_000, 1, 10, 2, 12),
    ] {
        offer.check(false);
        offer.check(true);
    }
}

/// What nobody is over is let through whole.
#[test]
fn who_keeps_to_the_rate_is_never_refused() {
    for (per_second, keys, rate) in [(10, 1, 10), (1_000, 10, 100), (50_000, 1_000, 50)] {
        let world = World::addresses(rate, "1s", 1, 1_000_000);
        let (gap, all) = (SECOND / per_second, per_second * 4);
        let is_let = |number: u64| world.addressed(u32::try_from(number % keys).unwrap(), START + number * gap);
        assert!((0..all).all(is_let), "{per_second}/s of {keys} keys");
    }
}

/// Whatever the wall clock does: rates are counted by a clock that nobody sets, and a quota lasts as long as it would have.
#[test]
fn d07_the_wall_clock_steps() {
    const HOUR: i64 = 3_600;
    let offer = Offer::new(100, 1, 10, 1, 20, 20);
    let steps: [&[i64]; 5] = [&[0], &[HOUR], &[-HOUR], &[HOUR, 0, -HOUR], &[HOUR, -HOUR]];
    for steps in steps {
        let text = format!("{}[quota.hourly]\nrequests = 150\nper = \"hour\"\n", offer.text());
        let world = World::new(&text);
        // Half past noon of a day.
        let tick = |second: u64, step: i64| {
            let unix = (1_773_144_000 + HOUR / 2 + step) * 1_000 + i64::try_from(second).unwrap() * 1_000;
            let unix_millis = u64::try_from(unix).unwrap();
            world.limits.tick(crate::os::clock::Now { monotonic: START + second * SECOND, unix_millis });
        };
        tick(0, 0);
        let mut admitted = 0;
        for number in 0..2_000_u64 {
            if number > 0 && number % 100 == 0 {
                tick(number / 100, steps[usize::try_from(number / 100).unwrap() % steps.len()]);
            }
            admitted += u64::from(world.addressed(1, START + number * SECOND / 100));
        }
        assert_eq!(admitted, 150, "by the quota: {steps:?}");
        let world = World::new(&offer.text());
        let admitted = (0..2_000_u64).filter(|number| world.addressed(1, START + number * SECOND / 100)).count();
        assert_eq!(admitted as u64, offer.of_each(2_000, SECOND / 100), "by the rate");
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
