//! Styles: how the text of a parameter becomes a value.

use super::{style::Texts, value::candidates, *};
use crate::{
    policy::validate::schema::set::{OpenApi, SchemaDocument},
    settings::validate::Formats,
};

fn parameter(part: RequestPart, style: Style, explode: bool, schema: &str) -> (SchemaSet, Parameter) {
    let content: serde_json::Value = serde_json::from_str(schema).unwrap();
    let documents = [SchemaDocument { uri: "file:///a".to_owned(), content, unkept: Vec::new() }];
    let openapi = OpenApi { is_3_0: false, refuses_read_only: true, is_response: false };
    let schemas = SchemaSet::compile(&documents, &[(0, &documents[0].content)], openapi, Formats::Annotate).unwrap();
    let schema = SchemaId(0);
    let shape = schemas.shape(schema);
    let coding = Coding::Styled { style, explode };
    let parameter = Parameter {
        name: "p".into(),
        part,
        coding,
        is_required: true,
        may_be_empty: false,
        schema: Some(schema),
        shape,
    };
    (schemas, parameter)
}

/// The value that a text stands for, or the rule that it breaks.
#[track_caller]
fn check(part: RequestPart, style: Style, explode: bool, schema: &str, text: &str, expect: &str) {
    let (_, parameter) = parameter(part, style, explode, schema);
    let read: Result<Option<Texts>, ParameterError> = match part {
        RequestPart::Path => style::of_path(&parameter, text).map(Some),
        _ => pairs::of_query(text).and_then(|pairs| style::of_pairs(&parameter, &pairs, &|_| false)),
    };
    let told = match read {
        Ok(None) => "none".to_owned(),
        Ok(Some(texts)) => String::from_utf8(candidates(&texts, &parameter.shape).remove(0)).unwrap(),
        Err(fault) => fault.rule.to_owned(),
    };
    assert_eq!(told, expect, "{text}");
}

const LIST: &str = r#"{"type":"array","items":{"type":"integer"}}"#;
const OBJECT: &str = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}}}"#;

#[test]
fn every_style() {
    use RequestPart::{Path, Query};
    use Style::{Form, Label, Matrix, PipeDelimited, Simple, SpaceDelimited};
    for (part, style, explode, schema, text, expect) in [
        (Path, Simple, false, LIST, "1,2", "[1,2]"),
        (Path, Simple, false, OBJECT, "a,1,b,2", r#"{"a":1,"b":"2"}"#),
        (Path, Simple, true, OBJECT, "a=1,b=2", r#"{"a":1,"b":"2"}"#),
        (Path, Simple, true, OBJECT, "a=1,a=2", "once"),
        (Path, Simple, false, OBJECT, "a,1,b", "style"),
        (Path, Label, false, LIST, ".1,2", "[1,2]"),
        (Path, Label, true, LIST, ".1.2", "[1,2]"),
        (Path, Label, true, LIST, "1.2", "style"),
        (Path, Matrix, false, LIST, ";p=1,2", "[1,2]"),
        (Path, Matrix, true, LIST, ";p=1;p=2", "[1,2]"),
        (Path, Matrix, true, OBJECT, ";a=1;b=x", r#"{"a":1,"b":"x"}"#),
        (Path, Matrix, false, LIST, ";q=1", "style"),
        (Query, Form, true, LIST, "p=1&p=2", "[1,2]"),
        (Query, Form, true, LIST, "p=1", "[1]"),
        (Query, Form, false, LIST, "p=1,2", "[1,2]"),
        (Query, Form, false, LIST, "p=1%2C2", r#"["1,2"]"#),
        (Query, Form, false, OBJECT, "p=a,1,b,2", r#"{"a":1,"b":"2"}"#),
        (Query, Form, true, OBJECT, "a=1&b=2", r#"{"a":1,"b":"2"}"#),
        (Query, SpaceDelimited, false, LIST, "p=1%202", "[1,2]"),
        (Query, SpaceDelimited, false, LIST, "p=1+2", "[1,2]"),
        (Query, PipeDelimited, false, LIST, "p=1|2", "[1,2]"),
        (Query, Style::DeepObject, true, OBJECT, "p[a]=1&p[b]=2", r#"{"a":1,"b":"2"}"#),
        (Query, Style::DeepObject, true, OBJECT, "p[a]=1&p[a]=2", "once"),
        (Query, Form, true, r#"{"type":"string"}"#, "p=1", r#""1""#),
        (Query, Form, true, r#"{"type":"string"}"#, "p=a+b%2B", r#""a b+""#),
        (Query, Form, true, r#"{"type":"string"}"#, "q=1", "none"),
        (Query, Form, true, r#"{"minimum":1}"#, "p=1", "1"),
        (Query, Form, true, r#"{"enum":[1,2]}"#, "p=1", "1"),
        (Query, Form, true, r#"{"type":["integer","string"]}"#, "p=1e5", "1e5"),
        (Query, Form, true, r#"{"type":"integer"}"#, "p=0x10", r#""0x10""#),
        (Query, Form, true, r#"{"type":"number"}"#, "p=1e999999", r#""1e999999""#),
    ] {
        check(part, style, explode, schema, text, expect);
    }
}

#[test]
fn what_is_ambiguous_is_tried_as_both() {
    let (schemas, parameter) = parameter(
        RequestPart::Query,
        Style::Form,
        true,
        r#"{"anyOf":[{"type":"integer","maximum":5},{"type":"string","maxLength":1}]}"#,
    );
    for (text, is_valid) in [
        ("p=5", true),
        ("p=9", true),
        ("p=99", false),
        ("p=x", true),
        ("p=4.0", true),
        ("p=4.0000000000000000000001", false),
    ] {
        let pairs = pairs::of_query(text).unwrap();
        let texts = style::of_pairs(&parameter, &pairs, &|_| false).unwrap().unwrap();
        let judged = judge(&schemas, parameter.schema, &parameter.shape, &texts, (RequestPart::Query, "p"), LIMITS);
        assert_eq!(judged.is_ok(), is_valid, "{text}");
    }
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    for text in ["%", "%0", "%zz", "%00", "%ff", "%c0%80", "a%C3"] {
        assert!(decode(text, true).is_err(), "{text}");
    }
}

#[test]
fn b02_a_query_of_many_pairs_is_refused() {
    let text = "a&".repeat(1_001);
    assert_eq!(pairs::of_query(&text).unwrap_err().rule, "count");
}

#[test]
fn b02_cookies_that_cannot_all_be_judged_are_refused() {
    let (schemas, parameter) = parameter(RequestPart::Cookie, Style::Form, true, r#"{"type":"integer"}"#);
    let parameters = Parameters { all: vec![parameter], ..Parameters::default() };
    for (cookies, expect) in [
        (vec!["p=1".to_owned()], None),
        (vec!["plain; p=1".to_owned()], None),
        (vec![format!("{}p=1", "a=1; ".repeat(999))], None),
        (vec![format!("{}p=x", "a=1; ".repeat(1_000))], Some("cookie: count")),
        (vec!["p=1".to_owned(), "p=x; a=\u{e9}".to_owned()], Some("cookie: encoding")),
        (vec!["p=1".to_owned(), "p=2".to_owned()], Some("cookie p: once")),
    ] {
        let mut headers = HeaderMap::new();
        for line in &cookies {
            headers.append("cookie", http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let refused = parameters.judge(&schemas, Head { path: &[], query: "", headers: &headers }).err();
        assert_eq!(refused.as_ref().map(|refusal| &*refusal.detail), expect, "{cookies:?}");
    }
}
