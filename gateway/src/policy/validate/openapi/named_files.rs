//! Looks through what schemas and documents may refer to, whether anything refers to it yet or not: named files, and
//! the schemas that a document has by names. A fault in one of them would otherwise wait for the first reference.

use serde_json::Value;

use super::document::{self, DocumentFault, Documents};
use crate::{
    os::file::NamedFile,
    policy::validate::schema::{Schema, set},
    settings::validate::Formats,
};

/// The most faults that are told.
const MOST_FAULTS: usize = 20;

/// Whether a value has the type that its member has in a schema.
type HasType = fn(&Value) -> bool;

/// Members that only a schema has, with the types that they have there.
const OF_SCHEMAS: [(&str, HasType); 9] = [
    ("$defs", Value::is_object),
    ("$ref", Value::is_string),
    ("$schema", Value::is_string),
    ("allOf", Value::is_array),
    ("anyOf", Value::is_array),
    ("definitions", Value::is_object),
    ("oneOf", Value::is_array),
    ("properties", Value::is_object),
    ("type", |value| value.is_string() || value.is_array()),
];

/// Where a document has its schemas.
const COMPONENTS: &str = "/components/schemas";

/// Where schemas stand in a file that is none itself.
const PLACES: [&str; 4] = ["", COMPONENTS, "/definitions", "/$defs"];

/// What is wrong in these files: the index of each, and what.
#[must_use]
pub fn file_faults(files: &[NamedFile], formats: Formats) -> Vec<(usize, String)> {
    let faults = files.iter().enumerate();
    faults.filter_map(|(index, file)| Some((index, fault(file, files, formats)?))).take(MOST_FAULTS).collect()
}

/// Schemas of a document that have a keyword which is probably misspelt: operations refer to them, and are not looked
/// through themselves.
pub(super) fn misspelt_components(documents: &Documents) -> Vec<DocumentFault> {
    let schemas = documents.root().and_then(|root| root.value.pointer(COMPONENTS)).and_then(Value::as_object);
    let faults = schemas.into_iter().flatten().filter_map(|(name, schema)| {
        let (below, meant) = set::misspelt(schema)?;
        let message = format!("unknown keyword: did you mean {meant:?}? It checks nothing");
        Some(documents.fault_at(0, &format!("{COMPONENTS}/{}{below}", document::escape(name)), message))
    });
    faults.collect()
}

/// The first fault of a file.
fn fault(file: &NamedFile, files: &[NamedFile], formats: Formats) -> Option<String> {
    let path = file.path.display();
    let content = match document::parse(&file.path, &file.bytes) {
        Ok(content) => content,
        Err(message) => return Some(format!("{path}: {message}")),
    };
    if !is_schema(&content) {
        let named = PLACES.iter().flat_map(|place| {
            let members = content.pointer(place).and_then(Value::as_object).into_iter().flatten();
            members.map(move |(name, schema)| (format!("{place}/{name}"), schema))
        });
        let (place, meant) = named.filter(|(_, schema)| is_schema(schema)).find_map(|(place, schema)| {
            let (below, meant) = set::misspelt(schema)?;
            Some((format!("{place}{below}"), meant))
        })?;
        return Some(format!("{path}: unknown keyword at {place}: did you mean {meant:?}?"));
    }
    if let Some((place, meant)) = set::misspelt(&content) {
        return Some(format!("{path}: unknown keyword at {place}: did you mean {meant:?}?"));
    }
    // Only what says that it is a schema is one by itself: others may be parts of a document, which has other rules.
    let names_draft = content.get("$schema").and_then(Value::as_str).is_some_and(|it| it.contains("json-schema.org/"));
    let is_json = file.bytes.trim_ascii_start().starts_with(b"{");
    let compiled = (names_draft && is_json).then(|| Schema::beside(file, files, formats));
    compiled.and_then(Result::err).map(|fault| fault.message)
}

fn is_schema(value: &Value) -> bool {
    OF_SCHEMAS.iter().any(|(name, has_type)| value.get(name).is_some_and(has_type))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Contract, DocumentReading},
        *,
    };

    #[test]
    fn faults_of_files_that_nothing_refers_to() {
        for (path, text, expect) in [
            ("/f/a.json", r#"{"type": "object", "required": ["a"]}"#, None),
            (
                "/f/a.json",
                r#"{"type": "object", "requierd": ["a"]}"#,
                Some("unknown keyword at /requierd: did you mean \"required\"?"),
            ),
            ("/f/a.json", r#"{"type": "object", "requ"#, Some("not acceptable as JSON")),
            (
                "/f/a.json",
                r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "strin"}"#,
                Some("/f/a.json: "),
            ),
            (
                "/f/a.json",
                r#"{"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "("}"#,
                Some("/f/a.json: "),
            ),
            (
                "/f/a.json",
                r#"{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "c"}"#,
                Some("/f/a.json: "),
            ),
            ("/f/a.json", r#"{"$schema": "https://a.example/own", "type": "object"}"#, None),
            (
                "/f/a.json",
                r#"{"type": "integer", "minimum": 1, "exclusiveMinimum": true, "$ref": "b.yaml#/Item"}"#,
                None,
            ),
            (
                "/f/a.yaml",
                "Item: {type: object, properties: {name: {type: string, maxLenght: 9}}}",
                Some("unknown keyword at /Item/properties/name/maxLenght: did you mean \"maxLength\"?"),
            ),
            ("/f/a.yaml", "Item: {type: object, nullable: true, example: {}}\nnote: text", None),
            ("/f/a.yaml", "Item: {type: object", Some("not acceptable as YAML")),
            (
                "/f/a.yaml",
                "components: {schemas: {A: {type: string, patern: a}}}",
                Some("at /components/schemas/A/patern"),
            ),
            ("/f/a.yaml", "openapi: 3.1.0\npaths: {}", None),
            ("/f/a.yaml", "# nothing\n", Some("the document is empty")),
        ] {
            let file = |path: &str, text: &str| NamedFile { path: path.into(), bytes: text.as_bytes().into() };
            let files = [file("/f/b.yaml", "Item: {type: string}"), file(path, text)];
            let found = file_faults(&files, Formats::Annotate);
            assert_eq!(found.len(), usize::from(expect.is_some()), "{text}: {found:?}");
            let is_told = |(index, fault): &(usize, String)| *index == 1 && fault.contains(expect.unwrap_or_default());
            assert!(found.iter().all(is_told), "{text}: {found:?}");
        }
    }
    #[test]
    fn slips_in_what_operations_refer_to_are_told() {
        let document = "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths: {}\n\
            components: {schemas: {A: {requierd: [a]}, a/b: {items: {maxLenght: 1}}, C: {x-own: 1, xml: {}}}}";
        let file = NamedFile { path: "/f/api.yaml".into(), bytes: document.as_bytes().into() };
        let contract = Contract::new(&file, &[], Formats::Annotate, &DocumentReading::default()).unwrap();
        let slips = contract.warnings().iter().filter(|warning| warning.message.starts_with("unknown keyword"));
        let places: Vec<&str> = slips.map(|warning| warning.place.as_str()).collect();
        assert_eq!(
            places,
            ["api.yaml#/components/schemas/A/requierd", "api.yaml#/components/schemas/a~1b/items/maxLenght"]
        );
    }
}
