//! `gateway audit head`: the last checkpoint, to be kept elsewhere by hand or by a script.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::chain;
use crate::{
    anchor::{SignedHead, timestamp},
    cli::{context::Context, exit::Exit},
    guard::audit::{Against, verify_against},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the last checkpoint as one line of JSON, as anchors get it. The chain
is verified before.

--tsq also writes a request for a time stamp (RFC 3161), and --text what is
stamped, so that `openssl ts -verify -data` can verify the response.

Examples:
  gateway audit head >> /mnt/vault/anchors.jsonl
  gateway audit head --tsq head.tsq --text head.txt
  gateway audit verify --tsr head.tsr           # the response, once it is there")]
pub(in crate::cli) struct Head {
    /// Where the chain is [default: guard.state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Write a request for a time stamp of it
    #[arg(long, value_name = "FILE")]
    tsq: Option<PathBuf>,
    /// Write what the checkpoint signs, and what is stamped
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

impl Head {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let state_dir = match chain::folder(self.state_dir.clone(), context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let found = verify_against(&state_dir, &Against::default(), &mut chain::progress(context));
        if let Some(unjudged) = &found.unjudged {
            return chain::untold(unjudged, context);
        }
        if let Some(bad) = found.first_bad {
            return context.out.fail(&format!("the chain is broken at {bad}"), Exit::Refused);
        }
        let Some(head) = found.checkpoint else {
            return context.out.fail("no record is signed yet: the gateway signs within a minute", Exit::Refused);
        };
        if let Err((path, error)) = self.write(&head) {
            let exit = Exit::of_file(&error, Exit::Usage);
            return context.out.fail(&format!("{} cannot be written: {error}", path.display()), exit);
        }
        context.out.text(&head.to_line(), Exit::Done)
    }

    fn write(&self, head: &SignedHead) -> Result<(), (&Path, std::io::Error)> {
        if let Some(path) = &self.tsq {
            let mut nonce = [0; 8];
            let unspecified = |_unspecified| (path.as_path(), std::io::Error::other("there is no randomness"));
            aws_lc_rs::rand::fill(&mut nonce).map_err(unspecified)?;
            let request = timestamp::request(&timestamp::imprint(head.seq, &head.hash), u64::from_be_bytes(nonce));
            fs::write(path, request).map_err(|error| (path.as_path(), error))?;
        }
        if let Some(path) = &self.text {
            let text = crate::anchor::signed_text(head.seq, &head.hash);
            fs::write(path, text).map_err(|error| (path.as_path(), error))?;
        }
        Ok(())
    }
}
