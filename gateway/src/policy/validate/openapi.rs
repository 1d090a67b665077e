//! OpenAPI 3.0, 3.1 and 3.2: the contract of an API, and whether a request keeps it.
//!
//! *Invariant:* pure. What a document uses and the gateway cannot judge is refused when it is compiled, by its place, or
//! refused of requests, with a warning. Nothing is fetched.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;

pub use self::{
    collector::DocumentReading,
    document::DocumentFault,
    named_files::file_faults,
    operation::NamedLimit,
    outline::Outline,
    reports::{LARGEST_RESPONSE, ResponseFault, ResponseSchema},
    security::{Demand, Gateway, Schemes, SecurityRule},
};
use self::{
    collector::{Example, Version},
    document::Documents,
    operation::{Condition, Operation, Template},
    paths::Paths,
    reported::ReportedViolations,
    responses::Responses,
};
use super::{
    body,
    parameter::Head,
    schema::{
        self,
        set::{OpenApi, SchemaSet},
    },
};
use crate::{
    os::file::NamedFile,
    refusal::{Refusal, Reject},
    settings::validate::Formats,
};

mod collector;
mod compile;
mod content;
mod document;
mod fields;
mod files;
pub mod lint;
mod named_files;
mod operation;
mod outline;
mod parameters;
pub(in crate::policy::validate) mod paths;
mod reported;
mod reports;
mod responses;
mod security;
mod servers;

#[cfg(test)]
mod tests;

/// The contract of one API.
pub struct Contract {
    path: PathBuf,
    schemas: SchemaSet,
    paths: Paths,
    templates: Vec<Template>,
    operations: Vec<Operation>,
    rules: Vec<SecurityRule>,
    schemes: Schemes,
    /// `None`: they are not looked at.
    responses: Option<Box<Responses>>,
    /// What requests broke that passed all the same.
    reported: ReportedViolations,
    warnings: Vec<DocumentFault>,
}

/// What of a document only its lint looks at.
struct LintMaterial<'d> {
    schemas: Vec<(usize, &'d Value)>,
    places: Vec<String>,
    examples: Vec<Example<'d>>,
    /// Those of responses.
    response_examples: Vec<Example<'d>>,
}

/// The operation of a request.
#[derive(Clone, Debug)]
pub struct MatchedOperation<'r> {
    /// Which one.
    pub operation: OperationId,
    /// The parameters of its path.
    values: Vec<(Box<str>, &'r str)>,
}

/// Which operation of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(usize);

impl OperationId {
    /// Its place among the operations of its contract.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Why no operation was found.
#[derive(Debug)]
pub enum NoOperation {
    /// There is no such path, or nothing of it meets the request.
    NotFound,
    /// The path has other methods, which `Allow` tells.
    Method(Option<HeaderValue>),
    /// What chooses between the operations of the path is there twice, or cannot be read.
    Unclear(Refusal),
}

/// How the body of a request is dealt with.
#[derive(Debug)]
pub enum BodyReading {
    /// Nothing of it is looked at.
    Pass,
    /// It is read whole, and judged by [`Contract::judge_body`].
    Whole,
}

impl Contract {
    /// What requests broke of it that passed all the same.
    #[must_use]
    pub const fn reported(&self) -> &ReportedViolations {
        &self.reported
    }

    /// Compiles a document, which may refer to `others` by their paths.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn new(
        file: &NamedFile,
        others: &[NamedFile],
        formats: Formats,
        reading: &DocumentReading<'_>,
    ) -> Result<Self, DocumentFault> {
        let documents = Documents::read(file, others)?;
        Self::compile(&file.path, &documents, formats, reading).map(|(contract, _)| contract)
    }

