//! `gateway key import`: takes over keys that were made elsewhere, by their hashes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use clap::Args;

use crate::{
    cli::{context::Context, exit::Exit, progress::Progress},
    guard::control::{ControlAnswer, ControlRequest, ImportedKey, client::Conversation},
    text::counted::counted,
};

/// How much of a request is keys, in bytes: the guard takes lines of 64 KiB.
const CHUNK: usize = 48 * 1_024;

/// The largest file, in bytes.
const LARGEST: u64 = 1 << 30;

#[derive(Debug, Args)]
#[command(after_help = "\
One JSON object a line. `sha256` is the hash of the whole text of the key:
  {\"name\":\"acme\",\"sha256\":\"9f86d0...\",\"roles\":[\"reader\"]}
It may have `from`, `hosts`, `plan` and `expires` (seconds since 1970) too. `id`
is there if the key is written as this gateway writes keys, without its prefix.

Faulty lines are told, and nothing is imported then. Keys that are there
already are left as they are: an import that broke off can be run again.

Examples:
  gateway key import keys.jsonl
  printf %s \"$KEY\" | sha256sum    # the hash of one key")]
pub(in crate::cli) struct Import {
    /// The file, or - for standard input
    file: PathBuf,
}

impl Import {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let keys = match self.read() {
            Ok(keys) => keys,
            Err((wrong, exit)) => return context.out.fail(&wrong, exit),
        };
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let total = u64::try_from(keys.len()).unwrap_or(0);
        let mut progress = Progress::new(total, "keys", context.out.json);
        let mut added = 0;
        let asked = Conversation::open(&socket).and_then(|mut guard| {
            let mut done = 0;
            for some in chunks(keys) {
                done += u64::try_from(some.len()).unwrap_or(0);
                match guard.ask(&ControlRequest::KeyImport { keys: some })? {
                    ControlAnswer::Done { changed, .. } => added += changed,
                    other => return Ok(Some(other)),
                }
                progress.tell(done);
            }
            Ok(None)
        });
        progress.clear();
        let answer = match asked {
            Ok(None) => {
                let message = format!(
                    "{} imported, {} there already",
                    counted(added, "API key is", "API keys are"),
                    counted(total.saturating_sub(added), "was", "were")
                );
                ControlAnswer::Done { message, changed: added }
            }
            Ok(Some(ControlAnswer::Refused { code, message })) => {
                let message = format!("{message} ({} imported before)", counted(added, "key was", "keys were"));
                ControlAnswer::Refused { code, message }
            }
            Ok(Some(other)) => other,
            Err(error) => return context.unreachable(&error),
        };
        context.tell(&answer, &socket, |_answer| None)
    }

    fn read(&self) -> Result<Vec<ImportedKey>, (String, Exit)> {
        let shown = self.file.display();
        let mut text = String::new();
        let read = if self.file.as_os_str() == "-" {
            io::stdin().take(LARGEST).read_to_string(&mut text)
        } else {
            File::open(&self.file).and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        };
        read.map_err(|error| (format!("{shown}: {error}"), Exit::of_file(&error, Exit::Usage)))?;
        parse(&text).map_err(|faults| (format!("{shown}: nothing is imported\n{}", faults.join("\n")), Exit::Refused))
    }
}

/// The most faults that are told.
const TOLD: usize = 10;

fn parse(text: &str) -> Result<Vec<ImportedKey>, Vec<String>> {
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for (number, line) in (1_u64..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<ImportedKey>(line) {
            Ok(key) if key.sha256.len() == 64 && key.sha256.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                keys.push(key);
            }
            Ok(_) => faults.push(format!("line {number}: `sha256` is not 64 hexadecimal digits")),
            // What stands there may be a key.
            Err(error) => {
                faults.push(format!("line {number}: no key ({:?} at column {})", error.classify(), error.column()))
            }
        }
        if faults.len() >= TOLD {
            break;
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

/// Keys in parts that each fit into a request.
fn chunks(keys: Vec<ImportedKey>) -> Vec<Vec<ImportedKey>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for key in keys {
        let length = serde_json::to_vec(&key).map_or(0, |text| text.len());
        if bytes + length > CHUNK && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += length + 1;
        chunk.push(key);
    }
    chunks.push(chunk);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let line = format!("{{\"name\":\"a\",\"sha256\":\"{}\",\"roles\":[\"reader\"]}}\n", "0a".repeat(32));
        let keys = parse(&format!("{line}\n{line}")).unwrap();
        assert_eq!((keys.len(), &*keys[0].name, &keys[0].id), (2, "a", &None));
        for (wrong, says) in [
            ("{}", "line 1: no key"),
            ("secret", "line 1: no key"),
            ("{\"name\":\"a\",\"sha256\":\"0a\"}", "`sha256` is not 64"),
            ("{\"name\":\"a\",\"sha256\":\"0a\",\"key\":\"b\"}", "line 1: no key"),
        ] {
            let faults = parse(wrong).unwrap_err();
            assert!(faults[0].contains(says) && !faults[0].contains("secret"), "{faults:?}");
        }
        let many = chunks(parse(&line.repeat(3_000)).unwrap());
        assert!(many.len() > 1 && many.iter().map(Vec::len).sum::<usize>() == 3_000);
        let request = serde_json::to_vec(&ControlRequest::KeyImport { keys: many[0].clone() }).unwrap();
        assert!(request.len() < 64 * 1_024, "{}", request.len());
    }
}
