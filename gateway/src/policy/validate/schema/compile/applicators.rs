//! Keywords that apply other schemas to a value, or to what it holds.

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::{
    super::{
        graph::{KeywordCheck, Members},
        keyword::Keyword,
    },
    Applied, Checks, CompileError, Subschema,
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
                let node = self.node(value, Applied::Other)?;
                checks.push((Keyword::UnevaluatedProperties, KeywordCheck::UnevaluatedMembers(node)));
            }
            if let Some(value) = self.at(schema, Keyword::UnevaluatedItems) {
                let node = self.node(value, Applied::Element)?;
                checks.push((Keyword::UnevaluatedItems, KeywordCheck::UnevaluatedElements(node)));
            }
        }
        Ok(())
    }

    fn members(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let mut members = Members::default();
        if let Some(value) = self.at(schema, Keyword::Properties) {
            for (name, schema) in value.as_object().ok_or_else(malformed)? {
                let node = match self.is_read_only(schema) {
                    true => self.compiler.refused()?,
                    false => self.node(schema, Applied::Member(name))?,
                };
                members.named.insert(name.as_str().into(), node);
            }
        }
        if let Some(value) = schema.get("patternProperties") {
            self.keyword = "patternProperties";
            for (pattern, schema) in value.as_object().ok_or_else(malformed)? {
                let pattern = self.pattern(pattern)?;
                members.patterns.push((pattern, self.node(schema, Applied::Other)?));
            }
        }
        if let Some(value) = self.at(schema, Keyword::AdditionalProperties) {
            members.others = Some(self.node(value, Applied::Other)?);
        }
        if !members.named.is_empty() || !members.patterns.is_empty() || members.others.is_some() {
            checks.push((Keyword::AdditionalProperties, KeywordCheck::Members(members)));
        }
        if self.draft > Draft::Draft4
            && let Some(value) = self.at(schema, Keyword::PropertyNames)
        {
            checks.push((Keyword::PropertyNames, KeywordCheck::Names(self.node(value, Applied::Other)?)));
        }
        Ok(())
    }

    fn elements(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let (mut first, mut rest) = (Vec::new(), None);
        if self.draft >= Draft::Draft202012 {
            if let Some(value) = schema.get("prefixItems") {
                self.keyword = "prefixItems";
                first = self.nodes(value, Applied::Element)?;
            }
            if let Some(value) = self.at(schema, Keyword::Items) {
                rest = Some((Keyword::Items, self.node(value, Applied::Element)?));
            }
        } else if let Some(value) = self.at(schema, Keyword::Items) {
            if value.is_array() {
                first = self.nodes(value, Applied::Element)?;
                if let Some(value) = self.at(schema, Keyword::AdditionalItems) {
                    rest = Some((Keyword::AdditionalItems, self.node(value, Applied::Element)?));
                }
            } else {
                rest = Some((Keyword::Items, self.node(value, Applied::Element)?));
            }
        }
        if !first.is_empty() || rest.is_some() {
            checks.push((Keyword::Items, KeywordCheck::Elements { first, rest }));
        }
        if self.draft > Draft::Draft4
            && let Some(value) = self.at(schema, Keyword::Contains)
        {
            let node = self.node(value, Applied::Element)?;
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
            let all = all.iter().map(|(name, schema)| Ok((name.as_str().into(), self.node(schema, Applied::Same)?)));
            let all = all.collect::<Result<_, CompileError>>()?;
            checks.push((Keyword::DependentSchemas, KeywordCheck::Dependent(all)));
        }
        let Some(value) = self.at(schema, Keyword::Dependencies) else { return Ok(()) };
        let (mut required, mut dependent) = (Vec::new(), Vec::new());
        for (name, value) in value.as_object().ok_or_else(malformed)? {
            if value.is_array() {
                required.push((name.as_str().into(), self.without_read_only(names(value)?)));
            } else {
                dependent.push((name.as_str().into(), self.node(value, Applied::Same)?));
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
            checks.push((Keyword::AllOf, KeywordCheck::All(self.nodes(value, Applied::Same)?)));
        }
        // Where a member says which of them holds, they are not tried one after the other.
        if !self.discriminator(schema, checks)? {
            self.alternatives(schema, checks)?;
        }
        // Nothing is known of a file that could be asked.
        if self.inherited.is_file {
            return Ok(());
        }
        if let Some(value) = self.at(schema, Keyword::Not) {
            checks.push((Keyword::Not, KeywordCheck::Not(self.node(value, Applied::Question)?)));
        }
        if self.draft >= Draft::Draft7
            && let Some(value) = self.at(schema, Keyword::If)
        {
            let condition = self.node(value, Applied::Question)?;
            let mut branch = |keyword| schema.get(keyword).map(|value| self.node(value, Applied::Same)).transpose();
            let (then, otherwise) = (branch("then")?, branch("else")?);
            checks.push((Keyword::If, KeywordCheck::If { condition, then, otherwise }));
        }
        Ok(())
    }

    fn alternatives(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if let Some(value) = self.at(schema, Keyword::AnyOf) {
            checks.push((Keyword::AnyOf, KeywordCheck::Any(self.nodes(value, Applied::Alternative)?)));
        }
        if let Some(value) = self.at(schema, Keyword::OneOf) {
            let nodes = self.nodes(value, Applied::Alternative)?;
            // What would tell two kinds of files apart is not judged.
            let check = if self.inherited.is_file { KeywordCheck::Any(nodes) } else { KeywordCheck::One(nodes) };
            checks.push((Keyword::OneOf, check));
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
            checks.push((Keyword::Ref, KeywordCheck::All(vec![self.target(resolved, Applied::Same)?])));
        }
        if self.draft == Draft::Draft201909 && self.at(schema, Keyword::RecursiveRef).is_some() {
            let resolved = self.resolver.lookup_recursive_ref()?;
            checks.push((Keyword::RecursiveRef, KeywordCheck::All(vec![self.target(resolved, Applied::Same)?])));
        }
        if self.draft >= Draft::Draft202012
            && let Some(value) = self.at(schema, Keyword::DynamicRef)
        {
            let resolved = self.resolver.lookup(value.as_str().ok_or_else(malformed)?)?;
            checks.push((Keyword::DynamicRef, KeywordCheck::All(vec![self.target(resolved, Applied::Same)?])));
        }
        Ok(())
    }
}
