//! The listening sockets: bound for the guard, kept here, so that they outlive every other process. Clients wait while
//! nobody accepts; they are not refused.
//!
//! An address that no interface has yet, or whose uniqueness is still being found out, is bound all the same: clients are
//! served once it is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::os::launch::MAX_ADDRESSES;

/// Connections that wait to be accepted, per socket; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// How many descriptors are left for whatever else the launcher does: a guard always starts again.
const SPARE: usize = 512;

/// The sockets of every address: one per worker, over which the kernel spreads connections.
pub(super) struct Sockets {
    /// How many there may be.
    most: usize,
    kept: BTreeMap<SocketAddr, Vec<OwnedFd>>,
    /// Those that the present guard has asked for.
    wanted: BTreeSet<SocketAddr>,
}

impl Sockets {
    /// As many as a process can have that may open so many files.
    pub(super) fn within(files: usize) -> Self {
        let most = files.saturating_sub(SPARE).max(files / 2);
        Self { most, kept: BTreeMap::new(), wanted: BTreeSet::new() }
    }

    /// So many sockets of an address: those that there are, and new ones. Those over are closed.
    ///
    /// # Errors
    /// It cannot be bound, another program listens there, or there are too many addresses.
    pub(super) fn bind(&mut self, address: SocketAddr, wanted: usize) -> io::Result<&[OwnedFd]> {
        if !self.kept.contains_key(&address) {
            if self.kept.len() >= MAX_ADDRESSES {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            // Two programs of one user may share a port by SO_REUSEPORT and would then steal each other's connections: the
            // first socket is bound without it, so that a second gateway is refused.
            probe(address)?;
        }
        let known = self.kept.get(&address).map_or(0, Vec::len);
        if self.kept.values().map(Vec::len).sum::<usize>() + wanted.saturating_sub(known) > self.most {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        // Those that there are stay even where others cannot be had.
        let new: io::Result<Vec<OwnedFd>> = (known..wanted).map(|_| listen(address).map(OwnedFd::from)).collect();
        let new = new?;
        let sockets = self.kept.entry(address).or_default();
        sockets.truncate(wanted);
        sockets.extend(new);
        self.wanted.insert(address);
        Ok(sockets)
    }

    /// Listens again where a process that had a copy of a socket has shut it down: all copies are one socket. Those that
    /// listen go on as they are.
    pub(super) fn listen_again(&self) {
        for (address, sockets) in &self.kept {
            for socket in sockets {
                if let Err(error) = SockRef::from(socket).listen(BACKLOG) {
                    tracing::error!(%error, %address, "nobody can listen there any more");
                }
            }
        }
    }

    /// Keeps the sockets of an address no longer.
    pub(super) fn unbind(&mut self, address: SocketAddr) {
        self.kept.remove(&address);
        self.wanted.remove(&address);
    }

    /// Another guard begins, and has asked for nothing yet.
    pub(super) fn begin(&mut self) {
        self.wanted.clear();
    }

    /// Closes what the present guard has not asked for: an earlier one died before it could serve there, or close it.
    pub(super) fn close_unwanted(&mut self) {
        self.kept.retain(|address, _| self.wanted.contains(address));
    }
}

fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has listeners of its own: one address, one meaning.
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// Each copy of a socket can shut down all of them.
    #[test]
    fn what_a_process_in_wrong_hands_has_shut_down_listens_again() {
        let mut sockets = Sockets::within(1_024);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let copies: Vec<OwnedFd> =
            sockets.bind(address, 2).unwrap().iter().map(|socket| socket.try_clone().unwrap()).collect();
        let connects = || std::net::TcpStream::connect(address);
        let waits = connects().unwrap();
        copies.iter().for_each(|copy| SockRef::from(copy).shutdown(std::net::Shutdown::Read).unwrap());
        assert_eq!(connects().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        sockets.listen_again();
        // Nobody who waits loses their place by that.
        let waits_too = connects().unwrap();
        sockets.listen_again();
        let accepted = copies.iter().filter_map(|copy| SockRef::from(copy).accept().ok()).count();
        assert_eq!(accepted, 1);
        drop((waits, waits_too));
    }

    #[test]
    fn one_socket_per_worker_and_nobody_elses_port() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        let mut sockets = Sockets::within(1_024);
        assert_eq!(sockets.bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(free);
        let inode = |socket: &OwnedFd| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        let first: Vec<u64> = sockets.bind(address, 2).unwrap().iter().map(inode).collect();
        // The next guard gets the same, however many it wants.
        for (wanted, same) in [(2, 2), (3, 2), (1, 1)] {
            let next: Vec<u64> = sockets.bind(address, wanted).unwrap().iter().map(inode).collect();
            assert_eq!((next.len(), &next[..same]), (wanted, &first[..same]));
        }
        assert!(Sockets::within(1_024).bind(address, 1).is_err(), "another gateway");
        // What the guard before had bound stays until this one serves without it.
        sockets.begin();
        assert!(Sockets::within(1_024).bind(address, 1).is_err(), "another gateway");
        sockets.bind(address, 1).unwrap();
        sockets.close_unwanted();
        assert!(Sockets::within(1_024).bind(address, 1).is_err(), "another gateway");
        sockets.begin();
        sockets.close_unwanted();
        assert_eq!(sockets.bind(address, 2).unwrap().len(), 2, "it is free");
        sockets.unbind(address);
        assert_eq!(Sockets::within(1_024).bind(address, 1).unwrap().len(), 1);
    }

    #[test]
    fn descriptors_are_left_for_the_next_guard() {
        let address = "203.0.113.77:0".parse().unwrap();
        let mut sockets = Sockets::within(SPARE + 4);
        let most = sockets.most;
        let full = sockets.bind(address, most + 1).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(sockets.bind(address, 3).unwrap().len(), 3);
        let other = "203.0.113.78:0".parse().unwrap();
        assert!(sockets.bind(other, most - 2).is_err() && sockets.bind(other, 2).is_ok());
        assert_eq!(Sockets::within(64).most, 32, "there is always room for some");
    }

    #[test]
    fn an_address_that_is_not_there_is_bound() {
        // Of documentation: no host has them.
        for address in ["203.0.113.77:0", "[2001:db8::77]:0"] {
            assert_eq!(Sockets::within(1_024).bind(address.parse().unwrap(), 2).unwrap().len(), 2, "{address}");
        }
    }
}
