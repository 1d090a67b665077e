//! Parameters of a request: in the path, the query, headers and cookies. Each is read by its style and judged by its
//! schema.
//!
//! *Invariant:* pure, and bounded by the size of the request's head: nothing of a body is looked at, and schemas judge
//! within steps.

use http::{HeaderMap, HeaderName};

pub(super) use self::definition::{Coding, Parameter, Style, is_deep};
use self::{
    decode::{ParameterError, decode},
    style::Texts,
};
use super::schema::set::{SchemaId, SchemaSet, Shape, Unfit};
use crate::{
    json::document::JsonDocument,
    policy::validate::schema::WorkLimits,
    refusal::{
        Refusal, Reject,
        violation::{MOST_VIOLATIONS, RequestPart, Violation, detail},
    },
    web::header_values,
};

pub(super) mod decode;
mod definition;
pub(super) mod pairs;
pub(super) mod style;
mod unknown;
pub(super) mod value;

#[cfg(test)]
mod tests;

/// How much work one parameter is worth.
pub(super) const LIMITS: WorkLimits = WorkLimits { steps: 200_000, depth: 128 };

/// A header that is removed after it was judged.
pub(super) const NOMINATED: ParameterError = ParameterError::new("connection", "must not be named by Connection");

/// What the parameters of a request must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub(super) all: Vec<Parameter>,
    /// Whether the query may have nothing else.
    pub(super) refuses_unknown: bool,
    /// Whether there may be no other headers than the usual ones and these; `None`: there may be.
    pub(super) known_headers: Option<Vec<HeaderName>>,
    /// Whether there may be no other cookies than these; `None`: there may be.
    pub(super) known_cookies: Option<Vec<Box<str>>>,
    /// Names in the query that are known all the same: credentials.
    pub(super) also_known: Vec<Box<str>>,
    /// The schema of the query as a whole (OpenAPI 3.2).
    pub(super) query: Option<(Coding, SchemaId, Shape)>,
    pub(super) requires_query: bool,
}

/// What of a request has parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// Those of the path, as they came.
    pub(super) path: &'a [(&'a str, &'a str)],
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Parameters {
    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        let allows_unknown = !self.refuses_unknown && self.known_headers.is_none() && self.known_cookies.is_none();
        self.all.is_empty() && allows_unknown && self.query.is_none()
    }

    /// The names of those of the path that have the style `matrix`.
    pub(super) fn matrix(&self) -> impl Iterator<Item = &str> {
        let is_matrix = |it: &&Parameter| matches!(it.coding, Coding::Styled { style: Style::Matrix, .. });
        self.all.iter().filter(is_matrix).map(|it| &*it.name)
    }

    /// Judges the parameters of a request.
    ///
    /// # Errors
    /// [`Reject::InvalidParameter`] with all that is wrong.
    pub(super) fn judge(&self, schemas: &SchemaSet, head: Head<'_>) -> Result<(), Refusal> {
        let mut violations = Vec::new();
        let query = match pairs::of_query(head.query) {
            Ok(query) => query,
            Err(fault) => {
                return Err(refusal(vec![Violation::new(RequestPart::Query, "", fault.rule, fault.expected)]));
            }
        };
        let reads_cookies = self.known_cookies.is_some() || self.all.iter().any(|it| it.part == RequestPart::Cookie);
        let cookies = if reads_cookies { pairs::of_cookies(head.headers) } else { Ok(Vec::new()) };
        let cookies = match cookies {
            Ok(cookies) => cookies,
            Err(fault) => {
                return Err(refusal(vec![Violation::new(RequestPart::Cookie, "", fault.rule, fault.expected)]));
            }
        };
        for parameter in &self.all {
            if violations.len() >= MOST_VIOLATIONS {
                break;
            }
            if parameter.part == RequestPart::Header && header_values::is_nominated(head.headers, &parameter.name) {
                let fault = NOMINATED;
                violations.push(Violation::new(RequestPart::Header, &parameter.name, fault.rule, fault.expected));
                continue;
            }
            judge_one(parameter, schemas, head, (&query, &cookies), self, &mut violations);
        }
        self.judge_query(schemas, head.query, &query, &mut violations);
        self.judge_unknown(&query, &cookies, head.headers, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(refusal(violations)) }
    }

    /// The query as a whole.
    fn judge_query(&self, schemas: &SchemaSet, text: &str, query: &[pairs::Pair<'_>], violations: &mut Vec<Violation>) {
        let Some((coding, schema, shape)) = &self.query else { return };
        if text.is_empty() {
            if self.requires_query {
                violations.push(Violation::new(RequestPart::Query, "", "required", "must be there"));
            }
            return;
        }
        let read = match coding {
            Coding::Json => decode(text, false).map(Texts::Json),
            Coding::Styled { .. } => style::object_of_pairs(query, shape),
        };
        let judged = read
            .map_err(ValueError::from)
            .and_then(|texts| judge(schemas, Some(*schema), shape, &texts, (RequestPart::Query, ""), LIMITS));
        add(judged, (RequestPart::Query, ""), violations);
    }

    /// Whether a name in the query is a parameter of its own.
    fn is_own(&self, name: &str) -> bool {
        let of_query = |it: &&Parameter| it.part == RequestPart::Query && !it.is_spread();
        self.all.iter().filter(of_query).any(|it| *it.name == *name) || self.also_known.iter().any(|it| **it == *name)
    }
}

