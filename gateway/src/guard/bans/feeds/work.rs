//! Puts a list in force in small steps: planned on another thread, then applied a few milliseconds at a time, so that
//! bans are decided in between.
//!
//! Store first, under a generation that nothing refers to; one transaction with the audit record puts it in force; then
//! the kernel: new exact entries in batches, prefixes as a whole in the spare trie, and last what is gone.

use super::{
    plan::{Planned, Planning, UpdateKind},
    *,
};

/// Entries of a kernel batch, rules of a piece, rows of a transaction: each takes about two milliseconds.
const BATCH: usize = 2_048;
const RULES: usize = 512;
const ROWS: usize = 8;
const JUDGED: usize = 1_000;

/// Above so many changed prefixes while others are prepared, the preparation begins anew.
const TOUCHED: usize = 10_000;

impl Feeds {
    /// Whether the kernel is being changed, and is not yet as it should be.
    pub(in super::super) fn is_changing(&self) -> bool {
        self.job.as_ref().is_some_and(ListUpdate::is_changing)
    }

    /// Whether the list that is on its way waits for a thread, or for a store that is locked.
    fn is_held_up(&self) -> bool {
        self.is_paused || self.job.as_ref().is_some_and(|job| matches!(job.stage, UpdateStage::Planning))
    }

    /// Rules changed beside the preparation of others.
    pub(in super::super) fn touched(&mut self, sources: &[Source]) {
        if let Some(touched) = &mut self.touched {
            touched.extend_from_slice(sources);
        }
        self.scrub_changed(sources);
    }

    /// All rules were replaced, and with them what was prepared.
    pub(in super::super) fn rules_replaced(&mut self) {
        self.touched = None;
        self.scrub = None;
        if let Some(job) = &mut self.job
            && matches!(job.stage, UpdateStage::Clear | UpdateStage::Fill(_) | UpdateStage::Forget)
        {
            job.stage = UpdateStage::Clear;
        }
    }
}

