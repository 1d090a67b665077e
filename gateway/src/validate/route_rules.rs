//! What a route asks of the parameters of its requests, without a document.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

use super::{
    openapi::paths::{self, Paths},
    parameter::{Coding, Head, Parameter, Parameters, Style},
    schema::set::{OpenApi, SchemaDocument, SchemaId, SchemaSet, Shape},
};
use crate::{
    diagnostic::Diagnostic,
    refusal::Refusal,
    settings::validate::{Formats, ParameterRule},
    violation::RequestPart,
};

/// What the parameters of a route's requests must be.
pub struct RouteRules {
    schemas: SchemaSet,
    parameters: Parameters,
    /// The route's path, where one of its parameters is judged.
    path: Option<(Paths, Vec<Box<str>>)>,
}

impl RouteRules {
    /// Compiles the rules of a route with this path. `None`: there are none.
    ///
    /// # Errors
    /// A pattern that is none, a format that nobody knows where they are strict.
    pub fn new(
        rules: &[ParameterRule],
        refuses_unknown: bool,
        path: &str,
        formats: Formats,
    ) -> Result<Option<Self>, Diagnostic> {
        if rules.is_empty() && !refuses_unknown {
            return Ok(None);
        }
        let content = Value::from(rules.iter().map(|rule| rule.schema.clone()).collect::<Vec<_>>());
        let documents = [SchemaDocument { uri: "json-schema:///route".to_owned(), content }];
        let of_rules: Vec<(usize, &Value)> =
            documents.iter().flat_map(|it| it.content.as_array()).flatten().map(|schema| (0, schema)).collect();
        let openapi = OpenApi { is_3_0: false, refuses_read_only: false, is_response: false };
        let schemas = SchemaSet::compile(&documents, &of_rules, openapi, formats).map_err(|fault| {
            let index = fault.place.split('/').nth(1).and_then(|index| index.parse::<usize>().ok());
            let rule = index.and_then(|index| rules.get(index));
            let key = rule.map_or_else(String::new, |rule| format!("{}.{}", table(rule.part), rule.name));
            Diagnostic::new(key, fault.message)
        })?;
        let all = rules.iter().enumerate().map(|(index, rule)| parameter(rule, SchemaId(index), &schemas));
        let parameters = Parameters { all: all.collect(), refuses_unknown, ..Parameters::default() };
        let judges_path = rules.iter().any(|rule| rule.part == RequestPart::Path);
        let path = if judges_path {
            let pieces = paths::template(path).map_err(|why| Diagnostic::new("path", why))?;
            let mut paths = Paths::default();
            paths.add(&pieces, 0);
            // The route may have been found for the path with or without a slash at its end.
            let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
            if let Ok(other) = paths::template(&other)
                && !path.contains("{*")
            {
                paths.add(&other, 0);
            }
            Some((paths, paths::names(&pieces)))
        } else {
            None
        };
        Ok(Some(Self { schemas, parameters, path }))
    }

    /// Judges the parameters of a request.
    ///
    /// # Errors
    /// [`Reject::InvalidParameter`](crate::refusal::Reject::InvalidParameter) with all that is wrong.
    pub fn judge(&self, path: &str, query: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let found = self.path.as_ref().and_then(|(paths, names)| Some((names, paths.find(path)?.1)));
        let pairs: Vec<(&str, &str)> = match &found {
            Some((names, values)) => names.iter().map(|name| &**name).zip(values.iter().copied()).collect(),
            None => Vec::new(),
        };
        self.parameters.judge(&self.schemas, Head { path: &pairs, query, headers })
    }
}

/// The table of a route that has the rules of a part.
const fn table(part: RequestPart) -> &'static str {
    match part {
        RequestPart::Path => "path_parameter",
        part => part.name(),
    }
}

fn parameter(rule: &ParameterRule, schema: SchemaId, schemas: &SchemaSet) -> Parameter {
    let shape: Shape = schemas.shape(schema);
    let is_pair = matches!(rule.part, RequestPart::Query | RequestPart::Cookie);
    let style = if is_pair { Style::Form } else { Style::Simple };
    Parameter {
        name: rule.name.as_str().into(),
        part: rule.part,
        coding: Coding::Styled { style, explode: is_pair },
        is_required: rule.required,
        may_be_empty: false,
        schema: Some(schema),
        shape,
    }
}

impl fmt::Debug for RouteRules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RouteRules({} parameters)", self.parameters.all.len())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn b07_parameters_of_a_route() {
        let rule = |part, name: &str, required, schema| ParameterRule { part, name: name.to_owned(), required, schema };
        let rules = [
            rule(RequestPart::Path, "id", true, json!({"type": "integer", "minimum": 1})),
            rule(RequestPart::Query, "limit", true, json!({"type": "integer", "maximum": 100})),
            rule(
                RequestPart::Query,
                "tag",
                false,
                json!({"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 2}),
            ),
            rule(RequestPart::Header, "x-mode", false, json!({"enum": ["a", "b"]})),
            rule(RequestPart::Cookie, "session", false, json!({"type": "string", "maxLength": 4})),
        ];
        let compiled = RouteRules::new(&rules, true, "/items/{id}", Formats::Annotate).unwrap().unwrap();
        for (path, query, header, expect) in [
            ("/items/7", "limit=5", None, None),
            ("/items/7", "limit=5&tag=a&tag=b", Some(("x-mode", "a")), None),
            ("/items/0", "limit=5", None, Some("path id: minimum")),
            ("/items/x", "limit=5", None, Some("path id: type")),
            ("/items/7", "", None, Some("query limit: required")),
            ("/items/7", "limit=101", None, Some("query limit: maximum")),
            ("/items/7", "limit=5&tag=A", None, Some("query tag: pattern at /0")),
            ("/items/7", "limit=5&tag=a&tag=b&tag=c", None, Some("query tag: maxItems")),
            ("/items/7", "limit=5&other=1", None, Some("query other: unknown")),
            ("/items/7", "limit=5", Some(("x-mode", "c")), Some("header x-mode: enum")),
            ("/items/7", "limit=5", Some(("cookie", "session=12345")), Some("cookie session: maxLength")),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let refused = compiled.judge(path, query, &headers).err().map(|refusal| refusal.detail.to_string());
            assert_eq!(refused.as_deref(), expect, "{path}?{query}");
        }
        let wrong = [rule(RequestPart::Query, "a", false, json!({"type": "string", "pattern": "(a)\\2"}))];
        let diagnostic = RouteRules::new(&wrong, false, "/", Formats::Annotate).unwrap_err();
        assert_eq!(diagnostic.key, "query.a");
        assert!(RouteRules::new(&[], false, "/", Formats::Annotate).unwrap().is_none());
    }
}
