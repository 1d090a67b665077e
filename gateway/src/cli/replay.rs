//! `gateway replay`: which sources a configuration's rules would have banned, by access logs.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Args;
use flate2::read::MultiGzDecoder;
use gateway_common::source::Source;
use serde_json::{Value, json};

use self::{
    record::Record,
    spared::Spared,
    trial::{Banned, Sessions, Trial},
};
use super::{
    context::Context,
    exit::Exit,
    progress::Progress,
    table::{Table, clean, prose},
};
use crate::{
    config::{self, Config, Disk},
    os::clock,
    text::counted::counted,
};

mod line;
mod record;
mod spared;
mod trial;

/// The longest line that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// How many lines pass between two looks at the progress.
const LOOK: u64 = 1_024;

#[derive(Debug, Args)]
#[command(after_help = "\
Reads access logs, and tells which sources the rules of --config would have
banned, had they been in force. It asks no running gateway and changes nothing.
JSON lines of the gateway, ECS (dotted or nested), JSON of nginx's variables, of
Caddy and of Envoy (by the names that Istio gives), the combined format of
Apache and nginx, and HAProxy's httplog are read, compressed by gzip or not.
Files are read in the order of their times. Other lines are counted as unread.

A source with a GOOD session was served as somebody in the same log: look at it
before you enforce the rule. The guard protects such clients in ways that are
not part of this. --against names the rules to compare with; without it, those
of /etc/gateway/gateway.toml, if that is another file.

Requests of proxy.trusted_proxies are passed over, and so are crawlers' in the
ranges of lists in files. A source in guard.allow, or in a file of a list with
use = \"never_ban\", is shown as shielded: the guard would not ban it, and it
is in no sum. Lists by URL, names of crawlers and what `gateway allow` added are
not looked at.

What the log does not say is not counted: the account that a wrong password was
for, headers that are not logged, and, in logs of other servers, who refused a
request: 401, 403, 404 and 5xx count as an upstream's. Rules that can find
nothing in the log are named: those by = \"session\", credential-stuffing and
account-under-attack; in logs of other servers also handshake-abuse and others.

It ends with 0, or with 1 if a rule that is not in shadow mode would have banned
a source with a good session.

Examples:
  gateway replay --config new.toml /var/log/gateway/access.log
  gateway replay --config new.toml --against gateway.toml access.log*
  gateway replay --config new.toml access.log.gz --json | jq '.banned[].source'")]
pub(super) struct ReplayCommand {
    /// Access logs, compressed or not
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// The configuration whose rules to compare with
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Show at most so many sources; --json shows all
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50)]
    lines: usize,
}

/// What was read.
#[derive(Default)]
struct ReplayTotals {
    lines: u64,
    /// Those that are none of an access log.
    unread: u64,
    first: Option<u64>,
    last: u64,
}

