//! `gateway shadow`: what is counted only, and how it begins to be enforced.

use clap::Subcommand;

use super::{Context, exit::Exit, table::Table};
use crate::guard::control::{Answer, Request, Shadowed};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gateway shadow report
  gateway shadow promote 12
  gateway shadow promote rule.bad-tokens
  gateway shadow promote all")]
pub(super) enum Shadow {
    /// Show what shadow entries and rules would have hit
    Report,
    /// Enforce a shadow entry or rule
    Promote {
        /// As the report names it: an entry's id, `rule.NAME`, or `all`
        what: String,
    },
}

impl Shadow {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::Report => Request::ShadowReport,
            Self::Promote { what } => Request::ShadowPromote { what },
        };
        context.ask(&request, |answer| match answer {
            Answer::Shadow { rows } => Some(render(rows)),
            _ => None,
        })
    }
}

fn render(rows: &[Shadowed]) -> String {
    if rows.is_empty() {
        return "nothing is in shadow".to_owned();
    }
    let mut table = Table::new(["WHAT", "NAME", "SOURCES", "PACKETS", "GOOD CLIENTS"]);
    for row in rows {
        table.row([
            row.what.clone(),
            row.name.clone(),
            row.sources.to_string(),
            row.packets.to_string(),
            row.good_clients.to_string(),
        ]);
    }
    table.render()
}
