//! Sends each line as a datagram: to a socket of this host, or by UDP.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::Duration,
};

use super::{backoff::Backoff, frame::Frame};
use crate::{
    log::drops::{DropReason, Dropped, lines},
    os::clock::Now,
};

/// How long a receiver of this host may keep its queue full.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long the beginning is that is sent of a line which no datagram holds, in bytes. Servers of syslog should take so
/// much (RFC 5426 3.2).
const CUT: usize = 2_048;

/// Sends lines as datagrams.
pub(in crate::log) struct DatagramOutput {
    to: Address,
    frame: Frame,
    socket: Option<Socket>,
    backoff: Backoff,
    message: Vec<u8>,
}

enum Address {
    Udp(String),
    Unix(PathBuf),
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl DatagramOutput {
    pub(super) fn udp(address: String, frame: Frame) -> Self {
        Self::new(Address::Udp(address), frame)
    }

    pub(super) fn unix(path: PathBuf, frame: Frame) -> Self {
        Self::new(Address::Unix(path), frame)
    }

    fn new(to: Address, frame: Frame) -> Self {
        Self { to, frame, socket: None, backoff: Backoff::default(), message: Vec::new() }
    }

    /// Sends whole lines.
    pub(in crate::log) fn write(&mut self, block: &[u8]) -> Dropped {
        let now = Now::read();
        let mut dropped: Dropped = None;
        let mut rest = block;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.message.clear();
            self.frame.write(line, now, &mut self.message);
            let mut sent = self.send();
            if sent == Err(DropReason::TooLong) && self.message.len() > CUT {
                // What a client may make as long as it likes must not vanish for that: its beginning is sent.
                self.frame.cut(CUT, &mut self.message);
                sent = self.send().and(Err(DropReason::TooLong));
            }
            match sent {
                Ok(()) => {}
                // Nobody is there: nor is anybody for what is left.
                Err(DropReason::Unreachable) => return add(dropped, DropReason::Unreachable, lines(rest)),
                // The same receiver would be waited for at every line.
                Err(DropReason::TooSlow) => return add(dropped, DropReason::TooSlow, lines(rest)),
                Err(reason) => dropped = add(dropped, reason, 1),
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        dropped
    }

    fn send(&mut self) -> Result<(), DropReason> {
        loop {
            if self.socket.is_none() {
                if !self.backoff.is_due() {
                    return Err(DropReason::Unreachable);
                }
                match connect(&self.to) {
                    Ok(socket) => self.socket = Some(socket),
                    Err(error) => {
                        tracing::debug!(%error, "the access log's server cannot be reached");
                        self.backoff.failed();
                        continue;
                    }
                }
            }
            let Some(socket) = &self.socket else { continue };
            // An error of UDP is about a datagram before: this one is sent again.
            let sent = match socket.send(&self.message) {
                Err(error) if matches!((socket, error.kind()), (Socket::Udp(_), io::ErrorKind::ConnectionRefused)) => {
                    socket.send(&self.message)
                }
                sent => sent,
            };
            let Err(error) = sent else {
                self.backoff.works();
                return Ok(());
            };
            match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::MSGSIZE) => return Err(DropReason::TooLong),
                Some(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return Err(DropReason::TooSlow),
                Some(rustix::io::Errno::INTR) => {}
                _ => {
                    self.socket = None;
                    self.backoff.failed();
                }
            }
        }
    }
}

fn add(dropped: Dropped, reason: DropReason, more: u64) -> Dropped {
    // The reason that came last tells what is wrong now.
    Some((reason, dropped.map_or(0, |(_, count)| count) + more))
}

fn connect(to: &Address) -> io::Result<Socket> {
    match to {
        Address::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(TIMEOUT))?;
            Ok(Socket::Unix(socket))
        }
        Address::Udp(address) => {
            let server = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
            let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            socket.set_write_timeout(Some(TIMEOUT))?;
            Ok(Socket::Udp(socket))
        }
    }
}

impl Socket {
    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message),
            Self::Unix(socket) => socket.send(message),
        }
        .map(|_length| ())
    }
}
