//! What the guard's loop keeps of quotas besides their sums.

use super::writer::QuotaWriterHandle;

/// So many lines a second tell who has used up most of a quota.
const MOST_LINES: u32 = 20;

/// What the guard's loop keeps.
#[derive(Default)]
pub(crate) struct QuotaKeeping {
    /// `None`: there was no quota yet, or there can be no thread.
    pub(crate) writer: Option<QuotaWriterHandle>,
    /// It has a job.
    pub(crate) is_busy: bool,
    /// The file is open.
    pub(crate) is_open: bool,
    /// The guard serves: a proxy that it has started may lack what the file had. Those of the guard before know it.
    pub(crate) serves: bool,
    /// Why nothing can be written.
    pub(crate) trouble: Option<String>,
    /// What was found when the file was opened, if it was damaged.
    pub(crate) findings: Vec<String>,
    /// How often the file could not be written.
    pub(crate) failures: u64,
    lines: u32,
    unlogged: u64,
}

impl QuotaKeeping {
    /// Nothing is open yet. `finding`: what an operator should know already.
    pub(crate) fn new(finding: Option<String>) -> Self {
        Self { findings: finding.into_iter().collect(), ..Self::default() }
    }

    /// Whether it is known what the file has, or that it cannot be known.
    pub(crate) const fn is_settled(&self) -> bool {
        self.writer.is_none() || self.is_open || self.trouble.is_some()
    }

    /// Whether one more line is due in this second.
    pub(crate) const fn may_log(&mut self) -> bool {
        if self.lines >= MOST_LINES {
            self.unlogged += 1;
            return false;
        }
        self.lines += 1;
        true
    }

    /// A second is over. Returns how many lines were left out in it.
    pub(crate) const fn next_second(&mut self) -> u64 {
        self.lines = 0;
        std::mem::replace(&mut self.unlogged, 0)
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let trouble = self.trouble.iter().map(|why| {
            format!("quotas are counted in memory alone and will not survive a restart of the gateway: {why}")
        });
        trouble.chain(self.findings.iter().cloned())
    }
}
