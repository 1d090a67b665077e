//! `gateway why`: what happens to an address, and why.

use std::net::IpAddr;

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, bytes, clean, field, seconds},
    top::l7,
};
use crate::guard::control::{self, Answer, Request};

#[derive(Debug, Args)]
#[command(after_help = "\
The requests that were the evidence are named by their ids, as in the access log.

Examples:
  gateway why 203.0.113.7
  gateway why 203.0.113.7 --json | jq -r .evidence[]")]
pub(super) struct Why {
    /// An IP address
    address: IpAddr,
}

impl Why {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&Request::Why { address: self.address }, |answer| match answer {
            Answer::Why(why) => Some(render(why)),
            _ => None,
        })
    }
}

pub(super) fn render(why: &control::Why) -> String {
    let mut lines = vec![format!("{} is {}", why.address, clean(&why.verdict.replace('_', " ")))];
    let mut line = |name: &str, value: String| lines.push(field(&format!("  {name}"), 14, &clean(&value)));
    if why.country.is_some() || why.asn.is_some() {
        let asn = why.asn.map(|asn| format!("AS{asn}"));
        line("from", why.country.clone().into_iter().chain(asn).collect::<Vec<_>>().join(", "));
    }
    if let Some(entry) = &why.entry {
        let id = if entry.id == 0 { String::new() } else { format!("id {}, ", entry.id) };
        line("block", format!("{} ({id}{})", entry.source, entry.mode));
        line("reason", entry.reason.clone());
        line("by", entry.actor.clone());
        line("since", entry.started.clone());
        let left = entry.remaining_seconds.map(|left| format!(" ({} left)", seconds(left))).unwrap_or_default();
        line("until", entry.expires.clone().map_or_else(|| "removed".to_owned(), |expires| format!("{expires}{left}")));
        if let Some(relay) = entry.relay {
            line("enforced", format!("at L7 by the proxy, because it came through {relay}"));
        }
        if entry.refused > 0 {
            line("refused", format!("{} requests or connections by the proxy", entry.refused));
        }
        let dropped = if entry.mode == "shadow" { "would drop" } else { "dropped" };
        line(dropped, format!("{} packets, {}", entry.packets, bytes(entry.bytes)));
    }
    if let Some(left) = why.entry.as_ref().and_then(|entry| entry.confirm_seconds) {
        line("unconfirmed", format!("taken back in {} unless `gateway confirm` comes", seconds(left)));
    }
    if let Some(micros) = why.reaction_micros {
        line("reaction", format!("{}.{:03} ms from the offence to the kernel", micros / 1_000, micros % 1_000));
    }
    if let Some(closed) = why.connections_closed {
        line("closed", format!("{closed} connections"));
    }
    for (index, id) in why.evidence.iter().enumerate() {
        line(if index == 0 { "evidence" } else { "" }, id.to_string());
    }
    for shield in &why.shields {
        line("shielded", shield.clone());
    }
    for score in why.score.iter().filter(|score| score.held > 0) {
        let (held, needed, within) = (score.held, score.needed, seconds(score.within_seconds));
        let shadow = if score.shadow { ", in shadow" } else { "" };
        line("score", format!("{held} of {needed} {} within {within} (rule {}{shadow})", score.of, score.rule));
    }
    if let Some(profile) = &why.profile {
        line("profile", l7::sentence(profile));
        for reason in &profile.reasons {
            line("", reason.clone());
        }
    }
    for limit in &why.limits {
        let left = limit.left.unwrap_or(0);
        let full = limit.full_in_seconds.map(|full| format!(", full again in {}", seconds(full))).unwrap_or_default();
        let shadow = if limit.mode == "shadow" { ", in shadow" } else { "" };
        let table = if limit.per.is_some() { "quota" } else { "limit" };
        line(table, format!("{left} left{full} ({table}.{}{shadow})", limit.limit));
    }
    if let Some(limited) = &why.limited {
        line("limited", limited.clone());
    }
    if let Some(clamp) = &why.clamp {
        let (what, left) =
            (if clamp.mode == "shadow" { "would drop" } else { "dropped" }, seconds(clamp.remaining_seconds));
        let (divide, packets) = (clamp.divide, clamp.packets);
        let table = if clamp.limit.starts_with("anomaly.") { "" } else { "limit." };
        let limit = format!("{table}{}", clamp.limit);
        line(
            "clamped",
            format!("budgets in the kernel divided by {divide} for another {left} ({limit}); {what} {packets} packets"),
        );
        for (index, id) in clamp.evidence.iter().enumerate() {
            line(if index == 0 { "refused" } else { "" }, id.to_string());
        }
    }
    if let Some(plan) = &why.plan {
        let (packets, left) = (plan.packets_per_second, seconds(plan.remaining_seconds));
        line(
            "plan",
            format!(
                "{packets} packets/s in the kernel, as a member of {} has a connection (until {left} after it ends)",
                plan.plan
            ),
        );
    }
    let standing = &why.standing;
    if standing.good_principals > 0 {
        line("good", format!("{} principals with valid tokens lately", standing.good_principals));
    }
    if let Some(left) = standing.probation_seconds {
        line("probation", format!("half as many signals ban it, for another {}", seconds(left)));
    }
    if let Some(factor) = standing.factor.filter(|factor| *factor > 1) {
        line("ladder", format!("{factor} times as long as its rule says, after {} bans", standing.earlier_bans));
    }
    if standing.next_factor > 1 {
        line("next ban", format!("{} times as long as its rule says", standing.next_factor));
    }
    line("next", why.next.clone());
    if why.history.is_empty() {
        return lines.join("\n");
    }
    let mut table = Table::new(["ID", "STARTED", "ENDED", "PACKETS", "BYTES", "HOW", "BY", "REASON"]);
    for past in &why.history {
        table.row([
            past.id.to_string(),
            // With a blank, where a line can be cut.
            past.started.replace('T', " "),
            past.ended.replace('T', " "),
            past.packets.to_string(),
            bytes(past.bytes),
            past.how.clone(),
            past.actor.clone(),
            past.reason.clone(),
        ]);
    }
    format!("{}\n\nearlier\n{}", lines.join("\n"), table.render())
}
