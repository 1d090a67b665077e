//! The launcher as the guard sees it: it is asked for sockets and processes, keeps things for the next guard, and tells
//! what earlier guards have left.
//!
//! *Invariant:* the guard waits for the launcher, which waits for nobody. Without it there is no guard.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{Interest, unix::AsyncFd};

use crate::os::launch::{self, End, LauncherCommand, Notice, ProcessRole, ProgramId, RunAs, UnfitProgram};

/// How long the launcher may take for what it is asked. It takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long whoever has a port may take to let go of it: a gateway that is ending.
pub(crate) const PORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address}: {error}{hint}")]
pub(crate) struct SocketError {
    setting: &'static str,
    address: SocketAddr,
    error: io::Error,
    hint: String,
}

/// The setting that names the address of a listener.
pub(crate) const LISTENER: &str = "listener.address";

/// A process that an earlier guard had started.
pub(crate) struct Living {
    pub(crate) role: ProcessRole,
    pub(crate) generation: u64,
    pub(crate) pid: u32,
    pub(crate) program: ProgramId,
    /// This guard's end of a channel to it; `None`: it takes none.
    pub(crate) channel: Option<OwnedFd>,
}

/// What earlier guards have left.
pub(crate) struct Opening {
    /// What one of them asked to be kept.
    pub(crate) kept: Option<OwnedFd>,
    pub(crate) living: Vec<Living>,
    /// The launcher itself.
    pub(crate) facts: LauncherFacts,
}

/// What is known of the launcher.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LauncherFacts {
    pub(crate) pid: u32,
    /// Guards that died before this one.
    pub(crate) deaths: u32,
    /// An upgrade brought a program that never got ready, or did not last.
    pub(crate) reverted: bool,
}

/// The launcher.
pub(crate) struct Launcher {
    socket: OwnedFd,
    /// Told while something else was waited for.
    heard: VecDeque<(Notice, Vec<OwnedFd>)>,
    /// The same socket, for [`Self::next`].
    readable: Option<AsyncFd<OwnedFd>>,
}

