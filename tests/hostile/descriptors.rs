//! Descriptors that nobody has asked for, some of which take minutes to close.

use std::{
    fs::File,
    io::Write as _,
    net::TcpStream,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use socket2::SockRef;

/// Connections that the kernel keeps whoever closes them last waiting for, a folder, a pipe and a device.
pub(crate) fn slow_to_close(listeners: &[OwnedFd]) -> Vec<OwnedFd> {
    let address = SockRef::from(listeners.first().unwrap()).local_addr().unwrap().as_socket().unwrap();
    let mut all: Vec<OwnedFd> = (0..4).map(|_| lingering(address)).collect();
    let (read, write) = nix::unistd::pipe().unwrap();
    all.extend([read, write, File::open("/").unwrap().into(), File::open("/dev/zero").unwrap().into()]);
    all.push(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    all
}

/// Nobody accepts this connection, so what is written to it is never taken.
fn lingering(address: std::net::SocketAddr) -> OwnedFd {
    let mut stream = TcpStream::connect(address).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::from_secs(600))).unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65_536]).is_ok() {}
    stream.into()
}
