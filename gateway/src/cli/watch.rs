//! `gateway watch`: decisions as they are made.

use clap::Args;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use super::{Context, exit::Exit, table::clean};
use crate::guard::control::Request;

#[derive(Debug, Args)]
#[command(after_help = "\
One line per decision: bans, ends of bans, refusals, repairs, reloads, whatever the audit chain records from now on. With
--json each line is one JSON object. Ends with the gateway, or with Ctrl-C. A watcher that does not keep up is let go.

Examples:
  gateway watch
  gateway watch --json | jq -r 'select(.event == \"ban\") | .source'
  gateway watch --count 1                 # wait for the next decision")]
pub(super) struct Watch {
    /// End after so many events
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Watch {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let socket = match &context.socket {
            Some(socket) => socket.clone(),
            None => match context.locations() {
                Ok(locations) => locations.control_socket,
                Err(errors) => return context.out.fail(&errors.to_string(), Exit::Usage),
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let watched = runtime.and_then(|runtime| runtime.block_on(self.watch(context, &socket)));
        watched.unwrap_or_else(|error| {
            let message = format!("cannot watch the gateway at {}: {error}: is it running?", socket.display());
            context.out.fail(&message, Exit::Unreachable)
        })
    }

    async fn watch(&self, context: &Context, socket: &std::path::Path) -> std::io::Result<Exit> {
        let (read, mut write) = UnixStream::connect(socket).await?.into_split();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut line = serde_json::to_vec(&Request::Watch)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        let mut lines = BufReader::new(read).lines();
        let mut left = self.count;
        while left != Some(0) {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                _ = interrupt.recv() => return Ok(Exit::Done),
            };
            let Some(line) = line else {
                return Ok(context.out.complain("the gateway ended", Exit::Unreachable));
            };
            let members: Map<String, Value> = serde_json::from_str(&line)?;
            if members.contains_key("answer") {
                // Refused: too many watch, or this one did not keep up.
                let message = members.get("message").and_then(Value::as_str).unwrap_or_default();
                return Ok(context.out.complain(&clean(message), Exit::Refused));
            }
            let text = if context.out.json { line } else { render(&members) };
            let shown = context.out.text(&text, Exit::Done);
            if shown != Exit::Done {
                return Ok(shown);
            }
            if members.get("event").is_some_and(|event| event != "watching") {
                left = left.map(|left| left - 1);
            }
        }
        Ok(Exit::Done)
    }
}

/// `TIME EVENT NAME=VALUE ...`
pub(super) fn render(members: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let first = ["time", "event"].map(|name| members.get(name).map(text).unwrap_or_default());
    let rest = members.iter().filter(|(name, _)| !["time", "event"].contains(&name.as_str()));
    let rest = rest.map(|(name, value)| match value {
        Value::String(value) if value.contains(' ') => format!("{name}={value:?}"),
        value => format!("{name}={}", text(value)),
    });
    clean(&first.into_iter().chain(rest).collect::<Vec<_>>().join(" "))
}
