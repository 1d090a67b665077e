//! What `cargo xtask` can do: one line per command, one file per command.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

mod setup;

mod build;
mod ebpf;
mod run;

mod bench;
mod ci;
mod docs;
mod documents;
mod fuzz;
mod kernels;
mod reference;
mod schemathesis;
mod survey;
mod test;
mod tidy;
mod unit;

mod places;
mod step;
mod stub;

/// Builds, tests and demonstrates the gateway; installs what that needs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what is missing for building and running (and, with --all, for eBPF, tests and CI).
    Setup(setup::Arguments),
    /// Build the product.
    Build(build::Arguments),
    /// Build the kernel program from source into gateway/ebpf/guard.bpf.o.
    Ebpf(ebpf::Arguments),
    /// Set up, build and run the real daemon in a demonstration network.
    Run(run::Arguments),
    /// Set up and run every test: unit, kernel packet tables, namespaces, end to end.
    Test(test::Arguments),
    /// Everything that must hold before a change is accepted.
    Ci(ci::Arguments),
    /// Build the book of docs/, and check the links and commands of its pages.
    Docs(docs::Arguments),
    /// Check the invariants of the source tree that no compiler checks.
    Tidy(tidy::Arguments),
    /// Print a reading list: the longest functions, widest structs, fullest folders, names that stand twice.
    Survey(survey::Arguments),
    /// Write docs/reference/ from the code: every key of the configuration, every command.
    Reference(reference::Arguments),
    /// Boot the kernels of Debian 12 and 13 under qemu, and run the tests of the kernel program there.
    Kernels(kernels::Arguments),
    /// Measure: packets in the kernel, floods, requests through the proxy; break things on purpose.
    Bench(bench::Arguments),
    /// Have the gateway read a folder of OpenAPI documents or JSON Schemas: how many load, and what that takes.
    Documents(documents::Arguments),
    /// Hold the gateway against OpenAPI documents by requests that schemathesis makes from them.
    Schemathesis(schemathesis::Arguments),
    /// Hand made-up bytes to the readers of packets, messages and commands.
    Fuzz(fuzz::Arguments),
    /// Try the systemd unit under the systemd of Debian 12 and 13, booted in containers.
    Unit(unit::Arguments),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Ebpf(arguments) => ebpf::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Ci(arguments) => ci::run(&arguments, &Command::command()),
        Command::Docs(arguments) => docs::run(&arguments, &Command::command()),
        Command::Tidy(arguments) => tidy::run(&arguments),
        Command::Survey(arguments) => survey::run(&arguments),
        Command::Reference(arguments) => reference::run(&arguments),
        Command::Kernels(arguments) => kernels::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Documents(arguments) => documents::run(&arguments),
        Command::Schemathesis(arguments) => schemathesis::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Unit(arguments) => unit::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
