//! Bytes as a network brings them, in pieces: what is read must not depend on where they were cut.

use bytes::Bytes;

/// Where bytes are cut.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Cut {
    /// At places that follow from a number.
    Odd(u64),
    /// Behind every byte.
    Single,
    /// Nowhere.
    Whole,
}

impl Cut {
    /// Some ways to cut these bytes, always the same ones for the same bytes.
    pub(in crate::proxy) fn ways(bytes: &[u8]) -> [Self; 3] {
        let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        [Self::Odd(seed), Self::Odd(!seed), Self::Single]
    }
}

/// The pieces of some bytes.
pub(in crate::proxy) struct Pieces<'a> {
    rest: &'a [u8],
    cut: Cut,
}

impl<'a> Pieces<'a> {
    pub(in crate::proxy) const fn new(bytes: &'a [u8], cut: Cut) -> Self {
        Self { rest: bytes, cut }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = match &mut self.cut {
            Cut::Odd(state) => {
                // An xorshift.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                1 + usize::try_from(*state % 61).unwrap_or_default()
            }
            Cut::Single => 1,
            Cut::Whole => self.rest.len(),
        };
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        (!piece.is_empty()).then(|| Bytes::copy_from_slice(piece))
    }
}

/// The same bytes with one thing wrong, at every place.
#[cfg(test)]
pub(in crate::proxy) fn spoiled(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).flat_map(move |at| {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut spoiled = bytes.to_vec();
            change(&mut spoiled);
            spoiled
        };
        [
            with(&|it| it[at] ^= 1),
            with(&|it| it[at] ^= 0x20),
            with(&|it| it[at] = 0xff),
            with(&|it| it.insert(at, b' ')),
            with(&|it| it.truncate(at)),
            with(&|it| {
                it.remove(at);
            }),
            with(&|it| it.extend_from_within(at..)),
        ]
    })
}
