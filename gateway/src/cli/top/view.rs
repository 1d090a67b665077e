//! What `top` shows, computed from two looks at the guard. Pure.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use gateway_common::source::Source;
use serde::Serialize;

use super::{
    samples::PacketCounts,
    screen::{Screen, Sort},
};
use crate::{
    cli::table::{bytes, clean, seconds},
    guard::control::{BlockEntry, BudgetStatus, GuardStatus, TopStatus},
    text::counted::counted,
};

/// How many sources of packets are shown.
const SOURCES: usize = 20;

/// What was found, and when.
#[derive(Clone, Debug)]
pub(super) struct TopSnapshot {
    pub(super) top: TopStatus,
    /// Sources that packets were dropped of since the last look, and how many.
    pub(super) samples: PacketCounts,
    /// Since the command began.
    pub(super) at: Duration,
    /// No gateway runs: this is what it left.
    pub(super) is_down: bool,
}

/// Packets of one verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PacketRate {
    pub(super) verdict: String,
    pub(super) packets_per_second: u64,
    pub(super) bytes_per_second: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// A source that packets are dropped of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Dropped {
    pub(super) source: String,
    pub(super) verdict: String,
    pub(super) packets_per_second: u64,
    /// By samples; else by the counter of its entry.
    pub(super) estimated: bool,
}

/// A block in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) id: u64,
    pub(super) source: Source,
    pub(super) mode: String,
    pub(super) left: String,
    pub(super) packets_per_second: u64,
    pub(super) packets: u64,
    pub(super) bytes: String,
    pub(super) actor: String,
    pub(super) reason: String,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Lines about processes, enforcement, budgets, lists.
    pub(super) head: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) verdicts: Vec<PacketRate>,
    pub(super) sources: Vec<Dropped>,
    pub(super) blocks: Vec<Block>,
    /// Above the blocks.
    pub(super) title: String,
}

impl View {
    pub(super) fn new(now: &TopSnapshot, before: Option<&TopSnapshot>, screen: &Screen) -> Self {
        let status = &now.top.status;
        let since = before.map(|before| now.at.saturating_sub(before.at)).filter(|time| !time.is_zero());
        let blocks = blocks(now, before, since, screen);
        let shown = if screen.filter.is_empty() { "" } else { " that match" };
        Self {
            head: head(status, now.is_down),
            warnings: status.warnings.iter().map(|warning| clean(warning)).collect(),
            verdicts: verdicts(now, before, since),
            sources: sources(now, before, since),
            title: format!(
                "{}{shown} of {}, by {}",
                blocks.len(),
                counted(status.blocks, "block", "blocks"),
                screen.sort.name()
            ),
            blocks,
        }
    }
}

