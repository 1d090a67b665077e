//! How lines get out of the process without a worker ever waiting: whole blocks, handed to one thread for each output.
//!
//! *Invariant:* what is under way is bounded; blocks that an output is too slow for are dropped and counted.

use std::{
    cell::RefCell,
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    drops::{DropCounts, DropReason, Drops, lines},
    output::{CompiledOutput, OutputTarget},
};
use crate::{
    collections::swap::Swap,
    os::{self, SchedulingPolicy, clock, program_log::sparse::Sparse},
};

/// How large a block may grow before it is handed over, in bytes.
const BLOCK: usize = 32 * 1_024;

/// How many bytes wait at most for one output, over all workers.
const WAITING_BYTES: usize = 8 << 20;

/// How many blocks wait at most for one output. Every worker hands over a small one each 50 ms: with 64 workers that are
/// more than ten seconds.
const WAITING: usize = 16_384;

/// How often somebody who waits for the end looks.
const LOOK: Duration = Duration::from_millis(10);

enum Job {
    Reopen(File),
    Write(Arc<Vec<u8>>),
}

/// Where workers hand their blocks.
#[derive(Clone)]
pub struct Sink {
    queues: Arc<Swap<Vec<OutputQueue>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    drops: Arc<Drops>,
}

/// The queue of one output.
#[derive(Clone)]
struct OutputQueue {
    output: CompiledOutput,
    jobs: SyncSender<Job>,
    /// How many bytes wait in it, with those that are being written.
    waiting: Arc<AtomicUsize>,
    /// A file that found the queue full.
    late: Arc<Mutex<Option<File>>>,
}

/// Outputs that are ready to be written to. Without being used they end.
pub struct OpenOutputs {
    queues: Vec<OutputQueue>,
    /// Those that were there before, and go on with another file.
    reopened: Vec<(OutputQueue, File)>,
}

impl Sink {
    /// Starts a thread for each output. `files`: what the guard has opened for them, in their order.
    ///
    /// # Errors
    /// No thread can be started, or a file is missing.
    pub fn start(outputs: &[CompiledOutput], files: impl IntoIterator<Item = File>) -> io::Result<Self> {
        let sink = Self { queues: Arc::new(Swap::new(Vec::new())), threads: Arc::default(), drops: Arc::default() };
        sink.change(sink.open_all(outputs, files)?);
        Ok(sink)
    }

    /// Opens these outputs, to be changed to later. One that is there already goes on as it is, with its new file if it has
    /// one.
    ///
    /// # Errors
    /// As [`Self::start`]; then nothing has changed.
    pub fn open_all(
        &self,
        outputs: &[CompiledOutput],
        files: impl IntoIterator<Item = File>,
    ) -> io::Result<OpenOutputs> {
        let (before, mut files) = (self.queues.load(), files.into_iter());
        let (mut queues, mut reopened) = (Vec::new(), Vec::new());
        for output in outputs {
            let file = if output.settings.is_opened() { files.next() } else { None };
            match before.iter().find(|queue| queue.output.settings.is_same_place(&output.settings)) {
                Some(queue) => {
                    queues.push(queue.clone());
                    reopened.extend(file.map(|file| (queue.clone(), file)));
                }
                None => queues.push(self.open(output, file)?),
            }
        }
        Ok(OpenOutputs { queues, reopened })
    }

    /// Goes on with outputs that were opened. One that is gone still writes what waits for it.
    pub fn change(&self, OpenOutputs { queues, reopened }: OpenOutputs) {
        reopened.into_iter().for_each(|(queue, file)| queue.reopen(file));
        self.queues.store(queues);
    }

