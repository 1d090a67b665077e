//! `gateway detach`: takes the program out of the kernel: the recovery command.

use clap::Args;

use super::{context::Context, exit::Exit};

#[derive(Debug, Args)]
#[command(after_help = "\
The recovery command: links and maps are unpinned, and no packet is dropped in
the kernel any more. Through the running gateway if there is one: it goes on,
enforces bans when connections are accepted, and `gateway attach` (or its next
start) undoes it. Without a running gateway the pins are removed directly; the
next `gateway run` attaches again. Refused if anything is pinned there that is
not the gateway's.

Examples:
  gateway detach
  gateway detach --json")]
pub(super) struct DetachCommand {}

impl DetachCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.detach()
    }
}
