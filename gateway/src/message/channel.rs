//! Sends and receives whole messages, with file descriptors, over a `SOCK_SEQPACKET` socket.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Bounded, MAX_BYTES, MAX_DESCRIPTORS};

/// The most descriptors that the kernel sends with one message (`SCM_MAX_FD`).
const SENT_AT_MOST: usize = 253;

/// The first byte of every message. Raised with every change of a type in [`message`](super).
const VERSION: u8 = 6;

/// One end of the socketpair, driven by the runtime it was made in.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
}

/// Two connected ends, non-blocking, closed on exec.
///
/// # Errors
/// The kernel is out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Channel {
    /// Takes an end of [`pair`]. Must be called inside a runtime.
    ///
    /// # Errors
    /// The runtime refuses the descriptor.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; ours owns it"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket })
    }

    /// Sends one message and the descriptors that go with it.
    ///
    /// # Errors
    /// The other side is gone, or the message is over [`MAX_BYTES`] or [`MAX_DESCRIPTORS`].
    pub async fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(message, descriptors.len())?;
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), &bytes, descriptors)).await
    }

    /// Sends one message now, or fails with `WouldBlock`.
    ///
    /// # Errors
    /// As [`Self::send`]; `WouldBlock` if the other side does not read.
    pub fn try_send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        let bytes = encode(message, 0)?;
        self.socket.try_io(Interest::WRITABLE, |socket| send(socket.as_fd(), &bytes, &[]))
    }

    /// Receives one message and the descriptors that came with it. `None`: the other side is gone.
    ///
    /// # Errors
    /// The message is too large, of another version, or not what it should be.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match self.next().await? {
            Some((bytes, descriptors)) => Ok(decode(&bytes)?.map(|message| (message, descriptors))),
            None => Ok(None),
        }
    }

    /// Receives one message from a process that is not trusted and has no descriptors to give. `None`: it is gone.
    ///
    /// # Errors
    /// As [`Self::receive`]; a descriptor came along, or the message holds more than it may.
    pub async fn receive_alone<T: DeserializeOwned + Bounded>(&self) -> io::Result<Option<T>> {
        let Some((bytes, descriptors)) = self.next().await? else { return Ok(None) };
        if !descriptors.is_empty() {
            let many = descriptors.len();
            close_elsewhere(descriptors);
            return Err(invalid(format!("{many} descriptors came with a message that has none")));
        }
        let message: Option<T> = decode(&bytes)?;
        if let Some(Err(what)) = message.as_ref().map(Bounded::check) {
            return Err(invalid(format!("a message holds too many {what}")));
        }
        Ok(message)
    }

    /// Closes this end and what waits in it unread.
    pub fn close(self) {
        close_elsewhere(self);
    }

    async fn next(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let received = self.socket.async_io(Interest::READABLE, |socket| receive(socket.as_fd())).await;
        match received {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other.map(Some),
        }
    }
}

/// Drops on a thread of its own what may hold descriptors that another process has made: to close the last one of a
/// socket takes as long as that process has wanted (`SO_LINGER`), and nothing else waits for that.
///
/// Where no thread can be made it is never closed: a descriptor that is lost costs less than a loop that waits for as
/// long as somebody else has wanted.
pub(super) fn close_elsewhere(held: impl Send + 'static) {
    // The closure is dropped here if there is no thread for it, and must not close anything then.
    let held = ManuallyDrop::new(held);
    let close = move || drop(ManuallyDrop::into_inner(held));
    if let Err(error) = std::thread::Builder::new().name("close".to_owned()).spawn(close) {
        tracing::error!(%error, "no thread to close descriptors on: they stay open");
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    let Some((&version, body)) = bytes.split_first() else { return Ok(None) };
    if version != VERSION {
        return Err(invalid(format!(
            "it speaks version {version} and not {VERSION}: restart the gateway to change its program"
        )));
    }
    postcard::from_bytes(body).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The sending half of a channel, for threads that do not wait.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Takes another descriptor of a socket that a [`Channel`] has.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Closes this end and what waits in it unread.
    pub fn close(self) {
        close_elsewhere(self);
    }

    /// Sends one message now.
    ///
    /// # Errors
    /// As [`Channel::try_send`].
    pub fn try_send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        self.try_send_with(message, &[])
    }

    /// Sends one message now, and the descriptors that go with it.
    ///
    /// # Errors
    /// As [`Channel::try_send`].
    pub fn try_send_with<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), &encode(message, descriptors.len())?, descriptors)
    }
}

