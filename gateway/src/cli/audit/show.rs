//! `gateway audit show`: records, for people.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
};

use clap::Args;
use gateway_common::source::Source;
use serde_json::{Map, Value};

use super::{chain, moment::Between};
use crate::{
    cli::{context::Context, exit::Exit, output::CommandOutput, table::clean},
    config::value::closest,
    guard::audit::{Against, read_records},
};

#[derive(Debug, Args)]
#[command(after_help = "\
A record that is not as it was written, and every record after it, has an
exclamation mark before it; the exit code is 1 then. With --json the last line
says so: {\"answer\":\"refused\",\"code\":\"refused\",\"message\":\"broken at ...\"}.

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
    /// Show only records that name this address or sources in this prefix
    #[arg(long, value_name = "SOURCE")]
    source: Option<Source>,
    /// Show only records of this actor: operator:0, rule:NAME, guard
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Show only the last records
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
}

/// The names that the records have, to tell a name that none has from one that none has lately.
#[derive(Default)]
struct Names {
    events: BTreeSet<String>,
    actors: BTreeSet<String>,
}

impl Show {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let state_dir = match chain::folder(self.state_dir.clone(), context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let (mut last, mut names, mut exit) = (VecDeque::new(), Names::default(), Exit::Done);
        let read = read_records(
            &state_dir,
            &Against { without_store: true, ..Against::default() },
            &mut |line| {
                let record: Option<Map<String, Value>> = serde_json::from_slice(line.text).ok();
                let Some(record) = record else { return Ok(()) };
                names.learn(&record, line.event);
                if !self.shows(&record, line.event, line.time) {
                    return Ok(());
                }
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
        for told in self.unknown(&names) {
            context.out.complain(&format!("note: {}", clean(&told)), exit);
        }
        match found.first_bad {
            None => exit,
            Some(bad) if context.out.json => context.out.fail(&format!("broken at {bad}"), Exit::Refused),
            Some(bad) => context.out.complain(&clean(&format!("broken at {bad}")), Exit::Refused),
        }
    }

    /// What is said of names that no record of the whole chain has: nothing happened, or the name is mistyped.
    fn unknown(&self, names: &Names) -> Vec<String> {
        let told = |what: &str, wanted: &String, known: &BTreeSet<String>| {
            let known = || known.iter().map(String::as_str);
            let meant = match closest(wanted, known()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("there are: {}", known().take(40).collect::<Vec<_>>().join(", ")),
            };
            format!("no record has the {what} {wanted:?}; {meant}")
        };
        let events = self.event.iter().filter(|event| !names.events.contains(*event));
        let events = events.map(|event| told("event", event, &names.events));
        let actors = self.actor.iter().filter(|actor| !names.actors.contains(*actor));
        events.chain(actors.map(|actor| told("actor", actor, &names.actors))).collect()
    }

    fn shows(&self, record: &Map<String, Value>, event: &str, time: &str) -> bool {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        // What is recorded once a minute names several, each with a number.
        let several = record.get("sources").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let sources = || text("source").into_iter().chain(several.clone().map(String::as_str));
        let is_of = |wanted: &Source| {
            let overlaps = |found: Source| wanted.contains(found.address()) || found.contains(wanted.address());
            sources().filter_map(|found| found.parse().ok()).any(overlaps)
        };
        self.between.holds(time)
            && (self.event.is_empty() || self.event.iter().any(|wanted| wanted == event))
            && self.source.as_ref().is_none_or(is_of)
            && self.actor.as_deref().is_none_or(|actor| text("actor") == Some(actor))
    }
}

impl Names {
    fn learn(&mut self, record: &Map<String, Value>, event: &str) {
        if !self.events.contains(event) {
            self.events.insert(event.to_owned());
        }
        if let Some(actor) = record.get("actor").and_then(Value::as_str)
            && !self.actors.contains(actor)
        {
            self.actors.insert(actor.to_owned());
        }
    }
}

/// Fails where nobody reads any more, so that no more is read.
fn write(out: CommandOutput, text: &str) -> std::io::Result<Exit> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        show: Show,
    }

    #[track_caller]
    fn check(arguments: &[&str], record: &str, expect: bool) {
        let words = ["show"].iter().chain(arguments);
        let Arguments { show } = clap::Parser::parse_from(words);
        let record: Map<String, Value> = serde_json::from_str(record).unwrap();
        let event = record["event"].as_str().unwrap_or_default().to_owned();
        assert_eq!(show.shows(&record, &event, "2026-11-30T00:00:00.000Z"), expect, "{arguments:?} {record:?}");
    }

    #[test]
    fn records_of_a_source_are_those_that_name_it() {
        let ban = r#"{"event":"ban","source":"203.0.113.7","actor":"rule:bad-tokens"}"#;
        let minute = r#"{"event":"refused","class":"invalid_token","sources":{"192.0.2.1":3,"2001:db8:0:7::/64":1}}"#;
        for (source, of_ban, of_minute) in [
            ("203.0.113.7", true, false),
            ("203.0.113.0/24", true, false),
            ("203.0.113.8", false, false),
            ("192.0.2.1", false, true),
            ("192.0.2.0/24", false, true),
            ("2001:db8:0:7::9", false, true),
            ("2001:db8::/32", false, true),
            ("2001:db8:0:8::9", false, false),
            ("0.0.0.0/0", true, true),
        ] {
            check(&["--source", source], ban, of_ban);
            check(&["--source", source], minute, of_minute);
        }
        check(&["--source", "192.0.2.1"], r#"{"event":"start"}"#, false);
        check(&["--actor", "rule:bad-tokens"], ban, true);
        check(&["--event", "unban"], ban, false);
    }

    #[test]
    fn names_that_no_record_has_are_told() {
        let mut names = Names::default();
        for (event, actor) in [("ban", "rule:bad-tokens"), ("unban", "operator:0"), ("start", "guard")] {
            let record = format!(r#"{{"event":{event:?},"actor":{actor:?}}}"#);
            names.learn(&serde_json::from_str(&record).unwrap(), event);
        }
        for (arguments, expect) in [
            (&["--event", "ban"][..], &[][..]),
            (&["--event", "bann"], &["no record has the event \"bann\"; did you mean \"ban\"?"]),
            (&["--event", "ban", "--event", "x"], &["no record has the event \"x\"; there are: ban, start, unban"]),
            (
                &["--actor", "rule.bad-tokens"],
                &["no record has the actor \"rule.bad-tokens\"; did you mean \"rule:bad-tokens\"?"],
            ),
            (&["--actor", "guard"], &[]),
        ] {
            let Arguments { show } = clap::Parser::parse_from(["show"].iter().chain(arguments));
            assert_eq!(show.unknown(&names), expect, "{arguments:?}");
        }
    }
}
