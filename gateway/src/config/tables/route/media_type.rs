//! Reads the media type of a body or of a file.

use std::collections::HashSet;

use toml::de::DeValue;

use crate::{config::value, diagnostic::Diagnostic};

/// `image/png`, `image/*`.
pub(super) fn media_type(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    // Tokens (RFC 9110 5.6.2). A star is a whole part.
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
    let is_part = |part: &str| part == "*" || !part.is_empty() && part.bytes().all(is_letter);
    let parts: HashSet<bool> = text.split('/').map(is_part).collect();
    if text.split('/').count() != 2 || parts.contains(&false) || (text.starts_with("*/") && text != "*/*") {
        return Err(Diagnostic::bare(format!("{text:?} is no media type")).hint("write \"image/png\" or \"image/*\""));
    }
    Ok(text)
}
