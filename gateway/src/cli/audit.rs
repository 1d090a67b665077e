//! `gateway audit`: whether the record of decisions is whole.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{context::Context, exit::Exit, table::clean};
use crate::guard::{audit, state_files};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Works on the files alone: the gateway need not run. Notes tell what happened to the files of the state folder, as the
chain itself records it: a store that was set aside, a key that was lost. Ends with 1 if the chain is broken, and with 2
if there is none.

Examples:
  gateway audit verify
  gateway audit verify --state-dir /backup/gateway --json")]
pub(super) enum Audit {
    /// Say whether every record is as it was written, and name the first that is not
    Verify {
        /// Where the chain is [default: guard.state_dir of the configuration]
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
}

impl Audit {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let Self::Verify { state_dir } = self;
        let state_dir = match state_dir {
            Some(state_dir) => state_dir,
            None => match context.locations() {
                Ok(locations) => locations.state_dir,
                Err(errors) => return context.out.fail(&errors.to_string(), Exit::Usage),
            },
        };
        // A folder that was mistyped is no chain that is broken.
        if let Err(error) = std::fs::read_dir(&state_dir) {
            return context
                .out
                .fail(&format!("{}: {error}: name the folder of a gateway", state_dir.display()), Exit::Usage);
        }
        if !state_files::is_state(&state_dir) {
            let message = format!("{}: no gateway ever kept its state there", state_dir.display());
            return context.out.fail(&message, Exit::Usage);
        }
        let found = audit::verify(&state_dir);
        let exit = if found.first_bad.is_none() { Exit::Done } else { Exit::Refused };
        if context.out.json {
            let first_bad = found
                .first_bad
                .as_ref()
                .map(|bad| json!({ "file": bad.file, "line": bad.line, "seq": bad.seq, "reason": bad.reason }));
            let value = json!({ "valid": first_bad.is_none(), "records": found.records, "first_bad": first_bad,
                "notes": found.notes });
            return context.out.value(&value, exit);
        }
        for note in &found.notes {
            context.out.complain(&format!("note: {}", clean(note)), exit);
        }
        match found.first_bad {
            None => context.out.text(&format!("whole: {} records", found.records), exit),
            Some(bad) => {
                let place = format!("{}:{}", bad.file.display(), bad.line);
                let text = format!("broken at {place}, record {}: {}", bad.seq, bad.reason);
                context.out.complain(&clean(&text), exit)
            }
        }
    }
}
