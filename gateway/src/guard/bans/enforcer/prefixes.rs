//! Which prefix rules the kernel gets, given what is allowed and what is blocked. Pure.
//!
//! The kernel asks the longest matching prefix only, so each rule must say what all the prefixes around it say
//! together: an allowance always wins, a wider block goes on inside a narrower one that is weaker or ends sooner.

use std::collections::{BTreeMap, HashMap};

use gateway_common::{
    maps::{NEVER, Rule},
    source::Source,
};

use super::slots::FreeSlots;
use crate::guard::control::AllowEntry;

/// A blocked prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Counted only.
    pub(crate) shadow: bool,
    /// `CLOCK_MONOTONIC`, nanoseconds, or [`NEVER`].
    pub(crate) expires: u64,
    /// Where it is counted.
    pub(crate) slot: u32,
}

/// All that is allowed and all prefixes that are blocked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes {
    /// Allowances in force: the configuration's, and those of operators that it does not name.
    pub(crate) allows: BTreeMap<Source, AllowEntry>,
    /// Allowances of operators, also of what the configuration names just now.
    operators: BTreeMap<Source, AllowEntry>,
    blocked: HashMap<Source, Blocked>,
    /// Slots that no prefix in `blocked` has.
    free: FreeSlots,
    /// Prefixes that feeds list. They count in slots of their own, from the last one down.
    pub(crate) fed: HashMap<Source, Blocked>,
}

/// The actor of allowances of the configuration.
pub(crate) const CONFIG: &str = "config";

/// The rule of an allowance. Slot 0 is nobody's, so nothing is miscounted.
const ALLOW: Rule = Rule::new(Rule::ALLOW, 0, NEVER);

impl Prefixes {
    /// The widest allowance that covers `source`.
    pub(crate) fn allowed(&self, source: Source) -> Option<&AllowEntry> {
        around(source).find_map(|network| self.allows.get(&network))
    }

    /// Replaces the allowances of the configuration. Where an operator's names the same source, it is the configuration's.
    pub(crate) fn configure_allows(&mut self, configured: impl Iterator<Item = AllowEntry>) {
        let operators = self.operators.values().cloned();
        self.allows = operators.chain(configured).map(|allow| (allow.source, allow)).collect();
    }

    /// Allowances of operators.
    pub(crate) fn operators(&self) -> impl Iterator<Item = &AllowEntry> {
        self.operators.values()
    }

    /// An operator allows a source.
    pub(crate) fn allow(&mut self, allow: AllowEntry) {
        if self.allows.get(&allow.source).is_none_or(|known| known.actor != CONFIG) {
            self.allows.insert(allow.source, allow.clone());
        }
        self.operators.insert(allow.source, allow);
    }

    /// An operator allows it no more.
    pub(crate) fn disallow(&mut self, source: Source) {
        self.operators.remove(&source);
        if self.allows.get(&source).is_some_and(|known| known.actor != CONFIG) {
            self.allows.remove(&source);
        }
    }

    /// The rule of `source` itself; `None`: it has none, or an allowance covers it and it must not be loaded.
    pub(crate) fn rule(&self, source: Source) -> Option<Rule> {
        if self.allows.contains_key(&source) {
            return Some(ALLOW);
        }
        let blocked = self.blocked.get(&source).or_else(|| self.fed.get(&source))?;
        if self.allowed(source).is_some() {
            return None;
        }
        // No allowance can lie between the two: it would cover the narrower one.
        let at = |network| self.blocked.get(&network).into_iter().chain(self.fed.get(&network));
        let enforced = around(source).flat_map(at).filter(|other| !other.shadow);
        Some(block(blocked, enforced.map(|other| other.expires).max()))
    }

