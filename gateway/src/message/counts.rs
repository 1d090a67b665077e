//! Counts that are told as lists, and sums of them.

/// Adds counts to sums of the same kinds. What has no place in the sums is ignored.
pub fn add_counts(sums: &mut [u64], counts: &[u64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}
