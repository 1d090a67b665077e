//! Decides what a packet weighs in the kernel's sketch: so much that a source is given budgets of its own before it has
//! sent an eighth of what any one of them allows in a second.

use crate::guard::settings::Settings;

/// The most that a sketch's cell should need to count to; it counts to twice as much.
const MOST: u64 = 1 << 19;

/// Where no limit says how many packets a source may send.
const THRESHOLD: u64 = 1 << 12;

/// The part of a second's budget that a source may send before it has one: that much is not looked up.
const PART: u64 = 8;

/// Weights, as in [`Limits`](gateway_common::maps::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) threshold: u32,
    pub(super) syn: u32,
    pub(super) byte_shift: u32,
}

impl Weights {
    pub(super) fn of(settings: &Settings) -> Self {
        let packets = settings.packet_limit.map_or(THRESHOLD, |limit| limit.per_second.min(limit.burst) / PART);
        let threshold = packets.clamp(1, MOST);
        let weight = |most: u64| threshold.div_ceil((most / PART).max(1));
        let syn = settings.syn_limit.map_or(0, |limit| weight(limit.per_second.min(limit.burst)));
        // The largest power of two of bytes of which `threshold` are no more than the part.
        let byte_shift = settings.byte_limit.map_or(31, |limit| {
            let unit = limit.per_second.min(limit.burst) / PART / threshold;
            unit.max(1).ilog2().min(31)
        });
        let narrow = |wide| u32::try_from(wide).unwrap_or(u32::MAX);
        Self { threshold: narrow(threshold), syn: narrow(syn), byte_shift }
    }
}
