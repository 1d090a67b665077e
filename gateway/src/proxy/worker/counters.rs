//! Counters of requests. Each worker counts for itself, and the guard is told the sums about once a second. Nothing is
//! counted by client.

use std::cell::Cell;

use crate::{
    message::{ANSWERS, Counted, ToGuard, add_counts, place_of_answer},
    os::clock::SECOND,
    refusal::Reject,
    signal::Signal,
};

/// What one worker has counted since it last told the control thread.
#[derive(Default)]
pub(in crate::proxy) struct Counters {
    answers: [Cell<u64>; ANSWERS.len()],
    refused: [Cell<u64>; Reject::ALL.len()],
    signals: [Cell<u64>; Signal::ALL.len()],
    told: Cell<u64>,
}

impl Counters {
    /// A request was answered. `None`: its client had left.
    pub(in crate::proxy) fn answered(&self, status: Option<u16>) {
        add(&self.answers, place_of_answer(status));
    }

    pub(in crate::proxy) fn refused(&self, reject: Reject) {
        add(&self.refused, reject as usize);
    }

    pub(in crate::proxy) fn signalled(&self, signal: Signal) {
        add(&self.signals, signal as usize);
    }

    /// Whether it is time to tell the control thread, about once a second. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    pub(in crate::proxy) fn is_due(&self, now: u64) -> bool {
        let is_due = now.saturating_sub(self.told.get()) >= SECOND;
        if is_due {
            self.told.set(now);
        }
        is_due
    }

    /// What was counted since the last call; `None`: nothing.
    pub(in crate::proxy) fn take(&self) -> Option<Counted> {
        let all = |cells: &[Cell<u64>]| cells.iter().map(Cell::take).collect::<Vec<_>>();
        let labels = Reject::ALL.iter().map(|reject| reject.row().label.to_owned());
        let counted = Counted {
            answers: all(&self.answers),
            refused: labels.zip(all(&self.refused)).collect(),
            signals: all(&self.signals),
            connections: 0,
        };
        let refused = counted.refused.iter().map(|(_, count)| count);
        let any = counted.answers.iter().chain(&counted.signals).chain(refused).any(|count| *count > 0);
        any.then_some(counted)
    }
}

fn add(cells: &[Cell<u64>], place: usize) {
    if let Some(cell) = cells.get(place) {
        cell.set(cell.get() + 1);
    }
}

/// What all workers have counted and the guard has not been told.
#[derive(Default)]
pub(in crate::proxy) struct CounterDelta {
    counted: Counted,
    connections: u64,
}

impl CounterDelta {
    /// Adds what a worker has counted.
    pub(in crate::proxy) fn add(&mut self, counted: &Counted) {
        if self.counted.answers.is_empty() {
            self.counted = counted.clone();
            return;
        }
        add_counts(&mut self.counted.answers, &counted.answers);
        add_counts(&mut self.counted.signals, &counted.signals);
        for ((_, sum), (_, count)) in self.counted.refused.iter_mut().zip(&counted.refused) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// The message to the guard; `None`: nothing has changed. `connections` is how many there are.
    pub(in crate::proxy) fn message(&mut self, connections: usize) -> Option<ToGuard> {
        let connections = u64::try_from(connections).unwrap_or(u64::MAX);
        let counted = std::mem::take(&mut self.counted);
        if counted == Counted::default() && connections == self.connections {
            return None;
        }
        self.connections = connections;
        Some(ToGuard::Counted(Box::new(Counted { connections, ..counted })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        assert!(Reject::ALL.iter().enumerate().all(|(place, reject)| *reject as usize == place));
        let labels: std::collections::BTreeSet<_> = Reject::ALL.iter().map(|reject| reject.row().label).collect();
        assert!(labels.len() == Reject::ALL.len() && labels.len() < crate::message::MAX_LABELS, "{labels:?}");
        assert!(Signal::ALL.iter().enumerate().all(|(place, signal)| *signal as usize == place));
    }

    #[test]
    fn what_is_counted_is_told_once() {
        let (counters, mut delta) = (Counters::default(), CounterDelta::default());
        assert_eq!(counters.take(), None);
        counters.answered(Some(200));
        counters.answered(Some(404));
        counters.answered(None);
        // These are no statuses of HTTP.
        counters.answered(Some(42));
        counters.answered(Some(700));
        counters.refused(Reject::NotFound);
        counters.signalled(Signal::UnknownRoute);
        assert!(counters.is_due(5 * SECOND));
        delta.add(&counters.take().unwrap());
        counters.answered(Some(299));
        assert!(!counters.is_due(5 * SECOND + 1) && counters.is_due(6 * SECOND));
        delta.add(&counters.take().unwrap());
        let Some(ToGuard::Counted(told)) = delta.message(3) else { panic!("nothing is told") };
        assert_eq!(told.answers, [0, 2, 0, 1, 0, 1]);
        let refused: Vec<_> = told.refused.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [&("not_found".to_owned(), 1)]);
        assert_eq!((told.signals.iter().sum::<u64>(), told.connections), (1, 3));
        assert_eq!(delta.message(3), None);
        assert!(delta.message(2).is_some(), "a connection has gone");
    }
}
