//! Probation: for sources whose ban ended a moment ago, half as many signals are enough.
//!
//! *Invariant:* at most [`CAPACITY`] sources are watched. Over that, once those whose time is over are forgotten,
//! nobody is added: a source that is not watched has the whole bucket, as everybody has.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{PoisonError, RwLock},
};

use gateway_common::source::Source;

const CAPACITY: usize = 65_536;

/// Who is on probation, and until when: `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Debug, Default)]
pub(super) struct ProbationWatch(RwLock<HashMap<Source, u64>>);

impl ProbationWatch {
    pub(super) fn add(&self, source: Source, until: u64, now: u64) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= CAPACITY {
            table.retain(|_, until| *until > now);
        }
        if table.len() < CAPACITY || table.contains_key(&source) {
            table.insert(source, until);
        }
    }

    /// Whether `address` or a network around it is on probation.
    pub(super) fn hold(&self, address: IpAddr, now: u64) -> bool {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if table.is_empty() {
            return false;
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let around = (0..=width).filter_map(|length| Source::network(address, length));
        around.filter_map(|network| table.get(&network)).any(|until| *until > now)
    }
}
