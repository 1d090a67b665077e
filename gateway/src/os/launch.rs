//! What the guard asks of the launcher, and what it is told: commands of one fixed length over a `SOCK_SEQPACKET`
//! socketpair, with descriptors beside them.
//!
//! *Invariant:* launcher and guard may be two versions of the program, because the launcher stays what it was when the
//! rest is upgraded. So nothing here is encoded by a library: each field has its place, each byte has one meaning, and
//! what is not understood as a whole is refused as a whole.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::os::seqpacket;

pub use backoff::{SETTLED, back_off};
pub use fields::LENGTH;
use fields::{Reader, Writer};
pub use program::{ProgramFault, ProgramId, UnfitProgram};
pub use role::ProcessRole;

mod backoff;
mod fields;
mod program;
mod role;

#[cfg(test)]
mod tests;

/// The most listening sockets of one address: as many as there may be workers.
pub const MAX_SOCKETS: u16 = 1_024;

/// The most addresses that the launcher keeps sockets for.
pub const MAX_ADDRESSES: usize = 1_024;

/// The most processes beside the guard that live at once.
pub const MAX_CHILDREN: usize = 64;

/// Whom a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By `SIGTERM`: it finishes what it has begun.
    Drain,
    /// By `SIGKILL`.
    Kill,
}

/// What the guard has the launcher do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LauncherCommand {
    /// Answered by [`Notice::Bound`]: so many listening sockets of an address, made now or kept from before.
    Bind {
        /// Where.
        address: SocketAddr,
        /// How many; 1 to [`MAX_SOCKETS`].
        sockets: u16,
    },
    /// Keep the sockets of an address no longer.
    Unbind {
        /// Where.
        address: SocketAddr,
    },
    /// Answered by [`Notice::Found`]: looks at what is in the place of the program on disk.
    Find,
    /// Answered by [`Notice::Started`]. Carries the process's end of its channel to the guard.
    Start {
        /// Which process; never the guard.
        role: ProcessRole,
        /// A number by which the guard knows it.
        generation: u64,
        /// Whom it runs as; `None`: as the launcher, which must not be root then.
        run_as: Option<RunAs>,
        /// What it is: one that the launcher has found, or is itself.
        program: ProgramId,
    },
    /// End a process that was started for the guard. One that is gone already is left alone.
    End {
        /// Which.
        pid: u32,
        /// How.
        how: End,
    },
    /// Keep what it carries, a file in memory, for the next guard.
    Keep,
    /// The guard serves: from now on signals are passed on, its death is followed by another guard, and it says
    /// [`Self::Alive`] every second.
    Ready,
    /// The guard has not come to a standstill.
    Alive,
    /// Once this guard has ended, the next is this program, which the launcher has found. Should that one end before it has
    /// served for a while, the one after it is this guard's program again.
    Upgrade {
        /// Which.
        program: ProgramId,
    },
    /// Once this guard has ended, everything ends.
    Stopping,
}

/// What the launcher tells the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Carries what an earlier guard asked to be kept.
    Kept,
    /// A process that an earlier guard had started. Carries the guard's end of a new channel to it.
    Living {
        /// Which process.
        role: ProcessRole,
        /// By this number the earlier guard knew it.
        generation: u64,
        /// Its process id.
        pid: u32,
        /// What it is.
        program: ProgramId,
    },
    /// Everything that is left of earlier guards has been told.
    Begin {
        /// The launcher's process id.
        pid: u32,
        /// What the launcher is.
        program: ProgramId,
        /// So many guards have died.
        deaths: u32,
        /// How the last one ended, as wait(2) has it; 0 if this is the first.
        status: i32,
        /// The program that an upgrade was to bring ended before it was ready; this is the one before it.
        reverted: bool,
    },
    /// What is in the place of the program on disk.
    Found {
        /// Which program; all zero where it is not to be run.
        program: ProgramId,
        /// Why it is not to be run; `None`: it may be.
        unfit: Option<UnfitProgram>,
    },
    /// Carries some of the sockets that were asked for.
    Bound {
        /// Where.
        address: SocketAddr,
        /// How many follow in further notices.
        left: u16,
        /// Why there are none: the error's number; 0: there are.
        error: i32,
    },
    /// A process that was asked for was started, or not.
    Started {
        /// The number that the guard gave it.
        generation: u64,
        /// Its process id; 0: it was not started.
        pid: u32,
        /// Why not: the error's number; 0: it was.
        error: i32,
    },
    /// A process has ended.
    Exited {
        /// Which.
        pid: u32,
        /// As wait(2) has it.
        status: i32,
    },
}

/// What is sent as one datagram of [`LENGTH`] bytes.
pub trait FixedDatagram: Sized {
    /// Its bytes.
    fn encode(&self) -> [u8; LENGTH];

    /// Reads it. `None`: these bytes mean nothing.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Sends a command or notice now, with the descriptors that it carries.
///
/// # Errors
/// As [`seqpacket::send`].
pub fn send<T: FixedDatagram>(socket: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    seqpacket::send(socket.as_fd(), &message.encode(), descriptors)
}

/// Receives a command or notice and the descriptors that it carries. `None`: the other side is gone.
///
/// # Errors
/// `WouldBlock` if there is none now; `InvalidData` if it means nothing.
pub fn receive<T: FixedDatagram>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (bytes, descriptors) = seqpacket::receive(socket.as_fd(), LENGTH)?.whole()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let told = "launcher and guard do not understand each other: restart the gateway to change its program";
    let message = T::decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, told))?;
    Ok(Some((message, descriptors)))
}

