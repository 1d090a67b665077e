//! Collects what the audit chain tells of bans, lists, allowances and promotions that the store never heard of: it was
//! locked, it is a copy from before, or it was lost. Pure.
//!
//! *Invariant:* no more is kept than was in force at one time, and at most [`MOST`] of what has ended.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// How many ended bans are kept in mind that began before the first record read.
const MOST: usize = 1_000_000;

/// What was decided, as far as it is in force at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redo {
    /// Bans that began and did not end, as their records tell them.
    pub(crate) begun: BTreeMap<u64, Map<String, Value>>,
    /// Bans that began before and have ended.
    pub(crate) ended: BTreeSet<u64>,
    /// Bans that began before and were confirmed.
    pub(crate) confirmed: BTreeSet<u64>,
    /// All that began before were removed.
    pub(crate) flushed: bool,
    /// Sources, and the record of what allows them; `None`: they are not allowed any more.
    pub(crate) allowed: BTreeMap<String, Option<Map<String, Value>>>,
    /// What was promoted, and by whom; `None`: that is over.
    pub(crate) promoted: BTreeMap<String, Option<String>>,
    /// What became of lists, by name. The chain has no entries of them.
    pub(crate) lists: BTreeMap<String, ListChange>,
}

/// What the last record of a list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListChange {
    /// It has no entries any more.
    Removed,
    /// It has other entries than before.
    Replaced {
        /// It follows a file or a URL of the configuration: `block flush` leaves it.
        is_configured: bool,
    },
}

impl Redo {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self {
            begun: BTreeMap::new(),
            ended: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            flushed: false,
            allowed: BTreeMap::new(),
            promoted: BTreeMap::new(),
            lists: BTreeMap::new(),
        }
    }

    /// Whether it tells of nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads one record.
    pub(super) fn note(&mut self, event: &str, line: &[u8]) {
        const EVENTS: [&str; 11] = [
            "ban",
            "unban",
            "expiry",
            "rollback",
            "flush",
            "import",
            "allow_add",
            "allow_del",
            "confirm",
            "promote",
            "promotion_over",
        ];
        if !EVENTS.contains(&event) {
            return;
        }
        let Ok(Value::Object(record)) = serde_json::from_slice(line) else { return };
        let id = |member: &str| record.get(member).and_then(Value::as_u64);
        let text = |member: &str| record.get(member).and_then(Value::as_str).map(str::to_owned);
        let source = || text("source");
        match event {
            "ban" => {
                if let Some(replaced) = id("replaces") {
                    self.end(replaced);
                }
                if let Some(id) = id("ban") {
                    self.begun.insert(id, record);
                }
            }
            "unban" | "expiry" | "rollback" => {
                if let Some(id) = id("ban") {
                    self.end(id);
                }
            }
            "flush" => {
                self.begun.clear();
                self.ended.clear();
                self.flushed = true;
                self.lists.retain(|_name, change| *change != ListChange::Replaced { is_configured: false });
            }
            "import" => {
                let (Some(name), Some(entries)) = (text("feed"), id("entries")) else { return };
                // What is imported has an operator, or whoever has a token.
                let is_configured = record.get("actor").and_then(Value::as_str) == Some("guard");
                if self.lists.len() < MOST || self.lists.contains_key(&name) {
                    let replaced = ListChange::Replaced { is_configured };
                    self.lists.insert(name, if entries == 0 { ListChange::Removed } else { replaced });
                }
            }
            "confirm" => {
                let Some(id) = id("ban") else { return };
                match self.begun.get_mut(&id) {
                    Some(begun) => drop(begun.remove("confirm_by")),
                    None if self.confirmed.len() < MOST => drop(self.confirmed.insert(id)),
                    None => {}
                }
            }
            "promote" => {
                if let Some(begun) = id("what").and_then(|id| self.begun.get_mut(&id)) {
                    begun.insert("mode".to_owned(), "enforce".into());
                }
                if let Some(what) = text("what") {
                    self.promoted.insert(what, text("actor"));
                }
            }
            "promotion_over" => {
                if let Some(what) = text("what") {
                    self.promoted.insert(what, None);
                }
            }
            "allow_add" => {
                if let Some(source) = source() {
                    self.allowed.insert(source, Some(record));
                }
            }
            _ => {
                if let Some(source) = source() {
                    self.allowed.insert(source, None);
                }
            }
        }
    }

    fn end(&mut self, id: u64) {
        if self.begun.remove(&id).is_none() && self.ended.len() < MOST {
            self.ended.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_at_the_end() {
        let mut redo = Redo::default();
        for (event, line) in [
            ("ban", r#"{"ban":5,"source":"192.0.2.5"}"#),
            ("ban", r#"{"ban":6,"source":"192.0.2.5","replaces":5}"#),
            ("unban", r#"{"ban":3}"#),
            ("expiry", r#"{"ban":6}"#),
            ("ban", r#"{"ban":7,"source":"192.0.2.7","confirm_by":"x","mode":"shadow"}"#),
            ("confirm", r#"{"ban":7}"#),
            ("promote", r#"{"what":7}"#),
            ("confirm", r#"{"ban":2}"#),
            ("promote", r#"{"what":"rule.a","actor":"operator:0"}"#),
            ("promote", r#"{"what":"limit.b","actor":"operator:0"}"#),
            ("promotion_over", r#"{"what":"limit.b"}"#),
            ("allow_add", r#"{"source":"192.0.2.1"}"#),
            ("allow_del", r#"{"source":"192.0.2.2"}"#),
            ("import", r#"{"feed":"drop","entries":3,"actor":"operator:0"}"#),
            ("import", r#"{"feed":"gone","entries":3,"actor":"operator:0"}"#),
            ("import", r#"{"feed":"gone","entries":0,"actor":"operator:0"}"#),
            ("import", r#"{"feed":"file","entries":3,"actor":"guard"}"#),
            ("import", r#"{"entries":3}"#),
            ("start", "{}"),
            ("ban", "rubbish"),
        ] {
            redo.note(event, line.as_bytes());
        }
        assert_eq!(redo.begun.keys().collect::<Vec<_>>(), [&7]);
        assert_eq!((&redo.begun[&7]["mode"], redo.begun[&7].get("confirm_by")), (&"enforce".into(), None));
        assert_eq!((redo.ended.clone(), redo.confirmed.clone()), (BTreeSet::from([3]), BTreeSet::from([2])));
        assert!(redo.allowed["192.0.2.1"].is_some() && redo.allowed["192.0.2.2"].is_none());
        let promoted = [("limit.b", None), ("rule.a", Some("operator:0"))];
        let promoted = promoted.map(|(what, actor)| (what.to_owned(), actor.map(str::to_owned)));
        assert_eq!(redo.promoted, BTreeMap::from(promoted));
        let lists = |redo: &Redo| redo.lists.iter().map(|(name, change)| (name.clone(), *change)).collect::<Vec<_>>();
        let replaced = |is_configured| ListChange::Replaced { is_configured };
        let [drop, file, gone] = ["drop", "file", "gone"].map(str::to_owned);
        let kept = [(file, replaced(true)), (gone, ListChange::Removed)];
        assert_eq!(lists(&redo), [&[(drop, replaced(false))][..], &kept[..]].concat());
        redo.note("flush", b"{}");
        assert!(redo.flushed && redo.begun.is_empty() && redo.ended.is_empty());
        assert_eq!(lists(&redo), kept);
    }
}
