//! Moments as arguments name them, and records between two of them.

use clap::Args;

use crate::{
    config::value,
    os::clock::{Now, rfc3339},
};

/// From when to when.
#[derive(Debug, Args)]
pub(super) struct Between {
    /// From then on: 2026-01-01T00:00:00Z, or so long ago: 1h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<String>,
}

impl Between {
    /// Whether a record's time is in it. Times of one form sort as text.
    pub(super) fn holds(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| since <= time) && !self.is_over(time)
    }

    /// Whether a record's time is after it.
    pub(super) fn is_over(&self, time: &str) -> bool {
        self.until.as_deref().is_some_and(|until| until < time)
    }

    /// As it was asked.
    pub(super) fn asked(&self) -> (Option<&str>, Option<&str>) {
        (self.since.as_deref(), self.until.as_deref())
    }
}

/// A moment in the form that records have.
fn moment(text: &str) -> Result<String, String> {
    if let Ok(ago) = value::duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(rfc3339(Now::read().unix_millis.saturating_sub(ago)));
    }
    let moment: Result<jiff::Timestamp, _> = text.parse();
    let millis = moment.ok().and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    millis.map(rfc3339).ok_or_else(|| "write a time, 2026-01-01T00:00:00Z, or how long ago: 1h, 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, expect) in [
            ("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00.000Z")),
            ("2026-01-01T02:00:00.5+02:00", Some("2026-01-01T00:00:00.500Z")),
            ("2026-01-01", None),
            ("yesterday", None),
            ("1960-01-01T00:00:00Z", None),
        ] {
            assert_eq!(moment(text).ok().as_deref(), expect, "{text}");
        }
        assert!(moment("1h").unwrap() < moment("1m").unwrap());
    }
}
