//! `gateway confirm`: lets a block stay that was added with `--confirm`.

use clap::Args;

use super::{arguments::id, context::Context, exit::Exit};
use crate::guard::control::ControlRequest;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gateway block add 198.51.100.0/24 --confirm 60s
  gateway confirm          # the only block that waits
  gateway confirm 12")]
pub(super) struct ConfirmCommand {
    /// The block's id, as `gateway block list` shows it [default: the only one that waits]
    #[arg(value_parser = id)]
    id: Option<u64>,
}

impl ConfirmCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Confirm { id: self.id }, |_answer| None)
    }
}
