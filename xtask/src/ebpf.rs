//! Decides how the kernel program is built; the only place that knows the eBPF toolchain.
//!
//! The object is committed, so that building the product needs no eBPF toolchain. It is reproducible: the same bytes
//! from any checkout with the toolchain that is named beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    build::{cargo, root},
    setup, step,
};

const OBJECT: &str = "gateway/ebpf/guard.bpf.o";
const TOOLCHAIN: &str = "gateway/ebpf/toolchain.txt";
const TARGET: &str = "bpfel-unknown-none";

/// What `cargo xtask ebpf` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail unless the committed object is what its source gives, byte for byte.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds `gateway/ebpf/guard.bpf.o`, or checks it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure(setup::Level::All, setup::Consent::Ask)?;
    let (root, toolchain) = (root(), Toolchain::find()?);
    if !arguments.check {
        return renew(&root, &toolchain);
    }
    match compare(&root, &toolchain)? {
        Compared::Equal => Ok(()),
        Compared::OtherToolchain(why) => bail!("{why}"),
    }
}

/// As `--check`, but where there is another toolchain than the reference, it says so and goes on.
pub(crate) fn check_if_comparable() -> anyhow::Result<()> {
    setup::ensure(setup::Level::All, setup::Consent::Ask)?;
    if let Compared::OtherToolchain(why) = compare(&root(), &Toolchain::find()?)? {
        eprintln!("NOT CHECKED: {why}");
    }
    Ok(())
}

/// What came of comparing the committed object with its source.
enum Compared {
    Equal,
    /// Bytes say nothing here: why, and what would help.
    OtherToolchain(String),
}

fn renew(root: &Path, toolchain: &Toolchain) -> anyhow::Result<()> {
    let object = build(root, toolchain, &root.join("target/ebpf"))?;
    fs::create_dir_all(root.join("gateway/ebpf"))?;
    fs::write(root.join(OBJECT), &object).with_context(|| format!("{OBJECT} cannot be written"))?;
    fs::write(root.join(TOOLCHAIN), toolchain.describe()?).with_context(|| format!("{TOOLCHAIN} cannot be written"))?;
    eprintln!("{OBJECT}: {} bytes", object.len());
    Ok(())
}

fn compare(root: &Path, toolchain: &Toolchain) -> anyhow::Result<Compared> {
    let committed = fs::read(root.join(OBJECT))
        .with_context(|| format!("{OBJECT} is missing: build it with `cargo xtask ebpf` and commit it"))?;
    let (reference, found) = (fs::read_to_string(root.join(TOOLCHAIN)).unwrap_or_default(), toolchain.describe()?);
    if reference != found {
        return Ok(Compared::OtherToolchain(format!(
            "{OBJECT} cannot be checked here: bytes compare only between equal toolchains\n\
             it was built by:\n{reference}this machine has:\n{found}\
             Check it on Debian 12 (`cargo xtask setup --all` installs the reference there), or renew it with \
             `cargo xtask ebpf` and commit it together with {TOOLCHAIN}."
        )));
    }
    // A directory of its own: what is compared comes from the source, and from nothing that was built before.
    let target = root.join(format!("target/ebpf-check-{}", std::process::id()));
    let built = build(root, toolchain, &target);
    drop(fs::remove_dir_all(&target));
    let built = built?;
    if built != committed {
        let at = built.iter().zip(&committed).take_while(|(a, b)| a == b).count();
        bail!(
            "{OBJECT} is not what gateway-ebpf and gateway-common give: {} bytes committed, {} built, different from \
             byte {at} on, by {}. Renew it with `cargo xtask ebpf` and commit it.",
            committed.len(),
            built.len(),
            found.lines().collect::<Vec<_>>().join(", ")
        );
    }
    eprintln!("{OBJECT} is what its source gives, byte for byte");
    Ok(Compared::Equal)
}

/// A compiler for the target, and its core library.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// A stable compiler that comes with core for the target, as Debian's `libstd-rust-web-dev-bpf`.
    Precompiled(PathBuf),
    /// rustup's nightly, which builds core from `rust-src`, in this sysroot.
    Nightly(PathBuf),
}

impl Toolchain {
    /// The reference if it is there, else a nightly.
    pub(crate) fn find() -> anyhow::Result<Self> {
        Self::precompiled().or_else(Self::nightly).context(
            "no compiler for the kernel program: `cargo xtask setup --all` installs one (Debian 12: the packages \
             rustc-web and libstd-rust-web-dev-bpf; elsewhere: `rustup toolchain install nightly --component rust-src`)",
        )
    }

