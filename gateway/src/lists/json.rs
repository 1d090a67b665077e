//! Reads other JSON documents of addresses: the ranges of clouds (AWS, GCP, Cloudflare), the lists of AbuseIPDB and
//! abuse.ch. Only members whose names say that they are addresses are read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    line::{Each, Listed, Unreadable, low_score},
    range::sources,
};

/// Members that name an address or a prefix.
const NAMES: [&str; 12] = [
    "address",
    "cidr",
    "dst_ip",
    "ip",
    "ip_address",
    "ip_prefix",
    "ipaddress",
    "ipv4prefix",
    "ipv6_prefix",
    "ipv6prefix",
    "network",
    "prefix",
];

/// Members that are arrays of them.
const ARRAYS: [&str; 5] = ["addresses", "ipv4_cidrs", "ipv6_cidrs", "ips", "prefixes"];

/// How deep a document is looked into.
const DEEPEST: usize = 8;

pub(super) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Unreadable> {
    // A document, or one a line.
    let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut found = EntryCollector { each, number: 0, passed: BTreeSet::new() };
    for document in documents {
        let document = document.map_err(|error| Unreadable(format!("is no JSON: {error}")))?;
        found.look("", &document, 0);
    }
    if found.number == 0 {
        let passed: Vec<String> = found.passed.into_iter().take(8).collect();
        return Err(Unreadable(format!(
            "is JSON in which no member is known to name addresses (it has {}): write them one a line, as with `jq -r`",
            passed.join(", ")
        )));
    }
    Ok(())
}

struct EntryCollector<'a, 'b> {
    each: &'a mut Each<'b>,
    /// The number of the last entry, from 1.
    number: u32,
    /// Members that were not known.
    passed: BTreeSet<String>,
}

impl EntryCollector<'_, '_> {
    fn look(&mut self, name: &str, value: &Value, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        match value {
            Value::Array(all) => all.iter().for_each(|one| match one {
                Value::String(text) if depth == 0 || ARRAYS.contains(&name) => self.entry(text, None),
                one => self.look(name, one, depth + 1),
            }),
            Value::Object(members) => {
                let score = members.iter().find(|(name, _)| name.eq_ignore_ascii_case("abuseConfidenceScore"));
                let score = score.and_then(|(_, score)| score.as_f64());
                for (name, value) in members {
                    let lower = name.to_ascii_lowercase();
                    match value {
                        Value::String(text) if NAMES.contains(&lower.as_str()) => self.entry(text, score),
                        Value::Array(_) | Value::Object(_) => self.look(&lower, value, depth + 1),
                        _ if self.passed.len() < 100 => drop(self.passed.insert(name.chars().take(30).collect())),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, text: &str, score: Option<f64>) {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        let each = &mut *self.each;
        let read = match score.and_then(low_score) {
            Some(low) => Err(low),
            None => sources(text.trim(), |source| each(number, Ok(Listed { source, seconds: None, reason: None }))),
        };
        if let Err(message) = read {
            each(number, Err(message));
        }
    }
}
