//! Reads `Retry-After` of servers that the observer asks.

use http::{HeaderMap, header};

use crate::text::digits::decimal;

/// How long a server wants to be left alone, in milliseconds: seconds or a date (RFC 9110 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> u64 {
    let text = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    if let Some(seconds) = decimal::<u64>(text) {
        return seconds.saturating_mul(1_000);
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    let left = date.ok().map(|date| date.duration_since(jiff::Timestamp::now()));
    left.and_then(|left| u64::try_from(left.as_millis()).ok()).unwrap_or(0)
}