    fn open(&self, output: &CompiledOutput, file: Option<File>) -> io::Result<OutputQueue> {
        let what = output.settings.describe();
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("the guard sent no file for {what}"));
        let target = output.target(file).ok_or_else(missing)?;
        let (jobs, queue) = sync_channel(WAITING);
        let (late, waiting) = (Arc::default(), Arc::default());
        let (drops, other, count) = (Arc::clone(&self.drops), Arc::clone(&late), Arc::clone(&waiting));
        let thread = thread::Builder::new().name("access-log".into());
        let thread = thread
            .spawn(move || write_all(&queue, target, &Shared { late: &other, waiting: &count }, &drops, &what))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(OutputQueue { output: output.clone(), jobs, waiting, late })
    }

    /// Writes to another file from here on: that of the output which is so many among those that the guard opens. Where
    /// the disk is so slow that the queue is half full, what waits in it goes to that file as well: nobody waits here.
    pub fn reopen(&self, place: usize, file: File) {
        let queues = self.queues.load();
        let mut opened = queues.iter().filter(|queue| queue.output.settings.is_opened());
        if let Some(queue) = opened.nth(place) {
            queue.reopen(file);
        }
    }

    /// How many lines were dropped, by reason. One that several outputs dropped counts for each.
    #[must_use]
    pub fn dropped(&self) -> DropCounts {
        self.drops.counts()
    }

    /// How many bytes wait for the outputs.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.load().iter().map(|queue| queue.waiting.load(Ordering::Relaxed)).sum()
    }

    /// Lets every output write what waits for it, for at most so long: a server that is gone keeps nobody from ending.
    pub fn finish(&self, timeout: Duration) {
        self.queues.store(Vec::new());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let end = Instant::now() + timeout;
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    fn hand_over(&self, block: Vec<u8>) {
        let block = Arc::new(block);
        for queue in self.queues.load().iter() {
            if !queue.takes(&block) {
                self.drops.add(DropReason::TooSlow, lines(&block));
            }
        }
    }
}

impl OutputQueue {
    /// Puts a block into the queue. `false`: there is no room.
    fn takes(&self, block: &Arc<Vec<u8>>) -> bool {
        let size = block.len();
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        let has_room = before.saturating_add(size) <= WAITING_BYTES;
        let is_sent = has_room && self.jobs.try_send(Job::Write(Arc::clone(block))).is_ok();
        if !is_sent {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
        }
        is_sent
    }

    fn reopen(&self, file: File) {
        // A new file at the end of a long queue would come late: the disk of the old one may take nothing at all.
        let sent = match self.waiting.load(Ordering::Relaxed) > WAITING_BYTES / 2 {
            true => Err(TrySendError::Full(Job::Reopen(file))),
            false => self.jobs.try_send(Job::Reopen(file)),
        };
        if let Err(TrySendError::Full(Job::Reopen(file))) = sent
            && let Ok(mut late) = self.late.lock()
        {
            *late = Some(file);
        }
    }
}

/// What a queue and its thread both have.
struct Shared<'a> {
    late: &'a Mutex<Option<File>>,
    waiting: &'a AtomicUsize,
}

fn write_all(queue: &Receiver<Job>, mut target: OutputTarget, shared: &Shared<'_>, drops: &Drops, what: &str) {
    // Nobody waits for it, so it interrupts nobody.
    os::schedule(SchedulingPolicy::Batch).unwrap_or_default();
    let told = Sparse::default();
    let note = |dropped: Option<(DropReason, u64)>| {
        let Some((reason, lines)) = dropped.filter(|(_, lines)| *lines > 0) else { return };
        drops.add(reason, lines);
        if let Some(others) = told.is_due(clock::monotonic()) {
            let reason = reason.name();
            tracing::warn!(output = what, lines, reason, others, "lines of the access log are dropped");
        }
    };
    for job in queue {
        if let Some(file) = shared.late.lock().ok().and_then(|mut late| late.take()) {
            note(target.reopen(file));
        }
        note(match job {
            Job::Reopen(file) => target.reopen(file),
            Job::Write(block) => {
                let dropped = target.write(&block);
                shared.waiting.fetch_sub(block.len(), Ordering::Relaxed);
                dropped
            }
        });
    }
}

/// One worker's lines that have not been handed over yet.
pub struct LogBuffer {
    block: RefCell<Vec<u8>>,
    sink: Sink,
}

impl LogBuffer {
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
        let mut block = self.block.borrow_mut();
        if block.is_empty() {
            return;
        }
        // A small block waits in as much memory as it has bytes.
        let waits = if block.len() < BLOCK / 2 { block.clone() } else { std::mem::take(&mut *block) };
        block.clear();
        self.sink.hand_over(waits);
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
