//! Writes lines to a file or a pipe. A disk that is full never leaves half a line between two others.

use std::{
    fs::File,
    io::{self, Write},
    thread,
    time::Duration,
};

use crate::log::drops::{DropReason, Dropped, lines};

/// How often a pipe that takes nothing now is tried again, and how long.
const PAUSE: Duration = Duration::from_millis(10);
const TRIES: usize = 500;

/// A file that lines are appended to.
pub(in crate::log) struct FileOutput<F = File> {
    file: F,
    /// The rest of a line that was written in part. It comes before anything else.
    torn: Vec<u8>,
}

impl<F: Write> FileOutput<F> {
    pub(in crate::log) const fn new(file: F) -> Self {
        Self { file, torn: Vec::new() }
    }

    /// Appends whole lines.
    pub(in crate::log) fn write(&mut self, block: &[u8]) -> Dropped {
        if let Err((error, written)) = append(&mut self.file, &self.torn) {
            self.torn.drain(..written);
            return Some((reason(&error), lines(block)));
        }
        self.torn.clear();
        let Err((error, written)) = append(&mut self.file, block) else { return None };
        let (before, rest) = block.split_at_checked(written).unwrap_or((block, &[]));
        let dropped = if before.last().is_none_or(|last| *last == b'\n') {
            rest
        } else {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (torn, dropped) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.torn.extend_from_slice(torn);
            dropped
        };
        Some((reason(&error), lines(dropped)))
    }

    /// Goes on with another file. What is left of a line belongs to the one before.
    pub(in crate::log) fn reopen(&mut self, file: F) -> Dropped {
        let torn = std::mem::take(&mut self.torn);
        let failed = append(&mut self.file, &torn).err();
        self.file = file;
        failed.map(|(error, _)| (reason(&error), 1))
    }
}

/// Appends all of it, or says how much was.
fn append(file: &mut impl Write, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let (mut written, mut tries) = (0, 0);
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(count) => {
                written += count;
                tries = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

fn reason(error: &io::Error) -> DropReason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => DropReason::DiskFull,
        io::ErrorKind::WouldBlock => DropReason::TooSlow,
        _ => DropReason::Unwritable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    #[derive(Default)]
    struct LogDisk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for LogDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.written.len());
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes three lines to a disk with so much room, makes room, and writes another.
    #[track_caller]
    fn check(room: usize, dropped: Dropped, expect: &str) {
        let mut output = FileOutput::new(LogDisk { room, ..LogDisk::default() });
        assert_eq!(output.write(b"one\ntwo\nthree\n"), dropped, "{room}");
        output.file.room = 100;
        assert_eq!(output.write(b"four\n"), None, "{room}");
        assert_eq!(std::str::from_utf8(&output.file.written).unwrap(), expect, "{room}");
    }

    #[test]
    fn a_full_disk_loses_whole_lines() {
        let full = |lines| Some((DropReason::DiskFull, lines));
        check(14, None, "one\ntwo\nthree\nfour\n");
        check(13, full(0), "one\ntwo\nthree\nfour\n");
        check(9, full(0), "one\ntwo\nthree\nfour\n");
        check(8, full(1), "one\ntwo\nfour\n");
        check(7, full(1), "one\ntwo\nfour\n");
        check(5, full(1), "one\ntwo\nfour\n");
        check(4, full(2), "one\nfour\n");
        check(1, full(2), "one\nfour\n");
        check(0, full(3), "four\n");
    }

    #[test]
    fn what_is_torn_stays_in_its_file() {
        let mut output = FileOutput::new(LogDisk { room: 5, ..LogDisk::default() });
        assert_eq!(output.write(b"one\ntwo\n"), Some((DropReason::DiskFull, 0)));
        assert_eq!(output.write(b"three\n"), Some((DropReason::DiskFull, 1)), "the disk is full still");
        assert_eq!(output.reopen(LogDisk { room: 100, ..LogDisk::default() }), Some((DropReason::DiskFull, 1)));
        assert_eq!(output.write(b"four\n"), None);
        assert_eq!(output.file.written, b"four\n");
    }
}
