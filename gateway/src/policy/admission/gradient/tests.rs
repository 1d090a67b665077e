//! The limit in front of a server that is played: so many requests at once, a service time, and a queue for the rest.

use super::*;

const MILLI: u64 = SECOND / 1_000;

/// A server that is played, and requests that come all the time.
struct Play {
    gradient: Gradient,
    /// When each of its places is free.
    places: Vec<u64>,
    /// Requests in flight: when they began, when they end, and what is noted of them then.
    in_flight: Vec<(u64, u64, Option<Sample>)>,
    now: u64,
    served: u64,
    random: u64,
}

/// What a server is like for a while.
#[derive(Clone, Copy)]
struct Load {
    /// Requests a second that come.
    offered: u64,
    /// Milliseconds that one takes.
    service: u64,
    /// Of a thousand requests, so many are answered at once, and say nothing about the upstream: clients caused them.
    ignored: u64,
    /// Of a thousand, so many take ten times as long.
    slow: u64,
}

const CALM: Load = Load { offered: 0, service: 50, ignored: 0, slow: 0 };

impl Play {
    fn new(places: usize, min: u32, max: u32) -> Self {
        let gradient = Gradient::new(min, max, 0);
        Self { gradient, places: vec![0; places], in_flight: Vec::new(), now: 0, served: 0, random: 7 }
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 40
    }

    /// Plays so many milliseconds.
    fn run(&mut self, load: Load, millis: u64) -> &mut Self {
        let mut owed = 0;
        for _ in 0..millis {
            self.now += MILLI;
            let (done, rest): (Vec<_>, Vec<_>) = self.in_flight.iter().partition(|(_, end, _)| *end <= self.now);
            let at_once = u32::try_from(self.in_flight.len()).unwrap();
            self.in_flight = rest;
            for (began, _, sample) in done {
                self.served += 1;
                if let Some(sample) = sample {
                    self.gradient.note(sample, began, at_once, self.now);
                }
            }
            owed += load.offered;
            while owed >= 1_000 {
                owed -= 1_000;
                if self.in_flight.len() < usize::try_from(self.gradient.limit()).unwrap() {
                    self.begin(load);
                }
            }
        }
        self
    }

    fn begin(&mut self, load: Load) {
        if self.draw() % 1_000 < load.ignored {
            return self.in_flight.push((self.now, self.now + MILLI, None));
        }
        let factor = if self.draw() % 1_000 < load.slow { 10 } else { 1 };
        // Half as long to half longer, as servers are.
        let took = load.service * factor * MILLI * (500 + self.draw() % 1_001) / 1_000;
        let now = self.now;
        let place = self.places.iter_mut().min().unwrap();
        *place = (*place).max(now) + took;
        let end = *place;
        self.in_flight.push((now, end, Some(Sample::Answered(end - now))));
    }

    #[track_caller]
    fn expect(&mut self, what: &str, limit: std::ops::RangeInclusive<u32>) -> &mut Self {
        let found = self.gradient.full_limit();
        assert!(limit.contains(&found), "{what}: {found} is not in {limit:?}, base {} ms", self.gradient.base / MILLI);
        self
    }
}

#[test]
fn it_finds_what_an_upstream_can_do() {
    // Twice as much as a server with so many places can serve, from the first moment on.
    for (places, service) in [(10, 50), (40, 50), (100, 20), (8, 400)] {
        let offered = 2 * 1_000 * u64::try_from(places).unwrap() / service;
        let load = Load { offered, service, ..CALM };
        let mut play = Play::new(places, 2, 1_000);
        play.run(load, 60_000);
        let places = u32::try_from(places).unwrap();
        play.expect("it is near the places that there are", places..=places * 5 / 2);
        let before = play.served;
        play.run(load, 10_000);
        let (served, could) = (play.served - before, offered / 2 * 10);
        assert!(served >= could * 9 / 10, "the upstream is kept busy: {served} of {could}");
    }
}

