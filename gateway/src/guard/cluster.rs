//! What the guard knows of the other machines of its cluster.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::key::judge;
pub use self::key::{make_key, make_secret, public_key};
pub(crate) use self::peers::PeerMessage;
use self::{
    fact::ClusterFact,
    peers::{LetterWriter, Peers},
    tickets::TicketExchange,
};
use crate::{
    message::cluster::StoreReport,
    os::clock::{self, Now, SECOND},
    policy::limit,
    settings::{
        cluster::{self, ClusterNode, Stale},
        limit::{Allowance, Limit},
        proxy,
    },
    text::counted::counted,
    tls::Chain,
};

pub(crate) mod fact;
mod key;
mod letter;
mod peers;
mod tickets;

/// How often all that this guard has decided is told, however little has changed: in nanoseconds. So long it takes at most
/// until a machine that was cut off knows all again.
const WHOLE: u64 = 10 * SECOND;

/// A machine that was not heard of for so many seconds is told of.
const LATE: u64 = 35;

/// So long it is told that there is no room for API keys of another machine: in nanoseconds. It speaks of all of them again in
/// less.
const NO_ROOM: u64 = 1_200 * SECOND;

/// Where the epoch of the last start is kept, in the state folder.
const EPOCH: &str = "cluster.epoch";

/// What the guard knows of the cluster.
#[derive(Default)]
pub(crate) struct Cluster {
    store: StoreReport,
    /// By which settings letters are written and judged.
    settings: Option<cluster::Settings>,
    /// It was told of its settings.
    is_configured: bool,
    /// `None`: there is no cluster, or no key.
    writer: Option<LetterWriter>,
    peers: Peers,
    /// Keys of TLS tickets.
    pub(crate) tickets: TicketExchange,
    /// A machine has left that knows this one's.
    forgets_tickets: bool,
    /// Where the epoch of the last start is kept.
    epoch_file: PathBuf,
    /// When the last whole was told: `CLOCK_MONOTONIC`, nanoseconds.
    told: Option<u64>,
    /// Since when it goes by these settings, likewise.
    since: u64,
    /// Facts of others that changed something here, and facts that this machine's safety rules refused.
    taken: (u64, u64),
    /// For so many API keys of other machines there was no room, and when that was seen last: `CLOCK_MONOTONIC`, nanoseconds.
    no_room: BTreeMap<String, (u64, u64)>,
}

/// The cluster, as an operator is shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// This machine's name.
    pub node: String,
    /// Every machine.
    pub nodes: Vec<NodeStatus>,
    /// How the store is asked: `standalone`, `sentinel` or `cluster`.
    pub mode: String,
    /// Where it is.
    pub servers: Vec<String>,
    /// How it is with the store.
    pub store: StoreReport,
    /// Whether tokens and API keys are refused, as no other machine is heard.
    #[serde(default)]
    pub stale: bool,
    /// Facts of other machines that changed something here.
    #[serde(default)]
    pub taken: u64,
    /// Facts of other machines that safety rules of this one refused.
    #[serde(default)]
    pub refused: u64,
    /// Letters that did not count, by why: also those in the name of nobody.
    #[serde(default)]
    pub wrong: BTreeMap<String, u64>,
    /// Limits that all machines count together.
    pub limits: Vec<SharedLimit>,
    /// Quotas that all machines count together.
    #[serde(default)]
    pub quotas: Vec<SharedQuota>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether it is this machine.
    pub own: bool,
    /// How many seconds ago this machine heard of it last; absent: it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Letters in its name that were refused.
    #[serde(default)]
    pub refused: u64,
    /// Why the last of them was, if none has counted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// Whether TLS sessions with it are resumed here.
    #[serde(default)]
    pub ticket_keys: bool,
}

/// A limit that all machines count together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLimit {
    /// Its name.
    pub name: String,
    /// What all machines let through: units, in so many milliseconds, so many at once.
    pub units: u64,
    /// In milliseconds.
    pub per_millis: u64,
    /// At once.
    pub burst: u64,
    /// What one machine holds of each key at most.
    pub portion: u64,
    /// By how many units all machines together may exceed `burst`.
    pub error: u64,
}

