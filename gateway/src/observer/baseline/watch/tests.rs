//! Weeks of generated minutes: what is usual is learned, and what is not is told in a sentence.

use super::*;
use crate::{message::observer::anomalies::ContributorShown, settings::anomalies::AnomalyActions};

/// A Monday, 2026-01-05T00:00:00Z, in minutes since 1970.
const MONDAY: u64 = 29_459_520;

const DAY: u64 = 1_440;

const WEEK: u64 = 7 * DAY;

fn settings() -> anomalies::Settings {
    anomalies::Settings {
        sensitivity: 6.0,
        minutes: 2,
        zone: "UTC".to_owned(),
        actions: AnomalyActions::default(),
        capacity: 256,
    }
}

/// Numbers that look like chance, and are always the same.
struct Noise(u64);

impl Noise {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let number = (self.0 >> 40) as f64;
        number / 16_777_216.0
    }

    /// About `mean`, by chance as many requests are.
    fn count(&mut self, mean: f64) -> f64 {
        let normal: f64 = (0..12).map(|_| self.next()).sum::<f64>() - 6.0;
        (mean + normal * mean.sqrt()).max(0.0).round()
    }
}

struct World {
    watch: Watch,
    zone: TimeZone,
    noise: Noise,
    /// Minutes since 1970.
    now: u64,
    told: Vec<Deviation>,
}

impl World {
    fn new(zone: &str) -> Self {
        let zone = TimeZone::get(zone).unwrap();
        Self { watch: Watch::default(), zone, noise: Noise(7), now: MONDAY, told: Vec::new() }
    }

    fn minute(&mut self, numbers: Vec<(SeriesKey, f64)>) {
        self.now += 1;
        self.told.extend(self.watch.minute(numbers, &settings(), &self.zone, self.now * 60_000));
    }

    /// The hour of the day, as the zone has it.
    fn hour(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let hour = (hour(self.now * 60_000, &self.zone).of_week % 24) as f64;
        hour
    }

    /// Minutes with more requests by day than by night, some of which fail.
    fn usual(&mut self, minutes: u64) {
        for _ in 0..minutes {
            let mean = 200.0 + 150.0 * ((self.hour() - 14.0) / 24.0 * std::f64::consts::TAU).cos();
            let (requests, failures) = (self.noise.count(mean), self.noise.count(1.5));
            self.minute(vec![(requests_of("/login"), requests), (failures_of("/login"), failures)]);
        }
    }

    fn sentences(&mut self) -> Vec<String> {
        self.told.drain(..).map(|deviation| deviation.sentence).collect()
    }
}

fn requests_of(route: &str) -> SeriesKey {
    (Scope::Route(route.to_owned()), Measure::Requests)
}

fn failures_of(route: &str) -> SeriesKey {
    (Scope::Route(route.to_owned()), Measure::Failures)
}

/// What proxies are asked in the minute that has just ended.
fn asked(world: &World) -> Vec<(String, ClientMeasure, u64)> {
    let found = world.watch.deviating(&settings(), world.now * 60_000);
    found.into_iter().map(|one| (one.of, one.measure, one.alone)).collect()
}

