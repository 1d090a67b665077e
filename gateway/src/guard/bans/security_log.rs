//! What of refused requests and shadow hits is recorded: once a minute, one record for each kind, with numbers and some of
//! the sources. An attacker can neither fill the audit chain nor keep a kind out of it.
//!
//! *Invariant:* there are as many kinds as the product has (rows of the table of refusals, rules, limits), and of each at
//! most [`SOURCES`] sources and [`REQUESTS`] request ids are kept.

use std::collections::BTreeMap;

use gateway_common::source::Source;
use serde_json::{Map, Value, json};

use crate::{guard::audit::members, refusal::Reject, signal::Signal, web::request_id::RequestId};

/// How many sources a record names, and how many requests.
const SOURCES: usize = 8;
const REQUESTS: usize = 8;

/// How many rules and limits in shadow are told apart.
const SHADOWS: usize = 256;

/// What happened since it was recorded last.
#[derive(Default)]
pub(super) struct SecurityLog {
    /// What was refused up to the last record, by label.
    refused: BTreeMap<String, u64>,
    /// Packets that would have been dropped up to the last record, by verdict.
    packets: BTreeMap<&'static str, u64>,
    /// What rules have asked bans for.
    evidence: BTreeMap<Signal, Kind>,
    /// What a rule or a limit in shadow would have refused.
    shadow: BTreeMap<String, Kind>,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Kind {
    count: u64,
    sources: BTreeMap<Source, u64>,
    /// There were more.
    has_others: bool,
    requests: Vec<RequestId>,
}

impl Kind {
    fn add(&mut self, count: u64, source: Source, requests: &[RequestId]) {
        let is_full = self.sources.len() >= SOURCES;
        match self.sources.get_mut(&source) {
            Some(known) => *known = known.saturating_add(count),
            None if is_full => self.has_others = true,
            None => drop(self.sources.insert(source, count)),
        }
        let room = REQUESTS.saturating_sub(self.requests.len());
        self.requests.extend(requests.iter().take(room));
    }

    fn merge(&mut self, other: &Self) {
        for (source, count) in &other.sources {
            self.add(*count, *source, &[]);
        }
        self.has_others |= other.has_others;
        let room = REQUESTS.saturating_sub(self.requests.len());
        self.requests.extend(other.requests.iter().take(room));
    }

    fn tell(&self, record: &mut Map<String, Value>) {
        if self.sources.is_empty() {
            return;
        }
        let sources: Map<String, Value> =
            self.sources.iter().map(|(source, count)| (source.to_string(), (*count).into())).collect();
        record.insert("sources".to_owned(), sources.into());
        record.insert("others".to_owned(), self.has_others.into());
        if !self.requests.is_empty() {
            record.insert("requests".to_owned(), self.requests.iter().map(ToString::to_string).collect());
        }
    }
}

impl SecurityLog {
    /// A rule has asked for a ban because of these requests.
    pub(super) fn note_evidence(&mut self, signal: Signal, source: Source, requests: &[RequestId]) {
        let count = u64::try_from(requests.len()).unwrap_or(0);
        self.evidence.entry(signal).or_default().add(count, source, requests);
    }

    /// `what` in shadow would have refused `count` requests, or bans, of these sources.
    pub(super) fn note_shadow(
        &mut self,
        what: &str,
        count: u64,
        sources: impl Iterator<Item = Source>,
        requests: &[RequestId],
    ) {
        if self.shadow.len() >= SHADOWS && !self.shadow.contains_key(what) {
            return;
        }
        let kind = self.shadow.entry(what.to_owned()).or_default();
        kind.count = kind.count.saturating_add(count);
        sources.for_each(|source| kind.add(1, source, requests));
    }

