//! How long files may be: ranges of bytes, as alternatives of a schema may leave gaps between them.

/// The lengths that a file may have, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct FileLengths(
    /// The least and the most of each range, in order. Between two of them is a gap.
    Vec<(u64, u64)>,
);

impl Default for FileLengths {
    /// Any.
    fn default() -> Self {
        Self::between(None, None)
    }
}

impl FileLengths {
    /// All from the smallest to the largest; absent: there is none.
    pub(in crate::policy::validate) fn between(smallest: Option<u64>, largest: Option<u64>) -> Self {
        let (least, most) = (smallest.unwrap_or(0), largest.unwrap_or(u64::MAX));
        Self(if least <= most { vec![(least, most)] } else { Vec::new() })
    }

    /// Whether every length will do.
    pub(in crate::policy::validate) fn is_any(&self) -> bool {
        self.0 == [(0, u64::MAX)]
    }

    /// Those that are in both.
    #[must_use]
    pub(in crate::policy::validate) fn both(&self, other: &Self) -> Self {
        let common = self.0.iter().flat_map(|(least, most)| {
            let with = other
                .0
                .iter()
                .map(move |(others_least, others_most)| (*least.max(others_least), *most.min(others_most)));
            with.filter(|(least, most)| least <= most)
        });
        Self(common.collect())
    }

    /// Those that are in one or the other.
    #[must_use]
    pub(in crate::policy::validate) fn either(&self, other: &Self) -> Self {
        let mut all: Vec<(u64, u64)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (least, most) in all {
            match merged.last_mut() {
                Some((_, before)) if least <= before.saturating_add(1) => *before = most.max(*before),
                _ => merged.push((least, most)),
            }
        }
        Self(merged)
    }

    /// Judges a length.
    ///
    /// # Errors
    /// The rule that it breaks, and what it must be.
    pub(in crate::policy::validate) fn judge(&self, length: u64) -> Result<(), (&'static str, &'static str)> {
        let (Some((smallest, _)), Some((_, largest))) = (self.0.first(), self.0.last()) else {
            return Err(("size", "must not be there: its schema allows no size"));
        };
        if length > *largest {
            return Err(("maxSize", "must not be larger than a file may be here"));
        }
        if length < *smallest {
            return Err(("minSize", "must not be smaller than a file may be here"));
        }
        if !self.0.iter().any(|(least, most)| (least..=most).contains(&&length)) {
            return Err(("size", "must have a size that one of the alternatives allows"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_intersected() {
        let of = |ranges: &[(u64, u64)]| FileLengths(ranges.to_vec());
        for (one, other, both, either) in [
            (&[(0, 10)][..], &[(0, 20)][..], &[(0, 10)][..], &[(0, 20)][..]),
            (&[(0, 10)], &[(20, 30)], &[], &[(0, 10), (20, 30)]),
            (&[(0, 10)], &[(11, 30)], &[], &[(0, 30)]),
            (&[(0, 10), (20, 30)], &[(5, 25)], &[(5, 10), (20, 25)], &[(0, 30)]),
            (&[(0, u64::MAX)], &[(7, 7)], &[(7, 7)], &[(0, u64::MAX)]),
            (&[], &[(1, 2)], &[], &[(1, 2)]),
        ] {
            let (one, other) = (of(one), of(other));
            assert_eq!((one.both(&other), other.both(&one)), (of(both), of(both)), "{one:?} {other:?}");
            assert_eq!((one.either(&other), other.either(&one)), (of(either), of(either)), "{one:?} {other:?}");
        }
        assert!(FileLengths::default().is_any() && !FileLengths::between(Some(1), None).is_any());
        assert_eq!(FileLengths::between(Some(2), Some(1)), of(&[]));
    }

    #[test]
    fn what_a_length_breaks() {
        let gap = FileLengths(vec![(5, 10), (20, 30)]);
        for (lengths, length, expect) in [
            (&gap, 4, Some("minSize")),
            (&gap, 5, None),
            (&gap, 15, Some("size")),
            (&gap, 30, None),
            (&gap, 31, Some("maxSize")),
            (&FileLengths(Vec::new()), 0, Some("size")),
            (&FileLengths::default(), u64::MAX, None),
        ] {
            assert_eq!(lengths.judge(length).err().map(|(rule, _)| rule), expect, "{lengths:?} {length}");
        }
    }
}
