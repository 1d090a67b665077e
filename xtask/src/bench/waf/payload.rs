//! Payloads as packages have them.

use std::{fs, path::Path};

use anyhow::Context as _;

/// The text of a file that a package should have.
pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    let text =
        fs::read(path).with_context(|| format!("cannot read {}: does the package still have it?", path.display()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether a value says nothing by itself: one character, or letters, digits and blanks alone, once percent-encoding is
/// decoded. This rule is older than the first run of the firewall on these lists.
pub(super) fn is_probe(value: &str) -> bool {
    let bytes = value.trim().as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let encoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(encoded.unwrap_or(*byte));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ' || *byte == b'_';
    decoded.len() < 2 || decoded.iter().all(is_word)
}
