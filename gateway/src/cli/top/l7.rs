//! `gateway top --l7`: which sources and principals fail and ask most, and why.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::Duration,
};

use crate::{
    cli::{
        context::Context,
        exit::Exit,
        table::{Table, bytes, seconds},
    },
    guard::control::{ControlAnswer, ControlRequest},
    policy::detect::ProfileRow,
    text::counted::counted,
};

/// Takes the cursor to the first line, and clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Prints one frame; on a terminal one after the other, so often as `again` says.
pub(super) fn execute(lines: u16, again: Option<Duration>, context: &Context) -> Exit {
    let again = again.filter(|_| !context.out.json && io::stdout().is_terminal());
    loop {
        let exit = context.ask(&ControlRequest::Profiles { most: lines }, |answer| match answer {
            ControlAnswer::Profiles { rows } if again.is_some() => Some(format!("{CLEAR}{}", render(rows))),
            ControlAnswer::Profiles { rows } => Some(render(rows)),
            _ => None,
        });
        match again {
            Some(again) if exit == Exit::Done => thread::sleep(again),
            _ => return exit,
        }
    }
}

fn render(rows: &[ProfileRow]) -> String {
    if rows.is_empty() { "nobody has asked for anything yet".to_owned() } else { table(rows).render() }
}

fn table(rows: &[ProfileRow]) -> Table<6> {
    let mut table = Table::new(["WHO", "REQ/MIN", "FAILED", "PATHS", "SEEN", "WHY"]);
    for row in rows {
        let reasons = if row.reasons.is_empty() { "-".to_owned() } else { row.reasons.join(", ") };
        table.row([
            shortened(row),
            row.per_minute.to_string(),
            share(row.failed_per_minute, row.per_minute),
            row.paths.to_string(),
            seconds(row.idle_seconds),
            reasons,
        ]);
    }
    table
}

/// A name that leaves room for the rest of its row. An address stays whole: without its end it would be another one.
fn shortened(ProfileRow { who, kind, .. }: &ProfileRow) -> String {
    const MOST: usize = 26;
    if who.chars().count() <= MOST || kind == "source" {
        return who.to_owned();
    }
    who.chars().take(MOST - 3).chain("...".chars()).collect()
}

fn share(part: u64, whole: u64) -> String {
    format!("{} %", part.saturating_mul(100).checked_div(whole).unwrap_or(0))
}

/// What somebody does, in one line.
pub(in crate::cli) fn sentence(row: &ProfileRow) -> String {
    let ProfileRow { requests, failed, per_minute, paths, agents, counterparts, .. } = row;
    let several = |count: u32, one: &str| counted(count, one, &format!("{one}s"));
    let hours: Vec<String> = row.hours.iter().map(|hour| format!("{hour} h")).collect();
    format!(
        "{} in {}, {per_minute} in the last minute; {} failed; about {}, {}, {}; {} in, {} out, at most {} \
         at once; at {} (UTC)",
        counted(*requests, "request", "requests"),
        seconds(row.since_seconds),
        share(*failed, *requests),
        several(*paths, "path"),
        several(*agents, "user agent"),
        several(*counterparts, if row.kind == "principal" { "source" } else { "principal" }),
        bytes(row.bytes_in),
        bytes(row.bytes_out),
        bytes(row.largest),
        hours.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_a_terminal() {
        let row = |who: &str, reasons: &[&str]| ProfileRow {
            who: who.to_owned(),
            kind: "source".to_owned(),
            requests: 120_000,
            failed: 119_000,
            per_minute: 12_345,
            failed_per_minute: 12_000,
            paths: 1_234,
            agents: 12,
            hours: vec![13, 14],
            since_seconds: 60,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            ..ProfileRow::default()
        };
        let rows = [
            row("2001:db8:aaaa:bbbb::/64", &["rule path-scan at 19 of 20", "119000 unknown routes", "3 bad requests"]),
            ProfileRow { kind: "principal".to_owned(), ..row(&"a-very-long-principal".repeat(6), &[]) },
            row("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", &["119000 unknown routes"]),
            row("evil\u{1b}[31m", &["1 forged tokens"]),
        ];
        let text = table(&rows).render_within(80);
        for line in text.lines() {
            assert!(line.chars().count() <= 80 && !line.contains('\u{1b}'), "{line}");
        }
        assert!(text.contains("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff") && text.contains("a-very-long-principala-..."));
        assert!(text.contains("path-scan") && text.contains("97 %"), "{text}");
        assert!(sentence(&rows[0]).contains("99 % failed; about 1234 paths, 12 user agents"), "{}", sentence(&rows[0]));
    }
}
