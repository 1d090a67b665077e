//! Reads other JSON documents of addresses: the ranges of clouds and CDNs (AWS, GCP, Cloudflare, Fastly), the lists of
//! AbuseIPDB and abuse.ch. Only members whose names say that they are addresses are read.

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
const ARRAYS: [&str; 8] = [
    "addresses",
    "cloudfront_global_ip_list",
    "cloudfront_regional_edge_ip_list",
    "ipv4_cidrs",
    "ipv6_addresses",
    "ipv6_cidrs",
    "ips",
    "prefixes",
];

/// How deep a document is looked into.
const DEEPEST: usize = 8;

pub(super) fn read(bytes: &[u8], services: &[String], each: &mut Each<'_>) -> Result<(), Unreadable> {
    // A document, or one a line.
    let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut found = EntryCollector { each, services, number: 0, others: BTreeSet::new(), passed: BTreeSet::new() };
    for document in documents {
        let document = document.map_err(|error| Unreadable(format!("is no JSON: {error}")))?;
        found.look("", &document, 0);
    }
    if found.number == 0 && !services.is_empty() {
        let others: Vec<String> = found.others.into_iter().take(8).collect();
        let has = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        return Err(Unreadable(format!("has no entry of `services` (its entries are of {has})")));
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
    /// Only entries of these are wanted; empty: all are.
    services: &'a [String],
    /// The number of the last entry, from 1.
    number: u32,
    /// Other services that entries are of.
    others: BTreeSet<String>,
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
                // What stands alone is of no service.
                Value::String(text) if depth == 0 || ARRAYS.contains(&name) => {
                    if self.services.is_empty() {
                        self.entry(text, None);
                    }
                }
                one => self.look(name, one, depth + 1),
            }),
            Value::Object(members) => {
                let score = members.iter().find(|(name, _)| name.eq_ignore_ascii_case("abuseConfidenceScore"));
                let score = score.and_then(|(_, score)| score.as_f64());
                let is_wanted = self.is_wanted(members.get("service"));
                for (name, value) in members {
                    let lower = name.to_ascii_lowercase();
                    match value {
                        Value::String(text) if is_wanted && NAMES.contains(&lower.as_str()) => self.entry(text, score),
                        Value::String(_) if NAMES.contains(&lower.as_str()) => {}
                        Value::Array(_) | Value::Object(_) => self.look(&lower, value, depth + 1),
                        _ if self.passed.len() < 100 => drop(self.passed.insert(name.chars().take(30).collect())),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether an entry of this service is to be read.
    fn is_wanted(&mut self, service: Option<&Value>) -> bool {
        if self.services.is_empty() {
            return true;
        }
        let Some(service) = service.and_then(Value::as_str) else { return false };
        let is_wanted = self.services.iter().any(|wanted| wanted == service);
        if !is_wanted && self.others.len() < 100 {
            self.others.insert(service.chars().take(30).collect());
        }
        is_wanted
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
