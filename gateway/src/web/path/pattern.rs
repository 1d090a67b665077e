//! Path patterns of rewrites and redirects: the path that a route makes of a request's.
//!
//! *Invariant:* what comes out is canonical as a client's own path has to be, or the request is refused: a rewrite never
//! asks for what a client may not ask for (P01-P05).

use super::{MAX_LENGTH, PathRules, canonical_path, canonical_path_by, segments, template::template};
use crate::{
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject},
};

/// A path with places for parts of the path that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    pieces: Box<[PatternPart]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternPart {
    /// The path behind so many segments.
    Behind(usize),
    Literal(Box<str>),
    /// Everything from this segment on.
    Rest(usize),
    Segment(usize),
}

impl PathPattern {
    /// Reads a pattern for requests of the template `path`: text, the template's parameters (`{id}`, and at the end
    /// `{rest}`), and at the end `{path}`, which is all of it.
    ///
    /// # Errors
    /// It can never make a path, or names what there is not; the fault's key is empty.
    pub fn read(text: &str, path: &str) -> Result<Self, Diagnostic> {
        let names = names(path);
        let mut pieces = Vec::new();
        // What it makes of a plain path: where that is refused, everything is.
        let mut sample = String::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            let unfinished = || fault(format!("{text:?} has a `{{` without its `}}`"), "write parameters as {name}");
            let (name, behind) = behind.split_once('}').ok_or_else(unfinished)?;
            pieces.push(PatternPart::Literal(literal.into()));
            sample.push_str(literal);
            rest = behind;
            let found = names.iter().find(|(known, _, _)| *known == name);
            if name == "path" {
                if found.is_some() {
                    let wrong = "{path} is the whole path, and the route has a parameter of this name";
                    return Err(fault(wrong.to_owned(), "give the parameter another name"));
                }
                at_end(rest, text, name)?;
                pieces.push(PatternPart::Behind(0));
                sample.push_str("/x");
                continue;
            }
            let Some(&(_, position, is_rest)) = found else {
                let known: Vec<_> = names.iter().map(|(known, ..)| format!("{{{known}}}")).collect();
                let hint = match known.as_slice() {
                    [] => "`path` has no parameters: write {path} for all of it".to_owned(),
                    known => format!("`path` has {}; {{path}} is all of it", known.join(", ")),
                };
                return Err(fault(format!("{text:?} names {{{name}}}, which `path` has not"), &hint));
            };
            if is_rest {
                at_end(rest, text, name)?;
                if !sample.ends_with('/') {
                    let hint = format!("write \"/{{{name}}}\" at the end");
                    return Err(fault(format!("{text:?} has {{{name}}} within a segment"), &hint));
                }
                pieces.push(PatternPart::Rest(position));
            } else {
                pieces.push(PatternPart::Segment(position));
            }
            sample.push('x');
        }
        pieces.push(PatternPart::Literal(rest.into()));
        sample.push_str(rest);
        pieces.retain(|piece| !matches!(piece, PatternPart::Literal(literal) if literal.is_empty()));
        if sample.contains(['?', '#']) {
            let hint = "leave it out: the query of the request is kept";
            return Err(fault(format!("{text:?} has a query or fragment"), hint));
        }
        if let Err(refusal) = canonical_path(&sample) {
            let hint = "write the path from its start and as a client would ask for it: \"/v2/{id}\"";
            return Err(fault(format!("{text:?} makes no path that is served: {}", refusal.detail), hint));
        }
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    /// What takes the literal beginning `prefix` off paths of the template `path`.
    ///
    /// # Errors
    /// Not every path of the template begins with it; the fault's key is empty.
    pub fn strip(prefix: &str, path: &str) -> Result<Self, Diagnostic> {
        let canonical = match canonical_path(prefix) {
            Ok(canonical) => canonical.unwrap_or_else(|| prefix.to_owned()),
            Err(refusal) => {
                let hint = "write the literal beginning of `path`: \"/api\"";
                return Err(fault(format!("{prefix:?} is no path: {}", refusal.detail), hint));
            }
        };
        if canonical.ends_with('/') {
            return Err(fault(format!("{prefix:?} ends with a slash"), "what is left begins with it: write \"/api\""));
        }
        // What is wrong with the template itself is told where it is compiled.
        let template = template(path).unwrap_or_else(|_wrong| canonical.clone());
        let behind = template.strip_prefix(&canonical);
        if behind.is_none_or(|behind| !behind.is_empty() && !behind.starts_with('/')) {
            let hint = "write whole segments that `path` begins with, or use `rewrite`";
            return Err(fault(format!("{prefix:?} is not what {path:?} begins with"), hint));
        }
        Ok(Self { text: prefix.into(), pieces: [PatternPart::Behind(segments(&canonical).count())].into() })
    }

    /// As the configuration has it.
    #[must_use]
    pub const fn text(&self) -> &str {
        &self.text
    }

