//! Reads samples of the packets that the kernel program drops.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{MapData, RingBuf};
use gateway_common::maps::{Event, name};

use super::error::{KernelError, refused};

/// The consumer's end of the ring.
pub(super) struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn open(map: aya::maps::Map) -> Result<Self, KernelError> {
        Ok(Self(map.try_into().map_err(refused(name::EVENTS, "opening"))?))
    }

    /// The oldest events, at most so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<Event> {
        let mut events = Vec::new();
        // Each costs an entry, also one that cannot be read: the producers never stop.
        for _ in 0..most {
            let Some(entry) = self.0.next() else { break };
            events.extend(read(&entry));
        }
        events
    }

    /// Readable while there are events: for whoever waits for them.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }
}

fn read(bytes: &[u8]) -> Option<Event> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let half = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    Some(Event {
        time: word(0)?,
        source: word(8)?,
        verdict: half(16)?,
        length: half(20)?,
        port: u16::from_ne_bytes(*bytes.get(24..)?.first_chunk()?),
        protocol: *bytes.get(26)?,
        reserved: 0,
        interface: half(28)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_read() {
        let mut bytes: Vec<u8> = (0..32).collect();
        let event = read(&bytes).unwrap();
        assert_eq!((event.port, event.protocol), (u16::from_ne_bytes([24, 25]), 26));
        assert_eq!(event.time, u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(event.interface, u32::from_ne_bytes([28, 29, 30, 31]));
        assert_eq!(event.length, u32::from_ne_bytes([20, 21, 22, 23]));
        bytes.truncate(26);
        assert_eq!(read(&bytes), None);
    }
}
