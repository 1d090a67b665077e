//! `gateway doctor`: everything that is off with the host and the gateway.

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::Exit, table::Table};
use crate::{
    config::{Config, Disk, Files as _, Permitted},
    guard::doctor::{self, CheckState},
    text::counted::counted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Changes nothing. Works with or without a running gateway, and as any user: it
says what it may not read. Ends with 1 if a check fails or the configuration is
not valid; warnings alone end with 0.

Examples:
  gateway doctor
  gateway doctor --json | jq '.checks[] | select(.state != \"ok\")'")]
pub(super) struct DoctorCommand {}

impl DoctorCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        // The configuration itself has to be read, and is empty where it must not be.
        let files = Permitted::default();
        let config = match Disk.read(context.config()) {
            Ok(_) => Config::load(context.config(), &files),
            Err(_) => Config::load(context.config(), &Disk),
        };
        let config = match config {
            Ok(config) => config,
            Err(errors) => return context.out.fail(&errors.to_string(), Exit::of_configuration(&errors)),
        };
        let checks = doctor::judge(&doctor::look(&config, files.denied()));
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        let (failed, warned) = (count(CheckState::Fail), count(CheckState::Warn));
        let exit = if failed > 0 { Exit::Refused } else { Exit::Done };
        if context.out.json {
            let value = json!({"well": failed == 0, "failed": failed, "warned": warned, "checks": checks});
            return context.out.value(&value, exit);
        }
        let warnings = counted(warned, "warning", "warnings");
        context.out.text(&format!("{}\n\n{failed} failed, {warnings}", render(&checks)), exit)
    }
}

pub(super) fn render(checks: &[doctor::Check]) -> String {
    let mut table = Table::new(["STATE", "CHECK", "FOUND", "WHAT HELPS"]);
    for check in checks {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Warn => "WARN",
            CheckState::Fail => "FAIL",
        };
        table.row([state.to_owned(), check.name.clone(), check.what.clone(), check.fix.clone()]);
    }
    table.render()
}
