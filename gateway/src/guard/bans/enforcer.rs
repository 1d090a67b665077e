//! Puts bans and allowances in force: entries and prefix rules in the kernel, what they have counted, and how the kernel
//! is kept as it should be.
//!
//! *Invariant:* while an operator has detached the program, bans are kept up in the maps as ever, and enforced when
//! connections are accepted; attaching again forgets nothing.

use std::collections::HashMap;

use gateway_common::{
    maps,
    source::{Source, SourceKey},
};

use super::ledger::expiry;
use crate::guard::{
    enforcement::Enforcement,
    kernel::{KernelError, Removed},
    store::BanRecord,
};

mod drift;
mod prefixes;
mod slots;

pub(super) use prefixes::{Blocked, CONFIG, Prefixes, around};

use drift::Drift;

/// How many entries are repaired at once.
const MANY: usize = 10_000;

/// What differs between the kernel and what it should have.
pub(super) struct Drifts {
    bans: Drift<SourceKey, maps::Ban>,
    rules: Drift<Source, maps::Rule>,
}

impl Drifts {
    /// How many entries differ.
    pub(super) const fn count(&self) -> usize {
        self.bans.count() + self.rules.count()
    }
}

/// Where bans take effect, and what is to be in force there.
pub(super) struct Enforcer {
    path: Box<dyn Enforcement>,
    prefixes: Prefixes,
    ipv6_prefix: u8,
    repairs: u64,
    /// What could not be repaired.
    unrepaired: Vec<String>,
    /// Who took the program out of the kernel, while it is.
    detached: Option<String>,
}

impl Enforcer {
    /// Nothing is to be in force yet.
    pub(super) fn new(path: Box<dyn Enforcement>, ipv6_prefix: u8) -> Self {
        let (prefixes, unrepaired) = (Prefixes::default(), Vec::new());
        Self { path, prefixes, ipv6_prefix, repairs: 0, unrepaired, detached: None }
    }

    /// The kernel's maps, or what stands in for them.
    pub(super) fn path(&self) -> &dyn Enforcement {
        &*self.path
    }

    /// As [`Self::path`], to be changed.
    pub(super) fn path_mut(&mut self) -> &mut dyn Enforcement {
        &mut *self.path
    }

    /// Allowances and blocked prefixes.
    pub(super) const fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// As [`Self::prefixes`], to be changed. Their rules are put right by [`Self::refresh`].
    pub(super) const fn prefixes_mut(&mut self) -> &mut Prefixes {
        &mut self.prefixes
    }

    /// The key of a source that is one entry; `None`: it is a prefix, and has a rule.
    pub(super) fn key(&self, source: Source) -> Option<SourceKey> {
        source.key(self.ipv6_prefix)
    }

    /// Puts a recorded ban in force. `wanted` is what the kernel should have for exactly its source. The prefixes whose
    /// rules changed.
    pub(super) fn enter(&mut self, record: &BanRecord, wanted: Option<maps::Ban>) -> Result<Vec<Source>, KernelError> {
        if record.relay.is_some() {
            return self.leave_to_proxy(record.source, wanted);
        }
        if let Some(key) = self.key(record.source) {
            let ban = wanted.unwrap_or_else(|| kernel_ban(record));
            if ban.id & !maps::Ban::SHADOW == record.id {
                // A new one: no entry has counted anything for it.
                self.path.ban_many(&[(key, ban)])?;
            } else {
                self.path.ban(key, ban)?;
            }
            return Ok(Vec::new());
        }
        let slot = self.prefixes.blocked().get(&record.source).map(|blocked| blocked.slot);
        let slot = slot.unwrap_or_else(|| self.prefixes.free_slot());
        self.path.clear_hits(&[slot])?;
        let blocked = Blocked { shadow: record.shadow, expires: expiry(record), slot };
        self.prefixes.block(record.source, blocked);
        let Some(rule) = self.prefixes.rule(record.source) else { return Ok(Vec::new()) };
        self.path.put_rule(record.source, rule)?;
        Ok(self.refresh(record.source))
    }

