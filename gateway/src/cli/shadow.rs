//! `gateway shadow`: what is counted only, and how it begins to be enforced.

use clap::Subcommand;

use super::{context::Context, exit::Exit, table::Table};
use crate::guard::control::{Answer, Request, Shadowed};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gateway shadow report
  gateway shadow promote 12
  gateway shadow promote rule.bad-tokens
  gateway shadow promote limit.address
  gateway shadow promote all")]
pub(super) enum Shadow {
    /// Show what limits, rules and entries in shadow would have hit
    Report,
    /// Enforce a limit, rule or entry that is in shadow
    Promote {
        /// As the report names it: an entry's id, `rule.NAME`, a limit's name, or `all`
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

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn render(rows: &[Shadowed]) -> String {
    if rows.is_empty() {
        return "nothing is in shadow".to_owned();
    }
    let mut table = Table::new(["WHAT", "NAME", "SOURCES", "REQUESTS", "PACKETS", "GOOD CLIENTS"]);
    for row in rows {
        table.row([
            row.what.clone(),
            row.name.clone(),
            known(row.sources),
            row.requests.to_string(),
            row.packets.to_string(),
            known(row.good_clients),
        ]);
    }
    table.render()
}
