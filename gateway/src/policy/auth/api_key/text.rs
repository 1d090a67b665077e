//! How an API key is written: a prefix, its id, its secret and a checksum, so that scanners for secrets find one that
//! leaked, and a slip of the pen is refused before anything is looked up.
//!
//! `gwk_AAAAAAAAAAA_SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSCCCCCC`: 11 characters of the id, 43 of the secret (256
//! bits), 6 of the CRC-32 of all that is before them. All of it is base62. *Invariant:* a key has one spelling.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;

use super::pepper::Tag;
use crate::settings::api_keys::{CHECKSUM, ID, SECRET};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many characters follow the prefix and its `_`.
pub const LENGTH: usize = ID + 1 + SECRET + CHECKSUM;

/// Which key. Not a secret: it is shown in lists, logs and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u64);

/// Why a text is none of our keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It looks like one, and its checksum is wrong.
    Checksum,
    /// It does not even look like one.
    Foreign,
}

impl KeyId {
    /// The id of a key that another program has made: the beginning of its hash.
    #[must_use]
    pub const fn of_foreign(sha256: &Tag) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *sha256;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = String::with_capacity(ID);
        write_number(self.0, ID, &mut digits);
        out.write_str(&digits)
    }
}

impl FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not the id of a key: 11 letters and digits, as `gateway key list` shows them";
        if text.len() == ID { number(text.as_bytes()).map(Self).ok_or(wrong) } else { Err(wrong) }
    }
}

/// A new key: its id and its text.
///
/// # Errors
/// The machine has no randomness.
pub fn generate(prefix: &str) -> Result<(KeyId, String), aws_lc_rs::error::Unspecified> {
    let mut id = [0; 8];
    rand::fill(&mut id)?;
    let id = KeyId(u64::from_ne_bytes(id));
    let mut text = format!("{prefix}_{id}_");
    let secret = text.len() + SECRET;
    let mut random = [0; 64];
    while text.len() < secret {
        rand::fill(&mut random)?;
        // Of the 256 values of a byte 248 are four times 62: all characters are alike.
        let fair = random.iter().filter(|byte| **byte < 248).filter_map(|byte| DIGITS.get(usize::from(byte % 62)));
        text.extend(fair.map(|digit| char::from(*digit)).take(secret - text.len()));
    }
    write_number(u64::from(crc32fast::hash(text.as_bytes())), CHECKSUM, &mut text);
    Ok((id, text))
}

/// The id of the key that a text is.
///
/// # Errors
/// It is none.
pub fn read(text: &[u8], prefix: &str) -> Result<KeyId, Malformed> {
    let digits = text.strip_prefix(prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"_"));
    let Some(digits) = digits.filter(|digits| digits.len() == LENGTH) else { return Err(Malformed::Foreign) };
    let (Some((id, rest)), Some((body, checksum))) =
        (digits.split_at_checked(ID), text.split_at_checked(text.len() - CHECKSUM))
    else {
        return Err(Malformed::Foreign);
    };
    let is_word = rest.strip_prefix(b"_").is_some_and(|rest| rest.iter().all(u8::is_ascii_alphanumeric));
    let Some(id) = number(id).filter(|_| is_word) else { return Err(Malformed::Foreign) };
    if number(checksum) == Some(u64::from(crc32fast::hash(body))) { Ok(KeyId(id)) } else { Err(Malformed::Checksum) }
}

fn write_number(mut number: u64, digits: usize, out: &mut String) {
    let mut reversed = [b'0'; ID];
    for digit in &mut reversed {
        let at = usize::try_from(number % 62).unwrap_or(0);
        *digit = DIGITS.get(at).copied().unwrap_or(b'0');
        number /= 62;
    }
    out.extend(reversed.iter().take(digits).rev().map(|digit| char::from(*digit)));
}

/// The number that digits write; `None`: they are none, or it is too large.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(value.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_in_one_way() {
        let (id, key) = generate("gwk").unwrap();
        assert_eq!((key.len(), read(key.as_bytes(), "gwk")), (4 + LENGTH, Ok(id)), "{key}");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(generate("gwk").unwrap(), (id, key.clone()));
        // K01: one letter more, less, or another one.
        for at in 4..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            assert!(read(&wrong, "gwk").is_err(), "{at}");
        }
        let short = &key[..key.len() - 1];
        for (text, expect) in [
            (format!("{short}\u{0}"), Malformed::Foreign),
            (short.to_owned(), Malformed::Foreign),
            (format!("{key}0"), Malformed::Foreign),
            (format!(" {key}"), Malformed::Foreign),
            (format!("{key} "), Malformed::Foreign),
            (key.replacen("gwk", "GWK", 1), Malformed::Foreign),
            (key.replace('_', "-"), Malformed::Foreign),
            (format!("gwk_{}_{}", "z".repeat(ID), "A".repeat(49)), Malformed::Foreign),
            (format!("gwk_{}_{}", "0".repeat(ID), "A".repeat(49)), Malformed::Checksum),
            (format!("gwk_{}A{}", "0".repeat(ID), "A".repeat(49)), Malformed::Foreign),
            (String::new(), Malformed::Foreign),
            ("gwk_".to_owned(), Malformed::Foreign),
        ] {
            assert_eq!(read(text.as_bytes(), "gwk"), Err(expect), "{text:?}");
        }
        assert!(read(key.as_bytes(), "acme").is_err());
    }

    #[test]
    fn ids() {
        for (number, text) in [(0, "00000000000"), (61, "0000000000z"), (62, "00000000010"), (u64::MAX, "LygHa16AHYF")]
        {
            assert_eq!(KeyId(number).to_string(), text);
            assert_eq!(text.parse(), Ok(KeyId(number)));
        }
        for wrong in ["", "0", "LygHa16AHYG", "zzzzzzzzzzz", "0000000000-", "000000000000"] {
            assert!(wrong.parse::<KeyId>().is_err(), "{wrong}");
        }
        assert_eq!(KeyId::of_foreign(&[1; 32]), KeyId(0x0101_0101_0101_0101));
    }

    #[test]
    fn keys_are_found_in_texts() {
        let (_, key) = generate("gwk").unwrap();
        let header = http::HeaderName::from_static("x-api-key");
        let settings = crate::settings::api_keys::Settings { header, prefix: "gwk".to_owned(), pepper: None };
        let pattern = regex::Regex::new(&settings.pattern()).unwrap();
        for text in [key.clone(), format!("https://a/?x={key}&y"), key[..40].to_owned()] {
            assert!(!pattern.replace_all(&text, "-").contains(&key[20..40]), "{text}");
        }
    }
}
