//! Sends and receives whole messages, with file descriptors, over a `SOCK_SEQPACKET` socket.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Bounded, MAX_BYTES, MAX_DESCRIPTORS};
use crate::os::seqpacket::{Datagram, receive, receive_whole, send};

pub(crate) use crate::os::seqpacket::close_elsewhere;
pub use crate::os::seqpacket::pair;
pub(super) use crate::os::seqpacket::receive_bytes;

pub mod byte_stream;
pub(crate) mod sealed;

/// The first byte of every message: whoever is introduced to a process of another version finds out by the first one, and
/// neither understands it by chance.
///
/// To be raised with every change of what a message says: a variant or a member that is added, taken away or moved, another
/// type, also in what messages hold ([`Bundle`](super::Bundle), [`ObserverConfig`](super::observer::ObserverConfig),
/// records of credentials, metrics), and another meaning of what is there, such as descriptors that come along. Nothing
/// translates between versions: a process of another program is replaced, as `docs/architecture.md` has it.
const VERSION: u8 = 20;

/// One end of the socketpair, driven by the runtime it was made in.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
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
        send(self.socket.get_ref().as_fd(), &encode(message, 0)?, &[])
    }

    /// Receives one message and the descriptors that came with it. `None`: the other side is gone.
    ///
    /// # Errors
    /// The message is too large, of another version, or not what it should be. Or descriptors were lost.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match self.next().await? {
            Some(received) => {
                let (bytes, descriptors) = received.whole()?;
                Ok(decode(&bytes)?.map(|message| (message, descriptors)))
            }
            None => Ok(None),
        }
    }

    /// As [`Self::receive`], for a process that serves: a message stays where it is if this process cannot open all files
    /// that come along, and is received once others were closed.
    ///
    /// # Errors
    /// As [`Self::receive`]; [`is_full`](crate::os::seqpacket::is_full) where there is no room for the descriptors.
    pub async fn receive_whole<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let receive = |socket: &OwnedFd| receive_whole(socket.as_fd(), MAX_BYTES);
        let Datagram { bytes, descriptors, .. } = self.socket.async_io(Interest::READABLE, receive).await?;
        Ok(decode(&bytes)?.map(|message| (message, descriptors)))
    }

    /// Receives one message from a process that is not trusted and has no descriptors to give. `None`: it is gone.
    ///
    /// # Errors
    /// As [`Self::receive`]; a descriptor came along, or the message holds more than it may.
    pub async fn receive_alone<T: DeserializeOwned + Bounded>(&self) -> io::Result<Option<T>> {
        let Some(received) = self.next().await? else { return Ok(None) };
        let (bytes, descriptors) = received.whole()?;
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

    async fn next(&self) -> io::Result<Option<Datagram>> {
        let received = self.socket.async_io(Interest::READABLE, |socket| receive(socket.as_fd(), MAX_BYTES)).await?;
        Ok(Some(received).filter(|received| !received.bytes.is_empty()))
    }
}

/// Receives one message that has come already, and the descriptors that came with it, without a runtime. `None`: the other
/// side is gone.
///
/// # Errors
/// As [`Channel::receive`]; `WouldBlock` if there is none.
pub fn receive_now<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (bytes, descriptors) = receive(socket, MAX_BYTES)?.whole()?;
    match decode(&bytes) {
        Ok(message) => Ok(message.map(|message| (message, descriptors))),
        Err(error) => {
            close_elsewhere(descriptors);
            Err(error)
        }
    }
}

/// The other side is of another version.
#[derive(Debug)]
struct OtherVersion(u8);

impl std::fmt::Display for OtherVersion {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(version) = self;
        write!(out, "it speaks version {version} and not {VERSION}: restart the gateway to change its program")
    }
}

impl std::error::Error for OtherVersion {}

