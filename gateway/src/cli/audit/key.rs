//! `gateway audit key`: the public keys of the chain, for whoever verifies it elsewhere.

use std::path::PathBuf;

use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;

use super::chain;
use crate::{
    cli::{context::Context, exit::Exit},
    guard::{
        audit::{PublicKeys, pem},
        control::ControlRequest,
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints Ed25519 keys, the oldest first; the last one signs. Keep them where the
gateway's machine cannot change them: `gateway audit verify --key FILE`.

--rotate puts a new key in the place of the one that signs. The chain names
the new key, signed by both, so that who knows the old one believes the new.

Examples:
  gateway audit key > audit.pub
  gateway audit key --pem
  gateway audit key --rotate")]
pub(in crate::cli) struct Key {
    /// Where the chain is [default: guard.state_dir of the configuration]
    #[arg(long, value_name = "DIR", conflicts_with = "rotate")]
    state_dir: Option<PathBuf>,
    /// Print the keys as OpenSSL reads them
    #[arg(long, conflicts_with_all = ["rotate", "json"])]
    pem: bool,
    /// Have the running gateway sign with a new key from now on
    #[arg(long)]
    rotate: bool,
}

impl Key {
    pub(super) fn execute(self, context: &Context) -> Exit {
        if self.rotate {
            return context.ask(&ControlRequest::AuditRotateKey, |_answer| None);
        }
        let state_dir = match chain::folder(self.state_dir, context) {
            Ok(state_dir) => state_dir,
            Err(exit) => return exit,
        };
        let keys = match PublicKeys::read(&state_dir) {
            Ok(keys) => keys,
            Err(reason) => return context.out.fail(&reason, Exit::Refused),
        };
        if context.out.json {
            let keys: Vec<_> = keys.all().map(|key| json!({"key": HEXLOWER.encode(key), "pem": pem(key)})).collect();
            return context.out.value(&json!({ "keys": keys }), Exit::Done);
        }
        let shown = |key: &[u8]| if self.pem { pem(key) } else { HEXLOWER.encode(key) + "\n" };
        context.out.text(keys.all().map(shown).collect::<String>().trim_end(), Exit::Done)
    }
}
