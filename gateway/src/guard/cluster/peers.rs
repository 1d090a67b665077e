//! What is known of the other machines, and which of their letters count. Pure: letters and the time come in.
//!
//! *Invariant:* a machine's changes count in their order, each once, and only after all that it had to say before. Whoever
//! holds the store can keep letters back, and nothing else: that is told as the age of what is known.

use std::collections::BTreeMap;

use aws_lc_rs::signature::Ed25519KeyPair;

use super::{
    fact::ClusterFact,
    letter::{self, LetterError, LetterHead, MOST_FACTS, MOST_PARTS},
};
use crate::{
    message::cluster::LONGEST_LETTER,
    os::clock::{Now, SECOND},
    settings::cluster,
};

/// How far the clock of another machine may be from this one's, and how old a letter may be, in milliseconds.
const SKEW: u64 = 5 * 60 * 1_000;

/// A clock that is set back by less is waited for, in milliseconds: time servers do that now and then.
const STEP: u64 = 1_000;

/// What clocks may differ by before times in letters are corrected, in milliseconds: less may be the way of a letter.
const CLOSE: i64 = 10_000;

/// How many bytes the facts of one letter take at most, and those of a whole: the store has room for both.
const MOST_FACT_BYTES: usize = LONGEST_LETTER - 1_024;
const MOST_WHOLE: usize = 5 * 512 * 1_024;

/// What another machine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// This is new.
    Change { node: String, facts: Vec<ClusterFact> },
    /// This is all that there is, and nothing else.
    Whole { node: String, facts: Vec<ClusterFact> },
}

/// Writes the letters of this machine.
pub(crate) struct LetterWriter {
    node: String,
    pair: Ed25519KeyPair,
    secret: Vec<u8>,
    epoch: u64,
    number: u64,
    /// When the last letter of this epoch was written, as it says: milliseconds since the Unix epoch.
    at: u64,
}

impl LetterWriter {
    /// `epoch`: larger than that of any start before.
    pub(super) fn new(settings: &cluster::Settings, pair: Ed25519KeyPair, epoch: u64) -> Self {
        let (node, secret) = (settings.node.clone(), settings.secret.bytes.to_vec());
        Self { node, pair, secret, epoch, number: 0, at: 0 }
    }

    /// Whether the clock was set back: nothing that is written in this epoch would be new to the others.
    pub(super) const fn is_ahead_of(&self, now: Now) -> bool {
        self.at > now.unix_millis.saturating_add(STEP)
    }

    /// Goes on in another epoch, larger than all before. The others listen again from the next whole on.
    pub(super) const fn begin(&mut self, epoch: u64) {
        (self.epoch, self.number, self.at) = (epoch, 0, 0);
    }

    /// Letters about changes.
    pub(super) fn changes(&mut self, facts: Vec<ClusterFact>, now: Now) -> Vec<Vec<u8>> {
        self.at = self.at.max(now.unix_millis);
        let mut letters = Vec::new();
        for facts in pieces(facts) {
            self.number += 1;
            letters.extend(self.write(&facts, None));
        }
        letters
    }

    /// Letters about all that there is, the most important first: what there is no room for is left out. If there is room for
    /// all of it, the rest is for `more`, which lifts nothing and is told in turn: of so many of them they are, too.
    pub(super) fn whole(
        &mut self,
        facts: Vec<ClusterFact>,
        more: Vec<ClusterFact>,
        now: Now,
    ) -> Option<(Vec<Vec<u8>>, usize)> {
        // Of two wholes about the same change, the later one is written later.
        self.at = self.at.saturating_add(1).max(now.unix_millis);
        let mut room = MOST_WHOLE;
        let all = facts.len();
        let mut fits = |fact: &ClusterFact| {
            room = room.saturating_sub(fact.size());
            room > 0
        };
        let mut facts: Vec<ClusterFact> = facts.into_iter().take_while(&mut fits).collect();
        let most = usize::from(MOST_PARTS);
        let mut told = 0;
        if facts.len() < all || pieces(facts.clone()).len() > most {
            facts.insert(0, ClusterFact::Cut);
        } else {
            // Letters are not full where facts are long: some room is left for that.
            let most_facts = (most * MOST_FACTS).saturating_sub(MOST_FACTS * most / 8 + facts.len());
            let before = facts.len();
            facts.extend(more.into_iter().take(most_facts).take_while(&mut fits));
            told = facts.len() - before;
            if pieces(facts.clone()).len() > most {
                facts.truncate(before);
                told = 0;
            }
        }
        let mut pieces = pieces(facts);
        pieces.truncate(most);
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let parts = u16::try_from(pieces.len()).ok()?;
        let letters: Option<Vec<Vec<u8>>> =
            pieces.into_iter().zip(0..).map(|(facts, part)| self.write(&facts, Some((part, parts)))).collect();
        Some((letters?, told))
    }

