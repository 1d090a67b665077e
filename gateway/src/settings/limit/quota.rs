//! `[quota.NAME]`: how much whoever it counts may use up in an hour, a day, a week or a month of the calendar.

use std::fmt;

use http::HeaderName;
use jiff::tz::TimeZone;

/// What a quota has besides what every limit has.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// `per`: when it begins anew.
    pub period: Period,
    /// `time_zone`: by its IANA name.
    pub zone_name: String,
    /// The same, with its rules.
    pub zone: TimeZone,
    /// `warn_at`: percents of the quota at which a line of the log is due.
    pub warn_at: Vec<u8>,
    /// `when_full`: what those get that there is no counter for.
    pub when_full: WhenFull,
    /// `quota_headers`.
    pub headers: QuotaHeaders,
}

/// How long a quota lasts, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From minute 0 to the next.
    Hour,
    /// From midnight to midnight: 23 or 25 hours where clocks change.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
}

impl Period {
    /// Each as it is configured.
    pub const NAMES: [(&'static str, Self); 4] =
        [("hour", Self::Hour), ("day", Self::Day), ("week", Self::Week), ("month", Self::Month)];

    /// How long one usually is, in seconds. A month counts as 30 days.
    #[must_use]
    pub const fn usual_seconds(self) -> u32 {
        match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, period)| period == self).map_or("", |(name, _)| name);
        out.write_str(name)
    }
}

/// What becomes of requests of those that there is no counter for. They never get a quota of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused until the quota begins anew.
    Refuse,
    /// They share one quota for each part of the table.
    #[default]
    Share,
}

impl WhenFull {
    /// Each as it is configured.
    pub const NAMES: [(&'static str, Self); 2] = [("refuse", Self::Refuse), ("share", Self::Share)];
}

/// The headers of responses that tell of a quota, besides `RateLimit`. Those without a name are not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaHeaders {
    /// How much there is.
    pub limit: Option<HeaderName>,
    /// How much is left.
    pub remaining: Option<HeaderName>,
    /// When it begins anew, in seconds since the Unix epoch.
    pub reset: Option<HeaderName>,
}

impl QuotaHeaders {
    /// Whether any of them is sent.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.limit.is_some() || self.remaining.is_some() || self.reset.is_some()
    }
}
