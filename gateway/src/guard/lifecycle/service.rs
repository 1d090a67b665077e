//! Everything that the running guard keeps: its configuration, its proxies, and what waits for something.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    access_log,
    certificate_files::{TlsNews, TlsWatcher},
    denials::Denials,
    prepare::Prepared,
};
use crate::{
    clock::{self, Now},
    config::Config,
    guard::{
        anchors::{self, Anchors},
        audit::Unflushed,
        bans::{self, Actor, Guard, Planned, ProtectedAddresses},
        control::{Answer, CertificateEnd, ReloadRefused, server::Call},
        feeds::watch::{FeedNews, FeedWatcher},
        observer::{Observer, samples::Reloads},
        operators::Operators,
        proxies::{
            barrier::PendingAnswers,
            counts::Counts,
            supervisor::{NewSockets, Supervisor},
            upstreams::Upstreams,
        },
        store::StoreError,
    },
    settings::guard::Feed,
    sparse::Sparse,
    tls::Chain,
};

/// Everything that the events change.
pub(crate) struct Service<'guard> {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) guard: &'guard mut Guard,
    pub(super) supervisor: Supervisor,
    /// `None`: there is no admin listener.
    pub(super) observer: Option<Observer>,
    pub(super) reload: Option<Reload>,
    /// The number of the last reload.
    pub(super) last_reload: u64,
    /// The barrier that a proxy has to acknowledge because another configuration is in force, and until when.
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// A reload's configuration is being read.
    pub(super) preparing: bool,
    pub(super) started: u64,
    pub(super) ticks: u64,
    pub(super) warnings: Vec<String>,
    pub(super) stopping: Option<&'static str>,
    /// When the proxies are told to drain, once the gateway is to stop.
    pub(super) drain_at: Option<Instant>,
    pub(super) hopeless: Option<String>,
    /// Looks at the feeds' files; absent while it does.
    pub(super) watcher: Option<FeedWatcher>,
    /// Answers that the proxy has to hear of first.
    pub(super) waiting: PendingAnswers,
    pub(super) certificates: Certificates,
    pub(super) counts: Counts,
    /// Listeners whose address this host does not have, when it was looked last.
    pub(super) absent: Vec<SocketAddr>,
    pub(super) upstreams: Upstreams,
    /// When the configuration came into force, in milliseconds since 1970.
    pub(super) config_since: u64,
    /// The last reload, where it was refused.
    pub(super) reload_refused: Option<ReloadRefused>,
    pub(super) reloads: Reloads,
    pub(super) background: Background,
    /// By which key the access log hashes principals, where the configuration has none.
    pub(super) log_key: [u8; 32],
    /// Folders in which the guard may rename and remove log files: those that it was started with.
    pub(super) rotates_in: BTreeSet<PathBuf>,
    /// Who may do what.
    pub(super) operators: Operators,
    pub(super) denials: Denials,
}

impl<'guard> Service<'guard> {
    /// `warnings` are what the configuration was warned of.
    pub(crate) fn new(
        path: PathBuf,
        config: Config,
        guard: &'guard mut Guard,
        supervisor: Supervisor,
        observer: Option<Observer>,
        warnings: Vec<String>,
        operators: Operators,
    ) -> Self {
        let rotates_in = access_log::rotates_in(&config.proxy.access_log);
        Self {
            path,
            config,
            guard,
            supervisor,
            observer,
            reload: None,
            last_reload: 0,
            unacknowledged: None,
            preparing: false,
            started: clock::monotonic(),
            ticks: 0,
            warnings,
            stopping: None,
            drain_at: None,
            hopeless: None,
            watcher: Some(FeedWatcher::default()),
            waiting: PendingAnswers::default(),
            certificates: Certificates::default(),
            counts: Counts::default(),
            absent: Vec::new(),
            upstreams: Upstreams::default(),
            config_since: Now::read().unix_millis,
            reload_refused: None,
            reloads: Reloads::default(),
            background: Background::default(),
            log_key: access_log::key(),
            rotates_in,
            operators,
            denials: Denials::default(),
        }
    }
}

/// A configuration that waits for a proxy, and whoever waits for that.
pub(super) struct Reload {
    /// The number by which the proxy knows it.
    pub(super) number: u64,
    /// The proxy that is to serve it.
    pub(super) generation: u64,
    pub(super) state: ReloadState,
    pub(super) actor: Actor,
    pub(super) answer: Option<oneshot::Sender<Answer>>,
    pub(super) on_disk: OnDisk,
    /// What it has changed, once it is in force.
    pub(super) changes: Vec<String>,
}

/// How far a reload has come.
pub(super) enum ReloadState {
    /// The proxy compiles it, until this moment at most. Nothing has changed.
    Compiling {
        prepared: Box<Prepared>,
        sockets: NewSockets,
        /// The outputs of the access log, where they are others.
        logs: Option<Vec<File>>,
        until: Instant,
    },
    /// It is in force, and the new process that was told to serve it has not said yet that it does.
    Starting,
}

