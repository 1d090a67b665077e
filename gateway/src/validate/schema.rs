//! Decides whether a body is JSON that matches its route's JSON Schema.
//!
//! *Invariant:* judging a body reads nothing but the body and takes time in proportion to it: references are resolved
//! when the schema is compiled, within the schema's own file, and patterns are matched by an automaton.

use std::{fmt, path::PathBuf};

use http::HeaderValue;
use jsonschema::{PatternOptions, ValidationError, Validator};

use super::media_type;
use crate::{
    fault::Fault,
    json,
    proxy::{
        reject::{Refusal, Reject},
        settings::NamedFile,
    },
};

mod lint;

#[cfg(test)]
mod tests;

/// The largest schema, in bytes.
pub const MAX_SCHEMA: usize = 256 * 1024;

/// The most memory that one compiled pattern may take, in bytes; as much again for what it caches while matching.
const MAX_PATTERN: usize = 1024 * 1024;

/// How much of the place in the body the log is told, in bytes: it is made of the client's own member names.
const MAX_PLACE: usize = 128;

/// One compiled schema.
pub struct Schema {
    path: PathBuf,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema: draft 2020-12 unless it names another, `format` enforced.
    ///
    /// # Errors
    /// What is wrong with it: no JSON, too large, no schema, a reference to another file or host, a pattern that
    /// cannot be matched in linear time
    /// an unknown format, a keyword that is probably misspelt. The fault's key is `schema`, within the route.
    pub fn new(file: &NamedFile) -> Result<Self, Fault> {
        let fault = |message: String| Fault::new("schema", format!("{}: {message}", file.path.display()));
        if file.bytes.len() > MAX_SCHEMA {
            return Err(fault(format!("the schema is over {MAX_SCHEMA} bytes")));
        }
        let schema = json::parse(&file.bytes).map_err(|error| fault(format!("not acceptable as JSON: {error}")))?;
        if !schema.is_object() {
            return Err(fault("a schema is a JSON object".to_owned()));
        }
        if let Some((place, keyword)) = lint::misspelt(&schema) {
            return Err(fault(format!("unknown keyword at {place}")).hint(format!("did you mean {keyword:?}?")));
        }
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
        let options = jsonschema::options().with_pattern_options(patterns).should_validate_formats(true);
        let validator = options
            .should_ignore_unknown_formats(false)
            .offline()
            .build(&schema)
            .map_err(|error| fault(format!("{error}{}", place(error.instance_path().as_str()))))?;
        Ok(Self { path: file.path.clone(), validator })
    }

    /// Judges a whole body, given its only `Content-Type`.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`] unless it says that it is JSON in UTF-8, [`Reject::BadRequest`] where it
    /// cannot be read or could be read in two ways, [`Reject::InvalidBody`] where it does not match. The detail says
    /// where, never what.
    pub fn validate(&self, content_type: Option<&HeaderValue>, body: &[u8]) -> Result<(), Refusal> {
        media_type::judge(content_type)?;
        let body = json::parse(body).map_err(|error| Refusal::new(Reject::BadRequest, format!("body: {error}")))?;
        self.validator.validate(&body).map_err(|error| refuse(&error))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Schema({:?})", self.path)
    }
}

fn refuse(error: &ValidationError<'_>) -> Refusal {
    let detail = format!("body: {}{}", error.kind().keyword(), place(error.instance_path().as_str()));
    Refusal::new(Reject::InvalidBody, detail)
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() {
        return String::new();
    }
    let end = pointer.floor_char_boundary(MAX_PLACE);
    format!(" at {}", pointer.get(..end).unwrap_or_default())
}
