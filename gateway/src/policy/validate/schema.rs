//! JSON Schema: whether a body is JSON that matches the schema of its route.
//!
//! *Invariant:* judging a body reads nothing but the body, and takes time and memory in proportion to it: references
//! are resolved when the schema is compiled, within the schema's own file, patterns are matched by an automaton or within
//! limits, and who runs out of steps is refused.

use std::{fmt, path::PathBuf};

use http::HeaderValue;
use jsonschema::Draft;
use referencing::Registry;
use serde_json::Value;

pub(in crate::policy::validate) use self::judge::WorkLimits;
use self::{
    compile::{BASE, CompileError, Dialect, compile},
    graph::{Graph, NodeId},
    judge::{JudgeError, OutOfWork, explain, judge},
    written::WrittenNumbers,
};
use super::media_type;
use crate::{
    diagnostic::Diagnostic,
    json::{self, document::JsonDocument, unkept::unkept_json},
    os::file::NamedFile,
    refusal::{Refusal, Reject, violation::RequestPart},
    settings::validate::Formats,
};

pub(in crate::policy::validate) mod set;
pub(in crate::policy::validate) mod stand_in;

mod compile;
mod graph;
mod judge;
mod keyword;
mod lint;
mod pattern;
mod shape;
mod written;

#[cfg(test)]
mod tests;

/// The largest schema, in bytes.
pub const MAX_SCHEMA: usize = 1024 * 1024;

/// How much of the place in the body the log is told, in bytes: it is made of the client's own member names.
const MAX_PLACE: usize = 128;

/// What is judged at once, where it arrived: about a millisecond.
pub(in crate::policy::validate) const QUICK: WorkLimits = WorkLimits { steps: 20_000, depth: 128 };

/// The largest body that is judged at once.
pub(in crate::policy::validate) const QUICK_BODY: usize = 16 * 1024;

/// The most steps that any body is worth, and how many more for each of its bytes.
const STEPS: u64 = 1_000_000;
const STEPS_PER_BYTE: u64 = 16;

/// The most subschemas that wait for one another. Each takes some hundred bytes of a stack.
const DEPTH: u32 = 2_048;

/// The stack that judging a body may take, in bytes.
pub const STACK: usize = 16 * 1024 * 1024;

/// One compiled schema.
pub struct Schema {
    path: PathBuf,
    graph: Graph,
    unknown_formats: Vec<String>,
}

impl Schema {
    /// Compiles a schema: draft 2020-12 unless it names another, known formats enforced.
    ///
    /// # Errors
    /// What is wrong with it: no JSON, too large, no schema, a reference to another file or host, a pattern that
    /// is none, a keyword that is probably misspelt, an unknown format if they are `Strict`.
    /// The fault's key is `schema`, within the route.
    pub fn new(file: &NamedFile, formats: Formats) -> Result<Self, Diagnostic> {
        Self::beside(file, &[], formats)
    }

