//! Translates the settings of scope and limits for the kernel program.
//!
//! A packet weighs so much in the sketch that a source is given budgets of its own before it has sent an eighth of what
//! any one of them allows in a second.

use std::io;

use gateway_common::{
    limit::{ByteRate, Rate},
    maps::{Limits, name},
    source::SourceKey,
};

use super::bits::Hashed;
use crate::{
    guard::kernel::error::KernelError,
    settings::guard::{self, PacketScope, SourceLimit, SynCookies, TotalLimit},
};

/// The seed of everything that is hashed in the kernel: the one in force, or a new one where there is none.
pub(in crate::guard::kernel) fn seed(in_force: u64) -> Result<u64, KernelError> {
    if in_force != 0 {
        return Ok(in_force);
    }
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_unspecified| KernelError::Map {
        map: name::LIM,
        operation: "drawing a seed",
        source: io::Error::other("no randomness"),
    })?;
    Ok(u64::from_ne_bytes(seed).max(1))
}

/// What the settings mean to the program.
pub(in crate::guard::kernel) fn of(settings: &guard::Settings, hashed: Hashed) -> Limits {
    let rate = |limit: Option<SourceLimit>| {
        limit.and_then(|limit| Rate::per_second(limit.per_second, limit.burst)).unwrap_or(Rate::UNLIMITED)
    };
    let shadow = |limit: Option<SourceLimit>, flag| if limit.is_some_and(|limit| limit.shadow) { flag } else { 0 };
    let all_syns =
        settings.syn_cookies.and_then(|SynCookies { per_second, burst }| Rate::per_second(per_second, burst));
    let bytes = settings.byte_limit.and_then(|limit| ByteRate::per_second(limit.per_second, limit.burst));
    let weights = Weights::of(settings);
    let total = Total::of(settings.total_limit);
    Limits {
        packets: rate(settings.packet_limit),
        bytes: bytes.unwrap_or(ByteRate::UNLIMITED),
        syns: rate(settings.syn_limit),
        all_syns: all_syns.unwrap_or(Rate::UNLIMITED),
        all_packets: total.all,
        fast_lane: total.fast_lane,
        seed: hashed.seed,
        ipv6_mask: SourceKey::ipv6_mask(settings.ipv6_prefix),
        sketch_threshold: weights.threshold,
        syn_weight: weights.syn,
        byte_shift: weights.byte_shift,
        flags: if settings.pass_malformed { Limits::PASS_MALFORMED } else { 0 }
            | match settings.scope {
                PacketScope::Host => Limits::SCOPE_HOST,
                PacketScope::Listeners => 0,
            }
            | shadow(settings.packet_limit, Limits::SHADOW_PACKETS)
            | shadow(settings.byte_limit, Limits::SHADOW_BYTES)
            | shadow(settings.syn_limit, Limits::SHADOW_SYNS)
            | if settings.total_limit.is_some_and(|limit| limit.shadow) { Limits::SHADOW_ALL } else { 0 },
        ban_bits: hashed.mask,
        advance: advance(settings),
        all_advance: total.advance,
        reserved: 0,
    }
}

/// The budget of all sources together, in its two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Total {
    all: Rate,
    fast_lane: Rate,
    advance: u32,
}

impl Total {
    fn of(limit: Option<TotalLimit>) -> Self {
        const WHOLE: u64 = 1_000_000;
        let Some(TotalLimit { per_second, burst, fast_lane, .. }) = limit else {
            return Self { all: Rate::UNLIMITED, fast_lane: Rate::UNLIMITED, advance: 0 };
        };
        let share = |of: u64, share: u64| (of.saturating_mul(share) / WHOLE).max(1);
        let part = |of: u64| Rate::per_second(share(per_second, of), share(burst, of));
        let kept = u64::from(fast_lane).min(WHOLE);
        let fast_lane = if kept == 0 { None } else { part(kept) };
        Self {
            all: part(WHOLE - kept).unwrap_or(Rate::UNLIMITED),
            fast_lane: fast_lane.unwrap_or(Rate::UNLIMITED),
            // As in `advance`: what CPUs hold of it is little.
            advance: u32::try_from((share(burst, WHOLE - kept) / 128).clamp(1, 32)).unwrap_or(1),
        }
    }
}

