//! Makes the listening sockets: bound while the guard still may bind low ports, one per worker, and passed
//! on, so that they outlive the proxy. An address that no interface has yet, or whose uniqueness is still being found
//! out, is waited for: its socket is bound all the same, and clients are served once the address is there.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
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

impl SocketError {
    /// Whether a right is missing.
    pub(crate) fn is_denied(&self) -> bool {
        self.error.kind() == io::ErrorKind::PermissionDenied
    }
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
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    Ok(socket)
}

/// Whether this host has the address, as far as can be found out.
pub(crate) fn is_here(address: SocketAddr) -> bool {
    let mut any_port = address;
    any_port.set_port(0);
    // The same answer as for TCP, without the right that a port of TCP takes.
    !UdpSocket::bind(any_port).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// What is said of an address that this host does not have.
pub(crate) const ABSENT: &str = "no interface of this host has that address yet, see `ip address`";

const fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            ": another program listens there, see `ss -ltnp`; stop it, or change listener.address"
        }
        // Even so only where the system does not allow it, or without the interface that a link-local address names.
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

    #[test]
    fn an_address_that_is_not_there_is_bound_and_told() {
        for (address, here) in [
            ("127.0.0.1:443", true),
            ("127.9.9.9:0", true),
            ("0.0.0.0:443", true),
            ("[::]:443", true),
            // Of documentation: no host has them.
            ("203.0.113.77:0", false),
            ("[2001:db8::77]:0", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(is_here(address), here, "{address}");
            if address.port() == 0 {
                assert_eq!(bind(address, 2, Duration::ZERO).unwrap().len(), 2, "{address}");
            }
        }
    }
}
