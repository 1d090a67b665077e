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

/// Compares entries; `same` tells whether a found entry means what the wanted one means, counters aside.
pub(crate) fn compare<K: Copy + Eq + Hash, V: Copy>(
    wanted: impl IntoIterator<Item = (K, V)>,
    found: impl IntoIterator<Item = (K, V)>,
    same: impl Fn(&V, &V) -> bool,
) -> Drift<K, V> {
    let mut found: HashMap<K, V> = found.into_iter().collect();
    let mut enter = Vec::new();
    for (key, value) in wanted {
        if !found.remove(&key).is_some_and(|there| same(&value, &there)) {
            enter.push((key, value));
        }
    }
    Drift { enter, remove: found.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_differs() {
        let same = |left: &(u8, u8), right: &(u8, u8)| left.0 == right.0;
        let drift = compare([(1, (1, 0)), (2, (2, 0)), (3, (3, 0))], [(2, (2, 9)), (3, (4, 9)), (5, (5, 9))], same);
        assert_eq!(drift, Drift { enter: vec![(1, (1, 0)), (3, (3, 0))], remove: vec![5] });
        assert_eq!(drift.count(), 3);
    }
}
