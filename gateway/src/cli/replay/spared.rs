//! Whom a configuration spares: what it allows, trusts or never bans, and crawlers, by what stands in it and in files beside
//! it.
//!
//! *Invariant:* nothing is fetched and no name is looked up. What is not read is told.

use std::{fs, net::IpAddr, path::Path};

use gateway_common::source::Source;

use crate::{
    config::Config,
    lists,
    net::source_set::SourceSet,
    settings::feed::{Feed, FeedPurpose},
};

/// Whom a configuration spares.
#[derive(Default)]
pub(super) struct Spared {
    allow: Vec<Source>,
    trusted: SourceSet,
    /// Lists of those that are never banned, by their names.
    never_ban: Vec<(String, Vec<Source>)>,
    /// What names each crawler in a user agent, in lower case, and its networks.
    crawlers: Vec<(Vec<String>, SourceSet)>,
    /// What is not read, for people.
    pub(super) unread: Vec<String>,
}

impl Spared {
    /// What `config` spares. Files of lists are read; a list that cannot be read spares nobody, and is told.
    pub(super) fn by(config: &Config) -> Self {
        let guard = &config.guard;
        let (mut never_ban, mut ranges, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for feed in guard.feeds.iter().filter(|feed| feed.purpose != FeedPurpose::Ban) {
            match read(feed) {
                Ok(networks) if feed.purpose == FeedPurpose::NeverBan => never_ban.push((feed.name.clone(), networks)),
                Ok(networks) => ranges.push((feed.name.as_str(), networks)),
                Err(why) => unread.push(format!("feed:{} ({}): {why}", feed.name, feed.purpose.name())),
            }
        }
        let crawlers = config.proxy.crawlers.crawlers.iter().map(|crawler| {
            if !crawler.hosts.is_empty() {
                unread.push(format!("crawler.{}: its hosts are not looked up", crawler.name));
            }
            let own = ranges.iter().filter(|(name, _)| crawler.feeds.iter().any(|feed| feed == name));
            (crawler.agents.clone(), own.flat_map(|(_, networks)| networks.iter().copied()).collect())
        });
        let crawlers = crawlers.collect();
        Self { unread, ..Self::of(&guard.allow, &guard.trusted_proxies, never_ban, crawlers) }
    }

    pub(super) fn of(
        allow: &[Source],
        trusted: &[Source],
        never_ban: Vec<(String, Vec<Source>)>,
        crawlers: Vec<(Vec<String>, Vec<Source>)>,
    ) -> Self {
        let crawlers = crawlers.into_iter().map(|(agents, networks)| {
            (agents.iter().map(|agent| agent.to_ascii_lowercase()).collect(), SourceSet::new(&networks))
        });
        let (allow, trusted) = (allow.to_vec(), SourceSet::new(trusted));
        Self { allow, trusted, never_ban, crawlers: crawlers.collect(), unread: Vec::new() }
    }

    /// Whether it is a trusted proxy: no rule counts what it relays as its own.
    pub(super) fn is_trusted(&self, client: IpAddr) -> bool {
        self.trusted.contains(client)
    }

    /// Whether it is a crawler by its list, and says so.
    pub(super) fn is_crawler(&self, agent: Option<&str>, client: IpAddr) -> bool {
        let Some(agent) = agent.filter(|_| !self.crawlers.is_empty()) else { return false };
        let agent = agent.to_ascii_lowercase();
        let says = |agents: &[String]| agents.iter().any(|name| agent.contains(name));
        self.crawlers.iter().any(|(agents, networks)| says(agents) && networks.contains(client))
    }

    /// What keeps rules from banning `source`, as which `client` is known. Where only others of `source` are protected,
    /// the client's own address is banned.
    pub(super) fn shield(&self, source: Source, client: IpAddr) -> Option<String> {
        self.protects(source).filter(|_| self.protects(Source::of(client, 128)).is_some())
    }

    fn protects(&self, source: Source) -> Option<String> {
        if self.allow.iter().any(|allow| allow.covers(&source)) {
            return Some("guard.allow".to_owned());
        }
        let meets = |network: &Source| network.covers(&source) || source.covers(network);
        let (name, _) = self.never_ban.iter().find(|(_, networks)| networks.iter().any(meets))?;
        Some(format!("feed:{name} (never_ban)"))
    }
}

/// The networks of a list.
fn read(feed: &Feed) -> Result<Vec<Source>, String> {
    let path: &Path = feed.path().ok_or_else(|| "it is fetched by URL, and not read here".to_owned())?;
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut networks = Vec::new();
    let read = lists::read_services(&bytes, feed.format, &feed.services, |_, entry| {
        networks.extend(entry.ok().map(|listed| listed.source));
    });
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(networks)
}
