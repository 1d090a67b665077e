//! What is known of the lists that are fetched: when each is fetched next, how it went, and by what its server knows which
//! list there is. What a restart has to know is in a file in the state folder; the lists themselves are in the store.
//!
//! *Invariant:* only lists of the configuration are known. Without the file, or with one that is damaged, every list is
//! fetched as a whole once more, and that is all.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{fetched::Validators, schedule::FetchSchedule};
use crate::{
    guard::{
        control::{ControlAnswer, FeedFetch},
        state_files::{json_file, set_aside},
    },
    message::observer::fetch::Fetch,
    os::clock::{Now, rfc3339},
    settings::feed::{Feed, FetchedFeed},
    text::counted::counted,
};

/// The file in the state folder.
const FILE: &str = "feeds.json";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// How many lists are fetched at once.
const AT_ONCE: usize = 4;

/// What outlives the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFetch {
    /// Of the settings by which the list is read: after a change it is fetched as a whole.
    #[serde(default)]
    read_by: String,
    /// SHA-256 of where the list came from: that may hold a key.
    source: String,
    /// SHA-256 of where its checksum is; empty: it was held against none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    proof: String,
    etag: String,
    last_modified: String,
    /// Of the list that the server calls so.
    digest: String,
    /// When the server last gave or confirmed it: milliseconds since 1970; 0: never.
    confirmed: u64,
}

/// The way to whoever waits for a fetch.
pub(crate) type ReplySender = oneshot::Sender<ControlAnswer>;

#[derive(Debug, Default)]
struct Known {
    settings: Option<FetchedFeed>,
    kept: KeptFetch,
    schedule: FetchSchedule,
    /// Since when it is known: milliseconds since 1970.
    since: u64,
    failing: Option<String>,
    /// The digest of what was refused, and why.
    refused: Option<(String, String)>,
    /// An operator takes the next list, however much it has lost.
    accepts: bool,
    /// What is in force came from another source.
    is_elsewhere: bool,
    waiting: Option<ReplySender>,
    changed: u64,
    unchanged: u64,
    failed: u64,
    refusals: u64,
}

/// A list that is to be fetched.
pub(crate) struct FetchOrder {
    pub(crate) feed: Feed,
    pub(crate) question: Fetch,
    /// The longest list.
    pub(crate) most: u64,
    /// What the server was told of the list in force.
    pub(crate) asked: Validators,
    /// The digest of that.
    pub(crate) in_force: Option<String>,
}

/// All lists that are fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    /// What was kept of lists that are not known yet.
    found: HashMap<String, KeptFetch>,
    is_behind: bool,
    is_unwritable: bool,
    finding: Option<String>,
}

