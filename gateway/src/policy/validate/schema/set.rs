//! Schemas that are parts of documents, compiled together: those of an OpenAPI document, and those of parameters.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use jsonschema::Draft;
use referencing::Registry;
use serde_json::Value;

pub(in crate::policy::validate) use super::{compile::OpenApi, shape::Shape};
use super::{
    compile::{BASE, CompileError, Dialect, Entry, compile_all, family::Family},
    graph::{Graph, KeywordCheck, NodeId},
    judge::{ExplainedViolation, JudgeError, OutOfWork, WorkLimits, explain, judge_within},
    keyword::Keyword,
    lint,
    pattern::LONGEST_TEXT,
    written::WrittenNumbers,
};
use crate::{
    json::{
        self,
        document::{self, JsonDocument},
        unkept::{UnkeptNumber, unkept_json},
    },
    os::file::NamedFile,
    refusal::violation::{LONGEST_PLACE, RequestPart, Violation},
    settings::validate::Formats,
};

/// Compiled schemas.
#[derive(Default)]
pub(in crate::policy::validate) struct SchemaSet {
    graph: Graph,
    roots: Vec<NodeId>,
    unknown_formats: Vec<String>,
    idle_nullable: Option<NotedSchemas>,
    doubtful_required: Option<NotedSchemas>,
}

/// Schemas that do not do what their author probably expects.
pub(in crate::policy::validate) struct NotedSchemas {
    pub(in crate::policy::validate) count: usize,
    /// The document of the first, by its position.
    pub(in crate::policy::validate) document: usize,
    /// A JSON pointer to the first.
    pub(in crate::policy::validate) place: String,
}

/// Which schema of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy::validate) struct SchemaId(pub(in crate::policy::validate) usize);

/// By schema, the members that are files: of multipart bodies.
pub(in crate::policy::validate) type FileMembers = HashMap<SchemaId, Arc<[Box<str>]>>;

/// A document, and the URI that it is known by.
pub(in crate::policy::validate) struct SchemaDocument {
    pub(in crate::policy::validate) uri: String,
    pub(in crate::policy::validate) content: Value,
    /// Its numbers that a float does not keep.
    pub(in crate::policy::validate) unkept: Vec<UnkeptNumber>,
}

/// What is wrong with a schema.
#[derive(Debug)]
pub(in crate::policy::validate) struct SchemaError {
    pub(in crate::policy::validate) message: String,
    /// The document, by its position.
    pub(in crate::policy::validate) document: usize,
    /// A JSON pointer; empty: nobody knows.
    pub(in crate::policy::validate) place: String,
}

/// Why a value is refused.
pub(in crate::policy::validate) enum Unfit {
    Invalid(Box<[Violation]>),
    /// Finding out takes too long.
    TooComplex,
}

impl SchemaSet {
    /// Compiles `schemas`, each a part of the document at its position. They are known by their order.
    ///
    /// # Errors
    /// The first fault.
    pub(in crate::policy::validate) fn compile(
        documents: &[SchemaDocument],
        schemas: &[(usize, &Value)],
        openapi: OpenApi,
        formats: Formats,
    ) -> Result<Self, SchemaError> {
        Self::compile_with_files(documents, schemas, &HashMap::new(), openapi, formats)
    }

    /// As [`Self::compile`]. `files`: by schema, the members that are files. Only their number and types are judged.
    ///
    /// # Errors
    /// The first fault.
    pub(in crate::policy::validate) fn compile_with_files(
        documents: &[SchemaDocument],
        schemas: &[(usize, &Value)],
        files: &FileMembers,
        openapi: OpenApi,
        formats: Formats,
    ) -> Result<Self, SchemaError> {
        let draft = if openapi.is_3_0 { Draft::Draft7 } else { Draft::Draft202012 };
        let find = |fault: &CompileError| {
            documents.iter().enumerate().find_map(|(at, it)| Some((at, fault.place_in(&it.content)?)))
        };
        let placed = |fault: CompileError| {
            let (document, place) = find(&fault).unwrap_or_default();
            SchemaError { message: fault.message, document, place }
        };
        let resources = documents.iter().map(|it| (&it.uri, draft.create_resource_ref(&it.content)));
        let registry = Registry::new().extend(resources).and_then(|registry| registry.draft(draft).prepare());
        let registry = registry.map_err(|error| placed(error.into()))?;
        let mut family = documents.first().map_or_else(Family::default, |main| Family::of(&main.content));
        let mut written = WrittenNumbers::default();
        for document in documents {
            family.look_for_read_only(&document.content);
            written.add(&document.content, &document.unkept);
        }
        let mut entries = Vec::new();
        for (index, (document, schema)) in schemas.iter().enumerate() {
            let uri = documents.get(*document).map_or(BASE, |document| &document.uri);
            let base = referencing::uri::from_str(uri).map_err(|error| placed(error.into()))?;
            let files = files.get(&SchemaId(index)).map(Arc::clone).unwrap_or_default();
            entries.push(Entry { schema, base, files });
        }
        let dialect = Dialect { draft, formats, openapi: Some(openapi) };
        let (compiled, roots) = compile_all(&entries, &family, dialect, &written, &registry).map_err(placed)?;
        let noted = |schemas: &[usize]| {
            let (document, place) = find(&CompileError::of_schema(*schemas.first()?))?;
            Some(NotedSchemas { count: schemas.len(), document, place })
        };
        let (idle_nullable, doubtful_required) = (noted(&compiled.idle_nullable), noted(&compiled.doubtful_required));
        let unknown_formats = compiled.unknown_formats;
        Ok(Self { graph: compiled.graph, roots, unknown_formats, idle_nullable, doubtful_required })
    }