#[test]
fn it_does_not_starve_at_the_start() {
    // What can be served is served at once, though the limit begins at 20.
    let load = Load { offered: 2_000, service: 50, ..CALM };
    let mut play = Play::new(400, 2, 1_000);
    play.run(load, 1_500);
    assert!(play.gradient.limit() >= 100, "{}", play.gradient.limit());
    let before = play.served;
    play.run(load, 5_000);
    assert!(play.served - before >= 9_500, "{}", play.served - before);
}

#[test]
fn it_recovers_after_a_slow_phase() {
    let (fast, slow) = (Load { offered: 600, service: 50, ..CALM }, Load { offered: 600, service: 1_000, ..CALM });
    let mut play = Play::new(40, 2, 1_000);
    play.run(fast, 30_000).expect("before", 30..=100);
    play.run(slow, 10_000);
    play.run(fast, 10_000).expect("after", 30..=100);
    let before = play.served;
    play.run(fast, 5_000);
    assert!(play.served - before >= 2_850, "{}", play.served - before);
}

#[test]
fn it_follows_an_upstream_that_stays_slower() {
    let (fast, slow) = (Load { offered: 2_000, service: 20, ..CALM }, Load { offered: 2_000, service: 100, ..CALM });
    let mut play = Play::new(40, 2, 1_000);
    play.run(fast, 30_000);
    play.run(slow, 90_000).expect("as many at once as before", 30..=100);
}

#[test]
fn it_is_not_moved_by_what_says_nothing() {
    let load = Load { offered: 1_600, service: 50, ..CALM };
    for (what, load) in [
        ("answers that clients caused", Load { ignored: 500, offered: 3_200, ..load }),
        ("a few slow requests", Load { slow: 50, offered: 900, ..load }),
    ] {
        let mut play = Play::new(40, 2, 1_000);
        play.run(load, 60_000).expect(what, 30..=120);
    }
    // A limit that doubled while nothing held requests back comes down before it is needed.
    let mut play = Play::new(40, 2, 1_000);
    play.run(Load { offered: 790, service: 50, ..CALM }, 60_000).expect("almost too much", 30..=130);
    // Few requests: nothing is learnt, and nothing is lost.
    let mut play = Play::new(40, 2, 1_000);
    play.run(Load { offered: 20, service: 50, ..CALM }, 60_000).expect("few requests", 20..=20);
}

#[test]
fn an_upstream_that_says_it_is_overloaded_is_believed() {
    let mut gradient = Gradient::new(2, 100, 0);
    for number in 0..1_000 {
        let now = (number + 1) * 20 * MILLI;
        gradient.note(Sample::Answered(MILLI), now - MILLI, 20, now);
    }
    let before = gradient.full_limit();
    for number in 1_000..2_000 {
        let now = (number + 1) * 20 * MILLI;
        // One of five is not enough, half of them are.
        let sample = if number % 2 == 0 { Sample::Overloaded } else { Sample::Answered(MILLI) };
        gradient.note(sample, now - MILLI, 20, now);
    }
    assert!(gradient.limit() < before / 2, "{} of {before}", gradient.limit());
    assert!(gradient.limit() >= 2);
}

#[test]
fn bounds_hold_and_change() {
    let mut gradient = Gradient::new(30, 40, 0);
    assert_eq!(gradient.limit(), 30, "the start is not below the least");
    gradient.bound(1, 10);
    assert_eq!(gradient.limit(), 10);
    gradient.bound(0, 0);
    assert_eq!(gradient.limit(), 1, "never none");
    for number in 0..100_u64 {
        gradient.note(Sample::Answered(u64::MAX), 0, u32::MAX, number * SECOND);
        gradient.note(Sample::Answered(0), number * SECOND, 0, number * SECOND + 1);
    }
    assert_eq!(gradient.limit(), 1);
}
