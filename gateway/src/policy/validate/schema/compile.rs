//! Compiles a schema into the graph that bodies are validated by: every reference resolved, every pattern built.
//!
//! *Invariant:* nothing but the schema's own file is read, and compiling does not recurse.

use std::{fmt, sync::Arc};

use hashbrown::{HashMap, HashSet};
use jsonschema::Draft;
use referencing::{Registry, Resolved, Resolver, Uri};
use serde_json::{Map, Value};

use super::{
    graph::{Graph, KeywordCheck, Node, NodeId},
    keyword::Keyword,
    pattern::TextPattern,
    written::WrittenNumbers,
};
use crate::settings::validate::Formats;

mod applicators;
mod assertions;
pub(super) mod family;
mod inherited;
mod openapi;
mod read_only;
mod read_only_members;

use family::{Family, mentions};
use inherited::{Applied, Inherited};
use read_only_members::ReadOnlyMembers;

/// The checks of one subschema, each with its keyword.
type Checks = Vec<(Keyword, KeywordCheck)>;

/// What a schema without an identifier is known by.
pub(super) const BASE: &str = "json-schema:///";

/// How many nodes there may be. A schema that is applied in several ways is several nodes.
const MOST_NODES: u32 = 1_000_000;

/// Why a schema cannot be compiled, and where.
#[derive(Debug)]
pub(super) struct CompileError {
    pub(super) message: String,
    /// The subschema, by its address, and the keyword in it.
    at: Option<(usize, String)>,
}

impl CompileError {
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), at: None }
    }

    /// What is to be said of a whole subschema, by its address.
    pub(super) const fn of_schema(address: usize) -> Self {
        Self { message: String::new(), at: Some((address, String::new())) }
    }

    /// Where it is in `schema`, as a JSON pointer.
    pub(super) fn place(&self, schema: &Value) -> String {
        self.place_in(schema).unwrap_or_default()
    }

    /// As [`Self::place`]; `None`: it is not in `document`.
    pub(super) fn place_in(&self, document: &Value) -> Option<String> {
        let (address, keyword) = self.at.as_ref()?;
        let place = find(document, *address)?;
        Some(if keyword.is_empty() { place } else { format!("{place}/{keyword}") })
    }
}

/// Where the value at an address is within `value`.
fn find(value: &Value, address: usize) -> Option<String> {
    if std::ptr::from_ref(value).addr() == address {
        return Some(String::new());
    }
    match value {
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .find_map(|(index, element)| Some(format!("/{index}{}", find(element, address)?))),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let below = find(member, address)?;
            Some(format!("/{}{below}", name.replace('~', "~0").replace('/', "~1")))
        }),
        _ => None,
    }
}

impl From<referencing::Error> for CompileError {
    fn from(error: referencing::Error) -> Self {
        match error {
            referencing::Error::Unretrievable { uri, .. } => Self::new(format_args!(
                "{uri} is outside of this file, and nothing is fetched: name its file in validate.files, or copy it into this \
                 file, under \"$defs\""
            )),
            error => Self::new(error),
        }
    }
}

/// A graph, and what it does not check.
pub(super) struct Compiled {
    pub(super) graph: Graph,
    /// The formats that nobody knows.
    pub(super) unknown_formats: Vec<String>,
    /// The addresses of schemas whose `nullable` changes nothing.
    pub(super) idle_nullable: Vec<usize>,
    /// Those that require a member which is read-only by one alternative and not by another.
    pub(super) doubtful_required: Vec<usize>,
}

/// By which rules schemas are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) draft: Draft,
    pub(super) formats: Formats,
    /// What OpenAPI adds; `None`: it is plain JSON Schema.
    pub(super) openapi: Option<OpenApi>,
}

/// What OpenAPI adds to JSON Schema.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy::validate) struct OpenApi {
    /// OpenAPI 3.0: `nullable`, and `exclusiveMinimum` as a boolean.
    pub(in crate::policy::validate) is_3_0: bool,
    /// Whether a request may not have what is `readOnly`.
    pub(in crate::policy::validate) refuses_read_only: bool,
    /// Whether values are of responses: they have what is `readOnly`, and not what is `writeOnly`.
    pub(in crate::policy::validate) is_response: bool,
}

/// A schema that values are judged by, and the URI of its document.
pub(super) struct Entry<'r> {
    pub(super) schema: &'r Value,
    pub(super) base: Uri<String>,
    /// The members that are files: of a multipart body.
    pub(super) files: Arc<[Box<str>]>,
}

