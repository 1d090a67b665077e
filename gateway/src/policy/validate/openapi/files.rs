//! Which schemas are about files, and how large those may be.

use serde_json::{Map, Value};

use super::{
    collector::{DocumentCollector, Version},
    document::{At, DocumentFault, Documents},
};
use crate::policy::validate::body::{field::FileLimits, file_lengths::FileLengths};

/// How many schemas within one another are looked at.
const MOST_DEPTH: usize = 8;

/// Keywords that say nothing of a value.
const ANNOTATIONS: [&str; 12] = [
    "$comment",
    "default",
    "deprecated",
    "description",
    "example",
    "examples",
    "externalDocs",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

/// Keywords that have other schemas say it.
const COMPOSITION: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// What a schema is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaKind {
    /// A file, or an array of them.
    File,
    /// A file by one alternative, and something else by another.
    Mixed,
    Null,
    /// Whatever it is.
    Open,
    Other,
    Text,
    /// It says something of values, and not of which type they are.
    Untyped,
}

/// What a schema is about, and how long a file may be.
#[derive(Clone, Debug)]
struct FileSchema {
    kind: SchemaKind,
    lengths: FileLengths,
}

/// One of the schemas of a value.
#[derive(Clone)]
pub(super) struct Occurrence<'d> {
    pub(super) at: At<'d>,
    /// Whether it counts by one alternative of the body alone.
    pub(super) is_alternative: bool,
}

/// The limits of the files that these schemas of one value are about; `None`: it is none. Warns of what is not checked.
///
/// # Errors
/// A limit that is none.
pub(super) fn limits<'d>(
    collector: &mut DocumentCollector<'d>,
    occurrences: &[Occurrence<'d>],
    is_part: bool,
) -> Result<Option<FileLimits>, DocumentFault> {
    let (documents, version) = (collector.documents, collector.version);
    let mut finder = FileFinder { documents, version, is_part, unjudged: Vec::new() };
    let (mut found, mut alternatives) = (FileSchema::of(SchemaKind::Open), Vec::new());
    for occurrence in occurrences {
        let described = finder.described(occurrence.at.clone(), MOST_DEPTH, false)?;
        if occurrence.is_alternative {
            alternatives.push(described);
        } else {
            found = found.both(&described);
        }
    }
    if !alternatives.is_empty() {
        found = found.both(&FileSchema::of_alternatives(&alternatives));
    }
    let unjudged = finder.unjudged;
    match found.kind {
        SchemaKind::File | SchemaKind::Open => {
            for (at, keyword) in unjudged {
                collector.warn(&at, format!("{keyword:?} of a file is not checked"));
            }
            Ok(Some(FileLimits { lengths: found.lengths, name: None }))
        }
        SchemaKind::Mixed => {
            // A whole body is told of by its type.
            if let Some(first) = occurrences.first().filter(|_| is_part) {
                let message = "a file by one alternative and something else by another: it is judged as text, and \
                               files are refused";
                collector.warn(&first.at, message);
            }
            Ok(None)
        }
        SchemaKind::Null | SchemaKind::Other | SchemaKind::Text | SchemaKind::Untyped => Ok(None),
    }
}

/// What looks at schemas.
struct FileFinder<'d> {
    documents: &'d Documents,
    version: Version,
    /// Whether it is a part of a body: in a whole body, `contentEncoding` is about a text.
    is_part: bool,
    /// What schemas say of files that nobody judges.
    unjudged: Vec<(At<'d>, &'static str)>,
}

impl<'d> FileFinder<'d> {
    /// What a schema is about. What cannot be looked up is something else: compiling it tells.
    fn described(&mut self, at: At<'d>, depth: usize, is_element: bool) -> Result<FileSchema, DocumentFault> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(FileSchema::of(SchemaKind::Other)) };
        let Some(schema) = at.value.as_object() else {
            let is_open = at.value == &Value::Bool(true);
            return Ok(FileSchema::of(if is_open { SchemaKind::Open } else { SchemaKind::Other }));
        };
        let documents = self.documents;
        let target = match at.text("$ref").map(|to| documents.look_up(&at, to)) {
            None => None,
            Some(Ok(target)) => Some(self.described(target, depth, is_element)?),
            Some(Err(_)) => return Ok(FileSchema::of(SchemaKind::Other)),
        };
        // In OpenAPI 3.0 a reference is all that counts.
        let target = match target {
            Some(target) if self.version == Version::V3_0 => return Ok(target),
            target => target,
        };
        let mut found = self.own(&at, schema, depth, is_element)?;
        if let Some(target) = target {
            found = found.both(&target);
        }
        for part in at.get("allOf").into_iter().flat_map(|all| all.elements()) {
            found = found.both(&self.described(part, depth, is_element)?);
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches = at.get(keyword).into_iter().flat_map(|all| all.elements());
            let branches = branches.map(|branch| self.described(branch, depth, is_element));
            let branches = branches.collect::<Result<Vec<_>, _>>()?;
            if !branches.is_empty() {
                found = found.both(&FileSchema::of_alternatives(&branches));
            }
        }
        Ok(found)
    }

