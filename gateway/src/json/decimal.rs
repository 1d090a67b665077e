//! What numbers are worth, exactly: schemas compare and divide decimals, and a float keeps only 15 digits of one.
//!
//! *Invariant:* the work is in proportion to the digits as they are written, whatever the exponent.

use std::{cmp::Ordering, io::Write as _};

use serde_json::Number;

use super::number_text::NumberText;

/// How many digits of a decimal every float keeps: two decimals of so many digits never become the same float.
const KEPT_DIGITS: usize = f64::DIGITS as usize;

/// Below, floats keep fewer digits, and at last none.
const LEAST_KEPT: f64 = 1e-290;

/// Up to here, every whole number is a float.
const MOST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A number as it is written, where a float does not keep all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal<'a> {
    pub(super) is_negative: bool,
    /// From the first to the last that is not 0, as text. Empty: the number is 0.
    pub(super) digits: &'a [u8],
    /// How many of the digits stand before the point. Negative: how many zeros stand between the point and the digits.
    pub(super) point: i64,
}

/// A number of a document.
pub type Valued<'a> = (&'a Number, Option<Decimal<'a>>);

/// What values are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divisor(Short);

/// A number that is whole and has up to 64 bits, or the shortest decimal that is read as a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short {
    is_negative: bool,
    coefficient: u64,
    exponent: i32,
}

impl Decimal<'_> {
    /// Whether nothing is behind the point.
    pub(super) fn is_whole(&self) -> bool {
        usize::try_from(self.point).is_ok_and(|point| point >= self.digits.len())
    }

    /// How many digits it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.digits.len()
    }

    /// Whether it is 0.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.digits.is_empty()
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sign = |it: &Self| if it.is_empty() { 0 } else { 1 - 2 * i8::from(it.is_negative) };
        // Without zeros at their ends, digits are in order as words are.
        let size = || self.point.cmp(&other.point).then_with(|| self.digits.cmp(other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }
}

impl Divisor {
    /// `None`: it is not more than 0.
    #[must_use]
    pub fn new(number: &Number) -> Option<Self> {
        let divisor = Short::of(number);
        (divisor.coefficient != 0 && !divisor.is_negative).then_some(Self(divisor))
    }

    /// Whether a number is a multiple.
    #[must_use]
    pub fn divides(&self, (number, written): Valued<'_>) -> bool {
        let divisor = u128::from(self.0.coefficient);
        let (remainder, exponent) = match written {
            None => {
                let Short { coefficient, exponent, .. } = Short::of(number);
                let places = i64::from(self.0.exponent) - i64::from(exponent);
                if places > 0 {
                    // More than a coefficient can have is not in it.
                    let divisor =
                        u32::try_from(places).ok().and_then(|places| 10_u128.checked_pow(places)?.checked_mul(divisor));
                    return coefficient == 0 || divisor.is_some_and(|divisor| u128::from(coefficient) % divisor == 0);
                }
                (u128::from(coefficient) % divisor, i64::from(exponent))
            }
            Some(decimal) => {
                let exponent = decimal.point.saturating_sub_unsigned(decimal.len() as u64);
                // Its last digit is not 0, so that it is no multiple of 10.
                if exponent < i64::from(self.0.exponent) {
                    return decimal.is_empty();
                }
                (remainder(decimal.digits, divisor), exponent)
            }
        };
        let places = exponent.saturating_sub(i64::from(self.0.exponent)).unsigned_abs();
        (remainder * power_of_ten(places, divisor)).is_multiple_of(divisor)
    }
}

/// What is left of digits that are divided by up to 64 bits.
fn remainder(digits: &[u8], divisor: u128) -> u128 {
    // 64 bits and 18 digits are less than 128 bits.
    digits.chunks(18).fold(0, |remainder, chunk| {
        let shift = chunk.iter().fold(1, |shift, _| shift * 10);
        let value = chunk.iter().fold(0, |value, digit| value * 10 + u128::from(digit - b'0'));
        (remainder * shift + value) % divisor
    })
}

/// What is left of a power of ten that is divided by up to 64 bits.
fn power_of_ten(mut power: u64, divisor: u128) -> u128 {
    let (mut left, mut base) = (1 % divisor, 10 % divisor);
    while power > 0 {
        if power & 1 == 1 {
            left = left * base % divisor;
        }
        base = base * base % divisor;
        power >>= 1;
    }
    left
}

