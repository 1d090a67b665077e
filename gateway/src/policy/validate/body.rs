//! The body of a request, by its media type: JSON, forms, multipart and text are read and judged, others pass or not.
//!
//! *Invariant:* what is not declared is refused, and what is declared and cannot be judged is refused, too, unless the
//! configuration lets it pass.

use http::HeaderValue;

use self::{
    field::{FileLimits, FormField},
    media::{MediaRange, MediaType},
};
use super::{
    parameter::{self, Coding, Style, ValueError, decode::ParameterError, is_deep, pairs, style},
    schema::{
        WorkLimits,
        set::{SchemaId, SchemaSet, Shape, Unfit},
    },
};
use crate::{
    json::document::JsonDocument,
    refusal::{
        Refusal, Reject,
        violation::{RequestPart, Violation, detail},
    },
};

pub(super) mod field;
pub(super) mod file_lengths;
pub(super) mod file_type;
pub(super) mod media;
pub(super) mod multipart;

/// What each JSON text of a sequence begins with (RFC 7464). In a JSON text it is never written as it is.
const RECORD_SEPARATOR: u8 = 0x1e;

/// What the bodies of an operation must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub(super) is_required: bool,
    /// The most exact range first.
    pub(super) contents: Vec<(MediaRange, Content)>,
}

/// What a body of one media type must be.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nobody looks into it, and it must not be larger or smaller than this.
    File(FileLimits),
    /// `application/x-www-form-urlencoded`.
    Form {
        schema: SchemaId,
        fields: Vec<FormField>,
        shape: Shape,
        /// How many fields it may have.
        most: usize,
    },
    Json(Option<SchemaId>),
    /// One JSON text a line.
    JsonLines(SchemaId),
    /// JSON texts, each behind a record separator (RFC 7464).
    JsonSequence(SchemaId),
    /// `multipart/form-data`.
    Multipart {
        schema: SchemaId,
        fields: Vec<FormField>,
        shape: Shape,
        /// How many fields it may have.
        most: usize,
    },
    /// Whatever it is.
    Opaque,
    Text(SchemaId),
    /// Nobody can judge it.
    Unsupported,
}

/// How a body is dealt with, by its head alone.
pub(super) enum Reading<'a> {
    /// Nothing of it is looked at.
    Pass,
    Read(&'a Content, MediaType),
}

impl Body {
    /// Whether there can be one.
    pub(super) fn is_declared(&self) -> bool {
        !self.contents.is_empty()
    }

    /// What is to be done with a body, by its `Content-Type`.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`].
    pub(super) fn reading(&self, content_type: Option<&HeaderValue>) -> Result<Reading<'_>, Refusal> {
        let unsupported = |why| Refusal::new(Reject::UnsupportedMediaType, why);
        if !self.is_declared() {
            return Err(unsupported("the operation takes no body"));
        }
        let media_type = MediaType::of(content_type)?;
        let content = self.contents.iter().find(|(range, _)| range.has(&media_type)).map(|(_, content)| content);
        match content {
            None => Err(unsupported("Content-Type is not declared")),
            Some(Content::Unsupported) => Err(unsupported("the gateway cannot judge this Content-Type")),
            Some(Content::Opaque) => Ok(Reading::Pass),
            Some(content) if matches!(content, Content::File(_)) => Ok(Reading::Read(content, media_type)),
            Some(_) if !media_type.is_utf_8() => Err(unsupported("charset is not UTF-8")),
            Some(content) => Ok(Reading::Read(content, media_type)),
        }
    }

    /// What a request without a body breaks.
    pub(super) fn judge_none(&self) -> Result<(), Refusal> {
        if !self.is_required {
            return Ok(());
        }
        Err(invalid(vec![Violation::new(RequestPart::Body, "", "required", "must be there")]))
    }
}

impl Content {
    /// Judges a body of a known length without reading it. `None`: it has to be read.
    pub(super) fn judge_length(&self, length: Option<u64>) -> Option<Result<(), Refusal>> {
        let (Self::File(limits), Some(length)) = (self, length) else { return None };
        Some(limits.lengths.judge(length).map_err(wrong_length))
    }

