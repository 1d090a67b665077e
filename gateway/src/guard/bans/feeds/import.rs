//! Judges each entry of a list as if it were blocked by hand, and takes the ones that pass.

use std::collections::HashSet;

use super::{super::operator::block::judge_reason, plan::UpdateKind, *};
use crate::{
    guard::feeds::list::{FeedNews, FileContent},
    settings::feed,
    text::counted::counted,
};

/// How many lists may be loaded at once.
const SESSIONS: usize = 8;

/// How many of them may be one operator's.
const SESSIONS_OF_ONE: usize = 2;

/// How long a list may stop arriving before it is forgotten.
const IDLE: u64 = 60 * SECOND;

/// How long it may stop arriving before another one may take its place.
const STALLED: u64 = 5 * SECOND;

/// What whoever finds all places taken is told.
const OTHERS: &str = "others are importing lists: try again in a moment";

/// How many refusals of one list are told one by one.
const TOLD: usize = 100;

/// How much of what a command says is wrong with a list is kept, in characters.
const REASON: usize = 500;

impl Guard {
    pub(in super::super) fn import_begin(
        &mut self,
        feed: Option<String>,
        seconds: Option<u64>,
        shadow: bool,
        force: bool,
        actor: &Actor,
        now: Now,
    ) -> Result<ControlAnswer, Refused> {
        if let Some(name) = feed.as_ref().filter(|name| !name.is_empty()) {
            if !crate::config::is_name(name) {
                return Err(Refused::new("bad_name", "a feed's name is 1 to 64 letters, digits, \"-\" or \"_\""));
            }
            if self.is_configured(name) || self.feeds.find(name).is_some_and(|one| one.row.file) {
                let message =
                    format!("{name} is a list of the configuration: change that list, or choose another name");
                return Err(Refused::new("in_configuration", message));
            }
        }
        let has_place = self.make_room(actor, now)?;
        self.feeds.next_session += 1;
        let id = self.feeds.next_session;
        let name = feed.clone().unwrap_or_default();
        let session = ImportSession {
            seconds,
            used: now.monotonic,
            is_without_place: !has_place,
            ..self.session(feed, shadow, force, actor, now)
        };
        self.feeds.sessions.insert(id, session);
        Ok(ControlAnswer::Import(Box::new(ImportProgress { id, feed: name, ..ImportProgress::default() })))
    }

    /// Has room for one list more of an operator. Whoever has begun two has a place only once one of them has stalled. Where
    /// others have all places, one of theirs goes that has stalled, or one of two that somebody has: nobody who has few
    /// tokens keeps others out. `false`: there is no place for entries, and a list can be removed all the same.
    fn make_room(&mut self, actor: &Actor, now: Now) -> Result<bool, Refused> {
        let sessions = &mut self.feeds.sessions;
        sessions.retain(|_, session| now.monotonic.saturating_sub(session.used) < IDLE);
        let is_stalled = |session: &ImportSession| now.monotonic.saturating_sub(session.used) >= STALLED;
        let count = |owner: &Actor| sessions.values().filter(|session| session.owner == *owner).count();
        let oldest = |may_go: &dyn Fn(&ImportSession) -> bool| {
            let found = sessions.iter().filter(|(_, session)| may_go(session));
            found.min_by_key(|(id, session)| (session.used, **id)).map(|(id, _)| *id)
        };
        let (gone, why) = if count(actor) >= SESSIONS_OF_ONE {
            let own = |session: &ImportSession| session.owner == *actor && is_stalled(session);
            (oldest(&own), "you are importing other lists already: commit them, or try again in a moment")
        } else if sessions.values().filter(|session| !session.is_without_place).count() >= SESSIONS {
            let is_one_of_more = |session: &ImportSession| count(&session.owner) > 1;
            let gone = oldest(&is_stalled).or_else(|| oldest(&is_one_of_more));
            if gone.is_none() && sessions.len() < 2 * SESSIONS {
                return Ok(false);
            }
            (gone, OTHERS)
        } else {
            return Ok(true);
        };
        let gone = gone.ok_or_else(|| Refused::new("busy", why))?;
        sessions.remove(&gone);
        Ok(true)
    }

    /// What is shadowed or forced may hit good clients too, as a block that is made by hand.
    pub(super) fn session(
        &self,
        name: Option<String>,
        shadow: bool,
        force: bool,
        owner: &Actor,
        now: Now,
    ) -> ImportSession {
        let good = || self.policy.good.recent(self.settings.safety.good_for, now.monotonic);
        ImportSession {
            owner: owner.clone(),
            name,
            seconds: None,
            shadow,
            shield: (!shadow && !force).then(|| Shield::new(good(), self.settings.ipv6_prefix)),
            draft: FeedDraft::new(now.monotonic),
            refused: 0,
            holding: None,
            first: None,
            told: 0,
            used: 0,
            is_without_place: false,
        }
    }

