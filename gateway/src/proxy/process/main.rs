//! `gateway proxy`, the unprivileged process, from start to end. The guard sends it everything. It gives up the rights
//! that it has left, and only then starts threads and reads from the network.

use std::{
    fs::File,
    io,
    net::TcpListener,
    os::fd::AsFd as _,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{sync::mpsc, task::LocalSet};

use super::{
    configurations::Configurations,
    control::Control,
    guard_link::GuardLink,
    memory::Memory,
    scheduling,
    worker_thread::{self, Running},
};
use crate::{
    diagnostic::with_causes,
    log::sink::Sink,
    message::{Bundle, ToGuard, ToProxy, channel::sealed::unseal},
    os,
    os::{clock::Now, program_log, sandbox},
    proxy::{
        bans::enforced::EnforcedBans,
        generation::{Compiled, ProcessLimits},
        worker::shared::WorkersShared,
    },
};

/// How long the last lines of the access log may take to get out.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The most commands or events that wait for one thread.
const QUEUE: usize = 4_096;

/// `gateway proxy`: the process that the launcher starts for the guard, with its channel as standard input. Exits with 0
/// once it has drained, with 1 if it cannot start.
pub fn main() -> ExitCode {
    // Libraries warn of what clients do; clients could fill the disk with these lines.
    program_log::start(tracing_subscriber::EnvFilter::new("info,h2=error,rustls=error"));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the proxy cannot run: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // The kernel names a program that is run by its descriptor after the number.
    rustix::thread::set_name(c"gateway-proxy").unwrap_or_default();
    if let Err(error) = os::begin_under_launcher() {
        tracing::warn!(%error, "the proxy may outlive its launcher");
    }
    let launcher = io::stdin().as_fd().try_clone_to_owned().context("cannot duplicate the channel to the launcher")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Health checks are tasks of this thread alone.
    LocalSet::new().block_on(&runtime, async {
        let (mut guard, asks) = GuardLink::meet(launcher)
            .await
            .context("standard input is not the channel to the launcher; only the launcher starts this command")?;
        match prepare(&guard).await {
            Ok(prepared) => {
                // Nobody has asked for anything yet.
                drop(prepared.shared.asks.begin(asks));
                serve(&mut guard, prepared).await
            }
            Err(error) => {
                let reason = with_causes(&error);
                let reason = reason.lines().collect::<Vec<_>>().join(" ");
                guard.say_last(ToGuard::Failed { reason }).await;
                Err(error)
            }
        }
    })
}

struct Prepared {
    shared: Arc<WorkersShared>,
    configurations: Configurations,
    workers: usize,
    memory: Memory,
    sandbox: sandbox::SandboxReport,
    logs: Vec<File>,
}

/// Receives everything, compiles it, and gives up every right. No thread exists yet, so none keeps a right.
async fn prepare(guard: &GuardLink) -> anyhow::Result<Prepared> {
    let Some((ToProxy::Start { workers, listeners }, descriptors)) = guard.receive().await? else {
        bail!("the guard did not say how to start");
    };
    let mut descriptors = descriptors.into_iter();
    let bundle = descriptors.next().context("the guard sent no configuration")?;
    let logs = descriptors.map(File::from).collect();
    let bundle: Bundle = unseal(bundle).context("cannot read the configuration that the guard sent")?;
    let workers = usize::from(workers).max(1);
    let sockets = receive_sockets(guard, workers.saturating_mul(usize::from(listeners))).await?;
    let limits = ProcessLimits { descriptors: raise_descriptor_limit(), workers };
    let mut memory = Memory::open();
    let report = sandbox::proxy(&[]).context("cannot give up rights")?;
    tracing::info!("the proxy is confined: {report}");
    let compiled = Compiled::new(&bundle, None, limits)?;
    let snapshot = &compiled.snapshot;
    if let Some(keys) = bundle.tickets {
        snapshot.tickets.adopt(keys, Now::read());
    }
    if let Some(asks) = snapshot.limits.as_ref().and_then(|limits| limits.asks()) {
        asks.set_first(bundle.is_first);
    }
    for keys in &bundle.keys {
        let (document, now) = (keys.document.as_bytes(), Now::read());
        snapshot.authenticators.adopt(&keys.issuer, &keys.source, document, keys.confirmed, now);
    }
    memory.limit(&snapshot.settings);
    let bans = EnforcedBans::new(snapshot.settings.ipv6_prefix);
    compiled.take_in_force(&bundle.in_force, &bans);
    let configurations = Configurations::new(Arc::new(compiled), sockets, limits)?;
    let shared = Arc::new(WorkersShared::new(bans));
    Ok(Prepared { shared, configurations, workers, memory, sandbox: report, logs })
}

/// The listening sockets that the guard sends, each with the position of its listener.
async fn receive_sockets(guard: &GuardLink, mut missing: usize) -> anyhow::Result<Vec<(u16, TcpListener)>> {
    let mut sockets = Vec::new();
    // A message carries a limited number of sockets; with more workers a listener takes several messages.
    while missing > 0 {
        let Some((ToProxy::Listen { listener }, descriptors)) = guard.receive().await? else {
            bail!("the guard sent too few listening sockets");
        };
        missing = match missing.checked_sub(descriptors.len()) {
            Some(left) if !descriptors.is_empty() => left,
            _ => bail!("the guard sent a wrong number of listening sockets"),
        };
        for descriptor in descriptors {
            let socket = TcpListener::from(descriptor);
            socket.set_nonblocking(true)?;
            sockets.push((listener, socket));
        }
    }
    Ok(sockets)
}

/// Raises the limit of open files: every connection takes a descriptor, and its upstream connection another.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If that is refused, the limit stays: accepting pauses when it is reached.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap_or_default();
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Starts the workers, and runs the control thread until they have ended.
async fn serve(guard: &mut GuardLink, prepared: Prepared) -> anyhow::Result<()> {
    let Prepared { shared, configurations, workers: many, memory, sandbox, logs } = prepared;
    let sink = Sink::start(&configurations.in_force().snapshot.access_log.outputs, logs)?;
    let (events, from_workers) = mpsc::channel(QUEUE);
    let compiled = configurations.in_force();
    let cores = if compiled.snapshot.settings.pin_workers { scheduling::cores() } else { Vec::new() };
    let mut workers = Vec::new();
    for index in 0..many {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (shared, compiled, sink, events) =
            (Arc::clone(&shared), Arc::clone(compiled), sink.clone(), events.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{index}"));
        let cores = cores.clone();
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&ticks);
        let thread = thread.spawn(move || {
            scheduling::pin(index, &cores);
            worker_thread::run(shared, compiled, sink, events, queue, counted)
        })?;
        workers.push(Running { commands, ticks, thread });
    }
    drop(events);
    let mut control = Control::new(guard, &shared, &sink, memory, sandbox, configurations);
    control.run(&workers, from_workers).await?;
    drop(control);
    for Running { thread, .. } in workers {
        if !matches!(thread.join(), Ok(Ok(()))) {
            bail!("a worker died");
        }
    }
    sink.finish(LAST_LINES);
    let lost: u64 = sink.dropped().iter().sum();
    if lost > 0 {
        tracing::warn!(lines = lost, "lines of the access log were dropped");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use super::*;
    use crate::message::MAX_DESCRIPTORS;

    /// Sends sockets of two listeners, so many in each message, and tells how many came of each.
    #[track_caller]
    fn check(missing: usize, messages: &[(u16, usize)], expect: Option<usize>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async {
            let (guard, proxy, _launcher) = GuardLink::linked().await;
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            for (listener, count) in messages {
                let descriptors: Vec<BorrowedFd<'_>> = vec![socket.as_fd(); *count];
                guard.send(&ToProxy::Listen { listener: *listener }, &descriptors).await.unwrap();
            }
            drop(guard);
            receive_sockets(&proxy, missing).await
        });
        let Some(expect) = expect else { return assert!(got.is_err(), "{missing} {messages:?}") };
        let got = got.unwrap();
        for listener in 0..2 {
            let count = got.iter().filter(|(of, _)| *of == listener).count();
            assert_eq!(count, expect, "{missing} {messages:?}");
        }
    }

    #[test]
    fn sockets_add_up() {
        check(2, &[(0, 1), (1, 1)], Some(1));
        check(6, &[(0, 3), (1, 3)], Some(3));
        check(460, &[(0, MAX_DESCRIPTORS), (0, 30), (1, MAX_DESCRIPTORS), (1, 30)], Some(230));
        check(6, &[(0, 3), (1, 2)], None);
        check(6, &[(0, 3), (1, 0), (1, 3)], None);
        check(2, &[(0, 1), (1, 2)], None);
    }
}
