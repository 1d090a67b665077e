//! Makes room for another guard: that of the program on disk, which observer and proxy follow, or one of the same program,
//! which does what takes rights that a guard has at its start alone.
//!
//! *Invariant:* whatever that program does, the launcher goes on with the one before it where it does not get ready, or dies
//! soon after.

use std::time::Duration;

use tokio::time::Instant;

use crate::guard::{
    control::{ANOTHER_GUARD, ControlAnswer},
    lifecycle::{
        processes::handover_state::{HANDED_WITHIN, Heir},
        reload::reloading::ReloadRequest,
        service::{Service, reply},
    },
};

/// Why a guard ended that made room.
pub(in crate::guard::lifecycle) const UPGRADED: &str = "another guard takes over";

/// How long answers may take to get out before the guard ends.
pub(in crate::guard::lifecycle) const LAST_WORDS: Duration = Duration::from_millis(200);

impl Service<'_> {
    /// Ends this guard soon, where the program on disk is another one.
    pub(in crate::guard::lifecycle) fn upgrade(&mut self) -> ControlAnswer {
        let refused = |code: &str, message: String| ControlAnswer::Refused { code: code.to_owned(), message };
        if self.changes() || self.ending.upgrade_at.is_some() {
            return refused("busy", "a proxy is starting or stopping: try again in a moment".to_owned());
        }
        let program = match self.supervisor.find() {
            Ok(program) if program == self.supervisor.programs().own => {
                return ControlAnswer::Done {
                    message: "the program on disk is the one that runs".to_owned(),
                    changed: 0,
                };
            }
            Ok(program) => program,
            Err(error) => return refused("program", format!("the program on disk is not used: {error}")),
        };
        if let Err(error) = self.supervisor.launcher.upgrade(program) {
            return refused("launcher", error.to_string());
        }
        // The next guard's proxy is another program than this one's: what this one tells has to be kept for it.
        let timeout = if self.begin_handover(Heir::Guard) { HANDED_WITHIN + LAST_WORDS } else { LAST_WORDS };
        self.ending.upgrade_at = Some(Instant::now() + timeout);
        ControlAnswer::Done { message: "the program on disk takes over".to_owned(), changed: 1 }
    }

    /// Has the next guard load the kernel program, and do this reload. The configuration in force stays until then.
    pub(in crate::guard::lifecycle) fn hand_on(&mut self, request: ReloadRequest) {
        self.reloading.handed_on = Some(request.actor.clone());
        self.keep();
        let own = self.supervisor.programs().own;
        let asked = match self.keeping.warning() {
            Some(warning) => Err(warning),
            None => self.supervisor.launcher.upgrade(own).map_err(|error| error.to_string()),
        };
        if let Err(why) = asked {
            self.reloading.handed_on = None;
            self.keep();
            return self.refuse_reload(request, "launcher", format!("the kernel program is not loaded: {why}"));
        }
        tracing::info!("another guard starts, to load the kernel program and to reload the configuration");
        self.ending.upgrade_at = Some(Instant::now() + LAST_WORDS);
        reply(request.answer, ControlAnswer::Done { message: ANOTHER_GUARD.to_owned(), changed: 0 });
    }
}
