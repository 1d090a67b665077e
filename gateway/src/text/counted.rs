//! Counts with their words, for people: `1 entry is`, `2 entries are`.

/// A count with the word for one, or for none and many. A verb may go with the word.
pub(crate) fn counted(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many() {
        for (count, expect) in [(0, "0 entries are"), (1, "1 entry is"), (2, "2 entries are")] {
            assert_eq!(counted(count, "entry is", "entries are"), expect);
        }
        assert_eq!(counted(usize::MAX, "entry", "entries"), format!("{} entries", usize::MAX));
    }
}