    /// What it makes of the canonical `path`, which the template took, for a route whose paths may hold what `rules` say.
    ///
    /// # Errors
    /// What it would make is no path that a client could ask for.
    pub fn apply(&self, path: &str, rules: PathRules) -> Result<String, Refusal> {
        let mut out = String::with_capacity(self.text.len() + path.len());
        for piece in &self.pieces {
            out.push_str(match piece {
                PatternPart::Behind(count) => behind(path, *count),
                PatternPart::Literal(literal) => literal,
                PatternPart::Rest(position) => behind(path, *position).strip_prefix('/').unwrap_or_default(),
                PatternPart::Segment(position) => segments(path).nth(*position).unwrap_or_default(),
            });
        }
        if out.is_empty() {
            out.push('/');
        }
        if out.len() > MAX_LENGTH {
            return Err(Refusal::new(Reject::UriTooLong, "rewritten path too long"));
        }
        match canonical_path_by(&out, rules) {
            Ok(canonical) => Ok(canonical.unwrap_or(out)),
            Err(refusal) => Err(Refusal { detail: format!("rewritten path: {}", refusal.detail).into(), ..refusal }),
        }
    }
}

/// What stands behind the first `count` segments, from its slash on. What has no name is no segment.
fn behind(path: &str, count: usize) -> &str {
    let mut rest = path;
    let mut left = count;
    while left > 0 {
        let Some(below) = rest.strip_prefix('/') else { return "" };
        let (segment, end) = below.split_at_checked(below.find('/').unwrap_or(below.len())).unwrap_or_default();
        left -= segments(segment).count();
        rest = end;
    }
    rest
}

/// One parameter of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternParameter {
    position: usize,
    is_rest: bool,
}

impl PatternParameter {
    /// The parameter `name` of the template `path`; `None`: it has none of this name.
    #[must_use]
    pub fn named(name: &str, path: &str) -> Option<Self> {
        let (_, position, is_rest) = names(path).into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { position, is_rest })
    }

    /// What stands in its place in a canonical path that the template took; `None`: nothing.
    #[must_use]
    pub fn of<'a>(&self, path: &'a str) -> Option<&'a str> {
        let found = if self.is_rest {
            behind(path, self.position).strip_prefix('/')
        } else {
            segments(path).nth(self.position)
        };
        found.filter(|found| !found.is_empty())
    }
}

/// The parameters of a template: name, position, and whether it takes everything from there on.
fn names(path: &str) -> Vec<(&str, usize, bool)> {
    let segments = path.split('/').skip(1).enumerate();
    let names = segments.filter_map(|(position, segment)| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.strip_prefix('*').map_or((name, position, false), |name| (name, position, true)))
    });
    names.collect()
}

fn at_end(rest: &str, text: &str, name: &str) -> Result<(), Diagnostic> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(fault(format!("{text:?} goes on after {{{name}}}"), "what may hold slashes stands at the end"))
}