    fn compile<'d>(
        path: &Path,
        documents: &'d Documents,
        formats: Formats,
        reading: &'d DocumentReading<'d>,
    ) -> Result<(Self, LintMaterial<'d>), DocumentFault> {
        let read = compile::read(documents, reading)?;
        let version = read.version;
        for ((document, schema), place) in read.schemas.iter().zip(&read.places) {
            if let Some((below, meant)) = schema::set::misspelt(schema) {
                let message = format!("unknown keyword: did you mean {meant:?}?");
                return Err(documents.fault_at(*document, &format!("{place}{below}"), message));
            }
        }
        let openapi = OpenApi {
            is_3_0: version == Version::V3_0,
            refuses_read_only: !reading.allows_read_only,
            is_response: false,
        };
        let schemas = SchemaSet::compile_with_files(&documents.all, &read.schemas, &read.files, openapi, formats)
            .map_err(|fault| documents.fault_at(fault.document, &fault.place, fault.message))?;
        let mut operations = read.operations;
        compile::set_shapes(&mut operations, &schemas);
        let mut warnings = read.warnings;
        warnings.extend(named_files::misspelt_components(documents));
        let unknown = schemas.unknown_formats().iter();
        warnings.extend(unknown.map(|format| {
            documents.fault_at(0, "", format!("nobody checks the format {format:?}: spell it out by `pattern`"))
        }));
        warnings.extend(schemas.idle_nullable().map(|idle| {
            let others = others(idle.count);
            let message = format!("`nullable` without `type` beside it does not allow null: add the `type`{others}");
            documents.fault_at(idle.document, &idle.place, message)
        }));
        warnings.extend(doubtful(documents, &schemas, "readOnly"));
        let mut response_examples = Vec::new();
        let responses = read.responses.map(|wanted| {
            let openapi = OpenApi { refuses_read_only: true, is_response: true, ..openapi };
            let schemas = SchemaSet::compile(&documents.all, &wanted.schemas, openapi, formats).map_err(|fault| {
                let message = format!("no response is reported: {}", fault.message);
                warnings.push(documents.fault_at(fault.document, &fault.place, message));
            });
            response_examples = wanted.examples;
            let schemas = schemas.ok()?;
            warnings.extend(doubtful(documents, &schemas, "writeOnly"));
            Some(Box::new(Responses::new(schemas, wanted.operations)))
        });
        let contract = Self {
            responses: responses.flatten(),
            reported: ReportedViolations::default(),
            path: path.to_owned(),
            schemas,
            paths: read.paths,
            templates: read.templates,
            operations,
            rules: read.rules,
            schemes: read.schemes,
            warnings,
        };
        let (schemas, places, examples) = (read.schemas, read.places, read.examples);
        Ok((contract, LintMaterial { schemas, places, examples, response_examples }))
    }

    /// What is not checked, though it looks as if it were.
    #[must_use]
    pub fn warnings(&self) -> &[DocumentFault] {
        &self.warnings
    }

    /// What operations ask clients to prove.
    #[must_use]
    pub fn rules(&self) -> &[SecurityRule] {
        &self.rules
    }

    /// An operation whose path has a parameter of the style `matrix` that a request can have, if its route takes
    /// parameters in paths.
    #[must_use]
    pub fn matrix_operation(&self) -> Option<&str> {
        let has = |operation: &&Operation| {
            operation.parameters.matrix().any(|name| !paths::begins_segment(&operation.name, name))
        };
        self.operations.iter().find(has).map(|operation| &*operation.name)
    }

    /// The security schemes.
    #[must_use]
    pub const fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    /// Finds the operation of a request, by its canonical path.
    ///
    /// # Errors
    /// There is none.
    pub fn find<'r>(
        &self,
        method: &Method,
        path: &'r str,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<MatchedOperation<'r>, NoOperation> {
        let (template, values) = self.paths.find(path).ok_or(NoOperation::NotFound)?;
        let operations = self.templates.get(template).map_or(&[][..], |template| &template.operations);
        let of_method = || operations.iter().filter(|(known, _, _)| &**known == method.as_str());
        let head_of = |names: &[Box<str>]| -> Vec<(Box<str>, &'r str)> {
            names.iter().cloned().zip(values.iter().copied()).collect()
        };
        let mut chosen: Option<(usize, &[Box<str>])> = None;
        // Whether the chosen one fits, once there is another that might.
        let mut fits = None;
        for (_, number, names) in of_method() {
            let mut is_met = true;
            // Each condition of each operation is read: what is unclear is refused, whichever would be chosen.
            for condition in self.conditions(*number) {
                is_met &= condition.is_met(query, headers).map_err(NoOperation::Unclear)?;
            }
            if !is_met {
                continue;
            }
            let Some((first, first_names)) = chosen else {
                chosen = Some((*number, names));
                continue;
            };
            let has_same_conditions = self.conditions(first) == self.conditions(*number);
            let is_unfit = has_same_conditions
                && !*fits.get_or_insert_with(|| self.fits(first, &head_of(first_names), query, headers));
            if is_unfit && self.fits(*number, &head_of(names), query, headers) {
                chosen = Some((*number, names));
                fits = Some(true);
            }
        }
        if let Some((number, names)) = chosen {
            return Ok(MatchedOperation { operation: OperationId(number), values: head_of(names) });
        }
        if of_method().next().is_some() {
            return Err(NoOperation::NotFound);
        }
        let mut others: Vec<&str> = operations.iter().map(|(method, _, _)| &**method).collect();
        others.dedup();
        Err(NoOperation::Method(HeaderValue::try_from(others.join(", ")).ok()))
    }

    fn conditions(&self, number: usize) -> &[Condition] {
        self.operations.get(number).map_or(&[], |operation| &operation.conditions)
    }

    /// Whether a request keeps what an operation says of its parameters, and has a body of a type that it declares. By
    /// this, operations are told apart that nothing else tells apart; they ask for the same of clients.
    fn fits(&self, number: usize, values: &[(Box<str>, &str)], query: &str, headers: &HeaderMap) -> bool {
        let Some(operation) = self.operations.get(number) else { return false };
        let takes_body = match headers.get(header::CONTENT_TYPE) {
            Some(content_type) if operation.body.is_declared() => operation.body.reading(Some(content_type)).is_ok(),
            Some(_) => true,
            None => !operation.body.is_required,
        };
        takes_body && self.judge_parameters(operation, values, query, headers).is_ok()
    }

    fn judge_parameters(
        &self,
        operation: &Operation,
        values: &[(Box<str>, &str)],
        query: &str,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        if operation.parameters.is_empty() {
            return Ok(());
        }
        let path: Vec<(&str, &str)> = values.iter().map(|(name, value)| (&**name, *value)).collect();
        operation.parameters.judge(&self.schemas, Head { path: &path, query, headers })
    }

    /// The method and path of an operation, as the document has them.
    #[must_use]
    pub fn name(&self, operation: OperationId) -> &str {
        self.operations.get(operation.0).map_or("", |operation| &operation.name)
    }

    /// What the clients of an operation prove: an index into [`Self::rules`].
    #[must_use]
    pub fn rule(&self, operation: OperationId) -> usize {
        self.operations.get(operation.0).map_or(usize::MAX, |operation| operation.rule)
    }

    /// The limits that operations name, in the order of the operations.
    pub fn limits(&self) -> impl Iterator<Item = &[NamedLimit]> {
        self.operations.iter().map(|operation| &*operation.limits)
    }

    /// The headers that are judged, of any operation.
    pub fn judged_headers(&self) -> impl Iterator<Item = HeaderName> {
        self.operations.iter().flat_map(|operation| operation.parameters.headers())
    }

    /// Counts a request for an operation, if it is deprecated.
    pub fn note_call(&self, operation: OperationId) {
        if let Some(operation) = self.operations.get(operation.0).filter(|operation| operation.is_deprecated) {
            operation.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The deprecated operations that were asked for, and how often.
    pub fn deprecated_calls(&self) -> impl Iterator<Item = (&str, u64)> {
        let called = self.operations.iter().map(|it| (&*it.name, it.calls.load(Ordering::Relaxed)));
        called.filter(|(_, count)| *count > 0)
    }

    /// Judges the parameters of a request.
    ///
    /// # Errors
    /// [`Reject::InvalidParameter`] with all that is wrong.
    pub fn judge_head(&self, found: &MatchedOperation<'_>, query: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(operation) = self.operations.get(found.operation.0) else { return Err(gone()) };
        self.judge_parameters(operation, &found.values, query, headers)
    }

    /// What is to be done with the body of a request, by its head. `length`: how long it is, where that is known.
    ///
    /// # Errors
    /// It lacks a body that is required, or has one of a media type that is not declared.
    pub fn reading(
        &self,
        operation: OperationId,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Result<BodyReading, Refusal> {
        let Some(operation) = self.operations.get(operation.0) else { return Err(gone()) };
        if length == Some(0) {
            return operation.body.judge_none().map(|()| BodyReading::Pass);
        }
        // It may end before its first byte.
        if length.is_none() && !operation.body.is_declared() {
            return Ok(BodyReading::Whole);
        }
        let reading = operation.body.reading(headers.get(header::CONTENT_TYPE))?;
        let body::Reading::Read(content, _) = reading else { return Ok(BodyReading::Pass) };
        // An encoded body is of another length than what it stands for.
        let length = length.filter(|_| !headers.contains_key(header::CONTENT_ENCODING));
        content.judge_length(length).map_or(Ok(BodyReading::Whole), |judged| judged.map(|()| BodyReading::Pass))
    }

    /// Judges a whole body if that takes no longer than a worker may be held. `None`: it would; [`Self::judge_body`]
    /// does it elsewhere.
    #[must_use]
    pub fn judge_body_at_once(
        &self,
        operation: OperationId,
        content_type: Option<&HeaderValue>,
        body: &[u8],
    ) -> Option<Result<(), Refusal>> {
        if body.len() > schema::QUICK_BODY {
            return None;
        }
        match self.judge_within(operation, content_type, body, schema::QUICK) {
            Err(refusal) if refusal.reject == Reject::BodyTooComplex => None,
            judged => Some(judged),
        }
    }

    /// Judges a whole body. Takes up to [`schema::STACK`] bytes of stack.
    ///
    /// # Errors
    /// As [`schema::Schema::validate`].
    pub fn judge_body(
        &self,
        operation: OperationId,
        content_type: Option<&HeaderValue>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        self.judge_within(operation, content_type, body, schema::limits(body))
    }

    fn judge_within(
        &self,
        operation: OperationId,
        content_type: Option<&HeaderValue>,
        body: &[u8],
        limits: schema::WorkLimits,
    ) -> Result<(), Refusal> {
        let Some(operation) = self.operations.get(operation.0) else { return Err(gone()) };
        if body.is_empty() {
            return operation.body.judge_none();
        }
        match operation.body.reading(content_type)? {
            body::Reading::Pass => Ok(()),
            body::Reading::Read(content, media_type) => content.judge(&self.schemas, &media_type, body, limits),
        }
    }
}

/// How many other schemas have the same fault, of `count` in all.
fn others(count: usize) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        1 => " (1 other schema has the same)".to_owned(),
        others => format!(" ({others} other schemas have the same)"),
    }
}

/// Tells of schemas that require what is `keyword` by one alternative alone.
fn doubtful(documents: &Documents, schemas: &SchemaSet, keyword: &str) -> Option<DocumentFault> {
    let noted = schemas.doubtful_required()?;
    let others = others(noted.count);
    let message = format!(
        "`required` names a member that is `{keyword}` in some alternatives alone, or outside of this one: it stays \
         required{others}"
    );
    Some(documents.fault_at(noted.document, &noted.place, message))
}

/// Of what was not compiled, nothing passes.
fn gone() -> Refusal {
    Refusal::new(Reject::NotFound, "no such operation")
}

impl fmt::Debug for Contract {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Contract({:?})", self.path)
    }
}
