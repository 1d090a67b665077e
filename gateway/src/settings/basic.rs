//! `[basic]`: whose names and passwords are good (HTTP Basic).

use std::{collections::BTreeMap, time::Duration};

use crate::os::file::NamedFile;

/// Whose names and passwords are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `users`: the file with the users and the hashes of their passwords, one `name:hash` a line.
    pub users: NamedFile,
    /// `realm`: what browsers show when they ask for the password.
    pub realm: String,
    /// `[basic.roles]`: the roles of each user.
    pub roles: BTreeMap<String, Vec<String>>,
    /// `default_roles`: the roles of users that are not in `roles`.
    pub default_roles: Vec<String>,
    /// `cache`: how many results are remembered, over all workers.
    pub cache: usize,
    /// `remember`: for how long a password that was right is not compared again.
    pub remember: Duration,
    /// `max_waiting`: how many comparisons wait at most, of all sources.
    pub max_waiting: usize,
    /// `max_waiting_per_source`: of one source.
    pub max_waiting_per_source: usize,
    /// `forward`: whether the upstream gets name and password, too.
    pub forward: bool,
}