/// What a process that the launcher starts hears on its standard input, with a channel to a guard each time.
const INTRODUCTION: &[u8] = b"guard";

/// Hands a process its end of a channel to a new guard.
///
/// # Errors
/// As [`seqpacket::send`].
pub fn introduce(process: impl AsFd, channel: BorrowedFd<'_>) -> io::Result<()> {
    seqpacket::send(process.as_fd(), INTRODUCTION, &[channel])
}

/// The process's end of a channel to a new guard. `None`: the launcher is gone.
///
/// # Errors
/// `WouldBlock` if there is none now. [`seqpacket::is_full`] if this process cannot open it: it is still there, and can be
/// had once something else was closed.
pub fn introduced(launcher: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let (bytes, descriptors) = seqpacket::receive_whole(launcher.as_fd(), INTRODUCTION.len())?.whole()?;
    match descriptors.into_iter().next() {
        Some(channel) => Ok(Some(channel)),
        None if bytes.is_empty() => Ok(None),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the launcher sent no channel to the guard")),
    }
}

/// As [`introduced`], and waits for it, and for room.
///
/// # Errors
/// The launcher is gone, or was never there.
pub fn wait_for_introduction(launcher: impl AsFd) -> io::Result<OwnedFd> {
    loop {
        poll(&mut [PollFd::new(launcher.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        match introduced(&launcher) {
            Err(error) if seqpacket::is_full(&error) => thread::sleep(seqpacket::FULL_FOR),
            introduced => return introduced?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl FixedDatagram for LauncherCommand {
    fn encode(&self) -> [u8; LENGTH] {
        match *self {
            Self::Bind { address, sockets } => Writer::new(1).address(address).number(sockets.into()),
            Self::Unbind { address } => Writer::new(2).address(address),
            Self::Start { role, generation, run_as, program } => {
                let RunAs { uid, gid } = run_as.unwrap_or(RunAs { uid: 0, gid: 0 });
                let writer = Writer::new(3).role(role).number(generation).byte(run_as.is_some().into());
                writer.number(uid.into()).number(gid.into()).program(program)
            }
            Self::End { pid, how } => Writer::new(4).number(pid.into()).byte((how == End::Kill).into()),
            Self::Keep => Writer::new(5),
            Self::Ready => Writer::new(6),
            Self::Upgrade { program } => Writer::new(7).program(program),
            Self::Stopping => Writer::new(8),
            Self::Alive => Writer::new(9),
            Self::Find => Writer::new(10),
        }
        .end()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut reader) = Reader::new(bytes)?;
        let command = match kind {
            1 => {
                let (address, sockets) = (reader.address()?, reader.small()?);
                let sockets = u16::try_from(sockets).ok().filter(|sockets| (1..=MAX_SOCKETS).contains(sockets))?;
                Self::Bind { address, sockets }
            }
            2 => Self::Unbind { address: reader.address()? },
            3 => {
                let (role, generation, has_user) = (reader.role()?, reader.number()?, reader.flag()?);
                let run_as = RunAs { uid: reader.small()?, gid: reader.small()? };
                let program = reader.program()?;
                // Only the guard has a use for being root.
                let is_whole =
                    role != ProcessRole::Guard && has_user == (run_as.uid != 0) && (has_user || run_as.gid == 0);
                is_whole.then_some(Self::Start { role, generation, run_as: has_user.then_some(run_as), program })?
            }
            4 => {
                let pid = reader.pid()?;
                Self::End { pid, how: if reader.flag()? { End::Kill } else { End::Drain } }
            }
            5 => Self::Keep,
            6 => Self::Ready,
            7 => Self::Upgrade { program: reader.program()? },
            8 => Self::Stopping,
            9 => Self::Alive,
            10 => Self::Find,
            _ => return None,
        };
        reader.is_at_end().then_some(command)
    }
}

impl FixedDatagram for Notice {
    fn encode(&self) -> [u8; LENGTH] {
        match *self {
            Self::Kept => Writer::new(1),
            Self::Living { role, generation, pid, program } => {
                Writer::new(2).role(role).number(generation).number(pid.into()).program(program)
            }
            Self::Begin { pid, program, deaths, status, reverted } => {
                let writer = Writer::new(3).number(pid.into()).program(program).number(deaths.into());
                writer.signed(status).byte(reverted.into())
            }
            Self::Bound { address, left, error } => Writer::new(4).address(address).number(left.into()).signed(error),
            Self::Started { generation, pid, error } => {
                Writer::new(5).number(generation).number(pid.into()).signed(error)
            }
            Self::Exited { pid, status } => Writer::new(6).number(pid.into()).signed(status),
            Self::Found { program, unfit } => Writer::new(7).program(program).unfit(unfit),
        }
        .end()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut reader) = Reader::new(bytes)?;
        let notice = match kind {
            1 => Self::Kept,
            2 => Self::Living {
                role: reader.role()?,
                generation: reader.number()?,
                pid: reader.pid()?,
                program: reader.program()?,
            },
            3 => Self::Begin {
                pid: reader.pid()?,
                program: reader.program()?,
                deaths: reader.small()?,
                status: reader.signed()?,
                reverted: reader.flag()?,
            },
            4 => Self::Bound {
                address: reader.address()?,
                left: u16::try_from(reader.small()?).ok()?,
                error: reader.signed()?,
            },
            5 => Self::Started { generation: reader.number()?, pid: reader.small()?, error: reader.signed()? },
            6 => Self::Exited { pid: reader.pid()?, status: reader.signed()? },
            7 => Self::Found { program: reader.program()?, unfit: reader.unfit()? },
            _ => return None,
        };
        reader.is_at_end().then_some(notice)
    }
}
