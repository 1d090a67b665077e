//! Where bans take effect: in the kernel, or, where no interface is guarded, in a table of the guard's own from which the
//! proxy is told whom to refuse at accept.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use gateway_common::{
    maps::{Ban, Budget, Event, Hits, Limits, PacketCount, Rule},
    source::{Source, SourceKey},
    trace::Trace,
    verdict::Verdict,
};

use crate::{
    guard::kernel::{Attached, BudgetOverride, Kernel, KernelError, Removed},
    settings::guard,
};

pub(crate) use crate::guard::kernel::{BanScan, RuleScan, TracedPacket};

/// Where bans are enforced. The kernel's maps, or a table that behaves like them and counts nothing.
pub(crate) trait Enforcement {
    /// Where packets are judged; empty: nowhere.
    fn interfaces(&self) -> &[Attached];
    /// Enters a ban, keeping what an entry of the same id has counted.
    fn ban(&mut self, key: SourceKey, ban: Ban) -> Result<(), KernelError>;
    /// Removes a ban; what it was.
    fn unban(&mut self, key: SourceKey) -> Result<Option<Ban>, KernelError>;
    /// One ban.
    fn find_ban(&self, key: SourceKey) -> Option<Ban>;
    /// Every ban.
    fn bans(&self) -> Vec<(SourceKey, Ban)>;
    /// Enters a rule.
    fn put_rule(&mut self, source: Source, rule: Rule) -> Result<(), KernelError>;
    /// Removes a rule.
    fn remove_rule(&mut self, source: Source) -> Result<(), KernelError>;
    /// Every rule.
    fn rules(&self) -> Vec<(Source, Rule)>;
    /// Replaces all rules at once.
    fn swap_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError>;
    /// What the rules of a slot dropped.
    fn hits(&self, slot: u32) -> Hits;
    /// Forgets what the rules of these slots dropped.
    fn clear_hits(&mut self, slots: &[u32]) -> Result<(), KernelError>;
    /// How many slots there are; 0 is used for nothing.
    fn slots(&self) -> u32;
    /// Packets per verdict.
    fn verdicts(&self) -> Vec<(Verdict, PacketCount)>;
    /// Puts new limits and ports in force.
    fn apply(&mut self, settings: &guard::Settings, ports: &[u16]) -> Result<(), KernelError>;
    /// Puts new limits in force.
    fn limit(&mut self, settings: &guard::Settings) -> Result<(), KernelError>;
    /// Attaches again where a link is gone; the names of the interfaces that needed it, and what cannot be repaired.
    fn reattach(&mut self) -> (Vec<String>, Vec<String>);
    /// Whether [`Self::attach_also`] can do anything with these.
    fn can_guard(&self, interfaces: &[String]) -> bool;
    /// Attaches to those of these interfaces that it is not wanted on yet; on an error nothing has changed.
    fn attach_also(&mut self, interfaces: &[String]) -> Result<(), KernelError>;
    /// Detaches from every interface but these.
    fn detach_others(&mut self, interfaces: &[String]) -> Result<(), KernelError>;
    /// Takes everything out of the kernel until [`Self::attach`]; how many links and maps that were.
    fn release(&mut self) -> Result<Removed, KernelError>;
    /// Undoes [`Self::release`]; as [`Self::reattach`].
    fn attach(&mut self) -> Result<(Vec<String>, Vec<String>), KernelError>;
    /// Enters bans as they are, counters included.
    fn ban_many(&mut self, bans: &[(SourceKey, Ban)]) -> Result<(), KernelError>;
    /// Removes bans; those that are not there are passed over.
    fn unban_many(&mut self, keys: &[SourceKey]) -> Result<(), KernelError>;
    /// Some bans, from where the last call ended.
    fn scan(&self, from: &mut BanScan) -> Result<Vec<(SourceKey, Ban)>, KernelError>;
    /// Some rules, from where the last call ended.
    fn scan_rules(&self, from: &mut RuleScan) -> Result<Vec<(Source, Rule)>, KernelError>;
    /// Prepares rules that are not in force yet.
    fn stage_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError>;
    /// Forgets about so many of what was prepared, or was in force before; whether nothing of it is left.
    fn clear_staged(&mut self, most: usize) -> Result<bool, KernelError>;
    /// Puts what was prepared in force in the place of all rules.
    fn commit_staged(&mut self) -> Result<(), KernelError>;
    /// Whether there are budgets of packets that a source could have a part of.
    fn gives_budgets(&self) -> bool {
        !self.interfaces().is_empty()
    }
    /// Gives a source a budget of its own until a time, or changes it.
    fn put_budget(&mut self, key: SourceKey, share: BudgetOverride, expires: u64) -> Result<(), KernelError>;
    /// What a source has spent of a budget of its own; `None`: it has none.
    fn find_budget(&self, key: SourceKey) -> Option<Budget>;
    /// Takes the budget of a source away.
    fn remove_budget(&mut self, key: SourceKey) -> Result<(), KernelError>;
    /// Samples of what was dropped or answered, at most so many.
    fn events(&mut self, most: usize) -> Vec<Event>;
    /// Readable while there are samples; `None`: there never are any.
    fn events_waiting(&self) -> Option<OwnedFd>;
    /// Whether packets can be traced.
    fn is_traceable(&self) -> bool;
    /// Has these packets traced, and no others.
    fn trace(&mut self, wanted: &[Trace]) -> Result<(), KernelError>;
    /// What was traced since the last call.
    fn traced(&mut self) -> Vec<TracedPacket>;
    /// Readable while there is something traced; `None`: there never is.
    fn traces_waiting(&self) -> Option<OwnedFd>;
    /// Removes everything from the kernel.
    fn detach(self: Box<Self>) -> Result<(), KernelError>;
}