#[test]
fn proxies_are_asked_from_whom_it_comes() {
    let mut world = World::new("UTC");
    world.usual(4 * WEEK + 14 * 60 + 10);
    let both = |failures| vec![(requests_of("/login"), 0.0), (failures_of("/login"), failures)];
    world.minute(both(41.0));
    assert_eq!(asked(&world), [], "one minute is none");
    world.minute(both(41.0));
    let found = asked(&world);
    let [(of, ClientMeasure::Failures, alone)] = &found[..] else { panic!("{found:?}") };
    assert!(of == "/login" && (12..=20).contains(alone), "of too few requests nobody is to blame: {alone}");
    let deviating = world.watch.deviating(&settings(), world.now * 60_000).remove(0);
    assert_eq!((deviating.minute, deviating.since), (world.now - 1, world.now - 2));
    assert!(deviating.sentence.starts_with("/login: 41 failures a minute"), "{}", deviating.sentence);
    // It is said with the number of each minute, and not of a minute that is usual.
    world.minute(both(52.0));
    let deviating = world.watch.deviating(&settings(), world.now * 60_000).remove(0);
    assert!(deviating.sentence.starts_with("/login: 52 failures") && deviating.since == world.now - 3);
    let list = ["192.0.2.7", "192.0.2.8"].map(|who| ContributorShown {
        who: who.to_owned(),
        count: 26,
        stands_out: who == "192.0.2.7",
        done: (who == "192.0.2.7").then(|| "banned".to_owned()),
        ..ContributorShown::default()
    });
    let (measure, list) = (ClientMeasure::Failures, list.to_vec());
    let shown = |of: &str| ContributorsShown {
        of: of.to_owned(),
        measure,
        total: 52,
        sources: 2,
        principals: 0,
        list: list.clone(),
    };
    world.watch.attribute(shown("/items"));
    world.watch.attribute(shown("/login"));
    let told: Vec<String> = world.watch.current.values().map(Deviation::whole_sentence).collect();
    let (login, rest) = (told.iter().find(|it| it.contains("failures")).unwrap(), told.len());
    assert!(login.ends_with("; 2 sources: 192.0.2.7 26 of 52 (banned), 192.0.2.8 26 of 52"), "{login}");
    assert_eq!(rest, 2, "less requests than usual are one as well: {told:?}");
    // Whoever was banned asks no more, and stays named; of a minute with none of them nothing is learned.
    let list = vec![ContributorShown { who: "192.0.2.8".to_owned(), count: 20, ..ContributorShown::default() }];
    world.watch.attribute(ContributorsShown { total: 20, sources: 1, list, ..shown("/login") });
    world.watch.attribute(ContributorsShown { total: 0, sources: 0, list: Vec::new(), ..shown("/login") });
    let told = world.watch.current.values().find(|it| it.measure == Measure::Failures).unwrap().whole_sentence();
    assert!(told.ends_with("; 1 source: 192.0.2.7 (banned), 192.0.2.8 20 of 20"), "{told}");
    world.minute(both(1.0));
    assert_eq!(asked(&world), []);
}

#[test]
fn nothing_is_told_before_it_is_learned_nor_of_what_is_usual() {
    let mut world = World::new("UTC");
    // An attack in the first hours: nobody knows that it is one.
    for _ in 0..120 {
        world.minute(vec![(failures_of("/login"), 500.0)]);
    }
    assert_eq!(world.sentences(), [] as [&str; 0]);
    let mut world = World::new("UTC");
    world.usual(6 * WEEK);
    let told = world.sentences();
    assert!(told.len() <= 3, "{} in six weeks: {told:?}", told.len());
    assert_eq!(world.watch.counts(), (2, 0));
}

#[test]
fn an_attack_is_told_in_one_sentence() {
    let mut world = World::new("UTC");
    // Until a Saturday at 14 h.
    world.usual(4 * WEEK + 5 * DAY + 14 * 60 + 10);
    world.told.clear();
    world.minute(vec![(failures_of("/login"), 41.0)]);
    assert_eq!(world.sentences(), [] as [&str; 0], "one minute is none");
    world.minute(vec![(failures_of("/login"), 41.0)]);
    let told = world.sentences();
    let [sentence] = told.as_slice() else { panic!("{told:?}") };
    assert!(sentence.starts_with("/login: 41 failures a minute, usually 0 to "), "{sentence}");
    assert!(sentence.ends_with(" on Saturdays at 14 h"), "{sentence}");
    // It is told once, with its worst minute so far while it goes on, and is over when it is over.
    for (failures, worst) in [(60.0, 60), (5_000.0, 5_000), (70.0, 5_000), (5_000.0, 5_000), (60.0, 5_000)] {
        world.minute(vec![(failures_of("/login"), failures)]);
        let said: Vec<&str> = world.watch.current.values().map(|one| one.sentence.as_str()).collect();
        let [sentence] = said.as_slice() else { panic!("{said:?}") };
        assert!(sentence.starts_with(&format!("/login: {worst} failures a minute, usually 0 to ")), "{sentence}");
    }
    assert_eq!(world.sentences().len(), 0);
    world.usual(5);
    assert_eq!((world.watch.current.len(), world.watch.past.len()), (0, 1));
    assert!(world.watch.past[0].ended.is_some() && world.watch.past[0].sentence.starts_with("/login: 5000 "));
}

