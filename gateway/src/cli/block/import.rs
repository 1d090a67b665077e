//! `gateway block import`: blocks everything that a list names.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    time::Duration,
};

use aws_lc_rs::digest;
use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;

use crate::{
    cli::{
        arguments::{name, whole_seconds},
        context::{Context, exit_of_refusal},
        exit::Exit,
        output::CommandOutput,
        progress::Progress,
        table::{clean, item, prose},
    },
    guard::{
        control::{
            ControlAnswer, ControlRequest, ImportEntry, ImportProgress as Far, ListRefusal,
            client::{Conversation, Unreachable},
        },
        feeds::{self, LineError, MAX_BYTES},
    },
    settings::feed::ListFormat,
    text::counted::counted,
};

/// How much of a request is entries, in bytes: the guard takes lines of 64 KiB.
const CHUNK: usize = 56 * 1_024;

/// How many errors and refusals are told one by one as JSON, and to people.
const TOLD: usize = 100;
const SHOWN: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
A list with a name replaces the earlier content of that name as a whole. If
nothing of it can be loaded, the earlier content stays, and the command ends
with 1: a download failed, or it is a page about an error. --allow-empty empties
the list; `gateway block del --feed NAME` removes it. A list without a name is
added to what was imported before without a name; `gateway block del --feed ''`
removes all of that. Lines that cannot be read, and sources that must not be
blocked, are reported; the rest is blocked. A good client is such a source,
unless --force or --shadow is given. So is whoever a list of `never_ban` names,
with --force, too.

Examples:
  gateway block import firehol_level1.netset --feed firehol
  curl -s https://www.spamhaus.org/drop/drop_v4.json |
    gateway block import - --feed drop
  cscli decisions list -o raw | gateway block import - --feed crowdsec --for 4h
  gateway block import suspects.txt --for 1d --shadow --feed suspects")]
pub(in crate::cli) struct Import {
    /// The list, or - for standard input
    file: PathBuf,
    /// The format of the list [default: recognised by its content]
    #[arg(long)]
    format: Option<ListFormat>,
    /// The list's name: its earlier content is replaced
    #[arg(long, value_name = "NAME", value_parser = name)]
    feed: Option<String>,
    /// How long at most: 10m, 1d [default: as the list says, or until it is replaced]
    #[arg(long = "for", value_name = "DURATION", value_parser = whole_seconds)]
    duration: Option<Duration>,
    /// Count what would be dropped, and drop nothing
    #[arg(long)]
    shadow: bool,
    /// Empty the list if nothing can be loaded
    #[arg(long)]
    allow_empty: bool,
    /// Block even good clients and your own session
    #[arg(long)]
    force: bool,
}

/// Why an import ends before it is done.
enum Stop {
    Unreachable(Unreachable),
    Refused(ControlAnswer),
}

/// Lines of which nothing is loaded: the first of them one by one.
#[derive(Default)]
struct LinesNotLoaded {
    /// Entries that must not be blocked.
    refused: u64,
    refusals: Vec<ListRefusal>,
    /// Lines that cannot be read.
    failed: u64,
    errors: Vec<LineError>,
}

/// An import on its way.
struct RunningImport<'a> {
    guard: &'a mut Conversation,
    progress: Progress,
    id: u64,
    /// Entries as JSON, with commas between.
    chunk: Vec<u8>,
    far: Far,
    lines: LinesNotLoaded,
    stop: Option<Stop>,
}

