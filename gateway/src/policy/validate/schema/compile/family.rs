//! Which schemas of an OpenAPI document have names, and which are made of which.

use hashbrown::HashMap;
use serde_json::Value;

/// Where the schemas of a document stand that have names.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// Which schemas with names are made of which: what a `discriminator` without alternatives may lead to.
#[derive(Default)]
pub(in crate::policy::validate::schema) struct Family {
    /// The names of schemas by the address of their members.
    pub(super) names: HashMap<usize, String>,
    /// By the name of a schema, those that have it in `allOf`.
    pub(super) children: HashMap<String, Vec<String>>,
    pub(super) is_dynamic: bool,
    /// Whether anything may be read-only, or write-only.
    pub(super) has_read_only: bool,
}

impl Family {
    /// Reads `components.schemas` of a document.
    pub(in crate::policy::validate::schema) fn of(document: &Value) -> Self {
        let mut family = Self { is_dynamic: mentions(document, &["$dynamicRef"]), ..Self::default() };
        let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
        for (name, schema) in schemas.into_iter().flatten() {
            if let Some(schema) = schema.as_object() {
                family.names.insert(std::ptr::from_ref(schema).addr(), name.clone());
            }
            for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                if let Some(parent) = part.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(SCHEMAS)) {
                    family.children.entry(unescape(parent)).or_default().push(name.clone());
                }
            }
        }
        family
    }

    /// Looks whether a document, or one that it refers to, has anything that is read-only.
    pub(in crate::policy::validate::schema) fn look_for_read_only(&mut self, document: &Value) {
        self.has_read_only |= mentions(document, &["readOnly", "writeOnly"]);
    }
}

/// Whether one of `keywords` is in a schema, or anything that looks like it.
pub(super) fn mentions(value: &Value, keywords: &[&str]) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|element| mentions(element, keywords)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| keywords.contains(&name.as_str()) || mentions(member, keywords))
        }
        _ => false,
    }
}

pub(super) fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~").replace("%20", " ")
}
