//! `gateway logs`: the access log for a person, filtered, over rotated files, and as it grows.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, IsTerminal as _, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use flate2::read::MultiGzDecoder;
use gateway_common::source::Source;

use self::{entry::Entry, filter::Filter, follow::follow, lines::next_line};
use super::{context::Context, exit::Exit, table::clean};
use crate::{
    config::{Diagnostics, value},
    log::rotated::list,
    os::clock::Now,
    settings::access_log::Statuses,
};

mod entry;
mod filter;
mod follow;
mod lines;

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the first file among the outputs of the access log, and the files that
were rotated away from it, compressed or not. JSON lines and ECS are shown by
columns: time, status, duration, method, path, client, principal, and below
them why a request was refused. Lines of other formats are shown as they are,
and only --grep filters them. With --json, lines are printed as they are in the
file.

Examples:
  gateway logs
  gateway logs --follow --status 5xx
  gateway logs --since 1h --route /items/{id} --source 203.0.113.0/24
  gateway logs --grep timeout --lines 1000 --json | jq .detail")]
pub(super) struct LogsCommand {
    /// The log file [default: that of the configuration]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Show new lines as they are written, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Show lines since then: an age as in 90s, 15m, 2h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    since: Option<Duration>,
    /// Show at most so many lines, the last ones [default: 50, or all with --since]
    #[arg(long, short = 'n', value_name = "NUMBER")]
    lines: Option<usize>,
    /// Show only this status or class: 404, 5xx; can be repeated
    #[arg(long, value_name = "STATUS", value_parser = statuses)]
    status: Vec<Statuses>,
    /// Show only requests of this route
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Show only requests of this address or prefix
    #[arg(long, value_name = "SOURCE")]
    source: Option<Source>,
    /// Show only requests of this principal, as the log has it
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Show only refused requests
    #[arg(long)]
    refused: bool,
    /// Show only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
}

fn age(text: &str) -> Result<Duration, String> {
    value::duration(text).map_err(|wrong| wrong.hint.unwrap_or(wrong.message))
}

fn statuses(text: &str) -> Result<Statuses, String> {
    Statuses::parse(text).ok_or_else(|| format!("{text:?} is not a status: write 404 or 5xx"))
}

/// How lines are shown.
#[derive(Clone, Copy)]
struct LineStyle {
    json: bool,
    colour: bool,
}

impl LogsCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let path = match self.path(context) {
            Ok(path) => path,
            Err(exit) => return exit,
        };
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let look = LineStyle { json: context.out.json, colour: wanted && io::stdout().is_terminal() };
        match self.show(&path, context, look) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let hint = "run it as root, or join the group of the file";
                context.out.fail(&format!("{}: {error}: {hint}", path.display()), Exit::Denied)
            }
            // A file that was mistyped.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.file.is_some() => {
                context.out.fail(&format!("{}: {error}", path.display()), Exit::Usage)
            }
            Err(error) => context.out.fail(&format!("{}: {error}", path.display()), Exit::Refused),
            Ok(()) => Exit::Done,
        }
    }

    fn path(&self, context: &Context) -> Result<PathBuf, Exit> {
        if let Some(path) = &self.file {
            return Ok(path.clone());
        }
        let wrong = |errors: Diagnostics| context.out.fail(&errors.to_string(), Exit::of_configuration(&errors));
        let (config, _denied) = context.without_secrets().map_err(wrong)?;
        let file = config.proxy.access_log.files().next().map(|file| file.path.clone());
        file.ok_or_else(|| {
            let message = "the access log goes to no file: name one with --file, or add an output of type \"file\"";
            context.out.fail(message, Exit::Usage)
        })
    }

    fn show(&self, path: &Path, context: &Context, look: LineStyle) -> io::Result<()> {
        let now = Now::read().unix_millis;
        let since = self.since.map(|age| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        let filter = Filter {
            since,
            statuses: self.status.clone(),
            route: self.route.clone(),
            source: self.source,
            principal: self.principal.clone(),
            refused: self.refused,
            text: self.grep.clone(),
        };
        let most = self.lines.unwrap_or(if since.is_some() { usize::MAX } else { 50 });
        // The file is opened before the list is read: what is rotated in between is in it.
        let current = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.follow => None,
            opened => Some(opened?),
        };
        let mut shown: VecDeque<String> = VecDeque::new();
        let mut end = 0;
        if let Some(current) = &current {
            end = last(&mut BufReader::new(current), &filter, most, &mut shown)?;
        }
        let own = current.as_ref().map(|file| file.metadata()).transpose()?.map(|own| (own.dev(), own.ino()));
        // Backwards, as far as it takes.
        for rotated in list(path).unwrap_or_default().iter().rev() {
            if shown.len() >= most || since.is_some_and(|since| rotated.at < since) {
                break;
            }
            // Removed or compressed in this moment.
            let Ok(file) = File::open(&rotated.path) else { continue };
            if file.metadata().ok().map(|found| (found.dev(), found.ino())) == own {
                continue;
            }
            let mut earlier = VecDeque::new();
            let reader: Box<dyn Read> =
                if rotated.is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
            // A damaged file hides no other, nor what can be read of it.
            if let Err(error) = last(&mut BufReader::new(reader), &filter, most - shown.len(), &mut earlier) {
                let told = format!("WARNING: {} is not shown as a whole: {error}", rotated.path.display());
                context.out.complain(&clean(&told), Exit::Done);
            }
            earlier.append(&mut shown);
            shown = earlier;
        }
        for line in &shown {
            context.out.line(&render(line, look))?;
        }
        if !self.follow {
            return Ok(());
        }
        follow(path, current, end, |line| {
            if filter.passes(line, Entry::read(line).as_ref()) {
                context.out.line(&render(line, look))?;
            }
            Ok(())
        })
    }
}

/// Keeps the last `most` lines that pass the filter; how many bytes of whole lines there were.
fn last(
    reader: &mut BufReader<impl Read>,
    filter: &Filter,
    most: usize,
    shown: &mut VecDeque<String>,
) -> io::Result<u64> {
    let mut bytes = 0;
    while let Some((line, length)) = next_line(reader)? {
        bytes += length;
        if most > 0 && filter.passes(&line, Entry::read(&line).as_ref()) {
            if shown.len() >= most {
                shown.pop_front();
            }
            shown.push_back(line);
        }
    }
    Ok(bytes)
}

fn render(line: &str, look: LineStyle) -> String {
    match Entry::read(line) {
        Some(entry) if !look.json => entry.render(look.colour),
        _ if look.json => line.to_owned(),
        _ => clean(line),
    }
}
