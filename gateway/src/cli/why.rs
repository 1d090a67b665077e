//! `gateway why`: what happens to an address, and why.

use std::net::IpAddr;

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, bytes, clean, field, seconds},
    top::l7,
};
use crate::{
    guard::control::{self, BanHistory, BlockEntry, ControlAnswer, ControlRequest, Past},
    text::counted::counted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Requests are named by their ids, as in the access log: those that were the
evidence of a ban, and the last ones with their status. The last requests and
the principals are known with detect.profiles.

Examples:
  gateway why 203.0.113.7
  gateway why 203.0.113.7 --json | jq -r .evidence[]")]
pub(super) struct WhyCommand {
    /// An IP address
    #[arg(value_parser = address)]
    address: IpAddr,
}

impl WhyCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        context.ask(&ControlRequest::Why { address: self.address }, |answer| match answer {
            ControlAnswer::Why(why) => Some(render(why)),
            _ => None,
        })
    }
}

/// An address, or what would lead to one.
fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_no_address| {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hint = match () {
            () if text.contains('/') => {
                "that is a network: write one address of it, as in 203.0.113.7; `gateway block list` shows blocked networks"
            }
            () if text.parse::<u64>().is_ok() && text.len() < 20 => {
                "that looks like the id of a block: `gateway block list` shows its source; write an address of that"
            }
            () if is_hex && text.len() == 32 => {
                "that looks like the id of a request: `gateway logs --grep ID` shows its line with the client's address; \
                 write that"
            }
            () => "write an IP address, as in 203.0.113.7 or 2001:db8::7: names are not looked up",
        };
        hint.to_owned()
    })
}

pub(super) fn render(why: &control::AddressReport) -> String {
    let mut lines = FieldLines(vec![format!("{} is {}", why.address, clean(&why.verdict.replace('_', " ")))]);
    if why.country.is_some() || why.asn.is_some() {
        let asn = why.asn.map(|asn| format!("AS{asn}"));
        lines.add("from", why.country.clone().into_iter().chain(asn).collect::<Vec<_>>().join(", "));
    }
    if let Some(entry) = &why.entry {
        block(&mut lines, entry);
    }
    if let Some(unattached) = &why.unattached {
        let how = if why.verdict == "blocked" { "when it connects, by no packet" } else { "not at all" };
        lines.add("enforced", format!("{how}: {unattached}"));
    }
    evidence(&mut lines, why);
    for limit in &why.limits {
        let left = limit.left.unwrap_or(0);
        let full = limit.full_in_seconds.map(|full| format!(", full again in {}", seconds(full))).unwrap_or_default();
        let shadow = if limit.mode == "shadow" { ", in shadow" } else { "" };
        let table = if limit.per.is_some() { "quota" } else { "limit" };
        lines.add(table, format!("{left} left{full} ({table}.{}{shadow})", limit.limit));
    }
    if let Some(limited) = &why.limited {
        lines.add("limited", limited.clone());
    }
    packet_budgets(&mut lines, why);
    standing(&mut lines, &why.standing);
    if let Some(unknown) = &why.history_unknown {
        lines.add("earlier", format!("not known: {unknown}"));
    }
    lines.add("next", why.next.clone());
    if why.history.is_empty() {
        return lines.0.join("\n");
    }
    format!("{}\n\nearlier\n{}", lines.0.join("\n"), history(&why.history).render())
}

/// Lines, each with the name of a field.
struct FieldLines(Vec<String>);

impl FieldLines {
    fn add(&mut self, name: &str, value: String) {
        self.0.push(field(&format!("  {name}"), 14, &clean(&value)));
    }
}

/// The block that is in force.
fn block(lines: &mut FieldLines, entry: &BlockEntry) {
    let id = if entry.id == 0 { String::new() } else { format!("id {}, ", entry.id) };
    lines.add("block", format!("{} ({id}{})", entry.source, entry.mode));
    lines.add("reason", entry.reason.clone());
    lines.add("by", entry.actor.clone());
    lines.add("since", entry.started.clone());
    let left = entry.remaining_seconds.map(|left| format!(" ({} left)", seconds(left))).unwrap_or_default();
    let until = entry.expires.clone().map_or_else(|| "removed".to_owned(), |expires| format!("{expires}{left}"));
    lines.add("until", until);
    if let Some(relay) = entry.relay {
        lines.add("enforced", format!("at L7 by the proxy, because it came through {relay}"));
    }
    if entry.refused > 0 {
        let refused = counted(entry.refused, "request or connection", "requests or connections");
        lines.add("refused", format!("{refused} by the proxy"));
    }
    let dropped = if entry.mode == "shadow" { "would drop" } else { "dropped" };
    lines.add(dropped, format!("{}, {}", counted(entry.packets, "packet", "packets"), bytes(entry.bytes)));
    if let Some(left) = entry.confirm_seconds {
        lines.add("unconfirmed", format!("taken back in {} unless `gateway confirm` comes", seconds(left)));
    }
}

