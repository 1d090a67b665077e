//! Matches patterns by an automaton: the time is in proportion to the text, and its price grows with the size of the
//! pattern.

use std::borrow::Cow;

use jsonschema_regex::{RepeatedClass, Search};
use regex::{Regex, RegexBuilder};

/// The most memory that one compiled pattern may take, in bytes; as much again for what it caches while matching.
const MAX_SIZE: usize = 1024 * 1024;

/// One pattern.
pub(super) enum TextPattern {
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
        let translated = jsonschema_regex::to_rust_regex(pattern).map_err(|()| {
            if jsonschema_regex::is_valid_ecma_regex(pattern) {
                "it looks around or back, which takes more than linear time"
            } else {
                "it is no regular expression"
            }
        })?;
        let translated = match jsonschema_regex::search_form(pattern, &translated) {
            Some(Search::RepeatedClass(class)) => return Ok(Self::Count(class)),
            Some(Search::Collapsed(shorter)) => shorter.into(),
            None => translated,
        };
        let mut size = 4 * 1024;
        loop {
            match RegexBuilder::new(&translated).size_limit(size).dfa_size_limit(MAX_SIZE).build() {
                Ok(regex) => return Ok(Self::Automaton { regex, price: 1 + size as u64 / 4096 }),
                Err(regex::Error::CompiledTooBig(_)) if size < MAX_SIZE => size *= 4,
                Err(regex::Error::CompiledTooBig(_)) => return Err("it is too large once compiled"),
                Err(_) => return Err("it looks around or back, which takes more than linear time"),
            }
        }
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Automaton { regex, .. } => regex.is_match(text),
            Self::Count(class) => class.is_match(text),
            Self::All(parts) => parts.iter().all(|(part, wanted)| part.is_match(text) == *wanted),
            Self::Any(parts) => parts.iter().any(|part| part.is_match(text)),
        }
    }

    /// How many steps matching `text` may take.
    pub(super) fn price(&self, text: &str) -> u64 {
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
