//! What a request breaks of the rules of its route: where, and what is expected there.
//!
//! *Invariant:* it names places and expectations, and never holds a value that a client has sent.

use std::fmt;

/// The most that are told of one request.
pub const MOST_VIOLATIONS: usize = 16;

/// The most that one line of the log lists.
pub const MOST_LISTED: usize = 8;

/// How much of a place is told, in bytes: it is made of the client's own member names.
pub const LONGEST_PLACE: usize = 128;

/// One rule that a request breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which part of the request.
    pub part: RequestPart,
    /// The name of the parameter; empty: the whole part.
    pub name: Box<str>,
    /// Where within it: a JSON pointer (RFC 6901).
    pub pointer: Box<str>,
    /// The keyword of the rule, for the log.
    pub rule: &'static str,
    /// What is expected.
    pub expected: Box<str>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestPart {
    /// The body.
    Body,
    /// A cookie.
    Cookie,
    /// A header.
    Header,
    /// A parameter in the path.
    Path,
    /// A parameter of the query.
    Query,
}

impl RequestPart {
    /// Its name, as OpenAPI has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

impl Violation {
    /// A rule that a parameter breaks, or a whole part.
    #[must_use]
    pub fn new(part: RequestPart, name: &str, rule: &'static str, expected: impl Into<Box<str>>) -> Self {
        Self { part, name: shorten(name).into(), pointer: Box::default(), rule, expected: expected.into() }
    }

    /// The same, within it.
    #[must_use]
    pub fn at(self, pointer: &str) -> Self {
        Self { pointer: shorten(pointer).into(), ..self }
    }
}

impl fmt::Display for Violation {
    /// For the log: `body: type at /tags/1`, `query limit: maximum`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.part.name())?;
        if !self.name.is_empty() {
            write!(out, " {}", self.name)?;
        }
        write!(out, ": {}", self.rule)?;
        if !self.pointer.is_empty() {
            write!(out, " at {}", self.pointer)?;
        }
        Ok(())
    }
}

/// All of them for the log, the first in full.
#[must_use]
pub fn detail(violations: &[Violation]) -> String {
    let Some((first, rest)) = violations.split_first() else { return String::new() };
    if rest.is_empty() { first.to_string() } else { format!("{first}, and {} more", rest.len()) }
}

/// The first of them for the log, where the request passed: whoever mends a document or a rule needs each.
#[must_use]
pub fn listed(violations: &[Violation]) -> String {
    let mut list = violations.iter().take(MOST_LISTED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = violations.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
        list += &format!(", and {more} more");
    }
    list
}

fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_PLACE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_lists_the_first_violations() {
        let violation =
            |index: usize| Violation::new(RequestPart::Query, &format!("q{index}"), "type", "must be a number");
        for (count, expect) in [
            (0, ""),
            (1, "query q0: type"),
            (3, "query q0: type, query q1: type, query q2: type"),
            (
                10,
                "query q0: type, query q1: type, query q2: type, query q3: type, query q4: type, query q5: type, \
                 query q6: type, query q7: type, and 2 more",
            ),
        ] {
            assert_eq!(listed(&(0..count).map(violation).collect::<Vec<_>>()), expect);
        }
    }
}
