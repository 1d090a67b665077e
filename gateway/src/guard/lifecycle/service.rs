//! Everything that the running guard keeps: its configuration, its proxies, and what waits for something.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    config::Config,
    guard::{
        anchors::{self, Anchors},
        audit::Unflushed,
        bans::{self, Guard, Planned, ProtectedAddresses},
        cluster::Cluster,
        control::{ControlAnswer, server::Call},
        credentials::{
            revoked_file::{FileRead, RevokedFileLook},
            state::CredentialState,
            work::CredentialWork,
        },
        crowdsec::Crowdsec,
        feeds::{fetches::Fetches, list::FeedNews, watch::FeedWatcher},
        key_sets::KeySets,
        lifecycle::{
            brought::{CrowdsecDone, ListFetched},
            certificates::{
                certificate_files::{TlsNews, TlsWatcher},
                certificate_state::Certificates,
            },
            files::{
                access_log,
                named_files::{ChangedFile, FileWatcher, WatchedFiles},
                resolver_files::{ResolverFiles, WatchedResolver},
            },
            operators::{denials::Denials, pace::RecordLimiter},
            processes::{handover_state::Handover, process_log::ProcessLog, resolved::ResolvedNames},
            reload::{
                keeping::Keeping,
                prepare::PreparedConfig,
                reloading::{ReloadRequest, Reloading},
            },
            unseen_roles::UnseenRolePaths,
        },
        operators::{Operators, admin_tokens::AdminTokens},
        processes::{
            launcher::LauncherFacts,
            observer,
            proxies::{barrier::PendingAnswers, counts::ProxyCounts, supervisor::Supervisor, upstreams::Upstreams},
        },
        quotas::{seed, state::QuotaKeeping, writer},
        store::StoreError,
    },
    message::observer::anomalies::Deviations,
    os::{clock, program_log::sparse::Sparse},
    settings::feed::Feed,
};

/// Everything that the events change.
pub(crate) struct Service<'guard> {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) guard: &'guard mut Guard,
    pub(super) supervisor: Supervisor,
    /// `None`: there is no admin listener.
    pub(super) observer: Option<observer::Observer>,
    pub(super) reloading: Reloading,
    pub(super) ending: Ending,
    /// A proxy is asked what budgets have spent.
    pub(super) handover: Option<Handover>,
    pub(super) watched: Watched,
    pub(super) reports: Reports,
    pub(super) commands: Commands,
    pub(super) access_log: AccessLogState,
    pub(super) started: u64,
    pub(super) ticks: u64,
    pub(super) warnings: Vec<String>,
    /// Listeners whose address this host does not have, when it was looked last.
    pub(super) absent: Vec<SocketAddr>,
    pub(super) key_sets: KeySets,
    pub(super) cluster: Cluster,
    pub(super) crowdsec: Crowdsec,
    pub(super) background: Background,
    /// Whom else the configuration names.
    pub(super) resolved: ResolvedNames,
    /// What is known of the launcher.
    pub(super) launcher: LauncherFacts,
    pub(super) pace: RecordLimiter,
    pub(super) credentials: CredentialState,
    pub(super) quotas: QuotaKeeping,
    /// What keys of counters are made with.
    pub(super) seed: Option<[u8; 16]>,
    pub(super) keeping: Keeping,
    /// The processes that were told of.
    pub(super) process_log: ProcessLog,
}

/// Why and when the guard ends.
#[derive(Default)]
pub(super) struct Ending {
    /// Why the gateway stops. `None`: it does not.
    pub(super) reason: Option<&'static str>,
    /// When the proxies are told to drain, once the gateway is to stop.
    pub(super) drain_at: Option<Instant>,
    /// Why no proxy can serve.
    pub(super) hopeless: Option<String>,
    /// When this guard ends to make room for another program.
    pub(super) upgrade_at: Option<Instant>,
}

/// The files that are watched.
pub(super) struct Watched {
    /// Looks at the feeds' files; absent while it does.
    pub(super) feeds: Option<FeedWatcher>,
    /// The lists that are fetched.
    pub(super) fetches: Fetches,
    pub(super) certificates: Certificates,
    pub(super) files: WatchedFiles,
    pub(super) resolver: WatchedResolver,
}

/// What the proxies tell.
#[derive(Default)]
pub(super) struct Reports {
    pub(super) counts: ProxyCounts,
    pub(super) upstreams: Upstreams,
    pub(super) unseen_roles: UnseenRolePaths,
}