    fn write(&self, facts: &[ClusterFact], part: Option<(u16, u16)>) -> Option<Vec<u8>> {
        let Self { node, epoch, number, at, .. } = self;
        let head = LetterHead { node: node.clone(), epoch: *epoch, number: *number, at: *at, part };
        letter::write(&head, facts, &self.secret, &self.pair)
    }
}

/// Facts as letters have room for them.
fn pieces(facts: Vec<ClusterFact>) -> Vec<Vec<ClusterFact>> {
    let mut pieces: Vec<Vec<ClusterFact>> = Vec::new();
    let mut room = 0;
    for fact in facts.into_iter().map(ClusterFact::shortened) {
        let size = fact.size();
        match pieces.last_mut() {
            Some(piece) if piece.len() < MOST_FACTS && size <= room => piece.push(fact),
            _ => {
                room = MOST_FACT_BYTES;
                pieces.push(vec![fact]);
            }
        }
        room = room.saturating_sub(size);
    }
    pieces
}

/// What is known of one other machine.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    epoch: u64,
    number: u64,
    /// When the last letter of this epoch that counted was written: milliseconds since the Unix epoch.
    at: u64,
    /// When it was heard: `CLOCK_MONOTONIC`, nanoseconds; `None`: nothing was.
    heard: Option<u64>,
    /// All was heard that it had to say, up to [`Self::number`].
    is_whole: bool,
    /// The parts of a whole that have come.
    parts: Option<Parts>,
    /// Letters in its name that were refused.
    refused: u64,
    /// Why the last of them was.
    last_wrong: Option<LetterError>,
}

#[derive(Debug)]
struct Parts {
    epoch: u64,
    number: u64,
    at: u64,
    of: u16,
    facts: BTreeMap<u16, Vec<ClusterFact>>,
}

/// What is known of all others.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<String, Peer>,
    /// Letters that were refused, by why.
    wrong: BTreeMap<&'static str, u64>,
}

impl Peers {
    /// Goes on with those who are still of the cluster.
    pub(super) fn configure(&mut self, settings: Option<&cluster::Settings>) {
        let nodes = settings.map(|settings| &settings.nodes[..]).unwrap_or_default();
        let own = settings.map(|settings| settings.node.as_str());
        self.peers.retain(|name, _| nodes.iter().any(|node| node.name == *name && Some(name.as_str()) != own));
        for node in nodes.iter().filter(|node| Some(node.name.as_str()) != own) {
            self.peers.entry(node.name.clone()).or_default();
        }
    }

    /// Judges a letter; `None`: it is a part of a whole whose others have not come yet.
    ///
    /// # Errors
    /// It does not count.
    pub(super) fn hear(
        &mut self,
        letter: &[u8],
        settings: &cluster::Settings,
        now: Now,
    ) -> Result<Option<PeerMessage>, LetterError> {
        let heard = self.judge(letter, settings, now);
        if let Err(wrong) = heard {
            *self.wrong.entry(wrong.name()).or_default() += 1;
        }
        heard
    }

    fn judge(
        &mut self,
        letter: &[u8],
        settings: &cluster::Settings,
        now: Now,
    ) -> Result<Option<PeerMessage>, LetterError> {
        let public = |name: &str| settings.nodes.iter().find(|node| node.name == name).map(|node| node.key);
        let (head, facts) = letter::read(letter, &settings.secret.bytes, public)?;
        if head.node == settings.node {
            return Err(LetterError::Own);
        }
        let peer = self.peers.get_mut(&head.node).ok_or(LetterError::Foreign)?;
        let said = peer.hear(head, facts, now);
        match said {
            Err(wrong) if wrong != LetterError::Old => {
                peer.refused += 1;
                peer.last_wrong = Some(wrong);
            }
            _ => {}
        }
        said
    }

