//! Decides how lines reach the disk without a worker ever waiting for it: whole blocks, handed to one writing thread.
//!
//! *Invariant:* what is under way is bounded; blocks that the disk is too slow for are dropped and counted.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// How large a block may grow before it is handed over, in bytes.
const BLOCK: usize = 32 * 1_024;

/// How many blocks wait at most for the disk, over all workers.
const WAITING: usize = 256;

enum Job {
    Reopen(File),
    Write(Vec<u8>),
}

/// Where workers hand their blocks.
#[derive(Clone)]
pub struct Sink {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Starts the thread that writes to `file`. It ends with the last [`Sink`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(file: File) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let thread =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write(&queue, file, &counter))?;
        Ok((Self { jobs, lost }, thread))
    }

    /// Writes to another file from here on.
    pub fn reopen(&self, file: File) {
        // The thread lives as long as this handle does.
        self.jobs.send(Job::Reopen(file)).unwrap_or_default();
    }

    /// How many lines never reached the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn hand_over(&self, block: Vec<u8>) {
        if let Err(error) = self.jobs.try_send(Job::Write(block)) {
            let (std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job)) = error;
            if let Job::Write(block) = job {
                count(&self.lost, &block);
            }
        }
    }
}

fn write(queue: &Receiver<Job>, mut file: File, lost: &AtomicU64) {
    for job in queue {
        match job {
            Job::Reopen(other) => file = other,
            Job::Write(block) => {
                if file.write_all(&block).is_err() {
                    count(lost, &block);
                }
            }
        }
    }
}

fn count(lost: &AtomicU64, block: &[u8]) {
    let lines = block.iter().filter(|&&byte| byte == b'\n').count();
    lost.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// One worker's lines that have not been handed over yet.
pub struct Lines {
    block: RefCell<Vec<u8>>,
    sink: Sink,
}

impl Lines {
    /// An empty block on its way to `sink`.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        Self { block: RefCell::default(), sink }
    }

    /// Adds a line, which `write` appends to what it is given.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut block = self.block.borrow_mut();
        if block.capacity() == 0 {
            block.reserve_exact(BLOCK + BLOCK / 4);
        }
        write(&mut block);
        if block.len() >= BLOCK {
            self.sink.hand_over(std::mem::take(&mut block));
        }
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        let block = std::mem::take(&mut *self.block.borrow_mut());
        if !block.is_empty() {
            self.sink.hand_over(block);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    fn memory() -> File {
        rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
    }

    #[track_caller]
    fn check(mut file: File, expect: &str) {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, expect);
    }

    #[test]
    fn lines_reach_the_file_that_is_open() {
        let (first, second) = (memory(), memory());
        let (sink, thread) = Sink::start(first.try_clone().unwrap()).unwrap();
        let lines = Lines::new(sink.clone());
        lines.add(|out| out.extend_from_slice(b"one\n"));
        lines.flush();
        sink.reopen(second.try_clone().unwrap());
        lines.add(|out| out.extend_from_slice(b"two\n"));
        drop((lines, sink));
        thread.join().unwrap();
        check(first, "one\n");
        check(second, "two\n");
    }

    #[test]
    fn lost_lines_are_counted() {
        let (sink, thread) = Sink::start(File::open("/dev/null").unwrap()).unwrap();
        let lines = Lines::new(sink.clone());
        lines.add(|out| out.extend_from_slice(b"one\ntwo\n"));
        drop(lines);
        let Sink { jobs, lost } = sink;
        drop(jobs);
        thread.join().unwrap();
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }
}
