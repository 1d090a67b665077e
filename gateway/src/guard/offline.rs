//! Answers commands while no guard runs: the same questions over the store and the pinned maps, under the lock
//! that a guard would hold.
//!
//! *Invariant:* whatever needs somebody who goes on living (a roll-back, a proxy, an attachment) is refused.

use std::{io, path::Path, time::Duration};

use serde_json::json;

use crate::{
    config::{Config, Disk, Locations},
    guard::{
        audit,
        bans::{Actor, Guard, GuardParts, Processes, ProtectedAddresses},
        control::{ControlAnswer, ControlRequest, RequestsStatus},
        enforcement::{AtAccept, Enforcement},
        kernel::{self, Kernel, KernelError},
        lifecycle::start::state::{self, OpenedState},
        state_files::{
            self,
            lock::{LockError, borrow},
        },
    },
    os::clock::{self, Now},
    settings,
    text::counted::counted,
};

/// How long a command waits for another one.
const TIMEOUT: Duration = Duration::from_millis(500);

/// For status, first of all.
const DOWN: &str = "the gateway is NOT RUNNING: nobody is served; this is what the store and the pinned maps say";

/// The same where `guard.interfaces` is empty: nothing is pinned.
const DOWN_UNGUARDED: &str = "the gateway is NOT RUNNING: nobody is served; this is what the store says";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineFailure {
    /// Whoever asks may not look into what was left behind.
    pub is_denied: bool,
    /// For people.
    pub message: String,
}

impl From<String> for OfflineFailure {
    fn from(message: String) -> Self {
        Self { is_denied: false, message }
    }
}

impl From<KernelError> for OfflineFailure {
    fn from(error: KernelError) -> Self {
        Self { is_denied: matches!(error, KernelError::NotPermitted { .. }), message: error.to_string() }
    }
}

impl From<LockError> for OfflineFailure {
    fn from(error: LockError) -> Self {
        Self { is_denied: error.is_denied(), message: error.to_string() }
    }
}

/// Answers `request` without a guard. `None`: it needs one.
///
/// # Errors
/// Why it cannot be answered, for people.
pub fn answer(config: &Path, request: ControlRequest, uid: u32) -> Option<Result<ControlAnswer, OfflineFailure>> {
    let needs_resolving = match &request {
        ControlRequest::BlockAdd { confirm: Some(_), .. } => return None,
        ControlRequest::BlockAdd { .. } | ControlRequest::Why { .. } => true,
        ControlRequest::AllowAdd { .. }
        | ControlRequest::AllowDel { .. }
        | ControlRequest::AllowList
        | ControlRequest::BlockDel { .. }
        | ControlRequest::BlockFlush
        | ControlRequest::BlockList
        | ControlRequest::Status
        | ControlRequest::Top => false,
        _ => return None,
    };
    Some(answer_with(config, request, uid, needs_resolving))
}

fn answer_with(path: &Path, request: ControlRequest, uid: u32, resolve: bool) -> Result<ControlAnswer, OfflineFailure> {
    // First of all: whoever may not look there may not read all that the configuration names either.
    let locations = Locations::load(path, &Disk).map_err(|errors| errors.to_string())?;
    let store = locations.state_dir.join(state_files::STORE);
    match store.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(format!("there is no {}: no gateway ever ran here", store.display()).into()),
        Err(error) => {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            let hint = if is_denied { ": run as root" } else { "" };
            return Err(OfflineFailure { is_denied, message: format!("{}: {error}{hint}", store.display()) });
        }
    }
    let config = Config::load(path, &Disk).map_err(|errors| errors.to_string())?;
    let admin = config.admin.as_ref().map(settings::admin::Settings::place);
    let settings = config.guard;
    // Held until the answer is there.
    let lock = borrow(&settings.state_dir, TIMEOUT)?;
    let hold = kernel::hold(&settings.pin_dir)?;
    let is_unguarded = settings.interfaces.is_empty();
    let mut standing = vec![if is_unguarded { DOWN_UNGUARDED } else { DOWN }.to_owned()];
    let drops: Box<dyn Enforcement> = match Kernel::open_pinned(&settings) {
        Ok(kernel) => Box::new(kernel),
        Err(error @ KernelError::NotPermitted { .. }) => return Err(error.into()),
        // Where no interface is named, `status` says that, and no pin is missing.
        Err(_nothing_pinned) if is_unguarded => Box::new(AtAccept::default()),
        Err(error) => {
            standing.push(format!("nothing is dropped in the kernel: {error}"));
            Box::new(AtAccept::default())
        }
    };
    let is_in_kernel = !drops.interfaces().is_empty();
    let OpenedState { store, audit, findings, is_behind } = state::open_whole(&settings.state_dir)?;
    let upstreams =
        config.proxy.upstreams.iter().flat_map(|upstream| upstream.servers.iter().map(|server| server.address.clone()));
    let upstreams: Vec<String> = upstreams.collect();
    let (protected, unknown) = ProtectedAddresses::look(if resolve { &upstreams } else { &[] }, resolve);
    standing.extend(unknown);
    let parts = GuardParts {
        settings,
        rules: config.proxy.detect.rules.clone(),
        protected,
        store,
        audit,
        drops,
        boot: clock::boot_id(),
        findings,
        is_behind,
        standing,
    };
    let now = Now::read();
    let mut guard = Guard::offline(parts, now).map_err(|refused| refused.to_string())?;
    let answer = if matches!(request, ControlRequest::Status | ControlRequest::Top) {
        let processes = Processes {
            config: path.display().to_string(),
            proxy_pid: None,
            proxy_restarts: 0,
            proxy_standstills: 0,
            observer_pid: None,
            observer_restarts: 0,
            admin,
            guard_restarts: 0,
            upgrade_reverted: false,
            all: Vec::new(),
            started: now.monotonic,
            listeners: Vec::new(),
            warnings: Vec::new(),
            requests: RequestsStatus::default(),
            upstreams: Vec::new(),
            key_sets: Vec::new(),
            fetches: Vec::new(),
            crowdsec: None,
            cluster: None,
            config_since: String::new(),
            config_by: String::new(),
            config_digest: String::new(),
            reload_refused: None,
            certificates: Vec::new(),
            anchors: Vec::new(),
            disks: Vec::new(),
        };
        let mut status = guard.status(processes, now);
        status.guard_pid = 0;
        if !is_in_kernel {
            "none".clone_into(&mut status.enforcement);
        }
        match request {
            ControlRequest::Top => ControlAnswer::Top(Box::new(guard.top(status, now))),
            _ => ControlAnswer::Status(Box::new(status)),
        }
    } else {
        guard.handle_at_once(request, &Actor::Operator(uid), now)
    };
    let answer = match answer {
        ControlAnswer::Why(mut why) => {
            why.next = next_offline(&why.next, is_in_kernel);
            ControlAnswer::Why(why)
        }
        answer => answer,
    };
    guard.finish_work(now);
    guard.sync();
    drop((hold, lock));
    Ok(answer)
}

