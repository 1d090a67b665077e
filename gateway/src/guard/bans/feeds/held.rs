//! Holds back the lines of a feed that would block good clients. They are judged again once a minute, until those
//! clients are no longer good.
//!
//! *Invariant:* at most [`MOST`] lines of a file are held; those beyond are judged again when the file changes. A guard
//! that starts knows no good clients, so it holds nothing, and what was held waits for the file to change.

use super::{plan::UpdateKind, *};
use crate::text::counted::counted;

impl Feeds {
    /// A file's list is in force, but for these lines. None are held of what it was before.
    pub(super) fn hold(&mut self, row: &FeedRow, holding: Holding, read: u64) {
        match holding {
            Holding { first: Some(first), entries } => {
                self.held.insert(row.name.clone(), FeedFile { row: row.clone(), read, first, entries });
            }
            Holding { first: None, .. } => drop(self.held.remove(&row.name)),
        }
    }

    /// What `status` says of lines that are held.
    pub(super) fn held_warnings(&self) -> impl Iterator<Item = String> {
        self.held.iter().map(|(name, held)| {
            let ListRefusal { line, code, message, .. } = &held.first;
            let count = counted(
                held.entries.len(),
                "entry is not loaded while it would block good clients",
                "entries are not loaded while they would block good clients",
            );
            format!("{}: {count}, the first was line {line} ({code}): {message}", actor(name))
        })
    }
}

impl Guard {
    /// Once a minute: forgets entries that have ended, where they are many, and judges again what is held.
    pub(in super::super) fn tick_feeds(&mut self, now: Now, ticks: u64) {
        self.feeds.is_paused = false;
        if !ticks.is_multiple_of(60) || self.feeds.job.is_some() || !self.feeds.waiting.is_empty() {
            return;
        }
        let mut jobs = Vec::new();
        for one in &self.feeds.listed {
            let ended = one.content.ended(now.monotonic);
            // Rewriting a long list for each of its entries would be worse than keeping a few: the kernel ended them.
            if ended.saturating_mul(20) >= one.content.entries.len().max(1) && ended > 0 {
                jobs.push(ListUpdate::new(UpdateKind::Add, one.row.clone(), FeedDraft::new(now.monotonic), 0, None));
            }
        }
        for job in &mut jobs {
            (job.row.boot, job.row.loaded) = (self.ledger.boot().to_owned(), now.unix_millis);
        }
        self.begin_own(jobs);
        self.judge_held(now);
        // A list may have come into force while another one that spares some of it was on its way.
        self.take_back_never_ban(now);
    }

    /// Judges again what is held; what blocks no good client any more is added to its list.
    fn judge_held(&mut self, now: Now) {
        if self.feeds.held.is_empty() {
            return;
        }
        let good = self.policy.good.recent(self.settings.safety.good_for, now.monotonic);
        let shield = Shield::new(good, self.settings.ipv6_prefix);
        for (name, mut held) in std::mem::take(&mut self.feeds.held) {
            let passed = now.monotonic.saturating_sub(held.read) / SECOND;
            let mut draft = FeedDraft::new(now.monotonic);
            held.entries.retain(|ImportEntry(_, source, seconds, reason)| {
                let left = seconds.map(|seconds| seconds.saturating_sub(passed));
                if left == Some(0) {
                    return false;
                }
                if self.judge_listed(*source, Some(&shield)).is_err() {
                    return true;
                }
                draft.push(*source, left, reason.as_deref());
                false
            });
            if draft.len() > 0 {
                let row = self.feeds.find(&name).map_or(&held.row, |one| &one.row);
                let row = FeedRow { boot: self.ledger.boot().to_owned(), loaded: now.unix_millis, ..row.clone() };
                tracing::info!(
                    feed = name,
                    entries = draft.len(),
                    "entries that were held back for good clients are loaded"
                );
                self.begin_own(vec![ListUpdate::new(UpdateKind::Add, row, draft, 0, None)]);
            }
            if !held.entries.is_empty() {
                self.feeds.held.insert(name, held);
            }
        }
    }
}
