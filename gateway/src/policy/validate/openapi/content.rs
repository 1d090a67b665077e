//! Compiles what bodies of one media type must be.

use serde_json::Value;

use super::{
    collector::{DocumentCollector, Version},
    document::{At, DocumentFault},
    parameters,
};
use crate::{
    policy::validate::{
        body::{
            Content,
            field::{FileLimits, FormField},
            media::MediaRange,
        },
        parameter::{Coding, Parameter, Style},
        schema::set::{SchemaSet, Shape},
    },
    refusal::violation::RequestPart,
};

/// The media types of a body so far.
#[derive(Default)]
pub(super) struct Contents(Vec<(MediaRange, Content)>);

impl Contents {
    /// The most exact first.
    pub(super) fn sorted(mut self) -> Vec<(MediaRange, Content)> {
        self.0.sort_by_key(|(range, _)| range.openness());
        self.0
    }
}

/// Reads one media type of a request body.
pub(super) fn read<'d>(
    collector: &mut DocumentCollector<'d>,
    text: &str,
    at: &At<'d>,
    contents: &mut Contents,
) -> Result<(), DocumentFault> {
    collector.fields(at, "media type")?;
    let Some(range) = MediaRange::read(text) else {
        return Err(collector.fault(at, format!("{text:?} is no media type")));
    };
    let content = of(collector, text, &range, at)?;
    contents.0.push((range, content));
    Ok(())
}

fn of<'d>(
    collector: &mut DocumentCollector<'d>,
    text: &str,
    range: &MediaRange,
    at: &At<'d>,
) -> Result<Content, DocumentFault> {
    let schema = at.get("schema");
    let is_form = range.is("application", "x-www-form-urlencoded");
    let is_multipart = range.is("multipart", "form-data");
    if let Some(items) = at.get("itemSchema") {
        if range.is_json_lines() {
            return Ok(Content::JsonLines(collector.schema(&items)));
        }
        return Err(collector.fault(&items, format!("\"itemSchema\" of {text:?} is not read: of JSON lines it is")));
    }
    if range.is_json() {
        if let Some(schema) = &schema {
            collector.examples(at, schema);
        }
        return Ok(Content::Json(schema.map(|schema| collector.schema(&schema))));
    }
    let Some(schema) = schema else {
        if is_form || is_multipart {
            collector.warn(at, format!("{text:?} has no schema: any body passes"));
        }
        return Ok(Content::Opaque);
    };
    let resolved = collector.documents.resolve(schema.clone())?;
    if is_form || is_multipart {
        let fields = fields(collector, at, &resolved, is_multipart)?;
        let (schema, shape) = (collector.schema(&schema), Shape::text());
        return Ok(match is_form {
            true => Content::Form { schema, fields, shape, most: usize::MAX },
            false => Content::Multipart { schema, fields, shape, most: usize::MAX },
        });
    }
    if is_file(&resolved) {
        return Ok(Content::Opaque);
    }
    if range.is_text() && !range.is_xml() && resolved.text("type") == Some("string") {
        return Ok(Content::Text(collector.schema(&schema)));
    }
    if collector.reading.unvalidated.iter().any(|passes| passes.eq_ignore_ascii_case(text)) {
        return Ok(Content::Opaque);
    }
    collector.warn(at, format!("bodies of the type {text:?} cannot be judged: they are refused with 415"));
    Ok(Content::Unsupported)
}

/// Whether a schema is about bytes that nobody looks into.
fn is_file(at: &At<'_>) -> bool {
    let Some(schema) = at.value.as_object() else { return at.value == &Value::Bool(true) };
    let says = ["binary", "base64"].contains(&at.text("format").unwrap_or_default());
    let is_string = matches!(at.text("type"), Some("string" | "file"));
    let annotations = ["description", "title", "example", "contentMediaType", "contentEncoding", "deprecated"];
    let is_open = schema.keys().all(|key| annotations.contains(&key.as_str()) || key.starts_with("x-"));
    (is_string && says) || is_open || (is_string && schema.contains_key("contentMediaType"))
}