impl ReplayCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let load = |path: &Path| Config::load(path, &Disk).map_err(|errors| errors.to_string());
        let configs =
            load(context.config()).and_then(|new| Ok((new, self.before(context).map(|path| load(&path)).transpose()?)));
        let (new, before) = match configs {
            Ok(configs) => configs,
            Err(errors) => return context.out.fail(&errors, Exit::Usage),
        };
        let mut trial = trial_of(&new);
        let mut against = before.as_ref().map(trial_of);
        if new.proxy.detect.rules.is_empty() {
            let hint = "set detect.defaults, or write a [[rule]]";
            return context.out.fail(&format!("{} has no rules: {hint}", context.config().display()), Exit::Usage);
        }
        let prefix = new.guard.ipv6_prefix;
        let (mut sessions, mut totals) = (Sessions::default(), ReplayTotals::default());
        let mut take = |record: &Record, since: u64| {
            sessions.note(record, prefix);
            trial.take(record, since);
            against.iter_mut().for_each(|against| against.take(record, since));
        };
        if let Err((path, error)) = self.read(context, &mut totals, &mut take) {
            return context.out.fail(&format!("{}: {error}", path.display()), Exit::of_file(&error, Exit::Usage));
        }
        if totals.first.is_none() {
            let message = "no line was read: `gateway replay --help` names the formats";
            return context.out.fail(message, Exit::Usage);
        }
        let is_good = |(source, banned): (&Source, &Banned)| banned.enforces() && sessions.of(*source) > 0;
        let exit = if trial.banned.iter().any(is_good) { Exit::Refused } else { Exit::Done };
        let before = self.before(context);
        let against = against.as_ref().zip(before.as_deref());
        if context.out.json {
            return context.out.value(&value(&trial, against, &sessions, &totals), exit);
        }
        context.out.text(&self.text(&trial, against, &sessions, &totals), exit)
    }

    /// The configuration to compare with.
    fn before(&self, context: &Context) -> Option<PathBuf> {
        let usual = Path::new(config::DEFAULT_PATH);
        let other = || (context.config() != usual && usual.exists()).then(|| usual.to_owned());
        self.against.clone().or_else(other)
    }

    /// Reads all files, the one that begins first first.
    fn read(
        &self,
        context: &Context,
        totals: &mut ReplayTotals,
        take: &mut dyn FnMut(&Record, u64),
    ) -> Result<(), (PathBuf, io::Error)> {
        let (mut files, mut total) = (Vec::new(), 0);
        for path in &self.logs {
            let at = |error| (path.clone(), error);
            total += std::fs::metadata(path).map_err(at)?.len();
            let first = open(path, &Arc::default()).and_then(|mut log| first(&mut *log)).map_err(at)?;
            files.push((first, path));
        }
        files.sort();
        let mut progress = Progress::new(total / 1_024, "KiB", context.out.json);
        let passed = Arc::<AtomicU64>::default();
        for (_, path) in files {
            let at = |error| (path.clone(), error);
            let mut log = open(path, &passed).map_err(at)?;
            while let Some(line) = next_line(&mut *log).map_err(at)? {
                totals.lines += 1;
                if totals.lines.is_multiple_of(LOOK) {
                    progress.tell(passed.load(Ordering::Relaxed) / 1_024);
                }
                match line::read(&line) {
                    Some(record) => {
                        let since = *totals.first.get_or_insert(record.time);
                        totals.last = totals.last.max(record.time);
                        take(&record, since);
                    }
                    None => totals.unread += 1,
                }
            }
        }
        progress.clear();
        Ok(())
    }

    /// `against`: what the configuration to compare with would have done, and where that is.
    fn text(
        &self,
        trial: &Trial,
        against: Option<(&Trial, &Path)>,
        sessions: &Sessions,
        totals: &ReplayTotals,
    ) -> String {
        let (against, before) = against.unzip();
        let (first, last) = (clock::rfc3339(totals.first.unwrap_or(0)), clock::rfc3339(totals.last));
        let mut lines = {
            let requests = counted(totals.lines - totals.unread, "request", "requests");
            vec![format!("{requests} from {first} to {last}")]
        };
        if totals.unread > 0 {
            lines.push(counted(
                totals.unread,
                "line is none of an access log, or has no status",
                "lines are none of an access log, or have no status",
            ));
        }
        let sums = Sums::of(trial, sessions);
        lines.push(format!(
            "{} would have been banned, {} of them with good sessions; {} more by rules in shadow mode",
            counted(sums.enforced, "source", "sources"),
            sums.good,
            sums.shadow
        ));
        if sums.shielded > 0 {
            let sources = counted(sums.shielded, "source", "sources");
            lines.push(format!("{sources} more would have been, if the configuration did not shield them"));
        }
        if trial.relayed > 0 {
            let requests = counted(trial.relayed, "request", "requests");
            lines.push(format!("{requests} of proxy.trusted_proxies: they count against nobody"));
        }
        if trial.crawled > 0 {
            let requests = counted(trial.crawled, "request", "requests");
            lines.push(format!("{requests} of crawlers that follow links: they count against nobody"));
        }
        lines.extend(trial.unjudged().iter().map(|(rule, why)| format!("rule {rule} finds nothing: {why}")));
        lines.extend(trial.spared.unread.iter().map(|unread| format!("not looked at: {unread}")));
        if let Some(against) = against {
            let (added, gone) = difference(trial, against);
            let before = before.map(|path| path.display().to_string()).unwrap_or_default();
            lines.push({
                let added = counted(added.len(), "source", "sources");
                format!("compared with {before}: {added} more, {} fewer", gone.len())
            });
            lines.extend(gone.iter().take(self.lines).map(|source| format!("  no longer banned: {source}")));
            let more = gone.len().saturating_sub(self.lines);
            lines
                .extend((more > 0).then(|| format!("  and {more} more that are no longer banned: --lines shows them")));
        }
        let mut lines: Vec<String> = lines.iter().map(|line| prose(&clean(line))).collect();
        if trial.banned.is_empty() {
            return lines.join("\n");
        }
        let mut rows: Vec<_> = trial.banned.iter().collect();
        rows.sort_by_key(|(source, banned)| (!banned.enforces(), banned.shadow, sessions.of(**source) == 0, banned.at));
        let mut table = Table::new(["SOURCE", "RULE", "FIRST BANNED", "BANS", "GOOD", "EVIDENCE"]);
        for (source, banned) in rows.iter().take(self.lines) {
            let is_new = against.is_some_and(|against| !is_banned(against, **source)) && banned.enforces();
            let shield = banned.shield.as_ref().map(|shield| format!(" (shielded by {shield})"));
            table.row([
                source.to_string(),
                format!(
                    "{}{}{}{}",
                    banned.rule,
                    if banned.shadow { " (shadow)" } else { "" },
                    shield.unwrap_or_default(),
                    if is_new { " (new)" } else { "" }
                ),
                clock::rfc3339(banned.at).replace('T', " "),
                banned.bans.to_string(),
                sessions.of(**source).to_string(),
                format!("{} {}", banned.evidence, banned.signal),
            ]);
        }
        let more = rows.len().saturating_sub(self.lines);
        lines.push(format!("\n{}", table.render()));
        if more > 0 {
            lines.push(format!("and {more} more: --lines shows them"));
        }
        lines.join("\n")
    }
}

