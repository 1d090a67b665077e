//! Names of permissions: words in segments, as in `items:read`.

/// Between segments.
const SEPARATOR: char = ':';

/// Whether a role that has `given` has the permission `asked`. A `*` in `given` stands for one segment, and as the last
/// for one or more.
#[must_use]
pub fn gives(given: &str, asked: &str) -> bool {
    let (mut given, mut asked) = (given.split(SEPARATOR).peekable(), asked.split(SEPARATOR));
    loop {
        match (given.next(), asked.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) if given.peek().is_none() => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether every `*` of it is a segment of its own.
#[must_use]
pub fn is_well_formed(given: &str) -> bool {
    given.split(SEPARATOR).all(|segment| segment == "*" || !segment.contains('*'))
}

/// Whether it stands for more than one permission.
#[must_use]
pub fn is_pattern(given: &str) -> bool {
    given.split(SEPARATOR).any(|segment| segment == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (given, asked, expect) in [
            ("items:read", "items:read", true),
            ("items:read", "items:reads", false),
            ("items:read", "items", false),
            ("items", "items:read", false),
            ("items:*", "items:read", true),
            ("items:*", "items:a:b", true),
            ("items:*", "items", false),
            ("items:*", "itemsx:read", false),
            ("*:read", "items:read", true),
            ("*:read", "items:write", false),
            ("*:read", "a:items:read", false),
            ("a:*:c", "a:b:c", true),
            ("a:*:c", "a:b:b:c", false),
            ("*", "items:read", true),
            ("*", "x", true),
        ] {
            assert_eq!(gives(given, asked), expect, "{given} {asked}");
        }
        for (given, well_formed, pattern) in
            [("items:read", true, false), ("items:*", true, true), ("items:r*", false, false), ("*x", false, false)]
        {
            assert_eq!((is_well_formed(given), is_pattern(given)), (well_formed, pattern), "{given}");
        }
    }
}