    pub(in super::super) fn import_chunk(
        &mut self,
        id: u64,
        entries: Vec<ImportEntry>,
        actor: &Actor,
        now: Now,
    ) -> Result<ControlAnswer, Refused> {
        let mut session = self.arriving(id, actor)?;
        if session.is_without_place && !entries.is_empty() {
            return Err(Refused::new("busy", OTHERS));
        }
        session.used = now.monotonic;
        let mut refusals = Vec::new();
        for entry in entries {
            if let Err(refusal) = self.take(&mut session, entry)
                && session.told < TOLD
            {
                session.told += 1;
                refusals.push(refusal);
            }
        }
        // What could never be put in force need not be kept.
        let most = u64::from(self.settings.max_bans) + 2 * u64::from(self.settings.max_rules);
        let taken = u64::try_from(session.draft.len()).unwrap_or(u64::MAX);
        if taken > 2 * most {
            let message = format!(
                "the list has more than twice the {most} entries that guard.max_bans and guard.max_rules leave room for"
            );
            let name = session.name.as_deref().unwrap_or_default();
            return Err(self.list_refused(name, false, Refused::new("full", message), now));
        }
        let feed = session.name.clone().unwrap_or_default();
        let import =
            ImportProgress { id, feed, taken, refused: session.refused, refusals, ..ImportProgress::default() };
        self.feeds.sessions.insert(id, session);
        Ok(ControlAnswer::Import(Box::new(import)))
    }

    /// Forgets a list that is not put in force after all. With a reason that is told as if it had been refused.
    pub(in super::super) fn import_abort(
        &mut self,
        id: u64,
        reason: Option<String>,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        let session = self.arriving(id, actor)?;
        let name = session.name.unwrap_or_default();
        let stays = self.stays(&name);
        if let Some(reason) = reason {
            let reason: String = reason.chars().take(REASON).collect();
            self.list_refused(&name, false, Refused::new("unreadable", format!("{reason}{stays}")), now);
        }
        Ok((format!("nothing was changed{stays}"), 0))
    }

    /// Whether the configuration has a list of this name.
    fn is_configured(&self, name: &str) -> bool {
        self.settings.feeds.iter().any(|feed| feed.name == name) || name == LIST && self.settings.crowdsec.is_some()
    }