fn trial_of(config: &Config) -> Trial {
    Trial::new(&config.proxy.detect, Spared::by(config), config.guard.ipv6_prefix)
}

#[derive(Default)]
struct Sums {
    enforced: usize,
    good: usize,
    shadow: usize,
    /// The guard would not ban them, whatever the mode of the rule.
    shielded: usize,
}

impl Sums {
    fn of(trial: &Trial, sessions: &Sessions) -> Self {
        let mut sums = Self::default();
        for (source, banned) in &trial.banned {
            let is_shielded = banned.shield.is_some();
            sums.shielded += usize::from(is_shielded);
            sums.shadow += usize::from(banned.shadow && !is_shielded);
            sums.enforced += usize::from(banned.enforces());
            sums.good += usize::from(banned.enforces() && sessions.of(*source) > 0);
        }
        sums
    }
}

/// Whether rules that are not in shadow mode would have banned it.
fn is_banned(trial: &Trial, source: Source) -> bool {
    trial.banned.get(&source).is_some_and(Banned::enforces)
}

/// Who would have been banned by the first alone, and who by the second alone.
fn difference(trial: &Trial, against: &Trial) -> (Vec<Source>, Vec<Source>) {
    let only = |one: &Trial, other: &Trial| {
        let banned = one.banned.keys().copied().filter(|source| is_banned(one, *source));
        banned.filter(|source| !is_banned(other, *source)).collect()
    };
    (only(trial, against), only(against, trial))
}

fn value(trial: &Trial, against: Option<(&Trial, &Path)>, sessions: &Sessions, totals: &ReplayTotals) -> Value {
    let (against, before) = against.unzip();
    let sums = Sums::of(trial, sessions);
    let unjudged = trial.unjudged();
    let unjudged = unjudged.iter().map(|(rule, why)| json!({ "rule": rule, "why": why }));
    let banned = trial.banned.iter().map(|(source, banned)| {
        json!({
            "source": source.to_string(),
            "rule": banned.rule,
            "mode": if banned.shadow { "shadow" } else { "enforce" },
            "shielded_by": banned.shield,
            "first": clock::rfc3339(banned.at),
            "bans": banned.bans,
            "good_principals": sessions.of(*source),
            "evidence": { "requests": banned.evidence, "of": banned.signal, "ids": banned.ids },
            "dropped_requests": banned.dropped,
            "dropped_served_requests": banned.dropped_good,
            "in_force_too": against.map(|against| is_banned(against, *source)),
        })
    });
    let texts = |sources: Vec<Source>| sources.iter().map(ToString::to_string).collect::<Vec<_>>();
    let compared = against.map(|against| {
        let (added, gone) = difference(trial, against);
        json!({ "with": before.map(|path| path.display().to_string()), "added": texts(added), "gone": texts(gone) })
    });
    json!({
        "requests": totals.lines - totals.unread,
        "unread_lines": totals.unread,
        "from": totals.first.map(clock::rfc3339),
        "to": clock::rfc3339(totals.last),
        "sources_banned": sums.enforced,
        "sources_banned_with_good_sessions": sums.good,
        "sources_in_shadow": sums.shadow,
        "sources_shielded": sums.shielded,
        "trusted_proxy_requests": trial.relayed,
        "crawler_requests": trial.crawled,
        "rules_unjudged": unjudged.collect::<Vec<_>>(),
        "not_looked_at": trial.spared.unread,
        "dropped_requests": trial.dropped,
        "compared": compared,
        "banned": banned.collect::<Vec<_>>(),
    })
}

/// Counts the bytes that pass of a file, compressed as they are there.
struct Counting(File, Arc<AtomicU64>);

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        self.1.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a log, compressed or not: its first bytes tell.
fn open(path: &Path, passed: &Arc<AtomicU64>) -> io::Result<Box<dyn BufRead>> {
    let mut log = BufReader::with_capacity(1 << 16, Counting(File::open(path)?, Arc::clone(passed)));
    let is_compressed = log.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_compressed { Box::new(BufReader::new(MultiGzDecoder::new(log))) } else { Box::new(log) })
}

/// The next line; `None`: there is no other. What is too long is cut, and is none of an access log then.
fn next_line(log: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if log.take(LONGEST).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// When the first request of a log began.
fn first(log: &mut dyn BufRead) -> io::Result<Option<u64>> {
    for _ in 0..LOOK {
        match next_line(log)? {
            Some(line) => {
                if let Some(record) = line::read(&line) {
                    return Ok(Some(record.time));
                }
            }
            None => break,
        }
    }
    Ok(None)
}
