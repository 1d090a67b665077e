//! Random numbers for tests, reproducible from the seed that the test prints.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::report;

/// A small generator (xorshift64*). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `GATEWAY_TEST_SEED`, or the clock; the seed is told.
    ///
    /// # Panics
    /// Before 1970.
    #[must_use]
    pub fn new() -> Self {
        let told = std::env::var("GATEWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed: u64 = told.unwrap_or_else(clock);
        report::note(&format!("GATEWAY_TEST_SEED={seed}"));
        Self(seed | 1 << 40)
    }

    /// From a seed that somebody else has told.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed | 1 << 40)
    }

    /// Another one, for somebody else.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX) | 1 << 40)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
