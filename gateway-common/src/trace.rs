//! Which packets the traced variant of the kernel program writes a line about, and how often.
//!
//! Nothing here is part of the pinned layout: each guard makes these maps anew.

use core::mem::size_of;

use crate::{maps::Gate, packet::Headers, source::Source, verdict::Verdict};

/// Names of the maps; the kernel keeps 15 characters.
pub mod name {
    /// What is traced: an array of [`Trace`](super::Trace)s.
    pub const TRACES: &str = "TRACES";
    /// What each CPU has told: two [`TraceCount`](super::TraceCount) for each trace, of packets that passed and of the others.
    pub const TOLD: &str = "TOLD";
    /// A ring buffer of lines, made by aya-log.
    pub const LINES: &str = "AYA_LOGS";
}

/// How many traces there may be at once.
pub const TRACES: u32 = 8;

/// How many lines of one trace a CPU writes in a second about packets that pass, and as many about those that do not.
pub const LINES_PER_SECOND: u64 = 20;

/// What one of those who watch wants lines about. `id` 0: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trace {
    /// Which bits of an address' upper half count. IPv4 addresses are mapped to IPv6 (RFC 4291 section 2.5.5.2).
    pub upper_mask: u64,
    /// Which bits of its lower half do.
    pub lower_mask: u64,
    /// The upper half, without other bits.
    pub upper: u64,
    /// The lower half.
    pub lower: u64,
    /// What its lines carry, so that those of an earlier trace are told from them.
    pub id: u32,
    /// 1: packets that pass are left out.
    pub drops_only: u32,
}

impl Trace {
    /// Lines with `id` about packets of `source`; `None`: of everybody.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "both halves of an address have 64 bits")]
    pub fn new(id: u32, source: Option<Source>, drops_only: bool) -> Self {
        let (address, length) = source.map_or((0, 0), |source| match source.address() {
            core::net::IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), u32::from(source.length()) + 96),
            core::net::IpAddr::V6(address) => (address.to_bits(), u32::from(source.length())),
        });
        let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
        let (upper, lower) = ((address >> 64) as u64, address as u64);
        let (upper_mask, lower_mask) = ((mask >> 64) as u64, mask as u64);
        Self { upper_mask, lower_mask, upper, lower, id, drops_only: u32::from(drops_only) }
    }

    /// Whether a line may be written about a packet of this verdict from this address, given as its halves.
    #[inline(always)]
    #[must_use]
    pub const fn wants(&self, upper: u64, lower: u64, passes: bool) -> bool {
        self.id != 0
            && upper & self.upper_mask == self.upper
            && lower & self.lower_mask == self.lower
            && !(passes && self.drops_only != 0)
    }
}

/// What one CPU has told of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TraceCount {
    /// Which packet is the next.
    pub gate: Gate,
    /// How many packets there were, told of or not.
    pub matched: u64,
}

/// Where packets of a trace are counted in `TOLD`.
#[inline(always)]
#[must_use]
pub const fn told(trace: u32, passes: bool) -> u32 {
    trace * 2 + passes as u32
}

/// Whether a packet of this verdict goes on its way.
#[inline(always)]
#[must_use]
pub const fn passes(verdict: Verdict) -> bool {
    !(verdict.drops() || verdict.answers())
}

/// A packet's source as the halves of an address; 0 where it is not known.
#[inline(always)]
#[must_use]
pub const fn halves(headers: &Headers) -> (u64, u64) {
    if headers.is_ipv4 { (0, 0xffff_0000_0000 | headers.upper) } else { (headers.upper, headers.lower) }
}

const _: () = assert!(size_of::<Trace>() == 40 && size_of::<TraceCount>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trace: Option<&str>, packets: &[(&str, bool)]) {
        let source = trace.map(|trace| trace.parse().unwrap_or_else(|_| panic!("{trace}")));
        let [all, drops] = [false, true].map(|drops_only| Trace::new(7, source, drops_only));
        for (address, expect) in packets {
            let address = match address.parse().unwrap_or_else(|_| panic!("{address}")) {
                core::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                core::net::IpAddr::V6(address) => address.octets(),
            };
            let [high, low] =
                [0, 8].map(|at| address[at..at + 8].iter().fold(0, |half, byte| half << 8 | u64::from(*byte)));
            assert_eq!(all.wants(high, low, true), *expect, "{trace:?}");
            assert_eq!(drops.wants(high, low, false), *expect, "{trace:?}");
            assert!(!drops.wants(high, low, true));
            assert!(!Trace { id: 0, ..all }.wants(high, low, true), "off");
        }
    }

    #[test]
    fn sources() {
        check(None, &[("192.0.2.1", true), ("2001:db8::1", true), ("::", true)]);
        check(Some("192.0.2.1"), &[("192.0.2.1", true), ("192.0.2.2", false), ("2001:db8::1", false)]);
        check(Some("192.0.2.0/24"), &[("192.0.2.9", true), ("192.0.3.1", false), ("::c000:209", false)]);
        check(Some("0.0.0.0/0"), &[("192.0.2.9", true), ("2001:db8::1", false)]);
        check(Some("2001:db8::1"), &[("2001:db8::1", true), ("2001:db8::2", false), ("2001:db9::1", false)]);
        check(Some("2001:db8::/32"), &[("2001:db8:9::1", true), ("2001:db9::1", false), ("192.0.2.1", false)]);
        check(Some("2001:db8::/96"), &[("2001:db8::ffff:1", true), ("2001:db8::1:0:1", false)]);
        check(Some("::/0"), &[("192.0.2.9", true), ("2001:db8::1", true)]);
    }

    #[test]
    fn addresses_of_packets() {
        let ipv4 = Headers { upper: 0xc000_0201, is_ipv4: true, ..Headers::default() };
        assert_eq!(halves(&ipv4), (0, 0xffff_c000_0201));
        assert_eq!(halves(&Headers { upper: 1, lower: 2, ..Headers::default() }), (1, 2));
        assert_eq!(halves(&Headers::default()), (0, 0), "not known");
    }
}