// Each method passes on to one of the same name: those stand in the kernel's files by subject (bans, rules, attaching),
// while the language wants the methods of a trait in one block.
impl Enforcement for Kernel {
    fn interfaces(&self) -> &[Attached] {
        self.interfaces()
    }
    fn ban(&mut self, key: SourceKey, ban: Ban) -> Result<(), KernelError> {
        self.ban(key, ban)
    }
    fn unban(&mut self, key: SourceKey) -> Result<Option<Ban>, KernelError> {
        self.unban(key)
    }
    fn find_ban(&self, key: SourceKey) -> Option<Ban> {
        self.find_ban(key)
    }
    fn bans(&self) -> Vec<(SourceKey, Ban)> {
        self.bans()
    }
    fn put_rule(&mut self, source: Source, rule: Rule) -> Result<(), KernelError> {
        self.put_rule(source, rule)
    }
    fn remove_rule(&mut self, source: Source) -> Result<(), KernelError> {
        self.remove_rule(source)
    }
    fn rules(&self) -> Vec<(Source, Rule)> {
        self.rules()
    }
    fn swap_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        self.swap_rules(rules)
    }
    fn hits(&self, slot: u32) -> Hits {
        self.hits(slot)
    }
    fn clear_hits(&mut self, slots: &[u32]) -> Result<(), KernelError> {
        self.clear_hits(slots)
    }
    fn slots(&self) -> u32 {
        self.slots()
    }
    fn verdicts(&self) -> Vec<(Verdict, PacketCount)> {
        self.verdicts()
    }
    fn apply(&mut self, settings: &guard::Settings, ports: &[u16]) -> Result<(), KernelError> {
        self.apply(settings, ports)
    }
    fn limit(&mut self, settings: &guard::Settings) -> Result<(), KernelError> {
        self.limit(settings)
    }
    fn reattach(&mut self) -> (Vec<String>, Vec<String>) {
        self.reattach()
    }
    fn can_guard(&self, _interfaces: &[String]) -> bool {
        true
    }
    fn attach_also(&mut self, interfaces: &[String]) -> Result<(), KernelError> {
        self.attach_also(interfaces)
    }
    fn detach_others(&mut self, interfaces: &[String]) -> Result<(), KernelError> {
        self.detach_others(interfaces)
    }
    fn release(&mut self) -> Result<Removed, KernelError> {
        self.release()
    }
    fn attach(&mut self) -> Result<(Vec<String>, Vec<String>), KernelError> {
        self.attach()
    }
    fn ban_many(&mut self, bans: &[(SourceKey, Ban)]) -> Result<(), KernelError> {
        self.ban_many(bans)
    }
    fn unban_many(&mut self, keys: &[SourceKey]) -> Result<(), KernelError> {
        self.unban_many(keys)
    }
    fn scan(&self, from: &mut BanScan) -> Result<Vec<(SourceKey, Ban)>, KernelError> {
        self.scan(from)
    }
    fn scan_rules(&self, from: &mut RuleScan) -> Result<Vec<(Source, Rule)>, KernelError> {
        self.scan_rules(from)
    }
    fn stage_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        self.stage_rules(rules)
    }
    fn clear_staged(&mut self, most: usize) -> Result<bool, KernelError> {
        self.clear_staged(most)
    }
    fn commit_staged(&mut self) -> Result<(), KernelError> {
        self.commit_staged()
    }
    fn put_budget(&mut self, key: SourceKey, share: BudgetOverride, expires: u64) -> Result<(), KernelError> {
        self.put_budget(key, share, expires)
    }
    fn find_budget(&self, key: SourceKey) -> Option<Budget> {
        self.find_budget(key)
    }
    fn remove_budget(&mut self, key: SourceKey) -> Result<(), KernelError> {
        self.remove_budget(key)
    }
    fn events(&mut self, most: usize) -> Vec<Event> {
        self.events(most)
    }
    fn events_waiting(&self) -> Option<OwnedFd> {
        self.events_waiting()
    }
    fn is_traceable(&self) -> bool {
        self.is_traceable()
    }
    fn trace(&mut self, wanted: &[Trace]) -> Result<(), KernelError> {
        self.trace(wanted)
    }
    fn traced(&mut self) -> Vec<TracedPacket> {
        self.traced()
    }
    fn traces_waiting(&self) -> Option<OwnedFd> {
        self.traces_waiting()
    }
    fn detach(self: Box<Self>) -> Result<(), KernelError> {
        (*self).detach()
    }
}