impl Launcher {
    /// Takes the channel, and everything that the launcher has for a new guard.
    ///
    /// # Errors
    /// The channel leads to no launcher.
    pub(crate) fn meet(channel: OwnedFd) -> io::Result<(Self, Opening)> {
        let mut launcher = Self { socket: channel, heard: VecDeque::new(), readable: None };
        let (mut kept, mut living) = (None, Vec::new());
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let (notice, descriptors) = launcher.receive(deadline)?;
            let descriptor = descriptors.into_iter().next();
            match notice {
                Notice::Kept => kept = descriptor,
                Notice::Living { role, generation, pid, program } => {
                    living.push(Living { role, generation, pid, program, channel: descriptor });
                }
                Notice::Begin { pid, program: _, deaths, status: _, reverted } => {
                    return Ok((launcher, Opening { kept, living, facts: LauncherFacts { pid, deaths, reverted } }));
                }
                // One of those that were told of has ended meanwhile.
                other => launcher.heard.push_back((other, Vec::new())),
            }
        }
    }

    /// So many listening sockets of an address, over which the kernel spreads connections. Waits for up to `timeout`
    /// for whoever has the port to let it go. `setting` names the address.
    ///
    /// # Errors
    /// [`SocketError`], with what would help.
    pub(crate) fn bind(
        &mut self,
        setting: &'static str,
        address: SocketAddr,
        sockets: usize,
        timeout: Duration,
    ) -> Result<Vec<OwnedFd>, SocketError> {
        let start = Instant::now();
        loop {
            match self.bind_now(address, sockets) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < timeout => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                bound => {
                    let fault =
                        |error: io::Error| SocketError { setting, address, hint: hint(setting, error.kind()), error };
                    return bound.map_err(fault);
                }
            }
        }
    }

    fn bind_now(&mut self, address: SocketAddr, sockets: usize) -> io::Result<Vec<OwnedFd>> {
        let sockets = u16::try_from(sockets.max(1)).unwrap_or(u16::MAX).min(launch::MAX_SOCKETS);
        self.ask(&LauncherCommand::Bind { address, sockets }, &[])?;
        let deadline = Instant::now() + TIMEOUT;
        let mut bound = Vec::new();
        loop {
            match self.receive(deadline)? {
                (Notice::Bound { address: of, left, error: 0 }, some) if of == address => {
                    bound.extend(some);
                    if left == 0 {
                        return Ok(bound);
                    }
                }
                (Notice::Bound { address: of, error, .. }, _) if of == address => {
                    return Err(io::Error::from_raw_os_error(error));
                }
                other => self.heard.push_back(other),
            }
        }
    }

    /// Keeps the sockets of an address no longer. Whoever has copies of them goes on with those.
    pub(crate) fn unbind(&self, address: SocketAddr) {
        self.ask_surely(LauncherCommand::Unbind { address });
    }

    /// Looks at what is in the place of the program on disk now. `Err`: why it is not to be run.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn find(&mut self) -> io::Result<Result<ProgramId, UnfitProgram>> {
        self.ask(&LauncherCommand::Find, &[])?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.receive(deadline)? {
                (Notice::Found { program, unfit }, _) => return Ok(unfit.map_or(Ok(program), Err)),
                other => self.heard.push_back(other),
            }
        }
    }

    /// Starts a process: `program`, with its end of its channel to the guard. Its process id.
    ///
    /// # Errors
    /// It cannot be started; `NotFound` where the launcher does not have that program.
    pub(crate) fn start(
        &mut self,
        role: ProcessRole,
        generation: u64,
        run_as: Option<RunAs>,
        program: ProgramId,
        channel: &OwnedFd,
    ) -> io::Result<u32> {
        self.ask(&LauncherCommand::Start { role, generation, run_as, program }, &[channel.as_fd()])?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.receive(deadline)? {
                (Notice::Started { generation: of, pid, error }, _) if of == generation => {
                    return if pid == 0 { Err(io::Error::from_raw_os_error(error)) } else { Ok(pid) };
                }
                other => self.heard.push_back(other),
            }
        }
    }

    /// Waits for a process to end: how, as wait(2) has it. `None`: it lives on after `timeout`.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn exited(&mut self, pid: u32, timeout: Duration) -> io::Result<Option<i32>> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.receive(deadline) {
                Ok((Notice::Exited { pid: of, status }, _)) if of == pid => return Ok(Some(status)),
                Ok(other) => self.heard.push_back(other),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a process.
    pub(crate) fn end(&self, pid: u32, how: End) {
        if let Err(error) = self.ask(&LauncherCommand::End { pid, how }, &[]) {
            tracing::error!(pid, %error, "a process cannot be ended");
        }
    }

    /// Keeps a file in memory for the next guard.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn keep(&self, kept: &OwnedFd) -> io::Result<()> {
        self.ask(&LauncherCommand::Keep, &[kept.as_fd()])
    }

    /// This guard serves: its death is followed by another.
    pub(crate) fn ready(&self) {
        self.ask_surely(LauncherCommand::Ready);
    }

    /// This guard has not come to a standstill. To be said once a second; a launcher that does not read waits for it.
    pub(crate) fn alive(&self) {
        if let Err(error) = launch::send(&self.socket, &LauncherCommand::Alive, &[]) {
            tracing::debug!(%error, "the launcher does not read");
        }
    }

    /// Everything ends with this guard.
    pub(crate) fn stopping(&self) {
        self.ask_surely(LauncherCommand::Stopping);
    }

    /// The next guard is `program`.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn upgrade(&self, program: ProgramId) -> io::Result<()> {
        self.ask(&LauncherCommand::Upgrade { program }, &[])
    }

    /// What the launcher tells next. It may be dropped and asked again.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Notice> {
        if let Some((notice, _)) = self.heard.pop_front() {
            return Ok(notice);
        }
        let readable = match self.readable.take() {
            Some(readable) => readable,
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types that may change their descriptor; ours owns it"
            )]
            None => AsyncFd::with_interest(self.socket.try_clone()?, Interest::READABLE)?,
        };
        let readable = self.readable.insert(readable);
        let received = readable.async_io(Interest::READABLE, |socket| launch::receive(socket)).await;
        received?.map(|(notice, _)| notice).ok_or_else(gone)
    }

    fn ask_surely(&self, command: LauncherCommand) {
        if let Err(error) = self.ask(&command, &[]) {
            tracing::error!(%error, ?command, "the launcher is not told");
        }
    }

    fn ask(&self, command: &LauncherCommand, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match launch::send(&self.socket, command, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT, deadline)?,
                sent => return sent,
            }
        }
    }

    fn receive(&self, deadline: Instant) -> io::Result<(Notice, Vec<OwnedFd>)> {
        loop {
            match launch::receive(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN, deadline)?,
                received => return received?.ok_or_else(gone),
            }
        }
    }

    fn wait(&self, flags: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), flags)], timeout) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "the launcher does not answer")),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the launcher is gone")
}

/// What would help against a fault of the address that `setting` names.
fn hint(setting: &str, kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::AddrInUse => {
            format!(": another program listens there, see `ss -ltnp`; stop it, or change {setting}")
        }
        // Even so only where the system does not allow it, or without the interface that a link-local address names.
        io::ErrorKind::AddrNotAvailable => {
            format!(": no interface of this host has that address, see `ip address`; or change {setting}")
        }
        io::ErrorKind::PermissionDenied => ": ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_an_address_names_its_setting() {
        use io::ErrorKind as K;
        for (setting, kind, expect) in [
            (LISTENER, K::AddrInUse, "or change listener.address"),
            ("admin.address", K::AddrInUse, "or change admin.address"),
            ("admin.address", K::AddrNotAvailable, "or change admin.address"),
            ("admin.address", K::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (LISTENER, K::TimedOut, ""),
        ] {
            let told = hint(setting, kind);
            assert!(told.ends_with(expect) && told.is_empty() == expect.is_empty(), "{setting} {kind}: {told}");
        }
    }
}
