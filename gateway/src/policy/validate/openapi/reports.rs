//! Holds responses against a document: what breaks it is counted, and told now and then.

use std::sync::atomic::Ordering;

use http::{HeaderMap, StatusCode, header};

use super::{Contract, OperationId, responses::Status};
use crate::{
    json::document::JsonDocument,
    policy::validate::{
        body::media::MediaType,
        parameter::Head,
        schema::{
            self,
            set::{SchemaId, Unfit},
        },
    },
    refusal::violation::RequestPart,
};

/// The largest body that is judged, in bytes.
pub const LARGEST_RESPONSE: usize = 64 * 1024;

/// The most bodies of one API that are copied at once.
const MOST_COPIES: u32 = 256;

/// How long nothing more is said of an operation, in seconds.
const QUIET: u64 = 60;

/// The longest place that is told, in bytes.
const LONGEST_PLACE: usize = 128;

/// What a response breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseFault {
    /// The rule.
    pub rule: &'static str,
    /// Where: no value.
    pub place: String,
}

/// A schema that the body of a response must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseSchema(SchemaId);

impl Contract {
    /// Whether responses are looked at.
    #[must_use]
    pub const fn judges_responses(&self) -> bool {
        self.responses.is_some()
    }

    /// Judges the head of a response; the schema of its body, where it has one that is judged.
    ///
    /// # Errors
    /// What it breaks.
    pub fn judge_response(
        &self,
        operation: OperationId,
        status: StatusCode,
        headers: &HeaderMap,
        has_body: bool,
    ) -> Result<Option<ResponseSchema>, ResponseFault> {
        let declared = self.responses.as_ref().and_then(|all| Some((all, all.operations.get(operation.0)?)));
        let Some((responses, declared)) = declared else { return Ok(None) };
        // 304 says that another response is still good. A document without responses says nothing of them.
        if status.is_informational() || status == StatusCode::NOT_MODIFIED || declared.all.is_empty() {
            return Ok(None);
        }
        if declared.is_shared {
            self.note_unjudged();
            return Ok(None);
        }
        let code = status.as_u16();
        let is_it = |of: Status| match of {
            Status::Code(of) => of == code,
            Status::Class(of) => of == code / 100,
            Status::Default => true,
        };
        let fault = |rule, place: String| Err(ResponseFault { rule, place });
        let Some((_, response)) = declared.all.iter().find(|(of, _)| is_it(*of)) else {
            return fault("status", format!("status {code} is not declared"));
        };
        if let Err(refusal) = response.headers.judge(&responses.schemas, Head { path: &[], query: "", headers }) {
            let first = refusal.violations.first();
            return match first {
                Some(first) => fault(first.rule, format!("header {}", first.name)),
                None => fault("header", "a header".to_owned()),
            };
        }
        if !has_body {
            return Ok(None);
        }
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = text.and_then(|text| MediaType::read(text).ok());
        let found = media_type.and_then(|it| response.contents.iter().find(|(range, _)| range.has(&it)));
        match found {
            Some((_, schema)) => Ok(schema.map(ResponseSchema)),
            None => fault("content_type", format!("the Content-Type of status {code} is not declared")),
        }
    }

    /// Judges a whole body of at most [`LARGEST_RESPONSE`] bytes, as far as a worker may be held.
    ///
    /// # Errors
    /// What it breaks.
    pub fn judge_response_body(&self, schema: ResponseSchema, body: &[u8]) -> Result<(), ResponseFault> {
        let Some(responses) = &self.responses else { return Ok(()) };
        let Ok(document) = JsonDocument::parse(body) else {
            return Err(ResponseFault { rule: "json", place: "body".to_owned() });
        };
        match responses.schemas.judge(schema.0, &document, schema::QUICK, (RequestPart::Body, "")) {
            Ok(()) => Ok(()),
            Err(Unfit::TooComplex) => {
                self.note_unjudged();
                Ok(())
            }
            Err(Unfit::Invalid(violations)) => Err(violations.first().map_or_else(
                || ResponseFault { rule: "body", place: "body".to_owned() },
                |first| {
                    let mut place = format!("body {}", first.pointer);
                    place.truncate(place.floor_char_boundary(LONGEST_PLACE));
                    ResponseFault { rule: first.rule, place: place.trim_end().to_owned() }
                },
            )),
        }
    }

    /// Counts a response that breaks the document; whether it is to be told. `now`: seconds since the machine began.
    pub fn note_response(&self, operation: OperationId, now: u64) -> bool {
        let Some(declared) = self.responses.as_ref().and_then(|all| all.operations.get(operation.0)) else {
            return false;
        };
        declared.violations.fetch_add(1, Ordering::Relaxed);
        let told = declared.told.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= QUIET;
        is_due && declared.told.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts a response whose body is not judged.
    pub fn note_unjudged(&self) {
        if let Some(responses) = &self.responses {
            responses.not_judged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether one more body may be copied. [`Self::end_copy`] is owed for each.
    #[must_use]
    pub fn begin_copy(&self) -> bool {
        let Some(responses) = &self.responses else { return false };
        let add = |copies: u32| (copies < MOST_COPIES).then_some(copies + 1);
        responses.copies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// A copy is gone.
    pub fn end_copy(&self) {
        if let Some(responses) = &self.responses {
            responses.copies.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many responses of which operations broke the document.
    pub fn response_violations(&self) -> impl Iterator<Item = (&str, u64)> {
        let declared = self.responses.iter().flat_map(|responses| &responses.operations);
        let all = self.operations.iter().zip(declared);
        let all = all.map(|(operation, declared)| (&*operation.name, declared.violations.load(Ordering::Relaxed)));
        all.filter(|(_, count)| *count > 0)
    }

    /// How many bodies of responses were not judged.
    #[must_use]
    pub fn unjudged_responses(&self) -> u64 {
        self.responses.as_ref().map_or(0, |responses| responses.not_judged.load(Ordering::Relaxed))
    }
}
