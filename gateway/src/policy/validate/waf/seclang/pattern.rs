//! Regular expressions as PCRE writes them, in engines that cannot run away: an automaton where it can take the pattern,
//! else a backtracking engine that stops at a limit.

use std::fmt::Write as _;

use crate::text::digits::hexadecimal;

/// What one compiled pattern may take, in bytes.
const SIZE: usize = 8 * 1024 * 1024;

/// What the automaton of one pattern may take while it runs.
const CACHE: usize = 512 * 1024;

/// The steps of the backtracking engine for one value, and how much of a value it looks at: a step may read all of it.
const STEPS: usize = 20_000;
const LONGEST: usize = 2 * 1024;

/// The most groups that are captured.
pub(super) const MOST_GROUPS: usize = 10;

/// A compiled pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    Linear(Box<regex::bytes::Regex>),
    Bounded(Box<fancy_regex::Regex>),
}

/// Nobody knows whether a value matches: the backtracking engine stopped at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManySteps;

/// The groups that matched, from the whole match on.
pub(super) type Groups = Vec<Option<Vec<u8>>>;

impl Pattern {
    /// Compiles a pattern of PCRE: `.` matches line ends, `^` and `$` match at lines.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str, ignores_case: bool) -> Result<Self, String> {
        let Translated { text, is_regular } = translate(text)?;
        if is_regular {
            let mut builder = regex::bytes::RegexBuilder::new(&text);
            let builder = builder.unicode(false).dot_matches_new_line(true).multi_line(true);
            let builder = builder.case_insensitive(ignores_case).size_limit(SIZE).dfa_size_limit(CACHE);
            return builder.build().map(|regex| Self::Linear(Box::new(regex))).map_err(|error| error.to_string());
        }
        let mut builder = fancy_regex::RegexBuilder::new(&text);
        let builder = builder.bytes_mode(fancy_regex::BytesMode::Ascii).dot_matches_new_line(true).multi_line(true);
        let builder = builder.case_insensitive(ignores_case).backtrack_limit(STEPS);
        let builder = builder.delegate_size_limit(SIZE).delegate_dfa_size_limit(CACHE);
        builder.build().map(|regex| Self::Bounded(Box::new(regex))).map_err(|error| error.to_string())
    }

    /// Whether it matches somewhere.
    ///
    /// # Errors
    /// The value takes too many steps: it is made to.
    pub(super) fn is_match(&self, value: &[u8]) -> Result<bool, TooManySteps> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(value)),
            Self::Bounded(regex) => regex.is_match(start(value)).map_err(|_limit| TooManySteps),
        }
    }

    /// The groups of the first match.
    ///
    /// # Errors
    /// The value takes too many steps.
    pub(super) fn captures(&self, value: &[u8]) -> Result<Option<Groups>, TooManySteps> {
        match self {
            Self::Linear(regex) => Ok(regex
                .captures(value)
                .map(|found| found.iter().take(MOST_GROUPS).map(|group| Some(group?.as_bytes().to_vec())).collect())),
            Self::Bounded(regex) => {
                let found = regex.captures(start(value)).map_err(|_limit| TooManySteps)?;
                Ok(found.map(|found| {
                    let group = |index| found.get(index).map(|group| group.as_bytes().to_vec());
                    (0..found.len().min(MOST_GROUPS)).map(group).collect()
                }))
            }
        }
    }

    /// What it costs to look at a value of this length, in bytes of a linear pattern.
    pub(super) fn cost(&self, length: usize) -> usize {
        match self {
            Self::Linear(_) => length,
            Self::Bounded(_) => length.min(LONGEST).saturating_mul(length.min(LONGEST) + 64),
        }
    }

    /// Whether it runs in linear time.
    pub(super) const fn is_linear(&self) -> bool {
        matches!(self, Self::Linear(_))
    }
}

/// What the backtracking engine looks at.
fn start(value: &[u8]) -> &[u8] {
    value.get(..value.len().min(LONGEST)).unwrap_or_default()
}

struct Translated {
    text: String,
    /// It needs no backtracking.
    is_regular: bool,
}

