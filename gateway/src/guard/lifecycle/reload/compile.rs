//! Has a process that is thrown away compile a new configuration, before guard and proxy take it. What takes too much
//! memory or time takes it there, and nobody else notices.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    guard::{
        lifecycle::{
            reload::{
                prepare::PreparedConfig,
                reloading::{Compilation, ReloadRequest},
            },
            service::Service,
        },
        processes::launcher,
    },
    message::{
        Bundle,
        channel::{self, Sender, close_elsewhere, receive_now, sealed::seal},
        compiler::{CompileResult, CompileTask},
    },
    os::launch::{End, ProcessRole, ProgramId, RunAs},
    settings::guard::Compile,
};

/// On a busy machine, a second of a processor takes longer.
const BUSY: u32 = 2;

/// As a machine starts, all that it runs does.
const BUSY_START: u32 = 5;

/// How long a process may take to end that was killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

impl Service<'_> {
    /// Has a configuration compiled that was read.
    pub(in crate::guard::lifecycle) fn compile(&mut self, prepared: Box<PreparedConfig>, request: ReloadRequest) {
        match self.start_compiler(&prepared) {
            Ok((pid, channel)) => {
                let until = Instant::now() + compile_timeout(prepared.config.guard.compile);
                self.reloading.compilation =
                    Some(Compilation { pid, channel, until, is_late: false, prepared, request });
            }
            Err(error) => {
                let message =
                    format!("the configuration stays as it was: no process can be started to compile it: {error}");
                self.refuse_reload(request, "compiler_failed", message);
            }
        }
    }

    fn start_compiler(&mut self, prepared: &PreparedConfig) -> io::Result<(u32, OwnedFd)> {
        let (ours, theirs) = task(prepared, Some(&self.supervisor.bundle))?;
        let pid = self.supervisor.start_compiler(&theirs)?;
        tracing::debug!(pid, "a process compiles the new configuration");
        Ok((pid, ours))
    }

    /// Ends a process that takes too long.
    pub(in crate::guard::lifecycle) fn check_compilation(&mut self) {
        if let Some(compilation) =
            self.reloading.compilation.as_mut().filter(|it| !it.is_late && it.until <= Instant::now())
        {
            compilation.is_late = true;
            self.supervisor.launcher.end(compilation.pid, End::Kill);
        }
    }

    /// A process has ended. `false`: it compiled nothing.
    pub(in crate::guard::lifecycle) fn compiler_exited(&mut self, pid: u32, status: i32) -> bool {
        let Some(compilation) = self.reloading.compilation.take_if(|compilation| compilation.pid == pid) else {
            return false;
        };
        let Compilation { channel, is_late, prepared, request, .. } = compilation;
        let limits = prepared.config.guard.compile;
        match result(&channel) {
            Some(CompileResult::Compiled { losses }) => self.weigh(*prepared, request, &losses),
            Some(CompileResult::Refused { faults }) => self.refuse_reload(request, "invalid_configuration", faults),
            None => {
                let why = fault(ExitStatus::from_raw(status), is_late, limits);
                self.refuse_reload(request, "too_costly", format!("the configuration stays as it was: {why}"));
            }
        }
        // It may have sent what nobody reads.
        close_elsewhere(channel);
        true
    }
}

/// Why a configuration that was to begin with is not used, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::guard::lifecycle) struct NotCompiled(String);

/// Has a process of `program` compile the configuration that this guard is to begin with, and waits for it.
///
/// # Errors
/// [`NotCompiled`], or no process can be started.
pub(in crate::guard::lifecycle) fn compile(
    launcher: &mut launcher::Launcher,
    prepared: &PreparedConfig,
    run_as: Option<RunAs>,
    program: ProgramId,
) -> anyhow::Result<()> {
    let limits = prepared.config.guard.compile;
    let (channel, theirs) = task(prepared, None).context("the configuration cannot be handed over to be compiled")?;
    let started = launcher.start(ProcessRole::Compiler, 0, run_as, program, &theirs);
    let pid = started.context("no process can be started to compile the configuration")?;
    drop(theirs);
    // Nobody waits for a guard that starts as somebody waits for a reload: the processor's time is what counts.
    let (status, is_late) = match launcher.exited(pid, compile_timeout(limits).saturating_mul(BUSY_START))? {
        Some(status) => (status, false),
        None => {
            launcher.end(pid, End::Kill);
            (launcher.exited(pid, ENDS_WITHIN)?.unwrap_or_default(), true)
        }
    };
    let result = result(&channel);
    close_elsewhere(channel);
    match result {
        Some(CompileResult::Compiled { .. }) => Ok(()),
        Some(CompileResult::Refused { faults }) => Err(NotCompiled(faults).into()),
        None => {
            let limits = Compile { time: limits.time.saturating_mul(if is_late { BUSY_START } else { 1 }), ..limits };
            let why = fault(ExitStatus::from_raw(status), is_late, limits);
            Err(NotCompiled(format!("the configuration is not used: {why}")).into())
        }
    }
}

