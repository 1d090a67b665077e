//! The JSON that the text of a parameter stands for: by itself it has no types, and its schema says which it may have.

use std::collections::BTreeMap;

use serde_json::Value;

use super::style::Texts;
use crate::policy::validate::schema::set::Shape;

/// What `texts` may stand for, as JSON, the likeliest first.
pub(in crate::policy::validate) fn candidates(texts: &Texts, shape: &Shape) -> Vec<Vec<u8>> {
    if let Texts::Json(text) = texts {
        return vec![text.as_bytes().to_vec()];
    }
    let mut is_ambiguous = false;
    let typed = value(texts, Some(shape), true, &mut is_ambiguous);
    let mut all = vec![typed.into_bytes()];
    if is_ambiguous {
        all.push(value(texts, Some(shape), false, &mut false).into_bytes());
    }
    all
}

/// The JSON text. `typed`: a text that may be a string and something else is that something.
fn value(texts: &Texts, shape: Option<&Shape>, typed: bool, is_ambiguous: &mut bool) -> String {
    match texts {
        // What is no JSON is a string, which its schema refuses where it must be something else.
        Texts::Json(text) if crate::json::parse(text.as_bytes()).is_ok() => text.clone(),
        Texts::Json(text) => string(text),
        Texts::One(text) => one(text, shape, typed, is_ambiguous),
        Texts::List(list) => {
            let shape = shape.and_then(|shape| shape.element.as_deref());
            let elements: Vec<String> = list.iter().map(|it| value(it, shape, typed, is_ambiguous)).collect();
            format!("[{}]", elements.join(","))
        }
        Texts::Members(members) => {
            // Of a name that is there twice, the last value counts.
            let mut all = BTreeMap::new();
            for (name, texts) in members {
                let shape = shape.and_then(|shape| shape.member(name));
                all.insert(name.as_str(), value(texts, shape, typed, is_ambiguous));
            }
            let all: Vec<String> = all.into_iter().map(|(name, value)| format!("{}:{value}", string(name))).collect();
            format!("{{{}}}", all.join(","))
        }
    }
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}

fn one(text: &str, shape: Option<&Shape>, typed: bool, is_ambiguous: &mut bool) -> String {
    let Some(shape) = shape else { return string(text) };
    // A number stays as it is written: a float would not keep all of it.
    let other = match text {
        "true" | "false" if shape.takes_booleans() => Some(text),
        "null" if shape.takes_null() => Some("null"),
        "" if shape.takes_null() && !shape.takes_texts() => Some("null"),
        text if shape.takes_numbers() && is_number(text) => Some(text),
        _ => None,
    };
    match other {
        None => string(text),
        Some(_) if shape.takes_texts() && !typed => string(text),
        Some(value) => {
            *is_ambiguous |= shape.takes_texts();
            value.to_owned()
        }
    }
}

/// Whether a text is a number as JSON writes it: no leading zeros, no plus sign, no hexadecimal digits.
fn is_number(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
    let ends_well = text.bytes().last().is_some_and(|byte| byte.is_ascii_digit());
    starts_well && ends_well && text.len() <= 64 && matches!(crate::json::parse(text.as_bytes()), Ok(Value::Number(_)))
}