impl Import {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let bytes = match self.read() {
            Ok(bytes) => bytes,
            Err((message, exit)) => return context.out.fail(&message, exit),
        };
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let mut lines = LinesNotLoaded::default();
        let done = Conversation::open(&socket).map_err(Stop::Unreachable);
        let done = done.and_then(|mut guard| self.send(&mut guard, &bytes, &mut lines, context.out.json));
        match done {
            Ok(Ok(report)) if context.out.json => context.out.value(&report.json(), Exit::Done),
            Ok(Ok(report)) => report.show(context),
            Ok(Err(message)) => context.out.fail(&message, Exit::Refused),
            Err(Stop::Unreachable(error)) => context.unreachable(&error),
            Err(Stop::Refused(ControlAnswer::Refused { code, message })) if context.out.json => {
                context.out.value(&lines.json(&code, &message), exit_of_refusal(&code))
            }
            Err(Stop::Refused(answer)) => {
                lines.tell();
                context.tell(&answer, &socket, |_answer| None)
            }
        }
    }

    fn read(&self) -> Result<Vec<u8>, (String, Exit)> {
        let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = if self.is_standard_input() {
            io::stdin().lock().take(most).read_to_end(&mut bytes)
        } else {
            File::open(&self.file).and_then(|file| file.take(most).read_to_end(&mut bytes))
        };
        read.map_err(|error| {
            (format!("{} cannot be read: {error}", self.source()), Exit::of_file(&error, Exit::Usage))
        })?;
        Ok(bytes)
    }

    fn is_standard_input(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// What a person calls the source of the list.
    fn source(&self) -> String {
        if self.is_standard_input() { "standard input".to_owned() } else { self.file.display().to_string() }
    }

    /// Sends the list. Where the guard refuses it, `not_loaded` says why.
    fn send(
        &self,
        guard: &mut Conversation,
        bytes: &[u8],
        not_loaded: &mut LinesNotLoaded,
        json: bool,
    ) -> Result<Result<ImportReport, String>, Stop> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let begin = ControlRequest::BlockImportBegin {
            feed: self.feed.clone(),
            seconds: self.duration.map(|duration| duration.as_secs()),
            shadow: self.shadow,
            force: self.force,
        };
        let far = far_of(guard.ask(&begin))?;
        let mut sending = RunningImport {
            guard,
            progress: Progress::new(u64::try_from(lines).unwrap_or(u64::MAX), "lines", json),
            id: far.id,
            chunk: Vec::with_capacity(CHUNK),
            far,
            lines: LinesNotLoaded::default(),
            stop: None,
        };
        let read = feeds::read(bytes, self.format, |line, read| sending.take(line, read));
        let format = match read {
            Ok(format) => format,
            Err(error) => {
                sending.progress.clear();
                let message = format!("{} {error}", self.source());
                // The guard tells in its status what is wrong with the list.
                let abort = ControlRequest::BlockImportAbort { id: sending.id, reason: Some(message.clone()) };
                return match sending.guard.ask(&abort).map_err(Stop::Unreachable)? {
                    ControlAnswer::Done { message: told, .. } => Ok(Err(format!("{message}: {told}"))),
                    _ => Ok(Err(message)),
                };
            }
        };
        sending.flush();
        sending.lines.refused = sending.far.refused;
        if let Some(stop) = sending.stop {
            sending.progress.clear();
            *not_loaded = sending.lines;
            return Err(stop);
        }
        sending.progress.say("putting the list in force");
        let digest = HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref());
        let commit = ControlRequest::BlockImportCommit { id: sending.id, digest, allow_empty: self.allow_empty };
        let done = far_of(sending.guard.ask(&commit));
        sending.progress.clear();
        match done {
            Ok(far) => Ok(Ok(ImportReport { far, format, lines: sending.lines })),
            Err(stop) => {
                *not_loaded = sending.lines;
                Err(stop)
            }
        }
    }
}

impl RunningImport<'_> {
    fn take(&mut self, line: u32, read: Result<feeds::Listed, String>) {
        if self.stop.is_some() {
            return;
        }
        let listed = match read {
            Ok(listed) => listed,
            Err(message) => {
                self.lines.failed += 1;
                if self.lines.errors.len() < TOLD {
                    self.lines.errors.push(LineError { line, message });
                }
                return;
            }
        };
        let entry = ImportEntry(line, listed.source, listed.seconds, listed.reason);
        // Writing to memory, of what has no keys that JSON could not hold.
        let Ok(entry) = serde_json::to_vec(&entry) else { return };
        if self.chunk.len() + entry.len() >= CHUNK {
            self.flush();
        }
        if !self.chunk.is_empty() {
            self.chunk.push(b',');
        }
        self.chunk.extend(entry);
        self.progress.tell(line.into());
    }

    fn flush(&mut self) {
        if self.chunk.is_empty() || self.stop.is_some() {
            return;
        }
        let mut line = format!("{{\"ask\":\"block_import_chunk\",\"id\":{},\"entries\":[", self.id).into_bytes();
        line.append(&mut self.chunk);
        line.extend(b"]}");
        match far_of(self.guard.ask_line(line)) {
            Ok(mut far) => {
                let room = TOLD.saturating_sub(self.lines.refusals.len());
                self.lines.refusals.extend(far.refusals.drain(..).take(room));
                self.far = far;
            }
            Err(stop) => self.stop = Some(stop),
        }
    }
}

fn far_of(answer: Result<ControlAnswer, Unreachable>) -> Result<Far, Stop> {
    match answer.map_err(Stop::Unreachable)? {
        ControlAnswer::Import(far) => Ok(*far),
        other => Err(Stop::Refused(other)),
    }
}

/// What an import has done.
struct ImportReport {
    far: Far,
    format: ListFormat,
    lines: LinesNotLoaded,
}

impl ImportReport {
    fn json(&self) -> serde_json::Value {
        let Self { far, format, lines } = self;
        json!({"answer": "import", "feed": far.feed, "format": format.name(), "listed": far.taken, "added": far.added,
            "unchanged": far.unchanged, "removed": far.removed, "refused": far.refused, "refusals": lines.refusals,
            "failed": lines.failed, "errors": lines.errors(), "unattached": far.unattached,
            "unrecorded": far.unrecorded})
    }

