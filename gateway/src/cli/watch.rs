//! `gateway watch`: decisions as they are made, samples of packets as they are dropped, and traces of packets.

use clap::Args;
use gateway_common::{source::Source, trace::passes, verdict::Verdict};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use super::{
    context::{Context, exit_of_refusal},
    exit::Exit,
    table::{bytes, clean},
};
use crate::guard::control::{ControlRequest, Traced, client::Unreachable};

#[derive(Debug, Args)]
#[command(after_help = "\
One line per event. Decisions are bans, ends of bans, refusals, repairs,
reloads, whatever the audit chain records from now on. Packets are samples of
what the kernel drops, and of SYNs that it answers: at most 100 a second on each
CPU; the last words say how many packets such a line stands for. With --json
each line is one JSON object.

With --kernel the kernel program writes a line about packets of a source, passed
ones too, while the command runs; without a SOURCE, of everybody. It is put in
the place of the other one and taken out again without a gap. At most 20 lines a
second about passed packets on each CPU, and 20 about others; the last words say
how many packets such a line stands for. At most 7 may trace at once.

Ends with the gateway, or with Ctrl-C. A watcher that is too slow for decisions
is disconnected. One that is too slow for packets is told how many lines it
missed.

Examples:
  gateway watch
  gateway watch --decisions --json | jq -r 'select(.event == \"ban\") | .source'
  gateway watch --verdict over_packets --verdict over_syns
  gateway watch --source 203.0.113.0/24
  gateway watch --kernel 203.0.113.7      # what becomes of its packets?
  gateway watch --kernel --verdict blocked --json
  gateway watch --count 1                 # wait for the next event")]
pub(super) struct WatchCommand {
    /// End after this many events
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Show only decisions
    #[arg(long, conflicts_with = "packets")]
    decisions: bool,
    /// Show only packets
    #[arg(long)]
    packets: bool,
    /// Trace packets in the kernel: of an address or prefix, or of everybody
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["decisions", "packets"])]
    kernel: Option<Option<Source>>,
    /// Show only packets of this verdict, as `gateway status` names it; can be repeated
    #[arg(long, value_name = "VERDICT", conflicts_with = "decisions", value_parser = verdict)]
    verdict: Vec<Verdict>,
    /// Show only events of this address or prefix
    #[arg(long, value_name = "SOURCE")]
    source: Option<Source>,
}

fn verdict(name: &str) -> Result<Verdict, String> {
    let mut all = Verdict::ALL.into_iter();
    all.find(|verdict| verdict.name() == name).ok_or_else(|| {
        let names: Vec<_> = Verdict::ALL.into_iter().map(Verdict::name).collect();
        format!("the verdicts are {}", names.join(", "))
    })
}

impl WatchCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        if self.kernel.is_none()
            && let Some(passed) = self.verdict.iter().find(|verdict| passes(**verdict))
        {
            let message = format!("packets that are {} pass, and have no samples: use --kernel", passed.name());
            return context.out.fail(&message, Exit::Usage);
        }
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let watched = runtime.and_then(|runtime| runtime.block_on(self.watch(context, &socket)));
        watched.unwrap_or_else(|error| context.unreachable(&Unreachable::of(&socket, error)))
    }

    async fn watch(&self, context: &Context, socket: &std::path::Path) -> std::io::Result<Exit> {
        let (read, mut write) = UnixStream::connect(socket).await?.into_split();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let packets = !self.decisions;
        let decisions = !self.packets && self.verdict.is_empty();
        let kernel = self.kernel.map(|source| Traced {
            source: source.map(|source| source.to_string()),
            drops_only: !self.verdict.is_empty() && !self.verdict.iter().any(|verdict| passes(*verdict)),
        });
        let mut line = serde_json::to_vec(&ControlRequest::Watch { decisions, packets, kernel })?;
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
                return Ok(context.out.fail("the gateway ended", Exit::Unreachable));
            };
            let members: Map<String, Value> = serde_json::from_str(&line)?;
            if members.contains_key("answer") {
                // Refused: too many watch, this one did not keep up, or may not watch.
                let message = members.get("message").and_then(Value::as_str).unwrap_or_default();
                let exit = exit_of_refusal(members.get("code").and_then(Value::as_str).unwrap_or_default());
                return Ok(match context.out.json {
                    true => context.out.text(&line, exit),
                    false => context.out.complain(&clean(message), exit),
                });
            }
            if !self.shows(&members) {
                continue;
            }
            let text = if context.out.json { line } else { render(&members) };
            let shown = context.out.text(&text, Exit::Done);
            if shown != Exit::Done {
                return Ok(shown);
            }
            if members.get("event").is_some_and(|event| event != "watching" && event != "skipped") {
                left = left.map(|left| left - 1);
            }
        }
        Ok(Exit::Done)
    }

    /// Whether an event passes the filters. What concerns the watching itself always does.
    fn shows(&self, members: &Map<String, Value>) -> bool {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if matches!(text("event"), Some("watching" | "skipped")) {
            return true;
        }
        let source = text("source").and_then(|source| source.parse::<Source>().ok());
        let concerns = |wanted: &Source| source.is_some_and(|it| wanted.covers(&it) || it.covers(wanted));
        let named = |name: &str| self.verdict.iter().any(|verdict| verdict.name() == name);
        self.source.as_ref().is_none_or(concerns) && (self.verdict.is_empty() || text("verdict").is_some_and(named))
    }
}

