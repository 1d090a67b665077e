//! What a new configuration changes, key by key, for the answer, the log and the audit chain. Values are the effective ones,
//! in which nothing is secret; of files it is said only that they changed.

use serde_json::Value;

use crate::message::Bundle;

/// The most changes that are told one by one.
const MOST: usize = 50;

/// What differs between two effective configurations, and between the files that they were read with.
pub(super) fn difference(old: &Value, new: &Value, old_files: &Bundle, new_files: &Bundle) -> Vec<String> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    for (path, content) in &new_files.files {
        let before = old_files.files.iter().find(|(known, _)| known == path);
        if before.is_some_and(|(_, before)| before != content) {
            changes.push(format!("{}: the file has changed", path.display()));
        }
    }
    if changes.len() > MOST {
        let more = changes.split_off(MOST).len();
        changes.push(format!("and {more} more"));
    }
    changes
}

fn compare(key: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
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
        (Value::Null, new) => changes.push(format!("{key}: added {new}")),
        (old, Value::Null) => changes.push(format!("{key}: removed {old}")),
        (old, new) => changes.push(format!("{key}: {old} -> {new}")),
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
        check(json!({"s": ["a"]}), json!({"s": ["b"]}), &["s: [\"a\"] -> [\"b\"]"]);
        let many = |value: usize| Value::Object((0..MOST + 3).map(|at| (format!("{at:03}"), json!(value))).collect());
        let none = Bundle::default();
        assert_eq!(difference(&many(1), &many(2), &none, &none).last().unwrap(), "and 3 more");
    }
}
