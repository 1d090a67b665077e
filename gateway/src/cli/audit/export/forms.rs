//! Records in the forms that other programs read: CSV, CEF and syslog.

use serde_json::{Map, Value};

use crate::{cli::csv::cell, guard::audit::ChainLine, os::syslog};

/// The heading of a CSV file.
pub(super) const CSV_HEADING: &str = "seq,time,event,source,actor,members,hash";

/// A row.
pub(super) fn csv(line: &ChainLine<'_>) -> String {
    let record = record(line);
    let text = |name: &str| text(&record, name);
    let members = Value::Object(members(&record)).to_string();
    let cells = [
        line.seq.to_string(),
        line.time.to_owned(),
        line.event.to_owned(),
        text("source"),
        text("actor"),
        members,
        text("hash"),
    ];
    cells.map(|text| cell(&text)).join(",")
}

/// A line of the Common Event Format, version 0.
pub(super) fn cef(line: &ChainLine<'_>) -> String {
    let record = record(line);
    let header = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ");
    let value = |text: &str| text.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r");
    let mut extension = format!("rt={} externalId={}", value(line.time), line.seq);
    for (key, member) in [("src", "source"), ("suser", "actor"), ("reason", "reason"), ("fileHash", "hash")] {
        let text = text(&record, member);
        // A prefix is no address, which is all that `src` takes.
        let key = if key == "src" && text.contains('/') { "cs2Label=prefix cs2" } else { key };
        if !text.is_empty() {
            extension.push_str(&format!(" {key}={}", value(&text)));
        }
    }
    let members = Value::Object(members(&record)).to_string();
    extension.push_str(&format!(" cs1Label=members cs1={}", value(&members)));
    let (event, version) = (header(line.event), header(env!("CARGO_PKG_VERSION")));
    format!("CEF:0|gateway|gateway|{version}|{event}|{event}|{}|{extension}", severity(line.event))
}

/// A message of syslog (RFC 5424), facility 13 (log audit); the message is the record as it stands in the chain.
pub(super) fn syslog(line: &ChainLine<'_>) -> String {
    let severity = if severity(line.event) > 6 { 4 } else { 5 };
    let event = syslog::name(line.event, 32);
    let record = String::from_utf8_lossy(line.text);
    format!("<{}>1 {} - gateway - {event} - {record}", 13 * 8 + severity, line.time)
}

/// From 0 to 10.
fn severity(event: &str) -> u8 {
    match event {
        "chain_broken" | "key_exposed" | "key_replaced" => 9,
        "ban" | "paused" | "detach" | "store_missing" | "store_replaced" | "store_set_aside" => 7,
        "certificates_refused"
        | "command_refused"
        | "files_refused"
        | "refusal"
        | "refused"
        | "reload_refused"
        | "shadow" => 5,
        _ => 3,
    }
}

fn record(line: &ChainLine<'_>) -> Map<String, Value> {
    serde_json::from_slice(line.text).unwrap_or_default()
}

/// What is particular to an event.
fn members(record: &Map<String, Value>) -> Map<String, Value> {
    let common = ["seq", "time", "event", "source", "actor", "prev", "hash"];
    record.iter().filter(|(name, _)| !common.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn text(record: &Map<String, Value>, name: &str) -> String {
    record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: fn(&ChainLine<'_>) -> String, members: &str, expect: &str) {
        let text = format!("{{\"seq\":7,\"time\":\"T\",\"event\":\"ban\",{members},\"prev\":\"p\",\"hash\":\"h\"}}");
        let line = ChainLine { text: text.as_bytes(), seq: 7, event: "ban", time: "T", is_good: true };
        let found = form(&line);
        assert!(found.contains(expect), "{found}\n{expect}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }

    #[test]
    fn nothing_in_a_record_breaks_out_of_its_place() {
        check(csv, r#""source":"192.0.2.7","actor":"a""#, "7,T,ban,192.0.2.7,a,{},h");
        check(csv, r#""actor":"=1+1""#, "7,T,ban,,\"'=1+1\",{},h");
        check(csv, r#""reason":"x,\"y\"\n""#, r#"7,T,ban,,,"{""reason"":""x,\""y\""\n""}",h"#);
        check(cef, r#""source":"192.0.2.7""#, "|ban|ban|7|rt=T externalId=7 src=192.0.2.7 fileHash=h cs1Label=");
        check(cef, r#""source":"192.0.2.0/24""#, " cs2Label=prefix cs2=192.0.2.0/24 ");
        check(cef, r#""reason":"a=b|c\\d\ne""#, r"reason=a\=b|c\\d\ne");
        check(syslog, r#""reason":"a\nb""#, "<108>1 T - gateway - ban - {\"seq\":7");
    }
}
