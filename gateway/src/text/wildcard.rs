//! Names with `*` in them, as in `rules/*.conf`.

/// Whether a name is as a pattern says: `*` stands for any text.
#[must_use]
pub(crate) fn matches(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (name, pattern, fits) in [
            ("a.conf", "*.conf", true),
            ("a.conf", "a.conf", true),
            ("a.conf.example", "*.conf", false),
            ("abcabc", "a*c*c", true),
            ("ac", "a*c*c", false),
            ("", "*", true),
        ] {
            assert_eq!(matches(name, pattern), fits, "{name} {pattern}");
        }
    }
}