#[test]
fn an_outage_and_a_flash_crowd() {
    let mut world = World::new("UTC");
    world.usual(3 * WEEK + 14 * 60 + 10);
    world.told.clear();
    for _ in 0..3 {
        world.minute(vec![(requests_of("/login"), 3_000.0), (failures_of("/login"), 2.0)]);
    }
    let told = world.sentences();
    // Many come, and nothing else is wrong.
    assert!(told.len() == 1 && told[0].starts_with("/login: 3000 requests a minute"), "{told:?}");
    world.usual(10);
    world.told.clear();
    for _ in 0..3 {
        world.minute(vec![(requests_of("/login"), 0.0), (failures_of("/login"), 0.0)]);
    }
    let told = world.sentences();
    assert!(told.len() == 1 && told[0].starts_with("/login: 0 requests a minute"), "{told:?}");
}

#[test]
fn a_minute_without_a_number_ends_nothing_and_begins_nothing() {
    let mut world = World::new("UTC");
    world.usual(3 * WEEK + 14 * 60 + 10);
    world.told.clear();
    let attack = || vec![(failures_of("/login"), 80.0)];
    // They are not in a row.
    for _ in 0..5 {
        world.minute(attack());
        world.minute(Vec::new());
    }
    assert_eq!((world.told.len(), world.watch.current.len()), (0, 0));
    world.minute(attack());
    world.minute(attack());
    assert_eq!(world.told.len(), 1);
    // A share of few requests has a number now and then.
    for _ in 0..20 {
        world.minute(Vec::new());
        world.minute(Vec::new());
        world.minute(attack());
    }
    assert_eq!((world.told.len(), world.watch.current.len()), (1, 1));
    // After a restart the first minute has no numbers.
    let kept = serde_json::to_vec(&world.watch.kept()).unwrap();
    world.watch = Watch::default();
    world.watch.restore(serde_json::from_slice(&kept).unwrap());
    world.minute(Vec::new());
    assert_eq!(world.watch.current.len(), 1);
    // Nobody asks for it any more.
    for _ in 0..MISSING {
        world.minute(Vec::new());
    }
    assert_eq!((world.watch.current.len(), world.watch.past.len()), (0, 1));
}

#[test]
fn n01_patience_makes_no_attack_usual() {
    let mut world = World::new("UTC");
    world.usual(4 * WEEK);
    world.told.clear();
    // Four hours a day for three days, twenty times as many failures as usual.
    for _ in 0..3 {
        world.usual(12 * 60);
        for _ in 0..240 {
            world.minute(vec![(failures_of("/login"), 30.0)]);
        }
        world.usual(8 * 60);
    }
    assert!(!world.told.is_empty());
    world.told.clear();
    // A week later it is told as if it were new.
    world.usual(4 * DAY + 12 * 60 + 5);
    world.told.clear();
    for _ in 0..3 {
        world.minute(vec![(failures_of("/login"), 30.0)]);
    }
    assert_eq!(world.told.len(), 1);
    // Whoever goes up a twentieth every day is told of before it is ten times as much.
    let mut world = World::new("UTC");
    world.usual(4 * WEEK);
    world.told.clear();
    let mut failures = 2.0;
    while world.told.is_empty() && failures < 20.0 {
        failures *= 1.05;
        for _ in 0..DAY {
            world.minute(vec![(failures_of("/login"), failures)]);
        }
    }
    assert!(!world.told.is_empty(), "{failures}");
}

