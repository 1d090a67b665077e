//! Lookups that are under way: whoever asks for the same waits for the same answer.

use std::{collections::HashMap, hash::Hash};

/// What is under way, by what is asked for, each with those who wait for it.
pub(in crate::proxy) struct Flights<K, W> {
    flights: HashMap<K, Vec<W>>,
    /// The most at once.
    most: usize,
    /// The most that wait for one.
    most_waiting: usize,
}

/// What it means to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Joined {
    /// Nobody asks for it yet: begin.
    First,
    /// It is under way.
    Later,
    /// There is no room: whoever wanted to wait was dropped.
    Full,
}

impl<K: Hash + Eq, W> Flights<K, W> {
    /// None, and room for so many.
    pub(in crate::proxy) fn new(most: usize, most_waiting: usize) -> Self {
        Self { flights: HashMap::new(), most, most_waiting }
    }

    /// Waits for the answer.
    pub(in crate::proxy) fn join(&mut self, key: K, waiter: W) -> Joined {
        if let Some(waiting) = self.flights.get_mut(&key) {
            if waiting.len() >= self.most_waiting {
                return Joined::Full;
            }
            waiting.push(waiter);
            return Joined::Later;
        }
        if self.flights.len() >= self.most {
            return Joined::Full;
        }
        self.flights.insert(key, vec![waiter]);
        Joined::First
    }

    /// The answer has come: who waits for it.
    pub(in crate::proxy) fn land(&mut self, key: &K) -> Vec<W> {
        self.flights.remove(key).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flight_for_all_that_ask_for_the_same() {
        let mut flights = Flights::new(2, 3);
        let joined =
            [("a", 1), ("a", 2), ("b", 3), ("c", 4), ("a", 5), ("a", 6)].map(|(key, who)| flights.join(key, who));
        assert_eq!(joined, [Joined::First, Joined::Later, Joined::First, Joined::Full, Joined::Later, Joined::Full]);
        assert_eq!(flights.land(&"a"), [1, 2, 5]);
        assert_eq!(flights.land(&"a"), [0; 0]);
        assert_eq!(flights.join("a", 7), Joined::First);
    }
}
