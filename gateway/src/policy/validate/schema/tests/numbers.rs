//! Numbers by limits: what is valid, as Python's `decimal` has it. Floats would get most of these wrong.

use super::*;

/// A line is a keyword, its value, a body, and the verdict.
const TABLE: &str = include_str!("numbers.tsv");

#[test]
fn numbers_count_as_they_are_written() {
    let mut faults = Vec::new();
    for line in TABLE.lines() {
        let [keyword, limit, body, expect] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let schema = format!(r#"{{"{keyword}":{limit}}}"#);
        let judged = Schema::new(&file(&schema), Formats::Annotate).unwrap().validate(body.as_bytes());
        if judged.is_ok() != (expect == "valid") {
            faults.push(line);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn equal_numbers_are_not_unique() {
    let unique = Some((Reject::InvalidBody, "body: uniqueItems"));
    for (body, expect) in [
        ("[0.1,1e-1]", unique),
        ("[0.1,0.10000000000000000001]", None),
        ("[9007199254740993,9007199254740992.0]", None),
        ("[9007199254740993,9007199254740993.0]", unique),
        ("[1e20,100000000000000000000]", unique),
        ("[0,-0.0]", unique),
        ("[18446744073709551616,18446744073709551617]", None),
    ] {
        check(r#"{"uniqueItems":true}"#, body, expect);
    }
}

#[test]
fn limits_count_as_they_are_written() {
    let above = Some((Reject::InvalidBody, "body: exclusiveMaximum"));
    let [less, more, other, unlisted] =
        ["minimum", "maximum", "const", "enum"].map(|keyword| Some((Reject::InvalidBody, format!("body: {keyword}"))));
    for (schema, body, expect) in [
        (r#"{"maximum":18446744073709551616}"#, "18446744073709551616", &None),
        (r#"{"maximum":18446744073709551616}"#, "18446744073709551617", &more),
        (r#"{"minimum":-9223372036854775809}"#, "-9223372036854775809", &None),
        (r#"{"minimum":-9223372036854775809}"#, "-9223372036854775810", &less),
        (r#"{"minimum":-9223372036854775809}"#, "1", &None),
        (r#"{"maximum":0.10000000000000000001}"#, "0.1", &None),
        (r#"{"maximum":0.10000000000000000001}"#, "0.10000000000000000002", &more),
        (r#"{"maximum":1.7976931348623157E+308}"#, "1.7976931348623157e308", &None),
        (r#"{"const":[0.10000000000000000001,{"a":1}]}"#, "[0.10000000000000000001,{\"a\":1}]", &None),
        (r#"{"const":[0.10000000000000000001,{"a":1}]}"#, "[0.1,{\"a\":1}]", &other),
        (r#"{"enum":[18446744073709551617,"a"]}"#, "18446744073709551617", &None),
        (r#"{"enum":[18446744073709551617,"a"]}"#, "18446744073709551616", &unlisted),
    ] {
        check(schema, body, expect.as_ref().map(|(reject, detail)| (*reject, detail.as_str())));
    }
    // Of the suite, `optional/bignum`.
    let schema = r#"{"exclusiveMaximum":972783798187987123879878123.18878137}"#;
    check(schema, "972783798187987123879878123.188781371", above);
    check(schema, "972783798187987123879878123.188781369", None);
}

#[test]
fn draft_4_takes_whole_numbers_of_any_size_for_integers() {
    let schema = r#"{"$schema":"http://json-schema.org/draft-04/schema#","type":"integer"}"#;
    let mismatch = Some((Reject::InvalidBody, "body: type"));
    for (body, expect) in [
        ("123456789012345678901234567890", None),
        ("-100000000000000000000", None),
        ("1.0", mismatch),
        ("1e30", mismatch),
        ("123456789012345678901234567890.0", mismatch),
    ] {
        check(schema, body, expect);
    }
}

#[test]
fn b06_long_numbers_cost_what_they_are_long() {
    let digits = "1234567890".repeat(10_000);
    for (schema, body) in [
        (r#"{"multipleOf":0.000123}"#, format!("0.{digits}")),
        (r#"{"items":{"multipleOf":123456789,"maximum":1e300}}"#, format!("[0.{digits},0.{digits}1]")),
        (r#"{"uniqueItems":true}"#, format!("[0.{digits}1,0.{digits}2,0.{digits}3]")),
        (r#"{"maximum":1}"#, format!("0.{digits}e-{digits}")),
        (r#"{"multipleOf":1e-300}"#, format!("1e-{digits}")),
    ] {
        let most = STEPS + STEPS_PER_BYTE * body.len() as u64;
        let document = JsonDocument::parse(body.as_bytes()).unwrap();
        let schema = Schema::new(&file(schema), Formats::Annotate).unwrap();
        let judged = judge(&schema.graph, NodeId(0), &document, WorkLimits { steps: most, depth: DEPTH });
        assert!(!matches!(judged, Err(JudgeError::OutOfWork(_))), "{schema:?}");
    }
}
