//! The configurations of a running proxy: the one in force, and the one that the guard may put in its place. That one is
//! compiled on a thread of its own, while the workers serve.
//!
//! *Invariant:* nothing changes before the guard says so, by the number of the reload. What is compiled for a reload that
//! was given up meanwhile is dropped.

use std::{
    collections::HashMap,
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    diagnostic::with_causes,
    log::sink::{OpenOutputs, Sink},
    message::{MAX_REASON, STARTED_WITH, UpstreamReport, bundle::file_digest, channel::sealed::unseal},
    os::{self, SchedulingPolicy, clock},
    policy::{limit::Limits, validate::schema::STACK},
    proxy::{
        generation::{Compiled, ProcessLimits},
        upstream::{self, SharedUpstream},
    },
};

/// The listening sockets of one worker, each with the address of its listener as configured.
pub(super) type Sockets = Vec<(SocketAddr, TcpListener)>;

/// A configuration that is compiled and waits for the guard's word.
struct Candidate {
    reload: u64,
    compiled: Arc<Compiled>,
    /// For each worker, the sockets of listeners that are new.
    sockets: Vec<Sockets>,
    /// Where its access log goes; `None`: that is open already.
    outputs: Option<OpenOutputs>,
}

/// A configuration that is being compiled.
struct Compiling {
    reload: u64,
    result: oneshot::Receiver<anyhow::Result<Arc<Compiled>>>,
    sockets: Vec<(u16, TcpListener)>,
    /// What the guard has opened for its access log.
    logs: Vec<File>,
    /// The guard has given the reload up.
    is_over: bool,
}

