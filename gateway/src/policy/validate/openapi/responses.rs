//! What responses of operations are, as a document says. What breaks it is reported, and passes.
//!
//! *Invariant:* nothing of a document's responses keeps it from being used: what cannot be judged of them is a warning.

use std::sync::atomic::{AtomicU32, AtomicU64};

use http::header;
use serde_json::Value;

use super::{
    collector::{DocumentCollector, Example},
    content::{self, Ambiguous},
    document::{At, DocumentFault},
};
use crate::{
    policy::validate::{
        body::media::MediaRange,
        parameter::{Coding, Parameter, Parameters, Style},
        schema::set::{SchemaId, SchemaSet, Shape},
    },
    refusal::violation::RequestPart,
    text::digits::decimal,
};

/// The responses of all operations, in their order.
pub(super) struct Responses {
    pub(super) schemas: SchemaSet,
    pub(super) operations: Vec<Declared>,
    pub(super) copies: AtomicU32,
    pub(super) not_judged: AtomicU64,
}

/// The responses of one operation.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) all: Vec<(Status, Response)>,
    /// Whether a request may also have asked for another operation, which has other responses: none is judged.
    pub(super) is_shared: bool,
    pub(super) violations: AtomicU64,
    /// When it was told of last, in seconds since the machine began; 0: never.
    pub(super) told: AtomicU64,
}

/// Which responses, the most exact first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Code(u16),
    /// `4XX`.
    Class(u16),
    Default,
}

/// One response.
#[derive(Default)]
pub(super) struct Response {
    pub(super) headers: Parameters,
    /// `None`: any body of this type.
    pub(super) contents: Vec<(MediaRange, Option<SchemaId>)>,
}

/// Reads the responses of an operation.
pub(super) fn read<'d>(collector: &mut DocumentCollector<'d>, operation: &At<'d>) -> Declared {
    let mut all = Vec::new();
    for (code, at) in operation.get("responses").into_iter().flat_map(|responses| responses.members()) {
        let Some(status) = status(code) else {
            if !code.starts_with("x-") {
                collector.warn(&at, "no status of a response: it is not reported by");
            }
            continue;
        };
        match response(collector, at) {
            Ok(response) => all.push((status, response)),
            Err(fault) => collector.warnings.push(fault),
        }
    }
    if all.is_empty() {
        collector.warn(operation, "declares no response: none is reported");
    }
    all.sort_by_key(|(status, _)| *status);
    Declared { all, ..Declared::default() }
}

fn status(text: &str) -> Option<Status> {
    let class = text.strip_suffix("XX").or_else(|| text.strip_suffix("xx"));
    match (text, class.and_then(decimal)) {
        ("default", _) => Some(Status::Default),
        (_, Some(class @ 1..=5)) => Some(Status::Class(class)),
        _ => decimal(text).filter(|code| (100..600).contains(code)).map(Status::Code),
    }
}

fn response<'d>(collector: &mut DocumentCollector<'d>, at: At<'d>) -> Result<Response, DocumentFault> {
    let at = collector.documents.resolve(at)?;
    let mut response = Response::default();
    for (name, at) in at.get("headers").into_iter().flat_map(|headers| headers.members()) {
        let at = collector.documents.resolve(at)?;
        let schema = at.get("schema").map(|schema| collector.schema(&schema));
        // What has `content` is only looked for.
        let parameter = Parameter {
            name: name.into(),
            part: RequestPart::Header,
            coding: Coding::Styled { style: Style::Simple, explode: at.is_true("explode") },
            is_required: at.is_true("required"),
            may_be_empty: false,
            schema,
            shape: Shape::text(),
        };
        if parameter.header().is_some_and(|name| name != header::CONTENT_TYPE) {
            response.headers.all.push(parameter);
        }
    }
    let mut found = Vec::new();
    for (range, media) in at.get("content").into_iter().flat_map(|content| content.members()) {
        let media = collector.documents.resolve(media)?;
        let Some(range) = MediaRange::read_key(range) else {
            return Err(collector.fault(&media, format!("{range:?} is no media type")));
        };
        found.push((range, media));
    }
    let keys: Vec<(&MediaRange, &Value)> = found.iter().map(|(range, media)| (range, media.value)).collect();
    let ranges = content::ranges(&keys);
    let unclear = ranges.as_ref().err().and_then(|Ambiguous(index)| found.get(*index));
    if let Some((_, media)) = unclear {
        collector.warn(media, format!("{}: no body of this status is judged", content::AMBIGUOUS));
        response.contents = found.iter().map(|(range, _)| (range.without_parameters(), None)).collect();
        return Ok(response);
    }
    for (range, (_, media)) in ranges.unwrap_or_default().into_iter().zip(&found) {
        let Some(range) = range else { continue };
        let schema = media.get("schema").filter(|_| range.is_json()).map(|schema| {
            collector.examples(media, &schema);
            collector.schema(&schema)
        });
        response.contents.push((range, schema));
    }
    response.contents.sort_by_key(|(range, _)| range.openness());
    Ok(response)
}

impl Responses {
    /// Tells headers what their schemas are about.
    pub(super) fn new(schemas: SchemaSet, mut operations: Vec<Declared>) -> Self {
        let responses = operations.iter_mut().flat_map(|declared| &mut declared.all);
        for parameter in responses.flat_map(|(_, response)| &mut response.headers.all) {
            if let Some(schema) = parameter.schema {
                parameter.shape = schemas.shape(schema);
            }
        }
        Self { schemas, operations, copies: AtomicU32::new(0), not_judged: AtomicU64::new(0) }
    }
}

/// The responses of all operations, before their schemas are compiled.
pub(super) struct Wanted<'d> {
    pub(super) operations: Vec<Declared>,
    pub(super) schemas: Vec<(usize, &'d Value)>,
    pub(super) examples: Vec<Example<'d>>,
}