/// Remembers what the kernel would be told. The guard bounds what it holds.
#[derive(Debug, Default)]
pub(crate) struct AtAccept {
    bans: BTreeMap<SourceKey, Ban>,
    rules: BTreeMap<Source, Rule>,
    staged: BTreeMap<Source, Rule>,
    budgets: BTreeMap<SourceKey, Budget>,
    /// As if there were budgets: for tests.
    gives_budgets: bool,
    /// As if it were attached there: for tests.
    attached: Vec<Attached>,
    /// As if it had to be attached there again: for tests.
    taken_off: Vec<String>,
}

#[cfg(test)]
impl AtAccept {
    pub(crate) fn with_budgets() -> Self {
        Self { gives_budgets: true, ..Self::default() }
    }

    pub(crate) fn attached() -> Self {
        let at = Attached { name: "eth0".to_owned(), index: 2, native: true, adopted: false, note: None };
        Self { attached: vec![at], ..Self::default() }
    }

    /// As [`Self::attached`], where somebody takes the program off.
    pub(crate) fn taken_off() -> Self {
        Self { taken_off: vec!["eth0".to_owned()], ..Self::attached() }
    }
}

impl Enforcement for AtAccept {
    fn interfaces(&self) -> &[Attached] {
        &self.attached
    }
    fn ban(&mut self, key: SourceKey, ban: Ban) -> Result<(), KernelError> {
        self.bans.insert(key, ban);
        Ok(())
    }
    fn unban(&mut self, key: SourceKey) -> Result<Option<Ban>, KernelError> {
        Ok(self.bans.remove(&key))
    }
    fn find_ban(&self, key: SourceKey) -> Option<Ban> {
        self.bans.get(&key).copied()
    }
    fn bans(&self) -> Vec<(SourceKey, Ban)> {
        self.bans.iter().map(|(key, ban)| (*key, *ban)).collect()
    }
    fn put_rule(&mut self, source: Source, rule: Rule) -> Result<(), KernelError> {
        self.rules.insert(source, rule);
        Ok(())
    }
    fn remove_rule(&mut self, source: Source) -> Result<(), KernelError> {
        self.rules.remove(&source);
        Ok(())
    }
    fn rules(&self) -> Vec<(Source, Rule)> {
        self.rules.iter().map(|(source, rule)| (*source, *rule)).collect()
    }
    fn swap_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        self.rules = rules.iter().copied().collect();
        Ok(())
    }
    fn hits(&self, _slot: u32) -> Hits {
        Hits::default()
    }
    fn clear_hits(&mut self, _slots: &[u32]) -> Result<(), KernelError> {
        Ok(())
    }
    fn slots(&self) -> u32 {
        u32::MAX
    }
    fn verdicts(&self) -> Vec<(Verdict, PacketCount)> {
        Verdict::ALL.into_iter().map(|verdict| (verdict, PacketCount::default())).collect()
    }
    fn apply(&mut self, _settings: &guard::Settings, _ports: &[u16]) -> Result<(), KernelError> {
        Ok(())
    }
    fn limit(&mut self, _settings: &guard::Settings) -> Result<(), KernelError> {
        Ok(())
    }
    fn reattach(&mut self) -> (Vec<String>, Vec<String>) {
        (std::mem::take(&mut self.taken_off), Vec::new())
    }
    fn can_guard(&self, interfaces: &[String]) -> bool {
        // To load the program takes rights that the guard has at its start alone.
        interfaces.is_empty()
    }
    fn attach_also(&mut self, _interfaces: &[String]) -> Result<(), KernelError> {
        // Whoever asks has asked whether it can.
        Ok(())
    }
    fn detach_others(&mut self, _interfaces: &[String]) -> Result<(), KernelError> {
        Ok(())
    }
    fn release(&mut self) -> Result<Removed, KernelError> {
        Ok(Removed { links: std::mem::take(&mut self.attached).len(), maps: 0 })
    }
    fn attach(&mut self) -> Result<(Vec<String>, Vec<String>), KernelError> {
        Ok((Vec::new(), Vec::new()))
    }
    fn ban_many(&mut self, bans: &[(SourceKey, Ban)]) -> Result<(), KernelError> {
        self.bans.extend(bans.iter().copied());
        Ok(())
    }
    fn unban_many(&mut self, keys: &[SourceKey]) -> Result<(), KernelError> {
        for key in keys {
            self.bans.remove(key);
        }
        Ok(())
    }
    fn scan(&self, from: &mut BanScan) -> Result<Vec<(SourceKey, Ban)>, KernelError> {
        *from = BanScan::ended();
        Ok(self.bans())
    }
    fn scan_rules(&self, from: &mut RuleScan) -> Result<Vec<(Source, Rule)>, KernelError> {
        *from = RuleScan::ended();
        Ok(self.rules())
    }
    fn stage_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        self.staged.extend(rules.iter().copied());
        Ok(())
    }
    fn clear_staged(&mut self, _most: usize) -> Result<bool, KernelError> {
        self.staged.clear();
        Ok(true)
    }
    fn commit_staged(&mut self) -> Result<(), KernelError> {
        std::mem::swap(&mut self.rules, &mut self.staged);
        Ok(())
    }
    fn gives_budgets(&self) -> bool {
        self.gives_budgets
    }
    fn put_budget(&mut self, key: SourceKey, share: BudgetOverride, expires: u64) -> Result<(), KernelError> {
        self.budgets.insert(key, share.budget(&Limits::default(), expires));
        Ok(())
    }
    fn find_budget(&self, key: SourceKey) -> Option<Budget> {
        self.budgets.get(&key).copied()
    }
    fn remove_budget(&mut self, key: SourceKey) -> Result<(), KernelError> {
        self.budgets.remove(&key);
        Ok(())
    }
    fn events(&mut self, _most: usize) -> Vec<Event> {
        Vec::new()
    }
    fn events_waiting(&self) -> Option<OwnedFd> {
        None
    }
    fn is_traceable(&self) -> bool {
        false
    }
    fn trace(&mut self, _wanted: &[Trace]) -> Result<(), KernelError> {
        Ok(())
    }
    fn traced(&mut self) -> Vec<TracedPacket> {
        Vec::new()
    }
    fn traces_waiting(&self) -> Option<OwnedFd> {
        None
    }
    fn detach(self: Box<Self>) -> Result<(), KernelError> {
        Ok(())
    }
}
