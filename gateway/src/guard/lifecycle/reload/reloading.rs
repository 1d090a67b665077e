//! A configuration on its way into force: read, compiled, handed to a proxy, acknowledged; and what came of the last.

use std::{fs::File, io, net::SocketAddr, os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

use crate::guard::{
    bans::Actor,
    control::{ControlAnswer, ReloadRefused},
    lifecycle::{files::named_files::ChangedFile, reload::prepare::PreparedConfig},
    processes::{observer::samples::Reloads, proxies::supervisor::NewSockets},
};

/// How far a reload is, which configuration is in force, and how reloads ended.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct Reloading {
    /// Its configuration is being read.
    pub(in crate::guard::lifecycle) is_preparing: bool,
    /// Its configuration is being compiled, before anybody takes it.
    pub(in crate::guard::lifecycle) compilation: Option<Compilation>,
    /// A proxy has its configuration.
    pub(in crate::guard::lifecycle) current: Option<Reload>,
    /// The barrier that a proxy has to acknowledge because another configuration is in force, and until when.
    pub(in crate::guard::lifecycle) unacknowledged: Option<Unacknowledged>,
    /// A reload that waits for what nobody has asked for: changed files on their way into force, or a proxy that takes the
    /// place of another.
    pub(in crate::guard::lifecycle) waiting: Option<ReloadRequest>,
    /// Who wants a reload that the guard after this one does.
    pub(in crate::guard::lifecycle) handed_on: Option<Actor>,
    /// Why this guard, which started for such a reload, could not load the kernel program.
    pub(in crate::guard::lifecycle) not_loaded: Option<String>,
    /// The number of the last reload.
    pub(in crate::guard::lifecycle) last_number: u64,
    /// Which configuration is in force.
    pub(in crate::guard::lifecycle) in_force: Provenance,
    /// The last reload, where it was refused.
    pub(in crate::guard::lifecycle) refused: Option<ReloadRefused>,
    pub(in crate::guard::lifecycle) counts: Reloads,
}

impl Reloading {
    /// Whether a configuration is on its way into force.
    pub(in crate::guard::lifecycle) const fn is_under_way(&self) -> bool {
        self.is_preparing || self.compilation.is_some() || self.current.is_some()
    }
}

/// Who wants a configuration read, and waits for what comes of it.
pub(in crate::guard::lifecycle) struct ReloadRequest {
    pub(in crate::guard::lifecycle) actor: Actor,
    pub(in crate::guard::lifecycle) answer: Option<oneshot::Sender<ControlAnswer>>,
    /// Nothing is to change.
    pub(in crate::guard::lifecycle) dry_run: bool,
    /// Which file was read; empty: none was.
    pub(in crate::guard::lifecycle) digest: String,
    /// Files that have changed, and bring the configuration in force anew. Empty: the configuration is read from its file.
    pub(in crate::guard::lifecycle) files: Vec<ChangedFile>,
    /// These have changed again since they were looked at.
    pub(in crate::guard::lifecycle) is_stale: bool,
    /// Files that have changed and stay as they are in force.
    pub(in crate::guard::lifecycle) held: Vec<PathBuf>,
    /// What OpenAPI documents protect no more by it, for people.
    pub(in crate::guard::lifecycle) losses: Vec<String>,
}

impl ReloadRequest {
    pub(in crate::guard::lifecycle) const fn new(
        actor: Actor,
        answer: Option<oneshot::Sender<ControlAnswer>>,
        dry_run: bool,
    ) -> Self {
        Self {
            actor,
            answer,
            dry_run,
            digest: String::new(),
            files: Vec::new(),
            is_stale: false,
            held: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// What the guard itself wants once these files have changed.
    pub(in crate::guard::lifecycle) fn of_files(files: Vec<ChangedFile>) -> Self {
        Self { files, ..Self::new(Actor::Guard, None, false) }
    }

    pub(in crate::guard::lifecycle) const fn is_of_files(&self) -> bool {
        !self.files.is_empty()
    }
}

/// A process compiles a configuration.
pub(in crate::guard::lifecycle) struct Compilation {
    pub(in crate::guard::lifecycle) pid: u32,
    /// Where it answers before it ends.
    pub(in crate::guard::lifecycle) channel: OwnedFd,
    /// When it is ended.
    pub(in crate::guard::lifecycle) until: Instant,
    pub(in crate::guard::lifecycle) is_late: bool,
    pub(in crate::guard::lifecycle) prepared: Box<PreparedConfig>,
    pub(in crate::guard::lifecycle) request: ReloadRequest,
}

/// Which configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct Provenance {
    /// Since when, in milliseconds since 1970.
    pub(in crate::guard::lifecycle) since: u64,
    /// Who put it in force.
    pub(in crate::guard::lifecycle) by: String,
    /// SHA-256 of the file.
    pub(in crate::guard::lifecycle) digest: String,
}

/// A configuration that waits for a proxy, and whoever waits for that.
pub(in crate::guard::lifecycle) struct Reload {
    /// The number by which the proxy knows it.
    pub(in crate::guard::lifecycle) number: u64,
    /// The proxy that is to serve it.
    pub(in crate::guard::lifecycle) generation: u64,
    pub(in crate::guard::lifecycle) state: ReloadState,
    pub(in crate::guard::lifecycle) request: ReloadRequest,
    pub(in crate::guard::lifecycle) on_disk: OnDisk,
    /// Listeners that are bound for it alone.
    pub(in crate::guard::lifecycle) added: Vec<SocketAddr>,
    /// What it has changed, once it is in force.
    pub(in crate::guard::lifecycle) changes: Vec<String>,
    /// What it warns of that was not warned of before, once it is in force.
    pub(in crate::guard::lifecycle) warnings: Vec<String>,
}

/// How far a reload has come.
pub(in crate::guard::lifecycle) enum ReloadState {
    /// The proxy compiles it, until this moment at most. Nothing has changed.
    Compiling {
        prepared: Box<PreparedConfig>,
        sockets: NewSockets,
        /// The outputs of the access log, where they are others.
        logs: Option<Vec<File>>,
        until: Instant,
    },
    /// It is in force, and the new process that was told to serve it has not said yet that it does.
    Starting,
}

/// A proxy that was told to serve another configuration and has not said yet that it does.
pub(in crate::guard::lifecycle) struct Unacknowledged {
    pub(in crate::guard::lifecycle) generation: u64,
    pub(in crate::guard::lifecycle) barrier: u64,
    pub(in crate::guard::lifecycle) until: Instant,
}

/// The program on disk.
pub(in crate::guard::lifecycle) enum OnDisk {
    /// It is the one that runs.
    Same,
    /// It is another, and the new proxy is made from it.
    Used,
    /// It is not to be used: why.
    Unused(io::Error),
}

impl OnDisk {
    /// What the answer says of it besides that the configuration is in force.
    pub(in crate::guard::lifecycle) fn said(&self) -> String {
        match self {
            Self::Same => String::new(),
            Self::Used => "; the proxy is the program that is on disk now".to_owned(),
            Self::Unused(error) => format!("; the program on disk is not used: {error}"),
        }
    }

    /// What would help where the proxy did not get ready.
    pub(in crate::guard::lifecycle) const fn hint(&self) -> &'static str {
        match self {
            Self::Used => {
                "; it was the program on disk: put the one that runs back, or restart the gateway if the new one is meant"
            }
            Self::Same | Self::Unused(_) => "",
        }
    }
}
