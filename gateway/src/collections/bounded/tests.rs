//! What a full table keeps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn d06_never_holds_more_than_it_was_made_for() {
    for capacity in [0, 1, 2, 7, 255, 512, 1_000, 100_000] {
        let table = Sharded::<u64, u64>::new(capacity);
        for key in 0..(capacity as u64 + 10) * 3 {
            table.lock(&key).put(key, key, |_, value| *value);
        }
        assert!(table.len() <= capacity.max(1), "{} of {capacity}", table.len());
        assert!(table.len() * 10 >= capacity * 9, "{} of {capacity}", table.len());
    }
}

#[test]
fn d06_worth_outlives_a_crowd() {
    let table = Sharded::<u64, u64>::new(1_000);
    for key in 0..100 {
        table.lock(&key).put(key, u64::MAX, |_, value| *value);
    }
    for key in 1_000..1_000_000 {
        table.lock(&key).put(key, 1, |_, value| *value);
    }
    for key in 0..100 {
        assert_eq!(table.lock(&key).find(&key).copied(), Some(u64::MAX), "{key}");
    }
}

proptest! {
    /// As long as it is not full, it is a map.
    #[test]
    fn is_a_map(steps in prop::collection::vec((0_u8..20, prop::option::of(any::<u32>())), 0..200)) {
        let (table, mut model) = (Sharded::<u8, u32>::new(64), BTreeMap::new());
        for (key, step) in steps {
            match step {
                Some(value) => {
                    table.lock(&key).put(key, value, |_, value| *value);
                    model.insert(key, value);
                }
                None => {
                    table.lock(&key).forget(&key);
                    model.remove(&key);
                }
            }
            for key in 0..20 {
                prop_assert_eq!(table.lock(&key).find(&key).copied(), model.get(&key).copied());
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
