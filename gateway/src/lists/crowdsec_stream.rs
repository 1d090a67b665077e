//! Reads what CrowdSec's Local API streams to bouncers: decisions that are new, and those that ended.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    crowdsec_csv::decision,
    line::{Listed, Unreadable},
};

/// The most decisions of one answer: each takes many times as much memory as the shortest has bytes.
const MOST: usize = 2_000_000;

#[derive(Deserialize)]
struct Answer<'a> {
    /// `null` for none.
    #[serde(borrow, default)]
    new: Option<Vec<Decision<'a>>>,
    #[serde(default)]
    deleted: Option<Vec<Ended>>,
}

#[derive(Deserialize)]
struct Ended {
    id: i64,
}

#[derive(Deserialize)]
struct Decision<'a> {
    id: i64,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    duration: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scenario: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    origin: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    simulated: Option<bool>,
}

/// What was streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionStream {
    /// Bans of addresses that are new, by number.
    pub new: Vec<(i64, Listed)>,
    /// The numbers of those that ended.
    pub deleted: Vec<i64>,
    /// How many are of the origin that is left out.
    pub own: u64,
    /// How many are no bans of addresses.
    pub other: u64,
    /// How many are only simulated.
    pub simulated: u64,
}

/// Reads an answer; decisions of the origin `own` are left out.
///
/// # Errors
/// It is none, or has too many.
pub fn stream(bytes: &[u8], own: Option<&str>) -> Result<DecisionStream, Unreadable> {
    // Every decision begins with one of these.
    if bytes.iter().filter(|byte| matches!(**byte, b'{' | b'[')).count() > MOST {
        return Err(Unreadable(format!("has more than {MOST} decisions")));
    }
    let answer: Answer<'_> =
        serde_json::from_slice(bytes).map_err(|error| Unreadable(format!("is no stream of decisions: {error}")))?;
    let (new, deleted) = (answer.new.unwrap_or_default(), answer.deleted.unwrap_or_default());
    let mut read = DecisionStream { deleted: deleted.iter().map(|one| one.id).collect(), ..DecisionStream::default() };
    for one in new {
        if own.is_some() && one.origin.as_deref() == own {
            read.own += 1;
            continue;
        }
        if one.simulated == Some(true) {
            read.simulated += 1;
            continue;
        }
        let mut listed = None;
        let (scope, value) = (one.scope.as_deref().unwrap_or_default(), one.value.as_deref().unwrap_or_default());
        let origin = one.origin.as_deref().unwrap_or_default();
        let why = format!("{} ({origin})", one.scenario.as_deref().unwrap_or_default());
        let kind = one.kind.as_deref().unwrap_or_default();
        let judged = decision(scope, value, one.duration.as_deref(), Some(&why), Some(kind), &mut |found| {
            listed.get_or_insert(found);
        });
        match listed {
            Some(listed) if judged.is_ok() && listed.seconds.is_some() => read.new.push((one.id, listed)),
            _ => read.other += 1,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let one = |id: i64, more: &str| {
            format!(
                "{{\"id\":{id},\"origin\":\"cscli\",\"scenario\":\"ssh\",\"scope\":\"Ip\",\"type\":\"ban\",\"value\":\"192.0.2.{id}\",\
                 \"duration\":\"3h59m58.5s\"{more}}}"
            )
        };
        let changed = |id: i64, from: &str, to: &str| one(id, "").replace(from, to);
        let new = [
            one(1, ""),
            one(2, ",\"simulated\":true"),
            one(3, ",\"simulated\":false,\"uuid\":\"x\",\"until\":null"),
            changed(4, "\"ban\"", "\"captcha\""),
            changed(5, "\"Ip\"", "\"Country\"").replace("192.0.2.5", "DE"),
            changed(6, "\"Ip\"", "\"range\"").replace("192.0.2.6", "198.51.100.0/24"),
            changed(7, "\"cscli\"", "\"edge-1\""),
            changed(8, "3h59m58.5s", "-5s"),
            changed(9, "3h59m58.5s", "soon"),
            changed(10, "192.0.2.10", "2001:db8::7"),
            changed(11, "192.0.2.11", "nonsense"),
        ];
        let text =
            format!("{{\"new\":[{}],\"deleted\":[{},{}]}}", new.join(","), one(20, ""), changed(21, "3h", "-3h"));
        let read = stream(text.as_bytes(), Some("edge-1")).unwrap();
        let found: Vec<_> = read.new.iter().map(|(id, listed)| (*id, listed.source.to_string())).collect();
        let expect = [(1, "192.0.2.1"), (3, "192.0.2.3"), (6, "198.51.100.0/24"), (10, "2001:db8::7")];
        assert_eq!(found.iter().map(|(id, source)| (*id, source.as_str())).collect::<Vec<_>>(), expect);
        assert_eq!(read.new[0].1.seconds, Some(14_399));
        assert_eq!(read.new[0].1.reason.as_deref(), Some("ssh (cscli)"));
        assert_eq!((read.deleted, read.own, read.other, read.simulated), (vec![20, 21], 1, 5, 1));
        assert_eq!(stream(b"{\"new\":null,\"deleted\":null}", None), Ok(DecisionStream::default()));
        for wrong in ["", "[]x", "{\"new\":[{\"id\":\"x\"}]}", "<html>", "{\"new\":{}}", "null"] {
            assert!(stream(wrong.as_bytes(), None).is_err(), "{wrong}");
        }
    }
}
