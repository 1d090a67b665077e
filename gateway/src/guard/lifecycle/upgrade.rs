//! Makes room for the program on disk: this guard ends, and the next one is that program. Observer and proxy follow it.
//!
//! *Invariant:* whatever that program does, the launcher goes on with the one before it where it does not get ready, or dies
//! soon after.

use std::time::Duration;

use tokio::time::Instant;

use super::service::Service;
use crate::guard::control::Answer;

/// Why a guard ended that made room.
pub(super) const UPGRADED: &str = "the program on disk takes over";

/// How long answers may take to get out before the guard ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl Service<'_> {
    /// Ends this guard soon, where the program on disk is another one.
    pub(super) fn upgrade(&mut self) -> Answer {
        let refused = |code: &str, message: String| Answer::Refused { code: code.to_owned(), message };
        if self.changes() || self.ending.upgrade_at.is_some() {
            return refused("busy", "a proxy is starting or stopping: try again in a moment".to_owned());
        }
        let program = match self.supervisor.find() {
            Ok(program) if program == self.supervisor.programs().own => {
                return Answer::Done { message: "the program on disk is the one that runs".to_owned(), changed: 0 };
            }
            Ok(program) => program,
            Err(error) => return refused("program", format!("the program on disk is not used: {error}")),
        };
        if let Err(error) = self.supervisor.launcher.upgrade(program) {
            return refused("launcher", error.to_string());
        }
        self.ending.upgrade_at = Some(Instant::now() + LAST_WORDS);
        Answer::Done { message: UPGRADED.to_owned(), changed: 1 }
    }
}
