//! Which connections of the admin listener are open, and which of them gives way to a new one.
//!
//! *Invariant:* whoever has not shown that they may ask for anything holds none of the places of those who have, and gives
//! way to whoever comes next. No token has so many of those who are told what happens that none is left for another.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// How many connections of strangers there may be.
const STRANGERS: usize = 24;

/// How many of them one address may have.
const STRANGERS_OF_ONE: usize = 8;

/// How many connections of known clients there may be.
const KNOWN: usize = 32;

/// How many of known clients may be told what happens, as it happens.
const STREAMS: usize = 16;

/// How many of them one token may have.
const STREAMS_OF_ONE: usize = 4;

/// How long a stranger may take for all of it.
const STRANGER: Duration = Duration::from_secs(10);

/// How long a known client may take for all of it.
const WHOLE: Duration = Duration::from_secs(30);

/// How long whoever is told what happens is told it, until they come again.
const STREAM: Duration = Duration::from_secs(3_600);

/// Where a client is; `None`: it came by the Unix socket.
pub(super) type PeerAddress = Option<IpAddr>;

/// What a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientTrust {
    /// Nothing, or a token that is not good.
    Stranger,
    /// A token, which the guard judges. As many as are relayed at once.
    Judged,
    /// A good token, or a good client certificate.
    Known,
    /// The same, and is told what happens. The guard judges the token again and again.
    Streams {
        /// The token's hash.
        token: u64,
    },
}

/// The open connections, the oldest first.
#[derive(Default)]
pub(super) struct OpenConnections {
    open: Vec<OpenConnection>,
    last: u64,
    seed: RandomState,
}

struct OpenConnection {
    id: u64,
    peer: PeerAddress,
    since: Instant,
    standing: ClientTrust,
    task: Option<AbortHandle>,
}

impl OpenConnections {
    /// Gives a new connection a place. If there is none, the oldest connection of a stranger is closed: one of the same
    /// address, where that has too many.
    pub(super) fn admit(&mut self, peer: PeerAddress, now: Instant) -> u64 {
        let peer = peer.map(|peer| peer.to_canonical());
        let of_peer = |open: &OpenConnection| open.standing == ClientTrust::Stranger && open.peer == peer;
        if peer.is_some() && self.open.iter().filter(|open| of_peer(open)).count() >= STRANGERS_OF_ONE {
            self.close_oldest(of_peer);
        } else if self.count(ClientTrust::Stranger) >= STRANGERS {
            self.close_oldest(|open| open.standing == ClientTrust::Stranger);
        }
        self.last += 1;
        self.open.push(OpenConnection { id: self.last, peer, since: now, standing: ClientTrust::Stranger, task: None });
        self.last
    }

    fn count(&self, standing: ClientTrust) -> usize {
        self.open.iter().filter(|open| open.standing == standing).count()
    }

    fn close_oldest(&mut self, which: impl Fn(&OpenConnection) -> bool) {
        if let Some(place) = self.open.iter().position(which)
            && let Some(task) = self.open.remove(place).task
        {
            task.abort();
        }
    }

    /// What serves the connection.
    pub(super) fn serves(&mut self, id: u64, task: AbortHandle) {
        if let Some(open) = self.find(id) {
            open.task = Some(task);
        }
    }

    /// The client has shown a token, which the guard will judge.
    pub(super) fn is_judged(&mut self, id: u64) {
        if let Some(open) = self.find(id).filter(|open| open.standing == ClientTrust::Stranger) {
            open.standing = ClientTrust::Judged;
        }
    }

    /// What the client has shown is not good.
    pub(super) fn is_strange(&mut self, id: u64) {
        if let Some(open) = self.find(id) {
            open.standing = ClientTrust::Stranger;
        }
    }

    /// What the client has shown is good. `false`: there are too many of those.
    pub(super) fn is_known(&mut self, id: u64) -> bool {
        let is_full = self.count(ClientTrust::Known) >= KNOWN;
        match self.find(id) {
            Some(open) if open.standing != ClientTrust::Known && is_full => false,
            Some(open) => {
                open.standing = ClientTrust::Known;
                true
            }
            None => true,
        }
    }

