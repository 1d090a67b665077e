//! Reads numbers of a JSON text as they are written, for what a float does not keep of them.

/// The numbers of a JSON text that is valid, in order.
pub(super) fn numbers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (&first, behind) = rest.split_first()?;
            match first {
                b'"' => rest = behind_string(behind),
                b'-' | b'0'..=b'9' => {
                    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                    let (number, behind) = rest.split_at_checked(end)?;
                    rest = behind;
                    return Some(number);
                }
                _ => rest = behind,
            }
        }
    })
}

/// What comes behind a string whose opening quote was read.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let is_end = rest.get(at) == Some(&b'"');
        let next = if is_end { at + 1 } else { at + 2 };
        rest = rest.get(next..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}

/// Whether a number is whole: `1`, `1.0`, `1e3`, `1.5e1`, `10e-1`, `0.0`, but not `1.0000000000000000000001`.
pub(super) fn is_whole(number: &[u8]) -> bool {
    let end = memchr::memchr2(b'e', b'E', number).unwrap_or(number.len());
    let (mantissa, exponent) = number.split_at_checked(end).unwrap_or((number, b""));
    let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
    let places = mantissa.len().saturating_sub(point + 1);
    // The place of the last digit that is not 0, counted from the point: to its right it is above 0.
    let last = mantissa.iter().filter(|byte| **byte != b'.').rev().position(|byte| matches!(byte, b'1'..=b'9'));
    let Some(zeros) = last else { return true };
    let last = as_i128(places) - as_i128(zeros);
    let exponent = std::str::from_utf8(exponent.get(1..).unwrap_or_default()).unwrap_or_default();
    let exponent: i128 = match exponent.parse() {
        Ok(exponent) => exponent,
        Err(_) if exponent.is_empty() => 0,
        // Longer than any number of digits that a text can have.
        Err(_) => return !exponent.starts_with('-'),
    };
    last <= exponent
}

fn as_i128(length: usize) -> i128 {
    i128::try_from(length).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_as_they_are_written() {
        for (text, expect) in [
            ("1", true),
            ("-10", true),
            ("1.0", true),
            ("-1.000", true),
            ("1e3", true),
            ("1E+3", true),
            ("1.5e1", true),
            ("1.5e0", false),
            ("1.5", false),
            ("10e-1", true),
            ("-1200E-2", true),
            ("12e-1", false),
            ("0.0", true),
            ("-0e-5", true),
            ("0e-99999999999999999999999999999999999999999999", true),
            ("1.0000000000000000000001", false),
            ("1.0000000000000000000001e22", true),
            ("1.0000000000000000000001e21", false),
            ("9007199254740993.0", true),
            ("9007199254740993.5", false),
            ("1e-400", false),
            ("1e-99999999999999999999999999999999999999999999", false),
        ] {
            assert_eq!(is_whole(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn numbers_of_a_text() {
        for (text, expect) in [
            ("1", &["1"][..]),
            (r#" { "1": -2.5e+3 , "a\"3": [4,"5\\",6e0], "b": null, "c": "7" } "#, &["-2.5e+3", "4", "6e0"]),
            (r#"["\\\"1", true, 2]"#, &["2"]),
            ("[]", &[]),
        ] {
            let found: Vec<&str> = numbers(text.as_bytes()).map(|it| std::str::from_utf8(it).unwrap()).collect();
            assert_eq!(found, expect, "{text}");
        }
    }
}
