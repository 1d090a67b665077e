//! Values of arguments that several commands take.

use std::{net::IpAddr, time::Duration};

use serde_json::Value;

use crate::{
    config::{self, value},
    identity::claim::ClaimPath,
    settings::guard::LONGEST_BAN,
};

/// A ban's length: whole seconds.
pub(super) fn ban_duration(text: &str) -> Result<Duration, String> {
    whole_seconds(text).map_err(|wrong| format!("{wrong}; --forever blocks until removed"))
}

/// How long something lasts that also lasts for ever where no time is named.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    whole_seconds(text).map_err(|wrong| format!("{wrong}; without this option there is no end"))
}

/// How long something lasts: at least a second, at most ten years.
pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = value::duration(text).map_err(|wrong| wrong.hint.unwrap_or(wrong.message))?;
    if duration < Duration::from_secs(1) || duration.subsec_nanos() != 0 {
        return Err("write at least 1s, in whole seconds".to_owned());
    }
    if duration > LONGEST_BAN {
        return Err("write at most 3650d".to_owned());
    }
    Ok(duration)
}

/// A number by which something is listed.
pub(super) fn id(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_no_number| "write its number, as the list shows it: 7".to_owned())
}

/// An address of a client.
pub(super) fn client(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_no_address| "write an IP address, as in 203.0.113.7 or 2001:db8::7".to_owned())
}

/// Words for the record: one line, and not a novel.
pub(super) fn reason(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err("write 1 to 256 bytes without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A name as the configuration has them, of a list for example.
pub(super) fn name(text: &str) -> Result<String, String> {
    if config::is_name(text) {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 letters, digits, \"-\" or \"_\"".to_owned())
}

/// A claim and what it says: `tenant=acme`, `level=3`, `groups=["a","b"]`. What is no JSON is a text.
pub(super) fn claim(text: &str) -> Result<(ClaimPath, Value), String> {
    let (path, value) = text.split_once('=').ok_or("write path=value, as in sub=ada or level=3")?;
    let path = ClaimPath::parse(path).ok_or_else(|| format!("{path:?} is no path of a claim"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_no_json| Value::from(value));
    Ok((path, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each hint names what the command has, and nothing else.
    #[test]
    fn durations() {
        type Parser = fn(&str) -> Result<Duration, String>;
        let all: [(&str, Parser, &str); 3] = [
            ("ban", ban_duration, "; --forever blocks until removed"),
            ("lifetime", lifetime, "; without this option there is no end"),
            ("whole seconds", whole_seconds, ""),
        ];
        for (name, parse, hint) in all {
            for (text, expect) in [
                ("0d", Err("write at least 1s, in whole seconds")),
                ("1500ms", Err("write at least 1s, in whole seconds")),
                ("4000d", Err("write at most 3650d")),
                ("1h", Ok(Duration::from_secs(3_600))),
            ] {
                assert_eq!(parse(text), expect.map_err(|wrong| format!("{wrong}{hint}")), "{name} {text}");
            }
        }
    }
}
