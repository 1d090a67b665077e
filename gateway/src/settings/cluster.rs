//! `[cluster]`: the machines that share limits, and the store between them.

use std::{path::PathBuf, time::Duration};

use super::tls;
use crate::os::file::NamedFile;

/// The most machines of one cluster.
pub const MAX_NODES: usize = 64;

/// The length of a node's public key: Ed25519.
pub const KEY_BYTES: usize = 32;

/// The least that the file of the cluster's secret holds, in bytes.
pub const LEAST_SECRET: usize = 32;

/// The cluster, as one of its machines sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `node`: the name of this machine.
    pub node: String,
    /// `key_file`: the private key of this machine, which the guard alone reads.
    pub key_file: PathBuf,
    /// `secret_file`: what all machines of the cluster know, and the store does not.
    pub secret: NamedFile,
    /// `[cluster.nodes]`: every machine and its public key, this one as well, in the order of their names.
    pub nodes: Vec<ClusterNode>,
    /// `bans`: whether the machines tell each other of bans, unblocks and allowances.
    pub bans: bool,
    /// `revocations`: whether they tell each other of revoked tokens and API keys.
    pub revocations: bool,
    /// `api_keys`: whether they tell each other of API keys that are made, rotated and imported.
    pub api_keys: bool,
    /// `ticket_keys`: whether they tell each other by which keys TLS sessions are resumed.
    pub ticket_keys: bool,
    /// `revocation_stale`: what becomes of tokens and API keys while no other machine is heard.
    pub revocation_stale: Stale,
    /// `revocation_stale_after`: for how long that is.
    pub revocation_stale_after: Duration,
    /// `[cluster.store]`.
    pub store: ClusterStore,
}

/// What becomes of tokens and API keys while it is not known what other machines have revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// They are refused.
    Refuse,
    /// They are good, as far as is known.
    Serve,
}

impl Stale {
    /// As it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Serve => "serve",
        }
    }
}

impl Settings {
    /// Whether the machines tell each other anything.
    #[must_use]
    pub const fn has_letters(&self) -> bool {
        self.bans || self.revocations || self.api_keys || self.ticket_keys
    }

    /// The machines that this one writes letters to and reads those of.
    pub fn peers(&self) -> impl Iterator<Item = &ClusterNode> {
        self.nodes.iter().filter(|node| self.has_letters() && node.name != self.node)
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its public key.
    pub key: [u8; KEY_BYTES],
}

/// `[cluster.store]`: where Redis or Valkey is, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStore {
    /// `servers`: `host:port` of the store, of its Sentinels, or of some nodes of a Redis Cluster.
    pub servers: Vec<String>,
    /// `mode`.
    pub mode: StoreMode,
    /// `user`: the user of the store's ACL; `None`: the default user.
    pub user: Option<String>,
    /// `password_file`.
    pub password: Option<NamedFile>,
    /// `sentinel_password_file`: for the Sentinels, where they ask for one.
    pub sentinel_password: Option<NamedFile>,
    /// `tls`; `None`: it is spoken to without TLS.
    pub tls: Option<tls::UpstreamTls>,
    /// `prefix`: how the names of keys begin.
    pub prefix: String,
    /// `timeout`: how long one call may take.
    pub timeout: Duration,
}

/// What is behind `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// A Redis Cluster.
    Cluster,
    /// Sentinels that know the primary of this name. `primary`.
    Sentinel(String),
    /// One server.
    Standalone,
}

impl StoreMode {
    /// As it is configured.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Sentinel(_) => "sentinel",
            Self::Standalone => "standalone",
        }
    }
}
