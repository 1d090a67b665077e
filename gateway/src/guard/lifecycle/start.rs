//! Starts the guard: everything that needs rights first, then the rights are given up, then it serves. When that ends it
//! stops.

use std::{
    env,
    fs::{self, File},
    io::{self, IsTerminal as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::unistd::geteuid;
use serde_json::{Map, Value, json};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    config::{Config, Diagnostics, Disk},
    diagnostic::with_causes,
    guard::{
        audit,
        bans::{Actor, Guard, GuardParts},
        control::server,
        enforcement::Enforcement,
        lifecycle::{
            event_loop::serve,
            files::access_log::{make_folder, open_logs},
            processes::{resolved::ResolvedNames, restarts::Restarts},
            reload::{
                compile::{NotCompiled, compile},
                kept::Kept,
                prepare::{PreparedConfig, ports, prepare_again, read},
                reloading::{Provenance, ReloadRequest},
                upgrade::UPGRADED,
            },
            service::Service,
            start::{
                drop_path::{drop_path, drop_path_for_reload},
                first_pins::FirstPins,
                state::OpenedState,
            },
        },
        processes::{
            launcher::{self, LISTENER, Opening, PORT_TIMEOUT, SocketError},
            observer::{self, files::ObserverFiles, socket},
            proxies::supervisor::{GuardPrograms, Supervisor},
        },
        state_files::lock::lock,
    },
    os,
    os::{
        clock::{self, Now},
        launch::{ProcessRole, ProgramId},
        program_log,
        sandbox::{self, Writes},
    },
    policy::limit::spent::SpentBudgets,
    settings::{audit::AnchorTarget, guard, listener::Listener},
};

mod drop_path;
pub(super) mod first_pins;
pub(crate) mod state;

/// How many messages of proxies wait to be heard, of all of them together. The rest waits with whoever says it.
const EVENTS: usize = 64;

/// How long a stop waits for work that still runs beside the loop. After that the end of the process cuts it off, which is
/// safe: a crash may do so at any time. The next guard compresses the log anew.
const LAST_WORK: Duration = Duration::from_secs(1);

/// `gateway guard`, which the launcher starts with its channel as standard input. It stays until a signal ends it. A clean
/// stop leaves link and maps pinned, so that bans go on, unless `detach_on_exit`.
///
/// Ends with 0 after a clean stop, 2 if the configuration is not valid, 1 if anything else keeps it from running.
pub fn main(config: &Path, detach_on_exit: bool) -> ExitCode {
    program_log::start(program_log::asked_for());
    if let Err(error) = os::begin_under_launcher() {
        tracing::warn!(%error, "the guard may outlive its launcher");
    }
    match run(config, detach_on_exit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Diagnostics>() || error.is::<NotCompiled>() => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            if io::stderr().is_terminal() {
                eprintln!("gateway: {}", with_causes(&error));
            } else {
                tracing::error!("{}", with_causes(&error));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, detach_on_exit: bool) -> Result<()> {
    let path = std::path::absolute(path).unwrap_or_else(|_error| path.to_owned());
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let (mut launcher, Opening { kept, living, facts }) = launcher::Launcher::meet(channel)
        .context("standard input is not the channel to the launcher; only `gateway run` starts this command")?;
    let own = ProgramId::own().context("the program that runs")?;
    let InitialState { prepared, provenance, resolved, proxies, restarts, reload, spent } =
        configuration(&path, kept, &mut launcher, own)?;
    let PreparedConfig { config, bundle, observer, protected, operators, warnings, named } = prepared;
    for warning in &warnings {
        tracing::warn!("configuration: {warning}");
    }
    // What only a restart can change, unlike what a configuration is warned of.
    let mut standing = resolved.standing.clone();
    let run_as = resolved.run_as;
    let settings = &config.guard;
    let at_state = |error: anyhow::Error| {
        unusable(&config, "guard.state_dir", "a folder: state_dir = \"/var/lib/gateway\"", &error)
    };
    make_folder(&settings.state_dir, 0o750).map_err(at_state)?;
    let lock = lock(&settings.state_dir, facts.pid).map_err(|error| at_state(error.into()))?;
    // One that did not get ready with it is not started for it again.
    let reload = reload.filter(|_| !facts.reverted);
    let ports = ports(&config.proxy);
    // Dropped after what is attached by them.
    let mut pins = FirstPins::of(&settings.pin_dir);
    let (drops, not_loaded) = match &reload {
        None => (drop_path(settings, &ports, &mut standing)?, None),
        Some(_) => drop_path_for_reload(settings, &ports, &mut standing),
    };
    let OpenedState { store, audit, findings, is_behind } =
        state::open(&settings.state_dir).map_err(|error| at_state(error.into()))?;
    let start = start_record(&path, drops.as_ref());
    let parts = GuardParts {
        settings: settings.clone(),
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
    let mut guard = Guard::start(parts, start, Now::read()).map_err(|refused| anyhow!("{refused}"))?;

    let observes = living.iter().any(|living| living.role == ProcessRole::Observer);
    let OpenFiles { listeners, admin, access_logs, control } = open(&config, &resolved, &mut launcher, observes)?;

    // The launcher says where that is: its own name for it may have gone to another.
    let place = env::args_os().next().unwrap_or_default().into();
    let programs = GuardPrograms { place, own, proxies };
    if let Err(error) = os::take_short_turns() {
        tracing::debug!(%error, "the guard waits for its turn as everybody does");
    }
    let files = ObserverFiles::new(&settings.state_dir);
    let report = sandbox::guard(&writes(&config))?;
    tracing::info!(sandbox = %report, "the guard has what it needs and gave up the rest");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control_socket = settings.control_socket.clone();
    let admin_socket = config.admin.as_ref().and_then(|admin| admin.listen.socket().cloned());
    let observer = admin.zip(observer).map(|(socket, config)| observer::Observer::new(config, socket, files, report));
    let stopped = runtime.block_on(async {
        let (events, heard) = mpsc::channel(EVENTS);
        let log_key = bundle.log_key;
        let mut supervisor =
            Supervisor::new(launcher, run_as, (listeners, access_logs), bundle, config.proxy.drain, events, programs);
        supervisor.observer_as = resolved.observer_as.or(run_as);
        supervisor.spent = spent;
        let mut service = Service::new(path, config, &mut guard, supervisor, observer, warnings, operators);
        service.count_on(restarts);
        service.take_over(living)?;
        (service.launcher, service.reloading.in_force, service.resolved) = (facts, provenance, resolved);
        service.watched.files.renewed(named);
        service.reloading.not_loaded = not_loaded;
        service.reloading.waiting = reload.map(|actor| ReloadRequest::new(actor, None, false));
        // The same principals have the same hashes in the log.
        if log_key != [0; 32] {
            service.access_log.key = log_key;
        }
        let stopped = serve(&mut service, control, heard).await;
        let has_served = service.supervisor.ever_ready;
        anyhow::Ok((stopped, service.last_anchors(), has_served))
    });
    // Without a service nothing was begun.
    let (stopped, anchors, has_served) = match stopped {
        Ok((stopped, anchors, has_served)) => (stopped, Some(anchors), has_served),
        Err(error) => (Err(error), None, false),
    };
    let reason = stopped.as_ref().map_or_else(with_causes, |reason| (*reason).to_owned());
    let is_first = pins.keep();
    let detach = detach_on_exit && reason != UPGRADED || is_first && !has_served && stopped.is_err();
    let head = guard.sign_off(&reason, detach, Now::read());
    let ended = guard.stop(detach);
    if let Some((anchors, head)) = anchors.zip(head).filter(|_| reason != UPGRADED) {
        runtime.block_on(anchors.send(&head));
    }
    leave(runtime);
    ended.map_err(|refused| anyhow!("{refused}"))?;
    // The next guard may start once the lock is gone.
    remove(&control_socket);
    admin_socket.iter().for_each(|socket| remove(socket));
    drop(lock);
    stopped.map(|_reason| ())
}

/// What the audit chain is told of the start.
fn start_record(config: &Path, drops: &dyn Enforcement) -> Map<String, Value> {
    let interfaces: Vec<_> = drops.interfaces().iter().map(|at| &at.name).collect();
    audit::members(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "config": config.display().to_string(),
        "xdp": interfaces,
    }))
}

/// Ends the runtime without waiting for the compression of a large log, as dropping it would.
fn leave(runtime: Runtime) {
    runtime.shutdown_timeout(LAST_WORK);
}

/// What a guard begins with.
struct InitialState {
    prepared: PreparedConfig,
    /// Where it came from.
    provenance: Provenance,
    resolved: ResolvedNames,
    /// What proxies are made from.
    proxies: ProgramId,
    restarts: Restarts,
    /// Who wants a reload that the guard before this one could not do.
    reload: Option<Actor>,
    /// What budgets have spent.
    spent: Vec<SpentBudgets>,
}

/// What an earlier guard of this launcher had in force, or what the file says. `own` is what this guard is.
fn configuration(
    path: &Path,
    kept: Option<OwnedFd>,
    launcher: &mut launcher::Launcher,
    own: ProgramId,
) -> Result<InitialState> {
    match kept.map(Kept::open) {
        Some(Ok(kept)) => {
            let Kept {
                bundle,
                observer,
                provenance,
                named,
                operators,
                resolved,
                spent,
                guard,
                proxies,
                restarts,
                reload,
            } = kept;
            let prepared = prepare_again(bundle, observer, operators, named)?;
            // What another program could compile may be too much for this one. Its proxies are replaced as well.
            let is_same = guard == own;
            if !is_same {
                compile(launcher, &prepared, resolved.run_as, own)?;
            }
            let proxies = if is_same { proxies } else { own };
            return Ok(InitialState { prepared, provenance, resolved, proxies, restarts, reload, spent });
        }
        Some(Err(error)) => {
            tracing::warn!("the configuration is read anew, what was in force is not understood: {error}")
        }
        None => {}
    }
    let (prepared, digest) = read(path, &Disk);
    let prepared = prepared?;
    let resolved = ResolvedNames::find(&prepared.config)?;
    compile(launcher, &prepared, resolved.run_as, own)?;
    let provenance = Provenance { since: Now::read().unix_millis, by: "start".to_owned(), digest };
    Ok(InitialState {
        prepared,
        provenance,
        resolved,
        proxies: own,
        restarts: Restarts::default(),
        reload: None,
        spent: Vec::new(),
    })
}

/// Where the guard goes on writing.
fn writes(config: &Config) -> Vec<Writes> {
    let settings = &config.guard;
    let guard::Settings { state_dir, control_socket, pin_dir, .. } = settings;
    let mut writes = vec![Writes::Everything(state_dir.clone()), Writes::Socket(control_socket.clone())];
    // Pins may have to be made again, with their folder. The folder above holds other programs' pins, or is no bpffs.
    writes.push(Writes::Everything(pin_dir.clone()));
    writes.extend(pin_dir.parent().filter(|above| is_bpffs(above)).map(|above| Writes::Everything(above.to_owned())));
    writes.extend(around_bpffs(pin_dir).map(|around| Writes::Mounted(around.to_owned())));
    writes.extend(config.proxy.access_log.files().map(|file| match file.rotate {
        Some(_) => Writes::Rotated(file.path.clone()),
        None => Writes::Log(file.path.clone()),
    }));
    let admin = config.admin.as_ref().and_then(|admin| admin.listen.socket());
    writes.extend(admin.cloned().map(Writes::Socket));
    // Only what is there can be named: an anchor whose folder is missing is told of once it is written to.
    let anchors = settings.audit.anchors.iter().filter_map(|anchor| match &anchor.target {
        AnchorTarget::File(path) => Some(path.clone()),
        _ => None,
    });
    writes.extend(anchors.filter(|path| path.parent().is_some_and(Path::exists)).map(Writes::Log));
    writes
}

/// The folder in which the BPF file system of the pins is mounted, or would be. Never the root or a folder in it, such as
/// `/run`: too much else is there.
fn around_bpffs(pin_dir: &Path) -> Option<&Path> {
    let mounted = if pin_dir.starts_with(guard::BPFFS) {
        Some(Path::new(guard::BPFFS))
    } else {
        pin_dir.ancestors().take_while(|folder| is_bpffs(folder)).last()
    };
    mounted?.parent().filter(|around| around.ancestors().count() > 2)
}

fn is_bpffs(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == 0xcafe_4a11)
}

fn remove(socket: &Path) {
    if let Err(error) = fs::remove_file(socket) {
        tracing::warn!(%error, socket = %socket.display(), "a socket stays");
    }
}

/// What the guard listens on and writes requests to.
struct OpenFiles {
    /// For each listener of the proxy, one for each of its workers.
    listeners: Vec<Vec<OwnedFd>>,
    admin: Option<OwnedFd>,
    access_logs: Vec<File>,
    control: UnixListener,
}

/// Opens every socket and every access log. `observes`: an observer runs already.
fn open(
    config: &Config,
    resolved: &ResolvedNames,
    launcher: &mut launcher::Launcher,
    observes: bool,
) -> Result<OpenFiles> {
    let (settings, workers) = (&config.guard, config.proxy.workers);
    let bind = |listener: &Listener| launcher.bind(LISTENER, listener.address, workers, PORT_TIMEOUT);
    let sockets = config.proxy.listeners.iter().map(bind);
    let listeners = sockets.collect::<Result<Vec<_>, _>>()?;
    let group = resolved.run_as.map(|run_as| run_as.gid);
    let admin = config.admin.as_ref().map(|admin| socket::bind(&admin.listen, launcher, group, observes));
    let admin = admin.transpose().map_err(|error| {
        let hint = "a path in a folder that is there: socket = \"/run/gateway/admin.sock\"";
        if error.is::<SocketError>() { error } else { unusable(config, "admin.socket", hint, &error) }
    })?;
    let access_logs = open_logs(&config.proxy.access_log).map_err(|closed| {
        let hint = "the path of a file, in a folder that is there or can be made: \"/var/log/gateway/access.log\"";
        unusable(config, &closed.key(&config.document), hint, &closed.error)
    })?;
    let control = &settings.control_socket;
    let control = server::bind(control, settings.control_mode, resolved.control_group).map_err(|error| {
        let hint = "a path in a folder of its own: control_socket = \"/run/gateway/control.sock\"";
        let error = anyhow::Error::new(error).context(format!("{} cannot be made", control.display()));
        unusable(config, "guard.control_socket", hint, &error)
    })?;
    Ok(OpenFiles { listeners, admin, access_logs, control })
}

/// What reasons have that say themselves what to do.
const SAY_WHAT_TO_DO: [&str; 4] = ["another guard.", "has to be started", "start the reader", "`rotate = false`"];

/// What is wrong with a setting that only a start can tell: where it stands, the key, the reason, and what would be right.
fn unusable(config: &Config, key: &str, right: &str, error: &anyhow::Error) -> anyhow::Error {
    let (place, reason) = (config.document.place(key), with_causes(error));
    let hint = match () {
        () if SAY_WHAT_TO_DO.iter().any(|words| reason.contains(words)) => String::new(),
        () if !geteuid().is_root() => ": `gateway run` has to be started as root".to_owned(),
        () if reason.contains("another gateway") => format!(": stop it, or write {right}"),
        () => format!(": write {right}"),
    };
    anyhow!("{place}: {key}: {reason}{hint}")
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_stop_does_not_wait_for_a_compression() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap_err();
        });
        begins.recv().unwrap();
        let (left, leaves) = mpsc::channel();
        thread::spawn(move || {
            leave(runtime);
            left.send(()).unwrap();
        });
        leaves.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(end);
    }
}