fn encode<T: Serialize>(message: &T, descriptors: usize) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_extend(message, vec![VERSION]).map_err(io::Error::other)?;
    if bytes.len() > MAX_BYTES || descriptors > MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    Ok(bytes)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Reads bytes alone. Descriptors that come along are closed elsewhere, and are an error: whoever sends them once would
/// cost a thread with every read.
pub(super) fn receive_bytes(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (received, descriptors) = receive_into(socket, bytes)?;
    if !descriptors.is_empty() {
        let many = descriptors.len();
        close_elsewhere(descriptors);
        return Err(invalid(format!("{many} descriptors came along with bytes")));
    }
    Ok(received.bytes)
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MAX_BYTES];
    let (received, descriptors) = receive_into(socket, &mut bytes)?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        close_elsewhere(descriptors);
        return Err(invalid("message cut off".to_owned()));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}

/// What was received.
struct Received {
    bytes: usize,
    flags: ReturnFlags,
}

fn receive_into(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(Received, Vec<OwnedFd>)> {
    // Room for as many as can come: the kernel would close the others here and now.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SENT_AT_MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((Received { bytes: received.bytes, flags: received.flags }, descriptors))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, io::Seek as _, io::Write as _};

    use super::*;
    use crate::message::ToProxy;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(test);
    }

    #[test]
    fn carries_messages_and_files() {
        run(async {
            let (left, right) = pair().unwrap();
            let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
            let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let mut file = File::from(memory);
            file.write_all(b"hello").unwrap();
            let start = ToProxy::Start { workers: 2, listeners: 1 };
            left.send(&start, &[file.as_fd()]).await.unwrap();
            let (message, descriptors) = right.receive::<ToProxy>().await.unwrap().unwrap();
            assert_eq!(message, start);
            let mut copy = File::from(descriptors.into_iter().next().unwrap());
            copy.rewind().unwrap();
            let mut text = String::new();
            copy.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
            drop(left);
            assert!(right.receive::<ToProxy>().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_descriptor_ends_a_stream_of_bytes() {
        use tokio::{
            io::{AsyncReadExt as _, AsyncWriteExt as _},
            net::UnixStream,
        };

        run(async {
            let (left, right) = UnixStream::pair().unwrap();
            let mut right = crate::message::byte_stream::ByteStream::new(right);
            let mut bytes = [0; 8];
            send(left.as_fd(), b"a", &[]).unwrap();
            assert_eq!(right.read(&mut bytes).await.unwrap(), 1);
            for _ in 0..3 {
                send(left.as_fd(), b"b", &[left.as_fd()]).unwrap();
            }
            assert!(right.read(&mut bytes).await.is_err());
            assert_eq!(right.read(&mut bytes).await.unwrap(), 0, "nothing more is read");
            assert!(right.write_all(b"c").await.is_err());
        });
    }

    #[test]
    fn refuses_what_is_no_message() {
        for bytes in [&[VERSION][..], &[VERSION + 1, 4], &[VERSION, 0xff, 0xff]] {
            run(async {
                let (left, right) = pair().unwrap();
                send(left.as_fd(), bytes, &[]).unwrap();
                let right = Channel::new(right).unwrap();
                assert!(right.receive::<ToProxy>().await.is_err(), "{bytes:?}");
            });
        }
    }
}