/// Writes a pattern of PCRE as the engines here read it.
fn translate(pattern: &str) -> Result<Translated, String> {
    let (mut out, mut is_regular) = (String::with_capacity(pattern.len() + 16), true);
    let bytes = pattern.as_bytes();
    let mut at = 0;
    let mut quantified = false;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let was_quantified = std::mem::replace(&mut quantified, false);
        match byte {
            b'\\' => at += escape(bytes, at, false, &mut out, &mut is_regular)?,
            b'[' => at += class(bytes, at, &mut out, &mut is_regular)?,
            b'(' if next == Some(b'?') => {
                let after = bytes.get(at + 2..).unwrap_or_default();
                let is_look = after.starts_with(b"=") || after.starts_with(b"!") || after.starts_with(b">");
                let is_look = is_look || after.starts_with(b"<=") || after.starts_with(b"<!");
                is_regular &= !is_look;
                out.push('(');
                at += 1;
            }
            b'{' if !is_counted(bytes, at) => {
                out.push_str("\\{");
                at += 1;
            }
            b'{' => {
                let end = memchr::memchr(b'}', bytes.get(at..).unwrap_or_default()).unwrap_or(0);
                out.push_str(pattern.get(at..=at + end).unwrap_or_default());
                at += end + 1;
                quantified = true;
            }
            b'}' => {
                out.push_str("\\}");
                at += 1;
            }
            b'+' if was_quantified => {
                is_regular = false;
                out.push('+');
                at += 1;
            }
            b'*' | b'+' => {
                out.push(char::from(byte));
                at += 1;
                quantified = true;
            }
            b'?' => {
                out.push('?');
                at += 1;
                // After a quantifier it makes that lazy.
                quantified = !was_quantified;
            }
            0x80.. => {
                write!(out, "\\x{byte:02X}").unwrap_or_default();
                at += 1;
            }
            _ => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
    Ok(Translated { text: out, is_regular })
}

/// Whether `{` begins a quantifier: `{2}`, `{2,}`, `{2,3}`.
fn is_counted(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'}', rest) else { return false };
    let inner = rest.get(..end).unwrap_or_default();
    inner.first().is_some_and(u8::is_ascii_digit)
        && inner.iter().all(|byte| byte.is_ascii_digit() || *byte == b',')
        && inner.iter().filter(|byte| **byte == b',').count() <= 1
}

/// An escape at `at`; how long it is.
fn escape(bytes: &[u8], at: usize, in_class: bool, out: &mut String, is_regular: &mut bool) -> Result<usize, String> {
    let Some(&letter) = bytes.get(at + 1) else { return Err("it ends with a backslash".to_owned()) };
    match letter {
        b'x' if bytes.get(at + 2) != Some(&b'{') => {
            let digits =
                bytes.get(at + 2..).unwrap_or_default().iter().take(2).take_while(|byte| byte.is_ascii_hexdigit());
            let digits: Vec<u8> = digits.copied().collect();
            let text = String::from_utf8_lossy(&digits);
            write!(out, "\\x{text:0>2}").unwrap_or_default();
            return Ok(2 + digits.len());
        }
        b'x' => {
            let rest = bytes.get(at + 3..).unwrap_or_default();
            let end = memchr::memchr(b'}', rest).ok_or("\\x{ does not end")?;
            let digits = std::str::from_utf8(rest.get(..end).unwrap_or_default()).unwrap_or_default();
            let value: u8 = hexadecimal(digits.trim()).ok_or_else(|| format!("\\x{{{digits}}} is no byte"))?;
            write!(out, "\\x{value:02X}").unwrap_or_default();
            return Ok(4 + end);
        }
        b'0' => {
            let digits = bytes.get(at + 2..).unwrap_or_default().iter().take(2);
            let digits: Vec<u8> = digits.take_while(|byte| matches!(byte, b'0'..=b'7')).copied().collect();
            let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            write!(out, "\\x{value:02X}").unwrap_or_default();
            return Ok(2 + digits.len());
        }
        b'1'..=b'9' if !in_class => {
            *is_regular = false;
            out.extend(['\\', char::from(letter)]);
        }
        b'v' => out.push_str(if in_class { "\\n\\x0B\\f\\r\\x85" } else { "[\\n\\x0B\\f\\r\\x85]" }),
        b'h' => out.push_str(if in_class { "\\t \\xA0" } else { "[\\t \\xA0]" }),
        b'e' => out.push_str("\\x1B"),
        b'Z' => out.push_str("\\z"),
        b'b' if in_class => out.push_str("\\x08"),
        b'<' | b'>' => out.push(char::from(letter)),
        b'd' | b'D' | b's' | b'S' | b'w' | b'W' | b'b' | b'B' | b'A' | b'z' | b'n' | b'r' | b't' | b'f' | b'a' => {
            out.extend(['\\', char::from(letter)]);
        }
        0x80.. => write!(out, "\\x{letter:02X}").unwrap_or_default(),
        _ if letter.is_ascii_alphabetic() => return Err(format!("nothing reads \\{}", char::from(letter))),
        b' ' => out.push_str("\\x20"),
        _ if letter.is_ascii_punctuation() => out.extend(['\\', char::from(letter)]),
        _ => write!(out, "\\x{letter:02X}").unwrap_or_default(),
    }
    Ok(2)
}

