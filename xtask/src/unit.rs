//! `cargo xtask unit`: tries the systemd unit: started, reloaded, upgraded, killed and stopped by the systemd of each
//! Debian that it is meant for, booted in a container.
#![expect(clippy::print_stdout, reason = "what was found is its result")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{build, places::root, step};

/// What `cargo xtask unit` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Debian's releases, by their code names.
    #[arg(default_values = ["bookworm", "trixie"])]
    suites: Vec<String>,
    /// Where packages come from.
    #[arg(long, default_value = "http://deb.debian.org/debian")]
    mirror: String,
}

/// What a tree needs besides a minimal Debian.
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus,iproute2,procps,curl,ca-certificates";

/// Starts the trial once the machine is up.
const TIMER: &str = "[Timer]\nOnBootSec=1\n";
const SERVICE: &str =
    "[Unit]\nAfter=multi-user.target\nFailureAction=poweroff-force\n[Service]\nType=oneshot\nExecStart=/trial.sh\n";

/// Runs in a namespace of mounts: systemd asks for a /run of the host's systemd, and for a bpffs of its own.
const BOOT: &str = r#"set -e
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd /run/bpf; mount -t bpf bpf /run/bpf
exec timeout 300 systemd-nspawn -q -D "$1" --register=no --keep-unit --network-veth --capability=all \
  --system-call-filter="bpf perf_event_open landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
  --bind=/run/bpf:/sys/fs/bpf --console=pipe -b"#;

/// Builds the product and tries the unit under each.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("unit needs root, to make and boot trees of Debian");
    }
    for (program, package) in [("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")] {
        step::need(program, package)?;
    }
    build::run(&build::Arguments::default())?;
    let mut failed = Vec::new();
    for suite in &arguments.suites {
        let tree = boot(suite, &arguments.mirror)?;
        let result = fs::read_to_string(tree.join("result")).context("the trial said nothing")?;
        println!("{suite}:");
        for line in result.lines() {
            println!("  {line}");
        }
        if result.contains("FAILED") || !result.lines().any(|line| line == "end") {
            failed.push(format!("{suite} (its journal: {})", tree.join("journal").display()));
        }
    }
    if !failed.is_empty() {
        bail!("the unit does not do what it should: {}", failed.join(", "));
    }
    Ok(())
}

/// A tree with the product in it, after it was booted and has switched itself off.
fn boot(suite: &str, mirror: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/unit");
    fs::create_dir_all(&folder)?;
    let [plain, tree] = [folder.join(suite), folder.join(format!("{suite}-run"))];
    if !plain.join("usr/lib/systemd/systemd").exists() {
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", PACKAGES, suite]).arg(&plain).arg(mirror);
        step::step(&format!("a tree of {suite}"), debootstrap.stdout(Stdio::null()))?;
    }
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    step::step("its copy", Command::new("cp").args(["-a", "--reflink=auto"]).args([&plain, &tree]))?;
    furnish(&tree)?;
    let mut boot = Command::new("unshare");
    boot.args(["-m", "--propagation", "private", "sh", "-c", BOOT, "sh"]).arg(&tree).stdin(Stdio::null());
    let console = fs::File::create(folder.join(format!("{suite}.log")))?;
    step::step(&format!("{suite}, booted"), boot.stdout(console.try_clone()?).stderr(console))?;
    Ok(tree)
}

fn furnish(tree: &Path) -> anyhow::Result<()> {
    let units = tree.join("etc/systemd/system");
    let write = |path: PathBuf, text: &str| -> anyhow::Result<()> {
        fs::create_dir_all(path.parent().context("a path of a file")?)?;
        fs::File::create(&path)?.write_all(text.as_bytes())?;
        Ok(())
    };
    write(tree.join("etc/gateway/gateway.toml"), include_str!("unit/gateway.toml"))?;
    write(units.join("gateway.service"), include_str!("../../packaging/gateway.service"))?;
    write(tree.join("etc/sysusers.d/gateway.conf"), include_str!("../../packaging/gateway.sysusers"))?;
    write(units.join("trial.service"), SERVICE)?;
    write(units.join("trial.timer"), TIMER)?;
    fs::create_dir_all(units.join("timers.target.wants"))?;
    symlink("../trial.timer", units.join("timers.target.wants/trial.timer"))?;
    write(tree.join("trial.sh"), include_str!("unit/trial.sh"))?;
    fs::set_permissions(tree.join("trial.sh"), fs::Permissions::from_mode(0o755))?;
    fs::copy(root().join("target/debug/gateway"), tree.join("usr/local/bin/gateway"))?;
    Ok(())
}