/// A quota that all machines count together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedQuota {
    /// Its name.
    pub name: String,
    /// What each key has in a period.
    pub units: u64,
    /// The period: `hour`, `day`, `week` or `month`.
    pub per: String,
    /// What one machine may use up of a key that it has not heard of in the last second.
    pub portion: u64,
    /// By how many units all machines together may exceed the quota, besides half of what they let through in a second.
    pub error: u64,
}

impl SharedQuota {
    fn of(limit: &Limit, nodes: u64) -> Option<Self> {
        let (units, portion) = limit::quota::portion_of_quota(limit, nodes)?;
        let per = limit.quota.as_ref()?.period.to_string();
        Some(Self {
            name: limit.name.clone(),
            units,
            per,
            portion,
            error: portion.saturating_mul(nodes).saturating_mul(2),
        })
    }
}

impl SharedLimit {
    fn of(limit: &Limit, nodes: u64) -> Option<Self> {
        let Allowance::Rate(rate) = limit.allowance else { return None };
        let portion = limit::portion_of(limit, nodes)?;
        Some(Self {
            name: limit.name.clone(),
            units: rate.units,
            per_millis: u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX),
            burst: rate.burst,
            portion,
            error: portion.saturating_mul(nodes).saturating_mul(2),
        })
    }
}

impl Cluster {
    /// Goes on by these settings. `true`: they are others than before.
    pub(crate) fn configure(&mut self, settings: Option<&cluster::Settings>, state_dir: &Path, now: Now) -> bool {
        if std::mem::replace(&mut self.is_configured, true) && self.settings.as_ref() == settings {
            return false;
        }
        self.settings = settings.cloned();
        let settings = settings.filter(|settings| settings.has_letters());
        self.peers.configure(settings);
        let sharing = settings.filter(|settings| settings.ticket_keys);
        let node = sharing.map(|settings| settings.node.as_str()).unwrap_or_default();
        let peers: Vec<&str> =
            sharing.into_iter().flat_map(cluster::Settings::peers).map(|node| node.name.as_str()).collect();
        self.forgets_tickets |= self.tickets.configure(node, &peers);
        (self.told, self.since) = (None, now.monotonic);
        self.epoch_file = state_dir.join(EPOCH);
        self.writer = settings.and_then(|settings| match key::read(&settings.key_file) {
            Ok(pair) => Some(LetterWriter::new(settings, pair, epoch(&self.epoch_file, now))),
            Err(error) => {
                let path = settings.key_file.display();
                tracing::error!("other machines hear nothing of this one: {path} cannot be used: {error}");
                None
            }
        });
        true
    }

    /// The names of the machines whose word about bans counts, and of those whose word about revocations and API keys does.
    pub(crate) fn nodes(&self) -> (Vec<String>, Vec<String>) {
        let nodes = |is_told: fn(&cluster::Settings) -> bool| {
            let nodes = self.settings.iter().filter(|settings| is_told(settings)).flat_map(cluster::Settings::peers);
            nodes.map(|node| node.name.clone()).collect()
        };
        (nodes(|settings| settings.bans), nodes(|settings| settings.revocations || settings.api_keys))
    }

    /// Whether the machines tell each other this.
    pub(crate) fn tells(&self, fact: &ClusterFact) -> bool {
        self.settings.as_ref().is_some_and(|settings| match fact {
            ClusterFact::Key { .. } => settings.api_keys,
            fact if fact.is_of_tickets() => settings.ticket_keys,
            fact if fact.is_of_credentials() => settings.revocations,
            _ => settings.bans,
        })
    }

    /// Whether no other machine was heard for so long that it is not known what they have revoked, and that counts. `None`:
    /// it never counts.
    pub(crate) fn is_stale(&self, now: Now) -> Option<bool> {
        let settings = self.settings.as_ref().filter(|settings| settings.revocations)?;
        if settings.revocation_stale == Stale::Serve || settings.peers().next().is_none() {
            return None;
        }
        // From the start on nothing is known for a while.
        let heard = self.peers.each().filter_map(|(_, peer)| peer.heard()).fold(self.since, u64::max);
        Some(now.monotonic.saturating_sub(heard) > nanoseconds(settings.revocation_stale_after))
    }

