//! The lists of feeds that are in force, that arrive, and that are on their way: what is known of them.
//!
//! What is done with them is done by the guard, in the files beside this one.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use gateway_common::{maps::Rule, source::Source};
use tokio::sync::oneshot;

use super::{
    never_ban::NeverBan,
    plan::{UpdateKind, UpdatePlan},
    shield::{self, Shield},
};
use crate::guard::{
    control::{ControlAnswer, ImportEntry, ListRefusal},
    enforcement::{BanScan, RuleScan},
    feeds::content::{FeedContent, FeedDraft, Listing},
    store::feeds::FeedRow,
};
use crate::settings::feed::FeedPurpose;

/// How many lines of a file are held.
const MOST: usize = 4_096;

/// A list in force.
pub(in crate::guard::bans) struct ActiveList {
    pub(in crate::guard::bans) row: FeedRow,
    pub(in crate::guard::bans) content: Arc<FeedContent>,
}

/// A list that bans nobody: the ranges of a crawler, or of whoever is never banned.
pub(super) struct RangeList {
    pub(super) purpose: FeedPurpose,
    pub(super) digest: String,
    pub(super) networks: Vec<Source>,
    /// When it came: milliseconds since 1970.
    pub(super) loaded: u64,
}

/// All lists, and what is being done about them.
#[derive(Default)]
pub(crate) struct Feeds {
    pub(super) listed: Vec<ActiveList>,
    /// The highest number of a list so far.
    pub(super) numbered: u32,
    /// Another process has locked the store: lists wait until the next second.
    pub(super) is_paused: bool,
    /// A list could not be read from the store.
    pub(in crate::guard::bans) is_broken: bool,
    /// Different sources that are exact entries.
    pub(in crate::guard::bans) exact: usize,
    pub(super) generation: u64,
    pub(super) sessions: HashMap<u64, ImportSession>,
    pub(super) next_session: u64,
    pub(super) job: Option<ListUpdate>,
    pub(super) waiting: VecDeque<ListUpdate>,
    pub(super) scrub: Option<Scrub>,
    pub(super) slots: Slots,
    /// The ranges of crawlers, and of whoever is never banned.
    pub(super) ranges: BTreeMap<String, RangeList>,
    /// What may not be banned.
    pub(super) never_ban: Arc<NeverBan>,
    /// Lists whose file was not written for longer than `stale_after`, with when it was: milliseconds since 1970.
    pub(super) old_files: BTreeMap<String, u64>,
    /// Lines that are judged again, by feed.
    pub(super) held: BTreeMap<String, FeedFile>,
    /// What is wrong, by feed.
    pub(super) warnings: BTreeMap<String, ListWarning>,
    /// Prefixes whose rules changed while others were being prepared.
    pub(super) touched: Option<Vec<Source>>,
}

/// What is wrong with a list.
pub(super) struct ListWarning {
    pub(super) text: String,
    /// The list is one of the configuration: what is wrong with it is over once it is there no more.
    pub(super) is_of_file: bool,
}

impl ListWarning {
    pub(super) const fn of_file(text: String) -> Self {
        Self { text, is_of_file: true }
    }

    /// A list was not taken; gone with the next that is.
    pub(super) fn is_refusal(&self) -> bool {
        self.text.starts_with("refused")
    }
}

/// Where rules of feeds are counted: from the last slot down.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) free: Vec<u32>,
    pub(super) taken: u32,
    pub(super) kept: HashSet<u32>,
}

impl Slots {
    /// A slot that nothing counts in; 0, which is not counted, if there is none.
    pub(super) fn take(&mut self, all: u32) -> u32 {
        if let Some(free) = self.free.pop() {
            return free;
        }
        loop {
            self.taken = self.taken.saturating_add(1);
            let slot = all.saturating_sub(self.taken);
            if slot == 0 || !self.kept.contains(&slot) {
                return slot;
            }
        }
    }
}

impl Feeds {
    /// Every list, for the store.
    pub(in crate::guard::bans) fn rows(&self) -> impl Iterator<Item = (FeedRow, Arc<FeedContent>)> {
        self.listed.iter().map(|one| (one.row.clone(), Arc::clone(&one.content)))
    }

    /// What the next list is numbered by.
    pub(super) fn next_number(&mut self) -> u32 {
        let highest = self.listed.iter().map(|one| one.row.id).max().unwrap_or(0);
        self.numbered = self.numbered.max(highest).saturating_add(1);
        self.numbered
    }