/// An upstream of the configuration in force.
struct WatchedUpstream {
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
    /// The digests of the files by which it serves now.
    held: HashMap<PathBuf, [u8; 32]>,
    candidate: Option<Candidate>,
    compiling: Option<Compiling>,
    /// Sockets that came for the next configuration, by the listener's position in it.
    arrived: Vec<(u16, TcpListener)>,
    /// TLS files that came into force since the guard sent the next configuration, which has those before them.
    renewed: Vec<(PathBuf, Vec<u8>)>,
    /// Configurations that requests may still have. Kept here so that no worker has to free them.
    former: Vec<Arc<Compiled>>,
    watched: Vec<WatchedUpstream>,
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
            held: compiled.files.clone(),
            candidate: Some(Candidate { reload: STARTED_WITH, compiled, sockets, outputs: None }),
            compiling: None,
            arrived: Vec::new(),
            renewed: Vec::new(),
            former: Vec::new(),
            watched: Vec::new(),
        })
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> &Arc<Compiled> {
        &self.in_force
    }

    /// Its limits and quotas.
    pub(super) fn limits(&self) -> Option<&Limits> {
        self.in_force.snapshot.limits.as_ref()
    }

    /// Whether there is any quota.
    pub(super) fn has_quotas(&self) -> bool {
        self.limits().is_some_and(Limits::has_quotas)
    }

    /// TLS files were renewed: the configuration in force goes on with them, and the next one will once it is in force. Those
    /// that it has already change nothing. Returns whether any of them says whose client certificates are good.
    ///
    /// # Errors
    /// The configuration in force cannot use them; those before stay in force.
    pub(super) fn renew(&mut self, files: Vec<(PathBuf, Vec<u8>)>) -> anyhow::Result<bool> {
        if self.compiling.is_some() || self.candidate.is_some() {
            self.renewed.extend(files.iter().cloned());
        }
        let digests: Vec<_> = files.iter().map(|(path, content)| (path.clone(), file_digest(content))).collect();
        let news: Vec<_> =
            files.into_iter().zip(&digests).filter(|(_, (path, of))| self.held.get(path) != Some(of)).collect();
        // Where none is named, everything is compiled anew: what it says of the time is over.
        if news.is_empty() && !digests.is_empty() {
            return Ok(false);
        }
        let others = self.in_force.snapshot.renew(news.into_iter().map(|(file, _)| file).collect())?;
        self.in_force.renew_upstream_tls();
        self.held.extend(digests);
        Ok(others)
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

    /// Begins to compile what the guard sent: a bundle, and what it has opened for the access log.
    ///
    /// # Errors
    /// It did not send anything, or the last is not done yet.
    pub(super) fn begin(&mut self, reload: u64, handed: Vec<OwnedFd>) -> anyhow::Result<()> {
        let (sockets, mut handed) = (std::mem::take(&mut self.arrived), handed.into_iter());
        let bundle = handed.next().context("the guard sent no configuration")?;
        if self.compiling.is_some() {
            bail!("an earlier configuration is still being compiled");
        }
        self.candidate = None;
        self.renewed.clear();
        let (done, result) = oneshot::channel();
        let (before, limits) = (Arc::clone(&self.in_force), self.limits);
        let thread = std::thread::Builder::new().name("compiler".to_owned()).stack_size(STACK);
        thread.spawn(move || {
            // The workers go first.
            if let Err(error) = os::schedule(SchedulingPolicy::Batch) {
                tracing::debug!("the kernel refuses batch scheduling: {error}");
            }
            let bundle = unseal(bundle).context("cannot read the configuration that the guard sent");
            let compiled = bundle.and_then(|bundle| Compiled::new(&bundle, Some(&before), limits));
            // The reload may be over.
            drop(done.send(compiled.map(Arc::new)));
        })?;
        let logs = handed.map(File::from).collect();
        self.compiling = Some(Compiling { reload, result, sockets, logs, is_over: false });
        Ok(())
    }

    /// Waits until a configuration is compiled, and opens its outputs: the number of its reload, and why it cannot be
    /// served, if it cannot.
    pub(super) async fn compiled(&mut self, sink: &Sink) -> (u64, anyhow::Result<()>) {
        loop {
            let Some(compiling) = &mut self.compiling else { return std::future::pending().await };
            let result = (&mut compiling.result).await;
            let Some(Compiling { reload, sockets, logs, is_over, .. }) = self.compiling.take() else { continue };
            if is_over {
                continue;
            }
            let compiled = result.context("the thread that compiles died").and_then(|compiled| {
                let compiled = compiled?;
                check_sockets(&sockets, &compiled, &self.in_force, self.limits.workers)?;
                let sockets = share_out(sockets, &compiled, self.limits.workers)?;
                let outputs = sink.open_all(&compiled.snapshot.access_log.outputs, logs);
                let outputs = Some(outputs.context("the access log cannot be opened")?);
                self.candidate = Some(Candidate { reload, compiled, sockets, outputs });
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

    /// There is another guard. What the one before had compiled and did not put in force, nobody will; and this one has
    /// been told of no upstream.
    pub(super) fn meet_guard(&mut self) {
        self.arrived.clear();
        drop(self.candidate.take_if(|candidate| candidate.reload != STARTED_WITH));
        if let Some(compiling) = &mut self.compiling {
            compiling.is_over = true;
        }
        self.watched.iter_mut().for_each(|watched| watched.told = None);
    }

    /// Whether what was compiled for this reload waits for the guard's word.
    pub(super) fn awaits(&self, reload: u64) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.reload == reload)
    }

    /// Puts the configuration of a reload in force: what the workers have to know of it. `None`: there is no such.
    pub(super) fn commit(&mut self, reload: u64, sink: &Sink) -> Option<(Arc<Compiled>, Vec<Sockets>)> {
        let Candidate { compiled, sockets, outputs, .. } =
            self.candidate.take_if(|candidate| candidate.reload == reload)?;
        if let Some(outputs) = outputs {
            sink.change(outputs);
        }
        let renewed = std::mem::take(&mut self.renewed);
        let before = std::mem::replace(&mut self.in_force, Arc::clone(&compiled));
        if Arc::ptr_eq(&before, &compiled) {
            compiled.put_in_force(None);
        } else {
            // Nobody serves by it yet: what was in force is not taken back.
            self.held.clone_from(&compiled.files);
            if !renewed.is_empty() {
                let digests = renewed.iter().map(|(path, content)| (path.clone(), file_digest(content)));
                let digests: Vec<_> = digests.filter(|(path, _)| self.held.contains_key(path)).collect();
                match compiled.snapshot.renew(renewed) {
                    Ok(_others) => self.held.extend(digests),
                    Err(error) => {
                        tracing::error!(
                            "renewed TLS files cannot be used with the new configuration: {}",
                            with_causes(&error)
                        );
                    }
                }
            }
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
                None => {
                    WatchedUpstream { upstream: Arc::clone(upstream), told: None, _checks: upstream::watch(upstream) }
                }
            });
        }
    }

    /// The upstreams whose state the guard does not know yet, each with where to note what it is told.
    pub(super) fn upstreams(&mut self) -> impl Iterator<Item = (UpstreamReport, &mut Option<UpstreamReport>)> {
        // They have the places of the configuration in force.
        let (detector, now) = (&self.in_force.snapshot.detector, clock::monotonic());
        self.watched.iter_mut().enumerate().filter_map(move |(place, WatchedUpstream { upstream, told, .. })| {
            let discounted = detector.discounted_of(place, now);
            let report = UpstreamReport { discounted, ..upstream.state.report() };
            (told.as_ref() != Some(&report)).then_some((report, told))
        })
    }

    /// Frees configurations that no request has any more.
    pub(super) fn sweep(&mut self) {
        self.former.retain(|former| Arc::strong_count(former) > 1);
    }
}

