//! Prepares a configuration to be put in force: it is read and valid, and its protected known. Another process compiles it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use nix::{
    net::if_::if_nametoindex,
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        statvfs::{FsFlags, statvfs},
    },
};

use crate::{
    config::{Config, Diagnostics, Files, RecordingFiles},
    diagnostic::Diagnostic,
    guard::{
        bans::ProtectedAddresses, cluster, kernel, lifecycle::files::named_files::NamedFiles, operators::Operators,
        processes::proxies::listeners,
    },
    message::{Bundle, observer::ObserverConfig},
    settings::{
        self,
        guard::{self, AttachMode},
    },
    tls,
};

/// A configuration that can be put in force.
pub(crate) struct PreparedConfig {
    pub(crate) config: Config,
    pub(crate) bundle: Bundle,
    /// `None`: there is no admin listener.
    pub(crate) observer: Option<ObserverConfig>,
    pub(crate) protected: ProtectedAddresses,
    /// Who may do what.
    pub(crate) operators: Operators,
    /// What works and is unwise, or could not be found out.
    pub(crate) warnings: Vec<String>,
    /// The files that it names, which are watched.
    pub(crate) named: NamedFiles,
}

/// Reads the configuration at `path`, for another process to compile. Takes as long as resolving the upstreams' names takes.
/// Says as well which file it was.
pub(crate) fn read(path: &Path, files: &dyn Files) -> (Result<PreparedConfig, Diagnostics>, String) {
    let recorder = RecordingFiles::new(files);
    let config = Config::load(path, &recorder);
    let files = recorder.contents();
    let digest = files.get(path).map(|text| digest(text)).unwrap_or_default();
    (config.and_then(|config| complete(config, files)), digest)
}

/// SHA-256, as `sha256sum` writes it.
fn digest(text: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text).as_ref())
}

fn complete(config: Config, mut files: BTreeMap<PathBuf, Arc<[u8]>>) -> Result<PreparedConfig, Diagnostics> {
    let observer =
        beside(&config).map_err(|diagnostics| Diagnostics::from_diagnostics(&config.document, diagnostics))?;
    let named = NamedFiles::new(&config, &files);
    for secret in config.observer_secrets() {
        // They are the observer's alone: the proxy, which reads the same configuration, finds them empty.
        if !config.proxy.tls_files().any(|file| file.path == secret.path) {
            files.insert(secret.path.clone(), Arc::default());
        }
    }
    let bundle = Bundle::new(&config.document, files);
    let operators = Operators::find(&config.guard);
    let operators = operators.map_err(|diagnostics| Diagnostics::from_diagnostics(&config.document, diagnostics))?;
    Ok(look(config, bundle, observer, operators, named))
}

/// Prepares a configuration that was in force again: nothing is read from the disk, and nobody is looked for who may have
/// gone from this host meanwhile.
///
/// # Errors
/// It was in force by another program, which had other rules.
pub(crate) fn prepare_again(
    bundle: Bundle,
    observer: Option<ObserverConfig>,
    operators: Operators,
    named: NamedFiles,
) -> Result<PreparedConfig, Diagnostics> {
    let config = Config::load(&bundle.path, &bundle)?;
    Ok(look(config, bundle, observer, operators, named))
}

/// Finds what this host has of what the configuration names.
fn look(
    config: Config,
    bundle: Bundle,
    observer: Option<ObserverConfig>,
    operators: Operators,
    named: NamedFiles,
) -> PreparedConfig {
    let (protected, unknown) = ProtectedAddresses::look(&servers(&config.proxy), true);
    let host = host(&config.guard);
    let files = open_files(&config.proxy);
    let unwise = config.warnings.iter().chain(&host).chain(&files).map(ToString::to_string);
    let warnings = unwise.chain(unknown).collect();
    PreparedConfig { config, bundle, observer, protected, operators, warnings, named }
}

/// What the observer needs. Looks at all that only guard and observer read: the key of this machine, files of `[admin]`,
/// of receivers and of anchors.
///
/// # Errors
/// Everything that is not what it should be.
pub(crate) fn beside(config: &Config) -> Result<Option<ObserverConfig>, Vec<Diagnostic>> {
    let anchors = config.guard.audit.anchors.iter().enumerate();
    let anchors = anchors.filter_map(|(index, anchor)| {
        let fault = tls::outgoing(&anchor.ca.as_ref()?.bytes).err()?;
        Some(fault.under(&format!("audit.anchor[{index}]")))
    });
    let mut faults: Vec<Diagnostic> = anchors.collect();
    faults.extend(config.proxy.cluster.as_ref().map(cluster::judge).unwrap_or_default());
    let new = |admin| {
        let lists = (&*config.guard.feeds, config.guard.crowdsec.as_ref());
        let alerts = (&config.alerts, config.anomalies.as_ref());
        ObserverConfig::new(admin, config.traces.as_ref(), &config.otlp, alerts, lists)
    };
    let observer = config.admin.as_ref().map(new).transpose().unwrap_or_else(|more| {
        faults.extend(more);
        None
    });
    if faults.is_empty() { Ok(observer) } else { Err(faults) }
}

