//! A pattern as it is matched: by an automaton, in time in proportion to the text, with a price that grows with the
//! pattern.

use jsonschema_regex::{RepeatedClass, Search};
use regex::{Regex, RegexBuilder};

/// The most memory that one compiled pattern may take, in bytes; as much again for what it caches while matching.
const MAX_SIZE: usize = 1024 * 1024;

/// One pattern.
pub(super) enum Pattern {
    Automaton {
        regex: Regex,
        /// The most steps that a byte of text may take, estimated.
        price: u64,
    },
    /// Nothing but a count of characters.
    Count(RepeatedClass),
}

impl Pattern {
    /// Reads a pattern of ECMA-262.
    ///
    /// # Errors
    /// Why it cannot be matched.
    pub(super) fn new(pattern: &str) -> Result<Self, &'static str> {
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
        }
    }

    /// How many steps matching `text` may take.
    pub(super) const fn price(&self, text: &str) -> u64 {
        let price = match self {
            Self::Automaton { price, .. } => *price,
            Self::Count(_) => 1,
        };
        1 + (text.len() as u64).saturating_mul(price)
    }
}
