//! Starts the guard: everything that needs rights first, then the rights are given up, then it serves. When that ends it
//! stops.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::{Uid, User, geteuid};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    access_log::{make_folder, open_logs},
    event_loop::serve,
    prepare::{Prepared, ports, prepare},
    service::Service,
    state::{self, OpenedState},
};
use crate::{
    clock::Now,
    config::{Config, Diagnostics},
    guard::{
        audit,
        bans::{Guard, Parts},
        control::server,
        enforcement::{AtAccept, Enforcement},
        kernel::{self, Kernel, KernelError},
        observer::{Observer, socket},
        operators,
        proxies::{
            listeners,
            program::Program,
            supervisor::{RunAs, Supervisor},
        },
        state_files::lock::lock,
    },
    os,
    sandbox::{self, Writes},
    settings::{
        audit::Target,
        guard::{Mode, Settings},
    },
};

/// How many messages of proxies wait to be heard, of all of them together. The rest waits with whoever says it.
const EVENTS: usize = 64;

/// `gateway run`: becomes the guard and stays until a signal ends it. A clean stop leaves link and maps pinned, so
/// that bans go on, unless `detach_on_exit`.
///
/// Ends with 0 after a clean stop, 2 if the configuration is not valid, 1 if anything else keeps it from running.
pub fn main(config: &Path, detach_on_exit: bool) -> ExitCode {
    log();
    match run(config, detach_on_exit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Diagnostics>() => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            if io::stderr().is_terminal() {
                eprintln!("gateway: {error:#}");
            } else {
                tracing::error!("{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(io::stderr).with_env_filter(filter);
    if log.try_init().is_err() {
        eprintln!("gateway: the log was set up twice");
    }
}

fn run(path: &Path, detach_on_exit: bool) -> Result<()> {
    let path = std::path::absolute(path).unwrap_or_else(|_error| path.to_owned());
    let Prepared { config, bundle, observer, protected, operators, warnings } = prepare(&path)?;
    for warning in &warnings {
        tracing::warn!("configuration: {warning}");
    }
    // What only a restart can change, unlike what a configuration is warned of.
    let mut standing = Vec::new();
    let run_as = run_as(&config.proxy.user, &mut standing)?;
    let settings = &config.guard;
    make_folder(&settings.state_dir, 0o750)?;
    let lock = lock(&settings.state_dir)?;
    let drops = drop_path(settings, &ports(&config.proxy), &mut standing)?;
    let OpenedState { store, audit, findings, is_behind } =
        state::open(&settings.state_dir).with_context(|| format!("{}", settings.state_dir.display()))?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let start = audit::members(json!({"version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
        "config": path.display().to_string(), "xdp": drops.interfaces().iter().map(|at| &at.name).collect::<Vec<_>>()}));
    let parts = Parts {
        settings: settings.clone(),
        rules: config.proxy.detect.rules.clone(),
        protected,
        store,
        audit,
        drops,
        boot,
        findings,
        is_behind,
        standing,
    };
    let mut guard = Guard::start(parts, start, Now::read()).map_err(|refused| anyhow!("{refused}"))?;

    let sockets = config
        .proxy
        .listeners
        .iter()
        .map(|listener| listeners::bind(listener.address, config.proxy.workers, listeners::PATIENCE));
    let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    let admin = config.admin.as_ref().map(|admin| socket::bind(&admin.listen, run_as.map(|run_as| run_as.gid)));
    let admin = admin.transpose()?;
    let access_logs = open_logs(&config.proxy.access_log)?;
    let group = operators::control_group(settings)?;
    let control = server::bind(&settings.control_socket, settings.control_mode, group)
        .with_context(|| format!("guard.control_socket {}", settings.control_socket.display()))?;

    let program = Program::running().context("the program that runs")?;
    if let Err(error) = os::take_short_turns() {
        tracing::debug!(%error, "the guard waits for its turn as everybody does");
    }
    let report = sandbox::guard(&writes(&config))?;
    tracing::info!(sandbox = %report, "the guard has what it needs and gave up the rest");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control_socket = settings.control_socket.clone();
    let admin_socket = config.admin.as_ref().and_then(|admin| admin.listen.socket().cloned());
    let observer = admin.zip(observer).map(|(socket, config)| Observer::new(config, socket, report));
    let stopped = runtime.block_on(async {
        let (events, heard) = mpsc::channel(EVENTS);
        let supervisor = Supervisor::new(run_as, sockets, access_logs, bundle, config.proxy.drain, events, program);
        let service = Service::new(path, config, &mut guard, supervisor, observer, warnings, operators);
        serve(service, control, heard).await
    });
    let reason = stopped.as_ref().map_or_else(|error| format!("{error:#}"), |reason| (*reason).to_owned());
    guard.stop(&reason, detach_on_exit, Now::read()).map_err(|refused| anyhow!("{refused}"))?;
    // The next guard may start once the lock is gone.
    remove(&control_socket);
    admin_socket.iter().for_each(|socket| remove(socket));
    drop(lock);
    stopped.map(|_reason| ())
}

/// Where the guard goes on writing.
fn writes(config: &Config) -> Vec<Writes> {
    let settings = &config.guard;
    let Settings { state_dir, control_socket, pin_dir, .. } = settings;
    let mut writes = vec![Writes::Everything(state_dir.clone()), Writes::Socket(control_socket.clone())];
    // Pins may have to be made again, with their folder. The folder above holds other programs' pins, or is no bpffs.
    writes.push(Writes::Everything(pin_dir.clone()));
    writes.extend(pin_dir.parent().filter(|above| is_bpffs(above)).map(|above| Writes::Everything(above.to_owned())));
    writes.extend(config.proxy.access_log.files().map(|file| match file.rotate {
        Some(_) => Writes::Rotated(file.path.clone()),
        None => Writes::Log(file.path.clone()),
    }));
    let admin = config.admin.as_ref().and_then(|admin| admin.listen.socket());
    writes.extend(admin.cloned().map(Writes::Socket));
    // Only what is there can be named: an anchor whose folder is missing is told of once it is written to.
    let anchors = settings.audit.anchors.iter().filter_map(|anchor| match &anchor.target {
        Target::File(path) => Some(path.clone()),
        _ => None,
    });
    writes.extend(anchors.filter(|path| path.parent().is_some_and(Path::exists)).map(Writes::Log));
    writes
}

fn is_bpffs(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == 0xcafe_4a11)
}

fn remove(socket: &Path) {
    if let Err(error) = fs::remove_file(socket) {
        tracing::warn!(%error, socket = %socket.display(), "a socket stays");
    }
}

/// Whom the proxy runs as; `None`: as the guard itself, which has no right to become anybody else.
fn run_as(name: &str, standing: &mut Vec<String>) -> Result<Option<RunAs>> {
    let found = match name.parse::<u32>() {
        Ok(uid) => {
            let gid = User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or(uid, |user| user.gid.as_raw());
            Some(RunAs { uid, gid })
        }
        Err(_name) => User::from_name(name)?.map(|user| RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
    };
    if !geteuid().is_root() {
        if found.is_none_or(|found| found.uid != geteuid().as_raw()) {
            standing.push(format!("the proxy does not run as {name} but as the guard does, which is not root"));
        }
        return Ok(None);
    }
    let Some(found) = found else {
        bail!("proxy.user: there is no user {name}: `useradd --system {name}`, or name another one");
    };
    if found.uid == 0 {
        bail!("proxy.user: the proxy must not be root: `useradd --system gateway`, and name that user");
    }
    Ok(Some(found))
}

/// Loads the kernel program, or does without where that is what was asked for, the rights are missing, or the kernel
/// refuses it and no mode was demanded.
fn drop_path(settings: &Settings, ports: &[u16], standing: &mut Vec<String>) -> Result<Box<dyn Enforcement>> {
    let without = if settings.interfaces.is_empty() {
        "guard.interfaces is empty: no packet is dropped in the kernel, bans are enforced when connections are accepted"
            .to_owned()
    } else {
        match Kernel::load(settings, ports) {
            Ok(kernel) => {
                for at in kernel.interfaces() {
                    let note = at.note.as_deref().unwrap_or_default();
                    tracing::info!(
                        interface = at.name,
                        native = at.native,
                        adopted = at.adopted,
                        note,
                        "XDP is attached"
                    );
                }
                for what in kernel.left_out() {
                    tracing::warn!("{what}");
                }
                standing.extend_from_slice(kernel.left_out());
                return Ok(Box::new(kernel));
            }
            Err(error @ (KernelError::NotPermitted { .. } | KernelError::NoBpffs { .. })) => {
                format!("no packet is dropped in the kernel, bans are enforced when connections are accepted: {error}")
            }
            Err(error @ KernelError::Shared(_)) if settings.mode == Mode::Auto => {
                format!("no packet is dropped in the kernel, bans are enforced when connections are accepted: {error}")
            }
            Err(error) if settings.mode == Mode::Auto && error.is_refusal() => {
                // What an earlier program still did could not be undone by anybody.
                let left = match kernel::remove(&settings.pin_dir) {
                    Ok(removed) if removed.links > 0 => "; an earlier program was detached".to_owned(),
                    Ok(_nothing_attached) => String::new(),
                    Err(error) => format!("; {error}"),
                };
                format!(
                    "no packet is dropped in the kernel, bans are enforced when connections are accepted: {error}{left}"
                )
            }
            Err(error) => return Err(error.into()),
        }
    };
    tracing::warn!("{without}");
    standing.push(without);
    Ok(Box::new(AtAccept::default()))
}