/// Whether each listener that `before` does not have came with one socket for each worker. The kernel would spread its
/// connections over some of the workers only, or nobody would serve it.
fn check_sockets(
    arrived: &[(u16, TcpListener)],
    compiled: &Compiled,
    before: &Compiled,
    workers: usize,
) -> anyhow::Result<()> {
    let known: Vec<SocketAddr> = before.snapshot.settings.listeners.iter().map(|listener| listener.address).collect();
    for (index, listener) in compiled.snapshot.settings.listeners.iter().enumerate() {
        let (came, address) = (arrived.iter().filter(|(of, _)| usize::from(*of) == index).count(), listener.address);
        if !known.contains(&address) && came != workers.max(1) {
            bail!("{came} sockets came for listener {address}, which needs {workers}: raise LimitNOFILE (ulimit -Hn)");
        }
    }
    Ok(())
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
    let mut reason = with_causes(error);
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Bundle, channel::sealed::seal};

    const LIMITS: ProcessLimits = ProcessLimits { descriptors: 1_000, workers: 2 };

    fn bundle(listeners: &[&str]) -> Bundle {
        let listeners: String =
            listeners.iter().map(|address| format!("[[listener]]\naddress = \"{address}\"\n")).collect();
        let text = format!(
            "[guard]\ninterfaces = []\n{listeners}[[route]]\npath = \"/\"\nmethods = [\"GET\"]\n\
             require = [\"public\"]\nrespond = {{ status = 200 }}\n"
        );
        Bundle { path: "gateway.toml".into(), text, ..Bundle::default() }
    }

    /// Standard output is what no configuration of these tests sends: it is open already.
    fn sink() -> Sink {
        let outputs = Compiled::new(&bundle(&["127.0.0.1:80"]), None, LIMITS).unwrap();
        Sink::start(&outputs.snapshot.access_log.outputs, [File::open("/dev/null").unwrap()]).unwrap()
    }

    fn configurations(bundle: &Bundle) -> Configurations {
        let mut configurations =
            Configurations::new(Arc::new(Compiled::new(bundle, None, LIMITS).unwrap()), Vec::new(), LIMITS).unwrap();
        configurations.commit(0, &sink()).unwrap();
        configurations
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// Reloads from one listener to it and another one, for which so many sockets come.
    #[track_caller]
    fn check(came: usize, is_served: bool) {
        run(async {
            let mut configurations = configurations(&bundle(&["127.0.0.1:80"]));
            let socket = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
            configurations.listen(1, std::iter::repeat_with(socket).take(came).collect()).unwrap();
            configurations.begin(1, vec![seal(&bundle(&["127.0.0.1:80", "127.0.0.1:81"])).unwrap()]).unwrap();
            let (reload, compiled) = configurations.compiled(&sink()).await;
            assert_eq!((reload, compiled.is_ok()), (1, is_served), "{came} {compiled:?}");
            let sockets = configurations.commit(1, &sink()).map(|(_, sockets)| sockets.iter().map(Vec::len).collect());
            assert_eq!(sockets, is_served.then(|| vec![1, 1]), "{came}");
        });
    }

    fn authority() -> Vec<u8> {
        let parameters = rcgen::CertificateParams::default();
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes()
    }

    /// A configuration that trusts clients of this authority.
    fn trusting(ca: &[u8]) -> Bundle {
        let mut bundle = bundle(&["127.0.0.1:80"]);
        bundle.text.push_str("[client_certificates.partners]\nhosts = [\"p.example\"]\nca = \"ca.pem\"\n");
        bundle.files.push(("ca.pem".into(), ca.to_vec()));
        bundle
    }

    #[track_caller]
    fn trusts(configurations: &Configurations, ca: &[u8]) {
        let expect = Compiled::new(&trusting(ca), None, LIMITS).unwrap();
        let in_force = configurations.in_force().snapshot.tls.load();
        assert!(in_force.judges_as(&expect.snapshot.tls.load()));
    }

    #[test]
    fn a_reload_does_not_take_renewed_files_back() {
        run(async {
            let (read, renewed, newest) = (authority(), authority(), authority());
            let files = |bytes: &[u8]| vec![(PathBuf::from("ca.pem"), bytes.to_vec())];
            let mut configurations = configurations(&trusting(&read));
            for (reload, newest) in [(1, &renewed), (2, &newest)] {
                configurations.begin(reload, vec![seal(&trusting(&read)).unwrap()]).unwrap();
                configurations.renew(files(&renewed)).unwrap();
                configurations.compiled(&sink()).await.1.unwrap();
                configurations.renew(files(newest)).unwrap();
                trusts(&configurations, newest);
                configurations.commit(reload, &sink()).unwrap();
                trusts(&configurations, newest);
            }
            // What came before the guard read the next configuration is in it.
            configurations.renew(files(&renewed)).unwrap();
            configurations.begin(3, vec![seal(&trusting(&read)).unwrap()]).unwrap();
            configurations.compiled(&sink()).await.1.unwrap();
            configurations.commit(3, &sink()).unwrap();
            trusts(&configurations, &read);
        });
    }

    #[test]
    fn renewed_files_that_the_next_configuration_cannot_use_are_not_used() {
        run(async {
            let read = authority();
            let mut configurations = configurations(&bundle(&["127.0.0.1:80"]));
            configurations.begin(1, vec![seal(&trusting(&read)).unwrap()]).unwrap();
            configurations.renew(vec![("ca.pem".into(), b"junk".to_vec())]).unwrap();
            configurations.compiled(&sink()).await.1.unwrap();
            configurations.commit(1, &sink()).unwrap();
            trusts(&configurations, &read);
        });
    }

    #[test]
    fn a_new_listener_has_one_socket_for_each_worker_or_is_refused() {
        check(2, true);
        for came in [0, 1, 3] {
            check(came, false);
        }
    }
}
