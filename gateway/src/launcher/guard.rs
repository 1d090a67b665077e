//! The guard's process as the launcher sees it: its channel, and what it has not read yet.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::process::CommandExt as _,
    process::{Child, ExitStatus, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{children, programs::Program};
use crate::os::{
    launch::{self, LauncherCommand, MAX_ADDRESSES, Notice},
    seqpacket,
};

/// A guard that serves and has said nothing at so many looks, one a second, has come to a standstill. Looks are counted
/// and not seconds: a machine that stood still as a whole counts as one.
const STANDSTILL: u32 = 30;

/// How often it is looked whether the guard says anything.
const LOOK: Duration = Duration::from_secs(1);

/// How long a program that an upgrade brought may take until its guard is ready.
const TRIAL: Duration = Duration::from_secs(60);

/// A guard that lives.
pub(super) struct Guard {
    child: Child,
    channel: OwnedFd,
    /// What it is to be told. Nothing more is done for it before it has read that.
    outbox: VecDeque<(Notice, Vec<OwnedFd>)>,
    since: Instant,
    /// Since when it serves; `None`: it does not yet.
    ready: Option<Instant>,
    /// When it is looked again whether it has said anything, and at how many looks it had not.
    look_at: Instant,
    silent: u32,
    /// It was ended for what it did not do.
    is_condemned: bool,
    /// It says nothing more: what is left is to bury it.
    pub(super) is_over: bool,
    /// It has said that everything ends with it.
    pub(super) stops: bool,
    /// What it is.
    pub(super) program: Rc<Program>,
    /// An upgrade brought its program, which has not been ready before.
    pub(super) is_trial: bool,
    /// What it asked to be kept, until it is ready: what the guard before it had kept is not lost to one that fails.
    pub(super) kept: Option<OwnedFd>,
    /// The sockets that it has no use for, until it is ready.
    pub(super) unbound: Vec<SocketAddr>,
}

impl Guard {
    /// Starts `program`; with `is_trial` an upgrade brought it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(program: Rc<Program>, is_trial: bool, arguments: &[OsString]) -> io::Result<Self> {
        let (channel, theirs) = seqpacket::pair()?;
        let mut command = program.command();
        // A terminal's signals are for the launcher: it passes them on.
        let child = command.args(arguments).stdin(Stdio::from(theirs)).process_group(0).spawn()?;
        Ok(Self {
            child,
            channel,
            outbox: VecDeque::new(),
            since: Instant::now(),
            ready: None,
            look_at: Instant::now(),
            silent: 0,
            is_condemned: false,
            is_over: false,
            stops: false,
            program,
            is_trial,
            kept: None,
            unbound: Vec::new(),
        })
    }

    /// It says that it serves.
    pub(super) fn begins(&mut self) {
        self.ready.get_or_insert_with(Instant::now);
    }

    /// Whether it has said that it serves.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// It has no use for the sockets of this address, once it serves. Those that there are bound the list.
    pub(super) fn leaves(&mut self, address: SocketAddr) {
        if self.unbound.len() < MAX_ADDRESSES {
            self.unbound.push(address);
        }
    }

    /// How long it has served.
    pub(super) fn served(&self) -> Duration {
        self.ready.map(|since| since.elapsed()).unwrap_or_default()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        children::send(self.child.id(), signal);
    }

    /// How it ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| {
            tracing::error!(%error, "the guard cannot be waited for");
            None
        })
    }

    /// When it has to be looked at: it serves, or is a program on trial.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.is_condemned {
            return None;
        }
        match (self.ready, self.is_trial) {
            (Some(_), _) => Some(self.look_at),
            (None, true) => Some(self.since + TRIAL),
            (None, false) => None,
        }
    }

    /// Why it is to be ended, if it is: to be asked once it is [due](Self::due). Said once.
    pub(super) fn fault(&mut self, now: Instant) -> Option<&'static str> {
        let fault = if !self.is_ready() {
            Some("the program on disk does not get ready")
        } else {
            (self.look_at, self.silent) = (now + LOOK, self.silent + 1);
            (self.silent > STANDSTILL).then_some("it has come to a standstill")
        };
        self.is_condemned |= fault.is_some();
        fault
    }

    /// Tells it, as soon as it reads.
    pub(super) fn tell(&mut self, notice: Notice, descriptors: Vec<OwnedFd>) {
        self.outbox.push_back((notice, descriptors));
        self.flush();
    }

    /// Sends what fits.
    pub(super) fn flush(&mut self) {
        while let Some((notice, descriptors)) = self.outbox.front() {
            let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
            match launch::send(&self.channel, notice, &descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A guard that is gone is buried soon.
                _ => drop(self.outbox.pop_front()),
            }
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// What to wait for.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Its next command; `None`: there is none now.
    ///
    /// # Errors
    /// It is gone, or what it said is no command.
    pub(super) fn command(&mut self) -> io::Result<Option<(LauncherCommand, Vec<OwnedFd>)>> {
        match launch::receive(&self.channel) {
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            received => {
                self.silent = 0;
                received
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::programs::Programs;

    fn guard(is_trial: bool) -> Guard {
        let mut programs = Programs::running(std::fs::canonicalize("/bin/true").unwrap()).unwrap();
        let found = programs.find().unwrap();
        Guard::start(programs.known(found).unwrap(), is_trial, &[]).unwrap()
    }

    #[test]
    fn a_fault_is_said_once() {
        let mut trial = guard(true);
        let late = trial.due().unwrap();
        assert!(trial.fault(late).is_some());
        assert_eq!(trial.due(), None, "it is looked at no more");
        trial.child.wait().unwrap();
    }

    #[test]
    fn who_serves_is_looked_at() {
        let mut other = guard(false);
        assert_eq!((other.due(), other.served()), (None, Duration::ZERO), "nothing was there before it");
        other.begins();
        let silent = std::iter::from_fn(|| other.due().map(|at| other.fault(at))).take_while(Option::is_none).count();
        assert_eq!(silent, usize::try_from(STANDSTILL).unwrap());
        other.child.wait().unwrap();
    }
}
