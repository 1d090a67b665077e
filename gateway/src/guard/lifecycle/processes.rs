//! What is told of the processes: which there are, and what an operator should know of them.

pub(in crate::guard::lifecycle) mod confined;
mod fresh;
pub(in crate::guard::lifecycle) mod handover;
pub(in crate::guard::lifecycle) mod handover_state;
pub(in crate::guard::lifecycle) mod observation;
pub(in crate::guard::lifecycle) mod process_log;
pub(in crate::guard::lifecycle) mod proxy_events;
pub(in crate::guard::lifecycle) mod resolved;
pub(in crate::guard::lifecycle) mod restarts;

use std::{collections::BTreeSet, path::Path};

use crate::{
    guard::{
        bans::Processes,
        control::DiskSpace,
        lifecycle::{reload, service::Service},
        processes::{
            observer,
            proxies::{listeners::ABSENT, upstreams},
        },
    },
    os::clock::{self, Now},
};

/// What `status` says of an upgrade that came to nothing.
const REVERTED: &str = "the program that the last upgrade was to bring never got ready, or died at once: the one before it runs; see the log";

impl Service<'_> {
    pub(in crate::guard::lifecycle) fn processes(&self) -> Processes {
        let address = |listener: &crate::settings::listener::Listener| {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", listener.address)
        };
        let mut warnings = self.warnings.clone();
        warnings.extend(self.watched.certificates.warnings());
        warnings.extend(self.watched.files.warnings());
        warnings.extend(self.background.anchors.warnings());
        warnings.extend(self.key_sets.warnings());
        warnings.extend(self.crowdsec.warnings());
        warnings.extend(self.watched.fetches.warnings(Now::read()));
        warnings.extend(self.cluster.warnings(self.config.proxy.cluster.as_ref(), Now::read()));
        warnings.extend(self.reports.unseen_roles.warnings());
        warnings.extend(self.commands.admin_tokens.warning());
        warnings.extend(self.keeping.warning());
        warnings.extend(self.credentials.warnings());
        warnings.extend(self.quotas.warnings());
        warnings.extend(self.observer.iter().flat_map(observer::Observer::warnings));
        let absent = self.absent().into_iter().map(|address| format!("listener {address} waits: {ABSENT}"));
        warnings.extend(absent);
        warnings.extend(self.unserved());
        let upstreams = self.reports.upstreams.of(self.supervisor.generation(), &self.config.proxy.upstreams);
        warnings.extend(upstreams::warnings(&upstreams));
        let disks = self.disks();
        warnings.extend(disks.iter().filter(|disk| disk.is_nearly_full()).map(
            |DiskSpace { folder, available, size }| {
                let (left, all) = (available >> 20, size >> 20);
                format!("the disk of {folder} is nearly full: {left} of {all} MiB are left")
            },
        ));
        let config_since = clock::rfc3339(self.reloading.in_force.since);
        warnings.extend(self.reloading.refused.as_ref().map(|refused| reload::warning(refused, &config_since)));
        if self.launcher.reverted {
            warnings.push(REVERTED.to_owned());
        }
        Processes {
            config: self.path.display().to_string(),
            proxy_pid: self.supervisor.pid(),
            proxy_restarts: self.supervisor.restarts,
            proxy_standstills: self.supervisor.standstills,
            observer_pid: self.observer.as_ref().and_then(observer::Observer::pid),
            observer_restarts: self.observer.as_ref().map_or(0, |observer| observer.restarts),
            admin: self.admin(),
            guard_restarts: self.launcher.deaths,
            upgrade_reverted: self.launcher.reverted,
            all: self.all_processes(),
            started: self.started,
            listeners: self.config.proxy.listeners.iter().map(address).collect(),
            warnings,
            requests: self.reports.counts.told(),
            upstreams,
            key_sets: self.key_sets.reports(),
            crowdsec: self.crowdsec.status(),
            fetches: self.watched.fetches.states(Now::read()),
            cluster: self.cluster.status(&self.config.proxy, Now::read()),
            config_since,
            config_by: self.reloading.in_force.by.clone(),
            config_digest: self.reloading.in_force.digest.clone(),
            reload_refused: self.reloading.refused.clone(),
            certificates: self.watched.certificates.ends(),
            anchors: self.background.anchors.states(),
            disks,
        }
    }

    /// The disks of the state and of logs that the guard looks after every second anyway.
    fn disks(&self) -> Vec<DiskSpace> {
        let state = Some(self.config.guard.state_dir.as_path());
        let logs = self.config.proxy.access_log.files().filter(|file| file.rotate.is_some());
        let folders: BTreeSet<&Path> = state.into_iter().chain(logs.filter_map(|file| file.path.parent())).collect();
        folders.into_iter().filter_map(DiskSpace::of).collect()
    }

    /// What is to be said where no proxy serves what is in force.
    fn unserved(&self) -> Option<String> {
        if self.supervisor.serves() {
            return None;
        }
        let older = self.supervisor.pid().or_else(|| self.supervisor.older());
        Some(match older {
            Some(pid) => format!(
                "clients are served by an older proxy (pid {pid}), by what was in force before, until a new one is ready"
            ),
            None => "no proxy is serving: clients wait".to_owned(),
        })
    }
}
