//! `gateway audit verify`: whether the chain is whole.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::PathBuf,
};

use clap::Args;
use serde_json::json;

use super::chain;
use crate::{
    anchor::{SignedHead, timestamp},
    cli::{
        context::Context,
        exit::Exit,
        table::{clean, prose},
    },
    guard::audit::{Against, CheckpointStamp, Outside, Verification, verify_against, verify_export},
    text::counted::counted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads all files of the chain. Notes tell what happened to the files of the
state folder, as the chain itself records it. Ends with 0 if the chain is
whole, with 1 if it is broken, and with 2 if there is none. If it cannot be
told, it ends with 4 where you may not read a file, and with 5 where the store
is damaged.

The store in the folder knows where the chain ends. A copy without the store
needs --no-store; give --anchor then, or a cut end is not found.

What a time stamp says is compared; that its authority has signed it is for
`openssl ts -verify` to say.

Examples:
  gateway audit verify
  gateway audit verify --state-dir /backup/gateway --json
  gateway audit verify --anchor /mnt/vault/anchors.jsonl
  gateway audit verify --state-dir copy --no-store --key audit.pub \\
    --anchor anchors.jsonl
  gateway audit verify --export week.jsonl --key audit.pub")]
pub(in crate::cli) struct Verify {
    /// Where the chain is [default: guard.state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Believe only the keys of this file, which you kept elsewhere
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Do not compare with the store: the files are a copy without it
    #[arg(long)]
    no_store: bool,
    /// Compare with anchors that were kept elsewhere; can be repeated
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// Verify an export (`gateway audit export`) instead of the chain, by --key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state_dir", "no_store"], requires = "key")]
    export: Option<PathBuf>,
    /// Compare with time-stamp responses (RFC 3161); can be repeated
    #[arg(long, value_name = "FILE")]
    tsr: Vec<PathBuf>,
}

impl Verify {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let keys = match chain::keys(self.key.as_deref(), context) {
            Ok(keys) => keys,
            Err(exit) => return exit,
        };
        let outside = match outside(&self.anchor, &self.tsr) {
            Ok(outside) => outside,
            Err((message, exit)) => return context.out.fail(&message, exit),
        };
        if let (Some(export), Some(keys)) = (&self.export, &keys) {
            let found = verify_export(export, keys.clone(), outside, &mut chain::progress(context));
            let unreadable = |error: io::Error| {
                context.out.fail(&format!("{}: {error}", export.display()), Exit::of_file(&error, Exit::Usage))
            };
            return found.map_or_else(unreadable, |found| tell(&found, context));
        }
        let state_dir = match chain::folder(self.state_dir, context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let against = Against { keys, without_store: self.no_store, outside };
        let found = verify_against(&state_dir, &against, &mut chain::progress(context));
        tell(&found, context)
    }
}

/// What was kept outside, from its files; else what is wrong with them, and how the command ends.
fn outside(anchors: &[PathBuf], stamps: &[PathBuf]) -> Result<Outside, (String, Exit)> {
    let unreadable =
        |name: &str, error: &io::Error| (format!("{name} cannot be read: {error}"), Exit::of_file(error, Exit::Usage));
    let mut outside = Outside::default();
    for path in stamps {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| unreadable(&name, &error))?;
        let read = timestamp::Stamp::read(&bytes).map_err(|error| (format!("{name}: {error}"), Exit::Usage))?;
        outside.add_stamp(CheckpointStamp { name, imprint: read.imprint, time: read.time });
    }
    for path in anchors {
        let name = path.display().to_string();
        let mut found = 0;
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|error| unreadable(&name, &error))?;
            let Some(head) = SignedHead::find(&line) else { continue };
            outside.add_anchor(&name, &head).map_err(|wrong| (wrong, Exit::Refused))?;
            found += 1;
        }
        if found == 0 {
            let wrong = format!("{name} holds no anchor: name a file that an anchor has written");
            return Err((wrong, Exit::Usage));
        }
    }
    Ok(outside)
}

fn tell(found: &Verification, context: &Context) -> Exit {
    if let Some(unjudged) = &found.unjudged {
        return chain::untold(unjudged, context);
    }
    let exit = if found.first_bad.is_none() { Exit::Done } else { Exit::Refused };
    if context.out.json {
        let first_bad = found
            .first_bad
            .as_ref()
            .map(|bad| json!({ "file": bad.file, "line": bad.line, "seq": bad.seq, "reason": bad.reason }));
        let value = json!({ "valid": first_bad.is_none(), "records": found.records, "files": found.files,
            "first_bad": first_bad, "notes": found.notes, "checkpoints": found.checkpoints,
            "checkpoint": found.checkpoint });
        return context.out.value(&value, exit);
    }
    for note in &found.notes {
        context.out.complain(&format!("note: {}", clean(note)), exit);
    }
    if let Some(bad) = &found.first_bad {
        return context.out.complain(&clean(&format!("broken at {bad}")), exit);
    }
    let signed = match &found.checkpoint {
        Some(head) => format!("signed up to record {} at {}", head.seq, head.time),
        None => "no record is signed yet".to_owned(),
    };
    let files = if found.files == 1 { String::new() } else { format!(" in {} files", found.files) };
    context
        .out
        .text(&prose(&clean(&format!("whole: {}{files}; {signed}", counted(found.records, "record", "records")))), exit)
}
