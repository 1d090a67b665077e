//! What a document lets through that it probably should not, and which of its own examples break it.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Contract, DocumentReading, SecurityRule,
    document::{At, DocumentFault, Documents},
    operation::Operation,
};
use crate::{
    json::document::JsonDocument,
    os::file::NamedFile,
    policy::validate::schema::{self, set::Unfit},
    refusal::violation::{RequestPart, detail},
    settings::validate::Formats,
};

/// The most holes that are told.
const MOST_HOLES: usize = 500;

/// What was found in a document.
pub struct Lint {
    /// The contract.
    pub contract: Contract,
    /// What is open: texts and arrays of any length, members that nobody declared, operations without security.
    pub holes: Vec<DocumentFault>,
    /// How many examples were judged.
    pub examples: usize,
    /// Those that break the contract.
    pub broken: Vec<DocumentFault>,
}

/// One operation, for people.
pub struct ListedOperation<'c> {
    /// Its method and path, as the document has them.
    pub name: &'c str,
    /// Its parameters: where, name, and whether they are required.
    pub parameters: Vec<(&'static str, &'c str, bool)>,
    /// How many media types its body may have, and whether there must be one.
    pub body: Option<(usize, bool)>,
    /// Whether anybody may have it.
    pub is_public: bool,
    /// Whether the document says nothing of who may have it.
    pub is_undeclared: bool,
    /// Whether it is about to go.
    pub is_deprecated: bool,
}

/// Reads a document as a proxy does, and looks for holes.
///
/// # Errors
/// As [`Contract::new`].
pub fn lint(
    file: &NamedFile,
    others: &[NamedFile],
    formats: Formats,
    reading: &DocumentReading<'_>,
) -> Result<Lint, DocumentFault> {
    let documents = Documents::read(file, others)?;
    let (contract, read) = Contract::compile(&file.path, &documents, formats, reading)?;
    let mut holes = Vec::new();
    for operation in &contract.operations {
        let rule = contract.rules.get(operation.rule);
        if rule.is_some_and(SecurityRule::is_undeclared) {
            let message = format!("{}: no security: nobody has access by require = [\"openapi\"]", operation.name);
            let place = rule.map_or_else(String::new, |rule| rule.place.clone());
            holes.push(DocumentFault { message, place });
        }
    }
    let mut seen = HashSet::new();
    for ((document, value), place) in read.schemas.iter().zip(&read.places) {
        let at = At { value, document: *document, pointer: place.clone() };
        open_ends(&documents, at, &mut seen, &mut holes);
    }
    let mut broken = Vec::new();
    let of_requests = read.examples.iter().map(|example| (&contract.schemas, example));
    let of_responses = contract
        .responses
        .iter()
        .flat_map(|responses| read.response_examples.iter().map(|example| (&responses.schemas, example)));
    let all: Vec<_> = of_requests.chain(of_responses).collect();
    for (schemas, example) in &all {
        let text = example.value.value.to_string();
        let Ok(value) = JsonDocument::parse(text.as_bytes()) else { continue };
        let limits = schema::limits(text.as_bytes());
        let message = match schemas.judge(example.schema, &value, limits, (RequestPart::Body, "")) {
            Ok(()) => continue,
            Err(Unfit::TooComplex) => "takes too much work".to_owned(),
            Err(Unfit::Invalid(violations)) => detail(&violations),
        };
        broken.push(documents.fault(&example.value, format!("the example breaks the contract: {message}")));
    }
    let examples = all.len();
    Ok(Lint { contract, holes, examples, broken })
}

/// Where a schema takes texts, arrays or members without an end.
fn open_ends<'d>(
    documents: &'d Documents,
    at: At<'d>,
    seen: &mut HashSet<*const Value>,
    holes: &mut Vec<DocumentFault>,
) {
    let mut pending = vec![at];
    while let Some(at) = pending.pop() {
        let Ok(at) = documents.resolve(at) else { continue };
        if holes.len() >= MOST_HOLES || !seen.insert(std::ptr::from_ref(at.value)) {
            continue;
        }
        let has = |keys: &[&str]| keys.iter().any(|key| at.value.get(*key).is_some());
        let is_of = |kind: &str| {
            let said = at.value.get("type");
            said.is_some_and(|said| said == kind || said.as_array().is_some_and(|all| all.iter().any(|it| it == kind)))
        };
        if is_of("string") && !has(&["maxLength", "enum", "const", "pattern", "format"]) {
            holes.push(documents.fault(&at, "a string without maxLength, enum, pattern or format"));
        }
        if is_of("array") && !has(&["maxItems"]) {
            holes.push(documents.fault(&at, "an array without maxItems"));
        }
        if is_of("object") && has(&["properties"]) && !has(&["additionalProperties", "unevaluatedProperties"]) {
            holes.push(documents.fault(&at, "an object that takes members that are not declared"));
        }
        for key in ["items", "additionalProperties", "not"] {
            pending.extend(at.get(key).filter(|below| below.value.is_object()));
        }
        for key in ["allOf", "anyOf", "oneOf", "prefixItems"] {
            pending.extend(at.get(key).into_iter().flat_map(|below| below.elements()));
        }
        for key in ["properties", "patternProperties"] {
            pending.extend(at.get(key).into_iter().flat_map(|below| below.members().map(|(_, at)| at)));
        }
    }
}

impl Contract {
    /// Every operation, by its path.
    pub fn operations(&self) -> impl Iterator<Item = ListedOperation<'_>> {
        self.operations.iter().map(|operation| self.listed(operation))
    }

    fn listed<'c>(&'c self, operation: &'c Operation) -> ListedOperation<'c> {
        let rule = self.rules.get(operation.rule);
        let parameters = operation.parameters.all.iter();
        ListedOperation {
            name: &operation.name,
            parameters: parameters.map(|it| (it.part.name(), &*it.name, it.is_required)).collect(),
            body: operation.body.is_declared().then_some((operation.body.contents.len(), operation.body.is_required)),
            is_public: rule.is_some_and(SecurityRule::is_public),
            is_undeclared: rule.is_some_and(SecurityRule::is_undeclared),
            is_deprecated: operation.is_deprecated,
        }
    }
}
