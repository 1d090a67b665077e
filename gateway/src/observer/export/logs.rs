//! Decisions of the guard as `ExportLogsServiceRequest`: each is a log record, whose body is the line that `gateway watch`
//! shows.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire;
use crate::{message::observer::event::Event, observer::protobuf::Message};

/// `SEVERITY_NUMBER_INFO`, `SEVERITY_NUMBER_WARN`.
const INFO: (u64, &str) = (9, "INFO");
const WARN: (u64, &str) = (13, "WARN");

/// Events that somebody should look at.
const WARNINGS: [&str; 13] = [
    "ban",
    "certificates_refused",
    "chain_broken",
    "denied",
    "files_refused",
    "good_clients_fail",
    "import_refused",
    "not_done",
    "observer_restart",
    "proxy_restart",
    "reload_refused",
    "repair",
    "store_set_aside",
];

/// The most members of a line that become attributes, and how long they may be.
const MOST: usize = 32;
const LONGEST: usize = 256;

/// All of these decisions.
pub(super) fn encode(service: &str, events: &[Event]) -> Vec<u8> {
    wire::request(service, events.iter().map(record))
}

fn record(event: &Event) -> Message {
    let members: Map<String, Value> = serde_json::from_str(&event.line).unwrap_or_default();
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    let name = text("event");
    let time = text("time").parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok());
    let (number, severity) = if WARNINGS.contains(&name) { WARN } else { INFO };
    let mut record = Message::default();
    if let Some(time) = time {
        record.fixed(1, time);
    }
    record.number(2, number);
    record.text(3, severity);
    record.message(5, &wire::text_value(&event.line));
    for attribute in members.iter().take(MOST).filter_map(|(key, value)| attribute(key, value)) {
        record.message(6, &attribute);
    }
    record.fixed(11, wire::nanos());
    record.text(12, &format!("gateway.{name}"));
    record
}

/// A member that is one value; others are in the body alone.
fn attribute(key: &str, value: &Value) -> Option<Message> {
    if matches!(key, "event" | "time") {
        return None;
    }
    let key = format!("gateway.{key}");
    match value {
        Value::String(text) => {
            let end = text.floor_char_boundary(LONGEST);
            Some(wire::text(&key, text.get(..end).unwrap_or_default()))
        }
        Value::Number(number) => Some(wire::number(&key, number.as_i64()?)),
        Value::Bool(is) => Some(wire::boolean(&key, *is)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_record() {
        let line =
            r#"{"actor":"rule:a","event":"ban","id":7,"shadow":false,"time":"2026-01-01T00:00:00Z","x":{"y":1}}"#;
        let bytes = encode("edge", &[Event { line: line.to_owned(), missed: 0 }]);
        let text = String::from_utf8_lossy(&bytes);
        for part in ["edge", "WARN", "gateway.ban", "gateway.actor", "rule:a", "gateway.shadow", line] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("gateway.x") && !text.contains("gateway.time"), "{text}");
        // What is no line is told all the same.
        let odd = encode("edge", &[Event { line: "odd".to_owned(), missed: 0 }]);
        assert!(String::from_utf8_lossy(&odd).contains("odd"));
    }
}
