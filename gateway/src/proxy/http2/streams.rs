//! Keeps the streams of a connection (RFC 9113 5.1): which are open, where each is, which have something to do, and which
//! we have reset.
//!
//! A stream that is open has a slot. Its number is looked for in an array of its own, which is 128 numbers long at most.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc, task::Waker};

use super::{
    frame::ConnectionError,
    ready::{Ready, SLOTS},
    stream::Stream,
};

/// How many streams that we have reset are remembered: what was on its way to them harms nobody. All that there can be
/// at once may be reset at once, as when their upstream dies, and as many that came in their place.
const REMEMBERED: usize = 2 * SLOTS;

/// The streams of a connection. `B`: the body of a response.
pub(super) struct Streams<B> {
    /// Each stream at its slot, and its number; 0: the slot is free.
    streams: Vec<Option<Box<Stream<B>>>>,
    numbers: Vec<u32>,
    /// The waker of each slot.
    wakers: Vec<Waker>,
    active: usize,
    /// The last stream that the client has opened.
    last: u32,
    /// Some streams that we have reset, as runs of those that follow each other, and the last of them.
    reset: VecDeque<RangeInclusive<u32>>,
    last_reset: u32,
    /// The slots that were woken.
    ready: Arc<Ready>,
    /// The slots that have something to do in the next round, woken or not.
    next_round: u128,
}

impl<B> Streams<B> {
    pub(super) fn new() -> Self {
        Self {
            streams: Vec::new(),
            numbers: Vec::new(),
            wakers: Vec::new(),
            active: 0,
            last: 0,
            reset: VecDeque::new(),
            last_reset: 0,
            ready: Arc::default(),
            next_round: 0,
        }
    }

    /// The slot of a stream, if that is open.
    #[inline]
    pub(super) fn slot(&self, number: u32) -> Option<usize> {
        self.numbers.iter().position(|&known| known == number && known != 0)
    }

    /// The slot of a stream that the client must have opened; `None`: it is closed.
    ///
    /// # Errors
    /// The stream is idle.
    #[inline]
    pub(super) fn find(&self, number: u32) -> Result<Option<usize>, ConnectionError> {
        if number > self.last || number.is_multiple_of(2) {
            return Err(ConnectionError::protocol("frame on an idle stream"));
        }
        Ok(self.slot(number))
    }

    #[inline]
    pub(super) fn stream(&self, slot: usize) -> Option<&Stream<B>> {
        self.streams.get(slot)?.as_deref()
    }

    #[inline]
    pub(super) fn stream_mut(&mut self, slot: usize) -> Option<&mut Stream<B>> {
        self.streams.get_mut(slot)?.as_deref_mut()
    }