/// The members of a form or the parts of a multipart body that have a name.
fn fields<'d>(
    collector: &mut DocumentCollector<'d>,
    media: &At<'d>,
    schema: &At<'d>,
    is_multipart: bool,
) -> Result<Vec<FormField>, DocumentFault> {
    let mut fields: Vec<FormField> = Vec::new();
    let mut holders = vec![schema.clone()];
    for part in schema.get("allOf").into_iter().flat_map(|all| all.elements()) {
        holders.push(collector.documents.resolve(part)?);
    }
    for holder in holders {
        for (name, at) in holder.get("properties").into_iter().flat_map(|properties| properties.members()) {
            if fields.iter().any(|field| *field.parameter.name == *name) {
                continue;
            }
            let encoding = media.get("encoding").and_then(|encoding| encoding.get(name));
            fields.push(field(collector, name, at, encoding, is_multipart)?);
        }
    }
    Ok(fields)
}

fn field<'d>(
    collector: &mut DocumentCollector<'d>,
    name: &str,
    at: At<'d>,
    encoding: Option<At<'d>>,
    is_multipart: bool,
) -> Result<FormField, DocumentFault> {
    let at = collector.documents.resolve(at)?;
    let items = at.get("items").map(|items| collector.documents.resolve(items)).transpose()?;
    let is_object = |at: &At<'_>| at.text("type") == Some("object") || at.value.get("properties").is_some();
    let holds_objects = is_object(&at) || items.as_ref().is_some_and(is_object);
    let mut coding = if holds_objects && (is_multipart || collector.version > Version::V3_0) {
        Coding::Json
    } else {
        Coding::Styled { style: Style::Form, explode: true }
    };
    let (mut types, mut headers) = (Vec::new(), Vec::new());
    if let Some(encoding) = encoding {
        collector.fields(&encoding, "encoding")?;
        for (name, at) in encoding.get("headers").into_iter().flat_map(|headers| headers.members()) {
            if is_multipart {
                headers.extend(parameters::of_part(collector, at, name)?);
            } else {
                collector.warn(&at, "a field of a form has no headers: it is ignored");
            }
        }
        let declared = encoding.text("contentType").unwrap_or_default();
        for text in declared.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let range = MediaRange::read(text);
            types.push(range.ok_or_else(|| collector.fault(&encoding, format!("{text:?} is no media type")))?);
        }
        if types.iter().any(MediaRange::is_json) {
            coding = Coding::Json;
        }
        let explode = encoding.value.get("explode").and_then(Value::as_bool);
        if encoding.text("style").is_some() || explode.is_some() {
            let style = match encoding.text("style") {
                None | Some("form") => Style::Form,
                Some("spaceDelimited") => Style::SpaceDelimited,
                Some("pipeDelimited") => Style::PipeDelimited,
                Some("deepObject") => Style::DeepObject,
                Some(other) => return Err(collector.fault(&encoding, format!("there is no style {other:?} in a form"))),
            };
            coding = Coding::Styled { style, explode: explode.unwrap_or(style == Style::Form) };
        }
    }
    let is_file = is_multipart && (is_file(&at) || items.as_ref().is_some_and(is_file));
    let parameter = Parameter {
        name: name.into(),
        part: RequestPart::Body,
        coding,
        is_required: false,
        may_be_empty: false,
        schema: None,
        shape: Shape::text(),
    };
    Ok(FormField { parameter, types, headers, is_file, files: FileLimits::default() })
}

/// Tells each field, and each header of a part, what its schema is about.
pub(super) fn set_fields(fields: &mut [FormField], shape: &Shape, schemas: &SchemaSet) {
    for field in fields {
        for header in &mut field.headers {
            header.shape = header.schema.map_or_else(Shape::text, |schema| schemas.shape(schema));
        }
        if let Some(shape) = shape.member(&field.parameter.name) {
            field.parameter.shape = shape.clone();
        }
    }
}
