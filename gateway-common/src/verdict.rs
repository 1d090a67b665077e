//! Decides what can happen to a packet: each variant is one per-CPU counter and one name in metrics and CLI.

/// What happened to a packet in the kernel.
///
/// The number is the index in the `STATS` map. New variants are appended, so that counters survive an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Verdict {
    /// From an allowlisted source; nothing else was asked.
    Allowed = 0,
    /// From a blocklisted source: dropped.
    Blocked = 1,
    /// Its headers contradict each other or the frame: dropped.
    Malformed = 2,
    /// As [`Self::Malformed`], passed because the configuration says so.
    MalformedPassed = 3,
    /// Neither IPv4 nor IPv6 under at most two VLAN tags, or IPv6 link-local: passed, no rule applies.
    NotIp = 4,
    /// Over the source's packet budget: this packet is dropped, the source is not banned.
    OverPackets = 5,
    /// In scope and within every limit.
    Passed = 6,
    /// From a source whose entry is in shadow mode: would have been dropped, passed.
    ShadowBlocked = 7,
    /// Not for a guarded port: passed, no list or limit applies.
    Unguarded = 8,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Allowed,
        Self::Blocked,
        Self::Malformed,
        Self::MalformedPassed,
        Self::NotIp,
        Self::OverPackets,
        Self::Passed,
        Self::ShadowBlocked,
        Self::Unguarded,
    ];

    /// The name in metrics, logs and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
            Self::Malformed => "malformed",
            Self::MalformedPassed => "malformed_passed",
            Self::NotIp => "not_ip",
            Self::OverPackets => "over_packets",
            Self::Passed => "passed",
            Self::ShadowBlocked => "shadow_blocked",
            Self::Unguarded => "unguarded",
        }
    }

    /// Whether the packet is dropped. Nothing else happens to packets: the kernel never answers and never aborts.
    #[inline(always)]
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::Blocked | Self::Malformed | Self::OverPackets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, index, "{}", verdict.name());
        }
    }
}
