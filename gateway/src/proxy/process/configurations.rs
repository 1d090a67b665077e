//! The configurations of a running proxy: the one in force, and the one that the guard may put in its place. That one is
//! compiled on a thread of its own, while the workers serve.
//!
//! *Invariant:* nothing changes before the guard says so, by the number of the reload. What is compiled for a reload that
//! was given up meanwhile is dropped.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    message::{MAX_REASON, UpstreamReport, sealed::unseal},
    os::{self, Policy},
    proxy::{
        generation::{Compiled, ProcessLimits},
        upstream::{self, SharedUpstream},
    },
    validate::schema::STACK,
};

/// The listening sockets of one worker, each with the address of its listener as configured.
pub(super) type Sockets = Vec<(SocketAddr, TcpListener)>;

/// A configuration that is compiled and waits for the guard's word.
struct Candidate {
    reload: u64,
    compiled: Arc<Compiled>,
    /// For each worker, the sockets of listeners that are new.
    sockets: Vec<Sockets>,
}

/// A configuration that is being compiled.
struct Compiling {
    reload: u64,
    result: oneshot::Receiver<anyhow::Result<Arc<Compiled>>>,
    sockets: Vec<(u16, TcpListener)>,
    /// The guard has given the reload up.
    is_over: bool,
}

/// An upstream of the configuration in force.
struct Watched {
    upstream: Arc<SharedUpstream>,
    /// How it is, as the guard was last told.
    told: Option<UpstreamReport>,
    /// Its health checks.
    _checks: JoinSet<()>,
}

/// The configurations of a running proxy.
pub(in crate::proxy) struct Configurations {
    limits: ProcessLimits,
    in_force: Arc<Compiled>,
    candidate: Option<Candidate>,
    compiling: Option<Compiling>,
    /// Sockets that came for the next configuration, by the listener's position in it.
    arrived: Vec<(u16, TcpListener)>,
    /// Configurations that requests may still have. Kept here so that no worker has to free them.
    former: Vec<Arc<Compiled>>,
    watched: Vec<Watched>,
}

