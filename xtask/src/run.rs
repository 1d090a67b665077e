//! `cargo xtask run`: demonstrates the daemon on a veth pair whose other end plays the outside world, with everything
//! that was made for it removed at the end, whatever that end is.
#![expect(clippy::print_stdout, reason = "a demonstration talks to people")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

use crate::{
    build,
    places::{cargo, root},
    setup, step,
};

mod play;
mod stage;

use stage::Stage;

/// What `cargo xtask run` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Play the scenario, show each step with its real output, and end.
    #[arg(long)]
    play: bool,
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
}

/// Sets up, builds, and runs the demonstration until Ctrl-C, SIGTERM or the scenario's end.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("run needs root, for network namespaces and XDP: try `sudo -E env PATH=\"$PATH\" cargo xtask run`");
    }
    setup::run(&setup::Arguments { all: false, yes: arguments.yes })?;
    for (program, package) in [("ip", "iproute2"), ("nsenter", "util-linux"), ("curl", "curl")] {
        step::need(program, package)?;
    }
    build::run(&build::Arguments { release: arguments.release })?;
    let mut example = std::process::Command::new(cargo());
    example.current_dir(root());
    example.args(["build", "--locked", "--package", "gateway-tests", "--example", "sample-api"]);
    step::step("sample API", &mut example)?;

    let interrupted = watch_signals()?;
    let mut stage = Stage::build(arguments.release)?;
    if arguments.play {
        return play::play(&mut stage, &interrupted);
    }
    println!("{}", stage.commands());
    println!("\nCtrl-C ends the demonstration and removes everything that it made.");
    while !interrupted.load(Ordering::Relaxed) {
        stage.check()?;
        thread::sleep(Duration::from_millis(100));
    }
    println!("\nRemoving everything.");
    Ok(())
}

/// Turns the signals that end programs into a flag, so that the stage is always taken down. Children start with an
/// empty mask of their own.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("signals cannot be blocked")?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}