#[test]
fn the_hours_of_the_clock_are_what_counts() {
    // Business by local time: the change to summer time is no anomaly (2026-03-29 in Berlin).
    let mut world = World::new("Europe/Berlin");
    let business = |world: &mut World, minutes: u64| {
        for _ in 0..minutes {
            let is_open = (8.0..18.0).contains(&world.hour());
            let requests = world.noise.count(if is_open { 400.0 } else { 20.0 });
            world.minute(vec![(requests_of("/shop"), requests)]);
        }
    };
    business(&mut world, 11 * WEEK);
    world.told.clear();
    business(&mut world, 2 * WEEK);
    let told = world.sentences();
    assert_eq!(told, [] as [&str; 0]);
    // By the clock of another zone it is one.
    world.zone = TimeZone::get("America/New_York").unwrap();
    business(&mut world, 0);
    for _ in 0..DAY {
        let requests = world.noise.count(400.0);
        world.minute(vec![(requests_of("/shop"), requests)]);
    }
    assert!(!world.told.is_empty());
}

/// How long each hour of the clock goes on, in minutes, from a moment on.
#[track_caller]
fn hours(zone: &str, from: &str, expect: &[usize]) {
    let from: Timestamp = from.parse().unwrap();
    let mut world = World::new(zone);
    world.now = u64::try_from(from.as_second()).unwrap() / 60;
    let mut lengths: Vec<(Hour, usize)> = Vec::new();
    for _ in 0..expect.iter().sum::<usize>() {
        let now = hour(world.now * 60_000, &world.zone);
        match lengths.last_mut() {
            Some((last, minutes)) if *last == now => *minutes += 1,
            _ => lengths.push((now, 1)),
        }
        world.minute(vec![(requests_of("/"), 5.0)]);
    }
    let told: Vec<usize> = lengths.iter().map(|(_, minutes)| *minutes).collect();
    assert_eq!(told, expect, "{zone}");
    // Each of them but the last, which goes on, and those that are too short, is one observation.
    let (_, over) = expect.split_last().unwrap();
    let observed = over.iter().filter(|minutes| **minutes >= 20).count();
    assert_eq!(usize::from(world.watch.series[&requests_of("/")].model.hours()), observed, "{zone}");
}

#[test]
fn an_hour_of_the_clock_is_one_observation_in_every_zone() {
    for (zone, first) in [("UTC", 60), ("Asia/Kolkata", 30), ("Asia/Kathmandu", 15), ("Australia/Darwin", 30)] {
        hours(zone, "2026-07-06T00:00:00Z", &[first, 60, 60, 60]);
    }
    // Clocks that are set forward and back, by an hour and by half an hour.
    for (zone, from, expect) in [
        ("Europe/Berlin", "2026-03-29T00:00:00Z", [60, 60, 60]),
        ("Europe/Berlin", "2026-10-25T00:00:00Z", [60, 60, 60]),
        ("Australia/Adelaide", "2026-10-03T15:00:00Z", [30, 60, 60]),
        ("Australia/Adelaide", "2026-04-04T15:00:00Z", [30, 60, 60]),
        ("Australia/Lord_Howe", "2026-10-03T14:30:00Z", [60, 30, 60]),
        ("Australia/Lord_Howe", "2026-04-04T14:00:00Z", [90, 60, 60]),
    ] {
        hours(zone, from, &expect);
    }
}

/// A file of an earlier version, whose hour that goes on began with that of UTC.
#[test]
fn what_was_learned_before_is_read() {
    let mut world = World::new("Asia/Kolkata");
    world.usual(2 * DAY);
    let key = requests_of("/login");
    let mut kept = serde_json::to_value(world.watch.kept()).unwrap();
    let before = world.watch.series[&key].model.hours();
    for series in kept["series"].as_array_mut().unwrap() {
        series[1]["model"]["hour"]["stamp"] = serde_json::json!(world.now / 60);
    }
    world.watch = Watch::default();
    world.watch.restore(serde_json::from_value(kept).unwrap());
    world.usual(60);
    let hours = world.watch.series[&key].model.hours();
    assert!((before + 1..=before + 2).contains(&hours), "{before} {hours}");
}

