//! Whole datagrams with file descriptors over a `SOCK_SEQPACKET` socketpair: what every channel between two processes of
//! the gateway is made of.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The most file descriptors one datagram carries; the kernel's own limit is 253.
pub const MAX_DESCRIPTORS: usize = 200;

/// The most descriptors that the kernel sends with one message (`SCM_MAX_FD`).
const SENT_AT_MOST: usize = 253;

/// Two connected ends, non-blocking, closed on exec.
///
/// # Errors
/// The kernel is out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one datagram now.
///
/// # Errors
/// `WouldBlock` if the other side does not read; the other side is gone; over [`MAX_DESCRIPTORS`].
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A datagram whose bytes are all there.
pub struct Datagram {
    /// None at all: the other side is gone.
    pub bytes: Vec<u8>,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
    /// The kernel could not hand over all of them: this process has too many open files.
    pub lost_descriptors: bool,
}

impl Datagram {
    /// Its bytes and all of its descriptors.
    ///
    /// # Errors
    /// Some were lost.
    pub fn whole(self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        if self.lost_descriptors {
            close_elsewhere(self.descriptors);
            return Err(cut_off());
        }
        Ok((self.bytes, self.descriptors))
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "message cut off")
}

/// Receives one datagram of at most `longest` bytes.
///
/// # Errors
/// `WouldBlock` if there is none; it is longer.
pub fn receive(socket: BorrowedFd<'_>, longest: usize) -> io::Result<Datagram> {
    let mut bytes = vec![0; longest];
    let (received, descriptors) = match receive_into(socket, &mut bytes) {
        // An end that was closed with something unread.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Datagram { bytes: Vec::new(), descriptors: Vec::new(), lost_descriptors: false });
        }
        received => received?,
    };
    let is_empty = received.bytes == 0 && !descriptors.is_empty();
    if is_empty || received.flags.contains(ReturnFlags::TRUNC) {
        close_elsewhere(descriptors);
        return Err(cut_off());
    }
    bytes.truncate(received.bytes);
    Ok(Datagram { bytes, descriptors, lost_descriptors: received.flags.contains(ReturnFlags::CTRUNC) })
}

/// How long to wait for room before a datagram is asked for again that did not fit.
pub const FULL_FOR: Duration = Duration::from_millis(100);

/// Whether this is the error of a process, or a machine, that has as many open files as it may.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// As [`receive`], but leaves a datagram where it is if this process cannot open all files that come along: it is received
/// once others were closed. For datagrams that must not be lost.
///
/// # Errors
/// As [`receive`]; [`is_full`] where there is no room for the descriptors.
pub fn receive_whole(socket: BorrowedFd<'_>, longest: usize) -> io::Result<Datagram> {
    let mut bytes = vec![0; longest];
    // What is looked at comes with descriptors of its own.
    let Ok((seen, descriptors)) = receive_with(socket, &mut bytes, RecvFlags::PEEK) else {
        // Whatever is wrong is told without.
        return receive(socket, longest);
    };
    if seen.flags.contains(ReturnFlags::CTRUNC) {
        // The datagram has others of the same, so closing these waits for nobody.
        drop(descriptors);
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    // The kernel closes those of the datagram, which are not the last ones either.
    if let Err(error) = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut [0; 1])],
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::CMSG_CLOEXEC,
    ) {
        close_elsewhere(descriptors);
        return Err(error.into());
    }
    let is_empty = seen.bytes == 0 && !descriptors.is_empty();
    if is_empty || seen.flags.contains(ReturnFlags::TRUNC) {
        close_elsewhere(descriptors);
        return Err(cut_off());
    }
    bytes.truncate(seen.bytes);
    Ok(Datagram { bytes, descriptors, lost_descriptors: false })
}

/// Reads bytes alone. Descriptors that come along are closed elsewhere, and are an error: whoever sends them once would
/// cost a thread with every read.
///
/// # Errors
/// `WouldBlock` if there are none; descriptors came along.
pub fn receive_bytes(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (received, descriptors) = receive_into(socket, bytes)?;
    if !descriptors.is_empty() {
        let many = descriptors.len();
        close_elsewhere(descriptors);
        let what = format!("{many} descriptors came along with bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(received.bytes)
}

/// What was received.
struct RecvResult {
    bytes: usize,
    flags: ReturnFlags,
}

fn receive_into(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(RecvResult, Vec<OwnedFd>)> {
    receive_with(socket, bytes, RecvFlags::empty())
}

fn receive_with(socket: BorrowedFd<'_>, bytes: &mut [u8], flags: RecvFlags) -> io::Result<(RecvResult, Vec<OwnedFd>)> {
    // Room for as many as can come: the kernel would close the others here and now.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SENT_AT_MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((RecvResult { bytes: received.bytes, flags: received.flags }, descriptors))
}

/// Drops on a thread of its own what may hold descriptors that another process has made: to close the last one of a
/// socket takes as long as that process has wanted (`SO_LINGER`), and nothing else waits for that.
///
/// Where no thread can be made it is never closed: a descriptor that is lost costs less than a loop that waits for as
/// long as somebody else has wanted.
pub fn close_elsewhere(held: impl Send + 'static) {
    // The closure is dropped here if there is no thread for it, and must not close anything then.
    let held = ManuallyDrop::new(held);
    let close = move || drop(ManuallyDrop::into_inner(held));
    if let Err(error) = std::thread::Builder::new().name("close".to_owned()).spawn(close) {
        tracing::error!(%error, "no thread to close descriptors on: they stay open");
    }
}
