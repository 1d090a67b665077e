//! Well-known crawlers: whether who says that it is one is one. Its address is in a range that the crawler's operator
//! publishes, or has a name in the crawler's domain that has this address in turn (forward-confirmed reverse DNS).
//!
//! *Invariant:* no request waits for a name server: until the answer is there, nothing is known of its client. What is not
//! known lets nobody off, and is held against nobody. A `User-Agent` alone proves nothing, nor does a PTR record alone:
//! whoever has an address writes what they like there.
//!
//! *Invariant:* the state is bounded. At most [`CAPACITY`] answers are kept; those that verify somebody are forgotten last.
//! A request of whose client it is known what it is locks nothing but the part of the table where that stands.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aho_corasick::AhoCorasick;
use gateway_common::source::Source;

use crate::{
    collections::{bounded::Sharded, swap::Swap},
    net::source_set::SourceSet,
    os::clock::{MINUTE, SECOND},
    settings::crawlers::{self, Crawler},
};

/// How many answers are kept.
const CAPACITY: usize = 16_384;

/// How many addresses are looked up at once: whoever sends from many leaves name servers in peace.
const AT_ONCE: usize = 64;

/// How many of one network: whoever has it may answer for all of it, as late as they like.
const AT_ONCE_OF_NETWORK: usize = 4;

/// An answer that has not come after so long was lost.
const LOST_AFTER: u64 = 20 * SECOND;

/// How long a crawler stays verified by what its name server says: at least, and at most.
const VERIFIED: [u64; 2] = [10 * MINUTE, 24 * 60 * MINUTE];

/// How long who is none is not looked up again.
const FALSE: u64 = 10 * MINUTE;

/// How long after name servers failed an address is not looked up again.
const FAILED: u64 = 30 * SECOND;

/// How long after its time an answer still verifies, while it is looked up again.
const KEPT: u64 = 60 * MINUTE;

/// What came of lookups: labels of metrics.
const LOOKUP_RESULTS: [&str; 4] = ["verified", "false", "failed", "busy"];

/// What is known of who says that it is a crawler: the later ones go before the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrawlerStanding {
    /// It is none.
    False,
    /// Nothing yet, or it cannot be known now.
    Unknown,
    /// It is one.
    Verified,
}

impl CrawlerStanding {
    /// All of them, with their labels in metrics.
    pub const NAMES: [(Self, &str); 3] =
        [(Self::False, "false"), (Self::Unknown, "unknown"), (Self::Verified, "verified")];
}

/// What a request says of itself.
#[derive(Debug)]
pub struct CrawlerClaim {
    /// Whether it is so.
    pub standing: CrawlerStanding,
    /// What is to be found out, by [`HostQuestion::answered`].
    pub questions: Vec<HostQuestion>,
}

/// Which names an address has, and whether they have the address.
#[derive(Debug)]
pub struct HostQuestion {
    /// The address.
    pub address: IpAddr,
    /// Who is to be asked; empty: whom this system asks.
    pub resolvers: Arc<[SocketAddr]>,
    hosts: Arc<[String]>,
    crawler: u64,
    state: Arc<State>,
    is_answered: bool,
}

/// What name servers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// A name in a domain of the crawler has the address, and the address has the name; for so many seconds.
    Confirmed(u32),
    /// They do not say.
    Failed,
    /// There is no such name.
    Unconfirmed,
}

/// The crawlers of one configuration.
#[derive(Debug)]
pub struct Crawlers {
    /// What their `User-Agent` headers contain; `None`: there is no crawler.
    agents: Option<AhoCorasick>,
    /// Whose each of these is.
    owners: Box<[usize]>,
    crawlers: Box<[KnownCrawler]>,
    resolvers: Arc<[SocketAddr]>,
    state: Arc<State>,
}

#[derive(Debug)]
struct KnownCrawler {
    hosts: Arc<[String]>,
    feeds: Box<[String]>,
    requests: Arc<RequestCounts>,
    /// Tells its answers from those of others, and from those before its domains were changed.
    id: u64,
}

/// How many requests said that they were of one crawler, in the order of [`CrawlerStanding::NAMES`].
type RequestCounts = [AtomicU64; CrawlerStanding::NAMES.len()];

/// Lookups that are under way.
#[derive(Debug, Default)]
struct Lookups {
    all: usize,
    /// Of one network: whoever has many addresses does not take all places.
    of_networks: HashMap<IpAddr, usize>,
}

/// What outlives configurations.
#[derive(Debug)]
struct State {
    /// By address and crawler.
    names: Sharded<(IpAddr, u64), KnownHost>,
    under_way: Mutex<Lookups>,
    /// In the order of [`LOOKUP_RESULTS`].
    lookups: [AtomicU64; LOOKUP_RESULTS.len()],
    /// By the lists that name them.
    ranges: Swap<HashMap<String, SourceSet>>,
    /// By crawler. Whoever counts has the counts of its crawler.
    requests: Mutex<BTreeMap<Arc<str>, Arc<RequestCounts>>>,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
struct KnownHost {
    standing: CrawlerStanding,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    until: u64,
    /// It is being looked up; until then an answer may come.
    asked_until: u64,
}

impl KnownHost {
    /// What is left of it once its time is over.
    const fn kept(&self, now: u64) -> CrawlerStanding {
        match self.standing {
            CrawlerStanding::Verified if now < self.until.saturating_add(KEPT) => CrawlerStanding::Verified,
            _ => CrawlerStanding::Unknown,
        }
    }

