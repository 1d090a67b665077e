//! `gateway limit`: what limits have counted, whom they refuse, and what is left of one budget.

use std::net::IpAddr;

use clap::Subcommand;
use gateway_common::source::Source;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, clean, prose},
};
use crate::{
    guard::control::{ClampEntry, ControlAnswer, ControlRequest},
    policy::limit::report::{LimitQuestion, LimitRow},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A key is what requests are counted by: an address, a principal, or parts as
`top` shows them. Counts are those of the proxy in service.

Examples:
  gateway limit list
  gateway limit top
  gateway limit show 203.0.113.7
  gateway limit show principal=ada route=search
  gateway limit reset claim:tenant=acme
  gateway limit clamps
  gateway limit unclamp 203.0.113.7")]
pub(super) enum LimitCommand {
    /// Show what each limit let through and refused, and how full its table is
    List,
    /// Show who was refused most often
    Top,
    /// Show what is left for a key
    Show {
        /// An address, a principal, or parts of the key: `PART=VALUE ...`
        #[arg(required = true)]
        key: Vec<String>,
    },
    /// Show the sources whose packets the kernel limits further, as they went on over a limit
    Clamps,
    /// End the clamp of a source
    Unclamp {
        /// As `clamps` shows it
        source: Source,
    },
    /// Make the budgets of a key full again
    Reset {
        /// An address, a principal, or parts of the key: `PART=VALUE ...`
        #[arg(required = true)]
        key: Vec<String>,
    },
}

impl LimitCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let question = match self {
            Self::Clamps => {
                return context.ask(&ControlRequest::ClampList, |answer| match answer {
                    ControlAnswer::Clamps { entries } => Some(clamps(entries)),
                    _ => None,
                });
            }
            Self::Unclamp { source } => return context.ask(&ControlRequest::ClampDel { source }, |_answer| None),
            Self::List => LimitQuestion::List,
            Self::Top => LimitQuestion::Top,
            Self::Show { key } => LimitQuestion::Show(parts(&key)),
            Self::Reset { key } => LimitQuestion::Reset(parts(&key)),
        };
        let render = match question {
            LimitQuestion::Reset(_) => reset,
            LimitQuestion::Show(_) => show,
            LimitQuestion::Top => top,
            _ => list,
        };
        context.ask(&ControlRequest::Limit { question }, |answer| match answer {
            ControlAnswer::Limits { rows, more } => Some(with_more(render(rows), *more)),
            _ => None,
        })
    }
}

/// Says how many rows are left out.
pub(super) fn with_more(text: String, more: u64) -> String {
    if more == 0 { text } else { format!("{text}\nand {more} more") }
}

/// The parts of a key by their names. What has no name is an address, or else a principal.
pub(super) fn parts(words: &[String]) -> Vec<(String, String)> {
    let part = |word: &String| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None if word.split('/').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()) => {
            ("address".to_owned(), word.clone())
        }
        None => ("principal".to_owned(), word.clone()),
    };
    words.iter().map(part).collect()
}

pub(super) fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

pub(super) fn list(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "there is no limit on requests".to_owned();
    }
    let mut table = Table::new([
        "LIMIT",
        "PLAN",
        "MODE",
        "ADMITTED",
        "REFUSED",
        "IN FLIGHT",
        "KEYS",
        "CAPACITY",
        "EVICTED",
        "SHARED",
    ]);
    for row in rows {
        table.row([
            row.limit.clone(),
            row.plan.clone().unwrap_or_else(|| "-".to_owned()),
            row.mode.clone(),
            known(row.admitted),
            known(row.refused),
            known(row.in_flight),
            known(row.keys),
            known(row.capacity),
            known(row.evicted),
            known(row.shared),
        ]);
    }
    table.render()
}

pub(super) fn top(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "nobody was refused".to_owned();
    }
    let mut table = Table::new(["LIMIT", "MODE", "REFUSED", "LAST", "KEY"]);
    for row in rows {
        let last =
            row.last_seconds.map_or_else(|| "-".to_owned(), |last| format!("{} ago", super::table::seconds(last)));
        table.row([row.limit.clone(), row.mode.clone(), known(row.refused), last, row.key.clone().unwrap_or_default()]);
    }
    table.render()
}

/// What is left of budgets, also for `gateway why`.
pub(super) fn show(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "no limit has counted anything of this key: its budgets are full".to_owned();
    }
    let mut table = Table::new(["LIMIT", "PLAN", "MODE", "LEFT", "IN FLIGHT", "FULL IN"]);
    for row in rows {
        table.row([
            row.limit.clone(),
            row.plan.clone().unwrap_or_else(|| "-".to_owned()),
            row.mode.clone(),
            known(row.left),
            known(row.in_flight),
            row.full_in_seconds.map_or_else(|| "-".to_owned(), super::table::seconds),
        ]);
    }
    table.render()
}

pub(super) fn clamps(entries: &[ClampEntry]) -> String {
    if entries.is_empty() {
        return "no source is clamped".to_owned();
    }
    let mut table = Table::new(["SOURCE", "LIMIT", "MODE", "DIVIDED BY", "LEFT", "PACKETS", "SINCE"]);
    for entry in entries {
        table.row([
            entry.source.to_string(),
            entry.limit.clone(),
            entry.mode.clone(),
            entry.divide.to_string(),
            super::table::seconds(entry.remaining_seconds),
            entry.packets.to_string(),
            entry.started.clone(),
        ]);
    }
    table.render()
}

pub(super) fn reset(rows: &[LimitRow]) -> String {
    let names: Vec<&str> = rows.iter().map(|row| row.limit.as_str()).collect();
    match names.as_slice() {
        [] => "no limit has counted anything of this key".to_owned(),
        names => prose(&clean(&format!("full again: {}", names.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (words, expect) in [
            (&["203.0.113.7"][..], &[("address", "203.0.113.7")][..]),
            (&["2001:db8::/48"], &[("address", "2001:db8::/48")]),
            (&["ada"], &[("principal", "ada")]),
            (&["principal=a=b", "route=/x"], &[("principal", "a=b"), ("route", "/x")]),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let parts = parts(&words);
            let parts: Vec<_> = parts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(parts, expect, "{words:?}");
        }
    }
}