    /// A client behind a trusted proxy sends no packets of its own: the kernel keeps no entry of it. Another one that
    /// the ban replaces goes.
    fn leave_to_proxy(&mut self, source: Source, wanted: Option<maps::Ban>) -> Result<Vec<Source>, KernelError> {
        if let Some(key) = self.key(source) {
            match wanted {
                Some(listed) => self.path.ban(key, listed)?,
                None => drop(self.path.unban(key)?),
            }
            return Ok(Vec::new());
        }
        let Some(blocked) = self.prefixes.unblock(source) else { return Ok(Vec::new()) };
        let changed = self.refresh(source);
        self.path.clear_hits(&[blocked.slot])?;
        Ok(changed)
    }

    /// Gives the kernel's entry of a ban new times or a new mode, and keeps what it has counted. `wanted` is what the
    /// kernel should have for exactly its source. The prefixes whose rules changed.
    pub(super) fn enter_again(
        &mut self,
        record: &BanRecord,
        wanted: Option<maps::Ban>,
    ) -> Result<Vec<Source>, KernelError> {
        if record.relay.is_some() {
            // The kernel has no entry of it.
            return Ok(Vec::new());
        }
        if let Some(key) = self.key(record.source) {
            let ban = wanted.unwrap_or_else(|| kernel_ban(record));
            let there = self.path.find_ban(key).unwrap_or_default();
            self.path.ban(key, ban.counted_on(there))?;
            return Ok(Vec::new());
        }
        if let Some(blocked) = self.prefixes.blocked().get(&record.source).copied() {
            let blocked = Blocked { shadow: record.shadow, expires: expiry(record), ..blocked };
            self.prefixes.block(record.source, blocked);
        }
        Ok(self.refresh(record.source))
    }

    /// Takes an ended ban out of the kernel. `wanted` is what the kernel should have for its source then. The prefixes
    /// whose rules changed, and why it stays until the next comparison, if it does.
    pub(super) fn leave(
        &mut self,
        record: &BanRecord,
        wanted: Option<maps::Ban>,
    ) -> (Vec<Source>, Result<(), KernelError>) {
        let source = record.source;
        if record.relay.is_some() {
            return (Vec::new(), Ok(()));
        }
        if let Some(key) = self.key(source) {
            let left = match wanted {
                Some(listed) => self.path.ban(key, listed),
                None => self.path.unban(key).map(|_| ()),
            };
            return (Vec::new(), left);
        }
        let blocked = self.prefixes.unblock(source);
        let removed = if self.prefixes.fed.contains_key(&source) { Ok(()) } else { self.path.remove_rule(source) };
        let changed = self.refresh(source);
        (changed, removed.and(blocked.map_or(Ok(()), |blocked| self.path.clear_hits(&[blocked.slot]))))
    }

    /// Puts right the rules of `source` and of every prefix inside it; which those are.
    pub(super) fn refresh(&mut self, source: Source) -> Vec<Source> {
        let mut sources = self.prefixes.inside(source);
        sources.push(source);
        sources.iter().for_each(|source| self.put_right(*source));
        sources
    }

    /// Puts right the rule of `source` alone.
    pub(super) fn put_right(&mut self, source: Source) {
        let put = match self.prefixes.rule(source) {
            Some(rule) => self.path.put_rule(source, rule),
            None => self.path.remove_rule(source),
        };
        if let Err(error) = put {
            tracing::error!(%source, %error, "a rule is not in force until it can be entered");
        }
    }

    /// Replaces all rules at once.
    pub(super) fn load_rules(&mut self) -> Result<(), KernelError> {
        self.path.swap_rules(&self.prefixes.rules())
    }

    /// What the kernel has counted on a ban.
    pub(super) fn counted(&self, record: &BanRecord) -> (u64, u64) {
        if let Some(key) = self.key(record.source) {
            let found = self.path.find_ban(key).filter(|ban| ban.id & !maps::Ban::SHADOW == record.id);
            return found.map_or((0, 0), |ban| (ban.packets, ban.bytes));
        }
        let slot = self.prefixes.blocked().get(&record.source).map(|blocked| blocked.slot);
        slot.map_or((0, 0), |slot| {
            let hits = self.path.hits(slot);
            (hits.packets, hits.bytes)
        })
    }

