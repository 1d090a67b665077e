//! `gateway compiler`: compiles a configuration once and ends, before guard and proxy take it, so that no schema, pattern
//! or document can harm a process that is needed.
//!
//! *Invariant:* it has no right, and only as much memory and time as the guard says. What it has compiled ends with it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{
    config::{Config, Diagnostics},
    diagnostic::with_causes,
    message::{
        Bundle, MAX_REASON,
        channel::{Sender, receive_now, sealed::unseal},
        compiler::{CompileResult, CompileTask},
    },
    os,
    os::{launch, program_log, sandbox},
    policy::validate::schema::STACK,
    snapshot::{ContractLoss, Snapshot},
};

/// The most APIs of which it is told what they lose.
const MOST_LOSSES: usize = 20;

/// `gateway compiler`: the process that the launcher starts for the guard, with its channel as standard input. Exits with
/// 0 once it has answered, with 1 if it cannot.
pub(crate) fn main() -> ExitCode {
    program_log::start(tracing_subscriber::EnvFilter::new("info"));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the compiler cannot run: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // The kernel names a program that is run by its descriptor after the number.
    rustix::thread::set_name(c"gateway-compile").unwrap_or_default();
    if let Err(error) = os::begin_under_launcher() {
        tracing::warn!(%error, "the compiler may outlive its launcher");
    }
    let guard = launch::wait_for_introduction(io::stdin())
        .context("standard input is not the channel to the launcher; only the launcher starts this command")?;
    let (task, bundle, in_force) = task(&guard)?;
    limit(task).context("memory and time cannot be limited")?;
    sandbox::compiler().context("cannot give up rights")?;
    let bundle: Bundle = unseal(bundle).context("cannot read the configuration that the guard sent")?;
    let in_force: Option<Bundle> =
        in_force.map(unseal).transpose().context("cannot read the configuration in force")?;
    // By a stack as large as the proxy has for it.
    let compiling = thread::Builder::new().name("compiler".to_owned()).stack_size(STACK);
    let result = match compiling.spawn(move || compile(&bundle, in_force.as_ref()))?.join() {
        Ok(Ok(losses)) => CompileResult::Compiled { losses },
        Ok(Err(faults)) => CompileResult::Refused { faults: bounded(faults.to_string()) },
        Err(_panic) => bail!("the thread that compiles died"),
    };
    Ok(Sender::new(guard).try_send(&result)?)
}

/// What the guard has sent before it had this process started.
fn task(guard: &OwnedFd) -> anyhow::Result<(CompileTask, OwnedFd, Option<OwnedFd>)> {
    let (task, descriptors) = receive_now(guard.as_fd())?.context("the guard is gone")?;
    let mut descriptors = descriptors.into_iter();
    let bundle = descriptors.next().context("the guard sent no configuration")?;
    Ok((task, bundle, descriptors.next()))
}

/// From here on this process is ended by the kernel where it takes more.
fn limit(task: CompileTask) -> io::Result<()> {
    let CompileTask { memory, seconds } = task;
    let stack = u64::try_from(STACK).unwrap_or(u64::MAX);
    // What may be written, and not all addresses: the allocator keeps many of those that it never uses.
    let memory = Some(memory.saturating_add(stack));
    setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory })?;
    // The kernel says by a signal that the time is over, and kills a second later.
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    Ok(())
}

fn compile(bundle: &Bundle, in_force: Option<&Bundle>) -> Result<Vec<ContractLoss>, Diagnostics> {
    let config = Config::load(&bundle.path, bundle)?;
    let compiled = Snapshot::new(config.proxy);
    let compiled = compiled.map_err(|faults| Diagnostics::from_diagnostics(&config.document, faults))?;
    if compiled.settings.apis.is_empty() {
        return Ok(Vec::new());
    }
    // What is in force was good, or there is nothing to compare with.
    let old = in_force.and_then(|old| Config::load(&old.path, old).ok());
    let mut losses = old.map(|old| compiled.losses(&old.proxy)).unwrap_or_default();
    losses.truncate(MOST_LOSSES);
    Ok(losses)
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}
