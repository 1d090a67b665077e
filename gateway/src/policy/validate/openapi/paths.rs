//! The paths of an API: which template a request's path matches, and what its parameters are.
//!
//! A literal segment comes before one with a parameter, as OpenAPI has it. Templates are split at slashes; a parameter
//! never holds one.

use std::collections::HashMap;

use crate::policy::validate::parameter::decode::decode;

/// The templates of an API, as a tree of segments.
#[derive(Default)]
pub(in crate::policy::validate) struct Paths {
    root: Branch,
}

#[derive(Default)]
struct Branch {
    literals: HashMap<Box<str>, Self>,
    /// With parameters; those with more literal text first.
    patterns: Vec<(Segment, Self)>,
    /// The template that ends here.
    template: Option<usize>,
}

/// A segment that has parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct Segment {
    /// What stands before each parameter.
    parts: Vec<(Box<str>, Box<str>)>,
    /// What stands behind the last.
    tail: Box<str>,
}

/// One template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) enum Piece {
    Literal(Box<str>),
    Pattern(Segment),
}

impl Segment {
    fn literal_length(&self) -> usize {
        self.tail.len() + self.parts.iter().map(|(before, _)| before.len()).sum::<usize>()
    }

    /// The same, whatever the names of its parameters.
    fn is_like(&self, other: &Self) -> bool {
        let befores = |segment: &Self| segment.parts.iter().map(|(before, _)| before.clone()).collect::<Vec<_>>();
        self.tail == other.tail && befores(self) == befores(other)
    }

    /// The values of its parameters, none of which is empty. Where a literal between two of them is there more than once,
    /// the last one counts: in `a.b.csv`, `{name}.{format}` has the format `csv`.
    fn matches<'r>(&self, text: &'r str) -> Option<Vec<&'r str>> {
        let mut rest = text.strip_suffix(&*self.tail)?;
        let mut values = Vec::new();
        let (first, others) = self.parts.split_first()?;
        for (before, _) in others.iter().rev() {
            let is_there = |at: usize| {
                let behind = rest.get(at..).and_then(|rest| rest.strip_prefix(&**before));
                behind.is_some_and(|behind| !behind.is_empty())
            };
            let (at, _) = rest.char_indices().rev().find(|(at, _)| is_there(*at))?;
            values.push(rest.get(at + before.len()..)?);
            rest = rest.get(..at)?;
        }
        values.push(rest.strip_prefix(&*first.0).filter(|value| !value.is_empty())?);
        values.reverse();
        Some(values)
    }
}

/// A template without the names of its parameters: `/items/{}`.
pub(in crate::policy::validate) fn anonymous(text: &str) -> String {
    let mut parts = text.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("{}");
        plain.push_str(part.split_once('}').map_or("", |(_, behind)| behind));
    }
    plain
}

/// Whether a parameter stands at the beginning of a segment.
pub(in crate::policy::validate) fn begins_segment(template: &str, name: &str) -> bool {
    template.contains(&format!("/{{{name}}}"))
}

/// Reads a template: `/items/{id}`, `/reports/{name}.{format}`.
pub(in crate::policy::validate) fn template(text: &str) -> Result<Vec<Piece>, &'static str> {
    let below = text.strip_prefix('/').ok_or("a path begins with a slash")?;
    let mut pieces = Vec::new();
    for segment in split(below) {
        let (mut rest, mut parts) = (segment, Vec::new());
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a parameter lacks its closing brace")?;
            if name.is_empty() || before.contains('}') {
                return Err("a parameter has no name");
            }
            parts.push((literal(before), name.into()));
            rest = after;
        }
        if rest.contains('}') {
            return Err("a parameter lacks its opening brace");
        }
        pieces.push(match parts.is_empty() {
            true => Piece::Literal(literal(rest)),
            false => Piece::Pattern(Segment { parts, tail: literal(rest) }),
        });
    }
    Ok(pieces)
}

/// Splits at slashes that are not within braces.
fn split(text: &str) -> Vec<&str> {
    let (mut start, mut is_inside) = (0, false);
    let mut segments = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '{' => is_inside = true,
            '}' => is_inside = false,
            '/' if !is_inside => {
                segments.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    segments.extend(text.get(start..));
    segments
}

/// The names of the parameters of a template, in order.
pub(in crate::policy::validate) fn names(pieces: &[Piece]) -> Vec<Box<str>> {
    let of = |piece: &Piece| match piece {
        Piece::Literal(_) => Vec::new(),
        Piece::Pattern(segment) => segment.parts.iter().map(|(_, name)| name.clone()).collect(),
    };
    pieces.iter().flat_map(of).collect()
}

fn literal(text: &str) -> Box<str> {
    decode(text, false).map_or_else(|_fault| text.into(), Into::into)
}

impl Paths {
    /// Adds a template under its number, or says which one is the same.
    pub(in crate::policy::validate) fn add(&mut self, pieces: &[Piece], number: usize) -> usize {
        let mut branch = &mut self.root;
        for piece in pieces {
            branch = match piece {
                Piece::Literal(text) => branch.literals.entry(text.clone()).or_default(),
                Piece::Pattern(segment) => {
                    let place = match branch.patterns.iter().position(|(known, _)| known.is_like(segment)) {
                        Some(place) => place,
                        None => {
                            let length = segment.literal_length();
                            let place = branch.patterns.partition_point(|(it, _)| it.literal_length() >= length);
                            branch.patterns.insert(place, (segment.clone(), Branch::default()));
                            place
                        }
                    };
                    match branch.patterns.get_mut(place) {
                        Some((_, below)) => below,
                        None => return number,
                    }
                }
            };
        }
        *branch.template.get_or_insert(number)
    }

    /// The template of a path, and the values of its parameters as they came, in order.
    pub(in crate::policy::validate) fn find<'r>(&self, path: &'r str) -> Option<(usize, Vec<&'r str>)> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut values = Vec::new();
        find(&self.root, &segments, &mut values).map(|template| (template, values))
    }
}

fn find<'r>(branch: &Branch, segments: &[&'r str], values: &mut Vec<&'r str>) -> Option<usize> {
    let Some((segment, rest)) = segments.split_first() else { return branch.template };
    // Most segments have nothing to decode.
    let literal = if segment.contains('%') {
        let decoded = decode(segment, false).ok();
        decoded.and_then(|decoded| branch.literals.get(decoded.as_str()))
    } else {
        branch.literals.get(*segment)
    };
    if let Some(found) = literal.and_then(|below| find(below, rest, values)) {
        return Some(found);
    }
    for (pattern, below) in &branch.patterns {
        let Some(matched) = pattern.matches(segment) else { continue };
        let before = values.len();
        values.extend(matched);
        if let Some(found) = find(below, rest, values) {
            return Some(found);
        }
        values.truncate(before);
    }
    None
}