/// How many packets a CPU takes out of a source's budgets at once: so few that what one CPU holds and another would
/// need is a hundredth of a burst.
fn advance(settings: &guard::Settings) -> u32 {
    const PART: u64 = 128;
    /// Bytes of a full packet.
    const FULL: u64 = 1_514;
    let packets = settings.packet_limit.map_or(u64::MAX, |limit| limit.burst / PART);
    let bytes = settings.byte_limit.map_or(u64::MAX, |limit| limit.burst / PART / FULL);
    u32::try_from(packets.min(bytes).min(16)).unwrap_or(16)
}

/// The most that a sketch's cell should need to count to; it counts to twice as much.
const MOST: u64 = 1 << 19;

/// Where no limit says how many packets a source may send.
const THRESHOLD: u64 = 1 << 12;

/// The part of a second's budget that a source may send before it has one: that much is not looked up.
const PART: u64 = 8;

/// Weights, as in [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weights {
    threshold: u32,
    syn: u32,
    byte_shift: u32,
}

impl Weights {
    fn of(settings: &guard::Settings) -> Self {
        Self::of_limits(settings.packet_limit, settings.byte_limit, settings.syn_limit)
    }

    fn of_limits(packets: Option<SourceLimit>, bytes: Option<SourceLimit>, syns: Option<SourceLimit>) -> Self {
        let packets = packets.map_or(THRESHOLD, |limit| limit.per_second.min(limit.burst) / PART);
        let threshold = packets.clamp(1, MOST);
        let weight = |most: u64| threshold.div_ceil((most / PART).max(1));
        let syn = syns.map_or(0, |limit| weight(limit.per_second.min(limit.burst)));
        // The largest power of two of bytes of which `threshold` are no more than the part.
        let byte_shift = bytes.map_or(31, |limit| {
            let unit = limit.per_second.min(limit.burst) / PART / threshold;
            unit.max(1).ilog2().min(31)
        });
        let narrow = |wide| u32::try_from(wide).unwrap_or(u32::MAX);
        Self { threshold: narrow(threshold), syn: narrow(syn), byte_shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(packets: Option<u64>, bytes: Option<u64>, syns: Option<u64>, expect: Weights) {
        let limit = |rate: Option<u64>| rate.map(|rate| SourceLimit { per_second: rate, burst: rate, shadow: false });
        assert_eq!(Weights::of_limits(limit(packets), limit(bytes), limit(syns)), expect);
    }

    #[test]
    fn the_budget_of_all_is_shared_and_never_exceeded() {
        for (fast_lane, all, lane, advance) in [
            (0, Rate::per_second(100_000, 50_000), None, 32),
            (200_000, Rate::per_second(80_000, 40_000), Rate::per_second(20_000, 10_000), 32),
            (900_000, Rate::per_second(10_000, 5_000), Rate::per_second(90_000, 45_000), 32),
        ] {
            let limit =
                TotalLimit { per_second: 100_000, burst: 50_000, fast_lane, fast_lane_connections: 1, shadow: false };
            let expect = Total { all: all.unwrap(), fast_lane: lane.unwrap_or(Rate::UNLIMITED), advance };
            assert_eq!(Total::of(Some(limit)), expect, "{fast_lane}");
        }
        let none = Total { all: Rate::UNLIMITED, fast_lane: Rate::UNLIMITED, advance: 0 };
        assert_eq!(Total::of(None), none);
    }

    #[test]
    fn whoever_reaches_an_eighth_of_any_limit_is_noticed() {
        let weights = |threshold, syn, byte_shift| Weights { threshold, syn, byte_shift };
        check(None, None, None, weights(4_096, 0, 31));
        check(Some(20_000), None, None, weights(2_500, 0, 31));
        check(Some(20_000), None, Some(100), weights(2_500, 209, 31));
        check(Some(20_000), Some(64 << 20), None, weights(2_500, 0, 11));
        check(None, Some(1 << 20), Some(8), weights(4_096, 4_096, 5));
        check(Some(1), Some(1), Some(1), weights(1, 1, 0));
        check(Some(1_000_000_000), None, Some(1_000_000_000), weights(1 << 19, 1, 31));
    }
}
