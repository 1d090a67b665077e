//! `gateway feed`: lists that are fetched by URL, and fetching them now.

use clap::Subcommand;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, seconds},
};
use crate::guard::control::{Answer, FeedFetch, Request, Status};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A list that has lost more entries than `feed.max_shrink` allows is not taken.
`--accept` takes what comes, however short it is.

Examples:
  gateway feed list
  gateway feed refresh drop
  gateway feed refresh drop --accept")]
pub(super) enum Feed {
    /// List the feeds that are fetched: when, how it went, what is in force
    List,
    /// Fetch the list of a feed now
    Refresh {
        /// The feed's name
        name: String,
        /// Take what comes, also if it is much shorter than the list in force, or empty
        #[arg(long)]
        accept: bool,
    },
}

impl Feed {
    pub(super) fn execute(self, context: &Context) -> Exit {
        match self {
            Self::List => context.ask(&Request::Status, |answer| match answer {
                Answer::Status(status) => Some(list(status)),
                _ => None,
            }),
            Self::Refresh { name, accept } => context.ask(&Request::FeedRefresh { name, accept }, |_| None),
        }
    }
}

fn list(status: &Status) -> String {
    if status.fetches.is_empty() {
        return "no list is fetched: add `[[feed]]` with `url`".to_owned();
    }
    table(status)
}

/// The lists that are fetched.
pub(super) fn table(status: &Status) -> String {
    let mut table = Table::new(["FETCHED", "FROM", "ENTRIES", "CONFIRMED", "NEXT", "STATE"]);
    for fetch in &status.fetches {
        let entries = status.feeds.iter().find(|feed| feed.name == fetch.name).map_or(0, |feed| feed.entries);
        let confirmed =
            if fetch.confirmed.is_empty() { "never".to_owned() } else { fetch.confirmed.replace(".000Z", "Z") };
        let next = fetch.next_seconds.map_or_else(|| "now".to_owned(), |next| format!("in {}", seconds(next)));
        let cells = [fetch.name.clone(), fetch.from.clone(), entries.to_string()];
        let [name, from, entries] = cells;
        table.row([name, from, entries, confirmed, next, state(fetch)]);
    }
    table.render()
}

fn state(fetch: &FeedFetch) -> String {
    let state = match (&fetch.failing, &fetch.refused) {
        (Some(why), _) => format!("failing: {why}"),
        (None, Some(why)) => format!("refused: {why}"),
        (None, None) => "ok".to_owned(),
    };
    if fetch.is_stale { format!("old, {state}") } else { state }
}