/// What of this host keeps a setting from having its effect.
pub(crate) fn host(settings: &guard::Settings) -> Option<Diagnostic> {
    settings.syn_cookies?;
    cookies(fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").ok().as_deref())
}

/// What the configuration names and this host does not have. The gateway waits for all of it, and says so; here the
/// configuration may be meant for another machine.
pub(crate) fn absent(config: &Config) -> Vec<Diagnostic> {
    let interfaces =
        config.guard.interfaces.iter().enumerate().filter(|(_, name)| if_nametoindex(name.as_str()).is_err());
    let interfaces = interfaces.map(|(index, name)| {
        let diagnostic =
            Diagnostic::new(format!("guard.interfaces[{index}]"), format!("there is no interface {name} here"));
        diagnostic.hint("`ip link` lists those that there are; the gateway waits for one that comes later")
    });
    let listeners = config.proxy.listeners.iter().enumerate();
    let listeners = listeners.filter(|(_, listener)| !listeners::is_here(listener.address)).map(|(index, listener)| {
        let what = format!("no interface here has the address {}", listener.address.ip());
        let diagnostic = Diagnostic::new(format!("listener[{index}].address"), what);
        diagnostic.hint("`ip address` lists those that there are; the gateway waits for one that comes later")
    });
    let feeds = config.guard.feeds.iter().enumerate().filter_map(|(index, feed)| {
        let diagnostic = Diagnostic::new(format!("feed[{index}].path"), unread(feed.path()?)?);
        Some(diagnostic.hint("the feed lists nothing until the file is there; the gateway looks for it all the time"))
    });
    let revoked = config.guard.revocation.file.as_deref().and_then(unread).map(|what| {
        let what =
            format!("{what}: what it revokes is not known, and `revocation.unavailable` says what becomes of tokens");
        Diagnostic::new("revocation.file", what)
            .hint("a file with a comment (#) alone revokes nothing; the gateway looks for it all the time")
    });
    let operators = Operators::find(&config.guard).err().unwrap_or_default();
    interfaces.chain(listeners).chain(feeds).chain(revoked).chain(operators).collect()
}

/// Why a file cannot be read; `None`: nothing is wrong with it.
fn unread(path: &Path) -> Option<String> {
    let why = match fs::metadata(path) {
        Ok(found) if found.is_file() => return None,
        Ok(_) => "it is not a regular file".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("{} cannot be read: {why}", path.display()))
}

/// Whether the proxy may open fewer files than it needs for its connections: it raises its limit as far as it may.
pub(crate) fn open_files(settings: &settings::proxy::Settings) -> Option<Diagnostic> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum?;
    too_few(settings, usize::try_from(limit).unwrap_or(usize::MAX))
}

fn too_few(settings: &settings::proxy::Settings, limit: usize) -> Option<Diagnostic> {
    let (wanted, most) = (settings.max_connections, settings.connections_within(limit));
    let what = format!("{wanted} connections exceed the open-file limit of {limit}: using {most}");
    let diagnostic = Diagnostic::new("proxy.max_connections", what);
    (most < wanted).then(|| diagnostic.hint("raise LimitNOFILE (ulimit -Hn), or lower `proxy.max_connections`"))
}

/// The kernel program sends the network stack's own cookies: where that has none, there are none.
fn cookies(sysctl: Option<&str>) -> Option<Diagnostic> {
    let what = match sysctl.map(str::trim) {
        Some("1" | "2") => return None,
        Some(_) => "has no effect: the network stack has no SYN cookies (net.ipv4.tcp_syncookies is 0)",
        None => "may have no effect: net.ipv4.tcp_syncookies cannot be read, and must not be 0",
    };
    Some(Diagnostic::new("guard.syn_cookies", what).hint("sysctl -w net.ipv4.tcp_syncookies=1"))
}

/// What this kernel makes of the program: asked of the kernel itself, where one may.
pub(crate) fn program(settings: &guard::Settings) -> Vec<Diagnostic> {
    if settings.interfaces.is_empty() {
        return Vec::new();
    }
    let diagnostic =
        |what: String| Diagnostic::new("guard.interfaces", what).hint("see docs/kernels.md for what each kernel gives");
    match kernel::trial() {
        Ok(left_out) => left_out.into_iter().map(diagnostic).collect(),
        Err(error) if error.is_refusal() && settings.mode == AttachMode::Auto => {
            vec![diagnostic(format!("bans would be enforced when connections are accepted: {error}"))]
        }
        Err(error) if error.is_refusal() => {
            vec![diagnostic(format!("with this guard.mode the gateway would not start: {error}"))]
        }
        // Whoever may not load it is told nothing: the configuration may be meant for another machine.
        Err(_not_looked_at) => Vec::new(),
    }
}