    pub(crate) fn precompiled() -> Option<Self> {
        let rustc = PathBuf::from("/usr/bin/rustc");
        let libraries = output(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET])).ok()?;
        let has_core = fs::read_dir(libraries.trim())
            .ok()?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"));
        has_core.then_some(Self::Precompiled(rustc))
    }

    pub(crate) fn nightly() -> Option<Self> {
        let sysroot = output(rustup("rustc").args(["--print", "sysroot"])).ok()?;
        let sysroot = PathBuf::from(sysroot.trim());
        sysroot.join("lib/rustlib/src/rust/library/core").is_dir().then_some(Self::Nightly(sysroot))
    }

    /// What decides the object's bytes, as two lines.
    fn describe(&self) -> anyhow::Result<String> {
        let verbose = match self {
            Self::Precompiled(rustc) => output(Command::new(rustc).arg("-vV"))?,
            Self::Nightly(_) => output(rustup("rustc").arg("-vV"))?,
        };
        let line = |prefix: &str| verbose.lines().find(|line| line.starts_with(prefix)).unwrap_or_default();
        let linker = output(Command::new("bpf-linker").arg("--version"))?;
        Ok(format!("{}, {}\n{}\n", line("rustc "), line("LLVM version"), linker.trim()))
    }

    /// Where the sources of a core library that comes compiled lie, if they are installed. The linker would put lines of
    /// them into the object, and no flag keeps it from that: the paths are in the library.
    fn sources(&self) -> Option<PathBuf> {
        let Self::Precompiled(rustc) = self else { return None };
        let verbose = output(Command::new(rustc).arg("-vV")).ok()?;
        let release = verbose.lines().find_map(|line| line.strip_prefix("release: "))?;
        Some(PathBuf::from(format!("/usr/src/rustc-{release}")))
    }

    /// A cargo command that uses it.
    fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Precompiled(rustc) => {
                let mut command = Command::new(cargo());
                // Core's intrinsics need a compiler that lets unstable features be used.
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly(_) => rustup("cargo"),
        };
        // Nothing of the caller's environment may decide bytes.
        for name in
            ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR"]
        {
            command.env_remove(name);
        }
        command
    }
}

/// The stripped object, from source.
fn build(root: &Path, toolchain: &Toolchain, target: &Path) -> anyhow::Result<Vec<u8>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = vec![
        // One object serves every architecture; the program touches nothing that differs.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Compare-and-swap; Linux 5.12.
        "-Ctarget-cpu=v3".to_owned(),
        format!("--remap-path-prefix={}=/gateway", root.display()),
    ];
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    let mut command = toolchain.cargo();
    command
        .current_dir(root.join("gateway-ebpf"))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(target);
    if let Toolchain::Nightly(sysroot) = toolchain {
        command.arg("-Zbuild-std=core");
        flags.push(format!("--remap-path-prefix={}=/rust", sysroot.display()));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if let Some(sources) = toolchain.sources().filter(|sources| sources.exists()) {
        command = without(&command, &sources);
    }
    if !command.status().context("cargo does not start")?.success() {
        bail!("the kernel program does not build");
    }
    strip(toolchain, &target.join(TARGET).join("release/guard"))
}

/// The same command where nothing is to be seen in `folder`.
fn without(command: &Command, folder: &Path) -> Command {
    let mut hidden = Command::new("unshare");
    hidden.arg("--mount");
    if !step::is_root() {
        hidden.arg("--map-root-user");
    }
    hidden.args(["sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""]).arg(folder);
    hidden.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => hidden.env(name, value),
            None => hidden.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        hidden.current_dir(folder);
    }
    hidden
}

/// The object without debug information. BTF stays: the maps are described in it.
fn strip(toolchain: &Toolchain, object: &Path) -> anyhow::Result<Vec<u8>> {
    let stripped = object.with_extension("stripped");
    let mut tools = vec![PathBuf::from("/usr/lib/llvm-22/bin/llvm-objcopy")];
    if let Toolchain::Nightly(sysroot) = toolchain {
        let hosts = fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
        tools.extend(hosts.map(|host| host.path().join("bin/llvm-objcopy")));
    }
    let tool = tools.into_iter().find(|tool| tool.is_file()).unwrap_or_else(|| PathBuf::from("llvm-objcopy"));
    output(Command::new(&tool).arg("--strip-debug").arg(object).arg(&stripped)).with_context(|| {
        "llvm-objcopy is needed: `cargo xtask setup --all` installs it (Debian: llvm-22-dev; elsewhere: `rustup \
         component add --toolchain nightly llvm-tools`)"
    })?;
    let read = || fs::read(&stripped).with_context(|| format!("{} cannot be read", stripped.display()));
    let renamed: Vec<String> = stable_names(&read()?).map(|(name, stable)| format!("{name}={stable}")).collect();
    if !renamed.is_empty() {
        let renames = renamed.iter().flat_map(|name| ["--redefine-sym", name]);
        output(Command::new(&tool).args(renames).arg(&stripped))?;
    }
    read()
}

/// Symbols whose names depend on where the source lies, each with one that does not: cargo hashes the path of
/// `gateway-common` into the disambiguator of every crate that uses it (`Cs…_` in rustc's v0 mangling).
fn stable_names(object: &[u8]) -> impl Iterator<Item = (&str, String)> {
    object.split(|byte| *byte == 0).filter_map(|text| {
        let name = str::from_utf8(text).ok().filter(|name| name.starts_with("_R"))?;
        let (before, rest) = name.split_once("Cs")?;
        let (disambiguator, after) = rest.split_once('_')?;
        disambiguator.bytes().all(|digit| digit.is_ascii_alphanumeric()).then(|| (name, format!("{before}C{after}")))
    })
}

/// A command of rustup's nightly.
fn rustup(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    for name in ["RUSTC", "CARGO", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// What a command prints.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::stable_names;

    #[test]
    fn symbols_are_named_without_their_place() {
        for (object, expect) in [
            (&b"\0_RNvNtCs6Qs62h0ALG1_5guard6cookie7answer4\0"[..], Some("_RNvNtC5guard6cookie7answer4")),
            (b"\0_RNvNtCsaR3V0U32fQG_5guard6cookie7answer4\0", Some("_RNvNtC5guard6cookie7answer4")),
            (b"\0guard\0BANS\0", None),
            (b"\0_R\xff\0", None),
        ] {
            assert_eq!(stable_names(object).next().map(|(_, stable)| stable).as_deref(), expect);
        }
    }
}
