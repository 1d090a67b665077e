//! The compilers that the kernel program can be built with.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::places::cargo;

/// What the kernel program is compiled for.
pub(super) const TARGET: &str = "bpfel-unknown-none";

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
    pub(super) fn describe(&self) -> anyhow::Result<String> {
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
    pub(super) fn sources(&self) -> Option<PathBuf> {
        let Self::Precompiled(rustc) = self else { return None };
        let verbose = output(Command::new(rustc).arg("-vV")).ok()?;
        let release = verbose.lines().find_map(|line| line.strip_prefix("release: "))?;
        Some(PathBuf::from(format!("/usr/src/rustc-{release}")))
    }

    /// A cargo command that uses it.
    pub(super) fn cargo(&self) -> Command {
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

/// A command of rustup's nightly.
pub(super) fn rustup(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    for name in ["RUSTC", "CARGO", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// What a command prints.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
