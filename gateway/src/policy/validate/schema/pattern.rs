//! Matches patterns by an automaton where that can be: the time is in proportion to the text, and its price grows with the
//! size of the pattern. What looks around or back is matched by an engine that goes back, within limits.

use std::borrow::Cow;

use jsonschema_regex::{RepeatedClass, Search};
use regex::{Regex, RegexBuilder};

mod ecma;

/// The most memory that one compiled pattern may take, in bytes.
const MAX_SIZE: usize = 4 * 1024 * 1024;

/// What it caches while matching, in bytes.
const MAX_CACHE: usize = 1024 * 1024;

/// How often the engine goes back that does, for one text, and the longest text that it looks at, in bytes.
const MOST_BACKTRACKS: usize = 8_000;
pub(super) const LONGEST_TEXT: usize = 512;

/// What one text costs of which that engine is asked, besides its length.
const PRICE: u64 = 1_000;

/// One pattern.
pub(super) enum TextPattern {
    /// It looks around or back.
    Bounded(Box<fancy_regex::Regex>),
    Linear(Linear),
}

/// Nobody knows whether a text matches: it is too long for its pattern, or takes too many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unmatched;

/// A pattern that takes linear time.
pub(super) enum Linear {
    Automaton {
        regex: Regex,
        /// The most steps that a byte of text may take, estimated.
        price: u64,
    },
    /// Nothing but a count of characters.
    Count(RepeatedClass),
    /// Each of them matches, or must not.
    All(Vec<(Self, bool)>),
    /// One of them matches.
    Any(Vec<Self>),
}

impl TextPattern {
    /// Reads a pattern of ECMA-262.
    ///
    /// # Errors
    /// Why it cannot be matched.
    pub(super) fn new(pattern: &str) -> Result<Self, &'static str> {
        let pattern = &*without_octals(pattern);
        Linear::new(pattern).map(Self::Linear).or_else(|why| if why == TOO_LARGE { Err(why) } else { other(pattern) })
    }

    /// Whether a text matches.
    ///
    /// # Errors
    /// Nobody knows.
    pub(super) fn is_match(&self, text: &str) -> Result<bool, Unmatched> {
        match self {
            Self::Bounded(_) if text.len() > LONGEST_TEXT => Err(Unmatched),
            Self::Bounded(regex) => regex.is_match(text).map_err(|_limit| Unmatched),
            Self::Linear(pattern) => Ok(pattern.is_match(text)),
        }
    }

    /// How many steps matching `text` may take.
    pub(super) fn price(&self, text: &str) -> u64 {
        match self {
            Self::Bounded(_) => PRICE + 16 * text.len().min(LONGEST_TEXT) as u64,
            Self::Linear(pattern) => pattern.price(text),
        }
    }
}

/// Reads a pattern that the library does not.
fn other(pattern: &str) -> Result<TextPattern, &'static str> {
    let translated = ecma::translate(pattern)?;
    if !translated.looks_around {
        return automaton(&translated.text).map(TextPattern::Linear);
    }
    let mut builder = fancy_regex::RegexBuilder::new(&translated.text);
    let builder = builder.backtrack_limit(MOST_BACKTRACKS);
    let builder = builder.delegate_size_limit(MAX_SIZE).delegate_dfa_size_limit(MAX_CACHE);
    let built = builder.build().map_err(|_error| "it looks around or back in a way that the gateway cannot follow")?;
    Ok(TextPattern::Bounded(Box::new(built)))
}

const TOO_LARGE: &str = "it is too large once compiled";

fn automaton(translated: &str) -> Result<Linear, &'static str> {
    let mut size = 4 * 1024;
    loop {
        match RegexBuilder::new(translated).size_limit(size).dfa_size_limit(MAX_CACHE).build() {
            Ok(regex) => return Ok(Linear::Automaton { regex, price: 1 + size as u64 / 4096 }),
            Err(regex::Error::CompiledTooBig(_)) if size < MAX_SIZE => size *= 4,
            Err(regex::Error::CompiledTooBig(_)) => return Err(TOO_LARGE),
            Err(_) => return Err("it is no regular expression"),
        }
    }
}

