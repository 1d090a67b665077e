//! Schemas and bodies at random: the verdict is the library's.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn leaf() -> impl Strategy<Value = Value> {
    let keywords = [
        json!({"type": "object"}),
        json!({"type": ["array", "null"]}),
        json!({"type": "integer"}),
        json!({"const": 1}),
        json!({"enum": ["a", 1, [1], {"a": 1}, null]}),
        json!({"required": ["a"]}),
        json!({"minItems": 1}),
        json!({"maxProperties": 1}),
        json!({"uniqueItems": true}),
        json!({"minimum": 1, "multipleOf": 0.5}),
        json!({"maxLength": 1, "pattern": "^[ab]"}),
        json!(true),
        json!(false),
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/one"}),
        json!({"$ref": "#/$defs/other"}),
        json!({"$dynamicRef": "#any"}),
    ];
    prop::sample::select(keywords.to_vec())
}

fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            some.clone().prop_map(|all| json!({"allOf": all})),
            some.clone().prop_map(|all| json!({"anyOf": all})),
            some.clone().prop_map(|all| json!({"oneOf": all})),
            inner.clone().prop_map(|one| json!({"not": one})),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(one, two, three)| json!({"if": one, "then": two, "else": three})),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| json!({"properties": {"a": one}, "additionalProperties": two})),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| json!({"patternProperties": {"^a": one}, "anyOf": [two], "unevaluatedProperties": false})),
            (some, inner.clone()).prop_map(|(all, one)| json!({"prefixItems": all, "items": one})),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| json!({"contains": one, "maxContains": 2, "oneOf": [two], "unevaluatedItems": {"type": "integer"}})),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| json!({"dependentSchemas": {"a": one}, "propertyNames": two})),
            (inner.clone(), inner).prop_map(|(one, two)| json!({"$ref": "#/$defs/one", "allOf": [one, {"properties": {"b": two}}], "unevaluatedProperties": false})),
        ]
    })
}

fn body() -> impl Strategy<Value = Value> {
    let leaf =
        [json!(1), json!(1.5), json!(1.0), json!("a"), json!("b1"), json!(null), json!(true), json!([]), json!({})];
    prop::sample::select(leaf.to_vec()).prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[ab]{1,2}", inner, 0..3).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Whether a schema may be asked about a value for its verdict on the same value: of such, nothing is said.
fn names_itself(schema: &Value) -> bool {
    fn in_place<'a>(root: &'a Value, schema: &'a Value, way: &mut Vec<*const Value>) -> bool {
        if way.contains(&std::ptr::from_ref(schema)) {
            return true;
        }
        let Some(keywords) = schema.as_object() else { return false };
        way.push(schema);
        let mut found = false;
        for (keyword, value) in keywords {
            found |= match (keyword.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => all.iter().any(|one| in_place(root, one, way)),
                ("not" | "if" | "then" | "else", one) => in_place(root, one, way),
                ("dependentSchemas", Value::Object(all)) => all.values().any(|one| in_place(root, one, way)),
                ("$ref" | "$dynamicRef", Value::String(to)) => match to.as_str() {
                    "#/$defs/one" => in_place(root, &root["$defs"]["one"], way),
                    "#/$defs/other" => in_place(root, &root["$defs"]["other"], way),
                    _ => in_place(root, root, way),
                },
                _ => false,
            };
        }
        way.pop();
        found
    }
    [schema, &schema["$defs"]["one"], &schema["$defs"]["other"]]
        .into_iter()
        .any(|part| in_place(schema, part, &mut Vec::new()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_the_librarys(
        root in schema(),
        one in schema(),
        other in schema(),
        bodies in prop::collection::vec(body(), 8),
    ) {
        let root = json!({"$dynamicAnchor": "any", "allOf": [root], "$defs": {"one": one, "other": other}});
        prop_assume!(!names_itself(&root));
        let library = jsonschema::options().offline().build(&root).unwrap();
        let registry = Registry::new().prepare().unwrap();
        let written = WrittenNumbers::default();
        let graph = compile(&root, BASE, plain(Draft::Draft202012), &written, &registry).unwrap().graph;
        for body in bodies {
            let document = JsonDocument::parse(body.to_string().as_bytes()).unwrap();
            let verdict = judge(&graph, NodeId(0), &document, QUICK);
            prop_assert!(!matches!(verdict, Err(JudgeError::OutOfWork(_))));
            prop_assert_eq!(verdict.is_ok(), library.is_valid(&body), "{} {}", root, body);
        }
    }
}