fn fault(message: String, hint: &str) -> Diagnostic {
    Diagnostic::new("", message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Err`: the refusal's detail.
    #[track_caller]
    fn makes(path: &str, pattern: &str, asked: &str, expect: Result<&str, &str>) {
        let pattern = match pattern.strip_prefix('-') {
            Some(prefix) => PathPattern::strip(prefix, path),
            None => PathPattern::read(pattern, path),
        };
        let made = pattern.unwrap_or_else(|fault| panic!("{fault}")).apply(asked, PathRules::default());
        let made = made.as_deref().map_err(|refusal| &*refusal.detail);
        assert_eq!(made, expect, "{path} {asked}");
    }

    #[test]
    fn patterns() {
        let rest = "/api/{*rest}";
        for (path, pattern, asked, expect) in [
            (rest, "-/api", "/api/a/b", Ok("/a/b")),
            (rest, "-/api", "/api/a/", Ok("/a/")),
            (rest, "-/api", "/api/", Ok("/")),
            (rest, "-/api", "/api", Ok("/")),
            ("/%61pi/{*rest}", "-/ap%69", "/api/x", Ok("/x")),
            ("/caf%c3%a9/x", "-/caf%C3%A9", "/caf%C3%A9/x", Ok("/x")),
            (rest, "/v2/{rest}", "/api/a/b", Ok("/v2/a/b")),
            (rest, "/v2/{rest}", "/api", Ok("/v2/")),
            (rest, "/v2{path}", "/api/a", Ok("/v2/api/a")),
            (rest, "{path}", "/api/a", Ok("/api/a")),
            (rest, "/one", "/api/a", Ok("/one")),
            ("/a/{id}/b/{name}", "/{name}/x-{id}.json", "/a/1/b/2%20", Ok("/2%20/x-1.json")),
            ("/{a}/{b}", "/{a}{b}", "/x/y", Ok("/xy")),
            ("/{*all}", "/{all}", "/", Ok("/")),
            ("/{id}", "/%7Ea/{id}", "/1", Ok("/~a/1")),
            ("/a:b/{*rest}", "-/a%3ab", "/a:b/x", Ok("/x")),
            ("/a%3Ab/{*rest}", "-/a:b", "/a:b/x", Ok("/x")),
            ("/{id}", "/x%3a{id}%40y", "/1%20", Ok("/x:1%20@y")),
        ] {
            makes(path, pattern, asked, expect);
        }
    }

    #[test]
    fn parameters() {
        for (template, name, path, expect) in [
            ("/a/{id}/b/{name}", "id", "/a/1/b/2", Some("1")),
            ("/a/{id}/b/{name}", "name", "/a/1/b/2", Some("2")),
            ("/a/{id}", "other", "/a/1", None),
            ("/a/{*rest}", "rest", "/a/b/c", Some("b/c")),
            ("/a/{*rest}", "rest", "/a", None),
            ("/a/{*rest}", "rest", "/a/", None),
        ] {
            let found = PatternParameter::named(name, template).and_then(|parameter| parameter.of(path));
            assert_eq!(found, expect, "{name} of {path}");
        }
    }

    #[test]
    fn p01_p05_nothing_is_made_that_no_client_may_ask_for() {
        for (path, pattern, asked, detail) in [
            ("/{a}/{b}", "/{a}{b}", "/%25/41", "rewritten path: encoded twice"),
            ("/{a}/{b}", "/{a}{b}", "/%25/2f", "rewritten path: encoded twice"),
            ("/{a}", "/{a}2e", "/%25", "rewritten path: encoded twice"),
            ("/{a}/{b}", "/{a}.", "/./x", "rewritten path: dot segment"),
        ] {
            makes(path, pattern, asked, Err(detail));
        }
        let long = format!("/{}", "a".repeat(MAX_LENGTH - 1));
        makes("/{*all}", "/v2/{all}", &long, Err("rewritten path too long"));
        // What a capture holds stays a part of the path.
        makes("/{a}", "/x/{a}", "/%3Fq%23f", Ok("/x/%3Fq%23f"));
    }

    #[test]
    fn paths_that_only_some_routes_take() {
        let rules = PathRules { encoded_slashes: true, parameters: true, empty_segments: true };
        for (path, pattern, asked, expect) in [
            ("/api/{*rest}", "-/api", "/api//a;x/b%2Fc", "//a;x/b%2Fc"),
            ("/api/{*rest}", "-/api", "//api;v=1/a", "/a"),
            ("/api/{*rest}", "-/api", "/;x/api", "/"),
            ("/a/b/{*rest}", "-/a/b", "/a//b/c", "/c"),
            ("/{a}/{*rest}", "/v2/{rest}", "//x/y//z", "/v2/y//z"),
            ("/{a}/{b}", "/{b}/{a}", "/x;1//y%2Fz", "/y%2Fz/x;1"),
        ] {
            let pattern = match pattern.strip_prefix('-') {
                Some(prefix) => PathPattern::strip(prefix, path),
                None => PathPattern::read(pattern, path),
            };
            let made = pattern.unwrap_or_else(|fault| panic!("{fault}")).apply(asked, rules);
            assert_eq!(made.as_deref().ok(), Some(expect), "{path} {asked}");
        }
    }

    #[track_caller]
    fn wrong(path: &str, pattern: &str, expect: &str) {
        let made = match pattern.strip_prefix('-') {
            Some(prefix) => PathPattern::strip(prefix, path),
            None => PathPattern::read(pattern, path),
        };
        let fault = made.expect_err(pattern);
        assert!(fault.message.contains(expect), "{pattern}: {fault}");
        assert!(fault.hint.is_some(), "{pattern}");
    }

    #[test]
    fn wrong_patterns() {
        wrong("/a/{id}", "/b/{name}", "names {name}, which `path` has not");
        wrong("/a/{id}", "/b/{*id}", "names {*id}, which");
        wrong("/a/{id}", "/b/{id", "without its `}`");
        wrong("/a/{id}", "/b/id}", "makes no path");
        wrong("/a/{id}", "b/{id}", "makes no path");
        wrong("/a/{id}", "", "makes no path");
        wrong("/a/{id}", "/b//{id}", "empty segment");
        wrong("/a/{id}", "/../{id}", "dot segment");
        wrong("/a/{id}", "/b/%2e%2e/{id}", "dot segment");
        wrong("/a/{id}", "/b;x/{id}", "path parameter");
        wrong("/a/{id}", "/b/{id}?x=1", "query or fragment");
        wrong("/a/{id}", "/b/{path}", "empty segment");
        wrong("/a/{id}", "{path}/b", "goes on after {path}");
        wrong("/a/{path}", "/b/{path}", "a parameter of this name");
        wrong("/a/{*rest}", "/b/{rest}/c", "goes on after {rest}");
        wrong("/a/{*rest}", "/b{rest}", "within a segment");
        wrong("/a/{id}", "-/b", "is not what");
        wrong("/api2", "-/api", "is not what");
        wrong("/{id}/a", "-/x", "is not what");
        wrong("/api/{id}", "-/api/{id}", "no path");
        wrong("/api/{id}", "-/api/", "ends with a slash");
        wrong("/api/{id}", "-/", "ends with a slash");
        wrong("/api/{id}", "-api", "no path");
    }
}
