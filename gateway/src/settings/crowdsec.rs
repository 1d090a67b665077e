//! `[crowdsec]`: decisions of CrowdSec, and bans that are told to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outbound::Dial;
use crate::os::file::{NamedFile, whole};

/// The list that CrowdSec's decisions become.
pub const LIST: &str = "crowdsec";

/// `[crowdsec]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How its Local API is asked.
    pub api: LocalApi,
    /// `every`: how often it is asked for news.
    pub every: Duration,
    /// `shadow`: count only.
    pub shadow: bool,
}

impl Settings {
    /// Whether its decisions are put in force.
    #[must_use]
    pub const fn pulls(&self) -> bool {
        self.api.key.is_some()
    }

    /// Whether it is told of bans.
    #[must_use]
    pub const fn pushes(&self) -> bool {
        self.api.machine.is_some()
    }
}

/// How CrowdSec's Local API is asked: what the observer needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalApi {
    /// `url`, without `/v1`.
    pub url: String,
    /// `key_file`: the key of a bouncer; `None`: decisions are not asked for.
    #[serde(with = "whole::optional")]
    pub key: Option<NamedFile>,
    /// `machine`, `password_file`; `None`: it is not told of bans.
    pub machine: Option<Machine>,
    /// `max_size`: the longest answer, in bytes.
    pub max_size: u64,
    /// How the server is connected to.
    pub dial: Dial,
}

impl LocalApi {
    /// The files that hold secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &NamedFile> {
        let password = self.machine.iter().map(|machine| &machine.password);
        self.key.iter().chain(password).chain(&self.dial.private_key)
    }
}

/// Who the gateway is to CrowdSec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `machine`: the name that `cscli machines add` was given. Decisions of this origin are the gateway's own.
    pub name: String,
    /// `password_file`.
    #[serde(with = "whole")]
    pub password: NamedFile,
}
