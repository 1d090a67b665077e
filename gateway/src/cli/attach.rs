//! `gateway attach`: undoes `gateway detach`.

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::ControlRequest;

#[derive(Debug, Args)]
#[command(after_help = "\
Bans that were made meanwhile are in the kernel at once.

Examples:
  gateway attach")]
pub(super) struct AttachCommand {}

impl AttachCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Attach, |_answer| None)
    }
}
