//! `gateway reload`: has the running gateway read its configuration again.

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::Request;

#[derive(Debug, Args)]
#[command(after_help = "\
The gateway reads the file that it was started with. A file that is not valid is refused with its errors and changes
nothing. Bans, counters, connections and streams are kept. Where the program on disk was replaced, a new proxy of that
program is started; the guard and what is in the kernel stay as they are until a restart.

Examples:
  gateway check && gateway reload")]
pub(super) struct Reload {}

impl Reload {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&Request::Reload, |_| None)
    }
}
