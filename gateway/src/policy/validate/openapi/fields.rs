//! The fields that the objects of OpenAPI have. What nobody knows is probably a slip, by which a rule would be lost.

use serde_json::Value;

/// How the gateway's own fields begin, and those of operations.
const OWN: &str = "x-gateway-";
const EXTENSIONS: [&str; 2] = ["limits", "permissions"];

/// How alike (Jaro-Winkler) an unknown field must be to one that exists to count as a slip.
const ALIKE: f64 = 0.92;

const DOCUMENT: &[&str] = &[
    "$self",
    "components",
    "externalDocs",
    "info",
    "jsonSchemaDialect",
    "openapi",
    "paths",
    "security",
    "servers",
    "tags",
    "webhooks",
];
const PATH_ITEM: &[&str] = &[
    "$ref",
    "additionalOperations",
    "delete",
    "description",
    "get",
    "head",
    "options",
    "parameters",
    "patch",
    "post",
    "put",
    "query",
    "servers",
    "summary",
    "trace",
];
const OPERATION: &[&str] = &[
    "callbacks",
    "deprecated",
    "description",
    "externalDocs",
    "operationId",
    "parameters",
    "requestBody",
    "responses",
    "security",
    "servers",
    "summary",
    "tags",
];
const PARAMETER: &[&str] = &[
    "allowEmptyValue",
    "allowReserved",
    "content",
    "deprecated",
    "description",
    "example",
    "examples",
    "explode",
    "in",
    "name",
    "required",
    "schema",
    "style",
];
const HEADER: &[&str] = &[
    "allowEmptyValue",
    "allowReserved",
    "content",
    "deprecated",
    "description",
    "example",
    "examples",
    "explode",
    "required",
    "schema",
    "style",
];
const REQUEST_BODY: &[&str] = &["content", "description", "required"];
const MEDIA_TYPE: &[&str] =
    &["encoding", "example", "examples", "itemEncoding", "itemSchema", "prefixEncoding", "schema"];
const ENCODING: &[&str] = &["allowReserved", "contentType", "explode", "headers", "style"];

/// What fields must be whose absence, or a wrong value of which, would have a request judged less.
const TYPES: &[(&str, &[(&str, Type)])] = &[
    (
        "document",
        &[("components", Type::Object), ("paths", Type::Object), ("security", Type::Array), ("servers", Type::Array)],
    ),
    ("path item", &[("additionalOperations", Type::Object), ("parameters", Type::Array), ("servers", Type::Array)]),
    (
        "operation",
        &[
            ("deprecated", Type::Boolean),
            ("parameters", Type::Array),
            ("requestBody", Type::Object),
            ("security", Type::Array),
            ("servers", Type::Array),
        ],
    ),
    (
        "parameter",
        &[
            ("allowEmptyValue", Type::Boolean),
            ("content", Type::Object),
            ("explode", Type::Boolean),
            ("required", Type::Boolean),
            ("style", Type::String),
        ],
    ),
    (
        "header",
        &[("content", Type::Object), ("explode", Type::Boolean), ("required", Type::Boolean), ("style", Type::String)],
    ),
    ("request body", &[("content", Type::Object), ("required", Type::Boolean)]),
    ("media type", &[("encoding", Type::Object)]),
    (
        "encoding",
        &[
            ("contentType", Type::String),
            ("explode", Type::Boolean),
            ("headers", Type::Object),
            ("style", Type::String),
        ],
    ),
];

/// A type of JSON.
#[derive(Clone, Copy)]
enum Type {
    Array,
    Boolean,
    Object,
    String,
}

impl Type {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Array => value.is_array(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::String => value.is_string(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Array => "an array",
            Self::Boolean => "true or false",
            Self::Object => "an object",
            Self::String => "a string",
        }
    }
}

/// `an operation`, `a parameter`.
pub(super) fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The first field of an object that is of another type than it must be, and which that is.
pub(super) fn of_other_type(value: &Value, kind: &str) -> Option<(&'static str, &'static str)> {
    let (_, types) = TYPES.iter().find(|(of, _)| *of == kind)?;
    let is_wrong = |(name, wanted): &&(&'static str, Type)| value.get(name).is_some_and(|it| !wanted.is_of(it));
    types.iter().find(is_wrong).map(|(name, wanted)| (*name, wanted.name()))
}

fn known(kind: &str) -> &'static [&'static str] {
    match kind {
        "document" => DOCUMENT,
        "path item" => PATH_ITEM,
        "operation" => OPERATION,
        "parameter" => PARAMETER,
        "header" => HEADER,
        "request body" => REQUEST_BODY,
        "media type" => MEDIA_TYPE,
        "encoding" => ENCODING,
        _ => &[],
    }
}

/// The fields of an object that nobody knows.
pub(super) fn unknown(value: &Value, kind: &str) -> Vec<String> {
    let names = value.as_object().into_iter().flat_map(|object| object.keys());
    let is_known = |name: &str| match name.strip_prefix(OWN) {
        Some(own) => kind == "operation" && EXTENSIONS.contains(&own),
        None => name.starts_with("x-") || known(kind).contains(&name),
    };
    names.filter(|name| !is_known(name)).cloned().collect()
}

/// Whether an unknown field is one of the gateway's own: whoever wrote it counts on it.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with(OWN)
}

/// The field that `unknown` is a slip of.
pub(super) fn meant(unknown: &str, kind: &str) -> Option<&'static str> {
    let alike = |name: &&'static str| (strsim::jaro_winkler(unknown, name), *name);
    let best = known(kind).iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}
