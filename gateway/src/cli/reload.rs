//! `gateway reload`: has the running gateway read its configuration again.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::{ANOTHER_GUARD, ControlAnswer, ControlRequest, GuardStatus, client};

/// How long another guard may take until the configuration is in force, or refused.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How often it is asked whether it is.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "\
The gateway reads the file that it was started with. A file that is not valid is
refused with its errors and changes nothing. Bans, counters, connections and
streams are kept. Where the program on disk was replaced, a new proxy of that
program is started; `gateway upgrade` replaces the guard and what is in the
kernel, too.

The file is first compiled by a process of its own, which may take
guard.compile_memory and guard.compile_time. With --dry-run that is done, too,
and what a reload would change is shown; nothing changes.

Examples:
  gateway check && gateway reload
  gateway reload --dry-run")]
pub(super) struct ReloadCommand {
    /// Show what a reload would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl ReloadCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let request = ControlRequest::Reload { dry_run: self.dry_run };
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let before = status(&socket);
        match client::ask(&socket, &request) {
            Ok(ControlAnswer::Done { message, changed: 0 }) if message == ANOTHER_GUARD => {
                let answer = before.and_then(|before| wait(&socket, &before));
                let unknown = || ControlAnswer::Done { message: ANOTHER_GUARD.to_owned(), changed: 0 };
                context.tell(&answer.unwrap_or_else(unknown), &socket, |_| None)
            }
            Ok(answer) => context.tell(&answer, &socket, |_| None),
            Err(error) => context.unreachable(&error),
        }
    }
}

/// How things are; `None`: nobody says.
fn status(socket: &Path) -> Option<Box<GuardStatus>> {
    match client::ask(socket, &ControlRequest::Status) {
        Ok(ControlAnswer::Status(status)) => Some(status),
        _ => None,
    }
}

/// Waits until another guard than that of `before` has put the configuration in force, or refused it; `None`: it has not
/// in time.
fn wait(socket: &Path, before: &GuardStatus) -> Option<ControlAnswer> {
    let start = Instant::now();
    while start.elapsed() < TIMEOUT {
        // While there is no guard nobody answers.
        if let Some(status) = status(socket).filter(|status| status.guard_pid != before.guard_pid) {
            if status.config_since != before.config_since {
                let message = "the new configuration is in force; another guard has loaded the kernel program";
                return Some(ControlAnswer::Done { message: message.to_owned(), changed: 1 });
            }
            let at = |status: &GuardStatus| status.reload_refused.as_ref().map(|refused| refused.at.clone());
            let is_new = at(&status) != at(before);
            if let Some(refused) = status.reload_refused.filter(|_| is_new) {
                return Some(ControlAnswer::Refused { code: refused.code, message: refused.reason });
            }
        }
        thread::sleep(LOOK);
    }
    None
}