    /// What is to be recorded now, of what was `refused` and of `packets` in shadow since the start.
    pub(super) fn take(
        &mut self,
        refused: &BTreeMap<String, u64>,
        packets: impl Iterator<Item = (&'static str, u64)>,
    ) -> Vec<(&'static str, Map<String, Value>)> {
        let mut records = Vec::new();
        let evidence = std::mem::take(&mut self.evidence);
        for (class, count) in refused {
            let before = self.refused.insert(class.clone(), *count).unwrap_or(0);
            let new = count.saturating_sub(before);
            if new > 0 {
                let mut record = members(json!({"class": class, "count": new}));
                let mut kind = Kind::default();
                evidence.iter().filter(|(signal, _)| says(class, **signal)).for_each(|(_, more)| kind.merge(more));
                kind.tell(&mut record);
                records.push(("refused", record));
            }
        }
        for (verdict, count) in packets {
            let new = count.saturating_sub(self.packets.insert(verdict, count).unwrap_or(0));
            if new > 0 {
                records.push(("shadow", members(json!({"what": verdict, "packets": new}))));
            }
        }
        for (what, kind) in std::mem::take(&mut self.shadow) {
            let mut record = members(json!({"what": what, "count": kind.count}));
            kind.tell(&mut record);
            records.push(("shadow", record));
        }
        records
    }
}

/// Whether a refusal of this class says this about its source. Several classes may say the same.
fn says(class: &str, signal: Signal) -> bool {
    Reject::ALL.map(Reject::row).iter().any(|row| row.label == class && row.signal == Some(signal))
        // Every way in which a token is not valid has one row, which names one of them.
        || class == Reject::InvalidToken.row().label
            && !Reject::ALL.map(Reject::row).iter().any(|row| row.signal == Some(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_one_bounded_record_for_each_kind() {
        let mut log = SecurityLog::default();
        let id = |number: u8| format!("{number:032x}").parse::<RequestId>().unwrap();
        for number in 0..100 {
            let source: Source = format!("192.0.2.{number}").parse().unwrap();
            log.note_evidence(Signal::ExpiredToken, source, &[id(number), id(number)]);
            log.note_shadow("rule.trial", 1, [source].into_iter(), &[id(number)]);
        }
        let refused = BTreeMap::from([("invalid_token".to_owned(), 300), ("not_found".to_owned(), 0)]);
        let packets = || [("shadow_blocked", 5), ("shadow_limited", 0)].into_iter();
        let records = log.take(&refused, packets());
        let told: Vec<String> =
            records.iter().map(|(event, record)| format!("{event} {}", Value::Object(record.clone()))).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        let record = &records[0].1;
        assert_eq!((&record["class"], &record["count"]), (&json!("invalid_token"), &json!(300)));
        assert_eq!(record["sources"].as_object().unwrap().len(), SOURCES);
        assert_eq!((record["requests"].as_array().unwrap().len(), &record["others"]), (REQUESTS, &json!(true)));
        assert!(told[1].contains("\"packets\":5"), "{told:?}");
        assert!(told[2].contains("rule.trial") && told[2].contains("\"count\":100"), "{told:?}");
        // Nothing new, nothing recorded.
        assert_eq!(log.take(&refused, packets()), []);
        let more = BTreeMap::from([("invalid_token".to_owned(), 301)]);
        assert_eq!(log.take(&more, packets()).len(), 1);
    }

    #[test]
    fn every_signal_has_a_class() {
        for signal in Signal::ALL {
            assert!(Reject::ALL.iter().any(|reject| says(reject.row().label, signal)), "{signal:?}");
        }
        for (class, signal, expect) in [
            ("invalid_token", Signal::WrongIssuer, true),
            ("invalid_token", Signal::ForgedToken, true),
            ("invalid_token", Signal::OverLimit, false),
            ("not_found", Signal::UnknownRoute, true),
            ("method_not_allowed", Signal::UnknownRoute, true),
            ("upstream_failed", Signal::WrongIssuer, false),
        ] {
            assert_eq!(says(class, signal), expect, "{class} {signal:?}");
        }
    }
}
