//! `gateway quota`: what was used up of quotas, and by whom.

use clap::{Args, Subcommand};

use super::{
    context::Context,
    exit::Exit,
    limit::{known, parts, with_more},
    table::{Table, clean_lines, prose, seconds},
};
use crate::{
    guard::control::{ControlAnswer, ControlRequest},
    os::clock::{Now, rfc3339},
    policy::limit::report::{LimitQuestion, LimitRow},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A key is what requests are counted by: an address, a principal, or parts as
`top` shows them.

Examples:
  gateway quota list
  gateway quota top
  gateway quota show ada
  gateway quota show claim:tenant=acme
  gateway quota reset --quota monthly ada
  gateway quota set --used 5000 ada")]
pub(super) enum QuotaCommand {
    /// Show what each quota let through and refused, and when it begins anew
    List,
    /// Show who has used up most
    Top,
    /// Show what a key has used up, and what is left
    Show(Key),
    /// Count nothing as used up by a key
    Reset(Change),
    /// Count so much as used up by a key
    Set {
        /// In units of the quota
        #[arg(long, value_name = "NUMBER")]
        used: u64,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
pub(super) struct Key {
    /// An address, a principal, or parts of the key: `PART=VALUE ...`
    #[arg(required = true)]
    key: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Change {
    /// Of this quota alone [default: of each that has such keys]
    #[arg(long, value_name = "NAME")]
    quota: Option<String>,
    #[command(flatten)]
    key: Key,
}

impl Change {
    fn to(self, used: u64) -> LimitQuestion {
        LimitQuestion::SetQuota { quota: self.quota, key: parts(&self.key.key), used }
    }
}

impl QuotaCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let question = match self {
            Self::List => LimitQuestion::Quotas,
            Self::Top => LimitQuestion::Top,
            Self::Show(Key { key }) => LimitQuestion::ShowQuota(parts(&key)),
            Self::Reset(change) => change.to(0),
            Self::Set { used, change } => change.to(used),
        };
        let render = match question {
            LimitQuestion::Top => top,
            LimitQuestion::ShowQuota(_) => show,
            LimitQuestion::SetQuota { .. } => set,
            _ => list,
        };
        context.ask(&ControlRequest::Quota { question }, |answer| match answer {
            ControlAnswer::Limits { rows, more } => Some(with_more(render(rows), *more)),
            _ => None,
        })
    }
}

/// When a quota begins anew.
fn resets(row: &LimitRow) -> String {
    row.resets.map_or_else(
        || "-".to_owned(),
        |resets| {
            let left = seconds(resets.saturating_sub(Now::read().unix_seconds()));
            // With a blank, where a line can be cut.
            let moment = rfc3339(resets.saturating_mul(1_000)).replace(".000Z", "Z").replace('T', " ");
            format!("{moment} (in {left})")
        },
    )
}

pub(super) fn list(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "there is no quota".to_owned();
    }
    let mut table = Table::new([
        "QUOTA", "PLAN", "MODE", "PER", "EACH", "ADMITTED", "REFUSED", "KEYS", "CAPACITY", "SHARED", "MACHINES",
        "RESETS",
    ]);
    for row in rows {
        table.row([
            row.limit.clone(),
            row.plan.clone().unwrap_or_else(|| "-".to_owned()),
            row.mode.clone(),
            row.per.clone().unwrap_or_default(),
            known(row.quota),
            known(row.admitted),
            known(row.refused),
            known(row.keys),
            known(row.capacity),
            known(row.shared),
            known(row.machines),
            resets(row),
        ]);
    }
    table.render()
}

pub(super) fn top(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "nothing was used up of any quota".to_owned();
    }
    let mut table = Table::new(["QUOTA", "USED", "RESETS", "KEY"]);
    for row in rows {
        table.row([row.limit.clone(), known(row.used), resets(row), row.key.clone().unwrap_or_default()]);
    }
    table.render()
}

pub(super) fn show(rows: &[LimitRow]) -> String {
    if rows.is_empty() {
        return "nothing was used up by this key".to_owned();
    }
    let mut table = Table::new(["QUOTA", "PLAN", "MODE", "PER", "EACH", "USED", "ELSEWHERE", "LEFT", "RESETS"]);
    for row in rows {
        table.row([
            row.limit.clone(),
            row.plan.clone().unwrap_or_else(|| "-".to_owned()),
            row.mode.clone(),
            row.per.clone().unwrap_or_default(),
            known(row.quota),
            known(row.used),
            known(row.elsewhere),
            known(row.left),
            resets(row),
        ]);
    }
    table.render()
}

pub(super) fn set(rows: &[LimitRow]) -> String {
    let told: Vec<String> =
        rows.iter().map(|row| format!("{}: {} used", row.limit, row.used.unwrap_or_default())).collect();
    if told.is_empty() { "no quota counts by such a key".to_owned() } else { prose(&clean_lines(&told.join("\n"))) }
}
