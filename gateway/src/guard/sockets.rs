//! Decides how listening sockets are made: bound while the guard still may bind low ports, one per worker, and passed
//! on, so that they outlive the proxy.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per socket; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listener {address}: {error}{hint}")]
pub(crate) struct SocketError {
    address: SocketAddr,
    error: io::Error,
    hint: &'static str,
}

/// How long the proxy of a guard that was killed may take to let go of its sockets.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// One listening socket per worker; connections are spread over them by the kernel. Waits for up to `patience` for
/// whoever has the port to let it go.
///
/// # Errors
/// [`SocketError`], with what would help.
pub(crate) fn bind(address: SocketAddr, workers: usize, patience: Duration) -> Result<Vec<OwnedFd>, SocketError> {
    let failed = |error: io::Error| SocketError { address, hint: hint(error.kind()), error };
    // Two programs of one user may share a port by SO_REUSEPORT and would then steal each other's connections: the
    // first socket is bound without it, so that a second gateway is refused.
    let start = Instant::now();
    while let Err(error) = probe(address) {
        if error.kind() != io::ErrorKind::AddrInUse || start.elapsed() >= patience {
            return Err(failed(error));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    (0..workers.max(1)).map(|_| listen(address).map(OwnedFd::from).map_err(failed)).collect()
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
    }
    Ok(socket)
}

const fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            ": another program listens there, see `ss -ltnp`; stop it, or change listener.address"
        }
        io::ErrorKind::AddrNotAvailable => ": no interface of this host has that address, see `ip address`",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need root or CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_per_worker_and_nobody_elses_port() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1, Duration::ZERO).unwrap();
        let listener = Socket::from(first.into_iter().next().unwrap());
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let refused = bind(address, 2, Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("ss -ltnp") && refused.contains(&address.to_string()), "{refused}");
        drop(listener);
        assert_eq!(bind(address, 3, Duration::ZERO).unwrap().len(), 3);
    }
}