    /// The client of this token is told what happens from now on. `false`: there are too many of those, or of the token's.
    pub(super) fn streams(&mut self, id: u64, token: &str) -> bool {
        let standing = ClientTrust::Streams { token: self.seed.hash_one(token) };
        let all = self.open.iter().filter(|open| matches!(open.standing, ClientTrust::Streams { .. })).count();
        let has_room = all < STREAMS && self.count(standing) < STREAMS_OF_ONE;
        match self.find(id).filter(|_| has_room) {
            Some(open) => {
                open.standing = standing;
                true
            }
            None => false,
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, id: u64) {
        self.close_oldest(|open| open.id == id);
    }

    /// Whether the connection has had its time.
    pub(super) fn is_over(&self, id: u64, now: Instant) -> bool {
        let Some(open) = self.open.iter().find(|open| open.id == id) else { return true };
        let most = match open.standing {
            ClientTrust::Stranger => STRANGER,
            ClientTrust::Judged | ClientTrust::Known => WHOLE,
            ClientTrust::Streams { .. } => STREAM,
        };
        now.saturating_duration_since(open.since) >= most
    }

    /// The connection is closed.
    pub(super) fn leave(&mut self, id: u64) {
        self.open.retain(|open| open.id != id);
    }

    fn find(&mut self, id: u64) -> Option<&mut OpenConnection> {
        self.open.iter_mut().find(|open| open.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(places: &OpenConnections) -> Vec<u64> {
        places.open.iter().map(|open| open.id).collect()
    }

    fn address(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn strangers_of_one_address_have_eight_places() {
        let (mut places, now) = (OpenConnections::default(), Instant::now());
        for id in 1..=8 {
            assert_eq!(places.admit(address(1), now), id);
        }
        assert!(places.is_known(1));
        places.is_judged(2);
        assert_eq!(places.admit("::ffff:192.0.2.1".parse().ok(), now), 9);
        assert_eq!(places.admit(address(1), now), 10);
        assert_eq!(ids(&places), (1..=10).collect::<Vec<_>>(), "known and judged clients are not among them");
        assert_eq!(places.admit(address(1), now), 11);
        assert_eq!(ids(&places), [1, 2, 4, 5, 6, 7, 8, 9, 10, 11], "the oldest stranger is closed");
        places.is_strange(2);
        assert_eq!(places.admit(address(1), now), 12);
        assert_eq!(ids(&places), [1, 4, 5, 6, 7, 8, 9, 10, 11, 12], "a bad token gives no place");
    }

    #[test]
    fn strangers_take_no_place_of_whoever_is_known() {
        for peer in [None, address(1)] {
            let (mut places, now) = (OpenConnections::default(), Instant::now());
            let peer = |number: u8| peer.and(address(number));
            for number in 0..32 {
                let id = places.admit(peer(number), now);
                assert!(places.is_known(id), "{id}");
            }
            for number in 0..200 {
                places.admit(peer(number), now);
            }
            assert_eq!((places.count(ClientTrust::Known), places.count(ClientTrust::Stranger)), (KNOWN, STRANGERS));
            let id = places.admit(peer(7), now);
            assert!(!places.is_known(id), "there are as many as there may be");
            assert!(places.is_known(1), "it is one of them");
            places.leave(1);
            assert!(places.is_known(id));
        }
    }

    #[test]
    fn few_are_told_what_happens() {
        let (mut places, now) = (OpenConnections::default(), Instant::now());
        for token in ["ada", "bob", "cyd", "dan"] {
            for _ in 0..STREAMS_OF_ONE {
                let id = places.admit(None, now);
                assert!(places.streams(id, token), "{id}");
            }
        }
        let other = places.admit(None, now);
        assert!(!places.streams(other, "eve"), "there are as many as there may be");
        for _ in 0..100 {
            places.admit(None, now);
        }
        assert!(!places.is_over(1, now + WHOLE) && places.is_over(1, now + STREAM), "no stranger is in its way");
        places.close(1);
        let newest = u64::try_from(STREAMS).unwrap() + 1 + 100;
        assert!(!places.streams(newest, "bob"), "the token has as many as it may have");
        assert!(places.streams(newest, "eve"), "another has its place");
    }

    #[test]
    fn one_token_leaves_room_for_others() {
        let (mut places, now) = (OpenConnections::default(), Instant::now());
        let told = (0..100).filter(|_| {
            let id = places.admit(None, now);
            places.streams(id, "ada")
        });
        assert_eq!(told.count(), STREAMS_OF_ONE);
        let other = places.admit(None, now);
        assert!(places.streams(other, "bob"));
        places.leave(1);
        let again = places.admit(None, now);
        assert!(places.streams(again, "ada"), "whoever goes makes room");
    }

    #[test]
    fn strangers_have_less_time() {
        let (mut places, now) = (OpenConnections::default(), Instant::now());
        let [stranger, known] = [places.admit(None, now), places.admit(None, now)];
        assert!(places.is_known(known));
        let over = |places: &OpenConnections, seconds| {
            [stranger, known].map(|id| places.is_over(id, now + Duration::from_secs(seconds)))
        };
        assert_eq!(over(&places, 9), [false, false]);
        assert_eq!(over(&places, 10), [true, false]);
        places.is_judged(stranger);
        assert_eq!(over(&places, 29), [false, false], "the guard takes its time");
        assert_eq!(over(&places, 30), [true, true]);
        places.leave(known);
        assert!(places.is_over(known, now));
    }
}
