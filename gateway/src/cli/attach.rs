//! `gateway attach`: undoes `gateway detach`.

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::Request;

#[derive(Debug, Args)]
#[command(after_help = "\
Bans that were made meanwhile are in the kernel at once.

Examples:
  gateway attach")]
pub(super) struct Attach {}

impl Attach {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&Request::Attach, |_answer| None)
    }
}