    /// What is worth more is forgotten later.
    fn worth(&self) -> (bool, u64) {
        (self.standing == CrawlerStanding::Verified, self.until.max(self.asked_until))
    }
}

impl Crawlers {
    /// The crawlers of a configuration that takes the place of `before`: what is known of addresses goes on.
    #[must_use]
    pub fn new(settings: &crawlers::Settings, before: Option<&Self>) -> Self {
        let texts =
            settings.crawlers.iter().enumerate().flat_map(|(at, it)| it.agents.iter().map(move |text| (at, text)));
        let (owners, texts): (Vec<usize>, Vec<&String>) = texts.unzip();
        // A few short texts are never more than it can hold.
        let agents = AhoCorasick::builder().ascii_case_insensitive(true).build(texts).ok();
        let state = before.map_or_else(State::new, |before| Arc::clone(&before.state));
        Self {
            agents: agents.filter(|_| !owners.is_empty()),
            owners: owners.into(),
            crawlers: settings.crawlers.iter().map(|crawler| KnownCrawler::new(crawler, &state)).collect(),
            resolvers: settings.resolvers.as_slice().into(),
            state,
        }
    }

    /// Whether there is any.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.agents.is_some()
    }

    /// Whether any is verified by its name.
    #[must_use]
    pub fn asks_name_servers(&self) -> bool {
        self.crawlers.iter().any(|crawler| !crawler.hosts.is_empty())
    }

