//! Keywords that apply other schemas to a value, or to what it holds.

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::{
    super::{
        graph::{KeywordCheck, Members},
        keyword::Keyword,
    },
    Checks, CompileError, Subschema,
    assertions::{count, names},
    malformed,
};

impl<'r> Subschema<'_, 'r> {
    pub(super) fn applicators(
        &mut self,
        schema: &'r Map<String, Value>,
        checks: &mut Checks,
    ) -> Result<(), CompileError> {
        self.members(schema, checks)?;
        self.elements(schema, checks)?;
        self.dependent(schema, checks)?;
        self.combined(schema, checks)?;
        self.references(schema, checks)?;
        // Last, as they speak of what the others left.
        if self.draft >= Draft::Draft201909 {
            if let Some(value) = self.at(schema, Keyword::UnevaluatedProperties) {
                checks.push((Keyword::UnevaluatedProperties, KeywordCheck::UnevaluatedMembers(self.node(value)?)));
            }
            if let Some(value) = self.at(schema, Keyword::UnevaluatedItems) {
                checks.push((Keyword::UnevaluatedItems, KeywordCheck::UnevaluatedElements(self.node(value)?)));
            }
        }
        Ok(())
    }

    fn members(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let mut members = Members::default();
        if let Some(value) = self.at(schema, Keyword::Properties) {
            for (name, schema) in value.as_object().ok_or_else(malformed)? {
                let node = if self.is_read_only(schema) { self.compiler.refused()? } else { self.node(schema)? };
                members.named.insert(name.as_str().into(), node);
            }
        }
        if let Some(value) = schema.get("patternProperties") {
            self.keyword = "patternProperties";
            for (pattern, schema) in value.as_object().ok_or_else(malformed)? {
                let pattern = self.pattern(pattern)?;
                members.patterns.push((pattern, self.node(schema)?));
            }
        }
        if let Some(value) = self.at(schema, Keyword::AdditionalProperties) {
            members.others = Some(self.node(value)?);
        }
        if !members.named.is_empty() || !members.patterns.is_empty() || members.others.is_some() {
            checks.push((Keyword::AdditionalProperties, KeywordCheck::Members(members)));
        }
        if self.draft > Draft::Draft4
            && let Some(value) = self.at(schema, Keyword::PropertyNames)
        {
            checks.push((Keyword::PropertyNames, KeywordCheck::Names(self.node(value)?)));
        }
        Ok(())
    }

    fn elements(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let (mut first, mut rest) = (Vec::new(), None);
        if self.draft >= Draft::Draft202012 {
            if let Some(value) = schema.get("prefixItems") {
                self.keyword = "prefixItems";
                first = self.nodes(value)?;
            }
            if let Some(value) = self.at(schema, Keyword::Items) {
                rest = Some((Keyword::Items, self.node(value)?));
            }
        } else if let Some(value) = self.at(schema, Keyword::Items) {
            if value.is_array() {
                first = self.nodes(value)?;
                if let Some(value) = self.at(schema, Keyword::AdditionalItems) {
                    rest = Some((Keyword::AdditionalItems, self.node(value)?));
                }
            } else {
                rest = Some((Keyword::Items, self.node(value)?));
            }
        }
        if !first.is_empty() || rest.is_some() {
            checks.push((Keyword::Items, KeywordCheck::Elements { first, rest }));
        }
        if self.draft > Draft::Draft4
            && let Some(value) = self.at(schema, Keyword::Contains)
        {
            let node = self.node(value)?;
            let (mut least, mut most) = (1, u64::MAX);
            if self.draft >= Draft::Draft201909 {
                if let Some(value) = schema.get("minContains") {
                    least = count(value).ok_or_else(malformed)?;
                }
                if let Some(value) = self.at(schema, Keyword::MaxContains) {
                    most = count(value).ok_or_else(malformed)?;
                }
            }
            let evaluates = self.draft >= Draft::Draft202012;
            checks.push((Keyword::Contains, KeywordCheck::Contains { node, least, most, evaluates }));
        }
        Ok(())
    }

    fn dependent(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if self.draft >= Draft::Draft201909
            && let Some(value) = self.at(schema, Keyword::DependentSchemas)
        {
            let all = value.as_object().ok_or_else(malformed)?;
            let all = all.iter().map(|(name, schema)| Ok((name.as_str().into(), self.node(schema)?)));
            let all = all.collect::<Result<_, CompileError>>()?;
            checks.push((Keyword::DependentSchemas, KeywordCheck::Dependent(all)));
        }
        let Some(value) = self.at(schema, Keyword::Dependencies) else { return Ok(()) };
        let (mut required, mut dependent) = (Vec::new(), Vec::new());
        for (name, value) in value.as_object().ok_or_else(malformed)? {
            if value.is_array() {
                required.push((name.as_str().into(), names(value)?));
            } else {
                dependent.push((name.as_str().into(), self.node(value)?));
            }
        }
        if !required.is_empty() {
            checks.push((Keyword::Dependencies, KeywordCheck::Requires(required)));
        }
        if !dependent.is_empty() {
            checks.push((Keyword::Dependencies, KeywordCheck::Dependent(dependent)));
        }
        Ok(())
    }

    fn combined(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if let Some(value) = self.at(schema, Keyword::AllOf) {
            checks.push((Keyword::AllOf, KeywordCheck::All(self.nodes(value)?)));
        }
        // Where a member says which of them holds, they are not tried one after the other.
        if !self.discriminator(schema, checks)? {
            self.alternatives(schema, checks)?;
        }
        if let Some(value) = self.at(schema, Keyword::Not) {
            checks.push((Keyword::Not, KeywordCheck::Not(self.node(value)?)));
        }
        if self.draft >= Draft::Draft7
            && let Some(value) = self.at(schema, Keyword::If)
        {
            let condition = self.node(value)?;
            let mut branch = |keyword| schema.get(keyword).map(|value| self.node(value)).transpose();
            let (then, otherwise) = (branch("then")?, branch("else")?);
            checks.push((Keyword::If, KeywordCheck::If { condition, then, otherwise }));
        }
        Ok(())
    }

    fn alternatives(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if let Some(value) = self.at(schema, Keyword::AnyOf) {
            checks.push((Keyword::AnyOf, KeywordCheck::Any(self.nodes(value)?)));
        }
        if let Some(value) = self.at(schema, Keyword::OneOf) {
            checks.push((Keyword::OneOf, KeywordCheck::One(self.nodes(value)?)));
        }
        Ok(())
    }

    /// Up to draft 7 a reference stands alone.
    pub(super) fn references(
        &mut self,
        schema: &'r Map<String, Value>,
        checks: &mut Checks,
    ) -> Result<(), CompileError> {
        if let Some(value) = self.at(schema, Keyword::Ref) {
            let resolved = self.resolver.lookup(value.as_str().ok_or_else(malformed)?)?;
            checks.push((Keyword::Ref, KeywordCheck::All(vec![self.target(resolved)?])));
        }
        if self.draft == Draft::Draft201909 && self.at(schema, Keyword::RecursiveRef).is_some() {
            let resolved = self.resolver.lookup_recursive_ref()?;
            checks.push((Keyword::RecursiveRef, KeywordCheck::All(vec![self.target(resolved)?])));
        }
        if self.draft >= Draft::Draft202012
            && let Some(value) = self.at(schema, Keyword::DynamicRef)
        {
            let resolved = self.resolver.lookup(value.as_str().ok_or_else(malformed)?)?;
            checks.push((Keyword::DynamicRef, KeywordCheck::All(vec![self.target(resolved)?])));
        }
        Ok(())
    }
}