    /// As [`Self::new`]; it may refer to `others` by their paths, as seen from its own folder.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn beside(file: &NamedFile, others: &[NamedFile], formats: Formats) -> Result<Self, Diagnostic> {
        let diagnostic = |message: String| Diagnostic::new("schema", format!("{}: {message}", file.path.display()));
        if file.bytes.len() > MAX_SCHEMA {
            return Err(diagnostic(format!("the schema is over {MAX_SCHEMA} bytes")));
        }
        let schema =
            json::parse(&file.bytes).map_err(|error| diagnostic(format!("not acceptable as JSON: {error}")))?;
        if !schema.is_object() {
            return Err(diagnostic("a schema is a JSON object".to_owned()));
        }
        if let Some((place, keyword)) = lint::misspelt(&schema) {
            return Err(diagnostic(format!("unknown keyword at {place}")).hint(format!("did you mean {keyword:?}?")));
        }
        let draft = draft(&schema).map_err(diagnostic)?;
        jsonschema::meta::validate(&schema)
            .map_err(|error| diagnostic(format!("{error}{}", shorten(error.instance_path().as_str().to_owned()))))?;
        let unplaced =
            |failure: &CompileError| diagnostic(format!("{}{}", failure.message, shorten(failure.place(&schema))));
        let mut written = WrittenNumbers::default();
        written.add(&schema, &unkept_json(&file.bytes, &schema));
        let documents = set::read_others(file, others, &mut written);
        // A file that says its draft is read by that one: others have other words for names, and for what is a schema.
        let draft_of = |content| Some(draft.detect(content)).filter(|own| *own != Draft::Unknown).unwrap_or(draft);
        let resources = documents.iter().map(|(name, content)| (name, draft_of(content).create_resource_ref(content)));
        let registry = Registry::new().extend(resources).and_then(|registry| registry.draft(draft).prepare());
        let registry = registry.map_err(|error| unplaced(&CompileError::from(error)))?;
        let name = if others.is_empty() { BASE.to_owned() } else { set::uri(&file.path) };
        let dialect = Dialect { draft, formats, openapi: None };
        let compiled = compile(&schema, &name, dialect, &written, &registry).map_err(|failure| unplaced(&failure))?;
        Ok(Self { path: file.path.clone(), graph: compiled.graph, unknown_formats: compiled.unknown_formats })
    }

    /// The formats that it names and that nobody checks.
    #[must_use]
    pub fn unknown_formats(&self) -> &[String] {
        &self.unknown_formats
    }

    /// Judges a whole body, given its only `Content-Type`, if that takes no longer than a worker may be held. `None`:
    /// it would; [`Schema::validate`] does it elsewhere.
    #[must_use]
    pub fn validate_at_once(&self, content_type: Option<&HeaderValue>, body: &[u8]) -> Option<Result<(), Refusal>> {
        if let Err(refusal) = media_type::judge(content_type) {
            return Some(Err(refusal));
        }
        if body.len() > QUICK_BODY {
            return None;
        }
        match self.judge(body, QUICK) {
            Err(refusal) if refusal.reject == Reject::BodyTooComplex => None,
            judged => Some(judged),
        }
    }

    /// Judges a whole body whose `Content-Type` is right. Takes up to [`STACK`] bytes of stack.
    ///
    /// # Errors
    /// [`Reject::BadRequest`] where it cannot be read or could be read in two ways, [`Reject::InvalidBody`] where it
    /// does not match, [`Reject::BodyTooComplex`] where finding out takes too long. The detail says where, never what.
    pub fn validate(&self, body: &[u8]) -> Result<(), Refusal> {
        self.judge(body, limits(body))
    }

    fn judge(&self, body: &[u8], limits: WorkLimits) -> Result<(), Refusal> {
        let body =
            JsonDocument::parse(body).map_err(|error| Refusal::new(Reject::BadRequest, format!("body: {error}")))?;
        let root = NodeId(0);
        judge(&self.graph, root, &body, limits).map_err(|stop| match stop {
            JudgeError::Invalid(fault) => {
                let place = shorten(body.place(fault.at, MAX_PLACE));
                let violations =
                    set::violations(explain(&self.graph, root, &body, limits), &body, RequestPart::Body, "");
                let detail = format!("body: {}{place}", fault.keyword.as_str());
                Refusal { violations, ..Refusal::new(Reject::InvalidBody, detail) }
            }
            JudgeError::OutOfWork(OutOfWork::Pattern(at)) => {
                let place = shorten(body.place(at, MAX_PLACE));
                let violations = set::violations(vec![set::unmatched(at)], &body, RequestPart::Body, "");
                let detail = format!("body: pattern{place}: too long or too much work for it");
                Refusal { violations, ..Refusal::new(Reject::InvalidBody, detail) }
            }
            JudgeError::OutOfWork(OutOfWork::Steps) => {
                Refusal::new(Reject::BodyTooComplex, "body: more work than its size is worth")
            }
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Schema({:?})", self.path)
    }
}

/// How much work a body is worth.
pub(in crate::policy::validate) const fn limits(body: &[u8]) -> WorkLimits {
    WorkLimits { steps: STEPS + STEPS_PER_BYTE.saturating_mul(body.len() as u64), depth: DEPTH }
}

/// The draft that a schema is written for.
fn draft(schema: &Value) -> Result<Draft, String> {
    match Draft::default().detect(schema) {
        Draft::Unknown => {
            let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
            Err(format!("\"$schema\": {named:?} is no draft from 4 to 2020-12 of JSON Schema"))
        }
        known => Ok(known),
    }
}

fn shorten(mut place: String) -> String {
    if place.is_empty() {
        return place;
    }
    place.truncate(place.floor_char_boundary(MAX_PLACE));
    format!(" at {place}")
}
