//! The thread that writes what was used up of quotas, so that nobody waits for the disk.

use std::{
    path::PathBuf,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    book::QuotaRows,
    store::{QuotaStore, QuotaStoreError, note_written},
};
use crate::os::clock::Now;

/// How long a stop waits for the last rows.
const LAST: Duration = Duration::from_secs(3);

/// Work for the thread.
pub(crate) enum QuotaJob {
    /// Open the file, and read it if it was never read.
    Open,
    /// Write this, in parts, whatever has failed before: there is no next time.
    Last(Vec<Vec<QuotaRows>>),
    /// Write this.
    Write(Vec<QuotaRows>),
}

/// What the thread has done.
pub(crate) struct QuotaWork {
    /// What the file had, the first time that it could be read.
    pub(crate) loaded: Option<Vec<QuotaRows>>,
    /// Why it could not be done: nothing was written.
    pub(crate) trouble: Option<String>,
    /// What an operator should know: a file was damaged.
    pub(crate) finding: Option<String>,
}

/// The way to the thread.
pub(crate) struct QuotaWriterHandle {
    jobs: mpsc::SyncSender<QuotaJob>,
    thread: JoinHandle<()>,
}

impl QuotaWriterHandle {
    /// Starts the thread, which calls `done` for each job, and ends once nobody can give it one.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(
        state_dir: PathBuf,
        boot: String,
        done: impl Fn(QuotaWork) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(2);
        let thread = thread::Builder::new().name("quotas".to_owned()).spawn(move || {
            let mut writer = QuotaWriterState::new(state_dir, boot);
            while let Ok(job) = queue.recv() {
                done(writer.work(job));
            }
        })?;
        Ok(Self { jobs, thread })
    }

    /// Gives it a job; whether it has taken it.
    pub(crate) fn ask(&self, job: QuotaJob) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// Has it write the last rows, and waits for that a moment.
    pub(crate) fn finish(self, last: Vec<Vec<QuotaRows>>) {
        let until = Instant::now() + LAST;
        let mut job = Some(QuotaJob::Last(last));
        while let Some(waits) = job.take() {
            match self.jobs.try_send(waits) {
                Err(mpsc::TrySendError::Full(waits)) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(5));
                    job = Some(waits);
                }
                _ => {}
            }
        }
        drop(self.jobs);
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the thread keeps.
struct QuotaWriterState {
    state_dir: PathBuf,
    boot: String,
    /// `None`: it cannot be used at the moment.
    store: Option<QuotaStore>,
    is_read: bool,
    /// It is noted that the file has counts, or that this cannot be noted.
    is_noted: bool,
    /// What could not be written last. The guard has all of it written again, if it has the time.
    failed: Vec<QuotaRows>,
}

impl QuotaWriterState {
    const fn new(state_dir: PathBuf, boot: String) -> Self {
        Self { state_dir, boot, store: None, is_read: false, is_noted: false, failed: Vec::new() }
    }

    fn work(&mut self, job: QuotaJob) -> QuotaWork {
        let mut worked = QuotaWork { loaded: None, trouble: None, finding: None };
        let done = match job {
            QuotaJob::Open => self.open(&mut worked),
            QuotaJob::Last(parts) => self.write_last(parts, &mut worked),
            QuotaJob::Write(changed) => self.write(changed),
        };
        worked.trouble = done.err();
        worked
    }

    fn write(&mut self, changed: Vec<QuotaRows>) -> Result<(), String> {
        self.failed = Vec::new();
        let store = self.store.as_mut().ok_or("it is not open")?;
        store.write(&changed, Now::read()).map_err(|error| {
            // A file that turns out to be damaged is set aside when it is opened again.
            (self.store, self.failed) = (None, changed);
            error.to_string()
        })?;
        if !std::mem::replace(&mut self.is_noted, true)
            && let Err(error) = note_written(&self.state_dir)
        {
            tracing::warn!(%error, "it will not be noticed if the file of quotas is lost");
        }
        Ok(())
    }

    fn write_last(&mut self, parts: Vec<Vec<QuotaRows>>, worked: &mut QuotaWork) -> Result<(), String> {
        let failed = std::mem::take(&mut self.failed);
        // What was never read may know more than these rows.
        if self.store.is_none() && self.is_read {
            self.open(worked)?;
        }
        std::iter::once(failed).chain(parts).try_for_each(|part| self.write(part))
    }

