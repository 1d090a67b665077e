//! Reads and writes numbers that are nothing but digits.
//!
//! `parse` and `from_str_radix` of the standard library take a `+` before the digits, which formats of the network do not
//! have: what reads them in another way would see something else.

use std::str::FromStr;

/// A number in decimal digits. `None`: there are none, there is something else, or it is too large.
#[must_use]
pub fn decimal<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A number in hexadecimal digits. `None`: as for [`decimal`].
#[must_use]
pub fn hexadecimal<T: TryFrom<u128>>(text: &str) -> Option<T> {
    let is_written_so = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_written_so { T::try_from(u128::from_str_radix(text, 16).ok()?).ok() } else { None }
}

/// Appends `value` in decimal digits. Few digits take less time to push than to lay out and copy.
pub fn append_decimal(value: u64, out: &mut Vec<u8>) {
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or_default();
    match value {
        0..10 => out.push(digit(value)),
        10..100 => out.extend_from_slice(&[digit(value / 10), digit(value)]),
        100..1_000 => out.extend_from_slice(&[digit(value / 100), digit(value / 10), digit(value)]),
        _ => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// The byte behind a percent sign, by its two digits.
#[must_use]
pub fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_digits_is_a_number() {
        for (text, expect) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("255", Some(255)),
            ("256", None),
            ("", None),
            ("+7", None),
            ("-0", None),
            ("7 ", None),
            ("٧", None),
        ] {
            assert_eq!(decimal::<u8>(text), expect, "{text}");
        }
        for (text, expect) in
            [("0", Some(0)), ("fF", Some(255)), ("100", None), ("", None), ("+f", None), ("0x1", None)]
        {
            assert_eq!(hexadecimal::<u8>(text), expect, "{text}");
        }
        for value in [0, 9, 10, 99, 100, 999, 1_000, 1_001, 10_010, 999_999, 1_000_000, 1_000_000_007, u64::MAX] {
            let mut out = b"n=".to_vec();
            append_decimal(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("n={value}"));
        }
        for (pair, expect) in [(b"41", Some(b'A')), (b"fF", Some(255)), (b"+f", None), (b"f ", None), (b"0g", None)] {
            assert_eq!(escaped(pair[0], pair[1]), expect, "{pair:?}");
        }
    }
}
