//! Whoever lists with `use = "never_ban"` name: a CDN, health checks. Nobody bans them but an operator who insists.
//!
//! *Invariant:* what a guard knew of them is known to the next one from its first decision on: it is in a file of the state
//! folder. Without that file the lists are read or fetched again.

use std::{collections::BTreeMap, io};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use super::{
    super::policy::safety::NEVER_BAN,
    crawlers::{is_too_much, is_too_wide},
    lists::RangeList,
    never_ban::NeverBan,
    plan::UpdateKind,
    *,
};
use crate::{
    guard::state_files::{json_file, set_aside},
    settings::{crawlers::MAX_NETWORKS, feed::FeedPurpose},
};

/// The file in the state folder.
const FILE: &str = "never-ban.json";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A list as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct KeptList {
    digest: String,
    loaded: u64,
    networks: Vec<String>,
}

impl Guard {
    /// Whether a list says that `source` is never banned.
    pub(in super::super) fn judge_never_ban(&self, source: Source) -> Result<(), Refused> {
        let Some(network) = self.feeds.never_ban.find(source) else { return Ok(()) };
        let names = |list: &RangeList| list.purpose == FeedPurpose::NeverBan && list.networks.contains(&network);
        let name = self.feeds.ranges.iter().find(|(_, list)| names(list)).map_or("", |(name, _)| name.as_str());
        let how = if network.covers(&source) { "is in" } else { "holds" };
        Err(Refused::new(
            NEVER_BAN,
            format!(
                "{source} {how} {network}, which the list {name} says is never banned: only `gateway block add --force` blocks it"
            ),
        ))
    }

    /// Finds the networks of all such lists.
    fn gather_never_ban(&mut self) {
        let lists = self.feeds.ranges.values().filter(|list| list.purpose == FeedPurpose::NeverBan);
        self.feeds.never_ban = Arc::new(NeverBan::new(lists.flat_map(|list| list.networks.iter().copied())));
    }

    /// Lists have changed: keeps them for the next guard, and takes back what stands against them.
    pub(super) fn never_ban_changed(&mut self, now: Now) {
        self.gather_never_ban();
        let lists = self.feeds.ranges.iter().filter(|(_, list)| list.purpose == FeedPurpose::NeverBan);
        let kept: BTreeMap<&str, KeptList> = lists
            .map(|(name, list)| {
                let networks = list.networks.iter().map(ToString::to_string).collect();
                (name.as_str(), KeptList { digest: list.digest.clone(), loaded: list.loaded, networks })
            })
            .collect();
        let path = self.settings.state_dir.join(FILE);
        if let Err(error) = json_file::write(&path, &kept) {
            let file = path.display();
            tracing::warn!(%file, %error, "it cannot be kept who is never banned: a guard that starts reads the lists again");
        }
        self.take_back_never_ban(now);
    }

    /// Ends bans that nobody insisted on, and removes entries of lists, of whoever is never banned.
    pub(super) fn take_back_never_ban(&mut self, now: Now) {
        if self.feeds.never_ban.is_empty() {
            return;
        }
        let is_wrong =
            |record: &&BanRecord| record.rule.is_some() && self.feeds.never_ban.find(record.source).is_some();
        let wrong: Vec<u64> = self.ledger.records().filter(is_wrong).map(|record| record.id).collect();
        let how = format!("taken back: {NEVER_BAN}, a list says that it is never banned");
        if let Err(refused) = self.end(&wrong, &how, Some("unban"), now, None, nothing()) {
            tracing::error!(error = %refused, "bans of whoever is never banned stay until their end can be recorded");
        }
        let mut jobs = Vec::new();
        let is_coming = |name: &str| self.feeds.job.iter().chain(&self.feeds.waiting).any(|job| job.row.name == name);
        for one in &self.feeds.listed {
            let content = &one.content;
            // What is on its way is newer, and would be replaced by what is in force: this is tried again within minutes.
            if is_coming(&one.row.name) || !self.feeds.never_ban.meets(content) {
                continue;
            }
            tracing::info!(list = one.actor(), "entries of a list are removed: they are never banned");
            let row = FeedRow { boot: self.ledger.boot().to_owned(), loaded: now.unix_millis, ..one.row.clone() };
            // What is held back for good clients stays so.
            jobs.push(ListUpdate::new(UpdateKind::Spare, row, FeedDraft::new(now.monotonic), 0, None));
        }
        self.begin_own(jobs);
    }

    /// Takes over what an earlier guard kept. What cannot be read is told, and set aside by the guard that `repairs`: the
    /// commands that work without it leave it where it is.
    pub(in super::super) fn adopt_never_ban(&mut self, repairs: bool) {
        let path = self.settings.state_dir.join(FILE);
        let kept: BTreeMap<String, KeptList> = match json_file::read(&path, MAX_FILE) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let mut text =
                    format!("{} cannot be read: {error}: its lists are read or fetched again", path.display());
                if repairs {
                    if let Ok(aside) = set_aside(&path) {
                        text.push_str(&format!("; it is kept as {}", aside.display()));
                    }
                    tracing::error!("{text}");
                }
                self.shortfalls.add([text]);
                return;
            }
        };
        for (name, KeptList { digest, loaded, networks }) in kept {
            let is_wanted =
                |feed: &crate::settings::feed::Feed| feed.name == name && feed.purpose == FeedPurpose::NeverBan;
            if !self.settings.feeds.iter().any(is_wanted) {
                continue;
            }
            let count = networks.len();
            let networks: Vec<Source> = networks.iter().filter_map(|network| network.parse().ok()).collect();
            // As strict as when a list comes. Such a list is read or fetched again.
            let is_wide = networks.iter().any(|network| is_too_wide(*network)) || is_too_much(&networks);
            if networks.len() < count || count > MAX_NETWORKS || is_wide {
                let why = if is_wide { "it spares too much" } else { "it is damaged or too long" };
                let text = format!("{}: list {name} is not taken over, as {why}: it is read again", path.display());
                tracing::error!("{text}");
                self.shortfalls.add([text]);
                continue;
            }
            self.feeds.ranges.insert(name, RangeList { purpose: FeedPurpose::NeverBan, digest, networks, loaded });
        }
        self.gather_never_ban();
    }
}