    fn open(&mut self, worked: &mut QuotaWork) -> Result<(), String> {
        let told = |error: QuotaStoreError| error.to_string();
        let (mut store, finding) = QuotaStore::open(&self.state_dir, &self.boot).map_err(told)?;
        worked.finding = finding;
        if !self.is_read {
            if worked.finding.is_none() {
                worked.finding = store.find_loss(&self.state_dir).map_err(told)?;
            }
            let loaded = match store.load(Now::read()) {
                // Its pages are sound, and what they hold is not.
                Err(error) if error.is_damage() => {
                    drop(store);
                    let anew = QuotaStore::begin_anew(&self.state_dir, &self.boot, &error).map_err(told)?;
                    (store, worked.finding) = (anew.0, Some(anew.1));
                    Vec::new()
                }
                loaded => {
                    let (rows, left_out) = loaded.map_err(told)?;
                    worked.finding = worked.finding.take().or(left_out);
                    rows
                }
            };
            worked.loaded = Some(loaded);
            self.is_read = true;
        }
        self.store = Some(store);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{super::store::FILE, *};
    use crate::policy::limit::quota::QuotaSpan;

    /// What fails just before the gateway stops is written with the last rows: the guard cannot have it written again.
    #[test]
    fn what_failed_is_written_at_the_end() {
        let folder = std::env::temp_dir().join(format!("gateway-quota-writer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let now = Now::read();
        let end = i64::try_from(now.unix_millis).unwrap() + 3_600_000;
        let span = QuotaSpan {
            start: end - 86_400_000,
            end,
            again: 0,
            ends: now.monotonic + 3_600 * crate::os::clock::SECOND,
        };
        let rows = |rows: &[(u64, u64)]| {
            let rows = rows.iter().map(|(key, units)| (*key, *units, None)).collect();
            let (name, counts) = ("daily".to_owned(), "requests".to_owned());
            vec![QuotaRows { name, counts, span, is_new: false, rows, words: Vec::new() }]
        };
        let new_writer = || QuotaWriterState::new(folder.clone(), "one".to_owned());
        let mut writer = new_writer();
        assert_eq!(writer.work(QuotaJob::Last(vec![rows(&[(9, 9)])])).trouble.as_deref(), Some("it is not open"));
        assert_eq!(writer.work(QuotaJob::Open).trouble, None);
        assert_eq!(writer.work(QuotaJob::Write(rows(&[(1, 1), (2, 1)]))).trouble, None);
        let other = rusqlite::Connection::open(folder.join(FILE)).unwrap();
        let full = "CREATE TRIGGER full BEFORE INSERT ON used BEGIN SELECT RAISE(ABORT, 'full'); END";
        other.execute_batch(full).unwrap();
        assert!(writer.work(QuotaJob::Write(rows(&[(1, 2), (3, 2)]))).trouble.unwrap().contains("full"));
        other.execute_batch("DROP TRIGGER full").unwrap();
        assert_eq!(writer.work(QuotaJob::Last(vec![rows(&[(1, 3)]), rows(&[(4, 3)])])).trouble, None);
        let mut loaded = new_writer().work(QuotaJob::Open).loaded.unwrap().remove(0).rows;
        loaded.sort_unstable();
        let loaded: Vec<_> = loaded.into_iter().map(|(key, units, _)| (key, units)).collect();
        assert_eq!(loaded, [(1, 3), (2, 1), (3, 2), (4, 3)]);
        fs::remove_dir_all(&folder).unwrap();
    }

    /// The file is no more, or has nothing, while nobody has it open: each loss is told once, and no first start is one.
    #[test]
    fn a_lost_file_is_told() {
        type Spoil = fn(&Path);
        let now = Now::read();
        let end = i64::try_from(now.unix_millis).unwrap() + 3_600_000;
        let span = QuotaSpan {
            start: end - 86_400_000,
            end,
            again: 0,
            ends: now.monotonic + 3_600 * crate::os::clock::SECOND,
        };
        let written = || {
            let (name, counts) = ("daily".to_owned(), "requests".to_owned());
            let (rows, words) = (vec![(1, 1, None)], Vec::new());
            vec![QuotaRows { name, counts, span, is_new: false, rows, words }]
        };
        let table: [(&str, bool, Spoil, Option<&str>); 6] = [
            ("kept", true, |_| {}, None),
            ("missing", true, |file| fs::remove_file(file).unwrap(), Some("was missing or empty")),
            ("emptied", true, |file| fs::write(file, b"").unwrap(), Some("was missing or empty")),
            ("damaged", true, |file| fs::write(file, [7; 9_000]).unwrap(), Some("was set aside")),
            ("never written, missing", false, |file| fs::remove_file(file).unwrap(), None),
            ("never written, emptied", false, |file| fs::write(file, b"").unwrap(), None),
        ];
        for (number, (case, is_written, spoil, expect)) in table.into_iter().enumerate() {
            let folder = std::env::temp_dir().join(format!("gateway-quota-lost-{number}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let open = || {
                let mut writer = QuotaWriterState::new(folder.clone(), "one".to_owned());
                let worked = writer.work(QuotaJob::Open);
                assert_eq!(worked.trouble, None, "{case}");
                (writer, worked.finding)
            };
            let (mut writer, finding) = open();
            assert_eq!(finding, None, "{case}: the first start");
            if is_written {
                assert_eq!(writer.work(QuotaJob::Write(written())).trouble, None, "{case}");
            }
            drop(writer);
            for ending in ["-wal", "-shm"] {
                fs::remove_file(folder.join(format!("{FILE}{ending}"))).unwrap_or_default();
            }
            spoil(&folder.join(FILE));
            let (_, finding) = open();
            let is_expected = |text: &str| finding.as_ref().is_some_and(|finding| finding.contains(text));
            assert!(expect.map_or(finding.is_none(), is_expected), "{case}: {finding:?}");
            assert_eq!(open().1, None, "{case}: it is told once");
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}
