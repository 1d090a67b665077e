//! Sums what proxies count of requests. Sums outlast the proxies that they come from.

use std::collections::BTreeMap;

use crate::{
    config::is_name,
    guard::control::RequestsStatus,
    message::{ANSWERS, Counted, MAX_LABELS, add_counts},
    signal::Signal,
};

/// What was counted since the guard started.
#[derive(Default)]
pub(crate) struct ProxyCounts {
    answers: [u64; ANSWERS.len()],
    refused: BTreeMap<String, u64>,
    signals: [u64; Signal::ALL.len()],
    /// Clients' connections by the proxy that has them, as it said last.
    connections: BTreeMap<u64, u64>,
}

impl ProxyCounts {
    /// A proxy has counted. Whatever has no place is ignored.
    pub(crate) fn hear(&mut self, generation: u64, counted: &Counted) {
        add_counts(&mut self.answers, &counted.answers);
        for (label, count) in &counted.refused {
            // Nothing is believed of a proxy but what can be shown.
            if let Some(sum) = self.refused.get_mut(label) {
                *sum = sum.saturating_add(*count);
            } else if self.refused.len() < MAX_LABELS && is_name(label) {
                self.refused.insert(label.clone(), *count);
            }
        }
        add_counts(&mut self.signals, &counted.signals);
        self.connections.insert(generation, counted.connections);
    }

    /// A proxy is gone, and its connections are.
    pub(crate) fn gone(&mut self, generation: u64) {
        self.connections.remove(&generation);
    }

    /// As it is told, every kind named.
    pub(crate) fn told(&self) -> RequestsStatus {
        let named = |names: &[&str], counts: &[u64]| {
            names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        RequestsStatus {
            answers: named(&ANSWERS, &self.answers),
            refused: self.refused.clone(),
            signals: named(&Signal::ALL.map(Signal::name), &self.signals),
            connections: self.connections.values().fold(0, |sum, count| sum.saturating_add(*count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_outlast_proxies_and_connections_do_not() {
        let mut counts = ProxyCounts::default();
        let said = |ok, connections| Counted {
            answers: vec![0, ok, 0, 0, 0, 0, 99],
            refused: vec![("banned".to_owned(), 1), ("a b".to_owned(), 1)],
            signals: vec![u64::MAX; 100],
            connections,
        };
        counts.hear(1, &said(5, 10));
        counts.hear(2, &said(7, 20));
        counts.hear(2, &said(0, u64::MAX));
        let told = counts.told();
        assert_eq!((told.answers["2xx"], told.refused["banned"], told.refused.len()), (12, 3, 1));
        assert_eq!((told.signals["forged_token"], told.connections), (u64::MAX, u64::MAX));
        counts.gone(2);
        let told = counts.told();
        assert_eq!((told.answers["2xx"], told.connections), (12, 10));
        let many = (0..100).map(|number| (format!("label-{number}"), 1)).collect();
        counts.hear(3, &Counted { refused: many, ..Counted::default() });
        assert_eq!(counts.told().refused.len(), MAX_LABELS);
    }
}
