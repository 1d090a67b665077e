//! Strict JSON (RFC 8259): only texts that every parser reads the same way.
//!
//! *Invariant:* what is read has no duplicate member (RFC 8259 4: parsers differ in which one they keep), at most
//! [`MAX_DEPTH`] levels and [`MAX_VALUES`] values, no lone surrogate, no byte order mark and nothing after its end.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

pub mod decimal;
pub mod document;
pub mod exact;
pub mod unkept;

mod number_text;

#[cfg(test)]
mod tests;

/// How deep arrays and objects may be nested. Under the library's own limit of 128.
pub const MAX_DEPTH: usize = 64;

/// The most values in one text, each element and member counted.
pub const MAX_VALUES: usize = 200_000;

/// Why bytes are not acceptable JSON: what is wrong and where. Never holds a part of the text.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct JsonError(#[from] serde_json::Error);

/// How much one text may hold.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// How deep arrays and objects may be nested.
    pub depth: usize,
    /// The most values, each element and member counted.
    pub values: usize,
    /// The most bytes of all strings and names: in YAML an alias stands for what it repeats.
    pub bytes: usize,
}

/// Those of what clients send.
const OF_CLIENTS: JsonLimits = JsonLimits { depth: MAX_DEPTH, values: MAX_VALUES, bytes: usize::MAX };

/// Reads one JSON text.
///
/// # Errors
/// Anything but exactly one value within the limits and without duplicate members.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    parse_within(bytes, OF_CLIENTS)
}

/// As [`parse`], within other limits.
///
/// # Errors
/// As [`parse`].
pub fn parse_within(bytes: &[u8], limits: JsonLimits) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = read_within(&mut deserializer, limits)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads one value of any format as JSON, by the same rules.
///
/// # Errors
/// As [`parse`].
pub fn read_within<'de, D: Deserializer<'de>>(deserializer: D, limits: JsonLimits) -> Result<Value, D::Error> {
    let (values, bytes) = (Cell::new(0), Cell::new(0));
    ValueReader { limits, depth: 0, values: &values, bytes: &bytes }.deserialize(deserializer)
}

/// Reads one value at some depth.
#[derive(Clone, Copy)]
struct ValueReader<'a> {
    limits: JsonLimits,
    depth: usize,
    /// How many values were read so far, over the whole text.
    values: &'a Cell<usize>,
    /// How many bytes of text.
    bytes: &'a Cell<usize>,
}

impl ValueReader<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == self.limits.depth {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// A whole number of more than 64 bits, which only YAML gives: it becomes what JSON makes of it.
    fn visit_long<E: serde::de::Error>(self, digits: &str) -> Result<Value, E> {
        self.visit_f64(digits.parse().map_err(E::custom)?)
    }

    fn take<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.bytes.set(self.bytes.get().saturating_add(text.len()));
        if self.bytes.get() > self.limits.bytes { Err(E::custom("too much text")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for ValueReader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > self.limits.values {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_long(&value.to_string())
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_long(&value.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value)?;
        Ok(value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.take(&value)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let reader = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(reader)? {
            array.push(element);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let reader = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            reader.take(&name)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom("duplicate member"));
            }
            let value = members.next_value_seed(reader)?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}
