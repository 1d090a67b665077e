//! The files of an OpenAPI document: JSON or YAML, read within limits, and the references between them.
//!
//! *Invariant:* nothing is read but what the configuration names, and no chain of references is endless.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    json::{
        self, JsonLimits,
        unkept::{UnkeptNumber, unkept, unkept_json},
    },
    os::file::NamedFile,
    policy::validate::{
        parameter::decode::decode,
        schema::set::{SchemaDocument, uri},
    },
};

/// How much one document may hold.
const LIMITS: JsonLimits = JsonLimits { depth: 100, values: 1_500_000, bytes: 64 * 1024 * 1024 };

/// How many references may follow each other.
const MOST_STEPS: usize = 32;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFault {
    /// What is wrong.
    pub message: String,
    /// The file's name and a JSON pointer into it.
    pub place: String,
}

/// The documents of an API. The first is the one that the others are referred to from.
pub(super) struct Documents {
    pub(super) all: Vec<SchemaDocument>,
    names: Vec<String>,
}

/// A value in a document.
#[derive(Clone)]
pub(super) struct At<'d> {
    pub(super) value: &'d Value,
    pub(super) document: usize,
    pub(super) pointer: String,
}

impl Documents {
    /// Reads a file and those that it may refer to.
    pub(super) fn read(file: &NamedFile, others: &[NamedFile]) -> Result<Self, DocumentFault> {
        let mut read = Self { all: Vec::new(), names: Vec::new() };
        for file in std::iter::once(file).chain(others.iter().filter(|other| other.path != file.path)) {
            let name = file.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let content = parse(&file.path, &file.bytes)
                .map_err(|message| DocumentFault { message, place: file.path.display().to_string() })?;
            let unkept = unkept_of(&file.path, &file.bytes, &content);
            read.all.push(SchemaDocument { uri: uri(&file.path), content, unkept });
            read.names.push(name);
        }
        Ok(read)
    }

    /// The document itself.
    pub(super) fn root(&self) -> Option<At<'_>> {
        let main = self.all.first()?;
        Some(At { value: &main.content, document: 0, pointer: String::new() })
    }

    /// A fault at a place.
    pub(super) fn fault(&self, at: &At<'_>, message: impl Into<String>) -> DocumentFault {
        self.fault_at(at.document, &at.pointer, message)
    }

    pub(super) fn fault_at(&self, document: usize, pointer: &str, message: impl Into<String>) -> DocumentFault {
        let name = self.names.get(document).map_or("", String::as_str);
        // Whoever looks there finds something: what is missing is told of what lacks it.
        let root = self.all.get(document).map(|document| &document.content);
        let mut pointer = pointer;
        while root.is_none_or(|root| root.pointer(pointer).is_none()) && !pointer.is_empty() {
            pointer = pointer.rsplit_once('/').map_or("", |(holder, _)| holder);
        }
        DocumentFault { message: message.into(), place: format!("{name}#{pointer}") }
    }

    /// What `at` is, or what its `$ref` leads to.
    pub(super) fn resolve<'d>(&'d self, at: At<'d>) -> Result<At<'d>, DocumentFault> {
        let mut found = at;
        for _ in 0..MOST_STEPS {
            let Some(to) = found.value.get("$ref").and_then(Value::as_str) else { return Ok(found) };
            found = self.look_up(&found, to)?;
        }
        Err(self.fault(&found, "references lead in a circle"))
    }

    /// What a reference leads to.
    pub(super) fn look_up<'d>(&'d self, from: &At<'_>, to: &str) -> Result<At<'d>, DocumentFault> {
        let (file, fragment) = to.split_once('#').unwrap_or((to, ""));
        let document = if file.is_empty() { Some(from.document) } else { self.by_uri(from.document, file) };
        let Some(document) = document else {
            let message = format!("{to:?} leads to another file: name it in validate.files; nothing is fetched");
            return Err(self.fault(from, message));
        };
        let pointer = percent_decoded(fragment);
        let root = self.all.get(document).map(|document| &document.content);
        match root.and_then(|root| root.pointer(&pointer)) {
            Some(value) => Ok(At { value, document, pointer }),
            None => Err(self.fault(from, format!("{to:?} leads nowhere"))),
        }
    }

    fn by_uri(&self, from: usize, file: &str) -> Option<usize> {
        let base = referencing::uri::from_str(&self.all.get(from)?.uri).ok()?;
        let wanted = referencing::uri::resolve_against(&base.borrow(), file).ok()?;
        self.all.iter().position(|document| document.uri == wanted.as_str())
    }
}

impl<'d> At<'d> {
    /// The member `name`.
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Self { value, document: self.document, pointer: format!("{}/{}", self.pointer, escape(name)) })
    }

    /// The members of an object, in the order of their names.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> + use<'d> {
        let (document, pointer) = (self.document, self.pointer.clone());
        let members = self.value.as_object().into_iter().flat_map(Map::iter);
        members.map(move |(name, value)| {
            (name.as_str(), Self { value, document, pointer: format!("{pointer}/{}", escape(name)) })
        })
    }

    /// The elements of an array.
    pub(super) fn elements(&self) -> impl Iterator<Item = Self> + use<'d> {
        let (document, pointer) = (self.document, self.pointer.clone());
        let elements = self.value.as_array().into_iter().flatten().enumerate();
        elements.map(move |(index, value)| Self { value, document, pointer: format!("{pointer}/{index}") })
    }

    pub(super) fn text(&self, name: &str) -> Option<&'d str> {
        self.value.get(name)?.as_str()
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.value.get(name) == Some(&Value::Bool(true))
    }
}

/// Reads JSON or YAML.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Value, String> {
    let is_comment = |line: &[u8]| line.trim_ascii().is_empty() || line.trim_ascii().starts_with(b"#");
    if bytes.split(|byte| *byte == b'\n').all(is_comment) {
        return Err("the document is empty".to_owned());
    }
    if is_json(path, bytes) {
        return json::parse_within(bytes, LIMITS).map_err(|error| format!("not acceptable as JSON: {error}"));
    }
    let value = json::read_within(yaml_serde::Deserializer::from_slice(bytes), LIMITS)
        .map_err(|error| format!("not acceptable as YAML: {error}"))?;
    match merges(&value) {
        Some(place) => Err(format!("has a merge key (\"<<\") at {place}, which is no part of YAML 1.2: write it out")),
        None => Ok(value),
    }
}

fn is_json(path: &Path, bytes: &[u8]) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'),
    }
}

/// The numbers of a document, read as `content`, that a float does not keep.
fn unkept_of(path: &Path, bytes: &[u8], content: &Value) -> Vec<UnkeptNumber> {
    match is_json(path, bytes) {
        true => unkept_json(bytes, content),
        false => unkept(bytes, yaml_serde::Deserializer::from_slice(bytes), content),
    }
}

/// Where a merge key is.
fn merges(value: &Value) -> Option<String> {
    match value {
        Value::Array(elements) => {
            elements.iter().enumerate().find_map(|(at, element)| Some(format!("/{at}{}", merges(element)?)))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| match name.as_str() {
            "<<" => Some("/<<".to_owned()),
            name => Some(format!("/{}{}", escape(name), merges(member)?)),
        }),
        _ => None,
    }
}

/// A name as a JSON pointer has it.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn percent_decoded(text: &str) -> String {
    decode(text, false).unwrap_or_else(|_fault| text.to_owned())
}
