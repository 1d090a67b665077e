//! What differs between what should be in the kernel and what is. Pure.

use std::{collections::HashMap, hash::Hash};

/// What must be done to the kernel so that it has what it should.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drift<K, V> {
    /// Should be there and is not, or is there and says something else.
    pub(crate) enter: Vec<(K, V)>,
    /// Is there and should not be.
    pub(crate) remove: Vec<K>,
}

impl<K, V> Drift<K, V> {
    /// How many entries differ.
    pub(crate) const fn count(&self) -> usize {
        self.enter.len() + self.remove.len()
    }
}

/// Compares entries; `renew` tells what must be entered in the place of a found entry that does not mean what the wanted
/// one, its first argument, means.
pub(crate) fn compare<K: Copy + Eq + Hash, V: Copy>(
    wanted: impl IntoIterator<Item = (K, V)>,
    found: impl IntoIterator<Item = (K, V)>,
    renew: impl Fn(V, V) -> Option<V>,
) -> Drift<K, V> {
    let mut found: HashMap<K, V> = found.into_iter().collect();
    let mut enter = Vec::new();
    for (key, value) in wanted {
        let value = match found.remove(&key) {
            Some(there) => renew(value, there),
            None => Some(value),
        };
        enter.extend(value.map(|value| (key, value)));
    }
    Drift { enter, remove: found.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_differs() {
        let renew = |left: (u8, u8), right: (u8, u8)| (left.0 != right.0).then_some((left.0, right.1));
        let drift = compare([(1, (1, 0)), (2, (2, 0)), (3, (3, 0))], [(2, (2, 9)), (3, (4, 9)), (5, (5, 9))], renew);
        assert_eq!(drift, Drift { enter: vec![(1, (1, 0)), (3, (3, 9))], remove: vec![5] });
        assert_eq!(drift.count(), 3);
    }
}
