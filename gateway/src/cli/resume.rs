//! `gateway resume`: lets rules ban again that are paused.

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::ControlRequest;

#[derive(Debug, Args)]
#[command(after_help = "\
Rules are paused when they ask for too many bans: `gateway status` says so.

Examples:
  gateway resume")]
pub(super) struct ResumeCommand {}

impl ResumeCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Resume, |_answer| None)
    }
}
