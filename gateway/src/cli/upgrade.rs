//! `gateway upgrade`: has the running gateway become the program on disk, and waits until it is.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{context::Context, exit::Exit};
use crate::guard::control::{
    ControlAnswer, ControlRequest, GuardStatus,
    client::{self, Unreachable},
};

/// How long a new program may take until it serves, and the one before it to come back.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How often it is asked whether it does.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "\
Replace the program on disk first, by renaming over it. Guard, observer and
proxy are then started anew. The listening sockets stay, the kernel goes on
dropping, no request fails, and the configuration in force stays. A program that
is not ready within a minute is given up, and the one before it goes on.

The launcher itself stays what it was until the gateway is restarted.

Examples:
  gateway upgrade && gateway status")]
pub(super) struct UpgradeCommand {}

impl UpgradeCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let socket = match context.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let before = match status(&socket) {
            Ok(Ok(before)) => before.guard_pid,
            Ok(Err(answer)) => return context.tell(&answer, &socket, |_| None),
            Err(error) => return context.unreachable(&error),
        };
        match client::ask(&socket, &ControlRequest::Upgrade) {
            Ok(ControlAnswer::Done { changed: 1, .. }) => {
                let how = wait(&socket, before);
                context.tell(&how, &socket, |_| None)
            }
            Ok(answer) => context.tell(&answer, &socket, |_| None),
            Err(error) => context.unreachable(&error),
        }
    }
}

/// How things are, or what is answered instead.
fn status(socket: &Path) -> Result<Result<Box<GuardStatus>, ControlAnswer>, Unreachable> {
    client::ask(socket, &ControlRequest::Status).map(|answer| match answer {
        ControlAnswer::Status(status) => Ok(status),
        other => Err(other),
    })
}

/// Waits until another guard than `before` has a proxy that serves.
fn wait(socket: &Path, before: u32) -> ControlAnswer {
    let start = Instant::now();
    while start.elapsed() < TIMEOUT {
        // While there is no guard nobody answers.
        if let Ok(Ok(status)) = status(socket)
            && status.guard_pid != before
            && status.proxy_pid.is_some()
        {
            if status.upgrade_reverted {
                let message = "the program on disk never got ready: the one before it goes on; its log says why";
                return ControlAnswer::Refused { code: "never_ready".to_owned(), message: message.to_owned() };
            }
            let message = format!("guard and proxy are the program on disk: version {}", status.version);
            return ControlAnswer::Done { message, changed: 1 };
        }
        thread::sleep(LOOK);
    }
    let message = format!("no guard with a proxy has come up within {} s", TIMEOUT.as_secs());
    ControlAnswer::Refused { code: "never_ready".to_owned(), message }
}