    /// How many entries there are, those that several feeds list counted for each.
    pub(in crate::guard::bans) fn len(&self) -> usize {
        self.listed.iter().map(|one| one.content.entries.len()).sum()
    }

    /// Everything that is listed, by some feed or several.
    pub(in crate::guard::bans) fn sources(&self) -> impl Iterator<Item = Source> {
        self.listed.iter().flat_map(|one| one.content.entries.iter().map(|entry| entry.source))
    }

    pub(super) fn find(&self, name: &str) -> Option<&ActiveList> {
        self.listed.iter().find(|one| one.row.name == name)
    }

    /// The entry of exactly `source` that decides.
    pub(super) fn decides(&self, source: Source) -> Option<(&ActiveList, &Listing, u64)> {
        let of = |one: &'_ ActiveList| one.content.find(source).map(|entry| one.content.expires(entry));
        let best = self.listed.iter().filter_map(|one| Some((one, of(one)?)));
        let (one, expires) = best.max_by_key(|(one, expires)| (!one.row.shadow, *expires))?;
        Some((one, one.content.find(source)?, expires))
    }
}

impl ActiveList {
    pub(super) fn actor(&self) -> String {
        actor(&self.row.name)
    }

    pub(super) fn mode(&self) -> &'static str {
        if self.row.shadow { "shadow" } else { "enforce" }
    }
}

pub(super) fn actor(name: &str) -> String {
    if name.is_empty() { "import".to_owned() } else { format!("feed:{name}") }
}

/// Lines of one file, and when it was read.
pub(super) struct FeedFile {
    pub(super) row: FeedRow,
    pub(super) read: u64,
    pub(super) first: ListRefusal,
    pub(super) entries: Vec<ImportEntry>,
}

/// The lines of a file that is being judged.
#[derive(Default)]
pub(super) struct Holding {
    pub(super) first: Option<ListRefusal>,
    pub(super) entries: Vec<ImportEntry>,
}

impl Holding {
    /// Whether the line is held.
    pub(super) fn hold(&mut self, entry: ImportEntry, refusal: &ListRefusal) -> bool {
        if refusal.code != shield::GOOD_CLIENT || self.entries.len() >= MOST {
            return false;
        }
        self.first.get_or_insert_with(|| refusal.clone());
        self.entries.push(entry);
        true
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }
}

/// A list that is arriving.
pub(super) struct ImportSession {
    /// Who began it: nobody else goes on with it.
    pub(super) owner: super::Actor,
    pub(super) name: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) shadow: bool,
    /// Whom it must not block; `None`: it may block everybody that a block made by hand may with `--force`.
    pub(super) shield: Option<Shield>,
    pub(super) draft: FeedDraft,
    pub(super) refused: u64,
    /// What is judged again, if it follows a file.
    pub(super) holding: Option<Holding>,
    /// The first entry that was refused.
    pub(super) first: Option<ListRefusal>,
    pub(super) told: usize,
    pub(super) used: u64,
    /// There was no place for one more list: it takes no entry, and can remove a list.
    pub(super) is_without_place: bool,
}

/// A comparison that is under way: bans first, then rules.
pub(in crate::guard::bans) struct Scrub {
    /// Where in the map it is.
    pub(super) cursor: BanScan,
    /// Entries that are as they should be, or were made so.
    pub(super) right: usize,
    pub(super) repaired: usize,
    /// Entries are missing: which feed and which entry are looked for next. The blocks made one by one come first.
    pub(super) missing: Option<(usize, usize)>,
    /// The bans are compared; what of the rules is.
    pub(super) rules: Option<RuleScrub>,
    /// Rules that were changed meanwhile. They are right, whatever was read of them.
    pub(super) changed: HashSet<Source>,
}

#[derive(Default)]
pub(super) struct RuleScrub {
    pub(super) cursor: RuleScan,
    pub(super) found: HashMap<Source, Rule>,
    /// Sources that may have a rule and are still to be looked at; `None`: what there is is still being read.
    pub(super) wanted: Option<std::vec::IntoIter<Source>>,
}

/// Who waits for a list.
pub(crate) type Reply = oneshot::Sender<ControlAnswer>;

