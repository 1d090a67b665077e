//! What is learned outlives guards.

use super::*;
use crate::{
    message::telemetry::{Series, SeriesValue},
    settings::anomalies::AnomalyActions,
};

/// Two files in memory that keep this.
fn files(watch: &Watch) -> [OwnedFd; 2] {
    let files = ["a", "b"].map(|name| rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let copies = files.each_ref().map(|file| file.try_clone().unwrap());
    AlternatingFiles::open::<SavedWatch>(copies).0.write(&watch.kept()).unwrap();
    files
}

fn settings() -> anomalies::Settings {
    anomalies::Settings {
        sensitivity: 6.0,
        minutes: 2,
        zone: "UTC".to_owned(),
        actions: AnomalyActions::default(),
        capacity: 256,
    }
}

/// Ten requests a minute, whether anybody looks or not: no minute has more.
#[test]
fn a_gap_is_no_minute() {
    let baselines = Rc::new(Baselines::default());
    // How many of these minutes have a number where it is known what is usual.
    let look = |minutes: std::ops::Range<u64>| {
        let mut known = 0;
        for minute in minutes {
            let now = Now { monotonic: (minute + 1) * 60 * SECOND, unix_millis: (1_000_000 + minute) * 60_000 };
            let series = Series::new(Metric::Requests, &["/a", "2xx"]);
            baselines.tick(|| [(series, SeriesValue::Count(minute * 10))].into(), now);
            let mut samples = Samples::default();
            baselines.measure(&mut samples);
            let is_ratio =
                |(series, _): &(Series, SeriesValue)| *series == Series::new(Metric::UsualRatio, &["all", "requests"]);
            if let Some((_, ratio)) = samples.into_inner().into_iter().find(is_ratio) {
                assert_eq!(ratio, SeriesValue::Level(1.0), "at {minute}");
                known += 1;
            }
        }
        known
    };
    baselines.configure(Some(&settings()));
    assert!(look(0..480) > 60);
    // Turned off and on again: the minutes of the first look and of the one after it have no beginning.
    baselines.configure(None);
    assert_eq!(look(480..500), 0);
    baselines.configure(Some(&settings()));
    assert_eq!(look(500..507), 5);
    // The machine was suspended.
    assert_eq!(look(520..526), 5);
}

#[test]
fn other_files_bring_nothing_back() {
    let baselines = Baselines::default();
    baselines.restore(files(&Watch::default()));
    let settings = settings();
    let numbers = vec![((Scope::Whole, measure::Measure::Requests), 5.0)];
    baselines.watch.borrow_mut().minute(numbers, &settings, &TimeZone::UTC, 60_000);
    // Another guard comes while something is being written.
    let writing = baselines.saved_files.borrow_mut().take();
    baselines.restore(files(&Watch::default()));
    assert!(writing.is_some() && baselines.saved_files.borrow().is_some());
    assert_eq!(baselines.watch.borrow().counts().0, 1);
}