    /// All rules: what [`Self::rule`] says of each, in one pass over all. There may be a hundred thousand.
    pub(crate) fn rules(&self) -> Vec<(Source, Rule)> {
        let mut sources = self.sources();
        // A network comes before everything inside it.
        sources.sort_unstable();
        // The networks around: each with whether it is allowed, and when the last block of it and around it ends.
        let mut around: Vec<(Source, bool, Option<u64>)> = Vec::new();
        let mut rules = Vec::with_capacity(sources.len());
        for source in sources {
            while around.last().is_some_and(|(outer, ..)| !outer.covers(&source)) {
                around.pop();
            }
            let (_, covered, outer) = around.last().copied().unwrap_or((source, false, None));
            if self.allows.contains_key(&source) {
                rules.push((source, ALLOW));
                around.push((source, true, None));
                continue;
            }
            let (made, fed) = (self.blocked.get(&source), self.fed.get(&source));
            let Some(blocked) = made.or(fed) else { continue };
            let enforced = made.into_iter().chain(fed).filter(|other| !other.shadow).map(|other| other.expires);
            let expires = enforced.chain(outer).max();
            around.push((source, covered, expires));
            if !covered {
                rules.push((source, block(blocked, expires)));
            }
        }
        rules
    }

    /// Every prefix that may have a rule, each once.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let blocked = self.blocked.keys().filter(|source| !self.allows.contains_key(source));
        let fed = |source: &&Source| !self.allows.contains_key(source) && !self.blocked.contains_key(source);
        self.allows.keys().chain(blocked).chain(self.fed.keys().filter(fed)).copied().collect()
    }

    /// Blocked prefixes inside `source`, itself included.
    pub(crate) fn inside(&self, source: Source) -> Vec<Source> {
        let inside = |other: &&Source| source.covers(other);
        self.blocked.keys().chain(self.fed.keys()).filter(inside).copied().collect()
    }

    /// How many rules of one family are taken.
    pub(crate) fn count(&self, ipv4: bool) -> usize {
        let of_family = |source: &&Source| source.address().is_ipv4() == ipv4;
        self.allows.keys().filter(of_family).count()
            + self.blocked.keys().filter(of_family).count()
            + self.fed.keys().filter(of_family).count()
    }

    /// Prefixes that are blocked one by one.
    pub(crate) const fn blocked(&self) -> &HashMap<Source, Blocked> {
        &self.blocked
    }

    /// Blocks a prefix, or says something else of it.
    pub(crate) fn block(&mut self, source: Source, blocked: Blocked) {
        self.unblock(source);
        self.free.take(blocked.slot);
        self.blocked.insert(source, blocked);
    }

    /// What was said of a prefix that is blocked no more.
    pub(crate) fn unblock(&mut self, source: Source) -> Option<Blocked> {
        let gone = self.blocked.remove(&source)?;
        self.free.give(gone.slot);
        Some(gone)
    }

    /// The lowest slot that no prefix which is blocked by itself counts in; 0, which is not counted, if there is none.
    pub(crate) fn free_slot(&self) -> u32 {
        self.free.lowest()
    }

    /// Whether no prefix that is blocked by itself counts in `slot`.
    pub(crate) fn is_free(&self, slot: u32) -> bool {
        self.free.is_free(slot)
    }
}

/// The rule of a block; `enforced` is when the last block that enforces, of it and around it, ends.
const fn block(blocked: &Blocked, enforced: Option<u64>) -> Rule {
    match enforced {
        Some(expires) => Rule::new(Rule::DENY, blocked.slot, expires),
        None => Rule::new(Rule::SHADOW, blocked.slot, blocked.expires),
    }
}

