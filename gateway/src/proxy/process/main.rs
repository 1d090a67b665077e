//! `gateway proxy`, the unprivileged process, from start to end. The guard sends it everything. It gives up the rights
//! that it has left, and only then starts threads and reads from the network.

use std::{fs::File, io, net::TcpListener, os::fd::AsFd as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use super::{
    configurations::Configurations,
    control::{Control, Running},
    memory::Memory,
    scheduling, worker_thread,
};
use crate::{
    clock,
    log::sink::Sink,
    message::{
        ADDRESS_LIMIT, Bundle, ToGuard, ToProxy,
        channel::{Channel, Sender},
        sealed::unseal,
    },
    proxy::{
        bans::enforced::EnforcedBans,
        generation::{Compiled, ProcessLimits},
        worker::shared::Shared,
    },
    sandbox,
};

/// How long the last lines of the access log may take to get out.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The most commands or events that wait for one thread.
const QUEUE: usize = 4_096;

/// `gateway proxy`: the process that the guard starts, with its [`Channel`] as standard input. Exits with 0 once it
/// has drained, with 1 if it cannot start.
pub fn main() -> ExitCode {
    // Libraries warn of what clients do; clients could fill the disk with these lines.
    let filter = tracing_subscriber::EnvFilter::new("info,h2=error,rustls=error");
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(io::stderr).with_env_filter(filter);
    // A second call in the same process changes nothing.
    log.try_init().unwrap_or_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the proxy cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // The kernel names a program that is run by its descriptor after the number.
    rustix::thread::set_name(c"gateway-proxy").unwrap_or_default();
    let socket = io::stdin().as_fd().try_clone_to_owned().context("cannot duplicate the channel to the guard")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asks = socket.try_clone().map(Sender::new);
        let channel = Channel::new(socket)
            .context("standard input is not the channel to the guard; only the guard starts this command")?;
        match prepare(&channel).await {
            Ok(prepared) => {
                // Without it the control thread passes on the bans that workers ask for.
                asks.map(|asks| prepared.shared.asks.set(asks).unwrap_or_default()).unwrap_or_default();
                serve(&channel, prepared).await
            }
            Err(error) => {
                let reason = format!("{error:#}");
                let reason = reason.lines().collect::<Vec<_>>().join(" ");
                channel.send(&ToGuard::Failed { reason }, &[]).await.unwrap_or_default();
                Err(error)
            }
        }
    })
}

struct Prepared {
    shared: Arc<Shared>,
    configurations: Configurations,
    workers: usize,
    memory: Memory,
    sandbox: sandbox::Report,
    logs: Vec<File>,
}

/// Receives everything, compiles it, and gives up every right. No thread exists yet, so none keeps a right.
async fn prepare(channel: &Channel) -> anyhow::Result<Prepared> {
    let Some((ToProxy::Start { workers, listeners }, descriptors)) = channel.receive::<ToProxy>().await? else {
        bail!("the guard did not say how to start");
    };
    let mut descriptors = descriptors.into_iter();
    let bundle = descriptors.next().context("the guard sent no configuration")?;
    let logs = descriptors.map(File::from).collect();
    let bundle: Bundle = unseal(bundle).context("cannot read the configuration that the guard sent")?;
    let workers = usize::from(workers).max(1);
    let sockets = receive_sockets(channel, workers.saturating_mul(usize::from(listeners))).await?;
    let limits = ProcessLimits { descriptors: raise_descriptor_limit(), workers };
    let mut memory = Memory::open();
    let report = sandbox::proxy(&[]).context("cannot give up rights")?;
    tracing::info!("the proxy is confined: {report}");
    let compiled = Compiled::new(&bundle, None, limits)?;
    let snapshot = &compiled.snapshot;
    if let Some(chain) = bundle.tickets {
        snapshot.tickets.adopt(chain);
    }
    for probation in &bundle.probations {
        snapshot.detector.watch(probation.source, probation.until, clock::monotonic());
    }
    if let Some(limit) =
        snapshot.address_limit.as_ref().filter(|_| bundle.promoted.iter().any(|it| it == ADDRESS_LIMIT))
    {
        limit.enforce();
    }
    memory.limit(&snapshot.settings);
    let bans = EnforcedBans::new(snapshot.settings.ipv6_prefix, &bundle.bans, &bundle.allows, clock::monotonic());
    let configurations = Configurations::new(Arc::new(compiled), sockets, limits)?;
    let shared = Arc::new(Shared::new(bans));
    Ok(Prepared { shared, configurations, workers, memory, sandbox: report, logs })
}

/// The listening sockets that the guard sends, each with the position of its listener.
async fn receive_sockets(channel: &Channel, mut missing: usize) -> anyhow::Result<Vec<(u16, TcpListener)>> {
    let mut sockets = Vec::new();
    // A message carries a limited number of sockets; with more workers a listener takes several messages.
    while missing > 0 {
        let Some((ToProxy::Listen { listener }, descriptors)) = channel.receive::<ToProxy>().await? else {
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
async fn serve(channel: &Channel, prepared: Prepared) -> anyhow::Result<()> {
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
        let thread = thread.spawn(move || {
            scheduling::pin(index, &cores);
            worker_thread::run(shared, compiled, sink, events, queue)
        })?;
        workers.push(Running { commands, thread });
    }
    drop(events);
    let mut control = Control::new(channel, &shared, &sink, memory, sandbox, configurations);
    control.run(&workers, from_workers).await;
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
    use crate::message::{MAX_DESCRIPTORS, channel};

    /// Sends sockets of two listeners, so many in each message, and tells how many came of each.
    #[track_caller]
    fn check(missing: usize, messages: &[(u16, usize)], expect: Option<usize>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let got = runtime.block_on(async {
            let (left, right) = channel::pair().unwrap();
            let (guard, proxy) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
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