/// An alert on "3 times as much as usual" ends where nothing is known of the last minute.
#[test]
fn ratios_are_of_the_last_minute() {
    let mut world = World::new("UTC");
    world.usual(WEEK);
    let of = |world: &World| {
        let ratios = world.watch.ratios().filter(|(key, _)| **key == failures_of("/login"));
        ratios.map(|(_, ratio)| ratio).next()
    };
    world.minute(vec![(failures_of("/login"), 60.0)]);
    assert!(of(&world).is_some_and(|ratio| ratio > 3.0));
    world.minute(vec![(requests_of("/login"), 60.0)]);
    assert_eq!(of(&world), None, "too few requests, or the route is gone");
    world.minute(vec![(failures_of("/login"), 2.0)]);
    assert!(of(&world).is_some_and(|ratio| ratio < 3.0));
    world.watch.interrupt();
    assert_eq!(of(&world), None);
}

#[test]
fn what_is_learned_outlives_the_observer() {
    let mut world = World::new("UTC");
    world.usual(3 * WEEK + 600);
    world.told.clear();
    for _ in 0..2 {
        world.minute(vec![(failures_of("/login"), 80.0)]);
    }
    assert_eq!(world.told.len(), 1);
    let kept = serde_json::to_vec(&world.watch.kept()).unwrap();
    world.watch = Watch::default();
    world.watch.restore(serde_json::from_slice(&kept).unwrap());
    world.told.clear();
    for _ in 0..2 {
        world.minute(vec![(failures_of("/login"), 80.0)]);
    }
    assert_eq!((world.told.len(), world.watch.current.len()), (0, 1), "it is known already");
    world.usual(10);
    for _ in 0..2 {
        world.minute(vec![(failures_of("/login"), 80.0)]);
    }
    assert_eq!(world.told.len(), 1, "what is usual is known still");
}

#[test]
fn memory_is_bounded() {
    let mut world = World::new("UTC");
    for route in 0..500_u32 {
        world.minute(vec![(requests_of(&format!("/{route}")), 5.0)]);
        world.watch.bound(100);
    }
    assert_eq!(world.watch.counts().0, 100);
    assert!(world.watch.ratios().count() <= 100);
}

/// Five minutes of each hour have three times as much: a job is usual, and an attack is none.
#[test]
fn jobs_that_recur_are_usual() {
    let mut world = World::new("UTC");
    let hours = |world: &mut World, minutes: u64, of: fn(&str) -> SeriesKey, [mean, peak]: [f64; 2]| {
        for _ in 0..minutes {
            let value = world.noise.count(if world.now % 60 < 5 { peak } else { mean });
            world.minute(vec![(of("/jobs"), value)]);
        }
    };
    hours(&mut world, 3 * WEEK + 14 * 60 + 20, requests_of, [200.0, 600.0]);
    assert_eq!(world.sentences(), [] as [&str; 0]);
    for _ in 0..2 {
        world.minute(vec![(requests_of("/jobs"), 2_000.0)]);
    }
    let told = world.sentences();
    assert!(told.len() == 1 && told[0].starts_with("/jobs: 2000 requests a minute, usually 1"), "{told:?}");
    hours(&mut world, 10, requests_of, [200.0, 200.0]);
    world.told.clear();
    for _ in 0..2 {
        world.minute(vec![(requests_of("/jobs"), 0.0)]);
    }
    assert_eq!(world.sentences().len(), 1, "that nobody asks is told as before");
    let mut world = World::new("UTC");
    hours(&mut world, 3 * WEEK, failures_of, [2.0, 40.0]);
    world.told.clear();
    hours(&mut world, DAY, failures_of, [2.0, 40.0]);
    assert!(world.told.len() >= 20, "{}", world.told.len());
}
