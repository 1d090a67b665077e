//! `gateway audit`: whether the record of decisions is whole, and what is in it.

use clap::Subcommand;

use super::{context::Context, exit::Exit};

mod chain;
mod export;
mod head;
mod key;
mod moment;
mod show;
mod verify;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Works on the files alone: the gateway need not run. See docs/audit.md.

Examples:
  gateway audit verify
  gateway audit show --event ban --since 1h
  gateway audit export --since 2026-01-01T00:00:00Z > january.jsonl
  gateway audit key > audit.pub")]
pub(super) enum AuditCommand {
    /// Say whether every record is as it was written, and name the first that is not
    Verify(verify::Verify),
    /// Show records
    Show(show::Show),
    /// Write records in a form that other programs read, verified
    Export(export::Export),
    /// Print the last checkpoint, to keep it elsewhere
    Head(head::Head),
    /// Print the public keys that verify the chain, or change the key
    Key(key::Key),
}

impl AuditCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        match self {
            Self::Verify(verify) => verify.execute(context),
            Self::Show(show) => show.execute(context),
            Self::Export(export) => export.execute(context),
            Self::Head(head) => head.execute(context),
            Self::Key(key) => key.execute(context),
        }
    }
}
