//! Feeds: lists of blocked sources that come and go as a whole. Blocks and bans of single sources go before them.
//!
//! *Invariant:* a feed's content is in the store before the kernel is told, and is replaced there by one statement. Of
//! several that name the same source the one that enforces, then the one that lasts longest, is the kernel's entry.

use std::sync::Arc;

use gateway_common::maps::{Ban, Rule};

use super::*;
use crate::{
    guard::{
        control::{BlockEntry, ExportCursor, Exported, FeedStatus, ImportEntry, ImportProgress, ListRefusal},
        feeds::content::{FeedContent, FeedDraft, Listing},
        store::feeds::FeedRow,
    },
    settings::crowdsec::LIST,
};

mod behind;
mod crawlers;
mod held;
mod import;
pub(super) mod lists;
mod never_ban;
mod plan;
mod queue;
mod scrub;
mod shield;
mod spared;
mod unlist;
mod work;

pub(super) use behind::{ListsBehind, list_slots_from};
pub(crate) use lists::Reply;
pub(crate) use plan::Planned;

use lists::{
    ActiveList, FeedFile, Feeds, Holding, ImportSession, ListUpdate, ListWarning, RuleScrub, Scrub, UpdateStage, actor,
};
use shield::Shield;

/// Set in the id of a kernel's entry that is a feed's.
pub(super) const FED: u64 = 1 << 62;

/// How many entries a page of an export holds: about 32 KiB.
const PAGE: usize = 500;

impl Guard {
    /// Whether the store is locked: this is tried again in a second.
    fn waits_for(&mut self, error: &StoreError) -> bool {
        self.feeds.is_paused = self.journal.may_owe() && error.is_busy();
        self.feeds.is_paused
    }

    /// As [`Self::waits_for`], before anything is written.
    fn waits_for_store(&mut self) -> bool {
        self.feeds.is_paused = self.recording(Journal::is_locked);
        self.feeds.is_paused
    }

    /// What the kernel should have for exactly `source`, counters aside.
    pub(super) fn wanted(&self, source: Source) -> Option<Ban> {
        let made = self.find(source).filter(|record| record.relay.is_none()).map(kernel_ban);
        let fed = self.feeds.decides(source).map(|(one, _, expires)| {
            let mode = if one.row.shadow { Ban::SHADOW } else { 0 };
            Ban { expires, id: FED | u64::from(one.row.id) | mode, ..Ban::default() }
        });
        let rank = |ban: &Ban| (!ban.is_shadow(), ban.expires);
        match (made, fed) {
            (Some(made), Some(fed)) => Some(if rank(&fed) > rank(&made) { fed } else { made }),
            (made, fed) => made.or(fed),
        }
    }

    /// The prefix rule that feeds ask for, where it is counted aside.
    fn fed_prefix(&self, source: Source) -> Option<(bool, u64)> {
        self.feeds.decides(source).map(|(one, _, expires)| (one.row.shadow, expires))
    }

    /// Puts what feeds say about prefixes beside the blocks that are made one by one. Their rules are not changed yet.
    fn relist(&mut self, sources: impl Iterator<Item = Source>) {
        let taken: Vec<u32> = sources.filter_map(|source| self.relist_one(source)).collect();
        if let Err(error) = self.enforcer.path_mut().clear_hits(&taken) {
            tracing::error!(%error, "the counters of earlier prefixes could not be cleared");
        }
    }

    /// The slot that was taken for a prefix: an earlier one may have counted in it.
    fn relist_one(&mut self, source: Source) -> Option<u32> {
        let known = self.enforcer.prefixes().fed.get(&source).map(|blocked| blocked.slot);
        match (self.fed_prefix(source), known) {
            (Some((shadow, expires)), known) => {
                let taken = || self.feeds.slots.take(self.enforcer.path().slots().min(1 << 22));
                let slot = known.unwrap_or_else(taken);
                self.enforcer.prefixes_mut().fed.insert(source, Blocked { shadow, expires, slot });
                return known.is_none().then_some(slot).filter(|slot| *slot > 0);
            }
            (None, Some(slot)) => {
                self.enforcer.prefixes_mut().fed.remove(&source);
                if slot > 0 {
                    self.feeds.slots.free.push(slot);
                }
            }
            (None, None) => {}
        }
        None
    }

