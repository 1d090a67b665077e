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

/// The most that an exponent counts. No text is long enough for digits to make up for more.
const MOST_EXPONENT: i64 = 1 << 48;

/// The parts of one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberText<'a> {
    pub(super) is_negative: bool,
    /// The digits before the point.
    whole: &'a [u8],
    /// The digits behind it.
    pub(super) fraction: &'a [u8],
    pub(super) exponent: i64,
    /// Whether it has neither a point nor an exponent.
    pub(super) is_integer: bool,
}

impl<'a> NumberText<'a> {
    /// Takes a number of a valid text apart.
    pub(super) fn of(number: &'a [u8]) -> Self {
        let (is_negative, number) = number.strip_prefix(b"-").map_or((false, number), |rest| (true, rest));
        let end = memchr::memchr2(b'e', b'E', number).unwrap_or(number.len());
        let (mantissa, exponent) = number.split_at_checked(end).unwrap_or((number, b""));
        let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
        let (whole, fraction) = mantissa.split_at_checked(point).unwrap_or((mantissa, b""));
        Self {
            is_negative,
            whole,
            fraction: fraction.get(1..).unwrap_or_default(),
            exponent: read_exponent(exponent.get(1..).unwrap_or_default()),
            is_integer: whole.len() == number.len(),
        }
    }

    /// All digits, in order.
    pub(super) fn digits(&self) -> impl DoubleEndedIterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied()
    }

    /// How many zeros come before the first digit that counts, how many digits count, and where the point is among them.
    pub(super) fn significant(&self) -> (usize, usize, i64) {
        let all = self.whole.len() + self.fraction.len();
        let leading = self.digits().take_while(|digit| *digit == b'0').count();
        let trailing = self.digits().rev().take_while(|digit| *digit == b'0').count();
        let point = as_i64(self.whole.len()).saturating_sub(as_i64(leading)).saturating_add(self.exponent);
        (leading, all.saturating_sub(leading + trailing), point)
    }
}

fn read_exponent(text: &[u8]) -> i64 {
    let (sign, digits) = match text.split_first() {
        Some((b'-', digits)) => (-1, digits),
        Some((b'+', digits)) => (1, digits),
        _ => (1, text),
    };
    sign * digits.iter().fold(0, |value: i64, digit| MOST_EXPONENT.min(value * 10 + i64::from(digit - b'0')))
}

fn as_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
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
            let (_, digits, point) = NumberText::of(text.as_bytes()).significant();
            let is_whole = digits == 0 || point >= i64::try_from(digits).unwrap();
            assert_eq!(is_whole, expect, "{text}");
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
