//! `gateway version`.

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::Exit};

#[derive(Debug, Args)]
pub(super) struct VersionCommand {}

impl VersionCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let version = env!("CARGO_PKG_VERSION");
        if context.out.json {
            return context.out.value(&json!({ "version": version }), Exit::Done);
        }
        context.out.text(&format!("gateway {version}"), Exit::Done)
    }
}
