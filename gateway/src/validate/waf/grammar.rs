//! SQL and HTML by their grammars.
//!
//! *Invariant:* the reader of SQL may take time by the square of the length, so that it sees short windows of a value: its
//! beginning, and what stands around its first quotes.

use libinjectionrs::{detect_sqli, detect_xss};

/// What is read as SQL at once, in bytes.
const WINDOW: usize = 512;

/// How far windows may begin in a value; and the longest value that is read as HTML.
const LONGEST: usize = 8 * 1024;

/// The sequence of tokens by which a value is an attack on SQL.
pub(super) fn sqli(value: &[u8]) -> Option<String> {
    let value = squeeze(value);
    starts(&value).into_iter().flatten().find_map(|start| {
        let window = value.get(start..value.len().min(start + WINDOW))?;
        let found = detect_sqli(window);
        found.is_injection().then(|| found.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default())
    })
}

/// What [`sqli`] may cost, in steps: a word may be read again from each mark in it.
pub(super) fn sqli_cost(value: &[u8]) -> usize {
    let value = value.get(..value.len().min(LONGEST)).unwrap_or_default();
    let is_mark = |byte: &&u8| byte.is_ascii_punctuation() && **byte != b'_';
    let words = value.split(u8::is_ascii_whitespace);
    let steps: usize = words.map(|word| (word.len() + 1) * (1 + word.iter().filter(is_mark).count())).sum();
    steps.min(3 * WINDOW * WINDOW + LONGEST)
}

/// Whether a value is an attack on HTML.
pub(super) fn is_xss(value: &[u8]) -> bool {
    detect_xss(value.get(..value.len().min(LONGEST)).unwrap_or_default()).is_injection()
}

/// Where windows begin: with the value, and just before the first quote of each kind that the first window may have too
/// little of. What stands before a quote is one token.
fn starts(value: &[u8]) -> [Option<usize>; 3] {
    let of = |quote| {
        let at = memchr::memchr(quote, value)?;
        (value.len() > WINDOW && at > WINDOW / 4).then(|| at - 1)
    };
    [Some(0), of(b'\''), of(b'"')]
}

/// The beginning of a value, with one character for many spaces: a line end, where one is among them.
fn squeeze(value: &[u8]) -> Vec<u8> {
    let value = value.get(..value.len().min(LONGEST)).unwrap_or_default();
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    for &byte in value {
        match out.last_mut() {
            Some(last) if is_space(byte) && is_space(*last) => {
                if byte == b'\n' {
                    *last = byte;
                }
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_found_wherever_a_value_lets_them_begin() {
        let pad = "word ".repeat(1_000);
        let spaces = " ".repeat(5_000);
        for (value, is_attack) in [
            ("1' or '1'='1".to_owned(), true),
            (format!("{pad}' or 1=1--"), true),
            (format!("{pad}\" union select a from b--"), true),
            (format!("1{spaces}or 1=1--"), true),
            (format!("1{}or 1=1--", "\t \n".repeat(1_000)), true),
            (pad.clone(), false),
            (format!("it's {pad}"), false),
            (spaces, false),
            (String::new(), false),
        ] {
            assert_eq!(sqli(value.as_bytes()).is_some(), is_attack, "{:?}", value.get(..20));
        }
    }

    #[test]
    fn text_costs_little_and_nothing_costs_much() {
        let most = 3 * WINDOW * WINDOW + LONGEST;
        for (unit, least, largest) in [
            ("word, ", LONGEST, 4 * LONGEST),
            ("$.", most, most),
            ("' ", LONGEST, 4 * LONGEST),
            (" ", LONGEST, 4 * LONGEST),
            ("a", LONGEST, 4 * LONGEST),
        ] {
            let value = unit.repeat(1 << 20);
            let cost = sqli_cost(value.as_bytes());
            assert!((least..=largest).contains(&cost), "{unit:?}: {cost}");
            sqli(value.as_bytes());
        }
    }
}
