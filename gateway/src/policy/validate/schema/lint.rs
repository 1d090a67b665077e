//! Finds keywords of a schema that are probably misspelt. JSON Schema ignores unknown keywords, so a `requierd` would let
//! every body through.

use serde_json::{Map, Value};

/// How alike (Jaro-Winkler) an unknown keyword must be to one that exists to count as a slip.
const ALIKE: f64 = 0.9;

/// Every keyword of the drafts 4 to 2020-12.
const KEYWORDS: [&str; 66] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "id",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
    "example",
    "nullable",
    "discriminator",
];

/// Keywords that check nothing: a slip of these lets nothing through.
const SAY_NOTHING: [&str; 14] = [
    "$comment",
    "$defs",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "id",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords whose value is a schema, or an array of them.
const SCHEMAS: [&str; 16] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords whose value names schemas.
const NAMED: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// The first keyword that is probably misspelt: where (a JSON pointer), and what is probably meant.
pub(super) fn misspelt(schema: &Value) -> Option<(String, &'static str)> {
    misspelt_in(schema.as_object()?, "")
}

fn misspelt_in(schema: &Map<String, Value>, place: &str) -> Option<(String, &'static str)> {
    schema.iter().find_map(|(keyword, value)| {
        let place = format!("{place}/{}", escape(keyword));
        let below =
            |(name, value): (String, &Value)| misspelt_in(value.as_object()?, &format!("{place}/{}", escape(&name)));
        match value {
            _ if !KEYWORDS.contains(&keyword.as_str()) => Some((place.clone(), meant(keyword)?)),
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                named.iter().map(|(name, value)| (name.clone(), value)).find_map(below)
            }
            Value::Object(schema) if SCHEMAS.contains(&keyword.as_str()) => misspelt_in(schema, &place),
            Value::Array(schemas) if SCHEMAS.contains(&keyword.as_str()) => {
                schemas.iter().enumerate().map(|(at, value)| (at.to_string(), value)).find_map(below)
            }
            _ => None,
        }
    })
}

/// The keyword that `unknown` is a slip of. Extensions (`x-…`) are what they say.
fn meant(unknown: &str) -> Option<&'static str> {
    let alike = |keyword: &'static str| (strsim::jaro_winkler(unknown, keyword), keyword);
    let (best, keyword) = KEYWORDS.into_iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best >= ALIKE && !unknown.starts_with("x-") && !SAY_NOTHING.contains(&keyword)).then_some(keyword)
}

/// A name as a JSON pointer has it.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