impl Linear {
    fn new(pattern: &str) -> Result<Self, &'static str> {
        if pattern.contains("(?=") || pattern.contains("(?!") {
            let alternatives = alternatives(pattern);
            if alternatives.len() > 1 {
                let alternatives = alternatives.into_iter().map(Self::new);
                return Ok(Self::Any(alternatives.collect::<Result<_, &'static str>>()?));
            }
        }
        let Some(parts) = lookaheads(pattern) else { return Self::simple(pattern) };
        let parts = parts.iter().map(|(part, wanted)| Ok((Self::simple(part)?, *wanted)));
        Ok(Self::All(parts.collect::<Result<_, &'static str>>()?))
    }

    /// Reads a pattern that does not look ahead.
    fn simple(pattern: &str) -> Result<Self, &'static str> {
        let translated = jsonschema_regex::to_rust_regex(pattern).map_err(|()| "it is no regular expression")?;
        let translated = match jsonschema_regex::search_form(pattern, &translated) {
            Some(Search::RepeatedClass(class)) => return Ok(Self::Count(class)),
            Some(Search::Collapsed(shorter)) => shorter.into(),
            None => translated,
        };
        automaton(&translated)
    }

    fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Automaton { regex, .. } => regex.is_match(text),
            Self::Count(class) => class.is_match(text),
            Self::All(parts) => parts.iter().all(|(part, wanted)| part.is_match(text) == *wanted),
            Self::Any(parts) => parts.iter().any(|part| part.is_match(text)),
        }
    }

    fn price(&self, text: &str) -> u64 {
        let price = match self {
            Self::Automaton { price, .. } => *price,
            Self::Count(_) => 1,
            Self::All(parts) => return parts.iter().map(|(part, _)| part.price(text)).fold(0, u64::saturating_add),
            Self::Any(parts) => return parts.iter().map(|part| part.price(text)).fold(0, u64::saturating_add),
        };
        1 + (text.len() as u64).saturating_mul(price)
    }
}

/// The parts of `^(?=A)(?!B)C`, which look at the same place and take nothing: `^(?:A)`, not `^(?:B)`, `^(?:C)`. `None`:
/// it has no such lookaheads, or is more than that.
fn lookaheads(pattern: &str) -> Option<Vec<(String, bool)>> {
    let mut rest = pattern.strip_prefix('^')?;
    let mut parts = Vec::new();
    loop {
        let (after, wanted) = match (rest.strip_prefix("(?="), rest.strip_prefix("(?!")) {
            (Some(after), _) => (after, true),
            (_, Some(after)) => (after, false),
            _ => break,
        };
        let end = outside(after, |character, depth| character == ')' && depth == 0)?;
        let (inner, behind) = after.split_at_checked(end)?;
        rest = behind.strip_prefix(')')?;
        if rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
        parts.push((format!("^(?:{inner})"), wanted));
    }
    if parts.is_empty() || outside(rest, |character, depth| character == '|' && depth == 0).is_some() {
        return None;
    }
    parts.push((format!("^(?:{rest})"), true));
    Some(parts)
}

/// The alternatives of a pattern, outside of its groups.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut rest, mut parts) = (pattern, Vec::new());
    while let Some((part, behind)) = outside(rest, |character, depth| character == '|' && depth == 0)
        .and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
    {
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    parts
}

/// The same pattern with `\\037` as `\\x1f`: numbers in octal, which old engines take.
fn without_octals(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains("\\0") {
        return Cow::Borrowed(pattern);
    }
    let mut written = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('\\') {
        written.push_str(before);
        let digits = behind.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        let (number, after) = behind.split_at_checked(digits).unwrap_or(("", behind));
        match u8::from_str_radix(number, 8) {
            Ok(number) if behind.starts_with('0') => {
                written.push_str(&format!("\\x{number:02x}"));
                rest = after;
            }
            _ => {
                written.push('\\');
                let escaped = behind.chars().next();
                written.extend(escaped);
                rest = behind.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
            }
        }
    }
    written.push_str(rest);
    Cow::Owned(written)
}

