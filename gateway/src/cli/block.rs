//! `gateway block`: blocks sources by hand.

use std::{net::IpAddr, path::Path, time::Duration};

use clap::Subcommand;
use gateway_common::source::Source;

use super::{
    arguments::{ban_duration, reason, whole_seconds},
    context::Context,
    exit::Exit,
    table::{Table, bytes, clean, prose, seconds},
};
use crate::guard::control::{BlockEntry, ControlAnswer, ControlRequest, FeedStatus};

mod export;
pub(super) mod import;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gateway block add 203.0.113.7 --for 10m --reason \"scraping\"
  gateway block add 2001:db8:1::/48 --forever
  gateway block add 198.51.100.0/24 --shadow     # count only
  gateway block add 198.51.100.0/24 --confirm 60s && gateway confirm
  gateway block list
  gateway block del 203.0.113.7
  gateway block import drop.txt --feed drop
  gateway block export --format csv > blocks.csv")]
pub(super) enum BlockCommand {
    /// Block a source: drop its packets and close its connections
    Add {
        /// An address or a prefix: 203.0.113.7, 203.0.113.0/24, 2001:db8::/48
        source: Source,
        /// How long: 10m, 1h30m, 7d [default: guard.default_ban of the configuration]
        #[arg(long = "for", value_name = "DURATION", value_parser = ban_duration)]
        duration: Option<Duration>,
        /// Block until it is removed
        #[arg(long, conflicts_with = "duration")]
        forever: bool,
        /// The reason, for the record
        #[arg(long, default_value = "by hand", value_parser = reason)]
        reason: String,
        /// Count what would be dropped, and drop nothing
        #[arg(long)]
        shadow: bool,
        /// Remove the block after this time unless `gateway confirm` runs: you cannot lock yourself out
        #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
        confirm: Option<Duration>,
        /// Block even if it covers many good clients (guard.shield_clients), or your own session
        #[arg(long)]
        force: bool,
    },
    /// Remove a block, or a list that was imported
    Del {
        /// The source, as `list` shows it
        #[arg(required_unless_present = "feed", conflicts_with = "feed")]
        source: Option<Source>,
        /// Remove the whole list of this name; '': what was imported without a name
        #[arg(long, value_name = "NAME")]
        feed: Option<String>,
    },
    /// List the blocks that were made one by one
    List,
    /// Block everything that a list names
    Import(import::Import),
    /// Write everything that is blocked, lists included
    Export(export::Export),
    /// Remove all blocks, and all lists that were imported
    Flush {
        /// Confirm that all of them go
        #[arg(long, required = true)]
        yes: bool,
    },
}

impl BlockCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::Add { source, duration, forever, reason, shadow, confirm, force } => {
                let seconds = if forever { Some(0) } else { duration.map(|duration| duration.as_secs()) };
                let confirm = confirm.map(|confirm| confirm.as_secs());
                if !force
                    && !shadow
                    && let Some(refused) = own_session(source, std::env::var("SSH_CONNECTION").ok())
                {
                    return context.tell(&refused, Path::new(""), |_answer| None);
                }
                ControlRequest::BlockAdd { source, seconds, reason, shadow, confirm, force }
            }
            Self::Del { feed: Some(feed), .. } => return import::remove(context, feed),
            Self::Del { source: Some(source), .. } => ControlRequest::BlockDel { source },
            Self::Del { .. } => return context.out.fail("name a source, or a list by --feed", Exit::Usage),
            Self::List => ControlRequest::BlockList,
            Self::Import(import) => return import.execute(context),
            Self::Export(export) => return export.execute(context),
            Self::Flush { .. } => ControlRequest::BlockFlush,
        };
        context.ask(&request, |answer| match answer {
            ControlAnswer::Blocks { entries, lists, unattached } => Some(render(entries, lists, unattached.as_deref())),
            _ => None,
        })
    }
}

/// Whoever blocks where they are logged in from locks themselves out. The guard sees sessions to the usual port; this
/// one is seen whatever its port is.
fn own_session(source: Source, connection: Option<String>) -> Option<ControlAnswer> {
    let from = connection?.split_ascii_whitespace().next()?.split('%').next()?.parse::<IpAddr>().ok()?;
    let message =
        format!("{source} is or holds {from}, where you are logged in from by SSH: use --force if you mean it");
    source
        .contains(from.to_canonical())
        .then(|| ControlAnswer::Refused { code: "operator_session".to_owned(), message })
}

/// The blocks, and what lists block besides.
pub(super) fn render(entries: &[BlockEntry], lists: &[FeedStatus], unattached: Option<&str>) -> String {
    // Ranges of crawlers, and of whoever is never banned, block nobody.
    let lists: Vec<&FeedStatus> =
        lists.iter().filter(|list| ["enforce", "shadow"].contains(&list.mode.as_str())).collect();
    let listed = lists.iter().fold(0_u64, |all, list| all.saturating_add(list.entries));
    let each: Vec<String> = lists
        .iter()
        .map(|list| {
            let name = if list.name.is_empty() { "(no name)" } else { &list.name };
            let shadow = if list.mode == "shadow" { ", shadow" } else { "" };
            format!("{} ({}{shadow})", clean(name), list.entries)
        })
        .collect();
    let each = each.join(", ");
    let name = if lists.iter().all(|list| list.name.is_empty()) { "''" } else { "NAME" };
    let also = match unattached {
        None => format!("lists block {listed} more: {each}; see `gateway block export --feed {name}`"),
        Some(why) => format!(
            "lists name {listed} more and block none of them, as they are enforced in the kernel alone: {why}. The \
             lists are {each}; see `gateway block export --feed {name}`"
        ),
    };
    match (entries.is_empty(), lists.is_empty()) {
        (true, true) => "nothing is blocked".to_owned(),
        (true, false) => prose(&format!("nothing is blocked one by one; {also}")),
        (false, true) => table(entries),
        (false, false) => format!("{}\n\n{}", table(entries), prose(&also)),
    }
}

fn table(entries: &[BlockEntry]) -> String {
    let mut table = Table::new(["ID", "SOURCE", "MODE", "LEFT", "PACKETS", "BYTES", "REFUSED", "BY", "REASON"]);
    for entry in entries {
        table.row([
            entry.id.to_string(),
            entry.source.to_string(),
            if entry.relay.is_some() { format!("{} (L7)", entry.mode) } else { entry.mode.clone() },
            entry.remaining_seconds.map_or_else(|| "forever".to_owned(), seconds),
            entry.packets.to_string(),
            bytes(entry.bytes),
            entry.refused.to_string(),
            entry.actor.clone(),
            entry.reason.clone(),
        ]);
    }
    table.render()
}
