//! `gateway status`: how the running gateway is.

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    table::{Table, bytes, clean, seconds},
};
use crate::guard::control::{self, Answer, Request};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gateway status
  gateway status --json | jq .enforcement")]
pub(super) struct Status {
    /// Metrics have a listener of their own
    #[arg(long, hide = true)]
    prometheus: bool,
}

impl Status {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        if self.prometheus {
            let gone =
                "--prometheus is gone: add [admin] with an `address` to the configuration, and read /metrics there";
            return context.out.fail(gone, Exit::Usage);
        }
        context.ask(&Request::Status, |answer| match answer {
            Answer::Status(status) => Some(render(status)),
            _ => None,
        })
    }
}

fn audit(audit: &control::AuditState) -> String {
    let signed = match audit.signed {
        0 => "none signed yet".to_owned(),
        signed => format!("signed up to {signed} at {}", audit.signed_at),
    };
    let files = if audit.files == 1 { "1 file".to_owned() } else { format!("{} files", audit.files) };
    format!("{} records in {files}, {signed}", audit.records)
}

pub(super) fn render(status: &control::Status) -> String {
    let mut lines = Vec::new();
    // First, because somebody must act on them.
    lines.extend(status.warnings.iter().map(|warning| format!("WARNING: {}", clean(warning))));
    if !lines.is_empty() {
        lines.push(String::new());
    }
    let guard = match status.guard_pid {
        0 => "not running".to_owned(),
        pid => format!("pid {pid}, up {}", seconds(status.uptime_seconds)),
    };
    let proxy = match status.proxy_pid {
        _ if status.guard_pid == 0 => "not running".to_owned(),
        Some(pid) => format!("pid {pid}, restarted {} times", status.proxy_restarts),
        None => format!("being restarted, {} times so far", status.proxy_restarts),
    };
    let interfaces = status.interfaces.iter().map(|interface| {
        let adopted = if interface.adopted { ", adopted" } else { "" };
        format!("{} ({}{adopted})", interface.name, interface.mode)
    });
    let interfaces: Vec<_> = interfaces.collect();
    let enforcement = match interfaces.as_slice() {
        [] => status.enforcement.clone(),
        some => format!("{} on {}", status.enforcement, some.join(", ")),
    };
    let configuration = match status.config_since.as_str() {
        "" => status.config.clone(),
        since => format!("{}, in force since {since}", status.config),
    };
    let observer = status.admin.as_ref().map_or_else(
        || "none: there is no [admin]".to_owned(),
        |admin| match status.observer_pid {
            Some(pid) => format!("pid {pid}, restarted {} times, {admin}", status.observer_restarts),
            None => format!("being restarted, {} times so far, {admin}", status.observer_restarts),
        },
    );
    for (name, value) in [
        ("version", status.version.clone()),
        ("configuration", configuration),
        ("guard", guard),
        ("proxy", proxy),
        ("observer", observer),
        ("listening", status.listeners.join(", ")),
        ("enforcement", enforcement),
        ("blocks", status.blocks.to_string()),
        ("allowlisted", status.allows.to_string()),
        ("audit chain", audit(&status.audit)),
    ] {
        lines.push(format!("{name:<14}{}", clean(&value)));
    }
    if !status.feeds.is_empty() {
        let mut table = Table::new(["LIST", "ENTRIES", "MODE", "FROM", "LOADED"]);
        for feed in &status.feeds {
            let name = if feed.name.is_empty() { "(no name)" } else { &feed.name };
            let cells = [name.to_owned(), feed.entries.to_string(), feed.mode.clone(), feed.origin.clone()];
            let [name, entries, mode, origin] = cells;
            table.row([name, entries, mode, origin, feed.loaded.clone()]);
        }
        lines.push(format!("\n{}", table.render()));
    }
    if !status.audit.anchors.is_empty() {
        let mut table = Table::new(["ANCHOR", "KIND", "RECORD", "SENT", "STATE"]);
        for anchor in &status.audit.anchors {
            let state = anchor.failing.as_deref().unwrap_or("ok").to_owned();
            let cells = [anchor.name.clone(), anchor.kind.clone(), anchor.seq.to_string()];
            let [name, kind, seq] = cells;
            table.row([name, kind, seq, anchor.sent.clone(), state]);
        }
        lines.push(format!("\n{}", table.render()));
    }
    if !status.upstreams.is_empty() {
        let mut table = Table::new(["UPSTREAM", "SERVER", "STATE"]);
        for upstream in &status.upstreams {
            for (server, state) in &upstream.servers {
                let state = format!("{state:?}").to_lowercase();
                table.row([upstream.name.clone(), server.clone(), state]);
            }
        }
        lines.push(format!("\n{}", table.render()));
    }
    if status.verdicts.is_empty() {
        return lines.join("\n");
    }
    let mut table = Table::new(["VERDICT", "PACKETS", "BYTES"]);
    for counted in &status.verdicts {
        table.row([counted.verdict.clone(), counted.packets.to_string(), bytes(counted.bytes)]);
    }
    format!("{}\n\n{}", lines.join("\n"), table.render())
}
