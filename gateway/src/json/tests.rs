//! What is JSON and what is not.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(bytes: impl AsRef<[u8]>, expect: &str) {
    let bytes = bytes.as_ref();
    let verdict = parse(bytes).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
    let start = String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes));
    assert!(verdict.starts_with(expect), "{start}: {verdict}");
}

#[test]
fn b03_what_is_no_json() {
    for (text, expect) in [
        (&b""[..], "EOF"),
        (b" ", "EOF"),
        (b"{", "EOF"),
        (b"\"\xed\xa0\x80\"", "invalid unicode"),
        (b"\"\xff\"", "invalid unicode"),
        (b"{\"\xc0\xaf\": 1}", "invalid unicode"),
        (br#""\ud800""#, "unexpected end of hex escape"),
        (br#""\ud800\ud800""#, "lone"),
        (b"\xef\xbb\xbf{}", "expected value"),
        (b"\xff\xfe{\0}\0", "expected value"),
        (b"{} {}", "trailing"),
        (b"{}\0", "trailing"),
        (b"1e999999", "number out of range"),
        (b"-1e999999", "number out of range"),
        (b"NaN", "expected value"),
        (b"01", "invalid number"),
        (b"+1", "expected value"),
        (b".5", "expected value"),
        (b"{'a': 1}", "key must be a string"),
        (b"[1,]", "trailing comma"),
        (b"// no\n1", "expected value"),
        (b"\"a\nb\"", "control character"),
    ] {
        check(text, expect);
    }
}

#[test]
fn b03_depth_and_size_are_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    check(nested(MAX_DEPTH), "fine");
    check(nested(MAX_DEPTH + 1), "nested too deeply");
    check("[".repeat(100_000), "nested too deeply");
    check(r#"{"a":"#.repeat(100_000), "nested too deeply");
    let array = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
    check(array(MAX_VALUES - 1), "fine");
    check(array(MAX_VALUES), "too many values");
}

#[test]
fn b04_duplicate_members() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":3}"#,
        r#"[{"b":{"a":{},"a":[]}}]"#,
        r#"{"":1,"":2}"#,
        r#"{"__proto__":1,"__proto__":2}"#,
    ] {
        check(text, "duplicate member");
    }
    check(r#"{"a":{"a":{"a":1}},"A":2,"a ":3}"#, "fine");
}

#[test]
fn what_is_wrong_never_shows_the_text() {
    for text in [r#"{"secret":1,"secret":2}"#, r#""secret"#, "secret", r#"["secret" "secret"]"#, r#"{"secret"}"#] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let object = prop::collection::btree_map(".*", inner.clone(), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::from),
            object.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_the_library_on_what_is_valid(value in any_json()) {
        let text = serde_json::to_vec_pretty(&value).unwrap();
        let library: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(parse(&text).unwrap(), library);
    }

    /// Whatever is read here, the library reads the same way; the other way round it may be stricter.
    #[test]
    fn never_accepts_more_than_the_library(text in r#"[\[\]{}:,"a1.eE+\- \\u\x00-\x20]{0,24}"#) {
        if let Ok(value) = parse(text.as_bytes()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes));
    }
}
