//! `cargo xtask fuzz`: hands made-up bytes to whatever reads bytes of others, for a while: packets, bodies, HTTP, lists,
//! messages and commands. It takes no nightly toolchain: the compiler counts branches by a pass of LLVM, and libFuzzer is
//! a crate.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{
    places::{cargo, root},
    step::step,
};

/// What libFuzzer needs of the compiler.
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What `cargo xtask fuzz` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Whose readers.
    #[arg(value_enum)]
    target: Target,
    /// For so long.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Bodies and targets of requests: codings, JSON, forms, multipart, XML, GraphQL, documents, the firewall.
    Body,
    /// Requests and responses of HTTP/1.
    Http1,
    /// What a client sends by HTTP/2, behind its first settings.
    Http2,
    /// Lists of sources, of every format.
    List,
    /// Whatever one process says to another, and the commands of operators.
    Message,
    /// Packets, against another parser.
    Packet,
}

impl Target {
    /// Its name, and the longest input.
    const fn named(self) -> (&'static str, u32) {
        match self {
            Self::Body => ("body", 4_096),
            Self::Http1 => ("http1", 4_096),
            Self::Http2 => ("http2", 4_096),
            Self::List => ("list", 4_096),
            Self::Message => ("message", 4_096),
            Self::Packet => ("packet", 300),
        }
    }

    /// The tests of the daemon that write what they read, for a fuzzer to begin with. Packets are kept in the repository.
    const fn seeding(self) -> &'static [&'static str] {
        match self {
            Self::Body => &["policy::validate::reading::", "policy::validate::waf::builtin::tests::"],
            Self::Http1 => &["proxy::http1::tests::", "proxy::upstream::http1::tests::"],
            Self::Http2 => &["proxy::http2::reading::"],
            Self::List => &["lists::tests::"],
            Self::Message => &["spoiled_messages_are_read_safely"],
            Self::Packet => &[],
        }
    }
}

/// Builds the target, and runs it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (name, longest) = arguments.target.named();
    let (here, built) = (root().join("tests/fuzz"), root().join("target/fuzz"));
    let corpus = corpus(arguments.target)?;
    // The flags are for what is built for a target that is named, and not for build scripts.
    let machine = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut build = Command::new(cargo());
    // Its lock file follows the dependencies of the workspace, of which it is no part.
    build.current_dir(&here).args(["build", "--release", "--target", &machine, "--bin", name]);
    step("the fuzz target", build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &built))?;
    let mut fuzz = Command::new(built.join(machine).join("release").join(name));
    fuzz.current_dir(&built).arg(format!("-max_total_time={}", arguments.seconds)).arg(format!("-max_len={longest}"));
    step("fuzzing", fuzz.arg(corpus))
}

/// Where it begins and keeps what it finds. Packets are replayed by `cargo test -p gateway-common`. Others are made by the
/// tests that know what one is.
fn corpus(target: Target) -> anyhow::Result<PathBuf> {
    if target == Target::Packet {
        return Ok(root().join("tests/fuzz/corpus/packet"));
    }
    let folder = root().join("target/fuzz/corpus").join(target.named().0);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut seed = Command::new(cargo());
    seed.current_dir(root()).args(["test", "--package", "gateway", "--lib", "--locked", "--"]).args(target.seeding());
    step("seeds", seed.env("GATEWAY_FUZZ_SEEDS", &folder))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// A target that is built by no name is run by nobody.
    #[test]
    fn every_target_is_a_program_and_begins_with_something() {
        let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
        let programs = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
        let mut programs: Vec<&str> = programs.filter_map(|line| line.strip_suffix(".rs\"")).collect();
        programs.sort_unstable();
        assert_eq!(programs, Target::value_variants().iter().map(|target| target.named().0).collect::<Vec<_>>());
        for target in Target::value_variants() {
            assert_eq!(target.seeding().is_empty(), *target == Target::Packet, "{target:?}");
        }
    }
}
