//! `readOnly` and `writeOnly` of OpenAPI: which members a request, or a response, may not have and need not have.

use jsonschema::Draft;
use referencing::Resolver;
use serde_json::{Map, Value};

use super::{Subschema, read_only_members::ReadOnlyMembers};

/// How many references in a row are followed to learn whether a member is read-only.
const MOST_STEPS: usize = 8;

/// How many schemas of one value are looked at to learn which of its members are. What others say stays required.
const MOST_SCHEMAS: usize = 256;

/// The schemas that are being looked at, and how many more may be.
struct SchemaPath {
    schemas: Vec<usize>,
    left: usize,
}

impl<'r> Subschema<'_, 'r> {
    /// Whether a request may not have the member of this schema.
    pub(super) fn is_read_only(&self, schema: &'r Value) -> bool {
        let refuses = self.compiler.dialect.openapi.is_some_and(|openapi| openapi.refuses_read_only);
        refuses && self.compiler.family.has_read_only && self.says_read_only(schema, &self.resolver, MOST_STEPS)
    }

    fn says_read_only(&self, schema: &'r Value, resolver: &Resolver<'r>, steps: usize) -> bool {
        let Some(steps) = steps.checked_sub(1) else { return false };
        let is_response = self.compiler.dialect.openapi.is_some_and(|openapi| openapi.is_response);
        if schema.get(if is_response { "writeOnly" } else { "readOnly" }) == Some(&Value::Bool(true)) {
            return true;
        }
        if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
            return resolver
                .lookup(to)
                .is_ok_and(|found| self.says_read_only(found.contents(), found.resolver(), steps));
        }
        let parts = schema.get("allOf").and_then(Value::as_array);
        parts.into_iter().flatten().any(|part| self.says_read_only(part, resolver, steps))
    }

    /// Which members a schema says to be read-only: itself, and by what it applies to the same value.
    pub(super) fn read_only_members(&self, schema: &'r Value) -> ReadOnlyMembers {
        if self.compiler.dialect.openapi.is_none() || !self.compiler.family.has_read_only {
            return ReadOnlyMembers::default();
        }
        self.collect(schema, &self.resolver, &mut SchemaPath { schemas: Vec::new(), left: MOST_SCHEMAS })
    }

    fn collect(&self, schema: &'r Value, resolver: &Resolver<'r>, way: &mut SchemaPath) -> ReadOnlyMembers {
        let mut found = ReadOnlyMembers::default();
        let Some(members) = schema.as_object() else { return found };
        let address = std::ptr::from_ref(schema).addr();
        if way.left == 0 || way.schemas.contains(&address) {
            return found;
        }
        way.left -= 1;
        way.schemas.push(address);
        if let Some(to) = members.get("$ref").and_then(Value::as_str)
            && let Ok(target) = resolver.lookup(to)
        {
            found.add(self.collect(target.contents(), target.resolver(), way));
        }
        // Up to draft 7 a reference is all that counts.
        if self.draft > Draft::Draft7 || !members.contains_key("$ref") {
            self.collect_beside(members, resolver, way, &mut found);
        }
        way.schemas.pop();
        let ReadOnlyMembers { all, some } = &mut found;
        some.retain(|name| !all.contains(name));
        found
    }

    /// What a schema says besides its reference.
    fn collect_beside(
        &self,
        members: &'r Map<String, Value>,
        resolver: &Resolver<'r>,
        way: &mut SchemaPath,
        found: &mut ReadOnlyMembers,
    ) {
        for (name, member) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if self.says_read_only(member, resolver, MOST_STEPS) {
                found.all.insert(name.as_str().into());
            }
        }
        for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            found.add(self.collect(part, resolver, way));
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches = members.get(keyword).and_then(Value::as_array).into_iter().flatten();
            // `null` has no members.
            let branches = branches.filter(|branch| branch.get("type").and_then(Value::as_str) != Some("null"));
            let branches = branches.map(|branch| self.collect(branch, resolver, way)).collect();
            found.add(ReadOnlyMembers::of_alternatives(branches));
        }
    }

    /// What a request must have of `required`: what is read-only belongs to responses, and the other way round.
    pub(super) fn without_read_only(&self, required: Vec<Box<str>>) -> Vec<Box<str>> {
        let is_read_only = |name: &str| self.read_only.all.contains(name) || self.inherited.read_only.contains(name);
        let mut left = required;
        left.retain(|name| !is_read_only(name));
        // An alternative that asks for nothing else is one of responses: without that it would be met by everything.
        let is_outside = |name: &str| self.inherited.read_only_outside.contains(name);
        if !left.iter().all(|name| is_outside(name)) {
            left.retain(|name| !is_outside(name));
        }
        left
    }

    /// Remembers a schema that requires what is read-only by one alternative alone: nobody can tell whether a request has
    /// to have it.
    pub(super) fn note_doubtful_required(&mut self, schema: &Value, members: &'r Map<String, Value>) {
        let Some(required) = members.get("required").and_then(Value::as_array) else { return };
        let names = required.iter().filter_map(Value::as_str).map(Box::from).collect();
        let is_doubtful = |name: &str| {
            let inherited = &self.inherited;
            let sets = [&self.read_only.some, &inherited.doubtful, &inherited.read_only_outside];
            sets.iter().any(|names| names.contains(name))
        };
        if self.without_read_only(names).iter().any(|name| is_doubtful(name)) {
            self.compiler.doubtful_required.push(std::ptr::from_ref(schema).addr());
        }
    }
}
