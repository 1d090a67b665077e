//! Writes many entries to the kernel: bans in batches, rules piece by piece in the spare trie, so that a million of
//! them leave the guard time for everything else.

use std::os::fd::AsFd as _;

use aya::maps::IterableMap as _;
use gateway_common::{
    maps::{Ban, Rule, name},
    source::{Source, SourceKey},
};

use super::tries::{Prefix, sources};
use crate::guard::kernel::{error::KernelError, handle::Kernel, load::object::read_ban, sys};

/// Entries asked for at once; as for a whole dump, more than lie in any one bucket.
const SCANNED: u32 = 4_096;

/// How far a walk over all bans has come.
#[derive(Debug, Default)]
pub struct BanScan(sys::BatchCursor);

impl BanScan {
    /// Nothing is left.
    #[must_use]
    pub const fn ended() -> Self {
        Self(sys::BatchCursor::ended())
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.0.done
    }
}

/// How far a walk over all rules has come.
#[derive(Debug, Default)]
pub struct RuleScan {
    ipv4: sys::BatchCursor,
    ipv6: sys::BatchCursor,
}

impl RuleScan {
    /// Nothing is left.
    #[must_use]
    pub const fn ended() -> Self {
        Self { ipv4: sys::BatchCursor::ended(), ipv6: sys::BatchCursor::ended() }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.ipv4.done && self.ipv6.done
    }
}

impl Kernel {
    /// Some bans, from where the last call ended. Entries that come and go meanwhile may be missed, or be told twice.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn scan(&self, from: &mut BanScan) -> Result<Vec<(SourceKey, Ban)>, KernelError> {
        let some = sys::some::<8, 32>(self.bans.map().fd().as_fd(), &mut from.0, SCANNED);
        let some = some.map_err(|source| KernelError::Map { map: name::BANS, operation: "reading", source })?;
        Ok(some.into_iter().map(|(key, ban)| (SourceKey(u64::from_ne_bytes(key)), read_ban(&ban))).collect())
    }

    /// Some rules in force, from where the last call ended; as [`Self::scan`].
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn scan_rules(&self, from: &mut RuleScan) -> Result<Vec<(Source, Rule)>, KernelError> {
        let failed = |map, source| KernelError::Map { map, operation: "reading", source };
        if !from.ipv4.done {
            let some = self.rules4.some(&mut from.ipv4).map_err(|error| failed(name::RULES4, error))?;
            return Ok(sources(some).collect());
        }
        let some = self.rules6.some(&mut from.ipv6).map_err(|error| failed(name::RULES6, error))?;
        Ok(sources(some).collect())
    }

    /// Enters bans as they are, counters included.
    ///
    /// # Errors
    /// [`KernelError::Full`]; those before the one that found no room are in.
    pub fn ban_many(&mut self, bans: &[(SourceKey, Ban)]) -> Result<(), KernelError> {
        self.expect(bans.iter().map(|(key, _)| *key))?;
        let keys: Vec<u64> = bans.iter().map(|(key, _)| key.0).collect();
        let values: Vec<Ban> = bans.iter().map(|(_, ban)| *ban).collect();
        sys::enter(self.bans.map().fd().as_fd(), &keys, &values).map_err(|(_, source)| match source.raw_os_error() {
            Some(libc::E2BIG) => {
                KernelError::Full { map: name::BANS, capacity: self.max_bans, setting: "guard.max_bans" }
            }
            _ => KernelError::Map { map: name::BANS, operation: "adding bans", source },
        })
    }

    /// Removes bans; those that are not there are passed over.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn unban_many(&mut self, keys: &[SourceKey]) -> Result<(), KernelError> {
        let keys: Vec<u64> = keys.iter().map(|key| key.0).collect();
        sys::remove(self.bans.map().fd().as_fd(), &keys).map_err(|source| KernelError::Map {
            map: name::BANS,
            operation: "removing bans",
            source,
        })?;
        self.forget(u32::try_from(keys.len()).unwrap_or(u32::MAX))
    }

    /// Enters rules into the spare tries, where no packet sees them.
    ///
    /// # Errors
    /// [`KernelError::Full`].
    pub fn stage_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        let mut rules4: Vec<(Prefix<4>, Rule)> = Vec::new();
        let mut rules6: Vec<(Prefix<16>, Rule)> = Vec::new();
        for (source, rule) in rules {
            match source.address() {
                std::net::IpAddr::V4(address) => rules4.push(((address.octets(), source.length()), *rule)),
                std::net::IpAddr::V6(address) => rules6.push(((address.octets(), source.length()), *rule)),
            }
        }
        self.rules4.stage(&rules4)?;
        self.rules6.stage(&rules6)
    }

    /// Removes at most about `most` rules from the spare tries; whether they are empty now.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn clear_staged(&mut self, most: usize) -> Result<bool, KernelError> {
        Ok(self.rules4.clear_staged(most)? && self.rules6.clear_staged(most)?)
    }

    /// Puts what was staged in force in the place of all rules.
    ///
    /// # Errors
    /// [`KernelError::Map`]; the old rules stay in force then.
    pub fn commit_staged(&mut self) -> Result<(), KernelError> {
        self.rules4.commit_staged()?;
        self.rules6.commit_staged()
    }
}
