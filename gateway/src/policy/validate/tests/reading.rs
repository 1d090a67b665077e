//! What it means to judge a body safely, for all bytes there are: used by
//! the tests here, and by a fuzzer.
//!
//! Nothing panics or takes long, two readers of JSON read alike, the judge of schemas agrees with a library, and the firewall
//! looks at every text that a strict reader finds.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;

use super::{
    body::{media::MediaType, multipart},
    coding::ContentCoding,
    form_rules::FormRules,
    graphql, media_type,
    openapi::{BodyReading, Contract, DocumentReading},
    parameter::{decode::decode, pairs},
    schema::Schema,
    waf::{
        self, Waf,
        reading::{Inspected, inspected},
    },
};
use crate::{
    json::{
        self,
        document::{self, JsonDocument, JsonView},
    },
    os::file::NamedFile,
    refusal::Refusal,
    settings::{
        self,
        graphql::GraphqlLimits,
        validate::{FieldRule, FileRule, FormSettings, Formats},
        waf::WafMode,
    },
    web::path::canonical_path,
};

/// The most that a body is decoded to, in bytes.
const LARGEST: u64 = 64 * 1_024;

/// Everything that judges bodies.
pub struct Judges {
    schema: Schema,
    library: jsonschema::Validator,
    contract: Contract,
    forms: FormRules,
    waf: Waf,
}

/// A request, as far as it matters here.
#[derive(Clone, Copy)]
struct Asked<'a> {
    content_type: &'a HeaderValue,
    target: &'a str,
    body: &'a [u8],
}

impl Judges {
    /// Compiles what they judge by.
    ///
    /// # Errors
    /// What cannot be compiled.
    pub fn new() -> Result<Self, String> {
        let file = |path: &str, text: &str| NamedFile { path: path.into(), bytes: text.as_bytes().into() };
        let text = include_str!("schema.json");
        let schema = Schema::new(&file("/f/schema.json", text), Formats::Strict).map_err(|it| it.to_string())?;
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let library = jsonschema::options().offline().build(&value).map_err(|error| error.to_string())?;
        let document = file("/f/api.yaml", include_str!("api.yaml"));
        let contract = Contract::new(&document, &[], Formats::Annotate, &DocumentReading::default());
        let contract = contract.map_err(|fault| format!("{fault:?}"))?;
        let forms = FormRules::new(&form(), Formats::Annotate).map_err(|all| format!("{all:?}"))?;
        let rules = file("/f/rules.conf", include_str!("rules.conf"));
        let rules = waf::WafRules::new(&settings(rules), None).map_err(|all| format!("{all:?}"))?;
        Ok(Self { schema, library, contract, forms, waf: Waf::new(Arc::new(rules), None, None) })
    }

    /// What is wrong with how `bytes` are judged; `None`: nothing is. They are a content type, perhaps with a coding behind
    /// `|`, a target and a body, each in a line.
    #[must_use]
    pub fn fault(&self, bytes: &[u8]) -> Option<String> {
        let (first, rest) = line(bytes);
        let (target, encoded) = line(rest);
        let target = std::str::from_utf8(target).ok()?;
        let mut parts = first.splitn(2, |byte| *byte == b'|');
        let content_type = HeaderValue::from_bytes(parts.next()?).ok()?;
        let coding = parts.next().and_then(coding);
        let decoded = coding.map(|coding| coding.decode(encoded, LARGEST)).transpose().ok()?;
        let body = decoded.as_deref().unwrap_or(encoded);
        self.judge(Asked { content_type: &content_type, target, body }).err()
    }

    fn judge(&self, asked: Asked<'_>) -> Result<(), String> {
        let Asked { content_type, target, body } = asked;
        self.judge_json(content_type, body)?;
        let judged = self.forms.judge(Some(content_type), body);
        same(self.forms.judge_at_once(Some(content_type), body), &judged)?;
        let query = target.split_once('?').map(|(_, query)| query);
        graphql::judge(&GraphqlLimits::default(), query, Some(content_type), body).unwrap_or_default();
        self.keep(asked);
        let headers = [("host", &b"a.example"[..]), ("content-type", content_type.as_bytes())];
        let (protocol, client) = ("HTTP/1.1", IpAddr::from([192, 0, 2, 1]));
        let request = waf::WafRequest { method: "POST", target, protocol, headers: &headers, body, client };
        let _verdict = self.waf.judge(&request);
        missed(asked, &inspected(request))
    }

    /// Asks what the document says of the request.
    fn keep(&self, asked: Asked<'_>) {
        let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
        let Ok(canonical) = canonical_path(path) else { return };
        let path = canonical.as_deref().unwrap_or(path);
        let headers: HeaderMap = [(header::CONTENT_TYPE, asked.content_type.clone())].into_iter().collect();
        let Ok(found) = self.contract.find(&Method::POST, path, query, &headers) else { return };
        self.contract.judge_head(&found, query, &headers).unwrap_or_default();
        if matches!(self.contract.reading(found.operation, &headers, None), Ok(BodyReading::Whole)) {
            self.contract.judge_body(found.operation, Some(asked.content_type), asked.body).unwrap_or_default();
        }
    }

