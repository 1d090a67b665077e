//! The JSON that the text of a parameter stands for: by itself it has no types, and its schema says which it may have.

use serde_json::{Map, Number, Value};

use super::style::Texts;
use crate::validate::schema::set::Shape;

/// What `texts` may stand for, as JSON, the likeliest first.
pub(in crate::validate) fn candidates(texts: &Texts, shape: &Shape) -> Vec<Vec<u8>> {
    if let Texts::Json(text) = texts {
        return vec![text.as_bytes().to_vec()];
    }
    let mut is_ambiguous = false;
    let typed = value(texts, Some(shape), true, &mut is_ambiguous);
    let mut all = vec![typed.to_string().into_bytes()];
    if is_ambiguous {
        all.push(value(texts, Some(shape), false, &mut false).to_string().into_bytes());
    }
    all
}

/// `typed`: a text that may be a string and something else is that something.
fn value(texts: &Texts, shape: Option<&Shape>, typed: bool, is_ambiguous: &mut bool) -> Value {
    match texts {
        // What is no JSON is a string, which its schema refuses where it must be something else.
        Texts::Json(text) => crate::json::parse(text.as_bytes()).unwrap_or_else(|_no_json| Value::from(text.as_str())),
        Texts::One(text) => one(text, shape, typed, is_ambiguous),
        Texts::List(list) => {
            let shape = shape.and_then(|shape| shape.element.as_deref());
            list.iter().map(|element| value(element, shape, typed, is_ambiguous)).collect()
        }
        Texts::Members(members) => {
            let member = |(name, texts): &(String, Texts)| {
                let shape = shape.and_then(|shape| shape.member(name));
                (name.clone(), value(texts, shape, typed, is_ambiguous))
            };
            Value::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
    }
}

fn one(text: &str, shape: Option<&Shape>, typed: bool, is_ambiguous: &mut bool) -> Value {
    let Some(shape) = shape else { return Value::from(text) };
    let other = match text {
        "true" | "false" if shape.takes_booleans() => Some(Value::Bool(text == "true")),
        "null" if shape.takes_null() => Some(Value::Null),
        "" if shape.takes_null() && !shape.takes_texts() => Some(Value::Null),
        text if shape.takes_numbers() => number(text).map(Value::Number),
        _ => None,
    };
    match other {
        None => Value::from(text),
        Some(_) if shape.takes_texts() && !typed => Value::from(text),
        Some(value) => {
            *is_ambiguous |= shape.takes_texts();
            value
        }
    }
}

/// A number as JSON writes it: no leading zeros, no plus sign, no hexadecimal digits.
fn number(text: &str) -> Option<Number> {
    let starts_well = text.bytes().next().is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
    let ends_well = text.bytes().last().is_some_and(|byte| byte.is_ascii_digit());
    if !starts_well || !ends_well || text.len() > 64 {
        return None;
    }
    match crate::json::parse(text.as_bytes()).ok()? {
        Value::Number(number) => Some(number),
        _ => None,
    }
}
