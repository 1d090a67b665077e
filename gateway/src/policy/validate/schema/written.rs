//! Numbers of schemas as they are written, where a float does not keep all of them: values are judged by what is written.

use std::collections::HashMap;

use serde_json::Value;

use crate::json::{exact::ExactNumber, unkept::UnkeptNumber};

/// The numbers of some documents that floats do not keep.
#[derive(Debug, Default)]
pub(super) struct WrittenNumbers(
    /// By the address of the value, which documents keep as long as schemas are compiled.
    HashMap<usize, Box<str>>,
);

impl WrittenNumbers {
    /// Adds those of a document.
    pub(super) fn add(&mut self, document: &Value, unkept: &[UnkeptNumber]) {
        for number in unkept {
            let found = number.steps.iter().try_fold(document, |value, step| match value {
                Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
                other => other.get(step),
            });
            if let Some(value) = found {
                self.0.insert(address(value), number.text.as_str().into());
            }
        }
    }

    /// A number of a document. `None`: it is none.
    pub(super) fn exact(&self, value: &Value) -> Option<ExactNumber> {
        ExactNumber::new(value.as_number()?, self.text(value))
    }

    /// Whether a float keeps all of a number.
    pub(super) fn keeps(&self, value: &Value) -> bool {
        self.text(value).is_none()
    }

    /// The JSON text of a value.
    pub(super) fn json(&self, value: &Value) -> String {
        match value {
            Value::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(|element| self.json(element)).collect();
                format!("[{}]", elements.join(","))
            }
            Value::Object(members) => {
                let member =
                    |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), self.json(value));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
            value => self.text(value).map_or_else(|| value.to_string(), str::to_owned),
        }
    }

    fn text(&self, value: &Value) -> Option<&str> {
        self.0.get(&address(value)).map(|text| &**text)
    }
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}
