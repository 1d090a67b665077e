//! In which slot of the kernel's counters a blocked prefix is counted: the lowest that is free. Pure.

use std::collections::BTreeMap;

/// The slots that are free, as ranges: a hundred thousand prefixes that follow each other are one. Slot 0 is nobody's.
#[derive(Clone, Debug)]
pub(super) struct FreeSlots(BTreeMap<u32, u32>);

impl Default for FreeSlots {
    fn default() -> Self {
        Self(BTreeMap::from([(1, u32::MAX)]))
    }
}

impl FreeSlots {
    /// The lowest; 0 if there is none.
    pub(super) fn lowest(&self) -> u32 {
        self.0.first_key_value().map_or(0, |(first, _)| *first)
    }

    pub(super) fn is_free(&self, slot: u32) -> bool {
        self.around(slot).is_some()
    }

    /// It is somebody's now.
    pub(super) fn take(&mut self, slot: u32) {
        let Some((first, last)) = self.around(slot) else { return };
        self.0.remove(&first);
        if first < slot {
            self.0.insert(first, slot - 1);
        }
        if slot < last {
            self.0.insert(slot + 1, last);
        }
    }

    /// It is nobody's any more.
    pub(super) fn give(&mut self, slot: u32) {
        if slot == 0 || self.is_free(slot) {
            return;
        }
        let first = self.around(slot - 1).map_or(slot, |(first, _)| first);
        let last = slot.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(slot);
        self.0.insert(first, last);
    }

    /// The free range that has `slot` in it.
    fn around(&self, slot: u32) -> Option<(u32, u32)> {
        let (first, last) = self.0.range(..=slot).next_back()?;
        (slot <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn the_lowest_that_is_free(changes: Vec<(bool, u8)>) {
            let (mut free, mut taken) = (FreeSlots::default(), BTreeSet::new());
            for (takes, slot) in changes {
                let slot = if slot < 250 { u32::from(slot) } else { u32::MAX - u32::from(slot - 250) };
                if takes {
                    free.take(slot);
                    taken.insert(slot);
                } else {
                    free.give(slot);
                    taken.remove(&slot);
                }
                proptest::prop_assert_eq!(free.lowest(), (1..).find(|slot| !taken.contains(slot)).unwrap());
                proptest::prop_assert_eq!(free.is_free(slot), slot > 0 && !taken.contains(&slot));
                // Each range is as long as it can be, so they are never more than what is taken.
                proptest::prop_assert!(free.0.len() <= taken.len() + 1);
            }
        }
    }

    #[test]
    fn none_is_left() {
        let mut free = FreeSlots(BTreeMap::from([(1, 1)]));
        free.take(1);
        assert_eq!(free.lowest(), 0);
        free.give(1);
        assert_eq!(free.lowest(), 1);
    }
}