    /// Looks at the clock, before letters are written: once it was set back, letters begin in another epoch, and all is told
    /// at once. In the epoch before, nothing would count until the time has passed again.
    pub(crate) fn look_at_clock(&mut self, now: Now) {
        if let Some(writer) = self.writer.as_mut().filter(|writer| writer.is_ahead_of(now)) {
            tracing::warn!("the clock was set back: other machines are told anew what is decided here");
            writer.begin(epoch(&self.epoch_file, now));
            self.told = None;
        }
    }

    /// Letters about what this guard has decided.
    pub(crate) fn letters(&mut self, mut facts: Vec<ClusterFact>, now: Now) -> Vec<Vec<u8>> {
        facts.retain(|fact| self.tells(fact));
        self.writer.as_mut().map(|writer| writer.changes(facts, now)).unwrap_or_default()
    }

    /// Whether this machine's ticket keys are to be made anew: whoever has left the cluster knows them.
    pub(crate) const fn take_forgets_tickets(&mut self) -> bool {
        std::mem::replace(&mut self.forgets_tickets, false)
    }

    /// Ticket keys that are to be told at once.
    pub(crate) fn ticket_changes(&mut self, chain: &Chain) -> Vec<ClusterFact> {
        if self.writer.is_some() { self.tickets.take_changes(chain) } else { Vec::new() }
    }

    /// All ticket keys that are to be told.
    pub(crate) fn ticket_facts(&mut self, chain: Option<&Chain>) -> Vec<ClusterFact> {
        chain.map(|chain| self.tickets.facts(chain)).unwrap_or_default()
    }

    /// Another machine says this of ticket keys. `true`: other tickets are opened from now on.
    pub(crate) fn hear_tickets(&mut self, node: &str, facts: &[ClusterFact], is_whole: bool, now: Now) -> bool {
        self.tickets.hear(node, facts, is_whole, now)
    }

    /// Whether all that this guard has decided is to be told again.
    pub(crate) fn is_whole_due(&self, now: Now) -> bool {
        self.writer.is_some() && self.told.is_none_or(|told| now.monotonic.saturating_sub(told) >= WHOLE)
    }

    /// All of it is to be told at once.
    pub(crate) const fn tell_whole_soon(&mut self) {
        self.told = None;
    }

    /// Letters about all of it, and about as many of `more` as there is room for: how many these are.
    pub(crate) fn whole(&mut self, facts: Vec<ClusterFact>, more: Vec<ClusterFact>, now: Now) -> (Vec<Vec<u8>>, usize) {
        let facts = facts.into_iter().filter(|fact| self.tells(fact)).collect();
        self.told = Some(now.monotonic);
        self.writer.as_mut().and_then(|writer| writer.whole(facts, more, now)).unwrap_or_default()
    }

    /// Whether the machines tell each other of API keys.
    pub(crate) fn tells_keys(&self) -> bool {
        self.writer.is_some() && self.settings.as_ref().is_some_and(|settings| settings.api_keys)
    }

    /// For some API keys of another machine there is no room here; `count`: how many, just now.
    pub(crate) fn note_no_room(&mut self, node: &str, count: u64, now: Now) {
        if count > 0 {
            self.no_room.insert(node.to_owned(), (count, now.monotonic));
        }
    }

    /// A letter has come; what it says, if it counts.
    pub(crate) fn hear_letter(&mut self, letter: &[u8], now: Now) -> Option<PeerMessage> {
        let settings = self.settings.as_ref().filter(|settings| settings.has_letters())?;
        match self.peers.hear(letter, settings, now) {
            Ok(said) => said,
            Err(wrong) => {
                tracing::debug!("a letter of another machine does not count: {}", wrong.name());
                None
            }
        }
    }

    /// What became of facts of another machine.
    pub(crate) const fn note_taken(&mut self, changed: u64, refused: u64) {
        self.taken = (self.taken.0.saturating_add(changed), self.taken.1.saturating_add(refused));
    }

    /// A proxy tells how it is with the store.
    pub(crate) fn hear(&mut self, report: StoreReport) {
        self.store = report;
    }

