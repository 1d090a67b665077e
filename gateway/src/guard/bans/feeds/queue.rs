//! Which lists wait for their turn, and in what order.
//!
//! What operators ask for is bounded, and who asks is told. What the guard itself wants of a list is never refused: it
//! takes the place of what waits for the same list. What lifts something goes first, then what sends no entries: nobody
//! who removes something waits for the imports of others.
//!
//! *Invariant:* files are read and lists fetched only while none waits: no more of them is in memory than comes at once.

use std::collections::HashSet;

use super::{plan::UpdateKind, *};

/// So many imports of operators may wait, and besides as many commands that send no entries.
const WAITING: usize = 64;

impl ListUpdate {
    /// What goes first.
    fn rank(&self) -> u8 {
        let sends_nothing = self.draft.as_ref().is_some_and(|draft| draft.len() == 0);
        match (self.lifts, sends_nothing) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        }
    }

    fn entries(&self) -> usize {
        self.draft.as_ref().map_or(0, FeedDraft::len)
    }
}

impl Guard {
    /// Whether lists are on their way into force: no others are read or fetched meanwhile.
    pub(crate) fn has_lists(&self) -> bool {
        self.feeds.job.is_some() || !self.feeds.waiting.is_empty()
    }

    /// How many wait for their turn.
    #[cfg(test)]
    pub(in super::super) fn waiting_lists(&self) -> usize {
        self.feeds.waiting.len()
    }

    /// What an operator asks for.
    pub(super) fn ask_for_list(&mut self, job: ListUpdate, now: Now) {
        self.give_up_abandoned(now);
        let sends = job.entries() > 0;
        let alike = self.feeds.waiting.iter().filter(|one| one.reply.is_some() && (one.entries() > 0) == sends);
        let (count, entries) = alike.fold((0, 0_usize), |(count, entries), one| (count + 1, entries + one.entries()));
        // As many as may be sent for one list.
        let most = u64::from(self.settings.max_bans) + 2 * u64::from(self.settings.max_rules);
        let is_full = count > 0 && u64::try_from(entries + job.entries()).unwrap_or(u64::MAX) > 2 * most;
        if count >= WAITING || is_full {
            let refused = Refused::new("busy", "too many lists wait to be put in force: try again in a moment");
            return work::reply(job.reply.map(|(_, reply)| reply), refused.into());
        }
        self.enqueue(vec![job]);
    }

    /// What the guard itself wants of lists. What replaces a list takes the place of what waits for it.
    pub(super) fn begin_own(&mut self, jobs: Vec<ListUpdate>) {
        let replaces = jobs.iter().filter(|job| job.kind == UpdateKind::Replace);
        let replaced: HashSet<&str> = replaces.map(|job| job.row.name.as_str()).collect();
        // Whoever waits is answered in turn.
        self.feeds.waiting.retain(|one| one.reply.is_some() || !replaced.contains(one.row.name.as_str()));
        self.enqueue(jobs);
    }

    /// Behind whatever waits for the same lists, so that the last word counts.
    fn enqueue(&mut self, jobs: Vec<ListUpdate>) {
        let Some(rank) = jobs.iter().map(ListUpdate::rank).max() else { return };
        let names: HashSet<&str> = jobs.iter().map(|job| job.row.name.as_str()).collect();
        let waiting = &mut self.feeds.waiting;
        let same = waiting.iter().rposition(|one| names.contains(one.row.name.as_str())).map_or(0, |at| at + 1);
        let before = waiting.iter().take_while(|one| one.rank() <= rank).count();
        let later = waiting.split_off(same.max(before));
        waiting.extend(jobs);
        waiting.extend(later);
        self.step_aside();
    }

    /// A list that waits for a locked store lets go first what operators lift, which does not wait for it.
    pub(super) fn step_aside(&mut self) {
        let Some(next) = self.feeds.waiting.front().filter(|_| self.feeds.is_paused) else { return };
        let may = |job: &mut ListUpdate| {
            let waits = matches!(job.stage, UpdateStage::Store(_) | UpdateStage::Force);
            // What adds to its list was joined with it already.
            waits && next.lifts && job.kind == UpdateKind::Replace && job.row.name != next.row.name
        };
        let aside = self.feeds.job.take_if(may);
        self.feeds.is_paused &= !next.lifts || self.feeds.job.is_some();
        let Some(mut job) = aside else { return };
        // It is planned anew, for what is in force then.
        let content = std::mem::take(&mut job.plan).content;
        job.draft = Some(FeedDraft::from(Arc::unwrap_or_clone(content)));
        job.stage = UpdateStage::Plan;
        // Before what is told of the same list later: the last word counts.
        let goes_first = |one: &&ListUpdate| one.lifts && one.row.name != job.row.name;
        let at = self.feeds.waiting.iter().take_while(goes_first).count();
        self.feeds.waiting.insert(at, job);
    }

    /// Those that nobody waits for any more hold no place.
    fn give_up_abandoned(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.feeds.waiting);
        let (gone, left) = waiting.into_iter().partition(ListUpdate::is_abandoned);
        self.feeds.waiting = left;
        for job in gone {
            self.abandon(job, now);
        }
    }

    /// Imports that are on their way do not come into force.
    pub(super) fn cancel_imports(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.feeds.waiting);
        let (gone, left) = waiting.into_iter().partition(|job| !job.row.file);
        self.feeds.waiting = left;
        for job in gone.into_iter().filter(|job| job.reply.is_some()) {
            self.give_up(job, work::cancelled(), now);
        }
        if let Some(job) = &mut self.feeds.job {
            job.cancel();
        }
        // One that waits for a locked store is over.
        self.feeds.is_paused = false;
    }
}
