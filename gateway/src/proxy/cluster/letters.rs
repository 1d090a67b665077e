//! Carries letters between guards: each machine has a stream of changes and a whole in the store. On a connection of its
//! own: what is large or slow here delays no limit.
//!
//! *Invariant:* a letter that there is no room for is read again. Of the others' wholes one at a time is read, and only what
//! has changed since.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    connection::{Failure, RespCommand},
    pause::{Pause, delayed},
    peer_queues::PeerQueues,
    resp::Value,
    state::State,
    store::{Store, StoreAddress},
};
use crate::text::digits;

/// How long a call with letters may take: wholes are large.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// How often letters of others are looked for.
const POLL: Duration = Duration::from_millis(200);

/// Every so many times also whether all that others have to say has changed.
const WHOLES: u64 = 10;

/// How many changes of one machine are read at once.
const AT_ONCE: &str = "32";

/// How many changes the store keeps of each machine.
const KEPT: &str = "1000";

/// How long the store keeps a whole that is not written anew, in seconds.
const WHOLE_FOR: &str = "3600";

/// How far back changes are read at first, in milliseconds.
const BACK: u64 = 60_000;

/// By so many bytes at its beginning a whole is known again: its first letter says when it was written.
const HEAD: usize = 256;

/// Carries letters by one configuration, for ever. `place`: with [`TIMEOUT`].
pub(super) async fn carry(place: &StoreAddress, state: &State, peer_queues: &PeerQueues) {
    if place.peers.is_empty() {
        return;
    }
    let mut carrier = ReadPositions::default();
    let mut pause = Pause::default();
    loop {
        let failure = match Store::open(place).await {
            Ok(store) => carrier.carry(place, store, state, peer_queues, &mut pause).await,
            Err(failure) => failure,
        };
        state.change(|told| told.letters = failure.to_string());
        state.count_malformed(&failure);
        pause.note(&failure);
        pause.wait().await;
    }
}

/// How far each other machine was read.
#[derive(Default)]
struct ReadPositions {
    peers: BTreeMap<String, Position>,
    /// The wholes of these have changed.
    due: VecDeque<String>,
}

/// How far one was read.
#[derive(Default)]
struct Position {
    /// The last change.
    last: String,
    /// How the last whole begins.
    whole: Vec<u8>,
}

impl ReadPositions {
    /// Until the store fails.
    async fn carry(
        &mut self,
        place: &StoreAddress,
        mut store: Store,
        state: &State,
        peer_queues: &PeerQueues,
        pause: &mut Pause,
    ) -> Failure {
        if let Err(failure) = self.rewind(&mut store, place).await {
            return failure;
        }
        let mut poll = delayed(POLL);
        let mut polls = 0_u64;
        loop {
            let is_whole_time = tokio::select! {
                biased;
                () = peer_queues.arrived() => false,
                () = std::future::ready(()), if !self.due.is_empty() => false,
                _ = poll.tick() => {
                    polls += 1;
                    polls % WHOLES == 1
                }
            };
            let carried = self.exchange(peer_queues, &mut store, place, is_whole_time).await;
            match carried {
                // What the store refuses of letters changes nothing for the others.
                Ok(refused) => {
                    state.change(|told| {
                        told.letters = refused.map_or_else(String::new, |failure| failure.to_string());
                    });
                    pause.reset();
                }
                Err(failure) => return failure,
            }
        }
    }

    /// Brings out what waits, and reads what others have written. `is_whole_time`: also whether their wholes have changed.
    /// Returns what the store refuses.
    ///
    /// # Errors
    /// The store does not answer.
    async fn exchange(
        &mut self,
        peer_queues: &PeerQueues,
        store: &mut Store,
        place: &StoreAddress,
        is_whole_time: bool,
    ) -> Result<Option<Failure>, Failure> {
        let mut refused = self.write(peer_queues, store, place).await?;
        let mut note = |failure: Option<Failure>| {
            if refused.is_none() {
                refused = failure;
            }
        };
        note(self.begin(store, place).await?);
        let read = |peer: &String, position: &Position| {
            let key = stream(place, peer);
            command(&["XREAD", "COUNT", AT_ONCE, "STREAMS"], key, &[&position.last], None)
        };
        let known: Vec<(&String, &mut Position)> =
            self.peers.iter_mut().filter(|(_, position)| !position.last.is_empty()).collect();
        let asks: Vec<_> = known.iter().map(|(peer, position)| read(peer, position)).collect();
        for ((_, position), reply) in known.into_iter().zip(store.ask(place, &asks).await?) {
            match reply.error() {
                Some(error) => note(Some(Failure::said("letters", error))),
                None => position.changes(&reply, peer_queues),
            }
        }
        if is_whole_time {
            note(self.look(store, place).await?);
        }
        if let Some(peer) = self.due.pop_front() {
            let reply = one(store, place, command(&["GET"], whole(place, &peer), &[], None)).await?;
            match (reply.error(), self.peers.get_mut(&peer), &reply) {
                (Some(error), ..) => note(Some(Failure::said("a whole", error))),
                (None, Some(position), Value::Bytes(letters)) => position.whole(letters, peer_queues),
                _ => {}
            }
        }
        Ok(refused)
    }

