//! What is learned outlives guards.

use super::*;
use crate::settings::anomalies::AnomalyActions;

/// Two files in memory that keep this.
fn files(watch: &Watch) -> [OwnedFd; 2] {
    let files = ["a", "b"].map(|name| rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let copies = files.each_ref().map(|file| file.try_clone().unwrap());
    AlternatingFiles::open::<SavedWatch>(copies).0.write(&watch.kept()).unwrap();
    files
}

#[test]
fn other_files_bring_nothing_back() {
    let baselines = Baselines::default();
    baselines.restore(files(&Watch::default()));
    let settings = anomalies::Settings {
        sensitivity: 6.0,
        minutes: 2,
        zone: "UTC".to_owned(),
        actions: AnomalyActions::default(),
        capacity: 256,
    };
    let numbers = vec![((Scope::Whole, measure::Measure::Requests), 5.0)];
    baselines.watch.borrow_mut().minute(numbers, &settings, &TimeZone::UTC, 60_000);
    // Another guard comes while something is being written.
    let writing = baselines.saved_files.borrow_mut().take();
    baselines.restore(files(&Watch::default()));
    assert!(writing.is_some() && baselines.saved_files.borrow().is_some());
    assert_eq!(baselines.watch.borrow().counts().0, 1);
}
