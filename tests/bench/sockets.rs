//! Connections from the sources of frames, in a network of the measurement's own: what the kernel looks up while the budget
//! of all sources is spent.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, ensure};
use gateway_common::maps::FAST_LANE;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, SockRef, Socket, Type};
use support::frame::DESTINATION_V4;

/// Whose connection has proved itself.
pub(crate) const PROVEN: &str = "203.0.113.8";
/// Whose connection has not.
pub(crate) const UNPROVEN: &str = "203.0.113.9";

/// Both ends of each connection.
pub(crate) struct Sockets {
    _open: Vec<(Socket, TcpStream)>,
}

impl Sockets {
    /// Moves this process, which must have no other thread yet, to a network in which every address is its own.
    pub(crate) fn open() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network of its own")?;
        for line in ["link set lo up", "route add local 0.0.0.0/0 dev lo"] {
            let done = Command::new("ip").args(line.split(' ')).status().context("ip (the package iproute2)")?;
            ensure!(done.success(), "ip {line}");
        }
        fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1")?;
        let listener = TcpListener::bind(SocketAddr::new(DESTINATION_V4, 443))?;
        let connect = |(source, priority): (&str, u32)| -> anyhow::Result<_> {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Where frames come from.
            client.bind(&SocketAddr::new(source.parse::<IpAddr>()?, 40_000).into())?;
            client.connect(&SocketAddr::new(DESTINATION_V4, 443).into())?;
            let (accepted, _) = listener.accept()?;
            SockRef::from(&accepted).set_priority(priority)?;
            Ok((client, accepted))
        };
        let open = [(PROVEN, FAST_LANE), (UNPROVEN, 0)].into_iter().map(connect).collect::<anyhow::Result<_>>()?;
        Ok(Self { _open: open })
    }
}
