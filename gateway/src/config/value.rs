//! What a single value may be: durations, sizes, numbers, words of a list. The command line reads by it, too.

use std::{fmt::Display, marker::PhantomData, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use self::form::Form;
use crate::diagnostic::Diagnostic;

pub mod address;
pub(super) mod form;
pub mod word;

/// Reads `500ms`, `10s`, `5m`, `1h`, `7d`, or several of them from the largest to the smallest: `1h30m`.
///
/// # Errors
/// Anything else.
pub fn duration(text: &str) -> Result<Duration, Diagnostic> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    const HINT: &str = "write a number and a unit: \"500ms\", \"10s\", \"5m\", \"1h\", \"7d\" or \"1h30m\"";
    let wrong = || Diagnostic::bare(format!("{text:?} is not a duration")).hint(HINT);
    let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = tail.len() - tail.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        // The iterator goes on from the last unit: none comes twice, and none after a smaller one.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_no_number| wrong())?;
        let part = number.checked_mul(*millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// The text that [`duration`] reads, whole milliseconds.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a number of bytes: `1048576`, `64KiB`, `1MiB`, `1GiB`.
///
/// # Errors
/// Anything else, units of 1000 included: they look too much like those of 1024.
pub fn size(text: &str) -> Result<u64, Diagnostic> {
    let wrong = || {
        Diagnostic::bare(format!("{text:?} is not a size"))
            .hint("write bytes, or a number and a unit: \"1048576\", \"64KiB\", \"1MiB\", \"1GiB\"")
    };
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text.strip_prefix(digits).unwrap_or_default() {
        "" | "B" => 1_u64,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// The text that [`size`] reads.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// The name among `known` that `text` was probably meant to be.
pub(crate) fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|name| (strsim::jaro_winkler(text, name), name));
    near.filter(|(score, _)| *score >= 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// What a value is, with its article.
pub(super) const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The text of a string.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Diagnostic> {
    let DeValue::String(text) = value else {
        return Err(
            Diagnostic::bare(format!("expected a string, found {}", kind(value))).hint("put it in quotation marks")
        );
    };
    Ok(text)
}

/// A string that holds something, in one line.
pub(super) fn line(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = text(value)?;
    if text.is_empty() {
        return Err(Diagnostic::bare("is empty").hint("write something between the quotation marks"));
    }
    if text.chars().any(char::is_control) {
        return Err(Diagnostic::bare("has control characters").hint("write it in one line of printable characters"));
    }
    Ok(text.to_owned())
}

/// A path as text.
pub(super) fn path(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = line(value)?;
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(text) };
    if scheme == "file" {
        let wrong = Diagnostic::bare(format!("{text:?} is a URL, and a path is read here"));
        return Err(wrong.hint(format!("write the path alone: {rest:?}")));
    }
    let wrong = Diagnostic::bare(format!("{text:?} is a URL, and a file is read here"));
    Err(wrong.hint("name a file; the keys of an issuer are fetched by `jwks_url = \"https://...\"`"))
}

/// `true` or `false`.
pub(super) struct Boolean;

/// `true` or `false`.
pub(super) const fn boolean() -> Boolean {
    Boolean
}

impl Form<bool> for Boolean {
    fn read(&self, value: &DeValue<'_>) -> Result<bool, Diagnostic> {
        let DeValue::Boolean(boolean) = value else {
            let wrong = Diagnostic::bare(format!("expected a boolean, found {}", kind(value)));
            return Err(wrong.hint("write `true` or `false`, without quotation marks"));
        };
        Ok(*boolean)
    }

    fn takes(&self) -> String {
        "boolean".to_owned()
    }

    fn write(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// An integer from one bound to the other.
#[derive(Clone)]
pub(super) struct Integer<T> {
    least: i128,
    most: i128,
    number: PhantomData<T>,
}

/// An integer in `range`.
pub(super) fn integer<T: Into<i128> + Copy>(range: RangeInclusive<T>) -> Integer<T> {
    Integer { least: (*range.start()).into(), most: (*range.end()).into(), number: PhantomData }
}

/// As [`integer`], for a count of things in memory.
pub(super) fn count(range: RangeInclusive<usize>) -> Integer<usize> {
    let wide = |bound| i128::try_from(bound).unwrap_or(i128::MAX);
    Integer { least: wide(*range.start()), most: wide(*range.end()), number: PhantomData }
}

impl<T: TryFrom<i128> + Display> Form<T> for Integer<T> {
    fn read(&self, value: &DeValue<'_>) -> Result<T, Diagnostic> {
        let hint = format!("write a whole number from {} to {}", self.least, self.most);
        let DeValue::Integer(integer) = value else {
            return Err(Diagnostic::bare(format!("expected an integer, found {}", kind(value))).hint(hint));
        };
        let wrong = || Diagnostic::bare(format!("{} is out of range", integer.as_str())).hint(hint.clone());
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_too_large| wrong())?;
        if !(self.least..=self.most).contains(&number) {
            return Err(wrong());
        }
        T::try_from(number).map_err(|_out_of_range| wrong())
    }

    fn takes(&self) -> String {
        format!("integer from {} to {}", self.least, self.most)
    }

    fn write(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }
}

/// Reads a share from 0 to 1, in millionths.
pub(super) fn share(value: &DeValue<'_>) -> Result<u32, Diagnostic> {
    let wrong = |why: String| {
        Diagnostic::bare(format!("is not a share: {why}")).hint("write a number from 0 to 1: 0.01 is one of a hundred")
    };
    let text = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        _ => return Err(wrong(format!("expected a number, found {}", kind(value)))),
    };
    let share: f64 = text.replace('_', "").parse().unwrap_or(f64::NAN);
    if !(0.0..=1.0).contains(&share) {
        return Err(wrong(format!("{text} is out of range")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
    Ok((share * 1e6).round() as u32)
}

/// A duration in this range.
pub(super) struct DurationIn(RangeInclusive<Duration>);

/// A duration in `range`.
pub(super) const fn duration_in(range: RangeInclusive<Duration>) -> DurationIn {
    DurationIn(range)
}

impl Form<Duration> for DurationIn {
    fn read(&self, value: &DeValue<'_>) -> Result<Duration, Diagnostic> {
        let (least, most) = (show_duration(*self.0.start()), show_duration(*self.0.end()));
        let hint = format!("write a duration from \"{least}\" to \"{most}\"");
        let DeValue::String(text) = value else {
            let wrong = Diagnostic::bare(format!("expected a duration, found {}", kind(value)));
            let example = if let DeValue::Integer(number) = value { number.as_str() } else { "10" };
            return Err(wrong.hint(format!("durations are strings with a unit: \"{example}s\"")));
        };
        let read = duration(text)?;
        let wrong = || Diagnostic::bare(format!("{text:?} is out of range")).hint(hint);
        if self.0.contains(&read) { Ok(read) } else { Err(wrong()) }
    }

    fn takes(&self) -> String {
        format!("duration from {} to {}", show_duration(*self.0.start()), show_duration(*self.0.end()))
    }

    fn write(&self, value: &Duration) -> Option<String> {
        Some(format!("\"{}\"", show_duration(*value)))
    }
}

/// A size in this range, in bytes.
#[derive(Clone)]
pub(super) struct SizeIn(RangeInclusive<u64>);

/// A size in `range`, in bytes: a string with a unit, or a whole number.
pub(super) const fn size_in(range: RangeInclusive<u64>) -> SizeIn {
    SizeIn(range)
}

impl Form<u64> for SizeIn {
    fn read(&self, value: &DeValue<'_>) -> Result<u64, Diagnostic> {
        let (least, most) = (show_size(*self.0.start()), show_size(*self.0.end()));
        let read = match value {
            DeValue::String(text) => size(text)?,
            DeValue::Integer(_) => integer(self.0.clone()).read(value)?,
            _ => {
                let wrong = Diagnostic::bare(format!("expected a size, found {}", kind(value)));
                return Err(wrong.hint("write a number and a unit: \"64KiB\", \"1MiB\""));
            }
        };
        if self.0.contains(&read) {
            return Ok(read);
        }
        Err(Diagnostic::bare(format!("{} is out of range", show_size(read)))
            .hint(format!("write a size from \"{least}\" to \"{most}\"")))
    }

    fn takes(&self) -> String {
        format!("size from {} to {}", show_size(*self.0.start()), show_size(*self.0.end()))
    }

    fn write(&self, value: &u64) -> Option<String> {
        Some(format!("\"{}\"", show_size(*value)))
    }
}

/// One of these words.
pub(super) struct Choice<'a, T>(&'a [(&'a str, T)]);

/// One of some words.
pub(super) const fn choice<'a, T: Copy + PartialEq>(words: &'a [(&'a str, T)]) -> Choice<'a, T> {
    Choice(words)
}

impl<T: Copy + PartialEq> Form<T> for Choice<'_, T> {
    fn read(&self, value: &DeValue<'_>) -> Result<T, Diagnostic> {
        let text = text(value)?;
        if let Some((_, meaning)) = self.0.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let known = || self.0.iter().map(|(word, _)| *word);
        let wrong = Diagnostic::bare(format!("{text:?} is unknown"));
        // Of what is as short as a version everything is close.
        Err(match closest(text, known()).filter(|_| text.len() > 3) {
            Some(word) => wrong.hint(format!("did you mean {word:?}?")),
            None => wrong.hint(format!("write one of: {}", known().collect::<Vec<_>>().join(", "))),
        })
    }

    fn takes(&self) -> String {
        self.0.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
    }

    fn write(&self, value: &T) -> Option<String> {
        let (word, _) = self.0.iter().find(|(_, meaning)| meaning == value)?;
        Some(format!("\"{word}\""))
    }
}

/// Whatever its text form says.
pub(super) fn parsed<T: std::str::FromStr<Err: Display>>(hint: &str) -> impl Fn(&DeValue<'_>) -> Result<T, Diagnostic> {
    move |value| {
        let text = text(value)?;
        text.parse().map_err(|error| Diagnostic::bare(format!("{text:?}: {error}")).hint(hint))
    }
}

#[cfg(test)]
mod tests;
