//! What a route asks of forms and multipart bodies, without a document.

use std::fmt;

use http::{HeaderMap, HeaderValue, header};
use regex::RegexBuilder;
use serde_json::{Map, Value, json};

use super::{
    body::{
        Body, Content, Reading,
        field::{FileLimits, FormField},
        file_lengths::FileLengths,
        media::MediaRange,
    },
    parameter::{Coding, Parameter, Style},
    schema::{
        self, WorkLimits,
        set::{OpenApi, SchemaDocument, SchemaId, SchemaSet, Shape},
    },
};
use crate::{
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject, violation::RequestPart},
    settings::validate::{FieldRule, FormSettings, Formats},
};

/// How large a compiled pattern of file names may be, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// What the forms of a route must be.
pub struct FormRules {
    schemas: SchemaSet,
    body: Body,
}

impl FormRules {
    /// Compiles the rules of a route.
    ///
    /// # Errors
    /// All that is wrong: patterns that are none, formats that nobody knows where they are strict.
    pub fn new(form: &FormSettings, formats: Formats) -> Result<Self, Vec<Diagnostic>> {
        let all: Vec<&FieldRule> = form.fields.iter().collect();
        let [of_all, of_texts] = [SchemaId(0), SchemaId(1)];
        let mut wrong = Vec::new();
        let schemas = compile(form, &all, formats).map_err(|first| {
            // A set is refused by its first fault. Alone, each field tells its own.
            let faults = all.iter().filter_map(|field| compile(form, &[*field], formats).err());
            let faults: Vec<Diagnostic> = faults.collect();
            wrong.extend(if faults.is_empty() { vec![first] } else { faults });
        });
        let schemas = schemas.ok();
        let shape = schemas.as_ref().map_or_else(Shape::text, |schemas| schemas.shape(of_all));
        let fields = form.fields.iter().filter_map(|rule| field(rule, &shape).map_err(|all| wrong.extend(all)).ok());
        let fields: Vec<FormField> = fields.collect();
        let Some(schemas) = schemas.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let (most, is_required) = (form.max_fields, form.fields.iter().any(|field| field.required));
        let mut contents = Vec::new();
        // A file that must be there comes by multipart alone.
        let needs_file = form.fields.iter().any(|field| field.required && field.file.is_some());
        if !needs_file && let Some(range) = MediaRange::read("application/x-www-form-urlencoded") {
            let texts = fields.iter().filter(|field| !field.is_file).cloned().collect();
            let shape = schemas.shape(of_texts);
            contents.push((range, Content::Form { schema: of_texts, fields: texts, shape, most }));
        }
        if let Some(range) = MediaRange::read("multipart/form-data") {
            contents.push((range, Content::Multipart { schema: of_all, fields, shape, most }));
        }
        Ok(Self { schemas, body: Body { is_required, contents } })
    }

    /// Judges what the head says of a body of this `length`, where it is known.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`], and [`Reject::InvalidBody`] where there must be a body.
    pub fn judge_head(&self, headers: &HeaderMap, length: Option<u64>) -> Result<(), Refusal> {
        if length == Some(0) {
            return self.body.judge_none();
        }
        // It may end before its first byte.
        if length.is_none() && !headers.contains_key(header::CONTENT_TYPE) {
            return Ok(());
        }
        self.body.reading(headers.get(header::CONTENT_TYPE)).map(drop)
    }

    /// Judges a whole body if that takes no longer than a worker may be held.
    #[must_use]
    pub fn judge_at_once(&self, content_type: Option<&HeaderValue>, body: &[u8]) -> Option<Result<(), Refusal>> {
        if body.len() > schema::QUICK_BODY {
            return None;
        }
        match self.judge_within(content_type, body, schema::QUICK) {
            Err(refusal) if refusal.reject == Reject::BodyTooComplex => None,
            judged => Some(judged),
        }
    }

    /// Judges a whole body.
    ///
    /// # Errors
    /// [`Reject::BadRequest`] where it cannot be read, [`Reject::InvalidBody`] with what it breaks,
    /// [`Reject::UnsupportedMediaType`].
    pub fn judge(&self, content_type: Option<&HeaderValue>, body: &[u8]) -> Result<(), Refusal> {
        self.judge_within(content_type, body, schema::limits(body))
    }

    fn judge_within(&self, content_type: Option<&HeaderValue>, body: &[u8], limits: WorkLimits) -> Result<(), Refusal> {
        if body.is_empty() {
            return self.body.judge_none();
        }
        match self.body.reading(content_type)? {
            Reading::Pass => Ok(()),
            Reading::Read(content, media_type) => content.judge(&self.schemas, &media_type, body, limits),
        }
    }
}

/// Compiles what is said of the values of `fields`: of all, and of those that are no files.
fn compile(form: &FormSettings, fields: &[&FieldRule], formats: Formats) -> Result<SchemaSet, Diagnostic> {
    let object = |fields: &[&FieldRule]| {
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.name.clone(), field.schema.clone())).collect();
        let required: Vec<&str> =
            fields.iter().filter(|field| field.required).map(|field| field.name.as_str()).collect();
        let others = !form.refuses_unknown;
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": others })
    };
    let texts: Vec<&FieldRule> = fields.iter().filter(|field| field.file.is_none()).copied().collect();
    let content = json!([object(fields), object(&texts)]);
    let documents = [SchemaDocument { uri: "json-schema:///form".to_owned(), content, unkept: Vec::new() }];
    let all: Vec<(usize, &Value)> =
        documents.iter().flat_map(|it| it.content.as_array()).flatten().map(|schema| (0, schema)).collect();
    let openapi = OpenApi { is_3_0: false, refuses_read_only: false, is_response: false };
    SchemaSet::compile(&documents, &all, openapi, formats).map_err(|fault| {
        let name = fault.place.split_once("/properties/").and_then(|(_, rest)| rest.split('/').next());
        Diagnostic::new(name.map_or_else(|| "form".to_owned(), |name| format!("form.{name}")), fault.message)
    })
}

fn field(rule: &FieldRule, shape: &Shape) -> Result<FormField, Vec<Diagnostic>> {
    let parameter = Parameter {
        name: rule.name.as_str().into(),
        part: RequestPart::Body,
        coding: Coding::Styled { style: Style::Form, explode: true },
        is_required: false,
        may_be_empty: false,
        schema: None,
        shape: shape.member(&rule.name).cloned().unwrap_or_else(Shape::text),
    };
    let Some(file) = &rule.file else {
        let (types, headers, files) = (Vec::new(), Vec::new(), FileLimits::default());
        return Ok(FormField { parameter, types, headers, is_file: false, files });
    };
    let key = |key: &str| format!("form.{}.{key}", rule.name);
    let (mut wrong, mut types) = (Vec::new(), Vec::new());
    for text in &file.content_types {
        match MediaRange::read(text) {
            Some(range) => types.push(range),
            None => wrong.push(Diagnostic::new(key("content_types"), format!("{text:?} is no media type"))),
        }
    }
    let pattern = file.file_name.as_ref().map(|text| RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build());
    let name = pattern.transpose().map_err(|error| wrong.push(Diagnostic::new(key("file_name"), error.to_string())));
    let (Ok(name), true) = (name, wrong.is_empty()) else { return Err(wrong) };
    let files = FileLimits { lengths: FileLengths::between(None, file.max_size), name };
    Ok(FormField { parameter, types, headers: Vec::new(), is_file: true, files })
}

impl fmt::Debug for FormRules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FormRules({} media types)", self.body.contents.len())
    }
}

#[cfg(test)]
mod tests;