    /// Takes over the feeds that an earlier guard left. Within one boot the monotonic clock decides when entries end,
    /// after a reboot the wall clock. `repairs`: files that cannot be read are set aside.
    pub(super) fn adopt_feeds(&mut self, slots: &HashMap<Source, u32>, now: Now, repairs: bool) -> Result<(), Refused> {
        let stored = |error: StoreError| Refused::new("store_failed", error.to_string());
        self.adopt_never_ban(repairs);
        self.feeds.generation = self.journal.store().sweep_feeds().map_err(stored)?;
        // Numbers are never given twice, so that those in the kernel tell whether the store is a copy from before.
        let newest = self.journal.store().newest_feed().map_err(stored)?;
        self.feeds.numbered = u32::try_from(newest).unwrap_or(u32::MAX);
        let (feeds, broken) = self.journal.store().feeds().map_err(stored)?;
        for name in broken {
            self.feeds.is_broken = true;
            let warning =
                "what was stored of it cannot be read: what the kernel holds of it is taken over; load it again";
            let is_of_file = self.settings.feeds.iter().any(|feed| feed.name == name);
            self.feeds.warnings.insert(name, ListWarning { text: warning.to_owned(), is_of_file });
        }
        for (row, mut content) in feeds {
            if row.boot != self.ledger.boot() {
                content.later(now.unix_millis.saturating_sub(row.loaded) / 1_000, now.monotonic);
            }
            self.feeds.listed.push(ActiveList { row, content: Arc::new(content) });
        }
        let prefix = self.settings.ipv6_prefix;
        let listed = std::mem::take(&mut self.feeds.listed);
        for (index, one) in listed.iter().enumerate() {
            let earlier = listed.get(..index).unwrap_or_default();
            let first = |source: Source| earlier.iter().all(|other| other.content.find(source).is_none());
            self.feeds.exact +=
                one.content.entries.iter().filter(|it| it.source.key(prefix).is_some() && first(it.source)).count();
        }
        self.feeds.listed = listed;
        let prefixes: Vec<Source> = self.feeds.sources().filter(|source| source.key(prefix).is_none()).collect();
        // Counters of rules that are in force go on where nothing else counts there.
        for source in &prefixes {
            let kept = slots.get(source).copied().filter(|slot| self.enforcer.prefixes().is_free(*slot));
            if let (Some(slot), Some((shadow, expires))) = (kept, self.fed_prefix(*source))
                && self.feeds.slots.kept.insert(slot)
            {
                self.enforcer.prefixes_mut().fed.insert(*source, Blocked { shadow, expires, slot });
            }
        }
        let fed = &self.enforcer.prefixes().fed;
        let others: Vec<Source> = prefixes.into_iter().filter(|source| !fed.contains_key(source)).collect();
        self.relist(others.into_iter());
        Ok(())
    }

    /// Holds a list that the kernel has already.
    pub(super) fn hold_list(
        &mut self,
        name: &str,
        shadow: bool,
        draft: FeedDraft,
        now: Now,
    ) -> (FeedRow, Arc<FeedContent>) {
        let content = Arc::new(draft.finish(None));
        self.feeds.generation += 1;
        let row = FeedRow {
            id: self.feeds.next_number(),
            name: name.to_owned(),
            file: false,
            shadow,
            actor: Actor::Guard.to_string(),
            digest: String::new(),
            boot: self.ledger.boot().to_owned(),
            loaded: now.unix_millis,
            generation: self.feeds.generation,
        };
        let sources: Vec<Source> = content.entries.iter().map(|entry| entry.source).collect();
        let new = |source: &&Source| self.key(**source).is_some() && self.feeds.decides(**source).is_none();
        self.feeds.exact += sources.iter().filter(new).count();
        self.feeds.listed.push(ActiveList { row: row.clone(), content: Arc::clone(&content) });
        let prefixes: Vec<Source> = sources.into_iter().filter(|source| self.key(*source).is_none()).collect();
        self.relist(prefixes.into_iter());
        (row, content)
    }