    /// All streams, with their slots.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Stream<B>)> {
        self.streams.iter_mut().enumerate().filter_map(|(slot, stream)| Some((slot, stream.as_deref_mut()?)))
    }

    #[inline]
    pub(super) fn waker(&self, slot: usize) -> Option<&Waker> {
        self.wakers.get(slot)
    }

    /// How many streams are open.
    pub(super) const fn active(&self) -> usize {
        self.active
    }

    /// Whether there are as many as there may be.
    pub(super) const fn is_full(&self) -> bool {
        self.active >= SLOTS
    }

    /// The last stream that the client has opened.
    pub(super) const fn last(&self) -> u32 {
        self.last
    }

    /// The client opens a stream: those before it that it has not opened are closed.
    pub(super) const fn open(&mut self, number: u32) {
        self.last = number;
    }

    /// A free slot, and its waker.
    pub(super) fn free_slot(&mut self) -> (usize, Waker) {
        let free = self.numbers.iter().position(|&number| number == 0);
        if let Some((slot, waker)) = free.and_then(|slot| Some((slot, self.wakers.get(slot)?.clone()))) {
            return (slot, waker);
        }
        let slot = self.numbers.len();
        let waker = self.ready.waker(slot);
        self.wakers.push(waker.clone());
        self.numbers.push(0);
        self.streams.push(None);
        (slot, waker)
    }

    /// Puts a new stream into a free slot. It has its turn in the next round.
    pub(super) fn insert(&mut self, slot: usize, stream: Stream<B>) {
        if let (Some(place), Some(number)) = (self.streams.get_mut(slot), self.numbers.get_mut(slot)) {
            *number = stream.id;
            *place = Some(Box::new(stream));
            self.active += 1;
        }
        self.schedule(slot);
    }

    /// Takes a stream out of its slot, which stays its own.
    #[inline]
    pub(super) fn take(&mut self, slot: usize) -> Option<Box<Stream<B>>> {
        self.streams.get_mut(slot)?.take()
    }

    /// Puts a stream back into its slot.
    #[inline]
    pub(super) fn put_back(&mut self, slot: usize, stream: Box<Stream<B>>) {
        if let Some(place) = self.streams.get_mut(slot) {
            *place = Some(stream);
        }
    }

    /// Frees the slot of a stream that is over.
    pub(super) fn vacate(&mut self, slot: usize) {
        if let Some(number) = self.numbers.get_mut(slot).filter(|number| **number != 0) {
            *number = 0;
            self.active -= 1;
        }
    }

    /// Gives the stream at `slot` its turn in the next round.
    #[inline]
    pub(super) const fn schedule(&mut self, slot: usize) {
        self.next_round |= 1 << slot;
    }

    /// The same for a set of slots.
    #[inline]
    pub(super) const fn schedule_all(&mut self, slots: u128) {
        self.next_round |= slots;
    }

    /// Whether some stream has its turn in the next round, woken or not.
    pub(super) const fn is_scheduled(&self) -> bool {
        self.next_round != 0
    }

    /// The slots whose turn it is.
    #[inline]
    pub(super) fn round(&mut self) -> u128 {
        self.ready.take() | std::mem::take(&mut self.next_round)
    }

    /// Who is woken while the connection rests: `waker`.
    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Remembers a stream that we have reset. Those that a client opens before it knows how many it may are refused in a
    /// row, however many they are, and their content comes when all of them are.
    pub(super) fn remember_reset(&mut self, number: u32) {
        let last = self.reset.back_mut().filter(|last| last.end().checked_add(2) == Some(number));
        if let Some(last) = last {
            *last = *last.start()..=number;
        } else {
            if self.reset.len() >= REMEMBERED {
                self.reset.pop_front();
            }
            self.reset.push_back(number..=number);
        }
        self.last_reset = self.last_reset.max(number);
    }

    /// Whether we have reset this stream not long ago.
    pub(super) fn was_reset(&self, number: u32) -> bool {
        // Mostly it is about a stream that has just been opened.
        number <= self.last_reset && self.reset.iter().any(|run| run.contains(&number))
    }

    /// Gives memory back that a connection without streams does not need.
    pub(super) fn shrink(&mut self) {
        (self.streams, self.numbers, self.wakers) = (Vec::new(), Vec::new(), Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(streams: &mut Streams<()>, number: u32) -> usize {
        streams.open(number);
        let (slot, _) = streams.free_slot();
        streams.insert(slot, Stream::new(number, super::super::stream::StreamState::Closed, None, 0));
        slot
    }

    #[test]
    fn streams_are_found_by_their_numbers() {
        let mut streams = Streams::new();
        assert_eq!((open(&mut streams, 1), open(&mut streams, 5), open(&mut streams, 7)), (0, 1, 2));
        assert_eq!((streams.active(), streams.last(), streams.round()), (3, 7, 0b111));
        assert_eq!((streams.find(5), streams.find(3)), (Ok(Some(1)), Ok(None)));
        for idle in [0, 2, 6, 9] {
            assert!(streams.find(idle).is_err(), "{idle}");
        }
        assert_eq!(streams.slot(0), None);
        streams.take(1).unwrap();
        assert_eq!(streams.find(5), Ok(Some(1)), "its slot is still its own");
        streams.vacate(1);
        streams.vacate(1);
        assert_eq!((streams.find(5), streams.active()), (Ok(None), 2));
        assert_eq!(open(&mut streams, 9), 1, "a free slot is used again");
        assert_eq!(streams.stream(1).map(|stream| stream.id), Some(9));
    }

    #[test]
    fn the_last_streams_that_were_reset_are_known() {
        let mut streams = Streams::<()>::new();
        (0..300).for_each(|number| streams.remember_reset(4 * number + 1));
        assert_eq!((streams.was_reset(4 * 43 + 1), streams.was_reset(4 * 44 + 1)), (false, true));
        // A client's streams have odd numbers: these follow each other, and count as one.
        (1_000..9_000).for_each(|number| streams.remember_reset(2 * number + 1));
        let known = [4 * 44 + 1, 4 * 45 + 1, 4 * 299 + 1, 2_001, 9_999, 17_999, 18_001].map(|it| streams.was_reset(it));
        assert_eq!(known, [false, true, true, true, true, true, false]);
        assert_eq!(streams.reset.len(), REMEMBERED);
    }
}