impl Configurations {
    /// Begins with the configuration that the process was started with: it is compiled, and serves by `sockets` once the
    /// guard puts it in force as reload number 0.
    ///
    /// # Errors
    /// The sockets do not fit the listeners.
    pub(super) fn new(
        compiled: Arc<Compiled>,
        sockets: Vec<(u16, TcpListener)>,
        limits: ProcessLimits,
    ) -> anyhow::Result<Self> {
        let sockets = share_out(sockets, &compiled, limits.workers)?;
        Ok(Self {
            limits,
            in_force: Arc::clone(&compiled),
            candidate: Some(Candidate { reload: 0, compiled, sockets }),
            compiling: None,
            arrived: Vec::new(),
            former: Vec::new(),
            watched: Vec::new(),
        })
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> &Arc<Compiled> {
        &self.in_force
    }

    /// Sockets of a listener of the next configuration have come.
    pub(super) fn listen(&mut self, listener: u16, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        for descriptor in descriptors {
            let socket = TcpListener::from(descriptor);
            socket.set_nonblocking(true)?;
            self.arrived.push((listener, socket));
        }
        Ok(())
    }

    /// Begins to compile what the guard sent.
    ///
    /// # Errors
    /// It did not send anything, or the last is not done yet.
    pub(super) fn begin(&mut self, reload: u64, bundle: Option<OwnedFd>) -> anyhow::Result<()> {
        let sockets = std::mem::take(&mut self.arrived);
        let bundle = bundle.context("the guard sent no configuration")?;
        if self.compiling.is_some() {
            bail!("an earlier configuration is still being compiled");
        }
        self.candidate = None;
        let (done, result) = oneshot::channel();
        let (before, limits) = (Arc::clone(&self.in_force), self.limits);
        let thread = std::thread::Builder::new().name("compiler".to_owned()).stack_size(STACK);
        thread.spawn(move || {
            // The workers go first.
            if let Err(error) = os::schedule(Policy::Batch) {
                tracing::debug!("the kernel refuses batch scheduling: {error}");
            }
            let bundle = unseal(bundle).context("cannot read the configuration that the guard sent");
            let compiled = bundle.and_then(|bundle| Compiled::new(&bundle, Some(&before), limits));
            // The reload may be over.
            drop(done.send(compiled.map(Arc::new)));
        })?;
        self.compiling = Some(Compiling { reload, result, sockets, is_over: false });
        Ok(())
    }

    /// Waits until a configuration is compiled: the number of its reload, and why it cannot be served, if it cannot.
    pub(super) async fn compiled(&mut self) -> (u64, anyhow::Result<()>) {
        loop {
            let Some(compiling) = &mut self.compiling else { return std::future::pending().await };
            let result = (&mut compiling.result).await;
            let Some(Compiling { reload, sockets, is_over, .. }) = self.compiling.take() else { continue };
            if is_over {
                continue;
            }
            let compiled = result.context("the thread that compiles died").and_then(|compiled| {
                let compiled = compiled?;
                let sockets = share_out(sockets, &compiled, self.limits.workers)?;
                self.candidate = Some(Candidate { reload, compiled, sockets });
                Ok(())
            });
            return (reload, compiled);
        }
    }

    /// The guard gives a reload up.
    pub(super) fn abort(&mut self, reload: u64) {
        drop(self.candidate.take_if(|candidate| candidate.reload == reload));
        if let Some(compiling) = self.compiling.as_mut().filter(|compiling| compiling.reload == reload) {
            compiling.is_over = true;
        }
    }

    /// Puts the configuration of a reload in force: what the workers have to know of it. `None`: there is no such.
    pub(super) fn commit(&mut self, reload: u64) -> Option<(Arc<Compiled>, Vec<Sockets>)> {
        let Candidate { compiled, sockets, .. } = self.candidate.take_if(|candidate| candidate.reload == reload)?;
        let before = std::mem::replace(&mut self.in_force, Arc::clone(&compiled));
        if Arc::ptr_eq(&before, &compiled) {
            compiled.put_in_force(None);
        } else {
            compiled.put_in_force(Some(&before));
            self.former.push(before);
        }
        self.watch();
        Some((compiled, sockets))
    }

    /// Watches the upstreams of the configuration in force. Health checks of one that has not changed go on.
    fn watch(&mut self) {
        let mut before = std::mem::take(&mut self.watched);
        for upstream in &self.in_force.upstreams {
            let known = before.iter().position(|watched| Arc::ptr_eq(&watched.upstream, upstream));
            self.watched.push(match known {
                Some(at) => before.swap_remove(at),
                None => Watched { upstream: Arc::clone(upstream), told: None, _checks: upstream::watch(upstream) },
            });
        }
    }

    /// The upstreams whose state the guard does not know yet, each with where to note what it is told.
    pub(super) fn upstreams(&mut self) -> impl Iterator<Item = (UpstreamReport, &mut Option<UpstreamReport>)> {
        self.watched.iter_mut().filter_map(|Watched { upstream, told, .. }| {
            let report = upstream.state.report();
            (told.as_ref() != Some(&report)).then_some((report, told))
        })
    }

    /// Frees configurations that no request has any more.
    pub(super) fn sweep(&mut self) {
        self.former.retain(|former| Arc::strong_count(former) > 1);
    }
}

/// The sockets of each worker: one for each listener that has come.
fn share_out(arrived: Vec<(u16, TcpListener)>, compiled: &Compiled, workers: usize) -> anyhow::Result<Vec<Sockets>> {
    let mut shares: Vec<Sockets> = std::iter::repeat_with(Vec::new).take(workers.max(1)).collect();
    for (listener, socket) in arrived {
        let settings = compiled.snapshot.settings.listeners.get(usize::from(listener));
        let address = settings.context("the guard sent the socket of a listener that is not configured")?.address;
        // The worker that has the fewest sockets of this listener.
        let fewest = shares.iter_mut().min_by_key(|mine| mine.iter().filter(|(of, _)| *of == address).count());
        fewest.context("no worker")?.push((address, socket));
    }
    Ok(shares)
}

/// Why a configuration cannot be served, as the guard is told.
pub(super) fn reason(error: &anyhow::Error) -> String {
    let mut reason = format!("{error:#}");
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}