    /// `None`: there is no cluster.
    pub(crate) fn status(&self, proxy: &proxy::Settings, now: Now) -> Option<ClusterStatus> {
        let settings = proxy.cluster.as_ref()?;
        let node = |node: &ClusterNode| {
            let peer = self.peers.each().find(|(name, _)| *name == node.name).map(|(_, peer)| peer);
            let (refused, wrong) = peer.map_or((0, None), peers::Peer::refused);
            NodeStatus {
                name: node.name.clone(),
                own: node.name == settings.node,
                age_seconds: peer.and_then(|peer| peer.age(now)),
                refused,
                wrong: wrong.map(|wrong| wrong.name().to_owned()),
                ticket_keys: self.tickets.knows(&node.name),
            }
        };
        let nodes = u64::try_from(settings.nodes.len()).unwrap_or(u64::MAX);
        let limits = proxy.limits.limits.iter().filter_map(|limit| SharedLimit::of(limit, nodes)).collect();
        let quotas = proxy.limits.limits.iter().filter_map(|limit| SharedQuota::of(limit, nodes)).collect();
        Some(ClusterStatus {
            node: settings.node.clone(),
            nodes: settings.nodes.iter().map(node).collect(),
            mode: settings.store.mode.name().to_owned(),
            servers: settings.store.servers.clone(),
            store: self.store.clone(),
            stale: self.is_stale(now) == Some(true),
            taken: self.taken.0,
            refused: self.taken.1,
            wrong: self.peers.wrong().iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            limits,
            quotas,
        })
    }

    /// What an operator should know of it.
    pub(crate) fn warnings(&self, settings: Option<&cluster::Settings>, now: Now) -> Vec<String> {
        let StoreReport { reachable, since, why, letters, .. } = &self.store;
        let mut warnings = Vec::new();
        if settings.is_none() || *since == 0 {
            return warnings;
        }
        if !*reachable {
            let since = clock::rfc3339(*since);
            warnings.push(format!(
                "the store of the cluster is away since {since}: {why}; shared limits are enforced by this machine's share"
            ));
        } else if !letters.is_empty() {
            warnings.push(format!("the store of the cluster carries no letters between guards: {letters}"));
        }
        if self.store.disbelieved > 0 {
            warnings.push(format!(
                "the store of the cluster has given back what was used up of quotas {}, and no operator has said so: it was \
                 not believed; see who can write to the store",
                counted(self.store.disbelieved, "time", "times")
            ));
        }
        if self.is_stale(now) == Some(true) {
            warnings.push(
                "requests with tokens and API keys get 503: no other machine is heard, so that it is not known \
                           what they have revoked (cluster.revocation_stale)"
                    .to_owned(),
            );
        }
        let lasts = |seen: u64| now.monotonic.saturating_sub(seen) < NO_ROOM;
        for (name, (count, _)) in self.no_room.iter().filter(|(_, (_, seen))| lasts(*seen)) {
            warnings.push(format!(
                "there is no room for {count} or more API keys of {name}: they are not good here; revoke keys that nobody \
                 uses, or let them expire"
            ));
        }
        for (name, peer) in self.peers.each() {
            let (_, wrong) = peer.refused();
            if let Some(age) = peer.age(now).filter(|age| *age > LATE) {
                let why = wrong.map(|wrong| format!("; its letters are refused: {}", wrong.name())).unwrap_or_default();
                warnings.push(format!("what {name} has banned, revoked and lifted for {age} s is not known here{why}"));
            } else if let (None, Some(wrong)) = (peer.age(now), wrong) {
                warnings.push(format!("the letters of {name} are refused: {}", wrong.name()));
            }
        }
        warnings
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The epoch of this start: larger than that of the last one, also where the clock was set back meanwhile.
fn epoch(path: &Path, now: Now) -> u64 {
    let last = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let epoch = last.map_or(now.unix_millis, |last| now.unix_millis.max(last.saturating_add(1)));
    if let Err(error) = fs::write(path, format!("{epoch}\n")) {
        tracing::warn!("{} cannot be written: {error}", path.display());
    }
    epoch
}