    /// Writes what waits.
    async fn write(
        &self,
        peer_queues: &PeerQueues,
        store: &mut Store,
        place: &StoreAddress,
    ) -> Result<Option<Failure>, Failure> {
        let own = place.node.as_str();
        let (changes, letters) = peer_queues.take_out();
        let add = |letter| command(&["XADD"], stream(place, own), &["MAXLEN", "~", KEPT, "*", "l"], Some(letter));
        let mut asks: Vec<_> = changes.into_iter().map(add).collect();
        if let Some(letters) = letters {
            let (key, mut set) = command(&["SET"], whole(place, own), &[], Some(letters));
            set.extend(["EX", WHOLE_FOR].map(|word| word.as_bytes().to_vec()));
            asks.push((key, set));
        }
        if asks.is_empty() {
            return Ok(None);
        }
        let count = |failed: usize| peer_queues.count_lost(u64::try_from(failed).unwrap_or(u64::MAX));
        let replies = match store.ask(place, &asks).await {
            Ok(replies) => replies,
            Err(failure) => {
                count(asks.len());
                return Err(failure);
            }
        };
        let refused: Vec<&str> = replies.iter().filter_map(Value::error).collect();
        count(refused.len());
        Ok(refused.first().map(|error| Failure::said("letters", error)))
    }

    /// A server that has lost what it had, and whose clock was set back, gives changes earlier names than those that were
    /// read: they are read from a minute ago on again.
    async fn rewind(&mut self, store: &mut Store, place: &StoreAddress) -> Result<(), Failure> {
        let time = |peer: &String| (stream(place, peer).into_bytes(), vec![b"TIME".to_vec()]);
        let asks: Vec<_> = self.peers.keys().map(time).collect();
        if asks.is_empty() {
            return Ok(());
        }
        for (position, reply) in self.peers.values_mut().zip(store.ask(place, &asks).await?) {
            if milliseconds(&reply).is_some_and(|now| position.is_after(now)) {
                position.last.clear();
            }
        }
        Ok(())
    }

    /// Whom nothing was read of yet is read from a minute ago on: by the clock of the server that has the stream.
    async fn begin(&mut self, store: &mut Store, place: &StoreAddress) -> Result<Option<Failure>, Failure> {
        let is_new = |peer: &&String| self.peers.get(*peer).is_none_or(|position| position.last.is_empty());
        let new: Vec<String> = place.peers.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(None);
        }
        let asks: Vec<_> = new.iter().map(|peer| (stream(place, peer).into_bytes(), vec![b"TIME".to_vec()])).collect();
        let mut refused = None;
        for (peer, reply) in new.into_iter().zip(store.ask(place, &asks).await?) {
            if let Some(error) = reply.error() {
                refused = Some(Failure::said("TIME", error));
                continue;
            }
            let from = milliseconds(&reply).ok_or_else(|| Failure::malformed("it does not tell the time"))?;
            self.peers.entry(peer).or_default().last = format!("{}-0", from.saturating_sub(BACK));
        }
        Ok(refused)
    }

    /// Looks whose whole has changed.
    async fn look(&mut self, store: &mut Store, place: &StoreAddress) -> Result<Option<Failure>, Failure> {
        let last = (HEAD - 1).to_string();
        let head = |peer: &String| command(&["GETRANGE"], whole(place, peer), &["0", &last], None);
        let asks: Vec<_> = place.peers.iter().map(head).collect();
        let mut refused = None;
        for (peer, reply) in place.peers.iter().zip(store.ask(place, &asks).await?) {
            match (reply.error(), &reply) {
                (Some(error), _) => refused = Some(Failure::said("a whole", error)),
                (None, Value::Bytes(head))
                    if !head.is_empty()
                        && self.peers.get(peer).is_none_or(|position| position.whole != *head)
                        && !self.due.contains(peer) =>
                {
                    self.due.push_back(peer.clone());
                }
                _ => {}
            }
        }
        Ok(refused)
    }
}

impl Position {
    /// Whether what was read last has a later name than anything that is written `now`, in milliseconds.
    fn is_after(&self, now: u64) -> bool {
        let last = self.last.split('-').next().and_then(digits::decimal::<u64>);
        last.is_some_and(|last| last > now)
    }

    fn changes(&mut self, reply: &Value, peer_queues: &PeerQueues) {
        // [[stream, [[id, [field, letter]], ...]]]
        let entries = reply.array().and_then(<[_]>::first).and_then(Value::array).and_then(|stream| stream.get(1));
        for entry in entries.and_then(Value::array).unwrap_or_default() {
            let [id, fields] = entry.array().unwrap_or_default() else { continue };
            if let [_, Value::Bytes(letter)] = fields.array().unwrap_or_default()
                && !peer_queues.hear(&[letter])
            {
                return;
            }
            if let Some(id) = id.text() {
                id.clone_into(&mut self.last);
            }
        }
    }