    /// Judges a whole body.
    ///
    /// # Errors
    /// [`Reject::BadRequest`] where it cannot be read, [`Reject::InvalidBody`], [`Reject::BodyTooComplex`].
    pub(super) fn judge(
        &self,
        schemas: &SchemaSet,
        media_type: &MediaType,
        body: &[u8],
        limits: WorkLimits,
    ) -> Result<(), Refusal> {
        let judged = match self {
            Self::Opaque => return Ok(()),
            Self::Unsupported => return Err(Refusal::new(Reject::UnsupportedMediaType, "cannot be judged")),
            Self::File(files) => {
                let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
                return files.lengths.judge(length).map_err(wrong_length);
            }
            Self::Json(schema) => return judge_json(schemas, *schema, body, &mut { limits }),
            Self::JsonLines(schema) => return judge_texts(schemas, *schema, body, b'\n', limits),
            Self::JsonSequence(schema) => {
                let texts = body.strip_prefix(&[RECORD_SEPARATOR]).ok_or_else(|| {
                    Refusal::new(Reject::BadRequest, "body: a JSON text of a sequence must begin with 0x1E (RFC 7464)")
                })?;
                return judge_texts(schemas, *schema, texts, RECORD_SEPARATOR, limits);
            }
            Self::Text(schema) => {
                let texts = style::Texts::One(utf_8(body)?.to_owned());
                parameter::judge(schemas, Some(*schema), &Shape::text(), &texts, (RequestPart::Body, ""), limits)
            }
            Self::Form { schema, fields, shape, most } => {
                let text = utf_8(body)?;
                let pairs = pairs::of_query(text).map_err(bad)?;
                at_most(*most, pairs.len())?;
                let read = members_of(fields, &pairs, shape);
                read.and_then(|texts| {
                    parameter::judge(schemas, Some(*schema), shape, &texts, (RequestPart::Body, ""), limits)
                })
            }
            Self::Multipart { schema, fields, shape, most } => {
                let parts = multipart::read(body, media_type).map_err(bad)?;
                at_most(*most, parts.len())?;
                let read = multipart::members_of(fields, schemas, parts, shape);
                read.and_then(|texts| {
                    parameter::judge(schemas, Some(*schema), shape, &texts, (RequestPart::Body, ""), limits)
                })
            }
        };
        judged.map_err(|wrong| match wrong {
            ValueError::Charset => Refusal::new(Reject::UnsupportedMediaType, "charset of a part is not UTF-8"),
            ValueError::TooComplex => too_complex(),
            ValueError::Fault(fault) => {
                invalid(vec![Violation::new(RequestPart::Body, "", fault.rule, fault.expected)])
            }
            ValueError::Violations(violations) => invalid(violations.into_vec()),
        })
    }
}

/// Judges one JSON text, and takes its work from the limits.
fn judge_json(
    schemas: &SchemaSet,
    schema: Option<SchemaId>,
    body: &[u8],
    limits: &mut WorkLimits,
) -> Result<(), Refusal> {
    let document =
        JsonDocument::parse(body).map_err(|error| Refusal::new(Reject::BadRequest, format!("body: {error}")))?;
    let Some(schema) = schema else { return Ok(()) };
    schemas.judge_within(schema, &document, limits, (RequestPart::Body, "")).map_err(|unfit| match unfit {
        Unfit::Invalid(violations) => invalid(violations.into_vec()),
        Unfit::TooComplex => too_complex(),
    })
}

/// Judges JSON texts with a separator between them. All together get what the body is worth.
fn judge_texts(
    schemas: &SchemaSet,
    schema: SchemaId,
    body: &[u8],
    separator: u8,
    mut limits: WorkLimits,
) -> Result<(), Refusal> {
    let texts = body.split(|byte| *byte == separator).map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
    for text in texts {
        judge_json(schemas, Some(schema), text, &mut limits)?;
    }
    Ok(())
}

fn wrong_length((rule, expected): (&'static str, &'static str)) -> Refusal {
    invalid(vec![Violation::new(RequestPart::Body, "", rule, expected)])
}

fn too_complex() -> Refusal {
    Refusal::new(Reject::BodyTooComplex, "body: more work than its size is worth")
}

fn utf_8(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|_other| Refusal::new(Reject::BadRequest, "body: not UTF-8"))
}

fn bad(fault: ParameterError) -> Refusal {
    Refusal::new(Reject::BadRequest, format!("body: {}: {}", fault.rule, fault.expected))
}

/// Refuses a form with too many fields.
fn at_most(most: usize, count: usize) -> Result<(), Refusal> {
    if count <= most {
        return Ok(());
    }
    Err(invalid(vec![Violation::new(RequestPart::Body, "", "maxFields", format!("must have at most {most} fields"))]))
}

/// The refusal of a body for what it breaks.
fn invalid(violations: Vec<Violation>) -> Refusal {
    let refusal = Refusal::new(Reject::InvalidBody, detail(&violations));
    Refusal { violations: violations.into(), ..refusal }
}

/// The object that a form stands for: its fields by their own styles, what is left by its shape.
fn members_of(fields: &[FormField], pairs: &[pairs::Pair<'_>], shape: &Shape) -> Result<style::Texts, ValueError> {
    let is_own = |name: &str| fields.iter().any(|field| *field.parameter.name == *name);
    let mut members = Vec::new();
    for FormField { parameter, .. } in fields {
        let at = |fault: ParameterError| {
            let violation = Violation::new(RequestPart::Body, "", fault.rule, fault.expected);
            ValueError::Violations([violation.at(&format!("/{}", parameter.name))].into())
        };
        if let Some(texts) = style::of_pairs(parameter, pairs, &is_own).map_err(at)? {
            members.push((parameter.name.to_string(), texts));
        }
    }
    let is_taken = |name: &str| {
        let of_object = |field: &FormField| {
            let has_members = matches!(field.parameter.coding, Coding::Styled { style: Style::DeepObject, .. });
            has_members && is_deep(&field.parameter.name, name)
        };
        is_own(name) || fields.iter().any(of_object)
    };
    let others: Vec<pairs::Pair<'_>> = pairs.iter().filter(|pair| !is_taken(&pair.name)).cloned().collect();
    if let style::Texts::Members(others) = style::object_of_pairs(&others, shape)? {
        members.extend(others);
    }
    Ok(style::Texts::Members(members))
}