    /// What is said of the content that a list has, where it has one.
    pub(super) fn stays(&self, name: &str) -> &'static str {
        let is_loaded = self.feeds.find(name).is_some() || self.feeds.ranges.contains_key(name);
        if is_loaded { "; what was loaded before stays in force" } else { "" }
    }

    fn arriving(&mut self, id: u64, actor: &Actor) -> Result<ImportSession, Refused> {
        let is_theirs = self.feeds.sessions.get(&id).is_some_and(|session| session.owner == *actor);
        is_theirs.then(|| self.feeds.sessions.remove(&id)).flatten().ok_or_else(|| {
            Refused::new("not_found", "there is no such import: it may have stalled while others were begun")
        })
    }

    fn take(&self, session: &mut ImportSession, entry: ImportEntry) -> Result<(), ListRefusal> {
        let ImportEntry(line, source, seconds, reason) = entry;
        // `--for` bounds what the list itself says; without either it lasts until it is removed.
        let seconds = match (session.seconds, seconds) {
            (Some(bound), Some(said)) => Some(said.min(bound)),
            (bound, said) => said.or(bound),
        };
        let judged = match reason.as_deref().map_or(Ok(()), judge_reason) {
            Ok(()) => self.judge_listed(source, session.shield.as_ref()),
            refused => refused,
        };
        judged.map_err(|refused| {
            session.refused += 1;
            let refusal = ListRefusal { line, source, code: refused.code.to_owned(), message: refused.message };
            let entry = || ImportEntry(line, source, seconds, reason.clone());
            if !session.holding.as_mut().is_some_and(|holding| holding.hold(entry(), &refusal)) {
                session.first.get_or_insert_with(|| refusal.clone());
            }
            refusal
        })?;
        session.draft.push(source, seconds, reason.as_deref());
        Ok(())
    }

    pub(super) fn judge_listed(&self, source: Source, shield: Option<&Shield>) -> Result<(), Refused> {
        match self.judge(source) {
            Err(refused) if refused.code == safety::OPERATOR && shield.is_none() => {}
            judged => judged?,
        }
        let Some(client) = shield.and_then(|shield| shield.hit(source)) else { return Ok(()) };
        let long = span(self.settings.safety.good_for.as_secs());
        let how = if source.covers(&client) && source != client { "covers" } else { "is" };
        let message = format!("{source} {how} {client}, which was served with a valid token within {long}");
        Err(Refused::new(shield::GOOD_CLIENT, message))
    }

    /// What a feed's status says about entries that were refused.
    pub(super) fn warn_of_refusals(&mut self, session: &mut ImportSession) {
        let (Some(name), Some(first)) = (session.name.clone(), session.first.take()) else { return };
        let (line, code, message) = (first.line, first.code, first.message);
        let refused = session.refused.saturating_sub(session.holding.as_ref().map_or(0, Holding::len));
        let refused = counted(refused, "entry is", "entries are");
        let more = format!("{refused} not loaded, the first is line {line} ({code}): {message}");
        let text = match self.feeds.warnings.remove(&name) {
            Some(before) => format!("{}; {more}", before.text),
            None => more,
        };
        self.feeds.warnings.insert(name, ListWarning::of_file(text));
    }

    /// Puts a list in force once it is complete; the answer follows when it is.
    ///
    /// Nothing never takes the place of something by mistake: a download that failed, or a page that tells of an error.
    pub(crate) fn import_commit(
        &mut self,
        (id, digest, allow_empty): (u64, String, bool),
        actor: &Actor,
        reply: Reply,
        now: Now,
    ) {
        let session = match self.arriving(id, actor) {
            Ok(session) => session,
            Err(refused) => return work::reply(Some(reply), refused.into()),
        };
        if session.draft.len() == 0 && !allow_empty {
            let name = session.name.as_deref().unwrap_or_default();
            let empties = if self.feeds.find(name).is_some() { " (--allow-empty empties the list)" } else { "" };
            let message = format!("nothing of it can be loaded{}{empties}", self.stays(name));
            let refused = self.list_refused(name, false, Refused::new("empty", message), now);
            return work::reply(Some(reply), refused.into());
        }
        let kind = if session.name.is_none() { UpdateKind::Add } else { UpdateKind::Replace };
        let row = self.row(session.name.clone().unwrap_or_default(), false, session.shadow, actor, digest, now);
        let lifts = kind == UpdateKind::Replace && session.draft.len() == 0;
        let job = ListUpdate::new(kind, row, session.draft, session.refused, Some((id, reply)));
        self.ask_for_list(ListUpdate { lifts, ..job }, now);
    }

    pub(super) fn row(
        &self,
        name: String,
        file: bool,
        shadow: bool,
        actor: &Actor,
        digest: String,
        now: Now,
    ) -> FeedRow {
        let digest = digest.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        FeedRow {
            id: 0,
            name,
            file,
            shadow,
            actor: actor.to_string(),
            digest,
            boot: self.ledger.boot().to_owned(),
            loaded: now.unix_millis,
            generation: 0,
        }
    }

    /// What a feed file says by now: its content replaces the last one, or that stays in force with a warning.
    pub(crate) fn feed_file(&mut self, feed: feed::Feed, news: FeedNews, now: Now) {
        let feed::Feed { name, shadow, purpose, .. } = feed;
        let content = match news {
            FeedNews::Changed(content) => content,
            FeedNews::Same => {
                self.feeds.warnings.remove(&name);
                return;
            }
            FeedNews::Unusable(message) => {
                tracing::warn!(feed = name, message, "a feed's file cannot be used");
                let text = format!("{message}{}", self.stays(&name));
                self.feeds.warnings.insert(name, ListWarning::of_file(text));
                return;
            }
        };
        for error in content.errors.iter().take(10) {
            tracing::warn!(feed = name, line = error.line, message = error.message, "a line of a feed cannot be read");
        }
        if purpose != feed::FeedPurpose::Ban {
            return self.take_ranges(name, purpose, content, now);
        }
        let FileContent { digest, entries, errors, failed, is_blank } = content;
        let lines = match errors.first() {
            Some(first) => {
                let failed = counted(failed, "line", "lines");
                format!("{failed} cannot be read, the first is line {}: {}", first.line, first.message)
            }
            None => String::new(),
        };
        // Remarks alone are a list of nobody.
        let is_useless = entries.is_empty() && (failed > 0 || is_blank);
        if is_useless && self.feeds.find(&name).is_some_and(|one| !one.content.entries.is_empty()) {
            let message = if failed > 0 { lines } else { "it is empty".to_owned() };
            let text = format!("{message}{}", self.stays(&name));
            self.feeds.warnings.insert(name, ListWarning::of_file(text));
            return;
        }
        if failed > 0 {
            self.feeds.warnings.insert(name.clone(), ListWarning::of_file(lines));
        } else {
            self.feeds.warnings.remove(&name);
        }
        let row = self.row(name, true, shadow, &Actor::Guard, digest, now);
        self.begin_own(vec![ListUpdate::of_file(row, entries, now.monotonic)]);
    }

    /// Judges some of a file's entries.
    pub(super) fn judge_some(
        &self,
        session: &mut ImportSession,
        entries: &mut std::vec::IntoIter<ImportEntry>,
        most: usize,
    ) -> bool {
        for entry in entries.by_ref().take(most) {
            if let Err(refusal) = self.take(session, entry)
                && session.told < 10
            {
                session.told += 1;
                let name = session.name.as_deref().unwrap_or_default();
                tracing::warn!(feed = name, line = refusal.line, source = %refusal.source, code = refusal.code, "an entry of a feed is refused");
            }
        }
        entries.len() == 0
    }

    /// Which files' contents are in force, by feed: for the watcher.
    pub(crate) fn feed_digests(&self) -> HashMap<String, String> {
        let file = self.feeds.listed.iter().filter(|one| one.row.file);
        file.map(|one| (one.row.name.clone(), one.row.digest.clone())).chain(self.range_digests()).collect()
    }

    /// Removes lists that are in the configuration no more; `names` are those that ban.
    pub(crate) fn keep_feed_files(&mut self, names: &[&str], now: Now) {
        self.keep_ranges(now);
        // Also of those of which nothing was ever loaded.
        let known = self.settings.feeds.iter().map(|feed| feed.name.as_str()).chain(names.iter().copied());
        let known: HashSet<&str> = known.collect();
        self.feeds.warnings.retain(|name, warning| !warning.is_of_file || known.contains(name.as_str()));
        self.feeds.held.retain(|name, _| names.contains(&name.as_str()));
        let gone = self.feeds.listed.iter().filter(|one| one.row.file && !names.contains(&one.row.name.as_str()));
        let gone: Vec<FeedRow> = gone.map(|one| one.row.clone()).collect();
        let remove = |row: FeedRow| {
            let row = self.row(row.name, true, row.shadow, &Actor::Guard, String::new(), now);
            ListUpdate::new(UpdateKind::Replace, row, FeedDraft::new(now.monotonic), 0, None)
        };
        let removals = gone.into_iter().map(remove).collect();
        self.begin_own(removals);
    }

    /// The lists that were imported, for a change that removes them.
    pub(in super::super) fn imported(&self) -> Vec<u32> {
        self.feeds.listed.iter().filter(|one| !one.row.file).map(|one| one.row.id).collect()
    }

    /// Removes every list that was imported; those of files stay. The store knows it already; what was still on its way
    /// does not come into force any more.
    pub(in super::super) fn flush_imports(&mut self, now: Now) -> u64 {
        self.feeds.sessions.clear();
        self.cancel_imports(now);
        self.feeds.warnings.retain(|_name, warning| warning.is_of_file);
        let imported = self.feeds.listed.iter().filter(|one| !one.row.file);
        let imported: Vec<(String, bool, usize)> =
            imported.map(|one| (one.row.name.clone(), one.row.shadow, one.content.entries.len())).collect();
        let (mut entries, mut removals) = (0, Vec::new());
        for (name, shadow, length) in imported {
            entries += u64::try_from(length).unwrap_or(0);
            let row = self.row(name, false, shadow, &Actor::Guard, String::new(), now);
            let job = ListUpdate::new(UpdateKind::Replace, row, FeedDraft::new(now.monotonic), 0, None);
            removals.push(ListUpdate { lifts: true, ..job });
        }
        self.begin_own(removals);
        entries
    }

    /// Names of the feeds that follow files.
    pub(in super::super) fn feed_files(&self) -> Vec<String> {
        self.feeds.listed.iter().filter(|one| one.row.file).map(|one| actor(&one.row.name)).collect()
    }

    /// How many entries of a list are in force; 0: there is no such list.
    pub(crate) fn listed(&self, name: &str, now: Now) -> usize {
        if let Some(networks) = self.range_count(name) {
            return networks;
        }
        let content = self.feeds.find(name).map(|one| &one.content);
        content.map_or(0, |content| content.entries.len().saturating_sub(content.ended(now.monotonic)))
    }

    /// A list that was fetched is not taken.
    pub(crate) fn refuse_list(&mut self, name: &str, why: &str, now: Now) {
        let refused = Refused::new("not_taken", format!("{why}{}", self.stays(name)));
        self.list_refused(name, true, refused, now);
    }

    /// Records and surfaces that a list was refused as a whole.
    pub(super) fn list_refused(&mut self, name: &str, is_of_file: bool, refused: Refused, now: Now) -> Refused {
        tracing::error!(feed = name, code = refused.code, message = refused.message, "a list is refused");
        let text = format!("refused ({}): {}", refused.code, refused.message);
        self.feeds.warnings.insert(name.to_owned(), ListWarning { text, is_of_file });
        let told = json!({"feed": name, "code": refused.code, "reason": refused.message});
        self.tell("import_refused", now, members(told));
        refused
    }
}