/// Whether one message alone could not be read, which is gone: each is a datagram, so the next one may be whole. A peer of
/// another version says nothing that can be read.
#[must_use]
pub fn is_unreadable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData && !error.get_ref().is_some_and(|error| error.is::<OtherVersion>())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    let Some((&version, body)) = bytes.split_first() else { return Ok(None) };
    if version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, OtherVersion(version)));
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

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::File,
        io::{Read as _, Seek as _, Write as _},
        os::fd::AsRawFd as _,
        process::{Command, Stdio},
    };

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::{
        message::{ToGuard, ToProxy},
        os::{launch, seqpacket::is_full},
    };

    /// Set for the process that may open no more files.
    const CHILD: &str = "GATEWAY_CHANNEL_CHILD";

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
    fn a_message_waits_for_room_with_who_serves() {
        let mut child = Command::new(env::current_exe().unwrap());
        let (_crate, module) = module_path!().split_once("::").unwrap();
        child.args([&format!("{module}::child"), "--exact", "--nocapture", "--test-threads=1"]);
        let output = child.env(CHILD, "1").stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success() && said.contains("the limit was reached"), "{said}");
    }

    /// Lowers the limit of its process, so it is a process of its own.
    #[test]
    fn child() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        run(async {
            let (left, right) = pair().unwrap();
            let file = File::open("/dev/null").unwrap();
            let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
            // Room for one file more.
            let next = file.try_clone().unwrap().as_raw_fd();
            let maximum = getrlimit(Resource::Nofile).maximum;
            let current = Some(u64::try_from(next).unwrap() + 1);
            setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
            let three = [file.as_fd(); 3];
            left.send(&ToProxy::Files, &three).await.unwrap();
            for _ in 0..3 {
                let full = right.receive_whole::<ToProxy>().await.unwrap_err();
                assert!(is_full(&full), "{full}");
            }
            setrlimit(Resource::Nofile, Rlimit { current: Some(u64::try_from(next).unwrap() + 3), maximum }).unwrap();
            let (message, whole) = right.receive_whole::<ToProxy>().await.unwrap().unwrap();
            assert_eq!((message, whole.len()), (ToProxy::Files, 3), "it was not lost");
            left.send(&ToProxy::Files, &three).await.unwrap();
            assert!(right.receive::<ToProxy>().await.is_err());
            left.send(&ToGuard::Ready, &three).await.unwrap();
            assert!(right.receive_alone::<ToGuard>().await.is_err(), "the guard is strict");
            left.send(&ToProxy::Drain, &[]).await.unwrap();
            assert_eq!(right.receive_whole::<ToProxy>().await.unwrap().unwrap().0, ToProxy::Drain);
            // So it is with introductions: whoever has no room hears of the guard later.
            drop(whole);
            let (launcher, process) = pair().unwrap();
            launch::introduce(&launcher, file.as_fd()).unwrap();
            let taken: Vec<_> = std::iter::from_fn(|| file.try_clone().ok()).collect();
            assert!(is_full(&launch::introduced(&process).unwrap_err()));
            drop(taken);
            assert!(launch::introduced(&process).unwrap().is_some());
            eprintln!("the limit was reached");
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
            let mut right = byte_stream::ByteStream::new(right);
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

    /// A peer of another version, whatever it says, is found out by everybody who reads, and the fault says so.
    #[test]
    fn a_peer_of_another_version_is_found_out() {
        let right = encode(&ToProxy::Drain, 0).unwrap();
        for version in [0, VERSION - 1, VERSION + 1, u8::MAX] {
            let mut other = right.clone();
            other[0] = version;
            run(async {
                let says = |error: io::Error| {
                    assert!(!is_unreadable(&error), "nothing of it can be read");
                    let expect = format!("it speaks version {version} and not {VERSION}");
                    assert!(error.to_string().starts_with(&expect), "{error}");
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                };
                let (left, right) = pair().unwrap();
                (0..3).for_each(|_| send(left.as_fd(), &other, &[]).unwrap());
                says(receive_now::<ToProxy>(right.as_fd()).unwrap_err());
                let right = Channel::new(right).unwrap();
                says(right.receive::<ToProxy>().await.unwrap_err());
                says(right.receive_whole::<ToProxy>().await.unwrap_err());
                let mut other = encode(&ToGuard::Ready, 0).unwrap();
                other[0] = version;
                send(left.as_fd(), &other, &[]).unwrap();
                says(right.receive_alone::<ToGuard>().await.unwrap_err());
            });
        }
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

    /// What cannot be read is gone alone: each message is a datagram.
    #[test]
    fn what_cannot_be_read_takes_nothing_with_it() {
        let long = [VERSION; MAX_BYTES + 1];
        for (bytes, expect) in [(&[VERSION, 0xff, 0xff][..], true), (&long, true), (&[VERSION + 1, 4], false)] {
            run(async {
                let (left, right) = pair().unwrap();
                send(left.as_fd(), bytes, &[]).unwrap();
                let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
                let error = right.receive_whole::<ToProxy>().await.unwrap_err();
                assert_eq!(is_unreadable(&error), expect, "{error}");
                left.send(&ToProxy::Drain, &[]).await.unwrap();
                assert_eq!(right.receive_whole::<ToProxy>().await.unwrap().unwrap().0, ToProxy::Drain);
                drop(left);
                assert!(right.receive_whole::<ToProxy>().await.unwrap().is_none(), "it is gone");
            });
        }
    }
}