/// A proxy that was told to serve another configuration and has not said yet that it does.
pub(super) struct Unacknowledged {
    pub(super) generation: u64,
    pub(super) barrier: u64,
    pub(super) until: Instant,
}

/// The program on disk.
pub(super) enum OnDisk {
    /// It is the one that runs.
    Same,
    /// It is another, and the new proxy is made from it.
    Used,
    /// It is not to be used: why.
    Unused(io::Error),
}

impl OnDisk {
    /// What the answer says of it besides that the configuration is in force.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Same => String::new(),
            Self::Used => "; the proxy is the program that is on disk now".to_owned(),
            Self::Unused(error) => format!("; the program on disk is not used: {error}"),
        }
    }

    /// What would help where the proxy did not get ready.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Used => {
                "; it was the program on disk: put the one that runs back, or restart the gateway if the new one is meant"
            }
            Self::Same | Self::Unused(_) => "",
        }
    }
}

/// What is known of certificates beyond the configuration.
pub(super) struct Certificates {
    /// By which keys the proxies let clients resume TLS sessions.
    pub(super) tickets: Option<Chain>,
    /// Looks at the files; absent while it does.
    pub(super) watcher: Option<TlsWatcher>,
    /// So often another configuration came into force.
    pub(super) epoch: u64,
    /// What has ended or soon will.
    pub(super) outdated: Vec<String>,
    /// Why the files' content is not in force.
    pub(super) unusable: Option<String>,
    /// When each one ends.
    pub(super) ends: Vec<CertificateEnd>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            tickets: None,
            watcher: Some(TlsWatcher::default()),
            epoch: 0,
            outdated: Vec::new(),
            unusable: None,
            ends: Vec::new(),
        }
    }
}

impl Certificates {
    /// Where the chain of ticket keys is at `now`. Every proxy gets the same, so that clients resume their sessions with
    /// any of them.
    pub(super) fn chain(&mut self, now: Now) -> Option<Chain> {
        if self.tickets.is_none() {
            self.tickets = Chain::new(now);
        }
        if let Some(chain) = &mut self.tickets {
            chain.advance(now);
        }
        self.tickets.clone()
    }

    /// Another configuration is in force: its files are looked at anew.
    pub(super) fn renewed(&mut self) {
        self.epoch += 1;
        self.watcher = Some(TlsWatcher::default());
        self.unusable = None;
    }

    pub(super) fn ends(&self) -> Vec<CertificateEnd> {
        self.ends.clone()
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.outdated.iter().chain(&self.unusable).cloned()
    }
}

/// What is done beside the loop at the moment, and what waits for it.
#[derive(Default)]
pub(super) struct Background {
    pub(super) is_looking: bool,
    pub(super) is_flushing: bool,
    pub(super) is_checkpointing: bool,
    /// Rotated log files are being compressed.
    pub(super) is_tidying: bool,
    /// A rotation that fails is told once a second.
    pub(super) rotation_failed: Sparse,
    /// Where checkpoints of the audit chain are sent.
    pub(super) anchors: Anchors,
    /// When rules' bans may be looked after again.
    pub(super) rested: Option<Instant>,
    /// What operators ask for that needs to know who is logged in, and when it came: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) calls: Vec<(Call, u64)>,
}

/// What was seen.
pub(super) struct Seen {
    /// When the look began: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) began: u64,
    pub(super) took: Duration,
    /// What else there is than operators; `None`: that was not looked at, or could not be.
    pub(super) protected: Option<ProtectedAddresses>,
    pub(super) operators: bans::Operators,
}

/// What was done beside the loop.
pub(super) enum Done {
    Anchored(anchors::Written),
    Planned(Planned),
    Looked(FeedWatcher, Vec<(Feed, FeedNews)>, bans::Operators),
    Certificates(u64, TlsWatcher, Option<TlsNews>),
    Checkpointed(Result<(), StoreError>),
    Flushed(Result<(), Unflushed>),
    Resolved(Vec<IpAddr>),
    Seen(Box<Seen>),
    Tidied(Vec<String>),
}

pub(super) type Ready = (Result<Box<Prepared>, String>, Actor, Option<oneshot::Sender<Answer>>);

pub(super) fn reply(to: Option<oneshot::Sender<Answer>>, answer: Answer) {
    if to.is_some_and(|to| to.send(answer).is_err()) {
        tracing::debug!("a control client did not wait for its answer");
    }
}

pub(super) fn in_background(beside: &mpsc::Sender<Done>, work: impl FnOnce() -> Done + Send + 'static) {
    let beside = beside.clone();
    tokio::task::spawn_blocking(move || {
        if beside.blocking_send(work()).is_err() {
            tracing::debug!("the guard stopped before something was done beside it");
        }
    });
}
