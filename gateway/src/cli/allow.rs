//! `gateway allow`: lets sources through.

use clap::Subcommand;
use gateway_common::source::Source;

use super::{arguments::reason, context::Context, exit::Exit, table::Table};
use crate::guard::control::{self, ControlAnswer, ControlRequest};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
What `guard.allow` names is let through too, and can be removed in the
configuration alone.

Examples:
  gateway allow add 192.0.2.0/24 --reason \"office\"
  gateway allow list
  gateway allow del 192.0.2.0/24")]
pub(super) enum AllowCommand {
    /// Never limit, block or ban a source
    Add {
        /// An address or a prefix: 192.0.2.7, 192.0.2.0/24, 2001:db8::/48
        source: Source,
        /// The reason, for the record
        #[arg(long, default_value = "by hand", value_parser = reason)]
        reason: String,
        /// Allow even a prefix wider than guard.widest_ipv4 or guard.widest_ipv6
        #[arg(long)]
        yes: bool,
        /// There is none: who tries it is told what to do
        #[arg(long = "for", value_name = "DURATION", hide = true)]
        lasts: Option<String>,
    },
    /// Undo `add`
    Del {
        /// The source, as `list` shows it
        source: Source,
    },
    /// List what is let through, configured and added
    List,
}

impl AllowCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::Add { lasts: Some(_), .. } => {
                let message =
                    "`allow add` has no --for: what is allowlisted stays so until `gateway allow del` removes it";
                return context.out.fail(message, Exit::Usage);
            }
            Self::Add { source, reason, yes, lasts: None } => ControlRequest::AllowAdd { source, reason, yes },
            Self::Del { source } => ControlRequest::AllowDel { source },
            Self::List => ControlRequest::AllowList,
        };
        context.ask(&request, |answer| match answer {
            ControlAnswer::Allows { entries } => Some(render(entries)),
            _ => None,
        })
    }
}

pub(super) fn render(entries: &[control::AllowEntry]) -> String {
    if entries.is_empty() {
        return "nothing is allowlisted".to_owned();
    }
    let mut table = Table::new(["SOURCE", "BY", "REASON"]);
    for entry in entries {
        table.row([entry.source.to_string(), entry.actor.clone(), entry.reason.clone()]);
    }
    table.render()
}
