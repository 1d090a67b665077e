//! What a line of a list says, and words that several formats have in common.

use std::fmt;

use gateway_common::source::Source;

use crate::settings::guard::LONGEST_BAN;

/// The longest line, in bytes.
const MAX_LINE: usize = 4_096;

/// The longest reason that is kept, in bytes; the rest is cut off.
const MAX_REASON: usize = 200;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub source: Source,
    /// How long from now on, where the list says so.
    pub seconds: Option<u64>,
    /// Why, where the list says so.
    pub reason: Option<String>,
}

/// Why a line is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Which line, from 1; in a JSON document, which decision.
    pub line: u32,
    /// What is wrong with it.
    pub message: String,
}

/// Why nothing of a list is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Where what is read goes: an entry or an error, with its line.
pub(super) type Each<'a> = dyn FnMut(u32, Result<Listed, String>) + 'a;

/// What a list only tries out must not be enforced.
pub(super) const SIMULATED: &str = "it is only simulated where it comes from: not loaded";

/// What AbuseIPDB recommends to block from on.
const LEAST_SCORE: f64 = 75.0;

/// Why an entry of AbuseIPDB is not loaded.
pub(super) fn low_score(score: f64) -> Option<String> {
    (score < LEAST_SCORE).then(|| format!("its score is {score} of 100: below {LEAST_SCORE} it is not loaded"))
}

/// A line as text, without the space around it.
pub(super) fn text(line: &[u8]) -> Result<&str, String> {
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    std::str::from_utf8(line.trim_ascii()).map_err(|_error| "not UTF-8 text".to_owned())
}

/// Enough of a stranger's text to find it again.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A reason as it is kept: one line, bounded, nothing that a terminal obeys.
pub(super) fn reason(text: &str) -> Option<String> {
    let mut kept = String::new();
    for letter in text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if kept.len() + letter.len_utf8() > MAX_REASON {
            break;
        }
        kept.push(letter);
    }
    (!kept.is_empty()).then_some(kept)
}

/// How long CrowdSec says: `3h59m12.5s`, a Go duration. What is over already is no time at all.
pub(super) fn go_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{:?} is no duration", shortened(text));
    if text.starts_with('-') {
        return Ok(0);
    }
    let (mut rest, mut seconds) = (text.trim(), 0_f64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_error| wrong())? * unit;
        rest = tail;
    }
    // Also what infinity becomes.
    let seconds = seconds.ceil().clamp(0.0, LONGEST_BAN.as_secs_f64());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    Ok(seconds as u64)
}
