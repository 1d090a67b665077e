//! The processes that the guard asked for: started, signalled, buried, and introduced to the next guard.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Stdio},
    rc::Rc,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use super::programs::Program;
use crate::os::{
    launch::{self, End, MAX_CHILDREN, Notice, ProcessRole, RunAs},
    seqpacket,
};

/// A process that lives.
struct ChildProcess {
    role: ProcessRole,
    generation: u64,
    child: Child,
    /// What it is. Held open: as long as it is, no other file has its number.
    program: Rc<Program>,
    /// By this it gets a channel to each new guard.
    introductions: OwnedFd,
}

/// All of them.
#[derive(Default)]
pub(super) struct Children(Vec<ChildProcess>);

impl Children {
    /// Starts a process. `channel` is its end of the channel to the guard.
    ///
    /// # Errors
    /// It cannot be started, there are too many, or it would be root.
    pub(super) fn start(
        &mut self,
        (role, generation): (ProcessRole, u64),
        run_as: Option<RunAs>,
        program: Rc<Program>,
        channel: BorrowedFd<'_>,
    ) -> io::Result<u32> {
        // None of these roles is root's, whatever the guard says.
        if run_as.map_or_else(|| geteuid().is_root(), |run_as| run_as.uid == 0) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        if self.0.len() >= MAX_CHILDREN {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let (introductions, theirs) = seqpacket::pair()?;
        // Nothing is heard on it: whatever a process sent there would be the launcher's to close.
        rustix::net::shutdown(&introductions, rustix::net::Shutdown::Read)?;
        launch::introduce(&introductions, channel)?;
        let mut command = program.command();
        command.arg(role.name()).stdin(Stdio::from(theirs)).current_dir("/").env_clear();
        // Requests that are in flight together hold more pieces of one size than the C library keeps at hand for a
        // thread by itself, which is 7.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=128");
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // A terminal's signals are for the launcher: it passes them on.
        command.process_group(0);
        if let Some(RunAs { uid, gid }) = run_as {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn()?;
        let pid = child.id();
        self.0.push(ChildProcess { role, generation, child, program, introductions });
        Ok(pid)
    }

    /// Ends a process, if it is one of these and lives.
    pub(super) fn end(&self, pid: u32, how: End) {
        let signal = match how {
            End::Drain => Signal::SIGTERM,
            End::Kill => Signal::SIGKILL,
        };
        // Nobody else has the number until the process is buried here.
        if let Some(process) = self.0.iter().find(|process| process.child.id() == pid) {
            send(process.child.id(), signal);
        }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self, how: End) {
        self.0.iter().for_each(|process| self.end(process.child.id(), how));
    }

    /// Has proxies finish what they have begun. The others have begun nothing, and may stand still.
    pub(super) fn finish(&self) {
        for process in &self.0 {
            let how = if process.role == ProcessRole::Proxy { End::Drain } else { End::Kill };
            self.end(process.child.id(), how);
        }
    }

    /// Buries whoever has ended, and says who that was.
    pub(super) fn bury(&mut self) -> Vec<Notice> {
        let mut ended = Vec::new();
        self.0.retain_mut(|process| match process.child.try_wait() {
            Ok(Some(status)) => {
                ended.push(Notice::Exited { pid: process.child.id(), status: status.into_raw() });
                false
            }
            Ok(None) => true,
            Err(error) => {
                tracing::error!(%error, pid = process.child.id(), "a process cannot be waited for");
                true
            }
        });
        ended
    }

    /// Gives each a channel to a new guard; what that guard is told of it. One that takes none is told of without.
    pub(super) fn introduce(&self) -> Vec<(Notice, Option<OwnedFd>)> {
        let channel = |process: &ChildProcess| -> io::Result<OwnedFd> {
            let (guards, theirs) = seqpacket::pair()?;
            launch::introduce(&process.introductions, theirs.as_fd())?;
            Ok(guards)
        };
        let introduced = self.0.iter().map(|process| {
            let ChildProcess { role, generation, child, program, .. } = process;
            let living =
                Notice::Living { role: *role, generation: *generation, pid: child.id(), program: program.id() };
            (living, channel(process).ok())
        });
        introduced.collect()
    }

    /// Whether none is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Sends a process of ours a signal.
pub(super) fn send(pid: u32, signal: Signal) {
    let Ok(number) = i32::try_from(pid) else { return };
    if let Err(error) = kill(Pid::from_raw(number), signal) {
        tracing::error!(%error, pid, "{signal} cannot be sent");
    }
}