/// The guard's end of a channel that has a task, and the compiler's.
fn task(prepared: &PreparedConfig, in_force: Option<&Bundle>) -> io::Result<(OwnedFd, OwnedFd)> {
    let Compile { memory, time } = prepared.config.guard.compile;
    let (ours, theirs) = channel::pair()?;
    let sealed = seal(&prepared.bundle)?;
    // Without documents there is nothing to compare.
    let in_force = in_force.filter(|_| !prepared.config.proxy.apis.is_empty()).map(seal).transpose()?;
    let sender = Sender::new(ours.try_clone()?);
    let descriptors: Vec<_> = std::iter::once(&sealed).chain(&in_force).map(OwnedFd::as_fd).collect();
    sender.try_send_with(&CompileTask { memory, seconds: time.as_secs().max(1) }, &descriptors)?;
    Ok((ours, theirs))
}

/// How long the process may live.
pub(in crate::guard::lifecycle) fn compile_timeout(limits: Compile) -> Duration {
    limits.time.saturating_mul(BUSY)
}

/// What a process has answered that is gone now.
fn result(channel: &OwnedFd) -> Option<CompileResult> {
    match receive_now(channel.as_fd()) {
        Ok(received) => {
            let (result, descriptors) = received?;
            if !descriptors.is_empty() {
                close_elsewhere(descriptors);
            }
            Some(result)
        }
        Err(error) => {
            tracing::error!(%error, "what compiles a configuration says what is no answer");
            None
        }
    }
}

/// Why there is no answer.
fn fault(status: ExitStatus, is_late: bool, limits: Compile) -> String {
    let Compile { memory, time } = limits;
    match status.signal() {
        Some(libc::SIGXCPU) => format!(
            "it takes more than {} s of a processor to compile: make the schemas and patterns of its routes smaller, or \
             raise guard.compile_time",
            time.as_secs()
        ),
        Some(_) if is_late => format!(
            "it was not compiled within {} s: make the schemas and patterns of its routes smaller, or raise \
             guard.compile_time",
            compile_timeout(limits).as_secs()
        ),
        // The allocator, a full stack and the kernel end a process so that runs out of memory.
        Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGKILL) => format!(
            "it takes more than {} MiB of memory to compile: make the schemas and patterns of its routes smaller, or \
             raise guard.compile_memory",
            memory >> 20
        ),
        _ => format!("the process that compiles it died: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_died_of_is_told() {
        let limits = Compile { memory: 64 << 20, time: Duration::from_secs(5) };
        for (status, is_late, says) in [
            (libc::SIGABRT, false, "more than 64 MiB of memory"),
            (libc::SIGSEGV, false, "guard.compile_memory"),
            (libc::SIGKILL, false, "more than 64 MiB of memory"),
            (libc::SIGKILL, true, "not compiled within 10 s"),
            (libc::SIGXCPU, true, "more than 5 s of a processor"),
            (libc::SIGXCPU, false, "guard.compile_time"),
            (1 << 8, false, "died: exit status: 1"),
            (libc::SIGSYS, false, "died: signal: 31"),
        ] {
            let told = fault(ExitStatus::from_raw(status), is_late, limits);
            assert!(told.contains(says), "{status} {is_late}: {told}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let pair = || channel::pair().unwrap();
        let (ours, theirs) = pair();
        let compiled = CompileResult::Compiled { losses: Vec::new() };
        Sender::new(theirs).try_send(&compiled).unwrap();
        assert_eq!(result(&ours), Some(compiled));
        assert_eq!(result(&ours), None, "it is gone");
        let (ours, theirs) = pair();
        crate::os::seqpacket::send(theirs.as_fd(), &[0xff; 40], &[theirs.as_fd()]).unwrap();
        assert_eq!(result(&ours), None, "it is no message");
        assert_eq!(result(&ours), None, "it lives, and says nothing");
    }
}
