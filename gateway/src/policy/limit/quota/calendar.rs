//! When periods of the calendar begin and end, in some time zone.

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

use crate::settings::limit::quota::Period;

/// The periods of one quota.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calendar {
    period: Period,
    zone: TimeZone,
}

impl Calendar {
    pub(super) const fn new(period: Period, zone: TimeZone) -> Self {
        Self { period, zone }
    }

    /// How long a period usually is, in milliseconds.
    pub(super) const fn usual(&self) -> i64 {
        self.period.usual_seconds() as i64 * 1_000
    }

    /// When the period that `moment` is in began and when it ends, in milliseconds since the Unix epoch. Periods follow
    /// each other without a gap. At the ends of time, where a calendar has no date, they are of the usual length.
    pub(super) fn around(&self, moment: i64) -> (i64, i64) {
        self.of_calendar(moment).filter(|(start, end)| (*start..*end).contains(&moment)).unwrap_or_else(|| {
            let start = moment.div_euclid(self.usual()).saturating_mul(self.usual());
            (start, start.saturating_add(self.usual()))
        })
    }

    fn of_calendar(&self, moment: i64) -> Option<(i64, i64)> {
        let there = Timestamp::from_millisecond(moment).ok()?.to_zoned_datetime(self.zone.clone());
        let date = there.date();
        let first = match self.period {
            Period::Hour => {
                // Counted by the offset of this moment: zones are at quarters of an hour.
                let offset = i64::from(there.offset().seconds()) * 1_000;
                let start = moment - (moment + offset).rem_euclid(self.usual());
                return Some((start, start + self.usual()));
            }
            Period::Day => date,
            Period::Week => date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).ok()?,
            Period::Month => date.first_of_month(),
        };
        let next = match self.period {
            Period::Hour | Period::Day => first.tomorrow(),
            Period::Week => first.checked_add(1.week()),
            Period::Month => first.checked_add(1.month()),
        };
        Some((self.midnight(first)?, self.midnight(next.ok()?)?))
    }

    /// The first moment of a day there.
    fn midnight(&self, date: Date) -> Option<i64> {
        Some(date.to_zoned_datetime(self.zone.clone()).ok()?.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(period: Period, zone: &str, moment: &str, start: &str, end: &str) {
        let millis = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let calendar = Calendar::new(period, TimeZone::get(zone).unwrap());
        let found = calendar.around(millis(moment));
        let text = |millis| Timestamp::from_millisecond(millis).unwrap().to_string();
        assert_eq!((text(found.0), text(found.1)), (start.to_owned(), end.to_owned()), "{period} {zone} {moment}");
    }

    #[test]
    fn periods_by_the_calendar() {
        use Period::{Day, Hour, Month, Week};
        for (period, zone, moment, start, end) in [
            (Hour, "UTC", "2026-03-01T10:59:59.999Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"),
            (Hour, "UTC", "2026-03-01T11:00:00Z", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z"),
            // A zone at half an hour.
            (Hour, "Asia/Kolkata", "2026-03-01T10:10:00Z", "2026-03-01T09:30:00Z", "2026-03-01T10:30:00Z"),
            (Hour, "Asia/Kathmandu", "2026-03-01T10:10:00Z", "2026-03-01T09:15:00Z", "2026-03-01T10:15:00Z"),
            (Day, "UTC", "2026-02-28T23:59:59Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            // 23 hours, and 25.
            (Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // There is no midnight: the day begins at one.
            (Day, "Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            (Week, "UTC", "2026-11-29T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Week, "UTC", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
            (Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Month, "America/New_York", "2026-12-31T12:00:00Z", "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z"),
            (Month, "Pacific/Auckland", "2026-09-30T12:00:00Z", "2026-09-30T11:00:00Z", "2026-10-31T11:00:00Z"),
        ] {
            check(period, zone, moment, start, end);
        }
    }

    /// Whatever the zone does: periods follow each other, and none is far from the usual length.
    #[test]
    fn periods_leave_no_gap() {
        let zones = ["UTC", "Europe/Berlin", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns"];
        for (zone, (name, period)) in zones.iter().flat_map(|zone| Period::NAMES.map(|period| (zone, period))) {
            let calendar = Calendar::new(period, TimeZone::get(zone).unwrap());
            let mut moment = 1_767_225_600_000;
            for _ in 0..if period == Period::Hour { 9_000 } else { 400 } {
                let (start, end) = calendar.around(moment);
                assert!(start <= moment && moment < end, "{zone} {name} {moment}");
                assert_eq!(calendar.around(end - 1), (start, end), "{zone} {name} {moment}");
                assert!((end - start) * 5 >= calendar.usual() * 2, "{zone} {name} {moment}: {}", end - start);
                assert!((end - start) * 5 <= calendar.usual() * 8, "{zone} {name} {moment}: {}", end - start);
                moment = end;
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        for (_, period) in Period::NAMES {
            let calendar = Calendar::new(period, TimeZone::UTC);
            for moment in [0, 1, i64::MAX / 2, -1] {
                let (start, end) = calendar.around(moment);
                assert!(start <= moment && moment < end, "{period} {moment}");
            }
        }
    }
}
