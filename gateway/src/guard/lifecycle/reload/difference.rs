//! What a new configuration changes, key by key, for the answer, the log and the audit chain. Values are the effective ones.
//! Of values that may be secret, and of files, it is said only that they changed. What is told is bounded: it goes into one record
//! of the audit chain.

use std::collections::HashSet;

use serde_json::Value;

use crate::{config::sensitive, message::Bundle};

/// The most changes that are told one by one.
const MOST: usize = 50;

/// The longest text of all changes together, in bytes.
const LONGEST: usize = 8 * 1024;

/// The longest text of one key or one value, in bytes.
const LONGEST_VALUE: usize = 200;

/// The most values of a list that are told as added, and as removed.
const MOST_VALUES: usize = 5;

/// What differs between two effective configurations, and between the files that they were read with.
pub(in crate::guard::lifecycle) fn difference(
    old: &Value,
    new: &Value,
    old_files: &Bundle,
    new_files: &Bundle,
) -> Vec<String> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    for (path, content) in &new_files.files {
        let before = old_files.files.iter().find(|(known, _)| known == path);
        if before.is_some_and(|(_, before)| before != content) {
            changes.push(format!("{}: the file has changed", cut(path.display().to_string())));
        }
    }
    let mut bytes = 0_usize;
    let fits = |change: &&String| {
        bytes = bytes.saturating_add(change.len());
        bytes <= LONGEST
    };
    let told = changes.iter().take(MOST).take_while(fits).count();
    if told < changes.len() {
        let more = changes.split_off(told).len();
        changes.push(format!("and {more} more"));
    }
    changes
}

/// The beginning of a long text.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_VALUE {
        text.truncate(text.floor_char_boundary(LONGEST_VALUE));
        text.push_str("...");
    }
    text
}

fn shown(value: &Value) -> String {
    cut(public(value).to_string())
}

/// A value without what in it may be secret.
fn public(value: &Value) -> Value {
    match value {
        value if sensitive(value).is_some() => "(not shown)".into(),
        Value::Array(all) => all.iter().map(public).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), public(value))).collect(),
        plain => plain.clone(),
    }
}

/// What was added to a list of plain values, and removed from it.
fn compare_lists(key: &str, old: &[Value], new: &[Value]) -> String {
    let without = |all: &[Value], others: &[Value]| -> Vec<String> {
        let others: HashSet<String> = others.iter().map(Value::to_string).collect();
        all.iter().map(Value::to_string).filter(|value| !others.contains(value)).collect()
    };
    let (added, removed) = (without(new, old), without(old, new));
    let list = |word: &str, values: Vec<String>| {
        let more = values.len().saturating_sub(MOST_VALUES);
        let few: Vec<_> = values.into_iter().take(MOST_VALUES).map(cut).collect();
        let few = few.join(", ");
        if more > 0 { format!("{word} {few} and {more} more") } else { format!("{word} {few}") }
    };
    match (added.is_empty(), removed.is_empty()) {
        (true, true) => format!("{key}: the order has changed"),
        (false, true) => format!("{key}: {}", list("added", added)),
        (true, false) => format!("{key}: {}", list("removed", removed)),
        (false, false) => format!("{key}: {}; {}", list("added", added), list("removed", removed)),
    }
}

