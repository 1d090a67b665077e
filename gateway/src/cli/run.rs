//! `gateway run`: becomes the launcher, which starts the same command under another name: the guard.

use std::{path::Path, process::ExitCode};

use clap::Args;

use crate::{guard, launcher};

#[derive(Debug, Args)]
#[command(after_help = "\
Start it as root. It attaches XDP, binds the listeners, gives up its rights and
starts the proxy as proxy.user, and with [admin] the observer as admin.user. The
log names each process with the rights that the kernel says it has. SIGHUP reads
the configuration again; SIGTERM and SIGINT let requests in flight finish and
stop.

Examples:
  gateway run --config gateway.toml
  gateway run --config gateway.toml --detach-on-exit")]
pub(super) struct RunCommand {
    /// Detach XDP and forget its maps at the end; without it, bans stay in force in the kernel
    #[arg(long)]
    detach_on_exit: bool,
}

impl RunCommand {
    pub(super) fn execute(&self, config: &Path) -> ExitCode {
        launcher::main(config, self.detach_on_exit)
    }

    pub(super) fn guard(&self, config: &Path) -> ExitCode {
        guard::main(config, self.detach_on_exit)
    }
}
