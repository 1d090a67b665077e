//! Decides how the kernel program is loaded, attached and told; the only place that names aya.

use std::io;

use gateway_common::{
    maps::{Ban, Hits, Rule, Tally},
    source::{Source, SourceKey},
    verdict::Verdict,
};

use crate::guard::settings::Settings;

/// Where the program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub name: String,
    /// In the driver; else in the network stack, which costs more.
    pub native: bool,
    /// Whether the link of an earlier guard was taken over, without a gap.
    pub adopted: bool,
    /// What an operator should know.
    pub note: Option<String>,
}

/// Why the kernel does not do what it is told. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Another XDP program holds the interface.
    #[error(
        "another XDP program{} is attached to {interface}: detach it first (`ip link set dev {interface} xdp off`), or leave {interface} out of guard.interfaces",
        .program.map(|id| format!(" (id {id})")).unwrap_or_default()
    )]
    Busy {
        /// Which.
        interface: String,
        /// The other program's id, where it could be found.
        program: Option<u32>,
    },
    /// A map is full; nothing was evicted.
    #[error("{map} is full ({capacity} entries): raise {setting}, or remove entries")]
    Full {
        /// Which map.
        map: &'static str,
        /// How many entries it has.
        capacity: u32,
        /// The setting that sizes it.
        setting: &'static str,
    },
    /// There is no such interface.
    #[error("there is no network interface {0}: see `ip link`, and guard.interfaces")]
    Interface(String),
    /// The kernel refused an operation on a map.
    #[error("{map}: {operation} failed: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The driver of this interface cannot run XDP natively.
    #[error("the driver of {0} cannot run XDP natively: set guard.mode = \"auto\" or \"generic\"")]
    NoNative(String),
    /// bpffs is not mounted and cannot be.
    #[error("{path} is not on a BPF file system: mount one first (`mount -t bpf bpf /sys/fs/bpf`): {source}")]
    NoBpffs {
        /// Where it was looked for.
        path: String,
        /// Why mounting failed.
        source: io::Error,
    },
    /// The rights to load it are missing.
    #[error("{what} needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {source}")]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The embedded object is not what this program expects.
    #[error("the embedded kernel program is unusable: {0}: rebuild it with `cargo xtask ebpf`")]
    Object(String),
    /// A pinned map or link cannot be used.
    #[error("{path}: {reason}")]
    Pin {
        /// Which.
        path: String,
        /// What is wrong, and what would help.
        reason: String,
    },
    /// The kernel's verifier refused the program.
    #[error("the kernel refused the program (Linux 5.18 or newer is needed): {0}")]
    Verifier(String),
}

/// The kernel program, loaded and attached, and its maps. Everything after [`Self::load`] works without any capability.
///
/// Dropping it leaves links and maps pinned: packets go on being judged. [`Self::detach`] removes both.
#[derive(Debug)]
pub struct Kernel {
    interfaces: Vec<Attached>,
}

impl Kernel {
    /// Loads the program, takes over what an earlier guard pinned, and attaches to every interface of the settings.
    ///
    /// # Errors
    /// Whatever keeps a single interface from being guarded; nothing stays attached then that was not before.
    pub fn load(settings: &Settings, guarded_tcp_ports: &[u16]) -> Result<Self, KernelError> {
        let _unused = (settings, guarded_tcp_ports);
        Err(KernelError::Object("not built yet".to_owned()))
    }

    /// Where the program is attached, in the order of the settings.
    #[must_use]
    pub fn interfaces(&self) -> &[Attached] {
        &self.interfaces
    }

    /// Detaches from every interface and removes the pins: nothing is judged any more.
    ///
    /// # Errors
    /// [`KernelError::Pin`] if a pin cannot be removed.
    pub fn detach(self) -> Result<(), KernelError> {
        Ok(())
    }

    /// Enters a ban. What was counted on an existing entry of the same id is kept.
    ///
    /// # Errors
    /// [`KernelError::Full`]: nothing is evicted for it.
    pub fn ban(&mut self, key: SourceKey, ban: Ban) -> Result<(), KernelError> {
        let _unused = (key, ban);
        Ok(())
    }

    /// Removes a ban; what it was, with its counters.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn unban(&mut self, key: SourceKey) -> Result<Option<Ban>, KernelError> {
        let _unused = key;
        Ok(None)
    }

    /// The ban of a source, expired or not, with its counters.
    #[must_use]
    pub fn find_ban(&self, key: SourceKey) -> Option<Ban> {
        let _unused = key;
        None
    }

    /// Every ban, expired or not, with its counters.
    #[must_use]
    pub fn bans(&self) -> Vec<(SourceKey, Ban)> {
        Vec::new()
    }

    /// Enters or replaces the rule of a prefix.
    ///
    /// # Errors
    /// [`KernelError::Full`]: nothing is evicted for it.
    pub fn put_rule(&mut self, source: Source, rule: Rule) -> Result<(), KernelError> {
        let _unused = (source, rule);
        Ok(())
    }

    /// Removes the rule of exactly this prefix, if there is one.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn remove_rule(&mut self, source: Source) -> Result<(), KernelError> {
        let _unused = source;
        Ok(())
    }

    /// Every rule in force, both families.
    #[must_use]
    pub fn rules(&self) -> Vec<(Source, Rule)> {
        Vec::new()
    }

    /// Replaces all rules at once: no packet sees half of the old and half of the new.
    ///
    /// # Errors
    /// [`KernelError::Full`]; the old rules stay in force then.
    pub fn swap_rules(&mut self, rules: &[(Source, Rule)]) -> Result<(), KernelError> {
        let _unused = rules;
        Ok(())
    }

    /// What the rules that count in `slot` dropped.
    #[must_use]
    pub fn hits(&self, slot: u32) -> Hits {
        let _unused = slot;
        Hits::default()
    }

    /// Counts `slot` from zero again, for another rule. Slots are numbered from 0 to [`Self::slots`].
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn clear_hits(&mut self, slot: u32) -> Result<(), KernelError> {
        let _unused = slot;
        Ok(())
    }

    /// How many slots there are; rules with a higher one are not counted.
    #[must_use]
    pub fn slots(&self) -> u32 {
        0
    }

    /// What happened to packets since the maps were made, summed over CPUs.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(Verdict, Tally)> {
        Verdict::ALL.into_iter().map(|verdict| (verdict, Tally::default())).collect()
    }

    /// Puts scope, limits and guarded ports into force. Capacities and interfaces need a restart.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn apply(&mut self, settings: &Settings, guarded_tcp_ports: &[u16]) -> Result<(), KernelError> {
        let _unused = (settings, guarded_tcp_ports);
        Ok(())
    }
}
