//! Counts the messages of gRPC in a body as they pass, and keeps none: what a prefix announces costs nothing.

use std::{cell::Cell, rc::Rc};

use crate::proxy::service::BodyError;

/// The length of what stands before every message.
const PREFIX: usize = 5;

/// Where in a stream of messages a body is.
pub(super) struct Messages {
    most: u64,
    prefix: [u8; PREFIX],
    /// How much of the prefix has come.
    begun: usize,
    /// How much of the message is left.
    left: u64,
    /// How many have begun.
    count: Rc<Cell<u64>>,
}

impl Messages {
    /// Messages of at most so many bytes, counted in `count`.
    pub(super) const fn new(most: u64, count: Rc<Cell<u64>>) -> Self {
        Self { most, prefix: [0; PREFIX], begun: 0, left: 0, count }
    }

    /// Reads along.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] before anything of a message that is too large has passed, [`BodyError::Broken`].
    pub(super) fn read(&mut self, mut piece: &[u8]) -> Result<(), BodyError> {
        while let Some((&first, rest)) = piece.split_first() {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
                self.left -= u64::try_from(taken).unwrap_or(self.left);
                piece = piece.get(taken..).unwrap_or_default();
                continue;
            }
            // Compressed or not: nothing else is said of a message.
            if self.begun == 0 && first > 1 {
                return Err(BodyError::Broken);
            }
            if let Some(place) = self.prefix.get_mut(self.begun) {
                *place = first;
            }
            self.begun += 1;
            piece = rest;
            if self.begun == PREFIX {
                let [_, length @ ..] = self.prefix;
                (self.begun, self.left) = (0, u64::from(u32::from_be_bytes(length)));
                self.count.set(self.count.get().saturating_add(1));
                if self.left > self.most {
                    return Err(BodyError::TooLarge);
                }
            }
        }
        Ok(())
    }

    /// Whether a message is whole.
    pub(super) const fn may_end(&self) -> bool {
        self.begun == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a body whose pieces are of `size`, and whether it may end there.
    #[track_caller]
    fn check(body: &[u8], expect: Result<bool, BodyError>) {
        for size in 1..=body.len().max(1) {
            let mut messages = Messages::new(10, Rc::default());
            let read = body.chunks(size).try_for_each(|piece| messages.read(piece));
            assert_eq!(read.map(|()| messages.may_end()), expect, "{body:?} in pieces of {size}");
        }
    }

    #[test]
    fn g02_messages() {
        check(b"", Ok(true));
        check(b"\0\0\0\0\0", Ok(true));
        check(b"\0\0\0\0\x02ab\x01\0\0\0\x01c", Ok(true));
        check(b"\0\0\0\0\x0a0123456789", Ok(true));
        check(b"\0\0\0\0\x02a", Ok(false));
        check(b"\0\0\0", Ok(false));
        check(b"\0\0\0\0\x0b", Err(BodyError::TooLarge));
        check(b"\0\0\0\0\x01a\x01\xff\xff\xff\xff", Err(BodyError::TooLarge));
        check(b"\x02\0\0\0\0", Err(BodyError::Broken));
        check(b"\0\0\0\0\x01ab", Err(BodyError::Broken));
    }
}