/// How many in a second; 0 while nothing was found before, or where a counter began anew.
fn rate(now: u64, before: Option<u64>, since: Option<Duration>) -> u64 {
    let (Some(before), Some(since)) = (before, since) else { return 0 };
    let millis = since.as_millis().max(1);
    let rate = u128::from(now.saturating_sub(before)).saturating_mul(1_000).saturating_add(millis / 2) / millis;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn head(status: &GuardStatus, is_down: bool) -> Vec<String> {
    let processes = if is_down {
        let maps = if status.interfaces_wanted > 0 { " and the pinned maps say" } else { " says" };
        format!("NOT RUNNING: what the store{maps}")
    } else {
        let proxy = match status.proxy_pid {
            Some(pid) => format!("proxy {pid}"),
            None => "NO PROXY".to_owned(),
        };
        let up = seconds(status.uptime_seconds);
        let restarts = counted(status.proxy_restarts, "restart", "restarts");
        format!("guard {} up {up}, {proxy}, {restarts}", status.guard_pid)
    };
    let at = status.interfaces.iter().map(|at| format!("{} ({})", at.name, at.mode)).collect::<Vec<_>>().join(", ");
    let at = if at.is_empty() { String::new() } else { format!(" on {at}") };
    let budget = |budget: &BudgetStatus| {
        let shadow = if budget.shadow { " (shadow)" } else { "" };
        let amount = |amount| if budget.of == "bytes" { bytes(amount) } else { amount.to_string() };
        format!("{} {}/s, burst {}{shadow}", budget.of, amount(budget.per_second), amount(budget.burst))
    };
    let budgets = status.budgets.iter().map(budget).collect::<Vec<_>>().join("; ");
    let kernel =
        super::super::status::kernel_budgets(&status.kernel).map(|text| format!("; {text}")).unwrap_or_default();
    let feed = |feed: &crate::guard::control::FeedStatus| {
        let name = if feed.name.is_empty() { "(no name)" } else { &feed.name };
        let shadow = if feed.mode == "shadow" { " (shadow)" } else { "" };
        format!("{name} {}{shadow}", feed.entries)
    };
    let feeds = status.feeds.iter().map(feed).collect::<Vec<_>>().join(", ");
    let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let breaker = status.paused.clone().map_or_else(|| "rules may ban".to_owned(), |why| format!("PAUSED: {why}"));
    let lines = [
        format!("gateway {}  {processes}", status.version),
        format!("enforcement {}{at}  allowlisted {}  breaker: {breaker}", status.enforcement, status.allows),
        format!("budgets per source: {}{kernel}", none(budgets)),
        format!("lists: {}", none(feeds)),
    ];
    lines.iter().map(|line| clean(line)).collect()
}

fn verdicts(now: &TopSnapshot, before: Option<&TopSnapshot>, since: Option<Duration>) -> Vec<PacketRate> {
    let counted = |verdict: &str| {
        before?.top.status.verdicts.iter().find(|it| it.verdict == verdict).map(|it| (it.packets, it.bytes))
    };
    let rates = now.top.status.verdicts.iter().map(|it| {
        let (packets, bytes) = counted(&it.verdict).unzip();
        PacketRate {
            verdict: clean(&it.verdict),
            packets_per_second: rate(it.packets, packets, since),
            bytes_per_second: rate(it.bytes, bytes, since),
            packets: it.packets,
            bytes: it.bytes,
        }
    });
    let mut rates: Vec<PacketRate> = rates.collect();
    // What never happened is at the end; the order is the same from look to look.
    rates.sort_by_key(|rate| rate.packets == 0);
    rates
}

fn sources(now: &TopSnapshot, before: Option<&TopSnapshot>, since: Option<Duration>) -> Vec<Dropped> {
    let counters = counters(before);
    let entries = now.top.entries.iter().map(|entry| Dropped {
        source: entry.source.to_string(),
        verdict: if entry.mode == "shadow" { "shadow_blocked" } else { "blocked" }.to_owned(),
        packets_per_second: rate(entry.packets, counters.get(&entry.id).copied(), since),
        estimated: false,
    });
    let mut sources: Vec<Dropped> = entries.filter(|dropped| dropped.packets_per_second > 0).collect();
    for ((source, verdict), packets) in &now.samples {
        // Its entry counts, and counts exactly.
        if !sources.iter().any(|known| !known.estimated && known.source == *source && known.verdict == *verdict) {
            sources.push(Dropped {
                source: clean(source),
                verdict: clean(verdict),
                packets_per_second: rate(*packets, Some(0), since),
                estimated: true,
            });
        }
    }
    sources.retain(|dropped| dropped.packets_per_second > 0);
    sources.sort_by(|a, b| (b.packets_per_second, &a.source).cmp(&(a.packets_per_second, &b.source)));
    sources.truncate(SOURCES);
    sources
}

fn counters(before: Option<&TopSnapshot>) -> HashMap<u64, u64> {
    before.iter().flat_map(|before| &before.top.entries).map(|entry| (entry.id, entry.packets)).collect()
}

fn blocks(now: &TopSnapshot, before: Option<&TopSnapshot>, since: Option<Duration>, screen: &Screen) -> Vec<Block> {
    let counters = counters(before);
    let matches = |entry: &&BlockEntry| {
        let filter = screen.filter.to_lowercase();
        [entry.source.to_string(), entry.reason.clone(), entry.actor.clone(), entry.mode.clone()]
            .iter()
            .any(|text| text.to_lowercase().contains(&filter))
    };
    let rated = |entry: &BlockEntry| rate(entry.packets, counters.get(&entry.id).copied(), since);
    let mut entries: Vec<&BlockEntry> = now.top.entries.iter().filter(matches).collect();
    match screen.sort {
        Sort::Rate => entries.sort_by_key(|entry| (Reverse(rated(entry)), Reverse(entry.packets), entry.id)),
        Sort::Packets => entries.sort_by_key(|entry| (Reverse(entry.packets), entry.id)),
        Sort::Left => entries.sort_by_key(|entry| (entry.remaining_seconds.unwrap_or(u64::MAX), entry.id)),
        Sort::Age => entries.sort_by_key(|entry| Reverse(entry.id)),
    }
    let block = |entry: &BlockEntry| Block {
        id: entry.id,
        source: entry.source,
        mode: clean(&entry.mode),
        left: entry.remaining_seconds.map_or_else(|| "forever".to_owned(), seconds),
        packets_per_second: rated(entry),
        packets: entry.packets,
        bytes: bytes(entry.bytes),
        actor: clean(&entry.actor),
        reason: clean(&entry.reason),
    };
    entries.into_iter().map(block).collect()
}