/// A list on its way.
pub(super) struct ListUpdate {
    pub(super) kind: UpdateKind,
    pub(super) row: FeedRow,
    pub(super) draft: Option<FeedDraft>,
    pub(super) refused: u64,
    /// Lines that are judged again once this is in force, and when they were read.
    pub(super) holding: Option<(Holding, u64)>,
    pub(super) reply: Option<(u64, Reply)>,
    pub(super) stage: UpdateStage,
    pub(super) plan: UpdatePlan,
    /// The generation that this one replaces.
    pub(super) old: Option<u64>,
    /// Entries must go before others come, or they do not fit.
    pub(super) leave_first: bool,
    pub(super) error: Option<String>,
    /// There was no such list, but a warning about it.
    pub(super) dismissed: bool,
    /// All was flushed before it came into force.
    pub(super) is_cancelled: bool,
    /// An operator lifts something by it: as other blocks, also where that cannot be recorded.
    pub(super) lifts: bool,
    /// Its entries could not be written before it comes into force: they are written with it.
    pub(super) is_whole: bool,
    /// What to say of what is not recorded.
    pub(super) unrecorded: Option<String>,
}

pub(super) enum UpdateStage {
    /// The entries of a file, and when they were read: `CLOCK_MONOTONIC`, nanoseconds.
    Come(Vec<ImportEntry>, u64),
    Judge(Box<(ImportSession, std::vec::IntoIter<ImportEntry>)>),
    Plan,
    Planning,
    Store(u64),
    Force,
    Enter(usize),
    Leave(usize),
    Relist(usize),
    Clear,
    Fill(Option<std::vec::IntoIter<Source>>),
    Forget,
    Chunks,
    Done,
}

impl ListUpdate {
    pub(super) fn new(
        kind: UpdateKind,
        row: FeedRow,
        draft: FeedDraft,
        refused: u64,
        reply: Option<(u64, Reply)>,
    ) -> Self {
        Self {
            kind,
            // What it replaces is none of its own.
            row: FeedRow { generation: 0, ..row },
            draft: Some(draft),
            refused,
            holding: None,
            reply,
            stage: UpdateStage::Plan,
            plan: UpdatePlan::default(),
            old: None,
            leave_first: false,
            error: None,
            dismissed: false,
            is_cancelled: false,
            lifts: false,
            is_whole: false,
            unrecorded: None,
        }
    }

    /// What a file lists, which was read at `read`.
    pub(super) fn of_file(row: FeedRow, entries: Vec<ImportEntry>, read: u64) -> Self {
        let stage = UpdateStage::Come(entries, read);
        Self { stage, draft: None, ..Self::new(UpdateKind::Replace, row, FeedDraft::default(), 0, None) }
    }
}

impl ListUpdate {
    /// Nothing of it is to be changed, unless it follows a file.
    pub(super) fn cancel(&mut self) {
        self.is_cancelled |= !self.row.file && self.is_not_in_force();
    }

    /// Whoever imported it does not wait for it any more, and takes it to have failed.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(|(_, reply)| reply.is_closed())
    }

    /// Nothing has changed yet.
    pub(super) const fn is_not_in_force(&self) -> bool {
        matches!(
            self.stage,
            UpdateStage::Come(..)
                | UpdateStage::Judge(_)
                | UpdateStage::Plan
                | UpdateStage::Planning
                | UpdateStage::Store(_)
                | UpdateStage::Force
        )
    }

    /// It is in force, and entries of the kernel are not yet as they should be.
    pub(super) const fn is_changing(&self) -> bool {
        !self.is_not_in_force() && !matches!(self.stage, UpdateStage::Chunks | UpdateStage::Done)
    }

    /// What of a file is judged again, now that the rest is in force: nothing of a list that was replaced otherwise.
    pub(super) fn hold(&mut self, feeds: &mut Feeds) {
        if matches!(self.kind, UpdateKind::Replace) {
            let (holding, read) = self.holding.take().unwrap_or_default();
            feeds.hold(&self.row, holding, read);
        }
    }

    /// Goes on after an error that only the kernel had.
    pub(super) fn failed(&mut self, error: &dyn std::error::Error, next: UpdateStage) -> UpdateStage {
        tracing::error!(feed = self.row.name, %error, "a list is not complete in the kernel until the next repair");
        self.error.get_or_insert_with(|| error.to_string());
        next
    }
}