    /// Each of them by its name.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &Peer)> {
        self.peers.iter().map(|(name, peer)| (name.as_str(), peer))
    }

    /// Letters that were refused, by why.
    pub(super) const fn wrong(&self) -> &BTreeMap<&'static str, u64> {
        &self.wrong
    }
}

impl Peer {
    fn hear(
        &mut self,
        head: LetterHead,
        facts: Vec<ClusterFact>,
        now: Now,
    ) -> Result<Option<PeerMessage>, LetterError> {
        let LetterHead { node, epoch, number, at, part } = head;
        if at.abs_diff(now.unix_millis) > SKEW {
            return Err(LetterError::Stale);
        }
        if epoch < self.epoch {
            return Err(LetterError::Old);
        }
        let Some((index, of)) = part else {
            if epoch > self.epoch || !self.is_whole || number > self.number + 1 {
                return Err(LetterError::Untimely);
            }
            if number <= self.number {
                return Err(LetterError::Old);
            }
            self.number = number;
            self.note(at, now);
            return Ok(Some(PeerMessage::Change { node, facts: corrected(facts, at, now).collect() }));
        };
        let is_known = epoch == self.epoch && (number < self.number || number == self.number && at <= self.at);
        if is_known {
            return Err(LetterError::Old);
        }
        if of == 0 || of > MOST_PARTS || index >= of {
            return Err(LetterError::Malformed);
        }
        let is_same = |parts: &Parts| (parts.epoch, parts.number, parts.at, parts.of) == (epoch, number, at, of);
        if self.parts.as_ref().is_some_and(|parts| (parts.epoch, parts.number, parts.at) > (epoch, number, at)) {
            return Err(LetterError::Old);
        }
        if !self.parts.as_ref().is_some_and(is_same) {
            self.parts = None;
        }
        let parts = self.parts.get_or_insert_with(|| Parts { epoch, number, at, of, facts: BTreeMap::new() });
        parts.facts.insert(index, facts);
        if parts.facts.len() < usize::from(of) {
            return Ok(None);
        }
        let facts = self.parts.take().into_iter().flat_map(|parts| parts.facts.into_values().flatten());
        let facts = corrected(facts, at, now).collect();
        if epoch > self.epoch {
            // Another start, or its clock was set back: what it said before has another clock.
            self.at = 0;
        }
        (self.epoch, self.number, self.is_whole) = (epoch, number, true);
        self.note(at, now);
        Ok(Some(PeerMessage::Whole { node, facts }))
    }

    fn note(&mut self, at: u64, now: Now) {
        self.at = self.at.max(at);
        self.heard = Some(now.monotonic);
        self.last_wrong = None;
    }

    /// When it was heard last: `CLOCK_MONOTONIC`, nanoseconds; `None`: it never was.
    pub(super) const fn heard(&self) -> Option<u64> {
        self.heard
    }

    /// How long ago it was heard last, in seconds; `None`: it never was.
    pub(super) fn age(&self, now: Now) -> Option<u64> {
        self.heard.map(|heard| now.monotonic.saturating_sub(heard) / SECOND)
    }

    /// Letters in its name that were refused, and why the last of them was, if nothing has come since that counted.
    pub(super) const fn refused(&self) -> (u64, Option<LetterError>) {
        (self.refused, self.last_wrong)
    }
}

/// Facts by the clock of this machine, of a letter that was written `at` by the clock of another.
fn corrected(facts: impl IntoIterator<Item = ClusterFact>, at: u64, now: Now) -> impl Iterator<Item = ClusterFact> {
    let ahead = now.unix_millis.cast_signed().saturating_sub(at.cast_signed());
    let ahead = ahead / CLOSE * CLOSE;
    facts.into_iter().map(move |fact| fact.shifted(ahead))
}

#[cfg(test)]
mod tests;
