//! What a route asks of the parameters and media types of its requests, without a document.

use std::fmt;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use super::{
    body::media::{MediaRange, MediaType},
    parameter::{Coding, Head, Parameter, Parameters, Style},
    schema::set::{OpenApi, SchemaDocument, SchemaId, SchemaSet, Shape},
};
use crate::{
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject, violation::RequestPart},
    settings::validate::{Formats, ParameterRule, RefusesUnknown},
    web::path::pattern::PatternParameter,
};

/// What a route says of its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteExpectations<'a> {
    /// Its path.
    pub path: &'a str,
    /// What parameters must be.
    pub parameters: &'a [ParameterRule],
    /// What there may not be besides.
    pub refuses: RefusesUnknown,
    /// Headers and cookies that are known all the same.
    pub known: (&'a [HeaderName], &'a [String]),
    /// The media types of bodies; empty: any.
    pub content_types: &'a [String],
}

/// What the requests of a route must be.
pub struct RouteRules {
    schemas: SchemaSet,
    parameters: Parameters,
    /// The media types of bodies; empty: any.
    types: Vec<MediaRange>,
    /// The parameters of the route's path that are judged, by their names: the router has matched the rest of it.
    path: Box<[(Box<str>, PatternParameter)]>,
}

impl RouteRules {
    /// Compiles the rules of a route. `None`: there are none.
    ///
    /// # Errors
    /// All that is wrong: patterns that are none, formats that nobody knows where they are strict, names that no header
    /// has.
    pub fn new(expected: RouteExpectations<'_>, formats: Formats) -> Result<Option<Self>, Vec<Diagnostic>> {
        let RouteExpectations { path, parameters: rules, refuses, known, content_types } = expected;
        if rules.is_empty() && refuses == RefusesUnknown::default() && content_types.is_empty() {
            return Ok(None);
        }
        let mut wrong = Vec::new();
        let mut types = Vec::new();
        for text in content_types {
            match MediaRange::read(text) {
                Some(range) => types.push(range),
                None => wrong.push(Diagnostic::new("content_types", format!("{text:?} is no media type"))),
            }
        }
        // Nothing would ever be read of it.
        let no_headers = rules
            .iter()
            .filter(|rule| rule.part == RequestPart::Header && HeaderName::from_bytes(rule.name.as_bytes()).is_err());
        wrong.extend(no_headers.map(|rule| {
            let fault = Diagnostic::new(format!("header.{}", rule.name), "is no name of a header");
            fault.hint("write its name alone, as in \"x-version\"")
        }));
        let mut of_path: Vec<(Box<str>, PatternParameter)> = Vec::new();
        for rule in rules.iter().filter(|rule| rule.part == RequestPart::Path) {
            match PatternParameter::named(&rule.name, path) {
                Some(place) => of_path.push((rule.name.as_str().into(), place)),
                None => {
                    let fault = Diagnostic::new(format!("path_parameter.{}", rule.name), "is no parameter of `path`");
                    wrong.push(fault.hint("write its name as in `path`"));
                }
            }
        }
        let schemas = compile(rules, formats).map_err(|faults| wrong.extend(faults)).ok();
        let Some(schemas) = schemas.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let all = rules.iter().enumerate().map(|(index, rule)| parameter(rule, SchemaId(index), &schemas));
        let parameters = Parameters {
            all: all.collect(),
            refuses_unknown: refuses.query,
            known_headers: refuses.headers.then(|| known.0.to_vec()),
            known_cookies: refuses.cookies.then(|| known.1.iter().map(|name| name.as_str().into()).collect()),
            ..Parameters::default()
        };
        Ok(Some(Self { schemas, parameters, types, path: of_path.into() }))
    }

    /// The headers that are judged.
    pub fn judged_headers(&self) -> impl Iterator<Item = HeaderName> {
        self.parameters.headers()
    }

    /// Judges the parameters of a request.
    ///
    /// # Errors
    /// [`Reject::InvalidParameter`](crate::refusal::Reject::InvalidParameter) with all that is wrong.
    pub fn judge(&self, path: &str, query: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let values = self.path.iter().filter_map(|(name, place)| Some((&**name, place.of(path)?)));
        let pairs: Vec<(&str, &str)> = values.collect();
        self.parameters.judge(&self.schemas, Head { path: &pairs, query, headers })
    }

