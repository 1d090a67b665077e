//! Whether this host has the addresses that are listened on. The sockets themselves are made and kept by the launcher.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

/// Whether this host has the address, as far as can be found out.
pub(crate) fn is_here(address: SocketAddr) -> bool {
    let mut any_port = address;
    any_port.set_port(0);
    // The same answer as for TCP, without the right that a port of TCP takes.
    !UdpSocket::bind(any_port).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// What is said of an address that this host does not have.
pub(crate) const ABSENT: &str = "no interface of this host has that address yet, see `ip address`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_there_is_told() {
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
        }
    }
}
