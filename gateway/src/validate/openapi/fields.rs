//! The fields that the objects of OpenAPI have. What nobody knows is probably a slip, by which a rule would be lost.

use serde_json::Value;

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
const REQUEST_BODY: &[&str] = &["content", "description", "required"];
const MEDIA_TYPE: &[&str] =
    &["encoding", "example", "examples", "itemEncoding", "itemSchema", "prefixEncoding", "schema"];
const ENCODING: &[&str] = &["allowReserved", "contentType", "explode", "headers", "style"];

fn known(kind: &str) -> &'static [&'static str] {
    match kind {
        "document" => DOCUMENT,
        "path item" => PATH_ITEM,
        "operation" => OPERATION,
        "parameter" => PARAMETER,
        "request body" => REQUEST_BODY,
        "media type" => MEDIA_TYPE,
        "encoding" => ENCODING,
        _ => &[],
    }
}

/// The fields of an object that nobody knows.
pub(super) fn unknown(value: &Value, kind: &str) -> Vec<String> {
    let names = value.as_object().into_iter().flat_map(|object| object.keys());
    names.filter(|name| !name.starts_with("x-") && !known(kind).contains(&name.as_str())).cloned().collect()
}

/// The field that `unknown` is a slip of.
pub(super) fn meant(unknown: &str, kind: &str) -> Option<&'static str> {
    let alike = |name: &&'static str| (strsim::jaro_winkler(unknown, name), *name);
    let best = known(kind).iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}