    fn show(&self, context: &Context) -> Exit {
        let Self { far, format, lines } = self;
        lines.tell();
        let name = if far.feed.is_empty() { "the list".to_owned() } else { format!("feed {}", clean(&far.feed)) };
        let exit = context.out.text(
            &prose(&format!(
                "{name} ({}): {} listed; {} added, {} unchanged, {} removed, {} refused, {} not read{}",
                format.name(),
                counted(far.taken, "source", "sources"),
                far.added,
                far.unchanged,
                far.removed,
                far.refused,
                counted(lines.failed, "line", "lines"),
                clean(far.unrecorded.as_deref().unwrap_or_default())
            )),
            Exit::Done,
        );
        match &far.unattached {
            Some(why) => context.out.complain(&format!("warning: the list blocks nobody: {}", clean(why)), exit),
            None => exit,
        }
    }
}

impl LinesNotLoaded {
    /// A refusal of the whole list, with the reasons why its lines are not loaded.
    fn json(&self, code: &str, message: &str) -> serde_json::Value {
        json!({"answer": "refused", "code": code, "message": message, "refused": self.refused,
            "refusals": self.refusals, "failed": self.failed, "errors": self.errors()})
    }

    fn errors(&self) -> Vec<serde_json::Value> {
        self.errors.iter().map(|error| json!({"line": error.line, "message": error.message})).collect()
    }

    /// Tells people of every line: the first of them one by one, the rest as a number.
    fn tell(&self) {
        let complaints = complaints(&self.errors, self.failed, &self.refusals, self.refused);
        if !complaints.is_empty() {
            CommandOutput::new(false).complain_as_is(&complaints, Exit::Done);
        }
    }
}

/// What people are told of lines that are not loaded.
pub(in crate::cli) fn complaints(errors: &[LineError], failed: u64, refusals: &[ListRefusal], refused: u64) -> String {
    let more = |all: u64, what: &str| {
        let more = all.saturating_sub(u64::try_from(SHOWN).unwrap_or(u64::MAX));
        (more > 0).then(|| format!("and {more} more {what}"))
    };
    let mut complaints = Vec::new();
    for error in errors.iter().take(SHOWN) {
        complaints.push(item(&format!("line {}: cannot be read: {}", error.line, clean(&error.message))));
    }
    complaints.extend(more(failed, "lines that cannot be read"));
    for refusal in refusals.iter().take(SHOWN) {
        let (code, message) = (clean(&refusal.code), clean(&refusal.message));
        complaints.push(item(&format!("line {}: refused ({code}): {message}", refusal.line)));
    }
    complaints.extend(more(refused, "entries that are refused"));
    complaints.join("\n")
}

/// Removes a list that was imported.
pub(super) fn remove(context: &Context, feed: String) -> Exit {
    let socket = match context.socket() {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let mut guard = match Conversation::open(&socket) {
        Ok(guard) => guard,
        Err(error) => return context.unreachable(&error),
    };
    let begin =
        ControlRequest::BlockImportBegin { feed: Some(feed.clone()), seconds: None, shadow: false, force: false };
    let done = far_of(guard.ask(&begin)).and_then(|begun| {
        far_of(guard.ask(&ControlRequest::BlockImportCommit { id: begun.id, digest: String::new(), allow_empty: true }))
    });
    let list = if feed.is_empty() { "list without a name".to_owned() } else { format!("list {feed}") };
    let answer = match done {
        Ok(far) if far.removed > 0 => ControlAnswer::Done {
            message: format!(
                "the {list} is removed: {}{}",
                counted(far.removed, "source", "sources"),
                far.unrecorded.unwrap_or_default()
            ),
            changed: far.removed,
        },
        Ok(far) if far.dismissed => {
            ControlAnswer::Done { message: format!("there is no {list}; the warning about it is gone"), changed: 0 }
        }
        Ok(_) => ControlAnswer::Refused { code: "not_found".to_owned(), message: format!("there is no {list}") },
        Err(Stop::Unreachable(error)) => return context.unreachable(&error),
        Err(Stop::Refused(answer)) => answer,
    };
    context.tell(&answer, &socket, |_answer| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs are told why nothing is loaded, as people are.
    #[test]
    fn a_refusal_has_the_reasons_of_its_lines() {
        let refusal = ListRefusal {
            line: 2,
            source: "10.0.0.1".parse().unwrap(),
            code: "own_address".to_owned(),
            message: "it is this host's".to_owned(),
        };
        let error = LineError { line: 1, message: "no address".to_owned() };
        let lines = LinesNotLoaded { refused: 1, refusals: vec![refusal], failed: 7, errors: vec![error] };
        assert_eq!(
            lines.json("empty", "nothing of it can be loaded"),
            json!({"answer": "refused", "code": "empty", "message": "nothing of it can be loaded", "refused": 1,
                "refusals": [{"line": 2, "source": "10.0.0.1", "code": "own_address", "message": "it is this host's"}],
                "failed": 7, "errors": [{"line": 1, "message": "no address"}]})
        );
    }
}
