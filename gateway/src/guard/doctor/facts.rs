//! What was found out about this host and this gateway, to be judged.

use crate::guard::{control::ProcessStatus, kernel::PinnedAt};

/// A fact, or why it is not known.
pub(super) type Fact<T> = Result<T, String>;

/// Everything that is looked at.
#[derive(Debug)]
pub struct Facts {
    /// Whether a gateway ever ran by this configuration, or may have.
    pub(super) has_run: bool,
    pub(super) kernel: String,
    pub(super) is_root: bool,
    pub(super) sysctls: Vec<(&'static str, Fact<i64>)>,
    /// Parts of the program that this kernel refuses; as an error, why it refuses all of it.
    pub(super) program: Fact<Result<Vec<String>, String>>,
    pub(super) has_btf: bool,
    pub(super) is_bpffs: bool,
    pub(super) interfaces: Vec<Interface>,
    pub(super) links: Fact<Vec<PinnedAt>>,
    pub(super) maps: Fact<Vec<(&'static str, usize, u32)>>,
    /// Entries that the store has and the kernel has not, and the other way.
    pub(super) drift: Fact<(usize, usize)>,
    pub(super) audit: Fact<(u64, Option<String>)>,
    /// How far the youngest record is in the future, in seconds, and this year.
    pub(super) clock: Fact<(u64, i16)>,
    /// Whether something keeps the clock right.
    pub(super) clock_is_kept: Fact<bool>,
    /// Folders of maps that earlier versions pinned.
    pub(super) earlier: Vec<String>,
    pub(super) modes: Vec<(String, Fact<u32>)>,
    /// Free and all bytes of the state's file system.
    pub(super) disk: Fact<(u64, u64)>,
    /// Per certificate: its path, and the days until it ends.
    pub(super) certificates: Vec<(String, Fact<i64>)>,
    pub(super) proxy_user: (String, Option<u32>),
    /// The same of the observer; `None`: there is no admin listener.
    pub(super) observer_user: Option<(String, Option<u32>)>,
    /// The limit on open files, and connections at most.
    pub(super) files: Fact<(u64, u64)>,
    pub(super) daemon: Result<Daemon, Unanswered>,
    /// Files that the configuration names and this user may not read.
    pub(super) denied: Vec<String>,
}

/// Why the running gateway has said nothing, for people.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Its socket is not for this user: it may well run.
    Denied(String),
    /// It does not run.
    Down(String),
    /// It runs, and gives no answer.
    Silent(String),
}

/// The gateway that runs.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    /// The process id of the proxy that serves.
    pub(super) proxy: Option<u32>,
    pub(super) warnings: Vec<String>,
    /// All of its processes.
    pub(super) processes: Vec<ProcessStatus>,
    /// The interfaces that it has attached its program to.
    pub(super) attached: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) is_there: bool,
    pub(super) is_up: Option<bool>,
    pub(super) driver: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) queues: Option<usize>,
    /// The XDP program that is on it.
    pub(super) program: Fact<Option<u32>>,
    /// Its name and tag, and whose it likely is.
    pub(super) program_named: Option<String>,
    /// Large receive offload is on.
    pub(super) joins_packets: Option<bool>,
}