/// Who commands, and whose answers are due.
pub(super) struct Commands {
    /// Answers that the proxy has to hear of first.
    pub(super) waiting: PendingAnswers,
    /// Who may do what.
    pub(super) operators: Operators,
    pub(super) admin_tokens: AdminTokens,
    pub(super) denials: Denials,
    /// Where commands go that the observer relays; `None`: not yet.
    pub(super) relayed: Option<mpsc::Sender<Call>>,
    /// Where the observer's word goes of what is not usual; `None`: not yet.
    pub(super) findings: Option<mpsc::Sender<Deviations>>,
}

/// What outlives a configuration of the access log.
pub(super) struct AccessLogState {
    /// By which key principals are hashed, where the configuration has none.
    pub(super) key: [u8; 32],
    /// Folders in which the guard may rename and remove log files: those that it was started with.
    pub(super) rotates_in: BTreeSet<PathBuf>,
}

impl<'guard> Service<'guard> {
    /// `warnings` are what the configuration was warned of.
    pub(crate) fn new(
        path: PathBuf,
        config: Config,
        guard: &'guard mut Guard,
        supervisor: Supervisor,
        observer: Option<observer::Observer>,
        warnings: Vec<String>,
        operators: Operators,
    ) -> Self {
        let rotates_in = access_log::rotates_in(&config.proxy.access_log);
        let key_sets = KeySets::open(&config.guard.state_dir);
        let admin_tokens = AdminTokens::open(&config.guard.state_dir);
        let fetches = Fetches::open(&config.guard.state_dir);
        let seed::Seed { secret: seed, finding } = seed::open(&config.guard.state_dir);
        Self {
            path,
            config,
            guard,
            supervisor,
            observer,
            reloading: Reloading::default(),
            ending: Ending::default(),
            handover: None,
            watched: Watched {
                feeds: Some(FeedWatcher::default()),
                fetches,
                certificates: Certificates::default(),
                files: WatchedFiles::default(),
                resolver: WatchedResolver::begin(),
            },
            reports: Reports::default(),
            commands: Commands {
                waiting: PendingAnswers::default(),
                operators,
                admin_tokens,
                denials: Denials::default(),
                relayed: None,
                findings: None,
            },
            access_log: AccessLogState { key: access_log::key(), rotates_in },
            started: clock::monotonic(),
            ticks: 0,
            warnings,
            absent: Vec::new(),
            key_sets,
            cluster: Cluster::default(),
            crowdsec: Crowdsec::default(),
            background: Background::default(),
            resolved: ResolvedNames::default(),
            launcher: LauncherFacts::default(),
            pace: RecordLimiter::default(),
            credentials: CredentialState::default(),
            quotas: QuotaKeeping::new(finding),
            seed,
            keeping: Keeping::default(),
            process_log: ProcessLog::default(),
        }
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
pub(super) struct ObservedAddresses {
    /// When the look began: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) began: u64,
    pub(super) took: Duration,
    /// What else there is than operators; `None`: that was not looked at, or could not be.
    pub(super) protected: Option<ProtectedAddresses>,
    pub(super) operators: bans::LoggedIn,
}

/// What was done beside the loop.
pub(super) enum Done {
    Anchored(anchors::AnchorResult),
    Planned(Planned),
    Quotas(Box<writer::QuotaWork>),
    Looked(FeedWatcher, Vec<(Feed, FeedNews)>, bans::LoggedIn),
    Certificates(u64, TlsWatcher, Option<TlsNews>),
    Checkpointed(Result<(), StoreError>),
    Compressed(PathBuf, io::Result<()>),
    Credentials(Box<CredentialWork>),
    Crowdsec(Box<CrowdsecDone>),
    Fetched(Box<ListFetched>),
    Files(u64, FileWatcher, Option<Vec<ChangedFile>>),
    Flushed(Result<(), Unflushed>),
    Resolved(Vec<IpAddr>),
    Resolver(ResolverFiles),
    Revocations(RevokedFileLook, Option<FileRead>),
    Seen(Box<ObservedAddresses>),
    Tidied(Vec<String>),
}

pub(super) type Ready = (Result<Box<PreparedConfig>, String>, ReloadRequest);

pub(super) fn reply(to: Option<oneshot::Sender<ControlAnswer>>, answer: ControlAnswer) {
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
