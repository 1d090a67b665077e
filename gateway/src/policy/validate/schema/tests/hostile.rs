//! B06: what judging a hostile body costs. Counted in steps and remembered verdicts, as time depends on the machine.

use super::*;

/// Two schemas, each of which asks for the same below.
fn branches(keyword: &str) -> String {
    let operator = |name: &str| {
        let arguments = r##""properties":{"op":{"const":"NAME"},"arg":{"$ref":"#"}},"required":["op","arg"]"##;
        format!(r#"{{"type":"object",{}}}"#, arguments.replace("NAME", name))
    };
    format!(r#"{{"{keyword}":[{},{},{{"type":"string"}}]}}"#, operator("not"), operator("neg"))
}

/// The same schema of arrays, thrice.
fn arrays(keyword: &str) -> String {
    let array = r##"{"type":"array","items":{"$ref":"#"}}"##;
    format!(r#"{{"{keyword}":[{array},{array},{array},{{"const":1}}]}}"#)
}

fn operators(depth: usize, inner: &str) -> String {
    format!("{}{inner}{}", r#"{"op":"not","arg":"#.repeat(depth), "}".repeat(depth))
}

fn nested(depth: usize, inner: &str) -> String {
    format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
}

/// The steps that judging takes, doubling from 1.
#[track_caller]
fn steps(schema: &str, body: &str) -> u64 {
    let schema = Schema::new(&file(schema), Formats::Annotate).unwrap();
    let document = JsonDocument::parse(body.as_bytes()).unwrap();
    let mut steps = 1;
    while let Err(JudgeError::OutOfWork(_)) =
        judge(&schema.graph, NodeId(0), &document, WorkLimits { steps, depth: DEPTH })
    {
        steps *= 2;
        assert!(steps < 1 << 40, "no number of steps does");
    }
    steps
}

/// A body twice as deep costs about twice as much.
#[track_caller]
fn check_linear(schema: &str, body: impl Fn(usize) -> String) {
    let (half, whole) = (steps(schema, &body(30)), steps(schema, &body(60)));
    assert!(whole <= 4 * half && whole <= 20_000, "{half} {whole} {schema}");
}

#[test]
fn b06_branches_that_ask_the_same_cost_what_one_costs() {
    for inner in ["1", r#""x""#, "null"] {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            check_linear(&branches(keyword), |depth| operators(depth, inner));
            check_linear(&arrays(keyword), |depth| nested(depth, inner));
        }
        // Asked for again by what was evaluated, by a condition, and the other way round.
        for schema in [
            r##"{"anyOf":[{"items":{"$ref":"#"}},{"prefixItems":[{"$ref":"#"}]}],"unevaluatedItems":false}"##,
            r##"{"if":{"items":{"$ref":"#"}},"then":{"items":{"$ref":"#"}},"else":{"contains":{"$ref":"#"}}}"##,
            r##"{"not":{"not":{"items":{"$ref":"#"}}},"allOf":[{"contains":{"$ref":"#"}},{"type":"array"}]}"##,
            r##"{"$dynamicAnchor":"a","oneOf":[{"items":{"$dynamicRef":"#a"}},{"contains":{"$dynamicRef":"#a"}},{"const":1}]}"##,
            r##"{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,
                "oneOf":[{"items":{"$recursiveRef":"#"}},{"contains":{"$recursiveRef":"#"}},{"const":1}]}"##,
            r##"{"$schema":"http://json-schema.org/draft-07/schema#",
                "anyOf":[{"items":{"$ref":"#"}},{"items":[{"$ref":"#"}],"minItems":1},{"const":1}]}"##,
            r##"{"$schema":"http://json-schema.org/draft-04/schema#",
                "oneOf":[{"items":{"$ref":"#"}},{"items":[{"$ref":"#"}],"additionalItems":{"$ref":"#"}},{"enum":[1]}]}"##,
        ] {
            check_linear(schema, |depth| nested(depth, inner));
        }
        for schema in [
            r##"{"dependentSchemas":{"op":{"properties":{"arg":{"$ref":"#"}}},"arg":{"properties":{"arg":{"$ref":"#"}}}}}"##,
            r##"{"properties":{"arg":{"$ref":"#"}},"patternProperties":{"^a":{"$ref":"#"},"g$":{"$ref":"#"}}}"##,
            r##"{"anyOf":[{"properties":{"arg":{"$ref":"#"}}},{"additionalProperties":{"$ref":"#"}}],"unevaluatedProperties":{"$ref":"#"}}"##,
        ] {
            check_linear(schema, |depth| operators(depth, inner));
        }
    }
}

/// Schemas that apply one another to the same value, each twice: a chain as long as may be.
#[test]
fn b06_a_schema_that_grows_in_place_costs_what_it_is_long() {
    for (keyword, more) in [("anyOf", ""), ("oneOf", ""), ("allOf", r#","unevaluatedProperties":false"#)] {
        let link = |at: usize| {
            let next = format!(r##"{{"$ref":"#/$defs/{}"}}"##, at + 1);
            format!(r#""{at}":{{"{keyword}":[{next},{next}]{more}}}"#)
        };
        let links: Vec<_> = (0..100).map(link).collect();
        let schema = format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"100":{{"minProperties":1}}}}}}"##, links.join(","));
        assert!(steps(&schema, "{}") <= 100_000, "{keyword}");
    }
}

