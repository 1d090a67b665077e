//! `gateway audit export`: records for other programs, verified while they are written.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{chain, moment::Between};
use crate::{
    anchor::SignedHead,
    cli::{context::Context, exit::Exit, table::clean},
    guard::audit::{Against, ChainLine, Verification, read_records},
};

mod forms;

#[derive(Debug, Args)]
#[command(after_help = "\
Writes whole records. `json` is the chain itself: exactly its lines, up to the
checkpoint that signs the last one asked for. In every format, what was
exported and what vouches for it follows at the end: as the last line in
`json`, on standard error in the others.

The whole chain is verified meanwhile. Where it is broken, the export ends
before the first bad record, and the exit code is 1.

Examples:
  gateway audit export --since 7d > week.jsonl
  gateway audit export --since 2026-01-01T00:00:00Z \\
    --until 2026-02-01T00:00:00Z --format csv > january.csv
  gateway audit export --format syslog --since 1h | logger --rfc5424")]
pub(in crate::cli) struct Export {
    /// Where the chain is [default: guard.state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    between: Between,
    /// How records are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
    /// Do not compare with the store: the files are a copy without it
    #[arg(long)]
    no_store: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The lines of the chain
    Json,
    /// Comma-separated values (RFC 4180), with a heading
    Csv,
    /// ArcSight Common Event Format
    Cef,
    /// Syslog (RFC 5424), the record as the message
    Syslog,
}

/// What was written.
#[derive(Default)]
struct Written {
    records: u64,
    first: Option<u64>,
    last: Option<u64>,
    /// The checkpoint that signs the last record is among what was written, or need not be.
    is_covered: bool,
}

impl Export {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let state_dir = match chain::folder(self.state_dir.clone(), context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let mut written = Written::default();
        let exported = self.write(&state_dir, &mut out, &mut written);
        if let Ok(Verification { unjudged: Some(unjudged), .. }) = &exported {
            return chain::untold(unjudged, context);
        }
        match exported.and_then(|found| self.end(&found, &written, &mut out, context).map(|()| found)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Err(error) => {
                let exit = chain::exit_of(&error);
                context.out.complain(&format!("error: the export is not complete: {error}"), exit)
            }
            Ok(found) => match found.first_bad {
                None => Exit::Done,
                Some(bad) => context.out.complain(&clean(&format!("broken at {bad}")), Exit::Refused),
            },
        }
    }

    fn write(
        &self,
        state_dir: &std::path::Path,
        out: &mut impl Write,
        written: &mut Written,
    ) -> io::Result<Verification> {
        if self.format == Format::Csv {
            writeln!(out, "{}", forms::CSV_HEADING)?;
        }
        let against = Against { without_store: self.no_store, ..Against::default() };
        read_records(state_dir, &against, &mut |line| self.line(line, out, written), &mut |_, _| {})
    }

    fn line(&self, line: &ChainLine<'_>, out: &mut impl Write, written: &mut Written) -> io::Result<()> {
        // What signs the last record that was asked for belongs to it, where the chain itself is exported.
        let is_end = self.format == Format::Json && written.first.is_some() && !written.is_covered;
        let is_asked = self.between.holds(line.time) || self.between.is_over(line.time) && is_end;
        if !line.is_good || !is_asked {
            return Ok(());
        }
        written.is_covered = line.event == "checkpoint";
        written.records += 1;
        written.first.get_or_insert(line.seq);
        written.last = Some(line.seq);
        match self.format {
            Format::Json => {
                out.write_all(line.text)?;
                out.write_all(b"\n")
            }
            Format::Csv => writeln!(out, "{}", forms::csv(line)),
            Format::Cef => writeln!(out, "{}", forms::cef(line)),
            Format::Syslog => writeln!(out, "{}", forms::syslog(line)),
        }
    }

    /// What was exported, and what vouches for it.
    fn end(&self, found: &Verification, written: &Written, out: &mut impl Write, context: &Context) -> io::Result<()> {
        let (since, until) = self.between.asked();
        let checkpoint = found.checkpoint.as_ref();
        let unsigned = written.last.map_or(0, |last| last.saturating_sub(checkpoint.map_or(0, |head| head.seq)));
        let told = json!({"export": 1, "since": since, "until": until, "records": written.records,
            "first": written.first, "last": written.last, "valid": found.first_bad.is_none(),
            "checkpoint": checkpoint.map(SignedHead::to_line).and_then(|text| serde_json::from_str::<Value>(&text).ok()),
            "unsigned_records": unsigned, "verify": "docs/audit.md: each line ends with the SHA-256 of what is before \
            ,\"hash\"; prev is the hash of the line before; a checkpoint signs the line before it"});
        if self.format == Format::Json {
            writeln!(out, "{told}")?;
            return out.flush();
        }
        out.flush()?;
        context.out.complain_as_is(&told.to_string(), Exit::Done);
        Ok(())
    }
}
