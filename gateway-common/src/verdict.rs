//! What can happen to a packet: each variant is one per-CPU counter and one name in metrics and CLI.

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
    /// Over the source's byte budget: this packet is dropped, the source is not banned.
    OverBytes = 9,
    /// Over the source's budget of connection attempts: this packet is dropped, the source is not banned.
    OverSyns = 10,
    /// Would have been [`Self::OverPackets`], passed: the limit is in shadow mode.
    ShadowOverPackets = 11,
    /// Would have been [`Self::OverBytes`], passed.
    ShadowOverBytes = 12,
    /// Would have been [`Self::OverSyns`], passed.
    ShadowOverSyns = 13,
    /// A connection attempt beyond the global budget: answered with a cookie, so that no state is kept for it.
    CookieSent = 14,
    /// A connection attempt beyond the global budget that the network stack has no cookie for: passed to it.
    CookieRefused = 15,
    /// Over what is left of the budget of a source that went on over a limit on requests: this packet is dropped, the
    /// source is not banned.
    Clamped = 16,
    /// Would have been [`Self::Clamped`], passed: the clamp is in shadow mode.
    ShadowClamped = 17,
    /// Over the packet budget of all sources together, and of no connection that may use the fast lane: dropped.
    OverTotal = 18,
    /// Would have been [`Self::OverTotal`], passed.
    ShadowOverTotal = 19,
    /// Over the packet budget of all sources together, and of a connection that proved itself: passed.
    FastLane = 20,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 21] = [
        Self::Allowed,
        Self::Blocked,
        Self::Malformed,
        Self::MalformedPassed,
        Self::NotIp,
        Self::OverPackets,
        Self::Passed,
        Self::ShadowBlocked,
        Self::Unguarded,
        Self::OverBytes,
        Self::OverSyns,
        Self::ShadowOverPackets,
        Self::ShadowOverBytes,
        Self::ShadowOverSyns,
        Self::CookieSent,
        Self::CookieRefused,
        Self::Clamped,
        Self::ShadowClamped,
        Self::OverTotal,
        Self::ShadowOverTotal,
        Self::FastLane,
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
            Self::OverBytes => "over_bytes",
            Self::OverSyns => "over_syns",
            Self::ShadowOverPackets => "shadow_over_packets",
            Self::ShadowOverBytes => "shadow_over_bytes",
            Self::ShadowOverSyns => "shadow_over_syns",
            Self::CookieSent => "cookie_sent",
            Self::CookieRefused => "cookie_refused",
            Self::Clamped => "clamped",
            Self::ShadowClamped => "shadow_clamped",
            Self::OverTotal => "over_total",
            Self::ShadowOverTotal => "shadow_over_total",
            Self::FastLane => "fast_lane",
        }
    }

    /// Whether the packet is dropped. What is neither dropped nor answered is passed; nothing is ever aborted.
    #[inline(always)]
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(
            self,
            Self::Blocked
                | Self::Malformed
                | Self::OverPackets
                | Self::OverBytes
                | Self::OverSyns
                | Self::Clamped
                | Self::OverTotal
        )
    }

    /// Whether the packet is turned into its answer and sent back.
    #[inline(always)]
    #[must_use]
    pub const fn answers(self) -> bool {
        matches!(self, Self::CookieSent)
    }

    /// Whether it would have been dropped, were nothing in shadow mode.
    #[inline(always)]
    #[must_use]
    pub const fn shadows(self) -> bool {
        matches!(
            self,
            Self::ShadowBlocked
                | Self::ShadowOverPackets
                | Self::ShadowOverBytes
                | Self::ShadowOverSyns
                | Self::ShadowClamped
                | Self::ShadowOverTotal
        )
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