impl Guard {
    /// Whether [`Self::work`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        // What ends and what is compared waits for no list.
        let beside = self.feeds.scrub.is_some() || self.ledger.is_sweeping();
        beside || self.has_lists() && !self.feeds.is_held_up()
    }

    /// What is to be done beside the guard, if anything is: [`Self::planned`] takes the result.
    pub(crate) fn planning(&mut self) -> Option<Planning> {
        let job = self.feeds.job.as_mut().filter(|job| matches!(job.stage, UpdateStage::Plan))?;
        job.stage = UpdateStage::Planning;
        let draft = job.draft.take().unwrap_or_default();
        let old = self.feeds.listed.iter().find(|one| one.row.name == job.row.name);
        let others = self.feeds.listed.iter().filter(|one| one.row.name != job.row.name);
        Some(Planning {
            kind: job.kind,
            draft,
            anew: old.is_some_and(|old| old.row.shadow != job.row.shadow),
            old: old.map_or_else(Arc::default, |old| Arc::clone(&old.content)),
            others: others.map(|other| Arc::clone(&other.content)).collect(),
            never_ban: Arc::clone(&self.feeds.never_ban),
            ipv6_prefix: self.settings.ipv6_prefix,
        })
    }

    /// Takes a plan. What does not fit is refused as a whole: nothing is evicted for it.
    pub(crate) fn planned(&mut self, planned: Planned, now: Now) {
        let Some(mut job) = self.feeds.job.take() else { return };
        job.plan = *planned.0;
        if job.is_cancelled {
            return self.give_up(job, cancelled(), now);
        }
        if let Err(refused) = self.judge_list(&mut job) {
            let refused = self.list_refused(&job.row.name, job.row.file, refused, now);
            return reply(job.reply.map(|(_, reply)| reply), refused.into());
        }
        let nothing = job.plan.enter.is_empty() && job.plan.leave.is_empty() && job.plan.prefixes.is_empty();
        self.feeds.generation += 1;
        job.row.generation = self.feeds.generation;
        job.old = self.feeds.find(&job.row.name).map(|old| old.row.generation);
        if nothing && job.old.is_none() {
            job.hold(&mut self.feeds);
            if !job.row.file {
                job.dismissed = self.feeds.warnings.remove(&job.row.name).is_some();
            }
            job.stage = UpdateStage::Done;
        } else {
            job.stage = UpdateStage::Store(0);
        }
        self.feeds.job = Some(job);
    }

    fn judge_list(&self, job: &mut ListUpdate) -> Result<(), Refused> {
        // The mode is one of the whole list: what is added must not change what is there. Judged here, as lists that
        // waited before this one are in force by now.
        let listed = self.feeds.find(&job.row.name);
        if job.kind == UpdateKind::Add && listed.is_some_and(|listed| listed.row.shadow != job.row.shadow) {
            let (is, would) = if job.row.shadow { ("enforced", "shadowed") } else { ("in shadow mode", "enforced") };
            let message = format!(
                "what was imported without a name is {is}, and a list has one mode: name the {would} list by --feed"
            );
            return Err(Refused::new("other_mode", message));
        }
        let plan = &job.plan;
        let made = self.ledger.len().saturating_sub(self.enforcer.prefixes().blocked().len());
        let taken = made + self.feeds.exact;
        let most = usize::try_from(self.settings.max_bans).unwrap_or(usize::MAX);
        let full = |setting: &str, most: usize, would: usize| {
            let message = format!("{would} entries would be in force, {setting} is {most}: remove some, or raise it");
            Err(Refused::new("full", message))
        };
        let end = (taken + plan.more).saturating_sub(plan.fewer);
        if plan.more > 0 && end > most {
            return full("guard.max_bans", most, end);
        }
        job.leave_first = taken + plan.more > most;
        let most = usize::try_from(self.settings.max_rules).unwrap_or(usize::MAX);
        for ((more, fewer), ipv4) in plan.prefixes_more.into_iter().zip(plan.prefixes_fewer).zip([true, false]) {
            let end = (self.enforcer.prefixes().count(ipv4) + more).saturating_sub(fewer);
            if more > 0 && end > most {
                return full("guard.max_rules", most, end);
            }
        }
        Ok(())
    }

    /// Does some milliseconds of what is to be done.
    pub(crate) fn work(&mut self, now: Now) {
        if self.ledger.is_sweeping() {
            return self.sweep(now);
        }
        if self.feeds.is_held_up() {
            return self.scrub_some(now);
        }
        let Some(mut job) = self.feeds.job.take().or_else(|| self.feeds.waiting.pop_front()) else {
            return self.scrub_some(now);
        };
        if job.is_cancelled && job.is_not_in_force() {
            return self.give_up(job, cancelled(), now);
        }
        if job.is_abandoned() && job.is_not_in_force() {
            return self.abandon(job, now);
        }
        let stage = std::mem::replace(&mut job.stage, UpdateStage::Done);
        if matches!(stage, UpdateStage::Done) {
            return self.answer_job(&mut job, now);
        }
        match self.advance(&mut job, stage, now) {
            Ok(next) => {
                // The kernel has it. What is left takes room in the store, and nobody waits for that.
                if matches!(next, UpdateStage::Chunks) {
                    self.answer_job(&mut job, now);
                }
                job.stage = next;
                self.feeds.job = Some(job);
                self.step_aside();
            }
            Err(refused) => self.give_up(job, refused, now),
        }
    }

    /// Does a little of a stage: the stage that follows, or what is left of this one. `Err`: nothing of the list comes into
    /// force.
    fn advance(&mut self, job: &mut ListUpdate, stage: UpdateStage, now: Now) -> Result<UpdateStage, Refused> {
        Ok(match stage {
            UpdateStage::Come(entries, read) => {
                let (name, shadow) = (Some(job.row.name.clone()), job.row.shadow);
                let session = ImportSession {
                    draft: FeedDraft::new(read),
                    holding: Some(Holding::default()),
                    ..self.session(name, shadow, false, &Actor::Guard, now)
                };
                UpdateStage::Judge(Box::new((session, entries.into_iter())))
            }
            UpdateStage::Judge(judging) => self.judge_more(job, judging),
            stage @ (UpdateStage::Plan | UpdateStage::Planning | UpdateStage::Done) => stage,
            UpdateStage::Store(number) => match self.store_some(job, number) {
                Ok(None) => UpdateStage::Force,
                Ok(Some(next)) => UpdateStage::Store(next),
                Err(_unwritable) if job.lifts => {
                    job.is_whole = true;
                    UpdateStage::Force
                }
                Err(error) if self.waits_for(&error) => UpdateStage::Store(number),
                Err(error) => return Err(Refused::new("store_failed", format!("nothing was changed: {error}"))),
            },
            UpdateStage::Force if !job.lifts && self.waits_for_store() => UpdateStage::Force,
            UpdateStage::Force => {
                self.put_list_in_force(job, now)?;
                if job.leave_first { UpdateStage::Leave(0) } else { UpdateStage::Enter(0) }
            }
            UpdateStage::Enter(at) => self.enter_some(job, at),
            UpdateStage::Leave(at) => self.leave_some(job, at),
            UpdateStage::Relist(at) => self.relist_some(job, at),
            UpdateStage::Clear => match self.enforcer.path_mut().clear_staged(RULES) {
                Ok(true) => {
                    self.feeds.touched = Some(Vec::new());
                    UpdateStage::Fill(None)
                }
                Ok(false) => UpdateStage::Clear,
                Err(error) => job.failed(&error, UpdateStage::Chunks),
            },
            UpdateStage::Fill(sources) => {
                let mut sources = sources.unwrap_or_else(|| self.enforcer.prefixes().sources().into_iter());
                self.fill_some(job, &mut sources).unwrap_or(UpdateStage::Fill(Some(sources)))
            }
            UpdateStage::Forget => match self.enforcer.path_mut().clear_staged(RULES) {
                Ok(true) => UpdateStage::Chunks,
                Ok(false) => UpdateStage::Forget,
                Err(error) => job.failed(&error, UpdateStage::Chunks),
            },
            UpdateStage::Chunks => match job.old.map(|old| self.drop_some(old)) {
                Some(Ok(false)) => UpdateStage::Chunks,
                Some(Err(error)) if !self.is_lift_next(job) && self.waits_for(&error) => UpdateStage::Chunks,
                Some(Err(error)) => {
                    // The list is in force: what it replaced takes room, and nothing else.
                    tracing::warn!(feed = job.row.name, %error, "replaced entries stay stored until the next start");
                    UpdateStage::Done
                }
                _ => UpdateStage::Done,
            },
        })
    }

    /// Judges some more entries; with the last of them, what may be put in force is known.
    fn judge_more(
        &mut self,
        job: &mut ListUpdate,
        mut judging: Box<(ImportSession, std::vec::IntoIter<ImportEntry>)>,
    ) -> UpdateStage {
        let (session, entries) = &mut *judging;
        if !self.judge_some(session, entries, JUDGED) {
            return UpdateStage::Judge(judging);
        }
        job.refused = session.refused;
        self.warn_of_refusals(session);
        job.holding = session.holding.take().map(|holding| (holding, session.draft.base()));
        job.draft = Some(std::mem::take(&mut session.draft));
        UpdateStage::Plan
    }

    /// Notes of some more prefixes that they are listed.
    fn relist_some(&mut self, job: &ListUpdate, at: usize) -> UpdateStage {
        let some = job.plan.prefixes.get(at..).unwrap_or_default();
        self.relist(some.iter().take(RULES).copied());
        match (at + RULES < job.plan.prefixes.len(), job.plan.prefixes.is_empty()) {
            (true, _) => UpdateStage::Relist(at + RULES),
            (false, false) => UpdateStage::Clear,
            (false, true) => UpdateStage::Chunks,
        }
    }

    /// Whether somebody lifts something, for whom nothing waits that is in force already.
    fn is_lift_next(&self, job: &ListUpdate) -> bool {
        job.lifts || self.feeds.waiting.front().is_some_and(|next| next.lifts)
    }

    /// Does all of it at once, where nobody else waits for the guard.
    pub(crate) fn finish_work(&mut self, now: Now) {
        while self.has_work() {
            match self.planning() {
                Some(planning) => self.planned(planning.run(), now),
                None => self.work(now),
            }
        }
    }

    fn store_some(&mut self, job: &ListUpdate, number: u64) -> Result<Option<u64>, StoreError> {
        let start = usize::try_from(number).unwrap_or(usize::MAX);
        let rows = job.plan.rows.get(start..).unwrap_or_default();
        if rows.is_empty() {
            return Ok(None);
        }
        let write = |change: &StoreChange<'_>| {
            let mut next = number;
            for row in rows.iter().take(ROWS) {
                change.feed_chunk(job.row.generation, next, row)?;
                next += 1;
            }
            Ok(next)
        };
        self.recording(|journal, in_force| journal.beside(write, in_force)).map(Some)
    }

    fn drop_some(&mut self, generation: u64) -> Result<bool, StoreError> {
        let drop_some = |change: &StoreChange<'_>| change.drop_chunks(generation, ROWS as u64);
        self.recording(|journal, in_force| journal.beside(drop_some, in_force))
    }

    /// The one statement that puts a list in force, with the one record that tells of it.
    fn put_list_in_force(&mut self, job: &mut ListUpdate, now: Now) -> Result<(), Refused> {
        let (plan, row) = (&job.plan, &job.row);
        let removed = plan.content.entries.is_empty();
        let mut members = members(json!({"feed": row.name, "actor": row.actor, "digest": row.digest,
            "mode": if row.shadow { "shadow" } else { "enforce" }, "entries": plan.content.entries.len(),
            "added": plan.added, "unchanged": plan.unchanged, "removed": plan.removed(), "refused": job.refused}));
        if let UpdateKind::Without(source) = job.kind {
            members.insert("without".to_owned(), source.to_string().into());
        }
        let known = self.feeds.listed.iter().find(|one| one.row.name == row.name).map(|one| one.row.id);
        let row = FeedRow { id: known.unwrap_or_else(|| self.feeds.next_number()), ..row.clone() };
        let (written, content) = (row.id, Arc::clone(&plan.content));
        job.row.id = written;
        // What is owed holds no list that another has replaced: that is written instead.
        let (is_whole, later) = (job.is_whole, Arc::downgrade(&content));
        let content = (!is_whole).then_some(content);
        let write: Write = Box::new(move |change| match (removed, &content, later.upgrade()) {
            (true, ..) => change.drop_feed(row.id),
            (false, Some(content), _) => change.put_feed(&row, content).map(|_id| ()),
            (false, None, Some(content)) => change.keep_feed(&row, &content),
            (false, None, None) => Ok(()),
        });
        if job.lifts {
            let unrecorded = self.record_lift(vec![("import", members)], now, write);
            let again = match job.kind {
                UpdateKind::Without(_) => ": if the gateway is killed before that, the next one blocks it again",
                _ => "",
            };
            job.unrecorded = unrecorded.or_else(|| self.unstored().map(|text| text + again));
        } else {
            self.decide("import", now, members, write)?;
        }
        // What the comparison has seen is about to change.
        self.feeds.scrub = None;
        let plan = &job.plan;
        self.feeds.exact = (self.feeds.exact + plan.more).saturating_sub(plan.fewer);
        self.feeds.warnings.retain(|name, warning| *name != job.row.name || !warning.is_refusal());
        self.feeds.listed.retain(|one| one.row.name != job.row.name);
        if !removed {
            let at = self.feeds.listed.partition_point(|one| one.row.id < written);
            self.feeds.listed.insert(at, ActiveList { row: job.row.clone(), content: Arc::clone(&plan.content) });
        }
        tracing::warn!(
            feed = job.row.name,
            entries = plan.content.entries.len(),
            added = plan.added,
            "a list is in force"
        );
        job.hold(&mut self.feeds);
        Ok(())
    }

    fn enter_some(&mut self, job: &mut ListUpdate, at: usize) -> UpdateStage {
        let some: Vec<Source> = job.plan.enter.get(at..).unwrap_or_default().iter().take(BATCH).copied().collect();
        if some.is_empty() {
            return if job.leave_first { UpdateStage::Relist(0) } else { UpdateStage::Leave(0) };
        }
        let counts = job.old.is_some();
        let entries: Vec<(SourceKey, Ban)> = some
            .into_iter()
            .filter_map(|source| {
                let (key, wanted) = (self.key(source)?, self.wanted(source)?);
                // What the entry has counted goes on; a new list has no entries yet.
                let there = if counts { self.enforcer.path().find_ban(key) } else { None };
                let there =
                    there.filter(|there| there.id & !Ban::SHADOW == wanted.id & !Ban::SHADOW).unwrap_or_default();
                Some((key, Ban { packets: there.packets, bytes: there.bytes, ..wanted }))
            })
            .collect();
        // A block of the same source that was made by hand may be in the kernel, and may be what is wanted.
        let made = |key: &SourceKey| self.find(Source::from_key(*key, self.settings.ipv6_prefix)).is_some();
        let (made, new): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| made(key));
        let mut entered = self.enforcer.path_mut().ban_many(&new);
        for (key, ban) in made {
            entered = entered.and(self.enforcer.path_mut().ban(key, Ban { packets: 0, bytes: 0, ..ban }));
        }
        match entered {
            Ok(()) => UpdateStage::Enter(at + BATCH),
            Err(error) => job.failed(&error, UpdateStage::Enter(at + BATCH)),
        }
    }

    fn leave_some(&mut self, job: &mut ListUpdate, at: usize) -> UpdateStage {
        let some = job.plan.leave.get(at..).unwrap_or_default();
        if some.is_empty() {
            return if job.leave_first { UpdateStage::Enter(0) } else { UpdateStage::Relist(0) };
        }
        let mut gone = Vec::new();
        let mut failed = None;
        for source in some.iter().take(BATCH) {
            let Some(key) = self.key(*source) else { continue };
            match self.wanted(*source) {
                None => gone.push(key),
                // Another list, or somebody's block, goes on.
                Some(wanted) => failed = failed.or(self.enforcer.path_mut().ban(key, wanted).err()),
            }
        }
        match failed.or(self.enforcer.path_mut().unban_many(&gone).err()) {
            None => UpdateStage::Leave(at + BATCH),
            Some(error) => job.failed(&error, UpdateStage::Leave(at + BATCH)),
        }
    }

    /// Prepares some rules; the next stage once all are in force.
    fn fill_some(&mut self, job: &mut ListUpdate, sources: &mut std::vec::IntoIter<Source>) -> Option<UpdateStage> {
        let some = sources.by_ref().take(RULES);
        let rules: Vec<(Source, Rule)> =
            some.filter_map(|source| Some((source, self.enforcer.prefixes().rule(source)?))).collect();
        if let Err(error) = self.enforcer.path_mut().stage_rules(&rules) {
            self.feeds.touched = None;
            return Some(job.failed(&error, UpdateStage::Chunks));
        }
        if sources.len() > 0 {
            return None;
        }
        let touched = self.feeds.touched.take().unwrap_or_default();
        if touched.len() > TOUCHED {
            return Some(UpdateStage::Clear);
        }
        if let Err(error) = self.enforcer.path_mut().commit_staged() {
            return Some(job.failed(&error, UpdateStage::Chunks));
        }
        // Whatever is inside of what changed is among them.
        touched.into_iter().for_each(|source| self.enforcer.put_right(source));
        Some(UpdateStage::Forget)
    }

    /// What is said of decisions that a locked store has not heard of.
    pub(in super::super) fn unstored(&self) -> Option<String> {
        let is_behind = self.journal.owed_warning().is_some();
        is_behind.then(|| "; another process has locked the ban store, which learns of it once it is free".to_owned())
    }

    /// Who imported it waits no more, and takes it to have failed.
    pub(super) fn abandon(&mut self, job: ListUpdate, now: Now) {
        let stays = self.stays(&job.row.name);
        let message = format!("the command that imported it went away before it was in force{stays}");
        self.give_up(job, Refused::new("abandoned", message), now);
    }

    /// Nothing has changed yet, and nothing will.
    pub(super) fn give_up(&mut self, job: ListUpdate, refused: Refused, now: Now) {
        let generation = job.row.generation;
        if generation > 0
            && let Err(error) = self.drop_some(generation)
        {
            tracing::error!(%error, "unused entries of a list stay in the store until the next start");
        }
        let refused = self.list_refused(&job.row.name, job.row.file, refused, now);
        reply(job.reply.map(|(_, reply)| reply), refused.into());
    }

    /// Tells whoever waits what became of a list.
    fn answer_job(&self, job: &mut ListUpdate, now: Now) {
        let Some((id, to)) = job.reply.take() else { return };
        let unrecorded = job.unrecorded.take();
        let answer = match (job.error.take(), job.kind) {
            (Some(message), _) => ControlAnswer::Refused {
                code: "kernel_failed".to_owned(),
                message: format!(
                    "the list is recorded, and the kernel did not take all of it (it is told again): {message}"
                ),
            },
            (None, UpdateKind::Without(source)) => self.unlisted(source, unrecorded, now),
            (None, _) => ControlAnswer::Import(Box::new(ImportProgress {
                id,
                removed: job.plan.removed(),
                feed: job.row.name.clone(),
                taken: u64::try_from(job.plan.content.entries.len()).unwrap_or(u64::MAX),
                added: job.plan.added,
                unchanged: job.plan.unchanged,
                refused: job.refused,
                refusals: Vec::new(),
                dismissed: job.dismissed,
                unattached: self.unattached().filter(|_| !job.plan.content.entries.is_empty()),
                unrecorded,
            })),
        };
        reply(Some(to), answer);
    }
}

pub(super) fn cancelled() -> Refused {
    Refused::new("flushed", "all blocks were removed meanwhile")
}

pub(super) fn reply(to: Option<Reply>, answer: ControlAnswer) {
    if to.is_some_and(|to| to.send(answer).is_err()) {
        tracing::debug!("a control client did not wait for its answer");
    }
}
