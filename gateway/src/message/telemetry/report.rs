//! What the observer has been told of a process, so that it is told only what has changed.

use std::{collections::HashMap, io};

use super::{Samples, Series, SeriesValue, Telemetry};

/// A message is closed once it has so many bytes or so: the largest series fits into the rest of what a message may have.
const FULL: usize = 48 * 1_024;

/// What one observer knows of this process.
#[derive(Debug, Default)]
pub struct Report {
    told: HashMap<Series, SeriesValue>,
}

impl Report {
    /// Tells all that has changed through `send`, in as many messages as it takes, and at least one.
    ///
    /// # Errors
    /// `send` failed. What it did not take is told the next time.
    pub fn tell(
        &mut self,
        serves: bool,
        samples: Samples,
        mut send: impl FnMut(&Telemetry) -> io::Result<()>,
    ) -> io::Result<()> {
        let samples: HashMap<Series, SeriesValue> = samples.into_inner().into_iter().collect();
        let mut message = Telemetry { serves, ..Telemetry::default() };
        message.gone = self.told.keys().filter(|series| !samples.contains_key(series)).cloned().collect();
        // Rare: what is left of so many is told the next time.
        message.gone.truncate(FULL / 1_024);
        let mut bytes: usize = message.gone.iter().map(weight).sum();
        for (series, value) in samples {
            if self.told.get(&series) == Some(&value) {
                continue;
            }
            bytes += weight(&series) + if let SeriesValue::Histogram(it) = &value { it.buckets.len() * 11 } else { 10 };
            message.changed.push((series, value));
            if bytes >= FULL {
                self.send(std::mem::replace(&mut message, Telemetry { serves, ..Telemetry::default() }), &mut send)?;
                bytes = 0;
            }
        }
        self.send(message, &mut send)
    }

    fn send(&mut self, message: Telemetry, send: &mut impl FnMut(&Telemetry) -> io::Result<()>) -> io::Result<()> {
        send(&message)?;
        for series in &message.gone {
            self.told.remove(series);
        }
        self.told.extend(message.changed);
        Ok(())
    }
}

/// How many bytes the name of a series takes at most.
fn weight(series: &Series) -> usize {
    4 + series.labels.iter().map(|label| label.len() + 2).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        MAX_BYTES,
        telemetry::{Histogram, MAX_LABEL, Metric},
    };

    /// What is told of `counts` connections lost, by kind.
    fn tell(report: &mut Report, counts: &[(&str, u64)], fails: bool) -> Option<Vec<Telemetry>> {
        let mut samples = Samples::default();
        for (what, count) in counts {
            samples.count(Metric::Lost, &[what], *count);
        }
        let mut told = Vec::new();
        let result = report.tell(true, samples, |message| {
            told.push(message.clone());
            if fails { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        result.is_ok().then_some(told)
    }

    #[test]
    fn only_what_has_changed_is_told_and_nothing_is_lost() {
        let mut report = Report::default();
        let told = tell(&mut report, &[("asks", 1), ("shed", 2)], false).unwrap();
        assert_eq!((told.len(), told[0].changed.len(), told[0].serves), (1, 2, true));
        assert_eq!(
            tell(&mut report, &[("asks", 1), ("shed", 2)], false).unwrap(),
            [Telemetry { serves: true, ..Telemetry::default() }]
        );
        assert_eq!(tell(&mut report, &[("asks", 1), ("shed", 3)], true), None);
        let told = tell(&mut report, &[("asks", 1), ("shed", 4)], false).unwrap();
        assert_eq!(told[0].changed, [(Series::new(Metric::Lost, &["shed"]), SeriesValue::Count(4))]);
        let told = tell(&mut report, &[("asks", 1)], false).unwrap();
        assert_eq!(told[0].gone, [Series::new(Metric::Lost, &["shed"])]);
        assert_eq!(tell(&mut report, &[("asks", 1)], false).unwrap()[0].gone, []);
    }

    #[test]
    fn no_message_is_too_large() {
        let mut samples = Samples::default();
        let full = Histogram {
            sum: u64::MAX,
            buckets: (0..Histogram::BUCKETS).map(|place| (u8::try_from(place).unwrap(), u64::MAX)).collect(),
        };
        for route in 0..200 {
            samples.histogram(Metric::RequestDuration, &[&format!("{route:0>400}")], full.clone());
        }
        let (mut report, mut series) = (Report::default(), 0);
        report
            .tell(false, samples, |message| {
                assert!(postcard::to_stdvec(message).unwrap().len() < MAX_BYTES);
                series += message.changed.len();
                assert!(
                    message.changed.iter().all(|(series, value)| series.is_valid() && value.is_valid(series.metric))
                );
                assert!(message.changed.iter().all(|(series, _)| series.labels[0].len() == MAX_LABEL));
                Ok(())
            })
            .unwrap();
        // They differ in the end alone, which is cut.
        assert_eq!(series, 1);
    }
}