    /// Which feed blocks exactly `source`.
    pub(super) fn listed_by(&self, source: Source) -> Option<String> {
        self.feeds.decides(source).filter(|(one, ..)| !one.row.shadow).map(|(one, ..)| one.actor())
    }

    /// Feeds, for `status`.
    pub(super) fn feed_list(&self) -> Vec<FeedStatus> {
        let feeds = &self.settings.feeds;
        let is_fetched = |name: &str| feeds.iter().any(|feed| feed.name == name && feed.fetched().is_some());
        let feed = |one: &ActiveList| FeedStatus {
            name: one.row.name.clone(),
            entries: u64::try_from(one.content.entries.len()).unwrap_or(u64::MAX),
            mode: one.mode().to_owned(),
            origin: match one.row.file {
                true if one.row.name == LIST && self.settings.crowdsec.is_some() => LIST,
                true if is_fetched(&one.row.name) => "url",
                true => "file",
                false => "import",
            }
            .to_owned(),
            loaded: clock::rfc3339(one.row.loaded),
            is_stale: self.feeds.old_files.contains_key(&one.row.name),
        };
        let ranges = self.feeds.ranges.iter().map(|(name, list)| FeedStatus {
            name: name.clone(),
            entries: u64::try_from(list.networks.len()).unwrap_or(u64::MAX),
            mode: list.purpose.name().to_owned(),
            origin: if is_fetched(name) { "url" } else { "file" }.to_owned(),
            loaded: clock::rfc3339(list.loaded),
            is_stale: self.feeds.old_files.contains_key(name),
        });
        self.feeds.listed.iter().map(feed).chain(ranges).collect()
    }

