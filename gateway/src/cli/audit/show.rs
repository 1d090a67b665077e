//! `gateway audit show`: records, for people.

use std::{collections::VecDeque, path::PathBuf};

use clap::Args;
use gateway_common::source::Source;
use serde_json::{Map, Value};

use super::{chain, moment::Between};
use crate::{
    cli::{context::Context, exit::Exit, output::Output, table::clean},
    guard::audit::{Against, read_records},
};

#[derive(Debug, Args)]
#[command(after_help = "\
A record that is not as it was written, and every record after it, has an
exclamation mark before it; the exit code is 1 then.

Examples:
  gateway audit show --last 20
  gateway audit show --event ban --event unban --since 1h
  gateway audit show --source 203.0.113.0/24 --json | jq -r .reason
  gateway audit show --actor operator:0 --since 7d")]
pub(in crate::cli) struct Show {
    /// Where the chain is [default: guard.state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    between: Between,
    /// Show only records of this event; can be repeated
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// Show only records of this address or of sources in this prefix
    #[arg(long, value_name = "SOURCE")]
    source: Option<Source>,
    /// Show only records of this actor: operator:0, rule.NAME, guard
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Show only the last records
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
}

impl Show {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let state_dir = match chain::folder(self.state_dir.clone(), context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let (mut last, mut exit) = (VecDeque::new(), Exit::Done);
        let read = read_records(
            &state_dir,
            &Against { without_store: true, ..Against::default() },
            &mut |line| {
                let record: Option<Map<String, Value>> = serde_json::from_slice(line.text).ok();
                let Some(record) = record.filter(|record| self.shows(record, line.event, line.time)) else {
                    return Ok(());
                };
                let text = if context.out.json {
                    String::from_utf8_lossy(line.text).into_owned()
                } else {
                    render(&record, line.is_good)
                };
                match self.last {
                    None => exit = write(context.out, &text)?,
                    Some(most) => {
                        last.push_back(text);
                        if last.len() > most {
                            last.pop_front();
                        }
                    }
                }
                Ok(())
            },
            &mut |_, _| {},
        );
        let found = match read {
            Ok(found) => found,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Exit::Done,
            Err(error) => {
                return context.out.fail(&format!("the audit chain cannot be read: {error}"), chain::exit_of(&error));
            }
        };
        if let Some(unjudged) = &found.unjudged {
            return chain::untold(unjudged, context);
        }
        for text in last {
            if write(context.out, &text).is_err() {
                return Exit::Done;
            }
        }
        match found.first_bad {
            None => exit,
            Some(bad) => context.out.complain(&clean(&format!("broken at {bad}")), Exit::Refused),
        }
    }

    fn shows(&self, record: &Map<String, Value>, event: &str, time: &str) -> bool {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let is_of = |wanted: &Source| {
            text("source")
                .and_then(|found| found.parse::<Source>().ok())
                .is_some_and(|found| wanted.contains(found.address()) || found.contains(wanted.address()))
        };
        self.between.holds(time)
            && (self.event.is_empty() || self.event.iter().any(|wanted| wanted == event))
            && self.source.as_ref().is_none_or(is_of)
            && self.actor.as_deref().is_none_or(|actor| text("actor") == Some(actor))
    }
}

/// Fails where nobody reads any more, so that no more is read.
fn write(out: Output, text: &str) -> std::io::Result<Exit> {
    out.line(text).map(|()| Exit::Done)
}

/// One record a line, as `gateway watch` shows decisions.
fn render(record: &Map<String, Value>, is_good: bool) -> String {
    let text = |name: &str| record.get(name).map(shown).unwrap_or_default();
    let mark = if is_good { "" } else { "! " };
    let mut line = format!("{mark}{} {} {}", text("seq"), text("time"), text("event"));
    for (name, value) in record {
        if !["seq", "time", "event", "prev", "hash", "signature", "next_signature"].contains(&name.as_str()) {
            line.push_str(&format!(" {name}={}", shown(value)));
        }
    }
    clean(&line)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(' ') => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
