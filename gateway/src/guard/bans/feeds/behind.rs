//! Lists that the store knows too little of: it is a copy from before, or the guard died before the store had heard.
//!
//! *Invariant:* the audit chain says which lists have changed, and the kernel holds their entries. What neither knows
//! is not made up.

use std::collections::HashSet;

use super::{lists::actor, *};
use crate::{guard::audit::ListChange, text::counted::counted};

/// How many lists are named in a warning.
const NAMED: usize = 10;

/// What became of lists that the store does not know.
#[derive(Default)]
pub(in crate::guard::bans) struct ListsBehind {
    /// Those that have other entries by now.
    replaced: Vec<String>,
    /// Those that are removed: what the kernel still holds of them goes.
    removed: Vec<ActiveList>,
    /// Those that have lost all of the entries that the store knew.
    emptied: Vec<u32>,
    /// Those that have lost some, as they are now.
    cut: Vec<(FeedRow, Arc<FeedContent>)>,
}

impl ListsBehind {
    /// Whether the kernel may hold entries of lists that the store does not know.
    pub(in crate::guard::bans) fn are_behind(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Whether the list of this number is removed, which the kernel's entries of single sources tell.
    pub(in crate::guard::bans) fn is_removed(&self, number: u64) -> bool {
        self.removed.iter().any(|one| u64::from(one.row.id) == number)
    }

    /// Whether a list that is removed had this prefix: the kernel's rules tell of no list. Where lists were replaced, another
    /// one may have it now.
    pub(in crate::guard::bans) fn had_prefix(&self, source: Source) -> bool {
        !self.are_behind() && self.removed.iter().any(|one| one.content.find(source).is_some())
    }

    /// What the store is to learn of it.
    pub(in crate::guard::bans) fn write(&self) -> Write {
        let removed = self.removed.iter().map(|one| one.row.id);
        let gone: Vec<u32> = removed.chain(self.emptied.iter().copied()).collect();
        let cut = self.cut.clone();
        Box::new(move |change| {
            gone.iter().try_for_each(|id| change.drop_feed(*id))?;
            cut.iter().try_for_each(|(row, content)| change.keep_feed(row, content))
        })
    }

    /// How many are removed, for the record.
    pub(in crate::guard::bans) fn count_removed(&self) -> usize {
        self.removed.len()
    }

    /// What an operator should know.
    pub(in crate::guard::bans) fn warning(&self) -> Option<String> {
        let names: Vec<String> = self.replaced.iter().take(NAMED).map(|name| actor(name)).collect();
        let more = match self.replaced.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.are_behind().then(|| {
            format!(
                "the ban store did not have the newest entries of {}: {}{more}. What the kernel held of them is in \
                 force as the list taken-over. Import them again, then remove it: `gateway block del --feed \
                 taken-over`. Lists of the configuration are read again by themselves",
                counted(self.replaced.len(), "list", "lists"),
                names.join(", ")
            )
        })
    }
}

impl Guard {
    /// Does again what the audit chain tells of lists. `flushed`: all that were imported before were removed.
    pub(in crate::guard::bans) fn redo_lists(
        &mut self,
        told: BTreeMap<String, ListChange>,
        flushed: bool,
    ) -> ListsBehind {
        let mut behind = ListsBehind::default();
        if flushed {
            for id in self.imported() {
                behind.removed.extend(self.take_list(|row| row.id == id));
            }
        }
        let held = if told.is_empty() { None } else { self.held_by_kernel() };
        for (name, change) in told {
            if change == ListChange::Removed {
                behind.removed.extend(self.take_list(|row| row.name == name));
                continue;
            }
            if let Some(held) = &held
                && let Some(left) = self.feeds.find(&name).and_then(|one| cut(&one.content, held))
                && let Some(ActiveList { row, .. }) = self.take_list(|row| row.name == name)
            {
                if left.entries.is_empty() {
                    behind.emptied.push(row.id);
                } else {
                    self.feeds.generation += 1;
                    // What it follows is read again.
                    let row = FeedRow { digest: String::new(), generation: self.feeds.generation, ..row };
                    let content = Arc::new(left);
                    behind.cut.push((row.clone(), Arc::clone(&content)));
                    self.put_list(ActiveList { row, content });
                }
            }
            behind.replaced.push(name);
        }
        behind
    }

    /// Everything that the kernel blocks; `None`: it holds nothing of lists, as after a reboot.
    fn held_by_kernel(&self) -> Option<HashSet<Source>> {
        let path = self.enforcer.path();
        let (bans, rules) = (path.bans(), path.rules());
        let lists_from = list_slots_from(path.slots());
        let of_list = |rule: &Rule| rule.action != Rule::ALLOW && (rule.slot == 0 || rule.slot > lists_from);
        let holds_lists = bans.iter().any(|(_, ban)| ban.id & FED != 0) || rules.iter().any(|(_, rule)| of_list(rule));
        let prefix = self.settings.ipv6_prefix;
        let bans = bans.into_iter().map(|(key, _)| Source::from_key(key, prefix));
        holds_lists.then(|| bans.chain(rules.into_iter().map(|(source, _)| source)).collect())
    }

    /// Takes a list out of force. The kernel is compared afterwards.
    fn take_list(&mut self, is_it: impl Fn(&FeedRow) -> bool) -> Option<ActiveList> {
        let at = self.feeds.listed.iter().position(|one| is_it(&one.row))?;
        let one = self.feeds.listed.remove(at);
        self.feeds.exact = self.feeds.exact.saturating_sub(self.count_alone(&one.content));
        self.relist_prefixes(&one.content);
        Some(one)
    }

    /// Undoes [`Self::take_list`].
    fn put_list(&mut self, one: ActiveList) {
        self.feeds.exact += self.count_alone(&one.content);
        let at = self.feeds.listed.partition_point(|other| other.row.id < one.row.id);
        let content = Arc::clone(&one.content);
        self.feeds.listed.insert(at, one);
        self.relist_prefixes(&content);
    }

    /// How many exact entries of a list that is not in force no other list has.
    fn count_alone(&self, content: &FeedContent) -> usize {
        let sources = content.entries.iter().map(|entry| entry.source);
        sources.filter(|source| self.key(*source).is_some() && self.feeds.decides(*source).is_none()).count()
    }

    fn relist_prefixes(&mut self, content: &FeedContent) {
        let sources = content.entries.iter().map(|entry| entry.source);
        let prefixes: Vec<Source> = sources.filter(|source| self.key(*source).is_none()).collect();
        self.relist(prefixes.into_iter());
    }
}

/// What is left of an older content: entries that the kernel no longer holds were taken off the list since. `None`: all
/// of it is left.
fn cut(content: &FeedContent, held: &HashSet<Source>) -> Option<FeedContent> {
    if content.entries.iter().all(|entry| held.contains(&entry.source)) {
        return None;
    }
    let mut left = content.clone();
    left.entries.retain(|entry| held.contains(&entry.source));
    Some(left)
}

/// Rules of lists count in slots beyond this one, and those of bans in it and before.
pub(in crate::guard::bans) fn list_slots_from(slots: u32) -> u32 {
    slots.min(1 << 22) / 2
}