/// What happens next to an address while nobody serves it, and what would once the gateway runs.
fn next_offline(next: &str, is_in_kernel: bool) -> String {
    let drops = if is_in_kernel { ", and the kernel goes on to drop what is pinned there" } else { "" };
    format!("The gateway does not run: nobody is served{drops}. If it ran: {next}")
}

/// Takes links and maps out of the kernel by their pins. What was done is recorded where there is a record; a record
/// that cannot be written does not keep anybody from recovering.
///
/// # Errors
/// For people: whoever asks is not root, a guard runs, or something is pinned that is not ours.
pub fn detach(locations: &Locations, uid: u32) -> Result<ControlAnswer, OfflineFailure> {
    // What others may not look into would seem to be empty.
    if uid != 0 {
        let message = "only root may take the gateway out of the kernel: run it as root".to_owned();
        return Err(OfflineFailure { is_denied: true, message });
    }
    let lock = locations.state_dir.exists().then(|| borrow(&locations.state_dir, TIMEOUT)).transpose()?;
    // Links of a gateway that runs with another state folder are its own.
    let hold = kernel::hold(&locations.pin_dir)?;
    let recorded = if lock.is_some() { record(locations, uid) } else { Ok(()) };
    let removed = kernel::remove(&locations.pin_dir)?;
    let mut message = match (removed.links, removed.maps) {
        (0, 0) => format!("nothing was pinned in {}", locations.pin_dir.display()),
        (links, maps) => {
            let (links, maps) = (counted(links, "link", "links"), counted(maps, "map", "maps"));
            format!("{links} and {maps} are out of the kernel: no packet is dropped there now")
        }
    };
    if let Err(error) = recorded {
        message.push_str(&format!(" (not recorded: {error})"));
    }
    drop((hold, lock));
    Ok(ControlAnswer::Done { message, changed: u64::try_from(removed.links).unwrap_or(0) })
}

fn record(locations: &Locations, uid: u32) -> Result<(), String> {
    let path = locations.state_dir.join(state_files::STORE);
    if !path.exists() {
        return Ok(());
    }
    let OpenedState { mut store, mut audit, .. } = state::open_whole(&locations.state_dir)?;
    let members = audit::members(json!({"actor": Actor::Operator(uid).to_string(), "offline": true}));
    let change = store.change().map_err(|error| error.to_string())?;
    audit.append("detach", Now::read().unix_millis, members).map_err(|error| error.to_string())?;
    change.commit(&audit.anchor()).map_err(|error| error.to_string())?;
    audit.sync().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_said_to_be_served_while_nothing_runs() {
        let next = "It is served as everybody is.";
        for (is_in_kernel, expect) in [
            (false, "The gateway does not run: nobody is served. If it ran: It is served as everybody is."),
            (
                true,
                "The gateway does not run: nobody is served, and the kernel goes on to drop what is pinned there. \
                 If it ran: It is served as everybody is.",
            ),
        ] {
            assert_eq!(next_offline(next, is_in_kernel), expect);
        }
    }
}
