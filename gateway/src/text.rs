//! Text that programs read and people see: digits, counts with their words, wildcards, what a terminal obeys. This
//! file is for `#[serde(with = "crate::text")]`: types of `gateway-common`, which knows no serde, as the text that they
//! display as.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) mod counted;
pub mod digits;
pub mod terminal;
pub(crate) mod wildcard;

/// Writes the value's `Display` form.
///
/// # Errors
/// Whatever the serializer says.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads the value from its text.
///
/// # Errors
/// A text that the type refuses.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
