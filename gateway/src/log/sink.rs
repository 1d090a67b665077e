//! Writes log lines to disk in whole blocks, on a thread of its own, so that no worker ever waits for the disk.
//!
//! *Invariant:* what is under way is bounded; blocks that the disk is too slow for are dropped and counted.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use crate::os::{self, Policy};

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
    /// A file that found the queue full.
    late: Arc<Mutex<Option<File>>>,
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
        let late = Arc::default();
        let (counter, other) = (Arc::clone(&lost), Arc::clone(&late));
        let thread = std::thread::Builder::new().name("access-log".into());
        let thread = thread.spawn(move || write(&queue, file, &other, &counter))?;
        Ok((Self { jobs, late, lost }, thread))
    }

    /// Writes to another file from here on. Where the disk is so slow that the queue is full, what waits in it goes to
    /// that file as well: nobody waits here.
    pub fn reopen(&self, file: File) {
        if let Err(TrySendError::Full(Job::Reopen(file))) = self.jobs.try_send(Job::Reopen(file))
            && let Ok(mut late) = self.late.lock()
        {
            *late = Some(file);
        }
    }

    /// How many lines never reached the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn hand_over(&self, block: Vec<u8>) {
        if let Err(error) = self.jobs.try_send(Job::Write(block)) {
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = error;
            if let Job::Write(block) = job {
                count(&self.lost, &block);
            }
        }
    }
}

fn write(queue: &Receiver<Job>, mut file: File, late: &Mutex<Option<File>>, lost: &AtomicU64) {
    // Nobody waits for it, so it interrupts nobody.
    os::schedule(Policy::Batch).unwrap_or_default();
    for job in queue {
        if let Some(other) = late.lock().ok().and_then(|mut late| late.take()) {
            file = other;
        }
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
    fn a_slow_disk_keeps_nobody_from_reopening() {
        // A pipe that nobody reads is full soon.
        let (mut reader, writer) = io::pipe().unwrap();
        let (sink, thread) = Sink::start(File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
        let block = vec![b'x'; 128 * 1_024];
        while sink.lost() == 0 {
            sink.hand_over([&block[..], b"\n"].concat());
        }
        let other = memory();
        sink.reopen(other.try_clone().unwrap());
        let read = std::thread::spawn(move || {
            let mut first = vec![0; 128 * 1_024 + 1];
            reader.read_exact(&mut first).unwrap();
        });
        read.join().unwrap();
        drop(sink);
        thread.join().unwrap();
        assert!(other.metadata().unwrap().len() > 128 * 1_024, "what waited went there");
    }

    #[test]
    fn lost_lines_are_counted() {
        let (sink, thread) = Sink::start(File::open("/dev/null").unwrap()).unwrap();
        let lines = Lines::new(sink.clone());
        lines.add(|out| out.extend_from_slice(b"one\ntwo\n"));
        drop(lines);
        let Sink { jobs, lost, .. } = sink;
        drop(jobs);
        thread.join().unwrap();
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }
}
