//! Numbers of schemas, which values are compared with: exactly, however many digits they are written with.

use std::fmt;

use serde_json::Number;

use super::{
    decimal::{Decimal, Valued, compare_numbers},
    number_text::NumberText,
};

/// A number, and how it is written where a float does not keep all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactNumber {
    number: Number,
    written: Option<Box<WrittenDecimal>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct WrittenDecimal {
    is_negative: bool,
    /// From the first to the last that is not 0.
    digits: Vec<u8>,
    point: i64,
    text: Box<str>,
}

impl ExactNumber {
    /// A number that is written so; `None` as `text`: as the number itself is.
    ///
    /// Returns `None` if the text is no decimal number.
    #[must_use]
    pub fn new(number: &Number, text: Option<&str>) -> Option<Self> {
        let written = match text {
            None => None,
            Some(text) => Some(Box::new(WrittenDecimal::read(text)?)),
        };
        Some(Self { number: number.clone(), written })
    }

    /// The number, to be compared.
    #[must_use]
    pub fn valued(&self) -> Valued<'_> {
        (&self.number, self.written.as_deref().map(WrittenDecimal::decimal))
    }
}

impl From<Number> for ExactNumber {
    fn from(number: Number) -> Self {
        Self { number, written: None }
    }
}

impl fmt::Display for ExactNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(written) => out.write_str(&written.text),
            None => self.number.fmt(out),
        }
    }
}

impl WrittenDecimal {
    fn read(text: &str) -> Option<Self> {
        // YAML has hexadecimal digits, too.
        if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            return None;
        }
        let number = NumberText::of(text.as_bytes());
        let (leading, digits, point) = number.significant();
        let digits = number.digits().skip(leading).take(digits).collect();
        Some(Self { is_negative: number.is_negative, digits, point, text: text.into() })
    }

    fn decimal(&self) -> Decimal<'_> {
        Decimal { is_negative: self.is_negative, digits: &self.digits, point: self.point }
    }
}

/// Whether a number is worth what is written.
pub(super) fn is_kept(number: &Number, text: &str) -> bool {
    let written = || WrittenDecimal::read(text);
    // Of a whole number, all is kept.
    !number.is_f64()
        || written().is_some_and(|written| compare_numbers((number, Some(written.decimal())), (number, None)).is_eq())
}