    /// What a schema says itself.
    fn own(
        &mut self,
        at: &At<'d>,
        schema: &'d Map<String, Value>,
        depth: usize,
        is_element: bool,
    ) -> Result<FileSchema, DocumentFault> {
        let said = schema
            .get("type")
            .map_or(&[][..], |said| said.as_array().map_or(std::slice::from_ref(said), Vec::as_slice));
        let types: Vec<&str> = said.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
        let is_null = |value: &Value| value.is_null();
        let is_null = !said.is_empty() && types.is_empty()
            || schema.get("const").is_some_and(is_null)
            || schema.get("enum").and_then(Value::as_array).is_some_and(|all| all.iter().all(is_null));
        if is_null {
            return Ok(FileSchema::of(SchemaKind::Null));
        }
        let kind = match (types.as_slice(), at.get("items")) {
            (["array"] | [], Some(items)) if !is_element && self.is_part => {
                let items = self.described(items, depth, true)?;
                self.note(at, schema, &["uniqueItems"]);
                let kind = match items.kind {
                    SchemaKind::File | SchemaKind::Open => SchemaKind::File,
                    SchemaKind::Mixed => SchemaKind::Mixed,
                    SchemaKind::Null | SchemaKind::Other | SchemaKind::Text | SchemaKind::Untyped => SchemaKind::Other,
                };
                return Ok(FileSchema { kind, ..items });
            }
            ([] | ["string"] | ["file"], None) if self.says_file(at, schema) => SchemaKind::File,
            (["file"], None) => SchemaKind::File,
            (["string"], None) => SchemaKind::Text,
            ([], None) if schema.contains_key("properties") => SchemaKind::Other,
            ([], None) => {
                let says_nothing = |key: &String| {
                    let key = key.as_str();
                    ANNOTATIONS.contains(&key) || COMPOSITION.contains(&key) || key.starts_with("x-")
                };
                if schema.keys().all(says_nothing) { SchemaKind::Open } else { SchemaKind::Untyped }
            }
            _ => SchemaKind::Other,
        };
        self.note(at, schema, &["const", "enum", "not", "pattern"]);
        let (smallest, largest) = (self.length(at, "minLength")?, self.length(at, "maxLength")?);
        Ok(FileSchema { kind, lengths: FileLengths::between(smallest, largest) })
    }

    fn says_file(&self, at: &At<'_>, schema: &Map<String, Value>) -> bool {
        matches!(at.text("format"), Some("binary" | "base64"))
            || schema.contains_key("contentMediaType")
            || self.is_part && schema.contains_key("contentEncoding")
    }

    fn note(&mut self, at: &At<'d>, schema: &Map<String, Value>, keywords: &[&'static str]) {
        let said = keywords.iter().filter(|keyword| schema.get(**keyword).is_some_and(|it| it != &Value::Bool(false)));
        self.unjudged.extend(said.map(|keyword| (at.clone(), *keyword)));
    }

    /// A number of bytes, which may be written as `2.0`.
    fn length(&self, at: &At<'_>, keyword: &str) -> Result<Option<u64>, DocumentFault> {
        let Some(value) = at.value.get(keyword) else { return Ok(None) };
        let number = value.as_u64().or_else(|| value.to_string().strip_suffix(".0")?.parse().ok());
        let wrong = || self.documents.fault(at, format!("{keyword:?} must be a whole number"));
        number.map(Some).ok_or_else(wrong)
    }
}

impl FileSchema {
    fn of(kind: SchemaKind) -> Self {
        Self { kind, lengths: FileLengths::default() }
    }

    /// What two schemas say of the same value.
    fn both(&self, other: &Self) -> Self {
        use SchemaKind::{File, Mixed, Null, Open, Other, Text, Untyped};
        let kind = match (self.kind, other.kind) {
            (Mixed, _) | (_, Mixed) => Mixed,
            (Other, _) | (_, Other) => Other,
            (Null, _) | (_, Null) => Null,
            (File, _) | (_, File) => File,
            (Text, _) | (_, Text) => Text,
            (Untyped, _) | (_, Untyped) => Untyped,
            (Open, Open) => Open,
        };
        Self { kind, lengths: self.lengths.both(&other.lengths) }
    }

    /// What holds whichever alternative does. `null` is no part, and no body.
    fn of_alternatives(branches: &[Self]) -> Self {
        let mut branches = branches.iter().filter(|branch| branch.kind != SchemaKind::Null);
        let Some(first) = branches.next() else { return Self::of(SchemaKind::Null) };
        branches.fold(first.clone(), |found, branch| found.either(branch))
    }

    fn either(&self, other: &Self) -> Self {
        use SchemaKind::{File, Mixed, Open, Other};
        let kind = match (self.kind, other.kind) {
            (one, other) if one == other => one,
            (File, Open) | (Open, File) => File,
            (File | Mixed, _) | (_, File | Mixed) => Mixed,
            _ => Other,
        };
        Self { kind, lengths: self.lengths.either(&other.lengths) }
    }
}