/// Judges one parameter.
fn judge_one(
    parameter: &Parameter,
    schemas: &SchemaSet,
    head: Head<'_>,
    (query, cookies): (&[pairs::Pair<'_>], &[pairs::Pair<'_>]),
    all: &Parameters,
    violations: &mut Vec<Violation>,
) {
    let read = match parameter.part {
        RequestPart::Path => match head.path.iter().find(|(name, _)| **name == *parameter.name) {
            Some((_, text)) => style::of_path(parameter, text).map(Some),
            None => Ok(None),
        },
        RequestPart::Header => style::of_header(parameter, head.headers),
        RequestPart::Cookie => style::of_pairs(parameter, cookies, &|_| false),
        RequestPart::Query | RequestPart::Body => style::of_pairs(parameter, query, &|name| all.is_own(name)),
    };
    let place = (parameter.part, &*parameter.name);
    let judged = match read {
        Ok(None) if parameter.is_required => Err(ParameterError::new("required", "must be there").into()),
        Ok(None) => Ok(()),
        Ok(Some(texts)) if parameter.may_be_empty && texts.is_empty() => Ok(()),
        Ok(Some(texts)) => judge(schemas, parameter.schema, &parameter.shape, &texts, place, LIMITS),
        Err(fault) => Err(fault.into()),
    };
    add(judged, place, violations);
}

/// Why a value is refused.
pub(super) enum ValueError {
    /// A part is written in a charset that is not read.
    Charset,
    Fault(ParameterError),
    /// Finding out takes too long.
    TooComplex,
    Violations(Box<[Violation]>),
}

impl From<ParameterError> for ValueError {
    fn from(fault: ParameterError) -> Self {
        Self::Fault(fault)
    }
}

fn add(judged: Result<(), ValueError>, (part, name): (RequestPart, &str), violations: &mut Vec<Violation>) {
    match judged {
        Ok(()) => {}
        Err(ValueError::Charset) => violations.push(Violation::new(part, name, "charset", "must be UTF-8")),
        Err(ValueError::TooComplex) => violations.push(Violation::new(part, name, "work", "must be simpler")),
        Err(ValueError::Fault(fault)) => violations.push(Violation::new(part, name, fault.rule, fault.expected)),
        Err(ValueError::Violations(found)) => violations.extend(found),
    }
    violations.truncate(MOST_VIOLATIONS);
}

/// Judges what was read of a parameter.
pub(super) fn judge(
    schemas: &SchemaSet,
    schema: Option<SchemaId>,
    shape: &Shape,
    texts: &Texts,
    place: (RequestPart, &str),
    limits: WorkLimits,
) -> Result<(), ValueError> {
    let Some(schema) = schema else { return Ok(()) };
    let mut wrong = None;
    // A text that may be a string and something else is tried as both.
    for text in value::candidates(texts, shape) {
        let document = JsonDocument::parse(&text)
            .map_err(|_error| ParameterError::new("json", "must be JSON, and each member once"))?;
        match schemas.judge(schema, &document, limits, place) {
            Ok(()) => return Ok(()),
            Err(Unfit::TooComplex) => return Err(ValueError::TooComplex),
            Err(Unfit::Invalid(violations)) => wrong = wrong.or(Some(violations)),
        }
    }
    Err(ValueError::Violations(wrong.unwrap_or_default()))
}

/// The refusal of a request for what its parameters break.
pub(super) fn refusal(violations: Vec<Violation>) -> Refusal {
    let refusal = Refusal::new(Reject::InvalidParameter, detail(&violations));
    Refusal { violations: violations.into(), ..refusal }
}
