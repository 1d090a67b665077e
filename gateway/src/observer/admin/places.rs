//! Which connections of the admin listener are open, and which of them gives way to a new one.

use std::net::IpAddr;

use tokio::task::AbortHandle;

/// How many connections there may be.
const MOST: usize = 32;

/// How many of them one address may have.
const MOST_OF_ONE: usize = 8;

/// The open connections, the oldest first.
#[derive(Default)]
pub(super) struct Places {
    open: Vec<Open>,
    last: u64,
}

struct Open {
    id: u64,
    /// `None`: it came by the Unix socket.
    peer: Option<IpAddr>,
    has_asked: bool,
    task: Option<AbortHandle>,
}

impl Places {
    /// Gives a new connection a place. If there is none, the oldest connection that has sent no request is closed: one of
    /// the same address, where that has too many. `None`: all of them have sent one, so the new one is closed.
    pub(super) fn admit(&mut self, peer: Option<IpAddr>) -> Option<u64> {
        let peer = peer.map(|peer| peer.to_canonical());
        let of_peer = self.open.iter().filter(|open| open.peer == peer).count();
        if peer.is_some() && of_peer >= MOST_OF_ONE {
            self.close_oldest(|open| open.peer == peer)?;
        } else if self.open.len() >= MOST {
            self.close_oldest(|_| true)?;
        }
        self.last += 1;
        self.open.push(Open { id: self.last, peer, has_asked: false, task: None });
        Some(self.last)
    }

    fn close_oldest(&mut self, may_close: impl Fn(&Open) -> bool) -> Option<()> {
        let place = self.open.iter().position(|open| !open.has_asked && may_close(open))?;
        if let Some(task) = self.open.remove(place).task {
            task.abort();
        }
        Some(())
    }

    /// What serves the connection.
    pub(super) fn serves(&mut self, id: u64, task: AbortHandle) {
        if let Some(open) = self.find(id) {
            open.task = Some(task);
        }
    }

    /// The connection has sent a request.
    pub(super) fn asks(&mut self, id: u64) {
        if let Some(open) = self.find(id) {
            open.has_asked = true;
        }
    }

    /// The connection is closed.
    pub(super) fn leave(&mut self, id: u64) {
        self.open.retain(|open| open.id != id);
    }

    fn find(&mut self, id: u64) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(places: &Places) -> Vec<u64> {
        places.open.iter().map(|open| open.id).collect()
    }

    fn address(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn one_address_has_eight_places() {
        let mut places = Places::default();
        for id in 1..=8 {
            assert_eq!(places.admit(address(1)), Some(id));
        }
        places.asks(1);
        assert_eq!(places.admit("::ffff:192.0.2.1".parse().ok()), Some(9));
        assert_eq!(ids(&places), [1, 3, 4, 5, 6, 7, 8, 9], "the oldest that has not asked is closed");
        (1..=9).for_each(|id| places.asks(id));
        assert_eq!(places.admit(address(1)), None);
        assert_eq!(places.admit(address(2)), Some(10), "others have places");
        places.leave(4);
        assert_eq!(places.admit(address(1)), Some(11));
    }

    #[test]
    fn all_addresses_have_thirty_two_places() {
        let mut places = Places::default();
        for number in 0..32 {
            assert!(places.admit(address(number)).is_some());
        }
        assert_eq!(places.admit(address(100)), Some(33));
        assert_eq!((ids(&places).len(), ids(&places)[0]), (32, 2));
        (1..=33).for_each(|id| places.asks(id));
        assert_eq!(places.admit(address(101)), None);
    }

    #[test]
    fn a_unix_socket_has_thirty_two_places() {
        let mut places = Places::default();
        assert!((1..=32).all(|id| places.admit(None) == Some(id)));
        assert_eq!(places.admit(None), Some(33));
        assert_eq!((ids(&places).len(), ids(&places)[0]), (32, 2));
    }
}