/// Compiles `schema`, which may refer to what `registry` knows. It is known as `name`, unless it says another. Its long
/// numbers are `written`.
///
/// # Errors
/// The first fault.
pub(super) fn compile(
    schema: &Value,
    name: &str,
    dialect: Dialect,
    written: &WrittenNumbers,
    registry: &Registry<'_>,
) -> Result<Compiled, CompileError> {
    let resource = dialect.draft.create_resource_ref(schema);
    let root = referencing::uri::from_str(name)?;
    let base = match resource.id() {
        Some(id) => referencing::uri::resolve_against(&root.borrow(), id)?,
        None => root,
    };
    let registry = registry.add(base.as_str(), resource)?.draft(dialect.draft).prepare()?;
    let entry = Entry { schema, base, files: Arc::default() };
    compile_all(std::slice::from_ref(&entry), &Family::default(), dialect, written, &registry)
        .map(|(compiled, _)| compiled)
}

/// Compiles schemas that are parts of documents which `registry` knows, into one graph.
///
/// # Errors
/// The first fault.
pub(super) fn compile_all<'r>(
    entries: &[Entry<'r>],
    family: &'r Family,
    dialect: Dialect,
    written: &'r WrittenNumbers,
    registry: &'r Registry<'r>,
) -> Result<(Compiled, Vec<NodeId>), CompileError> {
    let dynamic = ["$dynamicRef", "$recursiveRef"];
    let mut compiler = Compiler {
        dialect,
        family,
        written,
        is_dynamic: entries.iter().any(|entry| mentions(entry.schema, &dynamic)) || family.is_dynamic,
        nodes: Vec::new(),
        known: HashMap::new(),
        pending: Vec::new(),
        patterns: HashMap::new(),
        checks: HashMap::new(),
        unknown_formats: Vec::new(),
        idle_nullable: Vec::new(),
        doubtful_required: Vec::new(),
    };
    let mut roots = Vec::new();
    for entry in entries {
        let inherited = Arc::new(Inherited::of_body(Arc::clone(&entry.files)));
        let resolver = registry.resolver(entry.base.clone());
        roots.push(compiler.enter(entry.schema, resolver, dialect.draft, inherited)?);
    }
    while let Some(PendingNode { id, schema, resolver, draft, inherited }) = compiler.pending.pop() {
        let read_only = ReadOnlyMembers::default();
        let mut place = Subschema { compiler: &mut compiler, resolver, draft, inherited, read_only, keyword: "" };
        let checks = place.checks(schema).map_err(|failure| CompileError {
            at: failure.at.or_else(|| Some((std::ptr::from_ref(schema).addr(), place.keyword.to_owned()))),
            ..failure
        })?;
        if let Some(node) = compiler.nodes.get_mut(id.0 as usize) {
            node.checks = checks;
        }
    }
    let mut graph = Graph { nodes: compiler.nodes };
    graph.settle(&roots);
    let mut unknown_formats = compiler.unknown_formats;
    unknown_formats.sort_unstable();
    unknown_formats.dedup();
    let mut doubtful_required = compiler.doubtful_required;
    let mut told = HashSet::new();
    doubtful_required.retain(|schema| told.insert(*schema));
    let compiled = Compiled { graph, unknown_formats, idle_nullable: compiler.idle_nullable, doubtful_required };
    Ok((compiled, roots))
}

struct Compiler<'r> {
    dialect: Dialect,
    family: &'r Family,
    written: &'r WrittenNumbers,
    /// Whether what a reference means may depend on the way to it.
    is_dynamic: bool,
    nodes: Vec<Node>,
    known: HashMap<NodeKey, NodeId>,
    pending: Vec<PendingNode<'r>>,
    patterns: HashMap<String, Arc<TextPattern>>,
    /// What the library judges, by what it was compiled from.
    checks: HashMap<String, Arc<jsonschema::Validator>>,
    unknown_formats: Vec<String>,
    idle_nullable: Vec<usize>,
    doubtful_required: Vec<usize>,
}

/// What makes two nodes the same.
#[derive(PartialEq, Eq, Hash)]
struct NodeKey {
    address: usize,
    base: String,
    draft: Draft,
    /// The resources on the way to it, each where it came first.
    way: Vec<String>,
    inherited: Arc<Inherited>,
}

/// A node that is known, and not compiled yet.
struct PendingNode<'r> {
    id: NodeId,
    schema: &'r Value,
    resolver: Resolver<'r>,
    draft: Draft,
    inherited: Arc<Inherited>,
}

impl<'r> Compiler<'r> {
    /// The number of the next node.
    fn next(&self) -> Result<NodeId, CompileError> {
        match u32::try_from(self.nodes.len()) {
            Ok(next) if next < MOST_NODES => Ok(NodeId(next)),
            _ => Err(CompileError::new("too many subschemas, counted for each way in which they are applied")),
        }
    }

