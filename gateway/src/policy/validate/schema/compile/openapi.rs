//! What OpenAPI adds to JSON Schema: `nullable`, `discriminator`, and formats of numbers and bytes.

use hashbrown::HashMap;
use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::{
    super::{
        graph::{Discriminator, KeywordCheck, Node, NodeId},
        keyword::Keyword,
    },
    Checks, CompileError, Compiler, Subschema,
    family::{SCHEMAS, unescape},
    inherited::Applied,
    malformed,
};

impl Compiler<'_> {
    /// A node by which nothing is valid, as what it is for is read-only.
    pub(super) fn refused(&mut self) -> Result<NodeId, CompileError> {
        let id = self.next()?;
        let is_response = self.dialect.openapi.is_some_and(|openapi| openapi.is_response);
        let keyword = if is_response { Keyword::WriteOnly } else { Keyword::ReadOnly };
        self.nodes.push(Node { checks: vec![(keyword, KeywordCheck::Never)], remembers: false });
        Ok(id)
    }
}

impl<'r> Subschema<'_, 'r> {
    fn is_openapi_3_0(&self) -> bool {
        self.compiler.dialect.openapi.is_some_and(|openapi| openapi.is_3_0)
    }

    /// Whether `exclusiveMinimum` and `exclusiveMaximum` are booleans.
    pub(super) fn has_flags(&self) -> bool {
        self.draft == Draft::Draft4 || self.is_openapi_3_0()
    }

    /// Whether `type` of this schema takes `null`, too. That is all that `nullable` does: it widens the `type` of its own
    /// schema, and `enum`, `allOf` and the others count as ever (OpenAPI 3.0.3, clarification of `nullable`).
    pub(super) fn is_nullable(&self, schema: &Map<String, Value>) -> bool {
        self.is_openapi_3_0() && schema.get("nullable") == Some(&Value::Bool(true))
    }

    /// Remembers a schema whose author probably expects `null` to be valid by a `nullable` that does nothing.
    pub(super) fn note_idle_nullable(&mut self, schema: &Value) {
        let Some(members) = schema.as_object() else { return };
        let binds = ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|keyword| members.contains_key(*keyword));
        let is_idle = binds && (members.contains_key("$ref") || !members.contains_key("type"));
        if is_idle && self.is_nullable(members) {
            self.compiler.idle_nullable.push(std::ptr::from_ref(schema).addr());
        }
    }

    /// Adds what a format of OpenAPI checks; whether it is one.
    pub(super) fn openapi_format(&mut self, format: &str, checks: &mut Checks) -> Result<bool, CompileError> {
        if self.compiler.dialect.openapi.is_none() {
            return Ok(false);
        }
        let range = match format {
            "int8" => Some((json!(i8::MIN), json!(i8::MAX))),
            "int16" => Some((json!(i16::MIN), json!(i16::MAX))),
            "int32" => Some((json!(i32::MIN), json!(i32::MAX))),
            "int64" => Some((json!(i64::MIN), json!(i64::MAX))),
            "uint8" => Some((json!(0), json!(u8::MAX))),
            "uint16" => Some((json!(0), json!(u16::MAX))),
            "uint32" => Some((json!(0), json!(u32::MAX))),
            "uint64" => Some((json!(0), json!(u64::MAX))),
            "byte" => {
                let check = self.library_of(Draft::Draft7, &json!({"contentEncoding": "base64"}))?;
                checks.push((Keyword::Format, KeywordCheck::Text(check, "base64".into())));
                return Ok(true);
            }
            // They say what a value is for, and take every string or number.
            "binary" | "password" | "float" | "double" => return Ok(true),
            _ => return Ok(false),
        };
        for (limit, is_upper) in range.into_iter().flat_map(|(least, most)| [(least, false), (most, true)]) {
            if let Value::Number(limit) = limit {
                checks.push((
                    Keyword::Format,
                    KeywordCheck::Bound { limit: limit.into(), is_upper, is_exclusive: false },
                ));
            }
        }
        Ok(true)
    }

    /// Adds what a `discriminator` asks for; whether it stands for the alternatives of the schema.
    pub(super) fn discriminator(
        &mut self,
        schema: &'r Map<String, Value>,
        checks: &mut Checks,
    ) -> Result<bool, CompileError> {
        if self.compiler.dialect.openapi.is_none() {
            return Ok(false);
        }
        let Some(value) = self.at(schema, Keyword::Discriminator) else { return Ok(false) };
        let member = value.get("propertyName").and_then(Value::as_str).ok_or_else(malformed)?;
        let mut branches = HashMap::default();
        let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        for alternative in alternatives.into_iter().flatten() {
            let Some(to) = alternative.get("$ref").and_then(Value::as_str) else {
                // Nothing names it, so that each has to be tried.
                return Ok(false);
            };
            let name = to.rsplit('/').next().map(unescape).unwrap_or_default();
            branches.insert(name.into(), self.named(to)?);
        }
        if alternatives.is_none() {
            self.children(schema, &mut branches)?;
        }
        if let Some(mapping) = value.get("mapping") {
            for (name, to) in mapping.as_object().ok_or_else(malformed)? {
                let to = to.as_str().ok_or_else(malformed)?;
                branches.insert(name.as_str().into(), self.named(to)?);
            }
        }
        let default = value.get("defaultMapping").map(|to| to.as_str().ok_or_else(malformed));
        let default = default.transpose()?.map(|to| self.named(to)).transpose()?;
        // A parent without children says only that the member must be there, which `required` does.
        if branches.is_empty() && default.is_none() {
            return Ok(false);
        }
        let discriminator = Discriminator { member: member.into(), branches, default };
        checks.push((Keyword::Discriminator, KeywordCheck::Discriminator(Box::new(discriminator))));
        Ok(alternatives.is_some())
    }

    /// The schemas that have this one in `allOf`, and itself.
    fn children(
        &mut self,
        schema: &'r Map<String, Value>,
        branches: &mut HashMap<Box<str>, NodeId, hashbrown::DefaultHashBuilder>,
    ) -> Result<(), CompileError> {
        let family = self.compiler.family;
        let own = family.names.get(&std::ptr::from_ref(schema).addr());
        let Some((own, children)) = own.and_then(|own| Some((own, family.children.get(own)?))) else { return Ok(()) };
        for name in std::iter::once(own).chain(children) {
            branches.insert(name.as_str().into(), self.named(&format!("{SCHEMAS}{}", escape(name)))?);
        }
        Ok(())
    }

    /// The node of what a reference or the name of a schema says.
    fn named(&mut self, to: &str) -> Result<NodeId, CompileError> {
        let is_name = to.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_name && let Ok(resolved) = self.resolver.lookup(&format!("{SCHEMAS}{to}")) {
            return self.target(resolved, Applied::Child);
        }
        let resolved = self.resolver.lookup(to)?;
        self.target(resolved, Applied::Child)
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1").replace('%', "%25")
}
