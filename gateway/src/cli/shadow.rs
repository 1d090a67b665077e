//! `gateway shadow`: what is counted only, and how it begins to be enforced.

use clap::Subcommand;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, clean, prose},
};
use crate::{
    config::value::closest,
    guard::control::{ControlAnswer, ControlRequest, Shadowed},
    text::counted::counted,
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gateway shadow report
  gateway shadow promote 12
  gateway shadow promote rule.bad-tokens
  gateway shadow promote limit.address
  gateway shadow promote route.invoices.allow_if --dry-run
  gateway shadow promote all")]
pub(super) enum ShadowCommand {
    /// Show what limits, rules and entries in shadow would have hit
    Report,
    /// Enforce a limit, rule or entry that is in shadow
    Promote {
        /// As the report names it: an entry's id, `rule.NAME`, a limit's name, or `all`
        what: String,
        /// Say what would be enforced, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

impl ShadowCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::Report => ControlRequest::ShadowReport,
            Self::Promote { what, dry_run: true } => {
                return context.ask(&ControlRequest::ShadowReport, |answer| match answer {
                    ControlAnswer::Shadow { rows } => Some(would_enforce(rows, &what)),
                    _ => None,
                });
            }
            Self::Promote { what, dry_run: false } => ControlRequest::ShadowPromote { what },
        };
        context.ask(&request, |answer| match answer {
            ControlAnswer::Shadow { rows } => Some(render(rows)),
            _ => None,
        })
    }
}

/// What `promote` would begin to enforce, by what it has counted until now.
pub(super) fn would_enforce(rows: &[Shadowed], what: &str) -> String {
    let chosen: Vec<&Shadowed> = rows.iter().filter(|row| what == "all" || row.what == what).collect();
    if chosen.is_empty() {
        let names = rows.iter().map(|row| row.what.as_str()).filter(|name| name.parse::<u64>().is_err());
        let hint = match closest(what, names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "see `gateway shadow report`".to_owned(),
        };
        return prose(&clean(&format!("nothing of the name {what} is in shadow: {hint}")));
    }
    let sentence = |row: &&Shadowed| {
        let counts = [
            (Some(row.requests), ["request", "requests"]),
            (Some(row.packets), ["packet", "packets"]),
            (row.principals, ["principal", "principals"]),
            (row.sources, ["source", "sources"]),
            (row.good_clients, ["good client among them", "good clients among them"]),
        ];
        let counts = counts.into_iter().filter_map(|(count, of)| Some((count.filter(|count| *count > 0)?, of)));
        let told: Vec<String> = counts.map(|(count, [one, many])| counted(count, one, many)).collect();
        let told = if told.is_empty() { "nothing until now".to_owned() } else { told.join(", ") };
        prose(&clean(&format!("{} would be enforced. It would have hit: {told}.", row.what)))
    };
    chosen.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

pub(super) fn render(rows: &[Shadowed]) -> String {
    if rows.is_empty() {
        return "nothing is in shadow".to_owned();
    }
    let mut table = Table::new(["WHAT", "NAME", "SOURCES", "PRINCIPALS", "REQUESTS", "PACKETS", "GOOD CLIENTS"]);
    for row in rows {
        table.row([
            row.what.clone(),
            row.name.clone(),
            known(row.sources),
            known(row.principals),
            row.requests.to_string(),
            row.packets.to_string(),
            known(row.good_clients),
        ]);
    }
    table.render()
}