/// A class at `at`; how long it is. What other engines read as an operator of sets is escaped.
fn class(bytes: &[u8], at: usize, out: &mut String, is_regular: &mut bool) -> Result<usize, String> {
    let begin = at;
    let mut at = at + 1;
    out.push('[');
    if bytes.get(at) == Some(&b'^') {
        out.push('^');
        at += 1;
    }
    let mut is_first = true;
    loop {
        let Some(&byte) = bytes.get(at) else { return Err("a class does not end".to_owned()) };
        match byte {
            b']' if !is_first => {
                out.push(']');
                return Ok(at + 1 - begin);
            }
            b'\\' => at += escape(bytes, at, true, out, is_regular)?,
            b'[' if bytes.get(at + 1) == Some(&b':') => {
                let rest = bytes.get(at..).unwrap_or_default();
                let end = memchr::memmem::find(rest, b":]").ok_or("a class does not end")?;
                out.push_str(&String::from_utf8_lossy(rest.get(..end + 2).unwrap_or_default()));
                at += end + 2;
            }
            b'[' | b']' | b'&' | b'~' | b'|' => {
                out.extend(['\\', char::from(byte)]);
                at += 1;
            }
            // A range, or a hyphen between two that are none.
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                out.push_str("\\-");
                at += 1;
            }
            0x80.. => {
                write!(out, "\\x{byte:02X}").unwrap_or_default();
                at += 1;
            }
            _ => {
                out.push(char::from(byte));
                at += 1;
            }
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, is_linear: bool, yes: &[&str], no: &[&str]) {
        let compiled = Pattern::new(pattern, false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(compiled.is_linear(), is_linear, "{pattern}");
        yes.iter()
            .for_each(|value| assert_eq!(compiled.is_match(value.as_bytes()), Ok(true), "{pattern} on {value:?}"));
        no.iter()
            .for_each(|value| assert_eq!(compiled.is_match(value.as_bytes()), Ok(false), "{pattern} on {value:?}"));
    }

    #[test]
    fn patterns_of_pcre_are_read() {
        check("^[^[]{2}a{b", true, &["xya{b"], &["[xa{b"]);
        check(r"(?i)[\w\-\.]+\/\<x", true, &["a.B-c/<X"], &["/<x"]);
        check(r"[\s\v]a\x5c\x2", true, &["\u{b}a\\\u{2}"], &["a"]);
        check(r"\x{c3}[\x{a8}-\x{a9}]", true, &["é"], &["ê"]);
        check(r"a(?!b)", false, &["ac"], &["ab"]);
        check(r"(a|b)\1", false, &["aa"], &["ab"]);
        check(r"a++b", false, &["aab"], &["aa"]);
        check("[a-z&&--]+x", true, &["&&-x"], &[".x"]);
        check("[[:alpha:]]é", true, &["aé"], &["1é"]);
        check("^a$", true, &["b\na\nc"], &["ab"]);
        check("a.b", true, &["a\nb"], &["ab"]);
        assert!(Pattern::new("(", false).is_err() && Pattern::new("\\y", false).is_err());
        assert!(Pattern::new(r"\x{+1}", false).is_err());
    }

    #[test]
    fn no_pattern_runs_away() {
        for pattern in ["(a+)+$", "(a|a)*b", "(?=(a+)+$)b", r"(a*)*\1b"] {
            let compiled = Pattern::new(pattern, false).unwrap();
            compiled.is_match("a".repeat(50_000).as_bytes()).unwrap_or_default();
        }
        let compiled = Pattern::new(r"^(a|a)*\1c", false).unwrap();
        assert_eq!(compiled.is_match("a".repeat(2_000).as_bytes()), Err(TooManySteps));
        assert_eq!(compiled.captures("a".repeat(2_000).as_bytes()), Err(TooManySteps));
    }
}
