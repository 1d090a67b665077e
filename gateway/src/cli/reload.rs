//! `gateway reload`: has the running gateway read its configuration again.

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::Request;

#[derive(Debug, Args)]
#[command(after_help = "\
The gateway reads the file that it was started with. A file that is not valid is refused with its errors and changes
nothing. Bans, counters, connections and streams are kept. Where the program on disk was replaced, a new proxy of that
program is started; `gateway upgrade` replaces the guard and what is in the kernel, too.

The file is first compiled by a process of its own, which may take guard.compile_memory and guard.compile_time. With
--dry-run that is done, too, and what a reload would change is shown; nothing changes.

Examples:
  gateway check && gateway reload
  gateway reload --dry-run")]
pub(super) struct Reload {
    /// Show what a reload would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Reload {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&Request::Reload { dry_run: self.dry_run }, |_| None)
    }
}
