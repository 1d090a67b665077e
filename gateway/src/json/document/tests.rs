//! What a document holds, and which values are equal.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::json;

/// What is held at `id`, as the other reader holds it.
fn value(document: &JsonDocument, id: Id) -> serde_json::Value {
    match document.view(id) {
        JsonView::Null => serde_json::Value::Null,
        JsonView::Bool(it) => it.into(),
        JsonView::Number(it) => it.clone().into(),
        JsonView::Text(it) => it.into(),
        JsonView::Array(held) => held.iter().map(|id| value(document, *id)).collect(),
        JsonView::Object(held) => held.iter().map(|id| (document.name(*id).to_owned(), value(document, *id))).collect(),
    }
}

#[track_caller]
fn check_same(bytes: &[u8]) {
    match (JsonDocument::parse(bytes), json::parse(bytes)) {
        (Ok(document), Ok(expect)) => assert_eq!(value(&document, Id::ROOT), expect),
        (Err(_), Err(_)) => {}
        (one, other) => panic!("{:?}: {one:?} {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn it_reads_what_the_other_reader_reads() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let array = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
    for text in [
        nested(MAX_DEPTH),
        nested(MAX_DEPTH + 1),
        "[".repeat(100_000),
        array(MAX_VALUES - 1),
        array(MAX_VALUES),
        r#"{"b":1,"a":[{},[],null,{"":{"x":"\n\u00e9"}}],"c":1e3,"é":-0.5}"#.to_owned(),
        r#"{"a":1,"b":2,"\u0061":3}"#.to_owned(),
        r#"{"a":{"a":1},"b":{"a":1}}"#.to_owned(),
        r#"{"a":[{"b":1,"c":2,"b":3}]}"#.to_owned(),
        "1e999".to_owned(),
        "[1,]".to_owned(),
        "{} {}".to_owned(),
        r#""\ud800""#.to_owned(),
        String::new(),
    ] {
        check_same(text.as_bytes());
    }
}

#[test]
fn whole_numbers_are_whole_as_written() {
    let text =
        r#"{"a":[1,1.0,2.5,"1.5",1.0000000000000000000001,{"1e9":1e9,"b":-3.0000000000000000000009}],"c":5e-400}"#;
    let document = JsonDocument::parse(text.as_bytes()).unwrap();
    let ids = (0..u32::try_from(document.len()).unwrap()).map(Id);
    let numbers = ids.filter(|id| matches!(document.view(*id), JsonView::Number(_)));
    let whole: Vec<bool> = numbers.map(|id| document.is_whole(id)).collect();
    assert_eq!(whole, [true, true, false, false, true, false, false]);
    assert!(!document.is_whole(Id::ROOT));
}

#[test]
fn places_are_pointers() {
    let document = JsonDocument::parse(br#"{"a":[0,{"b/c":1}],"d~":"x"}"#).unwrap();
    let JsonView::Object(members) = document.view(Id::ROOT) else { panic!() };
    let array = document.member(members, "a").unwrap();
    let JsonView::Array(elements) = document.view(array) else { panic!() };
    let JsonView::Object(inner) = document.view(elements[1]) else { panic!() };
    for (id, most, expect) in [
        (Id::ROOT, 100, ""),
        (array, 100, "/a"),
        (elements[1], 100, "/a/1"),
        (inner[0], 100, "/a/1/b~1c"),
        (inner[0], 5, "/a/1/"),
        (document.member(members, "d~").unwrap().name(), 100, "/d~0"),
    ] {
        assert_eq!(document.place(id, most), expect);
    }
    assert_eq!(document.member(members, "none"), None);
}

#[test]
fn what_is_equal() {
    for (one, other, expect) in [
        ("1", "1.0", Ordering::Equal),
        ("0", "-0.0", Ordering::Equal),
        ("1", "1.5", Ordering::Less),
        ("-1", "-1.5", Ordering::Greater),
        ("18446744073709551615", "18446744073709551616", Ordering::Less),
        ("9007199254740993", "9007199254740992.0", Ordering::Greater),
        ("-9223372036854775808", "-1e300", Ordering::Greater),
        ("1", "true", Ordering::Greater),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1.0}"#, Ordering::Equal),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Ordering::Less),
        ("[1,[2]]", "[1,[3]]", Ordering::Less),
        ("[]", "{}", Ordering::Less),
        (r#""a""#, r#""b""#, Ordering::Less),
    ] {
        let (one_doc, other_doc) =
            (JsonDocument::parse(one.as_bytes()).unwrap(), JsonDocument::parse(other.as_bytes()).unwrap());
        let (one_id, other_id) = ((&one_doc, Id::ROOT), (&other_doc, Id::ROOT));
        assert_eq!(compare(one_id, other_id, &mut 0), expect, "{one} {other}");
        assert_eq!(compare(other_id, one_id, &mut 0), expect.reverse(), "{other} {one}");
    }
}

#[test]
fn memory_is_in_proportion_to_the_text() {
    let text = format!("[{}0]", r#"{"":0},"#.repeat(90_000));
    let document = JsonDocument::parse(text.as_bytes()).unwrap();
    let taken = document.values.capacity() * size_of::<Stored>()
        + document.children.capacity() * size_of::<Id>()
        + document.text.capacity();
    assert!(taken < 32 * text.len(), "{taken} for {}", text.len());
}

proptest! {
    #[test]
    fn anything_is_read_the_same(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check_same(&bytes);
    }

    #[test]
    fn json_is_read_the_same(text in r#"[\[\]{}:,"a1 .e-]{0,24}"#) {
        check_same(text.as_bytes());
    }

    #[test]
    fn names_are_found(names in prop::collection::btree_set("[a-c]{0,3}", 0..20)) {
        let object: serde_json::Map<_, _> = names.iter().rev().map(|name| (name.clone(), json!(name))).collect();
        let document = JsonDocument::parse(json!(object).to_string().as_bytes()).unwrap();
        let JsonView::Object(members) = document.view(Id::ROOT) else { panic!() };
        for name in &names {
            let member = document.member(members, name).unwrap();
            prop_assert!(matches!(document.view(member), JsonView::Text(text) if text == name));
        }
    }
}
