//! `gateway block export`: writes everything that is blocked, as lists that can be imported.

use std::io::{self, BufWriter, Write as _};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    cli::{
        context::{Context, exit_of_refusal, exit_of_unreachable},
        csv::cell,
        exit::Exit,
        table::clean,
    },
    guard::control::{ControlAnswer, ControlRequest, Exported, client::Conversation},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gateway block export > blocks.txt
  gateway block export --format csv --feed drop
  gateway block export --format json | jq '.[].value'")]
pub(in crate::cli) struct Export {
    /// The format [default: plain, with --json: json]
    #[arg(long)]
    format: Option<Written>,
    /// Only this list; '': what was imported without a name
    #[arg(long, value_name = "NAME")]
    feed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Written {
    /// A source a line
    Plain,
    /// One array of decisions
    Json,
    /// A heading and a record a line
    Csv,
}

impl Export {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let format = self.format.unwrap_or(if context.out.json { Written::Json } else { Written::Plain });
        let mut guard = match Conversation::open(&socket) {
            Ok(guard) => guard,
            Err(error) => return context.unreachable(&error),
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let (mut cursor, mut count) = (None, 0_u64);
        loop {
            let answer = guard.ask(&ControlRequest::BlockExport { feed: self.feed.clone(), cursor });
            let (entries, next) = match answer {
                Ok(ControlAnswer::Exported { entries, next }) => (entries, next),
                // What was begun is no JSON any more: the reason stands elsewhere.
                Ok(ControlAnswer::Refused { code, message }) if count > 0 => {
                    let told = format!("error: the export is not complete: {}", clean(&message));
                    return context.out.complain(&told, exit_of_refusal(&code));
                }
                Err(error) if count > 0 => {
                    let told = format!("error: the export is not complete: {error}");
                    return context.out.complain(&told, exit_of_unreachable(&error));
                }
                Ok(answer) => return context.tell(&answer, &socket, |_answer| None),
                Err(error) => return context.unreachable(&error),
            };
            let written = entries.iter().try_for_each(|entry| {
                let text = record(entry, format, count == 0);
                count += 1;
                out.write_all(text.as_bytes())
            });
            match written {
                Ok(()) => {}
                // A reader that went away (`gateway ... | head`) is no fault.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
                Err(error) => {
                    let told = format!("error: cannot write to standard output: {error}");
                    return context.out.complain(&told, Exit::Refused);
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let end = out.write_all(end(format, count == 0).as_bytes()).and_then(|()| out.flush());
        match end {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                context.out.complain(&format!("error: cannot write to standard output: {error}"), Exit::Refused)
            }
            _ => Exit::Done,
        }
    }
}

const HEADING: &str = "value,scope,duration,reason,actor,mode\n";

/// An entry, and what comes before it.
fn record(entry: &Exported, format: Written, is_first: bool) -> String {
    let scope = if entry.source.to_string().contains('/') { "Range" } else { "Ip" };
    let duration = entry.seconds.map(|seconds| format!("{seconds}s"));
    let mode = if entry.shadow { "shadow" } else { "enforce" };
    match format {
        Written::Plain => format!("{}\n", entry.source),
        Written::Csv => {
            let fields = [
                &entry.source.to_string(),
                scope,
                duration.as_deref().unwrap_or(""),
                &entry.reason,
                &entry.actor,
                mode,
            ];
            let line = fields.map(cell).join(",");
            format!("{}{line}\n", if is_first { HEADING } else { "" })
        }
        Written::Json => {
            let decision = json!({"value": entry.source.to_string(), "scope": scope, "duration": duration,
                "reason": entry.reason, "actor": entry.actor, "mode": mode, "type": "ban"});
            format!("{}\n{decision}", if is_first { "[" } else { "," })
        }
    }
}

/// What comes after the last entry.
const fn end(format: Written, is_empty: bool) -> &'static str {
    match (format, is_empty) {
        (Written::Plain, _) | (Written::Csv, false) => "",
        (Written::Csv, true) => HEADING,
        (Written::Json, false) => "\n]\n",
        (Written::Json, true) => "[]\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::feeds;

    #[test]
    fn no_reason_is_computed_by_a_spreadsheet() {
        let entry = Exported {
            source: "203.0.113.7".parse().unwrap(),
            seconds: None,
            reason: "=1+1".to_owned(),
            actor: "feed:x".to_owned(),
            shadow: false,
        };
        assert_eq!(record(&entry, Written::Csv, false), "203.0.113.7,Ip,,\"'=1+1\",feed:x,enforce\n");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let entries = [("203.0.113.7", None, "say \"no\", twice"), ("2001:db8::/48", Some(60), "listed")];
        let exported = entries.map(|(source, seconds, reason)| Exported {
            source: source.parse().unwrap(),
            seconds,
            reason: reason.to_owned(),
            actor: "feed:x".to_owned(),
            shadow: false,
        });
        for format in [Written::Plain, Written::Csv, Written::Json] {
            let mut text = String::new();
            for (index, entry) in exported.iter().enumerate() {
                text += &record(entry, format, index == 0);
            }
            text += end(format, false);
            let mut back = Vec::new();
            feeds::read(text.as_bytes(), None, |_, read| back.push(read.unwrap())).unwrap();
            let sources: Vec<String> = back.iter().map(|listed| listed.source.to_string()).collect();
            assert_eq!(sources, ["203.0.113.7", "2001:db8::/48"], "{format:?}: {text}");
            if format != Written::Plain {
                assert_eq!(back[0].reason.as_deref(), Some("say \"no\", twice"));
                assert_eq!(back[1].seconds, Some(60));
            }
        }
    }
}