    /// Compares the kernel with the entries that it should have, and with the prefix rules.
    pub(super) fn compare(&self, wanted: HashMap<SourceKey, maps::Ban>) -> Drifts {
        let bans = drift::compare(wanted, self.path.bans(), |wanted: maps::Ban, found| {
            let is_right = (wanted.id, wanted.expires) == (found.id, found.expires);
            (!is_right).then(|| wanted.counted_on(found))
        });
        let rules = drift::compare(self.prefixes.rules(), self.path.rules(), |wanted, found| {
            (wanted != found).then_some(wanted)
        });
        Drifts { bans, rules }
    }

    /// Attaches the program again where a link is gone; the interfaces that needed it.
    pub(super) fn reattach(&mut self) -> Vec<String> {
        let (reattached, failing) = self.path.reattach();
        if failing != self.unrepaired && !failing.is_empty() {
            tracing::warn!(?failing, "XDP is not attached where it should be");
        }
        self.unrepaired = failing;
        reattached
    }

    /// So much was repaired.
    pub(super) fn note_repairs(&mut self, many: usize) {
        self.repairs += u64::try_from(many).unwrap_or(0);
    }

    /// Gives the kernel what it should have.
    pub(super) fn repair(&mut self, drifts: Drifts) {
        let Drifts { bans, rules } = drifts;
        let path = &mut self.path;
        let removed = bans.remove.chunks(MANY).map(|some| path.unban_many(some)).collect::<Vec<_>>();
        let entered = bans.enter.chunks(MANY).map(|some| path.ban_many(some)).collect::<Vec<_>>();
        let dropped = rules.remove.into_iter().map(|source| path.remove_rule(source)).collect::<Vec<_>>();
        let put = rules.enter.into_iter().map(|(source, rule)| path.put_rule(source, rule)).collect::<Vec<_>>();
        for error in removed.into_iter().chain(entered).chain(dropped).chain(put).filter_map(Result::err) {
            tracing::error!(%error, "the kernel could not be repaired");
            self.unrepaired.push(error.to_string());
        }
    }

    /// Who took the program out of the kernel, while it is.
    pub(super) fn detached(&self) -> Option<&str> {
        self.detached.as_deref()
    }

    /// Takes the program out of the kernel, at `actor`'s word. Where none was there, nothing is detached.
    pub(super) fn release(&mut self, actor: &str) -> Result<Removed, KernelError> {
        let was_attached = !self.path.interfaces().is_empty();
        let removed = self.path.release()?;
        if was_attached || removed != Removed::default() {
            self.detached = Some(actor.to_owned());
        }
        Ok(removed)
    }

    /// Undoes [`Self::release`]: the interfaces that it is attached to again, and what fails.
    pub(super) fn attach(&mut self) -> Result<(Vec<String>, Vec<String>), KernelError> {
        let (attached, failing) = self.path.attach()?;
        self.detached = None;
        self.unrepaired.clone_from(&failing);
        Ok((attached, failing))
    }

    /// Removes everything from the kernel.
    pub(super) fn detach(self) -> Result<(), KernelError> {
        self.path.detach()
    }

    /// How many entries had to be repaired since the start.
    pub(super) const fn repairs(&self) -> u64 {
        self.repairs
    }

    /// What could not be repaired.
    pub(super) fn unrepaired(&self) -> &[String] {
        &self.unrepaired
    }

    /// What enforces, when the guard is gone.
    #[cfg(test)]
    pub(super) fn into_path(self) -> Box<dyn Enforcement> {
        self.path
    }
}

/// The kernel's entry of a ban.
pub(super) fn kernel_ban(record: &BanRecord) -> maps::Ban {
    let mode = if record.shadow { maps::Ban::SHADOW } else { 0 };
    maps::Ban { expires: expiry(record), id: record.id | mode, packets: 0, bytes: 0 }
}
