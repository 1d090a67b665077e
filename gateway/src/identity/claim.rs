//! Claims of a token by path, and conditions on them: `realm_access.roles`, `email_verified = true`.

use std::fmt;

use serde_json::{Map, Value};

/// The longest path, in names.
const MAX_NAMES: usize = 8;

/// The most roles or scopes that are read from one claim; a token is at most 8 KiB long.
const MAX_WORDS: usize = 1_000;

/// Where a claim is: names of members, one within the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    names: Box<[Box<str>]>,
    /// As the configuration has it.
    text: Box<str>,
}

impl ClaimPath {
    /// Reads `realm_access.roles`: dots are between names, and a backslash takes the next character as it is. A URL is
    /// one name: the names of claims that providers let people choose are URLs.
    ///
    /// `None`: a name is empty, or there are more than 8.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        let names: Vec<Box<str>> = if is_url && !text.contains('\\') { vec![text.into()] } else { split(text)? };
        let fine = (1..=MAX_NAMES).contains(&names.len()) && !names.contains(&Box::from(""));
        fine.then(|| Self { names: names.into(), text: text.into() })
    }

    /// These names, one within the other.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let escape = |name: &&str| name.replace('\\', "\\\\").replace('.', "\\.");
        let text = names.iter().map(escape).collect::<Vec<_>>().join(".");
        Self { names: names.iter().map(|name| (*name).into()).collect(), text: text.into() }
    }

    /// What is there among `claims`. `null` says that there is nothing: many programs write it for what they do not have,
    /// although the name should be left out then (OpenID Connect Core 5.3.2).
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.names.split_first()?;
        let found = rest.iter().try_fold(claims.get(&**first)?, |value, name| value.as_object()?.get(&**name))?;
        (!found.is_null()).then_some(found)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn split(text: &str) -> Option<Vec<Box<str>>> {
    let (mut names, mut name, mut letters) = (Vec::new(), String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?),
            '.' => names.push(std::mem::take(&mut name).into()),
            _ => name.push(letter),
        }
    }
    names.push(name.into());
    Some(names)
}

/// The words that a claim lists: an array of strings, or one string of words with blanks between (RFC 8693 4.2).
///
/// `None`: it is something else.
#[must_use]
pub fn words(claim: &Value) -> Option<Vec<Box<str>>> {
    match claim {
        Value::String(words) => Some(words.split_ascii_whitespace().take(MAX_WORDS).map(Into::into).collect()),
        Value::Array(words) => words.iter().take(MAX_WORDS).map(|word| word.as_str().map(Into::into)).collect(),
        _ => None,
    }
}

/// What a claim has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimCondition {
    /// Which one.
    pub path: ClaimPath,
    /// One of these; empty: anything, as long as it is there.
    pub any_of: Box<[Value]>,
}

impl ClaimCondition {
    /// Whether `claim` is what it has to be. Of an array, one element does, where a string or a number is wanted: such claims
    /// are lists of what the client has. `true` and `false` say something of the client as a whole: no list says it.
    #[must_use]
    pub fn holds(&self, claim: Option<&Value>) -> bool {
        let fits = |value: &Value| self.any_of.iter().any(|wanted| same(wanted, value));
        match claim {
            None | Some(Value::Null) => false,
            Some(_) if self.any_of.is_empty() => true,
            Some(Value::Array(values)) => values.iter().any(|value| !value.is_boolean() && fits(value)),
            Some(value) => fits(value),
        }
    }
}

/// Whole numbers up to this are doubles one by one: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Numbers are the same however they are written, as long as that is certain; nothing else is converted: the text
/// `"true"` is not `true`.
fn same(wanted: &Value, value: &Value) -> bool {
    match (wanted, value) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() != other.is_f64() => {
            one.as_f64() == other.as_f64() && one.as_f64().is_some_and(|number| number.abs() < EXACT)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let claims = json!({"roles": [1], "realm_access": {"roles": ["a"]}, "a.b": {"c": 2}, "a": {"b": {"c": 3}},
            "https://x.example/roles": 4, "back\\slash": 5, "resource_access": {"my.api": {"roles": 6}},
            "groups": null, "nothing": {"roles": null}});
        let claims = claims.as_object().unwrap();
        for (path, expect) in [
            ("roles", Some(json!([1]))),
            ("realm_access.roles", Some(json!(["a"]))),
            ("realm_access", Some(json!({"roles": ["a"]}))),
            ("realm_access.groups", None),
            ("roles.0", None),
            ("a.b.c", Some(json!(3))),
            (r"a\.b.c", Some(json!(2))),
            ("https://x.example/roles", Some(json!(4))),
            (r"https://x\.example/roles", Some(json!(4))),
            (r"resource_access.my\.api.roles", Some(json!(6))),
            (r"back\\slash", Some(json!(5))),
            ("none", None),
            // As good as none.
            ("groups", None),
            ("groups.a", None),
            ("nothing", Some(json!({"roles": null}))),
            ("nothing.roles", None),
        ] {
            assert_eq!(ClaimPath::parse(path).unwrap().find(claims), expect.as_ref(), "{path}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", r"a\", "a.b.c.d.e.f.g.h.i"] {
            assert_eq!(ClaimPath::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn lists_of_words() {
        for (claim, expect) in [
            (json!("a b  c"), Some(vec!["a", "b", "c"])),
            (json!(""), Some(vec![])),
            (json!(["a b", "c"]), Some(vec!["a b", "c"])),
            (json!([]), Some(vec![])),
            (json!(["a", 1]), None),
            (json!(null), None),
            (json!(true), None),
            (json!({"a": true}), None),
        ] {
            let found = words(&claim);
            let found = found.as_ref().map(|words| words.iter().map(|word| &**word).collect::<Vec<_>>());
            assert_eq!(found, expect, "{claim}");
        }
    }

    #[test]
    fn conditions() {
        let one_of = |any_of: &Value| ClaimCondition {
            path: ClaimPath::parse("x").unwrap(),
            any_of: any_of.as_array().unwrap().clone().into(),
        };
        for (wanted, claim, expect) in [
            (json!([true]), json!(true), true),
            (json!([true]), json!("true"), false),
            (json!([true]), json!(1), false),
            (json!([true]), json!([true]), false),
            (json!([true]), json!([false, true]), false),
            (json!([false]), json!([false]), false),
            (json!([true, "a"]), json!([true]), false),
            (json!([true, "a"]), json!([true, "a"]), true),
            (json!([1]), json!([2, 1]), true),
            (json!(["a", "b"]), json!("b"), true),
            (json!(["a"]), json!("A"), false),
            (json!(["a"]), json!(["b", "a"]), true),
            (json!(["a"]), json!([["a"]]), false),
            (json!(["a"]), json!([]), false),
            (json!([1]), json!(1.0), true),
            (json!([1]), json!("1"), false),
            (json!([9_007_199_254_740_993_u64]), json!(9_007_199_254_740_993_u64), true),
            (json!([9_007_199_254_740_993_u64]), json!(9_007_199_254_740_992_u64), false),
            (json!([9_007_199_254_740_993_u64]), json!(9_007_199_254_740_992.0), false),
            (json!([]), json!(false), true),
            (json!([]), json!(null), false),
        ] {
            assert_eq!(one_of(&wanted).holds(Some(&claim)), expect, "{wanted} {claim}");
        }
        assert!(!one_of(&json!([])).holds(None));
    }
}
