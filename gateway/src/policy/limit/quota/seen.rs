//! What is known of other machines that share a quota, of one key, and what that leaves to this one.

/// What is known of the other machines, of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerUsage {
    /// In which period.
    pub(super) number: u32,
    /// What this machine had used up when the store spoke last, or when it saw the key first.
    pub(super) base: u64,
    /// What the others have used up: never less than was heard, as the store may have lost it.
    pub(super) others: u64,
    /// What the store knows more of this machine than this process.
    pub(super) excess: u64,
    /// When the store spoke last; 0: it did not.
    pub(super) answered: u64,
    /// The store cannot count it until then.
    pub(super) alone_until: u64,
    /// The number of the last word of an operator about it that was believed.
    pub(super) generation: u64,
    /// The highest number that the store has claimed: the next word has a higher one.
    pub(super) claimed: u64,
    /// The same of this machine's operators, and how often that was told.
    pub(super) set: u32,
    pub(super) set_told: u32,
    pub(super) is_asked: bool,
    /// How often the store has answered a word of this machine's operators with another number, and until when it is not
    /// asked again for that.
    pub(super) tries: u8,
    pub(super) paused_until: u64,
}

/// What a key may use up on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cap {
    /// All that it may have used up here.
    pub(super) most: u64,
    /// What is used up elsewhere.
    pub(super) others: u64,
}

impl PeerUsage {
    pub(super) const fn elsewhere(&self) -> u64 {
        self.others.saturating_add(self.excess)
    }
}
