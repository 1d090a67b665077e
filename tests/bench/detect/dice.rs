//! Chance that is the same each time: every run of one version throws the same dice.

use gateway::os::clock::SECOND;

/// A small generator (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.draw() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }

    /// Less than `most`, which is not 0.
    pub(super) fn below(&mut self, most: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(most.max(1))).unwrap_or(0)
    }

    pub(super) fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most - least + 1)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Nanoseconds until something that happens by chance, once in so many seconds.
    pub(super) fn pause(&mut self, seconds: f64) -> u64 {
        whole(-(1.0 - self.unit()).max(1e-9).ln() * seconds * 1e9)
    }

    /// A moment of a minute that begins at `at`.
    pub(super) fn moment(&mut self, at: u64) -> u64 {
        at + self.draw() % (60 * SECOND)
    }

    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// How often something happens that happens `mean` times, by chance (Poisson).
    pub(super) fn count(&mut self, mean: f64) -> u32 {
        if mean > 40.0 {
            return u32::try_from(whole(mean + self.normal() * mean.sqrt() + 0.5)).unwrap_or(u32::MAX);
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > least {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// The whole part of a number; 0 for what is less.
pub(super) fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is no such number becomes 0 or the most"
    )]
    let whole = number as u64;
    whole
}
