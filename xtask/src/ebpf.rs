//! Builds the kernel program; the only place that knows the eBPF toolchain.
//!
//! The object is committed, so that building the product needs no eBPF toolchain. It is reproducible: the same bytes
//! from any checkout with the toolchain that is named beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use self::toolchain::{TARGET, Toolchain, output};
use crate::{places::root, setup, step};

pub(crate) mod toolchain;

const OBJECT: &str = "gateway/ebpf/guard.bpf.o";
const TOOLCHAIN: &str = "gateway/ebpf/toolchain.txt";

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

/// As `--check`, but a developer may have another toolchain than the reference: that is said. In CI it fails.
pub(crate) fn check_if_comparable(is_ci: bool) -> anyhow::Result<()> {
    setup::ensure(setup::Level::All, setup::Consent::Ask)?;
    match compare(&root(), &Toolchain::find()?)? {
        Compared::Equal => Ok(()),
        Compared::OtherToolchain(why) if is_ci => bail!("{why}"),
        Compared::OtherToolchain(why) => {
            eprintln!("NOT CHECKED: {why}");
            Ok(())
        }
    }
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
/// `gateway-common` into the disambiguator of every crate that uses it (`Cs…_` in rustc's v0 mangling). LLVM hashes such
/// names into those of constants that have none (`anon.….1`).
fn stable_names(object: &[u8]) -> impl Iterator<Item = (&str, String)> {
    object.split(|byte| *byte == 0).filter_map(|text| {
        let name = str::from_utf8(text).ok()?;
        if let Some((hash, number)) = name.strip_prefix("anon.").and_then(|rest| rest.split_once('.')) {
            let is_hash = hash.len() == 32 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
            return is_hash.then(|| (name, format!("anon.{number}")));
        }
        if !name.starts_with("_R") {
            return None;
        }
        let (before, rest) = name.split_once("Cs")?;
        let (disambiguator, after) = rest.split_once('_')?;
        disambiguator.bytes().all(|digit| digit.is_ascii_alphanumeric()).then(|| (name, format!("{before}C{after}")))
    })
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
            (b"\0anon.8c520f3bdb66fd56155e49c1727db365.1\0", Some("anon.1")),
            (b"\0anon.1\0anon.x.1\0", None),
            (b"\0_R\xff\0", None),
        ] {
            assert_eq!(stable_names(object).next().map(|(_, stable)| stable).as_deref(), expect);
        }
    }
}