    /// The node of a subschema whose base `resolver` has.
    fn enter(
        &mut self,
        schema: &'r Value,
        resolver: Resolver<'r>,
        draft: Draft,
        inherited: Arc<Inherited>,
    ) -> Result<NodeId, CompileError> {
        let mut way = Vec::new();
        if self.is_dynamic {
            let mut all: Vec<_> = resolver.dynamic_scope().iter().map(ToString::to_string).collect();
            all.reverse();
            for uri in all {
                if !way.contains(&uri) {
                    way.push(uri);
                }
            }
        }
        let address = std::ptr::from_ref(schema).addr();
        let base = resolver.base_uri().as_str().to_owned();
        let key = NodeKey { address, base, draft, way, inherited: Arc::clone(&inherited) };
        let next = self.next()?;
        let id = *self.known.entry(key).or_insert(next);
        if id == next {
            self.nodes.push(Node::default());
            self.pending.push(PendingNode { id, schema, resolver, draft, inherited });
        }
        Ok(id)
    }
}

/// The subschema that is being compiled.
struct Subschema<'c, 'r> {
    compiler: &'c mut Compiler<'r>,
    resolver: Resolver<'r>,
    draft: Draft,
    inherited: Arc<Inherited>,
    /// Which members it says to be read-only, itself and by what it applies to the same value.
    read_only: ReadOnlyMembers,
    /// The keyword that was looked at last.
    keyword: &'static str,
}

impl<'r> Subschema<'_, 'r> {
    fn checks(&mut self, schema: &'r Value) -> Result<Checks, CompileError> {
        use super::graph::KeywordCheck;
        self.note_idle_nullable(schema);
        match schema {
            Value::Bool(true) => Ok(Vec::new()),
            Value::Bool(false) => Ok(vec![(Keyword::FalseSchema, KeywordCheck::Never)]),
            Value::Object(members) => {
                self.read_only = self.read_only_members(schema);
                // Up to draft 7 a reference is all that counts.
                if self.draft <= Draft::Draft7 && members.contains_key("$ref") {
                    let mut checks = Vec::new();
                    self.references(members, &mut checks)?;
                    return Ok(checks);
                }
                let mut checks = Vec::new();
                self.assertions(members, &mut checks)?;
                self.applicators(members, &mut checks)?;
                self.note_doubtful_required(schema, members);
                Ok(checks)
            }
            _ => Err(CompileError::new("a schema is an object, true or false")),
        }
    }

    /// The value of a keyword.
    fn at(&mut self, schema: &'r Map<String, Value>, keyword: Keyword) -> Option<&'r Value> {
        self.keyword = keyword.as_str();
        schema.get(keyword.as_str())
    }

    /// The node of a subschema.
    fn node(&mut self, schema: &'r Value, applied: Applied<'_>) -> Result<NodeId, CompileError> {
        let draft = match self.draft.detect(schema) {
            Draft::Unknown => self.draft,
            known => known,
        };
        let resolver = self.resolver.in_subresource(draft.create_resource_ref(schema))?;
        let inherited = self.inherited_by(applied);
        self.compiler.enter(schema, resolver, draft, inherited)
    }

    fn nodes(&mut self, schemas: &'r Value, applied: Applied<'_>) -> Result<Vec<NodeId>, CompileError> {
        let schemas = schemas.as_array().ok_or_else(malformed)?;
        schemas.iter().map(|schema| self.node(schema, applied)).collect()
    }

    fn inherited_by(&self, applied: Applied<'_>) -> Arc<Inherited> {
        self.inherited.of(applied, &self.read_only)
    }

    /// The node of what a reference leads to, which is about the same value.
    fn target(&mut self, resolved: Resolved<'r>, applied: Applied<'_>) -> Result<NodeId, CompileError> {
        let (schema, resolver, draft) = resolved.into_inner();
        let draft = if draft == Draft::Unknown { self.draft } else { draft };
        let inherited = self.inherited_by(applied);
        self.compiler.enter(schema, resolver, draft, inherited)
    }

    fn pattern(&mut self, pattern: &str) -> Result<Arc<TextPattern>, CompileError> {
        if let Some(known) = self.compiler.patterns.get(pattern) {
            return Ok(Arc::clone(known));
        }
        let built = TextPattern::new(pattern)
            .map_err(|why| CompileError::new(format_args!("the pattern {pattern:?} cannot be used: {why}")))?;
        let built = Arc::new(built);
        self.compiler.patterns.insert(pattern.to_owned(), Arc::clone(&built));
        Ok(built)
    }
}

/// A keyword whose value is not what it takes.
fn malformed() -> CompileError {
    CompileError::new("not a value that this keyword takes")
}
