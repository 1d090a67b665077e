//! `gateway proxy`, the unprivileged process, from start to end. The guard sends it everything. It gives up the rights
//! that it has left, and only then starts threads and reads from the network.

use std::{fs::File, io, net::TcpListener, os::fd::AsFd as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use super::{
    control::{Control, Running},
    memory::Memory,
    scheduling, worker_thread,
};
use crate::{
    log::sink::Sink,
    message::{
        Bundle, ToGuard, ToProxy,
        channel::{Channel, Sender},
        sealed::unseal,
    },
    proxy::worker::shared::Shared,
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
    memory: Memory,
    sandbox: sandbox::Report,
    logs: Vec<File>,
    /// For each worker, its sockets and the listener of each.
    sockets: Vec<Vec<(usize, TcpListener)>>,
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
    let sockets = receive_sockets(channel, usize::from(workers), usize::from(listeners)).await?;
    let descriptors = raise_descriptor_limit();
    let memory = Memory::open();
    let report = sandbox::proxy(&[]).context("cannot give up rights")?;
    tracing::info!("the proxy is confined: {report}");
    let shared = Shared::new(bundle, descriptors, usize::from(workers))?;
    let memory = memory.limit(&shared.snapshot.settings);
    Ok(Prepared { shared: Arc::new(shared), memory, sandbox: report, logs, sockets })
}

async fn receive_sockets(
    channel: &Channel,
    workers: usize,
    listeners: usize,
) -> anyhow::Result<Vec<Vec<(usize, TcpListener)>>> {
    let mut sockets: Vec<Vec<_>> = std::iter::repeat_with(Vec::new).take(workers.max(1)).collect();
    // A message carries a limited number of sockets; with more workers a listener takes several messages.
    let mut missing = workers.max(1).saturating_mul(listeners);
    while missing > 0 {
        let Some((ToProxy::Listen { listener }, descriptors)) = channel.receive::<ToProxy>().await? else {
            bail!("the guard sent too few listening sockets");
        };
        missing = match missing.checked_sub(descriptors.len()) {
            Some(left) if !descriptors.is_empty() => left,
            _ => bail!("the guard sent a wrong number of listening sockets"),
        };
        let listener = usize::from(listener);
        for descriptor in descriptors {
            let socket = TcpListener::from(descriptor);
            socket.set_nonblocking(true)?;
            // The worker that has the fewest sockets of this listener.
            let fewest = sockets.iter_mut().min_by_key(|mine| mine.iter().filter(|(of, _)| *of == listener).count());
            fewest.context("no worker")?.push((listener, socket));
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
    let Prepared { shared, memory, sandbox, logs, sockets } = prepared;
    let sink = Sink::start(&shared.snapshot.access_log.outputs, logs)?;
    let (events, from_workers) = mpsc::channel(QUEUE);
    let cores = if shared.snapshot.settings.pin_workers { scheduling::cores() } else { Vec::new() };
    let mut workers = Vec::new();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (shared, sink, events) = (Arc::clone(&shared), sink.clone(), events.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{index}"));
        let cores = cores.clone();
        let thread = thread.spawn(move || {
            scheduling::pin(index, &cores);
            worker_thread::run(shared, sink, events, sockets, queue)
        })?;
        workers.push(Running { commands, thread });
    }
    drop(events);
    let mut control = Control::new(channel, &shared, &sink, memory, sandbox);
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

    /// Sends the sockets of two listeners, so many in each message, and tells how many each worker got of each.
    #[track_caller]
    fn check(workers: usize, messages: &[(u16, usize)], expect: Option<usize>) {
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
            receive_sockets(&proxy, workers, 2).await
        });
        let Some(expect) = expect else { return assert!(got.is_err(), "{workers} {messages:?}") };
        for mine in got.unwrap() {
            for listener in 0..2 {
                let count = mine.iter().filter(|(of, _)| *of == listener).count();
                assert_eq!(count, expect, "{workers} {messages:?}");
            }
        }
    }

    #[test]
    fn sockets_add_up() {
        check(1, &[(0, 1), (1, 1)], Some(1));
        check(3, &[(0, 3), (1, 3)], Some(1));
        check(230, &[(0, MAX_DESCRIPTORS), (0, 30), (1, MAX_DESCRIPTORS), (1, 30)], Some(1));
        check(3, &[(0, 3), (1, 2)], None);
        check(3, &[(0, 3), (1, 0), (1, 3)], None);
        check(1, &[(0, 1), (1, 2)], None);
    }
}