fn compare(key: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        _ if sensitive(old).is_some() && sensitive(new).is_some() => {
            changes.push(format!("{}: changed", cut(key.to_owned())));
        }
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            for name in new.keys().chain(gone) {
                let under = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let (old, new) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
                compare(&under, old, new, changes);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).any(Value::is_object) => {
            // What was put in or taken out moves what comes behind it: that has not changed.
            let first = old.iter().zip(new).take_while(|(old, new)| old == new).count();
            let (old, new) = (old.get(first..).unwrap_or_default(), new.get(first..).unwrap_or_default());
            let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
            let old = old.get(..old.len().saturating_sub(last)).unwrap_or_default();
            let new = new.get(..new.len().saturating_sub(last)).unwrap_or_default();
            for at in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(at).unwrap_or(&Value::Null), new.get(at).unwrap_or(&Value::Null));
                compare(&format!("{key}[{}]", first + at), old, new, changes);
            }
        }
        (Value::Array(old), Value::Array(new)) => changes.push(compare_lists(&cut(key.to_owned()), old, new)),
        (Value::Null, new) => changes.push(format!("{}: added {}", cut(key.to_owned()), shown(new))),
        (old, Value::Null) => changes.push(format!("{}: removed {}", cut(key.to_owned()), shown(old))),
        (old, new) => changes.push(format!("{}: {} -> {}", cut(key.to_owned()), shown(old), shown(new))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(old: Value, new: Value, expect: &[&str]) {
        let none = Bundle::default();
        assert_eq!(difference(&old, &new, &none, &none), expect, "{old} {new}");
    }

    #[test]
    fn changes_are_named_by_key() {
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1}}), &[]);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), &["a.b: 1 -> 2"]);
        check(json!({"a": 1}), json!({"b": "x"}), &["b: added \"x\"", "a: removed 1"]);
        let (one, two, three) = (json!({"path": "/1"}), json!({"path": "/2"}), json!({"path": "/3"}));
        check(json!({"r": [one, three]}), json!({"r": [one, two, three]}), &["r[1]: added {\"path\":\"/2\"}"]);
        check(json!({"r": [one, three]}), json!({"r": [two, three]}), &["r[0].path: \"/1\" -> \"/2\""]);
        check(json!({"s": ["a"]}), json!({"s": ["b"]}), &["s: added \"b\"; removed \"a\""]);
        check(json!({"s": ["a", "b"]}), json!({"s": ["a", "b", "c"]}), &["s: added \"c\""]);
        check(json!({"s": [1, 2]}), json!({"s": [2]}), &["s: removed 1"]);
        check(json!({"s": [1, 2]}), json!({"s": [2, 1]}), &["s: the order has changed"]);
        let numbers: Vec<usize> = (0..100_000).collect();
        check(json!({"s": []}), json!({ "s": numbers }), &["s: added 0, 1, 2, 3, 4 and 99995 more"]);
        let many = |value: usize| Value::Object((0..MOST + 3).map(|at| (format!("{at:03}"), json!(value))).collect());
        let none = Bundle::default();
        assert_eq!(difference(&many(1), &many(2), &none, &none).last().unwrap(), "and 3 more");
    }

    #[test]
    fn what_may_be_secret_is_not_told() {
        let secret = |value: &str| json!({ "(not shown)": value });
        let route = |value: &str| json!({"path": "/", "when": [{"header": "a", "equals": secret(value)}]});
        let set = |value: Value| json!({"set": {"x-a": value, "x-b": secret("b")}});
        check(json!({"a": secret("1")}), json!({"a": secret("1")}), &[]);
        check(json!({"a": secret("1")}), json!({"a": secret("2")}), &["a: changed"]);
        check(json!({"r": [route("1")]}), json!({"r": [route("2")]}), &["r[0].when[0].equals: changed"]);
        check(json!({}), set(secret("1")), &["set: added {\"x-a\":\"(not shown)\",\"x-b\":\"(not shown)\"}"]);
        check(set(json!(null)), set(secret("1")), &["set.x-a: added \"(not shown)\""]);
        check(set(secret("1")), set(json!(null)), &["set.x-a: removed \"(not shown)\""]);
        let none = Bundle::default();
        let told = difference(&json!({"r": []}), &json!({"r": [route("hush")]}), &none, &none);
        assert!(told.len() == 1 && !told[0].contains("hush"), "{told:?}");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let none = Bundle::default();
        let told = difference(&json!({"a": "x"}), &json!({"a": "\u{e9}".repeat(100_000)}), &none, &none);
        assert_eq!(told, [format!("a: \"x\" -> \"{}...", "\u{e9}".repeat(99))]);
        let many =
            |letter: &str| Value::Object((0..MOST).map(|at| (format!("{at}"), json!(letter.repeat(500)))).collect());
        let told = difference(&many("a"), &many("b"), &none, &none);
        let bytes: usize = told.iter().map(String::len).sum();
        assert!((LONGEST / 2..LONGEST + 20).contains(&bytes), "{bytes}");
        assert_eq!(told.last().unwrap(), &format!("and {} more", MOST - (told.len() - 1)));
    }
}
