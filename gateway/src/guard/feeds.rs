//! Decides what a list of sources means: its format, which of its lines can be read, and what an import changes.
//!
//! Lists come from strangers. Every reader here is bounded in the file's size, a line's length, the number of entries
//! and the number of reasons; a line that cannot be read is told by its number, and the rest is loaded.

use std::fmt;

use gateway_common::source::Source;

pub(crate) mod content;
pub(crate) mod watch;

mod crowdsec_csv;
mod crowdsec_json;
mod ipset;
mod plain;
mod range;
mod spamhaus;

/// The largest list that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// The longest line, in bytes.
const MAX_LINE: usize = 4_096;

/// The most entries of one list: the largest `guard.max_bans`.
pub const MAX_ENTRIES: usize = 16_777_216;

/// The longest reason that is kept, in bytes; the rest is cut off.
const MAX_REASON: usize = 200;

/// What compressed files begin with.
const PACKED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
];

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// An address, prefix or range a line; `#` and `;` start comments.
    Plain,
    /// `ipset save`, and FireHOL's .netset and .ipset.
    Ipset,
    /// Spamhaus DROP and EDROP: text, or a JSON object a line.
    Spamhaus,
    /// `cscli decisions list -o raw`; also what `block export --format csv` writes.
    CrowdsecCsv,
    /// `cscli decisions list -o json`; also what `block export --format json` writes.
    CrowdsecJson,
}

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
type Each<'a> = dyn FnMut(u32, Result<Listed, String>) + 'a;

impl Format {
    /// As it is written in the configuration and on the command line.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("plain", Self::Plain),
        ("ipset", Self::Ipset),
        ("spamhaus", Self::Spamhaus),
        ("crowdsec-csv", Self::CrowdsecCsv),
        ("crowdsec-json", Self::CrowdsecJson),
    ];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, format)| *format == self).map_or("plain", |(name, _)| name)
    }

    /// What the first lines look like. What looks like nothing else is a plain list.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Self {
        let start = bytes.get(..bytes.len().min(64 * 1_024)).unwrap_or_default();
        for line in start.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.starts_with(b"; Spamhaus") {
                return Self::Spamhaus;
            }
            if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
                continue;
            }
            return match line {
                [b'[', ..] => Self::CrowdsecJson,
                [b'{', ..] if line.windows(11).any(|part| part == b"\"decisions\"") => Self::CrowdsecJson,
                [b'{', ..] => Self::Spamhaus,
                _ if line.starts_with(b"create ") || line.starts_with(b"add ") || line.starts_with(b"-exist ") => {
                    Self::Ipset
                }
                _ if crowdsec_csv::is_heading(line) => Self::CrowdsecCsv,
                _ => Self::Plain,
            };
        }
        Self::Plain
    }
}

/// Reads a list, entry by entry; which format it had.
///
/// # Errors
/// It is too large, has too many entries, or is a JSON document that cannot be read.
pub fn read(
    bytes: &[u8],
    format: Option<Format>,
    mut each: impl FnMut(u32, Result<Listed, String>),
) -> Result<Format, Unreadable> {
    if bytes.len() > MAX_BYTES {
        return Err(Unreadable(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    if let Some((_, how)) = PACKED.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(Unreadable(format!("is compressed ({how}): unpack it first")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let format = format.unwrap_or_else(|| Format::detect(bytes));
    let mut entries = 0_usize;
    let mut counted = |line, read: Result<Listed, String>| {
        entries += usize::from(read.is_ok());
        if entries <= MAX_ENTRIES {
            each(line, read);
        }
    };
    match format {
        Format::CrowdsecJson => crowdsec_json::read(bytes, &mut counted)?,
        Format::CrowdsecCsv => crowdsec_csv::read(bytes, &mut counted)?,
        Format::Plain => lines(bytes, &mut counted, plain::line),
        Format::Ipset => lines(bytes, &mut counted, ipset::line),
        Format::Spamhaus => lines(bytes, &mut counted, spamhaus::line),
    }
    if entries > MAX_ENTRIES {
        return Err(Unreadable(format!("has more than {MAX_ENTRIES} entries")));
    }
    Ok(format)
}

/// Reads line by line: `read` is given each line that is not empty.
fn lines(bytes: &[u8], each: &mut Each<'_>, read: impl Fn(&str, &mut dyn FnMut(Listed)) -> Result<(), String>) {
    for (number, line) in (1_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
        match text(line) {
            Ok("") => {}
            Ok(line) => {
                if let Err(message) = read(line, &mut |listed| each(number, Ok(listed))) {
                    each(number, Err(message));
                }
            }
            Err(message) => each(number, Err(message)),
        }
    }
}

/// A line as text, without the space around it.
fn text(line: &[u8]) -> Result<&str, String> {
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    std::str::from_utf8(line.trim_ascii()).map_err(|_error| "not UTF-8 text".to_owned())
}

/// Gives what a word names: an address, a prefix, or the prefixes of a range.
fn sources(word: &str, mut each: impl FnMut(Source)) -> Result<(), String> {
    match word.parse() {
        Ok(source) => each(source),
        Err(error) => match word.split_once('-') {
            Some((first, last)) => range::prefixes(first.trim(), last.trim(), each)?,
            None => return Err(format!("{:?}: {error}", shortened(word))),
        },
    }
    Ok(())
}

/// Enough of a stranger's text to find it again.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A reason as it is kept: one line, bounded, nothing that a terminal obeys.
fn reason(text: &str) -> Option<String> {
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
fn go_duration(text: &str) -> Result<u64, String> {
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
    // Ten years, as the longest ban; also what infinity becomes.
    let seconds = seconds.ceil().clamp(0.0, 315_360_000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    Ok(seconds as u64)
}

#[cfg(test)]
mod tests;
