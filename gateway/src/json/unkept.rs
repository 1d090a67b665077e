//! Finds the numbers of a document that a float does not keep as they are written.
//!
//! *Invariant:* the text was read before, by the rules of [`read_within`](super::read_within).

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::{decimal, exact::is_kept, number_text};

/// A number that is another one once it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnkeptNumber {
    /// Where it is: the steps of a JSON pointer.
    pub steps: Vec<String>,
    /// As it is written.
    pub text: String,
}

/// Those of a JSON text, which was read as `value`.
#[must_use]
pub fn unkept_json(text: &[u8], value: &Value) -> Vec<UnkeptNumber> {
    if !may_be_unkept(text, value) {
        return Vec::new();
    }
    let mut walk = Walk { written: Some(Box::new(number_text::numbers(text))), steps: Vec::new(), found: Vec::new() };
    // It was read before: nothing can be wrong with it.
    let _read = NumberReader { walk: &mut walk, value }.deserialize(&mut serde_json::Deserializer::from_slice(text));
    walk.found
}

/// Those of a text in a format that gives a number as a text where that is asked for, as YAML does. `deserializer` reads
/// the text anew.
#[must_use]
pub fn unkept<'de, D: Deserializer<'de>>(text: &[u8], deserializer: D, value: &Value) -> Vec<UnkeptNumber> {
    if !may_be_unkept(text, value) {
        return Vec::new();
    }
    let mut walk = Walk { written: None, steps: Vec::new(), found: Vec::new() };
    let _read = NumberReader { walk: &mut walk, value }.deserialize(deserializer);
    walk.found
}

/// Whether reading a text again is not in vain.
fn may_be_unkept(text: &[u8], value: &Value) -> bool {
    decimal::may_be_long(text) || has_tiny(value)
}

fn has_tiny(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(has_tiny),
        Value::Object(members) => members.values().any(has_tiny),
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(decimal::is_tiny),
        Value::Bool(_) | Value::Null | Value::String(_) => false,
    }
}

/// A decimal number of YAML as JSON writes it. `None`: it is none.
fn json_number(text: &str) -> Option<String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = rest.split_at(rest.find(['e', 'E']).unwrap_or(rest.len()));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = exponent.trim_start_matches(['e', 'E', '+', '-']);
    let is_number = [whole, fraction, digits].iter().all(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    is_number.then(|| [sign, whole, point, fraction, exponent].concat())
}

/// What was found so far.
struct Walk<'t> {
    /// The numbers of the text that are still to come. `None`: the deserializer gives each.
    written: Option<Box<dyn Iterator<Item = &'t [u8]> + 't>>,
    steps: Vec<String>,
    found: Vec<UnkeptNumber>,
}

impl Walk<'_> {
    fn note(&mut self, number: &Number, text: &str) {
        // Hexadecimal digits of YAML are what was read of them.
        let Some(text) = json_number(text) else { return };
        if !is_kept(number, &text) {
            self.found.push(UnkeptNumber { steps: self.steps.clone(), text });
        }
    }
}

/// Reads the numbers within one value.
struct NumberReader<'a, 't> {
    walk: &'a mut Walk<'t>,
    value: &'a Value,
}

impl<'de> DeserializeSeed<'de> for NumberReader<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.value {
            Value::Array(_) | Value::Object(_) => deserializer.deserialize_any(self)?,
            Value::Number(number) => {
                let text = match &mut self.walk.written {
                    Some(written) => {
                        IgnoredAny::deserialize(deserializer)?;
                        written.next().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
                    }
                    None => String::deserialize(deserializer)?,
                };
                self.walk.note(number, &text);
            }
            Value::Bool(_) | Value::Null | Value::String(_) => {
                IgnoredAny::deserialize(deserializer)?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for NumberReader<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for (index, value) in self.value.as_array().into_iter().flatten().enumerate() {
            self.walk.steps.push(index.to_string());
            elements.next_element_seed(NumberReader { walk: &mut *self.walk, value })?;
            self.walk.steps.pop();
        }
        // Its end.
        elements.next_element::<IgnoredAny>()?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let value = self.value.get(&name).unwrap_or(&Value::Null);
            self.walk.steps.push(name);
            members.next_value_seed(NumberReader { walk: &mut *self.walk, value })?;
            self.walk.steps.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_others_once_they_are_read() {
        for (text, expect) in [
            ("[1,-2.5,0.1,0.3,1e3,0.30000000000000004,-0.0]", &[][..]),
            ("[9007199254740993,18446744073709551615,-9223372036854775808]", &[]),
            ("[1.7976931348623157e308,1.0E-7,100000000000000000000,1e22]", &[]),
            ("[18446744073709551616]", &[("/0", "18446744073709551616")]),
            ("[1e-400, 0.0, 1.5e-320, 1.23456e-320]", &[("/0", "1e-400"), ("/3", "1.23456e-320")]),
            (
                "{\"a\": {\"b\": [\"1.00000000000000000001\", 0.10000000000000000001]}}",
                &[("/a/b/1", "0.10000000000000000001")],
            ),
            (
                "{\"a\": 9007199254740993.5, \"b\": -123456789012345678901}",
                &[("/a", "9007199254740993.5"), ("/b", "-123456789012345678901")],
            ),
            ("{\"a\": {\"x\": null, \"y\": 1.234567890123456789}}", &[("/a/y", "1.234567890123456789")]),
        ] {
            let limits = crate::json::JsonLimits { depth: 9, values: 99, bytes: 999 };
            let yaml = || yaml_serde::Deserializer::from_slice(text.as_bytes());
            let json = crate::json::parse(text.as_bytes()).unwrap();
            assert_eq!(crate::json::read_within(yaml(), limits).unwrap(), json, "{text}");
            for found in [unkept_json(text.as_bytes(), &json), unkept(text.as_bytes(), yaml(), &json)] {
                let found: Vec<(String, String)> =
                    found.into_iter().map(|it| (format!("/{}", it.steps.join("/")), it.text)).collect();
                let expect: Vec<(String, String)> =
                    expect.iter().map(|(place, text)| ((*place).to_owned(), (*text).to_owned())).collect();
                assert_eq!(found, expect, "{text}");
            }
        }
    }

    #[test]
    fn numbers_of_yaml_as_json_writes_them() {
        for (text, expect) in [
            ("1", Some("1")),
            ("+1.50", Some("1.50")),
            ("-.5", Some("-0.5")),
            ("7.", Some("7")),
            ("7.e+5", Some("7e+5")),
            ("007.25E-3", Some("7.25E-3")),
            ("0.0", Some("0.0")),
            ("0xff", None),
            ("0x1e5", None),
            (".inf", None),
            ("1_000", None),
        ] {
            assert_eq!(json_number(text).as_deref(), expect, "{text}");
        }
    }
}