impl Fetches {
    /// Reads what an earlier guard kept in `state_dir`.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let (found, finding) = match json_file::read(&path, MAX_FILE) {
            Ok(found) => (found, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (HashMap::new(), None),
            Err(error) => (HashMap::new(), Some(without(&path, &error))),
        };
        Self { path, found, finding, ..Self::default() }
    }

    /// Goes on with these lists, of which these are in force.
    pub(crate) fn configure(&mut self, feeds: &[Feed], in_force: &HashMap<String, String>, now: Now) {
        let count = self.known.len();
        self.known.retain(|name, _| feeds.iter().any(|feed| feed.name == *name && feed.fetched().is_some()));
        self.is_behind |= self.known.len() != count;
        for (feed, fetched) in feeds.iter().filter_map(|feed| Some((feed, feed.fetched()?))) {
            let known = self.known.entry(feed.name.clone()).or_insert_with(|| {
                let kept = self.found.remove(&feed.name).unwrap_or_default();
                Known { kept, since: now.unix_millis, ..Known::default() }
            });
            let read_by = super::list::digest(feed, b"");
            let is_read_alike = known.kept.read_by == read_by;
            if is_read_alike && known.settings.as_ref() == Some(fetched) {
                continue;
            }
            known.settings = Some(fetched.clone());
            let (source, proof) = (hex(&fetched.source.identity()), proof(fetched));
            if known.kept.source != source {
                known.is_elsewhere = !known.kept.source.is_empty();
                known.kept = KeptFetch { source, ..KeptFetch::default() };
                (known.since, known.refused, known.failing) = (now.unix_millis, None, None);
            }
            if !is_read_alike {
                // An operator has changed what is read of it: it is fetched as a whole, and may be shorter.
                known.is_elsewhere |= !known.kept.digest.is_empty();
                known.kept.digest.clear();
            }
            if known.kept.proof != proof {
                // What is in force was not held against this checksum: the server may not call it unchanged.
                known.kept.digest.clear();
                (known.kept.etag, known.kept.last_modified) = (String::new(), String::new());
                known.kept.proof = proof;
            }
            known.kept.read_by = read_by;
            let age = now.unix_millis.saturating_sub(known.kept.confirmed);
            let is_known = known.kept.confirmed > 0 && in_force.get(&feed.name) == Some(&known.kept.digest);
            let is_fetching = known.schedule.is_fetching;
            let age = is_known.then(|| Duration::from_millis(age));
            known.schedule = FetchSchedule::new(fetched.every, age, chance(), now.monotonic);
            known.schedule.is_fetching = is_fetching;
        }
    }

    /// What is to be fetched now.
    pub(crate) fn due(&mut self, feeds: &[Feed], in_force: &HashMap<String, String>, now: Now) -> Vec<FetchOrder> {
        let mut room = AT_ONCE.saturating_sub(self.known.values().filter(|known| known.schedule.is_fetching).count());
        let mut orders = Vec::new();
        for (name, known) in &mut self.known {
            let Some(feed) = feeds.iter().find(|feed| feed.name == *name) else { continue };
            if room == 0 || !known.schedule.begin(now.monotonic) {
                continue;
            }
            room -= 1;
            let in_force = in_force.get(name).cloned();
            let asked = if in_force.as_ref() == Some(&known.kept.digest) {
                let KeptFetch { etag, last_modified, .. } = known.kept.clone();
                Validators { etag, last_modified }
            } else {
                Validators::default()
            };
            let Validators { etag, last_modified } = asked.clone();
            let most = feed.fetched().map_or(0, |fetched| fetched.source.max_size);
            let question = Fetch::Feed { name: name.clone(), etag, last_modified };
            orders.push(FetchOrder { feed: feed.clone(), question, most, asked, in_force });
        }
        orders
    }

    /// Fetches a list at once, for whoever waits. With `accepts` its next content is taken, however much it has lost.
    ///
    /// # Errors
    /// There is no such list: whoever waits.
    pub(crate) fn refresh(
        &mut self,
        name: &str,
        accepts: bool,
        waiting: ReplySender,
        now: Now,
    ) -> Result<(), ReplySender> {
        let Some(known) = self.known.get_mut(name) else { return Err(waiting) };
        known.schedule.next = now.monotonic;
        known.accepts |= accepts;
        let before = known.waiting.replace(waiting);
        answer(
            before,
            ControlAnswer::Done { message: format!("{name} is being fetched for somebody else"), changed: 0 },
        );
        Ok(())
    }

    /// How much of the list in force may be gone, in millionths; `None`: an operator takes whatever comes.
    pub(crate) fn may_shrink(&self, name: &str) -> Option<u32> {
        let Some(known) = self.known.get(name) else { return Some(0) };
        if known.accepts {
            return None;
        }
        // A list that comes from elsewhere is another one.
        let usual = known.settings.as_ref().map_or(0, |fetched| fetched.max_shrink);
        Some(if known.is_elsewhere { 1_000_000 } else { usual })
    }

    /// A list was fetched that is put in force.
    pub(crate) fn changed(&mut self, name: &str, validators: Validators, digest: String, entries: usize, now: Now) {
        let told = format!("{name} has {entries} entries, which are being put in force");
        self.answered(name, told, 1, now, |known| {
            known.changed += 1;
            known.kept.digest = digest;
            known.is_elsewhere = false;
            (known.kept.etag, known.kept.last_modified) = (validators.etag, validators.last_modified);
        });
    }

    /// The server has the list that is in force. Whether it was refused before.
    pub(crate) fn unchanged(&mut self, name: &str, digest: String, validators: Option<Validators>, now: Now) -> bool {
        let was_refused = self.known.get(name).is_some_and(|known| known.refused.is_some());
        self.answered(name, format!("{name} has not changed"), 0, now, |known| {
            known.unchanged += 1;
            known.kept.digest = digest;
            known.is_elsewhere = false;
            if let Some(validators) = validators {
                (known.kept.etag, known.kept.last_modified) = (validators.etag, validators.last_modified);
            }
        });
        was_refused
    }

    fn answered(&mut self, name: &str, told: String, changed: u64, now: Now, note: impl FnOnce(&mut Known)) {
        let Some(known) = self.known.get_mut(name) else { return };
        if known.failing.take().is_some() {
            tracing::info!(feed = name, "the list of a feed is fetched again");
        }
        (known.refused, known.accepts, known.kept.confirmed) = (None, false, now.unix_millis);
        note(known);
        known.schedule.answered(known.every(), chance(), now.monotonic);
        answer(known.waiting.take(), ControlAnswer::Done { message: told, changed });
        self.is_behind = true;
    }

    /// What was fetched is refused. Whether that is to be recorded: the same list is refused once.
    pub(crate) fn refused(&mut self, name: &str, digest: String, why: &str, now: Now) -> bool {
        let Some(known) = self.known.get_mut(name) else { return false };
        known.refusals += 1;
        (known.accepts, known.failing) = (false, None);
        known.schedule.answered(known.every(), chance(), now.monotonic);
        // What is said of it may differ, as entries of the list in force end.
        let is_new = known.refused.as_ref().is_none_or(|(before, _)| *before != digest);
        known.refused = Some((digest, why.to_owned()));
        answer(
            known.waiting.take(),
            ControlAnswer::Refused { code: "refused".to_owned(), message: format!("{name}: {why}") },
        );
        is_new
    }

    /// The list could not be fetched. With `alone` the server wants to be left alone for so many seconds.
    pub(crate) fn failed(&mut self, name: &str, why: &str, alone: u64, now: Now) {
        let Some(known) = self.known.get_mut(name) else { return };
        if known.failing.is_none() {
            tracing::warn!(feed = name, error = why, "the list of a feed cannot be fetched");
        }
        known.failed += 1;
        // Whoever waits is told that it failed: a list that comes hours later is not what was meant.
        known.accepts = false;
        known.failing = Some(why.to_owned());
        known.schedule.failed(known.every(), alone, chance(), now.monotonic);
        answer(
            known.waiting.take(),
            ControlAnswer::Refused { code: "fetch_failed".to_owned(), message: format!("{name}: {why}") },
        );
    }

    /// The list was not fetched, for a reason of the gateway's own.
    pub(crate) fn interrupted(&mut self, name: &str, why: &str, now: Now) {
        let Some(known) = self.known.get_mut(name) else { return };
        tracing::debug!(feed = name, why, "a fetch is tried again");
        known.accepts = false;
        known.schedule.interrupted(now.monotonic);
        answer(
            known.waiting.take(),
            ControlAnswer::Refused { code: "no_observer".to_owned(), message: format!("{name}: {why}") },
        );
    }

    /// How each list is.
    pub(crate) fn states(&self, now: Now) -> Vec<FeedFetch> {
        let state = |(name, known): (&String, &Known)| {
            let next = known.schedule.next.saturating_sub(now.monotonic) / crate::os::clock::SECOND;
            FeedFetch {
                name: name.clone(),
                from: known.settings.as_ref().map_or_else(String::new, |fetched| fetched.source.url.shown()),
                confirmed: if known.kept.confirmed == 0 { String::new() } else { rfc3339(known.kept.confirmed) },
                next_seconds: (!known.schedule.is_fetching).then_some(next),
                failures: known.schedule.failures,
                failing: known.failing.clone(),
                refused: known.refused.as_ref().map(|(_, why)| why.clone()),
                is_stale: known.is_stale(now),
                changed: known.changed,
                unchanged: known.unchanged,
                failed: known.failed,
                refusals: known.refusals,
            }
        };
        self.known.iter().map(state).collect()
    }

    /// What an operator should know of them.
    pub(crate) fn warnings(&self, now: Now) -> impl Iterator<Item = String> {
        let warning = move |(name, known): (&String, &Known)| {
            let from = known.settings.as_ref().map_or_else(String::new, |fetched| fetched.source.url.shown());
            let since = match known.kept.confirmed {
                0 => "never fetched".to_owned(),
                confirmed => format!("last fetched or confirmed at {}", rfc3339(confirmed)),
            };
            let is_stale = known.is_stale(now);
            match (&known.failing, is_stale) {
                (Some(why), _) => {
                    let tries = counted(known.schedule.failures, "try", "tries");
                    let is_loaded = known.kept.confirmed > 0 || known.is_elsewhere;
                    let stays = if is_loaded { "; what was loaded before stays in force" } else { "" };
                    let old = if is_stale { ", for longer than stale_after" } else { "" };
                    Some(format!("feed:{name}: cannot be fetched from {from}{old} ({tries}; {since}): {why}{stays}"))
                }
                (None, true) if known.kept.confirmed == 0 => Some(match &known.refused {
                    Some((_, why)) => {
                        format!("feed:{name}: whatever is fetched is refused, for longer than stale_after: {why}")
                    }
                    None => format!("feed:{name}: never fetched, for longer than stale_after"),
                }),
                (None, true) => Some(format!("feed:{name}: older than stale_after ({since})")),
                (None, false) => None,
            }
        };
        self.finding.iter().cloned().chain(self.known.iter().filter_map(warning))
    }

    /// Writes the file if it has not what is kept. To be called every second.
    pub(crate) fn write(&mut self) {
        if !std::mem::take(&mut self.is_behind) {
            return;
        }
        let kept: BTreeMap<&str, &KeptFetch> =
            self.known.iter().map(|(name, known)| (name.as_str(), &known.kept)).collect();
        match json_file::write(&self.path, &kept) {
            Ok(()) => self.is_unwritable = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_unwritable, true) {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "it cannot be kept which lists were fetched: a restart fetches them again");
                }
            }
        }
    }
}