    /// Judges the `Content-Type` of a body of this `length`, where it is known.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`].
    pub fn judge_type(&self, headers: &HeaderMap, length: Option<u64>) -> Result<(), Refusal> {
        if self.types.is_empty() || length == Some(0) {
            return Ok(());
        }
        let media_type = MediaType::of(headers.get(header::CONTENT_TYPE))?;
        if self.types.iter().any(|range| range.has(&media_type)) {
            return Ok(());
        }
        Err(Refusal::new(Reject::UnsupportedMediaType, "Content-Type is not one of the route"))
    }
}

/// Compiles what the rules say of values.
///
/// # Errors
/// What is wrong with each of them.
fn compile(rules: &[ParameterRule], formats: Formats) -> Result<SchemaSet, Vec<Diagnostic>> {
    compile_all(rules, formats).map_err(|first| {
        // A set is refused by its first fault. Alone, each rule tells its own.
        let faults = rules.iter().filter_map(|rule| compile_all(std::slice::from_ref(rule), formats).err());
        let faults: Vec<Diagnostic> = faults.collect();
        if faults.is_empty() { vec![first] } else { faults }
    })
}

fn compile_all(rules: &[ParameterRule], formats: Formats) -> Result<SchemaSet, Diagnostic> {
    let content = Value::from(rules.iter().map(|rule| rule.schema.clone()).collect::<Vec<_>>());
    let documents = [SchemaDocument { uri: "json-schema:///route".to_owned(), content, unkept: Vec::new() }];
    let of_rules: Vec<(usize, &Value)> =
        documents.iter().flat_map(|it| it.content.as_array()).flatten().map(|schema| (0, schema)).collect();
    let openapi = OpenApi { is_3_0: false, refuses_read_only: false, is_response: false };
    SchemaSet::compile(&documents, &of_rules, openapi, formats).map_err(|fault| {
        let index = fault.place.split('/').nth(1).and_then(|index| index.parse::<usize>().ok());
        let rule = index.and_then(|index| rules.get(index));
        let key = rule.map_or_else(String::new, |rule| format!("{}.{}", table(rule.part), rule.name));
        Diagnostic::new(key, fault.message)
    })
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
        let compile = |parameters: &[ParameterRule], path, query| {
            let refuses = RefusesUnknown { query, ..RefusesUnknown::default() };
            let expected = RouteExpectations { path, parameters, refuses, ..RouteExpectations::default() };
            RouteRules::new(expected, Formats::Annotate)
        };
        let compiled = compile(&rules, "/items/{id}", true).unwrap().unwrap();
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
        let keys = |rules: &[ParameterRule]| {
            let wrong = compile(rules, "/", false).unwrap_err();
            wrong.into_iter().map(|one| one.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&wrong), ["query.a"]);
        let wrong = [rule(RequestPart::Header, "x mode", false, json!({"type": "string"}))];
        assert_eq!(keys(&wrong), ["header.x mode"]);
        assert!(compile(&[], "/", false).unwrap().is_none());
    }

    /// Values are taken by their places: the router has matched the path already.
    #[test]
    fn parameters_of_any_path_that_a_route_can_have() {
        let rule = |name: &str, required| ParameterRule {
            part: RequestPart::Path,
            name: name.to_owned(),
            required,
            schema: json!({"type": "integer"}),
        };
        let id = [rule("id", true)];
        let optional = [rule("id", false)];
        let both = [rule("id", true), rule("part", true)];
        let wrong = Some("path id: type");
        for (template, rules, path, expect) in [
            ("/files/{id}/{*rest}", &id[..], "/files/7/a/b", None),
            ("/files/{id}/{*rest}", &id, "/files/7/a", None),
            ("/files/{id}/{*rest}", &id, "/files/7/", None),
            ("/files/{id}/{*rest}", &id, "/files/7", None),
            ("/files/{id}/{*rest}", &id, "/files/x/a/b", wrong),
            ("/files/{id}/{*rest}", &id, "/files/x", wrong),
            ("/files/{id}/{*rest}", &optional, "/files/7/a/b", None),
            ("/files/{id}/{*rest}", &optional, "/files/x/a/b", wrong),
            ("/files/{id}/{*rest}", &id, "/files/%37/a%20b", None),
            ("/files/{id}/{*rest}", &id, "/files/7%20/a", wrong),
            ("/caf%C3%A9/v1/{id}/parts/{part}", &both, "/caf%C3%A9/v1/7/parts/8", None),
            ("/caf%C3%A9/v1/{id}/parts/{part}", &both, "/caf%C3%A9/v1/7/parts/x", Some("path part: type")),
            ("/items/{id}", &id, "/items/7/", None),
            ("/items/{id}/", &id, "/items/7", None),
            ("/items/{id}/", &id, "/items/x/", wrong),
            // As routes take it that allow empty segments.
            ("/items/{id}", &id, "//items//7", None),
        ] {
            let expected = RouteExpectations { path: template, parameters: rules, ..RouteExpectations::default() };
            let compiled = RouteRules::new(expected, Formats::Annotate).unwrap().unwrap();
            let refused = compiled.judge(path, "", &HeaderMap::new()).err().map(|refusal| refusal.detail.to_string());
            assert_eq!(refused.as_deref(), expect, "{template}: {path}");
        }
        let expected = RouteExpectations { path: "/items", parameters: &id, ..RouteExpectations::default() };
        assert_eq!(RouteRules::new(expected, Formats::Annotate).unwrap_err()[0].key, "path_parameter.id");
    }

    /// A bad pattern hides nothing else.
    #[test]
    fn all_faults_of_a_route_are_told_at_once() {
        let rule = |part, name: &str, pattern: &str| ParameterRule {
            part,
            name: name.to_owned(),
            required: false,
            schema: json!({"type": "string", "pattern": pattern}),
        };
        let parameters = [
            rule(RequestPart::Query, "a", "("),
            rule(RequestPart::Query, "good", "^a$"),
            rule(RequestPart::Header, "x mode", "^a$"),
            rule(RequestPart::Cookie, "b", "(a)\\2"),
        ];
        let content_types = ["application".to_owned(), "image/*".to_owned(), "text".to_owned()];
        let expected = RouteExpectations {
            path: "/",
            parameters: &parameters,
            content_types: &content_types,
            ..RouteExpectations::default()
        };
        let wrong = RouteRules::new(expected, Formats::Annotate).unwrap_err();
        let mut keys: Vec<&str> = wrong.iter().map(|one| one.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["content_types", "content_types", "cookie.b", "header.x mode", "query.a"]);
    }

    #[test]
    fn what_nobody_has_named() {
        let rule = |part, name: &str| ParameterRule {
            part,
            name: name.to_owned(),
            required: false,
            schema: json!({"type": "string"}),
        };
        let refuses = RefusesUnknown { headers: true, cookies: true, query: false };
        let expected = RouteExpectations {
            path: "/",
            parameters: &[rule(RequestPart::Header, "X-Mode"), rule(RequestPart::Cookie, "session")],
            refuses,
            known: (&[HeaderName::from_static("x-api-key")], &["token".to_owned()]),
            content_types: &[],
        };
        let compiled = RouteRules::new(expected, Formats::Annotate).unwrap().unwrap();
        for (name, value, expect) in [
            ("x-mode", "a", None),
            ("x-api-key", "a", None),
            ("accept", "*/*", None),
            ("sec-fetch-mode", "cors", None),
            ("x-forwarded-for", "192.0.2.1", None),
            ("x-debug", "1", Some("header x-debug: unknown")),
            ("cookie", "session=1; token=2", None),
            ("cookie", "session=1; tracking=2", Some("cookie tracking: unknown")),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let refused = compiled.judge("/", "any=1", &headers).err().map(|refusal| refusal.detail.to_string());
            assert_eq!(refused.as_deref(), expect, "{name}: {value}");
        }
    }

    #[test]
    fn b05_media_types_of_a_route() {
        let content_types = ["application/pdf".to_owned(), "image/*".to_owned()];
        let expected = RouteExpectations { path: "/", content_types: &content_types, ..RouteExpectations::default() };
        let compiled = RouteRules::new(expected, Formats::Annotate).unwrap().unwrap();
        for (content_type, length, is_refused) in [
            (Some("application/pdf"), Some(9), false),
            (Some("Application/PDF; version=1"), None, false),
            (Some("image/png"), Some(9), false),
            (Some("text/html"), Some(9), true),
            (Some("application/pdf, image/png"), Some(9), true),
            (Some("application"), Some(9), true),
            (None, Some(9), true),
            (None, None, true),
            (None, Some(0), false),
            (Some("text/html"), Some(0), false),
        ] {
            let value = content_type.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value)));
            let refused = compiled.judge_type(&HeaderMap::from_iter(value), length).err();
            let expect = is_refused.then_some(Reject::UnsupportedMediaType);
            assert_eq!(refused.map(|refusal| refusal.reject), expect, "{content_type:?} {length:?}");
        }
    }
}