impl Short {
    fn of(number: &Number) -> Self {
        if let Some(coefficient) = number.as_u64() {
            return Self { is_negative: false, coefficient, exponent: 0 };
        }
        if let Some(whole) = number.as_i64() {
            return Self { is_negative: whole < 0, coefficient: whole.unsigned_abs(), exponent: 0 };
        }
        let mut buffer = [0; 32];
        let mut rest = buffer.as_mut_slice();
        // The longest float has 24 characters: 17 digits, two signs, the point, `e` and an exponent of three digits.
        write!(rest, "{:e}", number.as_f64().unwrap_or_default()).unwrap_or_default();
        let length = 32 - rest.len();
        let text = NumberText::of(buffer.get(..length).unwrap_or_default());
        let coefficient = text.digits().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        let places = i64::try_from(text.fraction.len()).unwrap_or_default();
        let exponent = i32::try_from(text.exponent - places).unwrap_or_default();
        Self { is_negative: text.is_negative && coefficient != 0, coefficient, exponent }
    }

    fn decimal<'a>(&self, buffer: &'a mut [u8; 20]) -> Decimal<'a> {
        let mut rest = buffer.as_mut_slice();
        // As many digits as 64 bits have.
        write!(rest, "{}", self.coefficient).unwrap_or_default();
        let length = 20 - rest.len();
        let zeros = usize::from(self.coefficient == 0);
        let digits: &[u8] = buffer.get(zeros..length).unwrap_or_default();
        let point = i64::from(self.exponent) + i64::try_from(digits.len()).unwrap_or_default();
        let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        Decimal { is_negative: self.is_negative, digits: digits.get(..end).unwrap_or_default(), point }
    }
}

/// Compares what two numbers are worth.
#[must_use]
pub fn compare_numbers(left: Valued<'_>, right: Valued<'_>) -> Ordering {
    if left.1.is_none()
        && right.1.is_none()
        && let Some(order) = compare_kept(left.0, right.0)
    {
        return order;
    }
    let (mut one, mut other) = ([0; 20], [0; 20]);
    exact(left, &mut one).compare(&exact(right, &mut other))
}

fn exact<'a>((number, written): Valued<'a>, buffer: &'a mut [u8; 20]) -> Decimal<'a> {
    match written {
        Some(decimal) => decimal,
        None => Short::of(number).decimal(buffer),
    }
}

/// Compares two numbers of which all is kept, where floats do.
fn compare_kept(left: &Number, right: &Number) -> Option<Ordering> {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (Some(left), None) => compare_whole(left, right.as_f64()?),
        (None, Some(right)) => compare_whole(right, left.as_f64()?).map(Ordering::reverse),
        (None, None) => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from))
}

/// Compares a whole number of up to 64 bits with a float, where the float is all of what was written.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is checked to be in range, and cut to a whole number on purpose"
)]
fn compare_whole(whole: i128, other: f64) -> Option<Ordering> {
    let floor = other.floor();
    let is_kept = other.abs() < MOST_WHOLE;
    is_kept.then(|| whole.cmp(&(floor as i128)).then(if other > floor { Ordering::Less } else { Ordering::Equal }))
}

/// Whether a float may be written so short that it has lost digits all the same, as it is next to 0.
pub(super) fn is_tiny(value: f64) -> bool {
    value.abs() < LEAST_KEPT
}

/// Whether a float keeps all of a number that was written so.
pub(super) fn keeps(value: f64, digits: usize) -> bool {
    digits == 0 || digits <= KEPT_DIGITS && !is_tiny(value)
}

/// Whether a text may have a number of more than [`KEPT_DIGITS`] digits. Looks at one byte of 16.
pub(super) fn may_be_long(text: &[u8]) -> bool {
    // With its point or its exponent, such a number has 17 bytes, and one of 16 in a row is looked at.
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    text.iter().enumerate().step_by(16).filter(|(_, byte)| is_part(byte)).any(|(at, _)| {
        let (before, behind) = text.split_at_checked(at).unwrap_or_default();
        let before = before.iter().rev().take(17).take_while(|byte| is_part(byte)).count();
        before + behind.iter().take(17).take_while(|byte| is_part(byte)).count() > KEPT_DIGITS + 1
    })
}