/// An event as a line for people.
pub(super) fn render(members: &Map<String, Value>) -> String {
    if members.get("event").is_some_and(|event| event == "packet" || event == "trace") {
        return clean(&packet(members));
    }
    decision(members)
}

/// `TIME EVENT VERDICT SOURCE to PROTOCOL PORT on INTERFACE, BYTES, WHY, one of SO MANY`
fn packet(members: &Map<String, Value>) -> String {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let number = |name: &str| members.get(name).and_then(Value::as_u64);
    let [time, event, verdict] = ["time", "event", "verdict"].map(|name| text(name).unwrap_or_default());
    let mut line = format!("{time} {event} {verdict}");
    line.push_str(&format!(" from {}", text("source").unwrap_or("an unknown source")));
    match (text("protocol"), number("port")) {
        (Some(protocol), Some(port)) => line.push_str(&format!(" to {protocol} port {port}")),
        (Some(protocol), None) => line.push_str(&format!(" by {protocol}")),
        (None, _) => {}
    }
    if let Some(interface) = text("interface") {
        line.push_str(&format!(" on {interface}"));
    }
    line.push_str(&format!(", {}", bytes(number("bytes").unwrap_or(0))));
    match (number("ban"), text("reason"), text("actor")) {
        (Some(ban), reason, _) => line.push_str(&format!(", ban {ban}: {}", reason.unwrap_or_default())),
        (None, _, Some(actor)) => line.push_str(&format!(", listed by {actor}")),
        (None, ..) => {}
    }
    if let Some(many) = number("one_in").filter(|many| *many > 1) {
        line.push_str(&format!(" (one of {many})"));
    }
    line
}

/// `TIME EVENT NAME=VALUE ...`
fn decision(members: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let first = ["time", "event"].map(|name| members.get(name).map(text).unwrap_or_default());
    let rest = members.iter().filter(|(name, _)| !["time", "event"].contains(&name.as_str()));
    let rest = rest.map(|(name, value)| match value {
        Value::String(value) if value.contains(' ') => format!("{name}={value:?}"),
        value => format!("{name}={}", text(value)),
    });
    clean(&first.into_iter().chain(rest).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn packets_are_sentences() {
        for (text, expect) in [
            (
                r#"{"time":"T","event":"packet","verdict":"blocked","source":"192.0.2.7","protocol":"tcp","port":443,
                "interface":"eth0","bytes":54,"one_in":120,"ban":7,"reason":"5 bad token\u001b[31m","actor":"rule:x"}"#,
                "T packet blocked from 192.0.2.7 to tcp port 443 on eth0, 54 B, ban 7: 5 bad token\\u{1b}[31m (one of 120)",
            ),
            (
                r#"{"time":"T","event":"packet","verdict":"blocked","source":"192.0.2.7","bytes":2048,"one_in":1,"actor":"feed:x"}"#,
                "T packet blocked from 192.0.2.7, 2.0 KiB, listed by feed:x",
            ),
            (
                r#"{"time":"T","event":"packet","verdict":"malformed","bytes":60,"one_in":1}"#,
                "T packet malformed from an unknown source, 60 B",
            ),
            (r#"{"event":"skipped","packets":7}"#, " skipped packets=7"),
        ] {
            assert_eq!(render(&members(text)), expect);
        }
    }

    #[test]
    fn filters() {
        let shows = |verdicts: &[Verdict], source: Option<&str>, text: &str| {
            let (verdict, source) = (verdicts.to_vec(), source.map(|source| source.parse().unwrap()));
            let watch = WatchCommand { count: None, decisions: false, packets: false, kernel: None, verdict, source };
            watch.shows(&members(text))
        };
        let packet = r#"{"event":"packet","verdict":"blocked","source":"192.0.2.7"}"#;
        assert!(shows(&[], None, packet));
        assert!(shows(&[Verdict::Blocked], Some("192.0.2.0/24"), packet));
        assert!(!shows(&[Verdict::OverSyns], None, packet));
        assert!(!shows(&[], Some("192.0.2.8"), packet));
        let ban = r#"{"event":"ban","source":"192.0.2.0/24"}"#;
        assert!(shows(&[], Some("192.0.2.8"), ban));
        assert!(!shows(&[], Some("192.0.2.8"), r#"{"event":"reload"}"#));
        assert!(shows(&[Verdict::OverSyns], Some("192.0.2.8"), r#"{"event":"skipped"}"#));
        assert_eq!(verdict("over_syns"), Ok(Verdict::OverSyns));
        assert_eq!(verdict("passed"), Ok(Verdict::Passed), "with --kernel");
        assert!(verdict("gone").is_err_and(|error| error.contains("over_packets")));
    }
}