/// What speaks for a block and against it.
fn evidence(lines: &mut FieldLines, why: &control::AddressReport) {
    if let Some(micros) = why.reaction_micros {
        lines.add("reaction", format!("{}.{:03} ms from the offence to the kernel", micros / 1_000, micros % 1_000));
    }
    if let Some(closed) = why.connections_closed {
        lines.add("closed", counted(closed, "connection", "connections"));
    }
    for (index, id) in why.evidence.iter().enumerate() {
        lines.add(if index == 0 { "evidence" } else { "" }, id.to_string());
    }
    for shield in &why.shields {
        lines.add("shielded", shield.clone());
    }
    for score in why.score.iter().filter(|score| score.held > 0) {
        let (held, needed, within) = (score.held, score.needed, seconds(score.within_seconds));
        let shadow = if score.shadow { ", in shadow" } else { "" };
        lines.add("score", format!("{held} of {needed} {} within {within} (rule {}{shadow})", score.of, score.rule));
    }
    if let Some(discounted) = &why.discounted {
        lines.add("discounted", discounted.sentence());
    }
    if let Some(profile) = &why.profile {
        lines.add("profile", l7::sentence(profile));
        for reason in &profile.reasons {
            lines.add("", reason.clone());
        }
        if !profile.principals.is_empty() {
            let others = profile.counterparts.saturating_sub(u32::try_from(profile.principals.len()).unwrap_or(0));
            let others = if others > 0 { format!(", and about {others} more") } else { String::new() };
            lines.add("identity", format!("{}{others}", profile.principals.join(", ")));
        }
        for (index, last) in profile.last_requests.iter().enumerate() {
            let text = format!("{} {}, {} ago", last.id, last.status, seconds(last.seconds_ago));
            lines.add(if index == 0 { "requests" } else { "" }, text);
        }
    }
}

/// Budgets of packets in the kernel that are smaller or larger than those of others.
fn packet_budgets(lines: &mut FieldLines, why: &control::AddressReport) {
    if let Some(clamp) = &why.clamp {
        let what = if clamp.mode == "shadow" { "would drop" } else { "dropped" };
        let (divide, packets) = (clamp.divide, counted(clamp.packets, "packet", "packets"));
        let left = seconds(clamp.remaining_seconds);
        let table = if clamp.limit.starts_with("anomaly.") { "" } else { "limit." };
        let limit = format!("{table}{}", clamp.limit);
        let text = format!("budgets in the kernel divided by {divide} for another {left} ({limit}); {what} {packets}");
        lines.add("clamped", text);
        for (index, id) in clamp.evidence.iter().enumerate() {
            lines.add(if index == 0 { "refused" } else { "" }, id.to_string());
        }
    }
    if let Some(plan) = &why.plan {
        let (packets, left) = (plan.packets_per_second, seconds(plan.remaining_seconds));
        let text = format!(
            "{packets} packets/s in the kernel, as a member of {} has a connection (until {left} after it ends)",
            plan.plan
        );
        lines.add("plan", text);
    }
}

/// What the past makes of the next ban.
fn standing(lines: &mut FieldLines, standing: &BanHistory) {
    if standing.good_principals > 0 {
        lines.add("good", {
            let principals = counted(standing.good_principals, "principal", "principals");
            format!("{principals} with valid tokens lately")
        });
    }
    if let Some(left) = standing.probation_seconds {
        lines.add("probation", format!("half as many signals ban it, for another {}", seconds(left)));
    }
    if let Some(factor) = standing.factor.filter(|factor| *factor > 1) {
        lines.add("ladder", {
            let bans = counted(standing.earlier_bans, "ban", "bans");
            format!("{factor} times as long as its rule says, after {bans}")
        });
    }
    if standing.next_factor > 1 {
        lines.add("next ban", format!("{} times as long as its rule says", standing.next_factor));
    }
}

/// Blocks that have ended.
fn history(all: &[Past]) -> Table<8> {
    let mut table = Table::new(["ID", "STARTED", "ENDED", "PACKETS", "BYTES", "HOW", "BY", "REASON"]);
    for past in all {
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
    table
}