    /// Whether who sends this `User-Agent` is the crawler that it says it is; `None`: it does not say so. `now` is
    /// `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn judge(&self, agent: &[u8], address: IpAddr, now: u64) -> Option<CrawlerClaim> {
        let agents = self.agents.as_ref()?;
        let (address, mut questions) = (address.to_canonical(), Vec::new());
        let mut found: Option<(&KnownCrawler, CrawlerStanding)> = None;
        let mut seen = 0_u64;
        // One may name another, as "like Googlebot" does: to be one of them is enough.
        for matched in agents.find_overlapping_iter(agent) {
            let Some(at) = self.owners.get(matched.pattern().as_usize()) else { continue };
            let bit = 1_u64.checked_shl(u32::try_from(*at).unwrap_or(u32::MAX)).unwrap_or(0);
            let (Some(crawler), true) = (self.crawlers.get(*at), seen & bit == 0) else { continue };
            seen |= bit;
            let standing = self.standing(crawler, address, now, &mut questions);
            found = Some(found.map_or((crawler, standing), |(first, best)| (first, best.max(standing))));
        }
        let (crawler, standing) = found?;
        crawler.count(standing);
        Some(CrawlerClaim { standing, questions })
    }

    fn standing(
        &self,
        crawler: &KnownCrawler,
        address: IpAddr,
        now: u64,
        questions: &mut Vec<HostQuestion>,
    ) -> CrawlerStanding {
        let mut lacks_ranges = false;
        if !crawler.feeds.is_empty() {
            let ranges = self.state.ranges.load();
            for feed in &crawler.feeds {
                match ranges.get(feed) {
                    Some(ranges) if ranges.contains(address) => return CrawlerStanding::Verified,
                    Some(_) => {}
                    None => lacks_ranges = true,
                }
            }
        }
        let named = if crawler.hosts.is_empty() {
            CrawlerStanding::False
        } else {
            let (standing, question) = self.by_name(crawler, address, now);
            questions.extend(question);
            standing
        };
        // What it is not by name it may be by a list that has not come yet.
        if lacks_ranges { named.max(CrawlerStanding::Unknown) } else { named }
    }

    /// What is known of the names of an address, and what is to be found out.
    fn by_name(&self, crawler: &KnownCrawler, address: IpAddr, now: u64) -> (CrawlerStanding, Option<HostQuestion>) {
        let (key, state) = ((address, crawler.id), &self.state);
        let mut names = state.names.lock(&key);
        let known = names.find(&key).copied();
        let (kept, until) = match known {
            Some(known) if now < known.until => return (known.standing, None),
            Some(known) if now < known.asked_until => return (known.kept(now), None),
            Some(known) => (known.kept(now), known.until),
            None => (CrawlerStanding::Unknown, 0),
        };
        if !state.enter(address) {
            state.looked_up("busy");
            return (kept, None);
        }
        let asked = KnownHost { standing: kept, until, asked_until: now.saturating_add(LOST_AFTER) };
        names.put(key, asked, |_, known| known.worth());
        let question = HostQuestion {
            address,
            resolvers: Arc::clone(&self.resolvers),
            hosts: Arc::clone(&crawler.hosts),
            crawler: crawler.id,
            state: Arc::clone(state),
            is_answered: false,
        };
        (kept, Some(question))
    }

    /// The networks of a list are these; `None`: they are not known any more.
    pub fn take_ranges(&self, list: &str, networks: Option<&[Source]>) {
        let mut next = HashMap::clone(&self.state.ranges.load());
        match networks {
            Some(networks) => drop(next.insert(list.to_owned(), SourceSet::new(networks))),
            None => drop(next.remove(list)),
        }
        self.state.ranges.store(next);
    }

    /// How many addresses were looked up, by what came of it.
    pub fn lookups(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LOOKUP_RESULTS.into_iter().zip(self.state.lookups.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// How many requests said that they were of a crawler: its name, what was known of them, how many.
    #[must_use]
    pub fn requests(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let counts = lock(&self.state.requests);
        let mut all = Vec::new();
        for (name, counts) in &*counts {
            let counts = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            // Nobody said so yet.
            if counts.iter().any(|count| *count > 0) {
                let labels = CrawlerStanding::NAMES.into_iter().zip(counts);
                all.extend(labels.map(|((_, label), count)| (Arc::clone(name), label, count)));
            }
        }
        all
    }
}

impl KnownCrawler {
    fn new(crawler: &Crawler, state: &State) -> Self {
        let Crawler { name, hosts, feeds, .. } = crawler;
        // Only the configuration chooses what is hashed.
        let mut hasher = DefaultHasher::new();
        (name, hosts).hash(&mut hasher);
        Self {
            hosts: hosts.as_slice().into(),
            feeds: feeds.as_slice().into(),
            requests: Arc::clone(lock(&state.requests).entry(name.as_str().into()).or_default()),
            id: hasher.finish(),
        }
    }

    fn count(&self, standing: CrawlerStanding) {
        let place = CrawlerStanding::NAMES.iter().position(|(it, _)| *it == standing);
        if let Some(count) = place.and_then(|place| self.requests.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The network whose lookups are counted together, a /24 of IPv4 or a /48 of IPv6: as much as one name server is often
/// delegated.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() >> 8 << 8).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into(),
    }
}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            names: Sharded::new(CAPACITY),
            under_way: Mutex::default(),
            lookups: Default::default(),
            ranges: Swap::new(HashMap::new()),
            requests: Mutex::default(),
        })
    }

    /// Takes a place for a lookup. `false`: there is none.
    fn enter(&self, address: IpAddr) -> bool {
        let mut under_way = lock(&self.under_way);
        let of_network = under_way.of_networks.get(&network(address)).copied().unwrap_or(0);
        if of_network >= AT_ONCE_OF_NETWORK || under_way.all >= AT_ONCE {
            return false;
        }
        under_way.of_networks.insert(network(address), of_network + 1);
        under_way.all += 1;
        true
    }

    /// Gives it back.
    fn leave(&self, address: IpAddr) {
        let mut under_way = lock(&self.under_way);
        under_way.all = under_way.all.saturating_sub(1);
        match under_way.of_networks.get_mut(&network(address)) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(under_way.of_networks.remove(&network(address))),
        }
    }

    fn looked_up(&self, result: &str) {
        let counts = LOOKUP_RESULTS.iter().zip(&self.lookups);
        for (_, count) in counts.filter(|(label, _)| **label == result) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl HostQuestion {
    /// Whether a name, in lower case and without a dot at its end, is in a domain of the crawler.
    #[must_use]
    pub fn may_be(&self, name: &str) -> bool {
        self.hosts.iter().any(|domain| name.len() > domain.len() && name.ends_with(domain.as_str()))
    }

    /// The answer has come.
    pub fn answered(mut self, answer: HostAnswer, now: u64) {
        self.is_answered = true;
        let [least, most] = VERIFIED;
        let (result, standing, lasts) = match answer {
            HostAnswer::Confirmed(seconds) => {
                let lasts = u64::from(seconds).saturating_mul(SECOND).clamp(least, most);
                ("verified", CrawlerStanding::Verified, lasts)
            }
            HostAnswer::Failed => ("failed", CrawlerStanding::Unknown, FAILED),
            HostAnswer::Unconfirmed => ("false", CrawlerStanding::False, FALSE),
        };
        self.state.looked_up(result);
        let key = (self.address, self.crawler);
        let mut names = self.state.names.lock(&key);
        let before = names.find(&key).copied().filter(|before| before.kept(now) == CrawlerStanding::Verified);
        let until = now.saturating_add(lasts);
        let known = match before {
            // What was verified stays so for a while when name servers fail, and is asked about again soon.
            Some(before) if standing == CrawlerStanding::Unknown => KnownHost { asked_until: until, ..before },
            _ => KnownHost { standing, until, asked_until: 0 },
        };
        names.put(key, known, |_, known| known.worth());
    }
}

impl Drop for HostQuestion {
    fn drop(&mut self) {
        self.state.leave(self.address);
        if !self.is_answered {
            self.state.looked_up("busy");
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