impl Known {
    fn every(&self) -> Duration {
        self.settings.as_ref().map_or(Duration::from_secs(3_600), |fetched| fetched.every)
    }

    fn is_stale(&self, now: Now) -> bool {
        let confirmed = if self.kept.confirmed == 0 { self.since } else { self.kept.confirmed };
        let age = Duration::from_millis(now.unix_millis.saturating_sub(confirmed));
        self.settings.as_ref().is_some_and(|fetched| age > fetched.stale_after)
    }
}

fn answer(to: Option<ReplySender>, answer: ControlAnswer) {
    if to.is_some_and(|to| to.send(answer).is_err()) {
        tracing::debug!("a control client did not wait for its answer");
    }
}

/// SHA-256 of where something comes from: that may hold a key.
fn hex(of: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, of.as_bytes()).as_ref())
}

/// SHA-256 of where the checksum of a list comes from; empty: it has none. A list of another checksum is the same list, of
/// which no more than `max_shrink` may be missing.
fn proof(fetched: &FetchedFeed) -> String {
    fetched.source.checksum.as_deref().map(hex).unwrap_or_default()
}

/// By chance. Without randomness the middle: nobody guesses anything by it.
fn chance() -> u16 {
    let mut chance = [0; 2];
    let is_random = aws_lc_rs::rand::fill(&mut chance).is_ok();
    if is_random { u16::from_be_bytes(chance) } else { u16::MAX / 2 }
}

/// What is said where the file cannot be used.
fn without(path: &Path, error: &io::Error) -> String {
    let why = match set_aside(path) {
        Ok(aside) => format!("and was set aside as {}", aside.display()),
        Err(_unwritable) => "and cannot be set aside".to_owned(),
    };
    let told = format!("{} cannot be used ({error}) {why}: lists are fetched again", path.display());
    tracing::error!("{told}");
    told
}

#[cfg(test)]
mod tests;