    /// What an operator should know about feeds.
    pub(super) fn feed_warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.feeds.warnings.iter().map(|(name, warning)| format!("{}: {}", actor(name), warning.text)).collect();
        warnings.extend(self.feeds.held_warnings());
        warnings.extend(self.feeds.old_files.iter().map(|(name, written)| {
            format!(
                "{}: older than stale_after (its file was last written at {})",
                actor(name),
                clock::rfc3339(*written)
            )
        }));
        if let Some(why) = self.unattached().filter(|_| !self.feeds.listed.is_empty()) {
            warnings.push(format!("lists block nobody, as they are enforced in the kernel alone: {why}"));
        }
        warnings
    }

    /// When the files of lists were last written, by list: milliseconds since 1970.
    pub(crate) fn files_written(&mut self, written: &HashMap<String, u64>, now: Now) {
        let old = |feed: &crate::settings::feed::Feed| {
            let stale_after = u64::try_from(feed.file_stale_after?.as_millis()).unwrap_or(u64::MAX);
            let written = *written.get(&feed.name)?;
            (now.unix_millis.saturating_sub(written) > stale_after).then(|| (feed.name.clone(), written))
        };
        self.feeds.old_files = self.settings.feeds.iter().filter_map(old).collect();
    }

    /// How many sources lists block that are to be enforced.
    pub(super) fn listed_to_block(&self) -> usize {
        self.feeds.listed.iter().filter(|one| !one.row.shadow).map(|one| one.content.entries.len()).sum()
    }

    /// The entry of a feed that decides about an address.
    pub(super) fn fed_entry(&self, address: std::net::IpAddr, now: Now) -> Option<BlockEntry> {
        let live = self.lists_around(address, now.monotonic);
        let (one, entry, expires) = live.iter().find(|(one, ..)| !one.row.shadow).or_else(|| live.first())?;
        let (packets, bytes) = match self.key(entry.source) {
            Some(key) => {
                let found = self.enforcer.path().find_ban(key).filter(|ban| ban.id & FED != 0);
                found.map_or((0, 0), |ban| (ban.packets, ban.bytes))
            }
            None => self.enforcer.prefixes().fed.get(&entry.source).map_or((0, 0), |blocked| {
                let hits = self.enforcer.path().hits(blocked.slot);
                (hits.packets, hits.bytes)
            }),
        };
        let left = (*expires != NEVER).then(|| expires.saturating_sub(now.monotonic).div_ceil(SECOND));
        let reason = one.content.reason(entry);
        Some(BlockEntry {
            confirm_seconds: None,
            id: 0,
            source: entry.source,
            reason: if reason.is_empty() { format!("listed by {}", one.actor()) } else { reason.to_owned() },
            actor: one.actor(),
            mode: one.mode().to_owned(),
            started: clock::rfc3339(one.row.loaded),
            expires: left.map(|left| clock::rfc3339(now.unix_millis.saturating_add(left.saturating_mul(1_000)))),
            remaining_seconds: left,
            packets,
            bytes,
            relay: None,
            refused: 0,
        })
    }

    /// The list that goes on to block an address after `ends`, the one that does so longest, and what it lists.
    pub(super) fn listed_after(&self, address: std::net::IpAddr, ends: u64) -> Option<(String, Source)> {
        let after = self.lists_around(address, ends).into_iter().filter(|(one, ..)| !one.row.shadow);
        let (one, entry, _) = after.max_by_key(|(.., expires)| *expires)?;
        Some((one.actor(), entry.source))
    }

    /// What lists say of an address and of the networks around it until after `since`, with the end of each: the narrowest
    /// first.
    fn lists_around(&self, address: std::net::IpAddr, since: u64) -> Vec<(&ActiveList, &Listing, u64)> {
        let exact = Source::of(address, self.settings.ipv6_prefix);
        let mut around: Vec<Source> = around(Source::of(address, 128)).collect();
        around.push(exact);
        let live = around.into_iter().rev().filter_map(|source| self.feeds.decides(source));
        live.filter(|(_, _, expires)| *expires > since).collect()
    }

    /// One page of everything that is blocked.
    pub(super) fn export(
        &self,
        feed: Option<&str>,
        cursor: Option<ExportCursor>,
        now: Now,
    ) -> Result<ControlAnswer, Refused> {
        let number = match feed {
            None => None,
            Some(name) => {
                let found =
                    self.feeds.find(name).ok_or_else(|| Refused::new("not_found", "there is no feed of that name"))?;
                Some(found.row.id)
            }
        };
        let cursor = cursor.unwrap_or(ExportCursor { feed: number.unwrap_or(0), after: None });
        let after = cursor.after.as_deref().map(str::parse::<Source>).transpose();
        let after = after.map_err(|_error| Refused::new("bad_request", "the cursor names no source"))?;
        let left = |expires: u64| (expires != NEVER).then(|| expires.saturating_sub(now.monotonic).div_ceil(SECOND));
        let mut entries = Vec::new();
        if cursor.feed == 0 {
            let mut made: Vec<&BanRecord> =
                self.ledger.records().filter(|record| after.is_none_or(|after| record.source > after)).collect();
            made.sort_unstable_by_key(|record| record.source);
            entries.extend(made.into_iter().take(PAGE).map(|record| Exported {
                source: record.source,
                seconds: left(expiry(record)),
                reason: record.reason.clone(),
                actor: record.actor.clone(),
                shadow: record.shadow,
            }));
        } else if let Some(one) = self.feeds.listed.iter().find(|one| one.row.id == cursor.feed) {
            let live = one.content.after(after).iter().filter(|entry| one.content.expires(entry) > now.monotonic);
            entries.extend(live.take(PAGE).map(|entry| Exported {
                source: entry.source,
                seconds: left(one.content.expires(entry)),
                reason: one.content.reason(entry).to_owned(),
                actor: one.actor(),
                shadow: one.row.shadow,
            }));
        }
        let next = match entries.last() {
            Some(last) if entries.len() == PAGE => {
                Some(ExportCursor { feed: cursor.feed, after: Some(last.source.to_string()) })
            }
            _ if number.is_some() => None,
            _ => {
                let later = self.feeds.listed.iter().map(|one| one.row.id).filter(|id| *id > cursor.feed);
                later.min().map(|feed| ExportCursor { feed, after: None })
            }
        };
        Ok(ControlAnswer::Exported { entries, next })
    }
}