    fn judge_json(&self, content_type: &HeaderValue, body: &[u8]) -> Result<(), String> {
        let value = match (JsonDocument::parse(body), json::parse(body)) {
            (Ok(document), Ok(value)) if is_same_value(&document, document::Id::ROOT, &value) => value,
            (Err(_), Err(_)) => return Ok(()),
            (one, other) => return Err(format!("JSON is read as {one:?} and as {other:?}")),
        };
        let judged = self.schema.validate(body);
        if media_type::judge(Some(content_type)).is_ok() {
            same(self.schema.validate_at_once(Some(content_type), body), &judged)?;
        }
        // The library rounds numbers before it looks at them.
        if has_whole_numbers(&value) && judged.is_ok() != self.library.is_valid(&value) {
            return Err(format!("a library judges {value} in another way: {judged:?}"));
        }
        Ok(())
    }
}

/// The first line, and what is behind it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default())
}

fn coding(name: &[u8]) -> Option<ContentCoding> {
    let value = HeaderValue::from_bytes(name).ok()?;
    ContentCoding::of(&[(header::CONTENT_ENCODING, value)].into_iter().collect()).ok()?
}

fn form() -> FormSettings {
    let field = |name: &str, required, schema: &str, file| FieldRule {
        name: name.to_owned(),
        required,
        schema: serde_json::from_str(schema).unwrap_or_default(),
        file,
    };
    let file = FileRule {
        content_types: vec!["image/png".to_owned()],
        max_size: Some(64),
        file_name: Some("^[a-z.]+$".to_owned()),
    };
    FormSettings {
        fields: vec![
            field("title", true, r#"{"type": "string", "maxLength": 8, "pattern": "^[a-z ]+$"}"#, None),
            field("count", false, r#"{"type": "integer", "minimum": 1}"#, None),
            field("tag", false, r#"{"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}"#, None),
            field("image", false, r#"{"type": "array", "items": {"type": "string"}}"#, Some(file)),
        ],
        refuses_unknown: false,
        max_fields: 9,
    }
}

fn settings(rules: NamedFile) -> settings::waf::Settings {
    settings::waf::Settings {
        name: "fuzz".to_owned(),
        mode: WafMode::Enforce,
        has_builtin: true,
        roots: vec![rules.path.clone()],
        files: vec![rules],
        threshold: 5,
        paranoia: 4,
        inspect_body: Some(1 << 20),
        exclude: Vec::new(),
    }
}

/// Whoever judges at once comes to the same.
fn same(at_once: Option<Result<(), Refusal>>, judged: &Result<(), Refusal>) -> Result<(), String> {
    match at_once {
        Some(one) if one.as_ref().err().map(|it| it.reject) != judged.as_ref().err().map(|it| it.reject) => {
            Err(format!("judged at once it is {one:?}, and {judged:?} else"))
        }
        _ => Ok(()),
    }
}

fn is_same_value(document: &JsonDocument, id: document::Id, value: &Value) -> bool {
    match (document.view(id), value) {
        (JsonView::Null, Value::Null) => true,
        (JsonView::Bool(one), Value::Bool(other)) => one == *other,
        (JsonView::Number(one), Value::Number(other)) => one == other,
        (JsonView::Text(one), Value::String(other)) => one == other,
        (JsonView::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(id, value)| is_same_value(document, *id, value))
        }
        (JsonView::Object(one), Value::Object(other)) => {
            let is_same = |id: &document::Id| {
                other.get(document.name(*id)).is_some_and(|value| is_same_value(document, *id, value))
            };
            one.len() == other.len() && one.iter().all(is_same)
        }
        _ => false,
    }
}

fn has_whole_numbers(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(all) => all.iter().all(has_whole_numbers),
        Value::Object(all) => all.values().all(has_whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// What a strict reader finds in a body and the firewall does not look at.
fn missed(asked: Asked<'_>, inspected: &Inspected) -> Result<(), String> {
    if inspected.is_refused {
        return Ok(());
    }
    let known: HashSet<(&[u8], &[u8])> = inspected.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let is_known = |name: &str, value: &[u8]| known.contains(&(name.as_bytes(), value));
    let mut lacking = None;
    if media_type::judge(Some(asked.content_type)).is_ok()
        && let Ok(value) = json::parse(asked.body)
    {
        scalars(&value, "json", 0, &mut |path, value| {
            if !is_known(path, value) {
                lacking.get_or_insert_with(|| path.to_owned());
            }
        });
    }
    let media_type = asked.content_type.to_str().ok().and_then(|text| MediaType::read(text).ok());
    if let Some(media_type) = &media_type
        && media_type.is("application", "x-www-form-urlencoded")
        && let Some(pairs) = strict_form(asked.body)
    {
        lacking = lacking.or(pairs.into_iter().find(|(name, value)| !is_known(name, value.as_bytes())).map(|it| it.0));
    }
    if let Some(media_type) = &media_type
        && media_type.is("multipart", "form-data")
        // What is broken is refused.
        && !inspected.is_broken
        && let Ok(parts) = multipart::read(asked.body, media_type)
    {
        let is_looked_at = |part: &multipart::Part<'_>| match &part.file_name {
            None => is_known(&part.name, part.content),
            Some(file) => {
                inspected.files.iter().any(|(name, known)| *name == part.name.as_bytes() && *known == file.as_bytes())
                    && (is_known(&part.name, part.content)
                        || inspected.unread.iter().any(|name| *name == part.name.as_bytes()))
            }
        };
        lacking = lacking.or(parts.into_iter().find(|part| !is_looked_at(part)).map(|part| part.name));
    }
    lacking.map_or(Ok(()), |name| Err(format!("the firewall does not look at {name:?}")))
}

/// The pairs of a form that every reader reads alike.
fn strict_form(body: &[u8]) -> Option<Vec<(String, String)>> {
    let pairs = pairs::of_query(std::str::from_utf8(body).ok()?).ok()?;
    pairs.into_iter().map(|pair| Some((pair.name.into_owned(), decode(pair.text, true).ok()?))).collect()
}

/// Hands texts, and what has no text, to `each` by their paths.
fn scalars(value: &Value, path: &str, depth: usize, each: &mut impl FnMut(&str, &[u8])) {
    match value {
        Value::Array(all) if !all.is_empty() => {
            let elements = all.iter().enumerate();
            elements.for_each(|(at, value)| scalars(value, &format!("{path}.array_{at}"), depth + 1, each));
        }
        Value::Object(all) if !all.is_empty() => {
            all.iter().for_each(|(name, value)| scalars(value, &format!("{path}.{name}"), depth + 1, each));
        }
        Value::Array(_) | Value::Object(_) if depth > 0 => each(path, b""),
        Value::Bool(value) => each(path, value.to_string().as_bytes()),
        Value::Null => each(path, b""),
        Value::String(text) => each(path, text.as_bytes()),
        Value::Array(_) | Value::Object(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::file::seed;

    #[test]
    fn bodies_are_judged_alike_and_looked_at() {
        let judges = Judges::new().unwrap();
        let (json, form) = ("application/json", "application/x-www-form-urlencoded");
        let multipart = "multipart/form-data; boundary=b";
        let field = "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\na nail\r\n--b--\r\n";
        let file = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\
            Content-Type: image/png\r\n\r\n\u{89}PNG\r\n\r\n--b--";
        for (content_type, target, body) in [
            (
                json,
                "/items/1,2?limit=5&ids=1,2&tag=aa&tag=bb&filter[age]=3",
                r#"{"name":"a","tags":["x","y"],"count":3}"#,
            ),
            (
                json,
                "/items/1?where=%7B%22a%22%3Atrue%7D&pipes=1|2&flag=",
                r#"{"tree":{"value":1,"children":[{"value":-2}]}}"#,
            ),
            (json, "/", r#"{"some":[true,false,null],"one":7,"other":[1],"when":{"a":1,"b":"\u00e9\ud83d\ude00"}}"#),
            (json, "/", r#"{"more":{"p":1,"q":2,"r":[]},"x-a":false,"kind":{"b":2},"a":[{},[],"1' or '1'='1"]}"#),
            (
                json,
                "/",
                r#"{"price":0.05,"list":[1,2],"when":"2026-01-02T03:04:05Z","mail":"a@b.example","took":"P1D"}"#,
            ),
            ("application/x-ndjson", "/items/1", "{\"name\":\"a\"}\n{\"name\":1}\n"),
            (form, "/items/1", "title=a+n%61il&count=3&tag=a&tag=b&q=%3Cscript%3Ealert(1)"),
            (multipart, "/items/1", field),
            (multipart, "/items/1", file),
            ("text/plain;charset=utf-8", "/items/1", "union/**/select 1;cat /etc/passwd"),
            (
                "text/xml",
                "/",
                "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY x 'y'>]><a b='c'>&x;<![CDATA[d]]><!-- e --></a>",
            ),
            (
                json,
                "/graphql?x",
                r#"{"query":"query Q($n: Int = 3) { a(first: $n) { ...F } } fragment F on A { b @c(d: \"e\") }"}"#,
            ),
            ("application/graphql", "/", "{ x: a(o: {k: [1, \"\"\"s\"\"\"]}) { ... on B { c } } }"),
            (form, "/graphql?query=%7Ba%7D&variables=%7B%7D", ""),
            ("application/json|gzip", "/", "\u{1f}\u{8b}\u{8}"),
            ("application/json|deflate", "/", "x"),
            ("application/json|br", "/", "\u{b}\u{2}\u{80}{}\u{3}"),
            ("application/json|zstd", "/", "(\u{b5}/\u{fd}"),
        ] {
            let latin =
                |text: &str| text.chars().map(|it| u8::try_from(u32::from(it)).unwrap_or(b'?')).collect::<Vec<_>>();
            let bytes = [content_type.as_bytes(), b"\n", target.as_bytes(), b"\n", &latin(body)].concat();
            seed(&bytes);
            assert_eq!(judges.fault(&bytes), None, "{content_type} {target} {body}");
        }
    }
}
