//! One operation of an API, compiled.

use std::{borrow::Cow, sync::atomic::AtomicU64};

use http::HeaderMap;

use crate::{
    policy::validate::{
        body::Body,
        parameter::{
            self, Parameters,
            decode::{ParameterError, decode},
            pairs,
        },
    },
    refusal::{
        Refusal,
        violation::{RequestPart, Violation},
    },
    web::header_values,
};

/// What would choose between operations, and is there more than once.
const TWICE: ParameterError = ParameterError::new("once", "must be there once");

/// What is served at one template of a path.
#[derive(Default)]
pub(super) struct Template {
    /// Where it is, without the names of its parameters: `/items/{}`.
    pub(super) path: Box<str>,
    /// Those with more conditions first.
    pub(super) operations: Vec<MethodOperation>,
}

/// Method, operation, and the names of the parameters of the path.
pub(super) type MethodOperation = (Box<str>, usize, Box<[Box<str>]>);

/// One operation.
pub(super) struct Operation {
    /// Its method and path, as the document has them.
    pub(super) name: Box<str>,
    pub(super) parameters: Parameters,
    pub(super) body: Body,
    /// What its clients prove: an index into the rules of the contract.
    pub(super) rule: usize,
    pub(super) conditions: Vec<Condition>,
    /// `x-gateway-limits`: what counts its requests besides, and where each is named.
    pub(super) limits: Box<[NamedLimit]>,
    pub(super) is_deprecated: bool,
    /// How often it was asked for, where it is deprecated.
    pub(super) calls: AtomicU64,
}

/// A limit that an operation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLimit {
    /// Its name.
    pub name: Box<str>,
    /// Where it stands.
    pub place: String,
}

/// What tells an operation from others of the same path and method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) part: RequestPart,
    pub(super) name: Box<str>,
    pub(super) value: Option<Box<str>>,
}

impl Condition {
    /// Whether a request meets it.
    ///
    /// # Errors
    /// The upstream could read the request in another way: what is asked for is there twice, or cannot be decoded.
    pub(super) fn is_met(&self, query: &str, headers: &HeaderMap) -> Result<bool, Refusal> {
        let found = match self.part {
            RequestPart::Header => self.in_headers(headers),
            _ => self.in_query(query),
        };
        let found = found.map_err(|fault| {
            parameter::refusal(vec![Violation::new(self.part, &self.name, fault.rule, fault.expected)])
        })?;
        Ok(found.is_some_and(|text| self.value.as_deref().is_none_or(|wanted| wanted == text)))
    }

    fn in_headers<'r>(&self, headers: &'r HeaderMap) -> Result<Option<Cow<'r, str>>, ParameterError> {
        if header_values::is_nominated(headers, &self.name) {
            return Err(parameter::NOMINATED);
        }
        let mut lines = headers.get_all(&*self.name).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(TWICE);
        }
        let text = line.to_str().map_err(|_other| ParameterError::new("encoding", "must be ASCII"))?;
        Ok(Some(Cow::Borrowed(text)))
    }

    fn in_query<'r>(&self, query: &'r str) -> Result<Option<Cow<'r, str>>, ParameterError> {
        let pairs = pairs::of_query(query)?;
        let mut found = pairs.iter().filter(|pair| *pair.name == *self.name);
        let Some(pair) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(TWICE);
        }
        decode(pair.text, pair.is_form).map(|text| Some(Cow::Owned(text)))
    }
}