/// What keeps a start from pinning anything. A service may be kept from more than this command is.
pub(crate) fn pins(settings: &guard::Settings) -> Option<Diagnostic> {
    let there = settings.pin_dir.ancestors().find(|folder| folder.exists())?;
    let is_read_only = statvfs(there).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    // Where there is no BPF file system yet, one is mounted over what is there.
    let is_bpffs = statfs(there).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    (is_read_only && is_bpffs && !settings.interfaces.is_empty()).then(|| read_only_pins(settings.mode))
}

fn read_only_pins(mode: AttachMode) -> Diagnostic {
    let then = match mode {
        AttachMode::Auto => "bans would be enforced when connections are accepted",
        AttachMode::Generic | AttachMode::Native => "with this guard.mode the gateway would not start",
    };
    let diagnostic = Diagnostic::new("guard.pin_dir", format!("its BPF file system is read-only: {then}"));
    diagnostic.hint("mount it writable, as in `mount -o remount,rw /sys/fs/bpf`")
}

fn servers(settings: &settings::proxy::Settings) -> Vec<String> {
    settings
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.servers.iter().map(|server| server.address.clone()))
        .collect()
}

/// Who vouches for tokens, by URL.
pub(crate) fn identity_providers(settings: &settings::proxy::Settings) -> Vec<String> {
    let issuers = settings.auth.jwt.iter().flat_map(|jwt| &jwt.issuers);
    let issuers =
        issuers.flat_map(|it| [Some(it.issuer.clone()), it.keys.fetch().map(|fetch| fetch.url.to_string())]).flatten();
    issuers.chain(settings.auth.introspection.iter().map(|server| server.endpoint.url().to_string())).collect()
}

/// The ports that packets are judged for.
pub(crate) fn ports(settings: &settings::proxy::Settings) -> Vec<u16> {
    settings.listeners.iter().map(|listener| listener.address.port()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections a proxy with `max_connections` takes at this limit, and whether that is warned of.
    #[track_caller]
    fn check(max_connections: usize, limit: usize, expect: usize) {
        let text = format!(
            "[proxy]\nmax_connections = {max_connections}\n[[listener]]\naddress = \"127.0.0.1:80\"\n[[route]]\n\
             path = \"/\"\nrequire = [\"public\"]\nrespond = {{ status = 200 }}\n"
        );
        let bundle = Bundle { path: "gateway.toml".into(), text, ..Bundle::default() };
        let config = Config::load(Path::new("gateway.toml"), &bundle).unwrap();
        assert_eq!(config.proxy.connections_within(limit), expect, "{max_connections} {limit}");
        let diagnostic = too_few(&config.proxy, limit).map(|diagnostic| diagnostic.to_string());
        let says = format!("{max_connections} connections exceed the open-file limit of {limit}: using {expect}");
        assert_eq!(diagnostic.is_some(), expect < max_connections, "{max_connections} {limit}");
        assert!(diagnostic.is_none_or(|diagnostic| diagnostic.contains(&says)));
    }

    #[test]
    fn descriptors_are_kept_for_servers() {
        check(20_000, usize::MAX, 20_000);
        check(20_000, 20_000, 17_500);
        check(100, 1_024, 100);
        check(1_000, 200, 136);
        check(10, 10, 1);
    }

    #[test]
    fn files_that_are_not_there_yet_are_warned_of() {
        for (file, expect) in [
            ("/nowhere/revoked.txt", "/nowhere/revoked.txt cannot be read: No such file"),
            ("/proc", "/proc cannot be read: it is not a regular file"),
            ("/proc/self/status", ""),
        ] {
            let text = format!(
                "[revocation]\nfile = \"{file}\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n[[route]]\n\
                 path = \"/\"\nrequire = [\"public\"]\nrespond = {{ status = 200 }}\n"
            );
            let bundle = Bundle { path: "gateway.toml".into(), text, ..Bundle::default() };
            let config = Config::load(Path::new("gateway.toml"), &bundle).unwrap();
            let told = absent(&config).iter().map(ToString::to_string).find(|told| told.contains("revocation.file"));
            assert_eq!(told.is_some(), !expect.is_empty(), "{file}: {told:?}");
            assert!(told.is_none_or(|told| told.contains(expect)), "{file}");
        }
    }

    #[test]
    fn what_read_only_pins_mean() {
        for (mode, says) in [
            (AttachMode::Auto, "when connections are accepted"),
            (AttachMode::Generic, "would not start"),
            (AttachMode::Native, "would not start"),
        ] {
            let told = read_only_pins(mode).to_string();
            assert!(told.contains(says) && told.contains("guard.pin_dir"), "{told}");
        }
    }

    #[test]
    fn a_host_without_cookies() {
        for (sysctl, says) in [
            (Some("0\n"), Some("has no effect")),
            (Some("1\n"), None),
            (Some("2"), None),
            (None, Some("cannot be read")),
        ] {
            let diagnostic = cookies(sysctl).map(|diagnostic| diagnostic.to_string());
            assert_eq!(diagnostic.is_some(), says.is_some(), "{sysctl:?}");
            assert!(diagnostic.unwrap_or_default().contains(says.unwrap_or_default()), "{sysctl:?}");
        }
    }
}