#[test]
fn b06_many_values_cost_what_they_are_many() {
    let list = |count: usize, one: &dyn Fn(usize) -> String| {
        format!("[{}]", (0..count).map(one).collect::<Vec<_>>().join(","))
    };
    let members = |count: usize| {
        let all: Vec<_> = (0..count).map(|at| format!(r#""{at}":{at}"#)).collect();
        format!("{{{}}}", all.join(","))
    };
    let names = |count: usize| list(count, &|at| format!("\"{at}\""));
    let number = |at: usize| at.to_string();
    let long = |at: usize| format!("\"{}{at}\"", "x".repeat(100));
    let objects = |at: usize| format!(r#"{{"a":[{at}],"b":null}}"#);
    for (schema, body) in [
        (r#"{"uniqueItems":true}"#.to_owned(), list(100_000, &number)),
        (r#"{"uniqueItems":true}"#.to_owned(), list(5_000, &long)),
        (r#"{"uniqueItems":true}"#.to_owned(), list(20_000, &objects)),
        (format!(r#"{{"items":{{"enum":{}}}}}"#, list(5_000, &number)), list(100_000, &number)),
        (format!(r#"{{"enum":[{},{}]}}"#, list(5_000, &number), list(5_001, &number)), list(5_001, &number)),
        (format!(r#"{{"required":{}}}"#, names(5_000)), members(50_000)),
        (r#"{"contains":{"const":-1}}"#.to_owned(), list(100_000, &number)),
        (r#"{"items":{"multipleOf":0.0001}}"#.to_owned(), list(50_000, &|at| format!("{at}.5e-3"))),
        (r#"{"items":{"maximum":1e308,"multipleOf":1e-300}}"#.to_owned(), list(1_000, &|at| format!("{at}e300"))),
        (
            r#"{"patternProperties":{"a":{},"b":{},"c":{},"d":{}},"additionalProperties":{"type":"integer"}}"#
                .to_owned(),
            members(50_000),
        ),
        (r#"{"propertyNames":{"maxLength":9}}"#.to_owned(), members(50_000)),
    ] {
        let schema_start = schema.get(..60).unwrap_or(&schema).to_owned();
        let most = STEPS + STEPS_PER_BYTE * body.len() as u64;
        assert!(steps(&schema, &body) <= most, "{schema_start}");
    }
}

#[test]
fn b06_text_is_matched_in_linear_time() {
    let evil = format!("\"{}!\"", "a".repeat(50_000));
    let invalid = |detail| Some((Reject::InvalidBody, detail));
    check(r#"{"pattern":"^(a+)+$"}"#, &evil, invalid("body: pattern"));
    check(r#"{"pattern":"^(a|a)*$"}"#, &evil, invalid("body: pattern"));
    check(r#"{"pattern":"^[ab]{1,40000}$"}"#, &evil, invalid("body: pattern"));
    for format in [
        "regex",
        "email",
        "idn-email",
        "idn-hostname",
        "hostname",
        "uri-template",
        "iri",
        "date-time",
        "duration",
        "ipv6",
        "json-pointer",
    ] {
        for text in ["(", "a.", "{a}", "%41", "[", "\\\\d", "1", ":", "/~0", "x@", "\u{e4}."] {
            let body = format!("\"{}\"", text.repeat(20_000));
            let schema = format!(r#"{{"format":"{format}"}}"#);
            assert!(steps(&schema, &body) <= STEPS, "{format} {text}");
        }
    }
}

#[test]
fn b06_who_asks_for_more_work_than_a_body_is_worth_is_refused() {
    // A pattern that is dear, and a text that is long.
    let schema = r#"{"pattern":"(a|b)[ab]{2000}c[ab]{2000}d"}"#;
    let body = format!("\"{}\"", "ab".repeat(400_000));
    check(schema, &body, Some((Reject::BodyTooComplex, "body: more work than its size is worth")));
    check(schema, "\"ab\"", Some((Reject::InvalidBody, "body: pattern")));
}

#[test]
fn b06_a_schema_that_names_only_itself_ends() {
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"$dynamicAnchor":"a","$dynamicRef":"#a"}"##,
        r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##,
        r##"{"unevaluatedProperties":false,"allOf":[{"$ref":"#"}]}"##,
    ] {
        check(schema, "1", None);
    }
    // As long as a file may have it.
    let links: Vec<_> = (0..5_000).map(|at| format!(r##""{at}":{{"$ref":"#/$defs/{}"}}"##, at + 1)).collect();
    let schema = format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"5000":true}}}}"##, links.join(","));
    let judged = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        Schema::new(&file(&schema), Formats::Annotate).unwrap().validate(b"1").map_err(|refusal| refusal.reject)
    });
    assert_eq!(judged.unwrap().join().unwrap(), Err(Reject::BodyTooComplex));
}
