//! What is read of a document, while its operations are: schemas to be compiled, examples, warnings.

use std::collections::HashMap;

use http::HeaderName;
use serde_json::Value;

use super::{
    document::{At, DocumentFault, Documents},
    fields,
};
use crate::policy::validate::schema::set::{FileMembers, SchemaId};

/// How a document is read.
#[derive(Clone, Debug, Default)]
pub struct DocumentReading<'a> {
    /// Where the API is served; `None`: as the document's servers say.
    pub base_path: Option<&'a str>,
    /// Whether the query may have parameters that are not declared.
    pub allows_unknown_query: bool,
    /// Whether there may be no other headers than the usual ones, those that are declared and these; `None`: there may be.
    pub known_headers: Option<Vec<HeaderName>>,
    /// Whether there may be no cookies that are not declared.
    pub refuses_unknown_cookies: bool,
    /// Whether requests may have members that are read-only.
    pub allows_read_only: bool,
    /// Media types that pass although nobody can judge them.
    pub unvalidated: &'a [String],
    /// Whether responses are looked at.
    pub responses: bool,
}

/// The versions that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V3_0,
    V3_1,
    V3_2,
}

/// An example, and the schema that it should match.
pub(super) struct Example<'d> {
    pub(super) schema: SchemaId,
    pub(super) value: At<'d>,
}

/// What is read so far.
pub(super) struct DocumentCollector<'d> {
    pub(super) documents: &'d Documents,
    pub(super) version: Version,
    pub(super) reading: &'d DocumentReading<'d>,
    /// Schemas to be compiled.
    pub(super) schemas: Vec<(usize, &'d Value)>,
    /// Where each of them is.
    pub(super) places: Vec<String>,
    /// The members of each that are files.
    pub(super) files: FileMembers,
    /// Which they are, by their address.
    known: HashMap<*const Value, SchemaId>,
    pub(super) warnings: Vec<DocumentFault>,
    pub(super) examples: Vec<Example<'d>>,
}

/// The version of a document.
fn version(documents: &Documents) -> Result<Version, DocumentFault> {
    let Some(root) = documents.root() else { return Err(documents.fault_at(0, "", "there is no document")) };
    if root.value.is_null() {
        return Err(documents.fault(&root, "the document is empty"));
    }
    let at = root.get("openapi");
    match at.as_ref().and_then(|at| at.value.as_str()) {
        Some(text) if text.starts_with("3.0.") => Ok(Version::V3_0),
        Some(text) if text.starts_with("3.1.") => Ok(Version::V3_1),
        Some(text) if text.starts_with("3.2.") => Ok(Version::V3_2),
        Some(text) => Err(documents.fault(&root, format!("OpenAPI {text} is not read: 3.0, 3.1 and 3.2 are"))),
        None if root.value.get("swagger").is_some() => {
            Err(documents.fault(&root, "Swagger 2 is not read: convert the document to OpenAPI 3"))
        }
        None => Err(documents.fault(&root, "\"openapi\" is missing: this is no OpenAPI document")),
    }
}

impl<'d> DocumentCollector<'d> {
    /// Begins with nothing.
    pub(super) fn new(documents: &'d Documents, reading: &'d DocumentReading<'d>) -> Result<Self, DocumentFault> {
        Ok(Self {
            documents,
            version: version(documents)?,
            reading,
            schemas: Vec::new(),
            places: Vec::new(),
            files: FileMembers::new(),
            known: HashMap::new(),
            warnings: Vec::new(),
            examples: Vec::new(),
        })
    }

    pub(super) fn fault(&self, at: &At<'_>, message: impl Into<String>) -> DocumentFault {
        self.documents.fault(at, message)
    }

    pub(super) fn warn(&mut self, at: &At<'_>, message: impl Into<String>) {
        let warning = self.documents.fault(at, message);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The number of a schema, which is compiled once.
    pub(super) fn schema(&mut self, at: &At<'d>) -> SchemaId {
        let next = SchemaId(self.schemas.len());
        let id = *self.known.entry(std::ptr::from_ref(at.value)).or_insert(next);
        if id == next { self.add(at) } else { id }
    }

    /// The number of the schema of a multipart body, of which these members are files.
    pub(super) fn schema_of_parts(&mut self, at: &At<'d>, files: Vec<Box<str>>) -> SchemaId {
        if files.is_empty() {
            return self.schema(at);
        }
        // Whatever else has this schema has texts there.
        let id = self.add(at);
        self.files.insert(id, files.into());
        id
    }

    fn add(&mut self, at: &At<'d>) -> SchemaId {
        let id = SchemaId(self.schemas.len());
        self.schemas.push((at.document, at.value));
        self.places.push(at.pointer.clone());
        id
    }

    /// Refuses a field that is probably misspelt, and tells of others that nobody knows.
    pub(super) fn fields(&mut self, at: &At<'_>, kind: &'static str) -> Result<(), DocumentFault> {
        if !at.value.is_object() {
            return Err(self.fault(at, format!("{} must be an object", fields::with_article(kind))));
        }
        if let Some((name, wanted)) = fields::of_other_type(at.value, kind) {
            return Err(self.fault(at, format!("{name:?} must be {wanted}")));
        }
        for unknown in fields::unknown(at.value, kind) {
            let wrong = format!("{unknown:?} is no field of {}", fields::with_article(kind));
            match fields::meant(&unknown, kind) {
                Some(meant) => return Err(self.fault(at, format!("{wrong}: did you mean {meant:?}?"))),
                None if fields::is_own(&unknown) => {
                    let known = "operations have x-gateway-limits and x-gateway-permissions";
                    return Err(self.fault(at, format!("{wrong}: {known}")));
                }
                None => self.warn(at, format!("{wrong}: it is ignored")),
            }
        }
        Ok(())
    }

    /// The examples beside a schema, and its own.
    pub(super) fn examples(&mut self, holder: &At<'d>, schema: &At<'d>) {
        let id = self.schema(schema);
        let mut found: Vec<At<'d>> = holder.get("example").into_iter().collect();
        for (_, at) in holder.get("examples").into_iter().flat_map(|examples| examples.members()) {
            let Ok(at) = self.documents.resolve(at) else { continue };
            found.extend(at.get("value").or_else(|| at.get("dataValue")));
        }
        if let Ok(schema) = self.documents.resolve(schema.clone()) {
            found.extend(schema.get("example"));
        }
        self.examples.extend(found.into_iter().map(|value| Example { schema: id, value }));
    }
}