    /// The schemas in which `nullable` changes nothing, as no `type` is beside it.
    pub(in crate::policy::validate) const fn idle_nullable(&self) -> Option<&NotedSchemas> {
        self.idle_nullable.as_ref()
    }

    /// The schemas that require a member which is read-only by one alternative, and not by another.
    pub(in crate::policy::validate) const fn doubtful_required(&self) -> Option<&NotedSchemas> {
        self.doubtful_required.as_ref()
    }

    /// The formats that they name and that nobody checks.
    pub(in crate::policy::validate) fn unknown_formats(&self) -> &[String] {
        &self.unknown_formats
    }

    /// Whether one of them asks anything of values.
    pub(in crate::policy::validate) fn checks(&self, schema: SchemaId) -> bool {
        let (mut pending, mut seen) = (Vec::from_iter(self.root(schema)), HashSet::new());
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            for (_, check) in self.graph.nodes.get(id.0 as usize).into_iter().flat_map(|node| &node.checks) {
                match check {
                    KeywordCheck::All(nodes) => pending.extend(nodes),
                    _ => return true,
                }
            }
        }
        false
    }

    /// What values one of them is about.
    pub(in crate::policy::validate) fn shape(&self, schema: SchemaId) -> Shape {
        self.root(schema).map_or_else(Shape::text, |root| self.graph.shape(root))
    }

    fn root(&self, schema: SchemaId) -> Option<NodeId> {
        self.roots.get(schema.0).copied()
    }

    /// Judges a value of the part `name` of a request by one of them.
    pub(in crate::policy::validate) fn judge(
        &self,
        schema: SchemaId,
        value: &JsonDocument,
        mut limits: WorkLimits,
        place: (RequestPart, &str),
    ) -> Result<(), Unfit> {
        self.judge_within(schema, value, &mut limits, place)
    }

    /// The same, and takes the steps from the limits, which other values share.
    pub(in crate::policy::validate) fn judge_within(
        &self,
        schema: SchemaId,
        value: &JsonDocument,
        limits: &mut WorkLimits,
        (part, name): (RequestPart, &str),
    ) -> Result<(), Unfit> {
        // Of nothing that was compiled, nothing is valid.
        let Some(root) = self.root(schema) else { return Err(Unfit::TooComplex) };
        let given = *limits;
        match judge_within(&self.graph, root, value, limits) {
            Ok(()) => Ok(()),
            Err(JudgeError::OutOfWork(OutOfWork::Steps)) => Err(Unfit::TooComplex),
            Err(JudgeError::OutOfWork(OutOfWork::Pattern(at))) => {
                Err(Unfit::Invalid(violations(vec![unmatched(at)], value, part, name)))
            }
            Err(JudgeError::Invalid(fault)) => {
                let mut faults = explain(&self.graph, root, value, given);
                if faults.is_empty() {
                    let (at, keyword) = (fault.at, fault.keyword);
                    faults.push(ExplainedViolation { at, keyword, expected: "must be valid".to_owned() });
                }
                Err(Unfit::Invalid(violations(faults, value, part, name)))
            }
        }
    }
}

/// What is wrong with a text of which nobody knows whether it matches its pattern.
pub(super) fn unmatched(at: document::Id) -> ExplainedViolation {
    let expected = format!("must be simpler for its pattern, and at most {LONGEST_TEXT} bytes long");
    ExplainedViolation { at, keyword: Keyword::Pattern, expected }
}

/// Faults as the client is told of them.
pub(super) fn violations(
    faults: Vec<ExplainedViolation>,
    value: &JsonDocument,
    part: RequestPart,
    name: &str,
) -> Box<[Violation]> {
    let told = faults.into_iter().map(|fault| {
        Violation::new(part, name, fault.keyword.as_str(), fault.expected).at(&value.place(fault.at, LONGEST_PLACE))
    });
    told.collect()
}

/// The URI of a file.
pub(in crate::policy::validate) fn uri(path: &Path) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// The JSON of `others`, which a schema may refer to, but for the file itself. Their long numbers are `written`.
pub(super) fn read_others(
    file: &NamedFile,
    others: &[NamedFile],
    written: &mut WrittenNumbers,
) -> Vec<(String, Value)> {
    let mut read = Vec::new();
    for other in others.iter().filter(|other| other.path != file.path) {
        // What OpenAPI documents share may be YAML, which no schema refers to.
        if let Ok(content) = json::parse(&other.bytes) {
            written.add(&content, &unkept_json(&other.bytes, &content));
            read.push((uri(&other.path), content));
        }
    }
    read
}

/// The first keyword of a schema that is probably misspelt: where, and what is probably meant.
pub(in crate::policy::validate) fn misspelt(schema: &Value) -> Option<(String, &'static str)> {
    lint::misspelt(schema)
}