/// Every network that covers `source`, widest first, itself last.
pub(crate) fn around(source: Source) -> impl Iterator<Item = Source> {
    (0..=source.length()).filter_map(move |length| Source::network(source.address(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut rules: Vec<(Source, Rule)>) -> Vec<(Source, Rule)> {
        rules.sort_unstable_by_key(|(source, _)| *source);
        rules
    }

    proptest::proptest! {
        #[test]
        fn one_pass_says_the_same(entries: Vec<(u8, u8, u8, u8)>) {
            let mut prefixes = Prefixes::default();
            for (slot, (kind, address, length, expires)) in (1..).zip(entries) {
                let family = if kind & 1 == 0 { "192.0.2.0" } else { "2001:db8::" };
                let (address, bits) = match family.parse().unwrap() {
                    std::net::IpAddr::V4(v4) => (std::net::IpAddr::V4((v4.to_bits() | u32::from(address)).into()), 24),
                    std::net::IpAddr::V6(v6) => {
                        (std::net::IpAddr::V6((v6.to_bits() | u128::from(address) << 88).into()), 32)
                    }
                };
                let source = Source::network(address, bits + length % 9).unwrap();
                let blocked = Blocked { shadow: kind & 2 == 0, expires: u64::from(expires), slot };
                match kind >> 2 & 3 {
                    0 => drop(prefixes.allows.insert(
                        source,
                        AllowEntry { source, reason: String::new(), actor: String::new() },
                    )),
                    1 => drop(prefixes.fed.insert(source, blocked)),
                    _ => prefixes.block(source, blocked),
                }
            }
            let one = prefixes.sources().into_iter().filter_map(|source| Some((source, prefixes.rule(source)?)));
            proptest::prop_assert_eq!(sorted(prefixes.rules()), sorted(one.collect()));
        }
    }

    #[track_caller]
    fn check(blocks: &[(&str, u64)], allows: &[&str], expect: &[&str]) {
        let mut prefixes = Prefixes::default();
        for (slot, (text, expires)) in (1..).zip(blocks) {
            let (text, shadow) = text.strip_prefix('~').map_or((*text, false), |text| (text, true));
            prefixes.block(text.parse().unwrap(), Blocked { shadow, expires: *expires, slot });
        }
        for text in allows {
            let source = text.parse().unwrap();
            prefixes.allows.insert(source, AllowEntry { source, reason: String::new(), actor: String::new() });
        }
        let mut rules = prefixes.rules();
        let one_by_one = prefixes.sources().into_iter().filter_map(|source| Some((source, prefixes.rule(source)?)));
        assert_eq!(sorted(rules.clone()), sorted(one_by_one.collect()));
        rules.sort_by_key(|(source, rule)| (rule.slot, *source));
        let made: Vec<String> = rules
            .into_iter()
            .map(|(source, rule)| {
                let action = ["", "allow", "deny", "shadow"][rule.action as usize];
                let expires = if rule.expires() == NEVER { "never".to_owned() } else { rule.expires().to_string() };
                format!("{source} {action} {} {expires}", rule.slot)
            })
            .collect();
        assert_eq!(made, expect);
    }

    #[test]
    fn the_longest_prefix_says_what_all_say() {
        check(&[("192.0.2.0/24", 9)], &[], &["192.0.2.0/24 deny 1 9"]);
        check(&[("~192.0.2.0/24", 9)], &[], &["192.0.2.0/24 shadow 1 9"]);
        check(
            &[("192.0.2.0/24", NEVER), ("192.0.2.0/28", 5)],
            &[],
            &["192.0.2.0/24 deny 1 never", "192.0.2.0/28 deny 2 never"],
        );
        check(&[("192.0.2.0/24", 5), ("~192.0.2.0/28", 9)], &[], &["192.0.2.0/24 deny 1 5", "192.0.2.0/28 deny 2 5"]);
        check(&[("~192.0.2.0/24", 5), ("192.0.2.0/28", 9)], &[], &["192.0.2.0/24 shadow 1 5", "192.0.2.0/28 deny 2 9"]);
        check(&[("192.0.2.0/24", 5)], &["192.0.2.8/29"], &["192.0.2.8/29 allow 0 never", "192.0.2.0/24 deny 1 5"]);
        check(&[("192.0.2.0/24", 5)], &["192.0.0.0/16"], &["192.0.0.0/16 allow 0 never"]);
        check(&[("192.0.2.0/24", 5)], &["192.0.2.0/24"], &["192.0.2.0/24 allow 0 never"]);
        check(&[("2001:db8::/48", 5)], &["192.0.2.0/24"], &["192.0.2.0/24 allow 0 never", "2001:db8::/48 deny 1 5"]);
    }
}