/// Where the first character outside of escapes and classes is that `is_it` says, given how many groups are open.
fn outside(pattern: &str, is_it: impl Fn(char, usize) -> bool) -> Option<usize> {
    let (mut depth, mut in_class) = (0_usize, false);
    let mut characters = pattern.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            ']' if in_class => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            _ if is_it(character, depth) => return Some(at),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, is_linear: bool, yes: &[&str], no: &[&str]) {
        let compiled = TextPattern::new(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        assert_eq!(matches!(compiled, TextPattern::Linear(_)), is_linear, "{pattern}");
        yes.iter().for_each(|text| assert_eq!(compiled.is_match(text), Ok(true), "{pattern} on {text:?}"));
        no.iter().for_each(|text| assert_eq!(compiled.is_match(text), Ok(false), "{pattern} on {text:?}"));
    }

    #[test]
    fn patterns_that_look_around_or_back_are_matched() {
        let domain = r"^(\*\.)?(((?!-)[A-Za-z0-9-]{0,62}[A-Za-z0-9])\.)+((?!-)[A-Za-z0-9-]{1,62}[A-Za-z0-9])$";
        check(domain, false, &["*.shop.example", "a.bc"], &["-a.bc", "a", "a.bc\n", "\u{661}.bc"]);
        check(r"^a(?=\d)", false, &["a1"], &["ab", "a\u{661}"]);
        check(r"(?<!\w)b$", false, &["b", "-b"], &["ab", "b\n"]);
        check(r"^(['\x22])[^'\x22]*\1$", false, &["'a'", "\"b\""], &["'a\""]);
        check(r"^(?<q>[ab])c\k<q>$", false, &["aca"], &["acb"]);
        check(r"^(?!.*\.\.)x.y$", true, &["x-y"], &["x\ny", "x..y"]);
        check(r"a.(?!c)", false, &["abd"], &["abc", "a\n", "a\u{2028}"]);
        check(r"^[\s\]](?!\u0041)", false, &["\u{feff}b", "]"], &[" A", "x"]);
        check(r"^\ud83d\ude00(?!\/)", false, &["\u{1f600}"], &["\u{1f600}/"]);
    }

    #[test]
    fn hyphens_beside_classes_are_hyphens() {
        check(r"^[\w-.+]+@[\w-.+]+$", true, &["a-.+@b"], &["a b@c", "a@b\n"]);
        check(r"^[a-\d]{1,2}x{y$", true, &["a-x{y", "1x{y"], &["bx{y"]);
        check(r"^arn:.{16,2044}$", true, &["arn:0123456789abcdef"], &["arn:0"]);
    }

    #[test]
    fn what_other_languages_write_is_read() {
        check(r"^[\p{Alnum}_]+\p{Punct}$", true, &["a_1!"], &["\u{e9}!", "a"]);
        check(r"^(\p{LD}|\p{Punct})[\p{all}]$", true, &["\u{e9}\n", "-\u{1f600}"], &["\u{2192}a", "a"]);
        check(r"\A\S[\p{Print}]*\z", true, &["a b"], &[" a", "a\u{e9}", "a\n"]);
        let halves = r"^[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDBFF-\uDC00\uDFFF\t\r\n]*$";
        check(halves, true, &["a\tb\u{fffd}"], &["\u{1f600}", "\u{1}"]);
        check(r"^[\ud83d\ude00-\ud83d\ude02](?!b)", false, &["\u{1f601}"], &["\u{1f603}", "\u{1f601}b"]);
        check(r"^[^\ud800-\udfff]$", true, &["a", "\u{1f600}"], &[""]);
    }

    #[test]
    fn what_takes_too_long_is_not_known() {
        let compiled = TextPattern::new(r"^(a|a)*\1d").unwrap();
        assert_eq!(compiled.is_match(&"a".repeat(LONGEST_TEXT + 1)), Err(Unmatched));
        assert_eq!(compiled.is_match(&format!("{}c", "a".repeat(60))), Err(Unmatched));
        for pattern in ["(", r"\", "[", "(?<=", "(?#a)", r"\u{110000}", r"(?=\ud800)a", "(?=a", "*"] {
            assert!(TextPattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