    fn whole(&mut self, letters: &[u8], peer_queues: &PeerQueues) {
        let mut rest = letters;
        let mut parts = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((letter, more)) = more.split_at_checked(length) else { break };
            parts.push(letter);
            rest = more;
        }
        if peer_queues.hear(&parts) {
            self.whole = letters.get(..HEAD).unwrap_or(letters).to_vec();
        }
    }
}

/// The reply of `TIME`.
fn milliseconds(reply: &Value) -> Option<u64> {
    let [seconds, micros] = reply.array()? else { return None };
    let number = |value: &Value| value.text().and_then(digits::decimal::<u64>);
    number(seconds)?.checked_mul(1_000)?.checked_add(number(micros)? / 1_000)
}

async fn one(store: &mut Store, place: &StoreAddress, ask: (Vec<u8>, RespCommand)) -> Result<Value, Failure> {
    store.ask(place, &[ask]).await?.pop().ok_or_else(|| Failure::new("no answer"))
}

fn stream(place: &StoreAddress, node: &str) -> String {
    format!("{}:changes:{node}", place.prefix)
}

fn whole(place: &StoreAddress, node: &str) -> String {
    format!("{}:whole:{node}", place.prefix)
}

/// A command about one key, with what stands before and behind it.
fn command(before: &[&str], key: String, behind: &[&str], last: Option<Vec<u8>>) -> (Vec<u8>, RespCommand) {
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let key = key.into_bytes();
    (key.clone(), words(before).into_iter().chain([key]).chain(words(behind)).chain(last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn array(values: Vec<Value>) -> Value {
        Value::Array(values)
    }

    #[test]
    fn changes_are_read_on_from_the_last() {
        let entry = |id: &str, letter: Value| array(vec![bytes(id), array(vec![bytes("l"), letter])]);
        let reply = |entries: Vec<Value>| array(vec![array(vec![bytes("gateway:changes:a"), array(entries)])]);
        let first = vec![entry("5-0", bytes("one")), entry("5-1", Value::Nil), entry("6-0", bytes("two"))];
        let (peer_queues, mut position) =
            (PeerQueues::default(), Position { last: "4-0".to_owned(), ..Position::default() });
        position.changes(&reply(first), &peer_queues);
        assert_eq!((peer_queues.take_heard(), position.last.as_str()), (vec![b"one".to_vec(), b"two".to_vec()], "6-0"));
        for other in [Value::Nil, array(Vec::new()), array(vec![Value::Nil]), array(vec![array(vec![bytes("k")])])] {
            position.changes(&other, &peer_queues);
        }
        assert_eq!((peer_queues.take_heard().len(), position.last.as_str()), (0, "6-0"));
        // The guard is slow: what there is no room for is read again.
        while peer_queues.hear(&[b"x"]) {}
        position.changes(&reply(vec![entry("7-0", bytes("three"))]), &peer_queues);
        assert_eq!((position.last.as_str(), peer_queues.lost()), ("6-0", 0));
    }

    #[test]
    fn a_whole_comes_in_once_and_with_all_of_its_parts() {
        let peer_queues = PeerQueues::default();
        let mut position = Position::default();
        let whole = b"\x03\0\0\0one\x03\0\0\0two";
        position.whole(whole, &peer_queues);
        assert_eq!(peer_queues.take_heard(), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(position.whole, whole, "it is known again");
        for (what, whole, expect) in [
            ("cut off", &whole[..13], vec![b"one".to_vec()]),
            ("a length that is a lie", &[0xff; 4][..], Vec::new()),
            ("empty", &[][..], Vec::new()),
        ] {
            position.whole(whole, &peer_queues);
            assert_eq!(peer_queues.take_heard(), expect, "{what}");
            assert_eq!(position.whole, whole, "{what}");
        }
        while peer_queues.hear(&[b"x"]) {}
        position.whole(whole, &peer_queues);
        assert!(position.whole.is_empty(), "there was no room for it: it is read again");
        assert_eq!(peer_queues.lost(), 0);
    }

    #[test]
    fn d07_the_clock_of_the_server_is_set_back() {
        for (last, expect) in [("", false), ("5000-0", false), ("5001-0", true), ("5001-7", true), ("x", false)] {
            let position = Position { last: last.to_owned(), ..Position::default() };
            assert_eq!(position.is_after(5_000), expect, "{last:?}");
        }
    }

    #[test]
    fn the_time_of_the_server() {
        let time = |seconds: &str, micros: &str| milliseconds(&array(vec![bytes(seconds), bytes(micros)]));
        assert_eq!(time("1700000000", "123456"), Some(1_700_000_000_123));
        assert_eq!(time("x", "1"), None);
        assert_eq!(time(&u64::MAX.to_string(), "1"), None);
        assert_eq!(milliseconds(&Value::Nil), None);
    }
}
