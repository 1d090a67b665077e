//! Compares a million entries with the kernel's, some at a time, so that nobody waits for it.

use std::collections::HashSet;

use super::*;

/// How many of the feeds' entries are looked up at once.
const SOME: usize = 512;

impl Feeds {
    /// Begins a comparison, unless one is under way.
    pub(in super::super) fn scrub(&mut self) {
        if self.scrub.is_none() && !self.is_changing() {
            self.scrub = Some(Scrub {
                cursor: Default::default(),
                right: 0,
                repaired: 0,
                missing: None,
                rules: None,
                changed: HashSet::new(),
            });
        }
    }

    /// Rules were changed beside the comparison.
    pub(super) fn scrub_changed(&mut self, sources: &[Source]) {
        if let Some(scrub) = &mut self.scrub {
            scrub.changed.extend(sources);
        }
    }
}

impl Guard {
    /// Does a part of the comparison.
    pub(super) fn scrub_some(&mut self, now: Now) {
        let Some(mut scrub) = self.feeds.scrub.take() else { return };
        if let Some(rules) = &mut scrub.rules {
            if !self.compare_some_rules(rules, &scrub.changed, &mut scrub.repaired) {
                self.feeds.scrub = Some(scrub);
                return;
            }
        } else {
            let done = match scrub.missing {
                None => self.scan_some(&mut scrub),
                Some(at) => self.seek_some(&mut scrub, at),
            };
            scrub.rules = done.then(RuleScrub::default);
            self.feeds.scrub = Some(scrub);
            return;
        }
        self.tell_repairs(scrub.repaired, &[], now);
    }

    /// Reads some of the rules in force, or compares some of what should be with them; whether nothing is left to do.
    fn compare_some_rules(&mut self, rules: &mut RuleScrub, changed: &HashSet<Source>, repaired: &mut usize) -> bool {
        let Some(wanted) = &mut rules.wanted else {
            match self.enforcer.path().scan_rules(&mut rules.cursor) {
                Ok(some) => rules.found.extend(some),
                Err(error) => {
                    tracing::error!(%error, "rules cannot be read from the kernel");
                    return true;
                }
            }
            if rules.cursor.is_done() {
                rules.wanted = Some(self.enforcer.prefixes().sources().into_iter());
            }
            return false;
        };
        let some: Vec<Source> = wanted.by_ref().take(SOME).collect();
        let is_last = some.is_empty();
        // At the end: what should not be there.
        let some = if is_last { rules.found.keys().copied().take(SOME).collect() } else { some };
        for source in &some {
            let (wanted, found) = (self.enforcer.prefixes().rule(*source), rules.found.remove(source));
            if wanted == found || changed.contains(source) {
                continue;
            }
            *repaired += 1;
            let done = match wanted {
                Some(rule) => self.enforcer.path_mut().put_rule(*source, rule),
                None => self.enforcer.path_mut().remove_rule(*source),
            };
            if let Err(error) = done {
                tracing::error!(%source, %error, "an entry of the kernel could not be repaired");
            }
        }
        is_last && rules.found.is_empty()
    }

    /// Compares what is in the kernel with what should be; whether nothing is left to do.
    fn scan_some(&mut self, scrub: &mut Scrub) -> bool {
        let found = match self.enforcer.path().scan(&mut scrub.cursor) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "bans cannot be read from the kernel");
                return true;
            }
        };
        for (key, ban) in found {
            let wanted = self.wanted(Source::from_key(key, self.settings.ipv6_prefix));
            let repaired = match wanted {
                Some(wanted) if (wanted.id, wanted.expires) == (ban.id, ban.expires) => {
                    scrub.right += 1;
                    continue;
                }
                Some(wanted) => {
                    scrub.right += 1;
                    self.enforcer.path_mut().ban(key, wanted)
                }
                None => self.enforcer.path_mut().unban(key).map(|_| ()),
            };
            scrub.repaired += 1;
            if let Err(error) = repaired {
                tracing::error!(%error, "an entry of the kernel could not be repaired");
            }
        }
        if !scrub.cursor.is_done() {
            return false;
        }
        let made =
            self.ledger.records().filter(|it| self.key(it.source).is_some() && self.feeds.decides(it.source).is_none());
        if scrub.right >= made.count() + self.feeds.exact {
            return true;
        }
        let sources: Vec<Source> = self.ledger.records().map(|record| record.source).collect();
        scrub.repaired += sources.into_iter().filter(|source| self.enter_missing(*source)).count();
        scrub.missing = Some((0, 0));
        false
    }

    fn seek_some(&mut self, scrub: &mut Scrub, (feed, entry): (usize, usize)) -> bool {
        let Some(content) = self.feeds.listed.get(feed).map(|one| Arc::clone(&one.content)) else { return true };
        let some = content.entries.iter().skip(entry).take(SOME);
        scrub.repaired += some.filter(|listing| self.enter_missing(listing.source)).count();
        let next = entry + SOME;
        scrub.missing = Some(if next < content.entries.len() { (feed, next) } else { (feed + 1, 0) });
        false
    }

    fn enter_missing(&mut self, source: Source) -> bool {
        let Some(key) = self.key(source).filter(|key| self.enforcer.path().find_ban(*key).is_none()) else {
            return false;
        };
        let Some(wanted) = self.wanted(source) else { return false };
        if let Err(error) = self.enforcer.path_mut().ban(key, wanted) {
            tracing::error!(%error, "an entry of the kernel could not be repaired");
        }
        true
    }
}
