//! What every command is told, and how it asks the running gateway or, without one, what that left behind.

use std::path::{Path, PathBuf};

use super::{exit::Exit, output::Output, table};
use crate::{
    config::{self, Config, Diagnostics, Disk, Locations, Permitted},
    guard::{
        control::{
            Answer, DENIED, Request, UNKNOWN_KEY,
            client::{self, Unreachable},
        },
        offline,
    },
};

/// What every command is told.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) config: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
    pub(super) out: Output,
}

impl Context {
    pub(super) fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// The configuration, for whoever needs no secret of it, and what this user may not read, which is taken for empty.
    pub(super) fn without_secrets(&self) -> Result<(Config, Vec<PathBuf>), Diagnostics> {
        let errors = match Config::load(self.config(), &Disk) {
            Ok(config) => return Ok((config, Vec::new())),
            Err(errors) => errors,
        };
        let files = Permitted::default();
        // Where it is still not valid, the first errors are those of the files as they are.
        let config = Config::load(self.config(), &files).map_err(|_of_empty_files| errors.clone())?;
        let denied = files.denied();
        if denied.iter().any(|path| path == self.config()) { Err(errors) } else { Ok((config, denied)) }
    }

    /// Where the gateway keeps its things. A configuration that is not named and not there leaves the defaults; what is
    /// broken in one does not matter: the gateway may well run by its last good version.
    pub(super) fn locations(&self) -> Result<Locations, Diagnostics> {
        match Locations::load(self.config(), &Disk) {
            Err(errors) if self.config.is_none() && !errors.readable() => Ok(Locations::default()),
            Err(errors) if errors.readable() => {
                let found = Locations::salvage(self.config(), &Disk);
                self.note_broken(&errors, &found);
                Ok(found)
            }
            found => found,
        }
    }

    /// Says that the configuration is broken, and where the gateway is looked for all the same.
    fn note_broken(&self, errors: &Diagnostics, found: &Locations) {
        let what = errors.shown().next().map(|fault| {
            let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{}{line}: {}", fault.file, table::clean(fault.message))
        });
        let socket = found.control_socket.display();
        let note = format!("note: {}; the gateway is looked for at {socket}", what.unwrap_or_default());
        self.out.complain(&note, Exit::Done);
    }

    /// Where the running gateway is spoken to; how the command ends if that cannot be known.
    pub(super) fn socket(&self) -> Result<PathBuf, Exit> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => match self.locations() {
                Ok(locations) => Ok(locations.control_socket),
                Err(errors) => Err(self.out.fail(&errors.to_string(), Exit::Usage)),
            },
        }
    }

    /// Asks the running gateway; `show` writes what it says for people.
    pub(super) fn ask(&self, request: &Request, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let (answer, is_down) = match client::ask(&socket, request) {
            Ok(answer) => (answer, false),
            Err(error) => match self.ask_offline(request, &error) {
                Some(Ok(answer)) => (answer, true),
                Some(Err(reason)) => return self.out.fail(&format!("{error}\n{reason}"), Exit::Unreachable),
                None => return self.unreachable(&error),
            },
        };
        if is_down { self.tell_offline(&answer, show) } else { self.tell(&answer, &socket, show) }
    }

    /// Says why the running gateway does not answer.
    pub(super) fn unreachable(&self, error: &Unreachable) -> Exit {
        self.out.fail(&error.to_string(), exit_of_unreachable(error))
    }

    pub(super) fn tell(&self, answer: &Answer, socket: &Path, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        let exit = exit_of(answer);
        if self.out.json {
            return self.out.value(answer, exit);
        }
        self.show(answer, socket, exit, show)
    }

    /// What store and pinned maps say, where nobody answers at the configured socket. `None`: nothing can be said.
    pub(super) fn ask_offline(&self, request: &Request, error: &Unreachable) -> Option<Result<Answer, String>> {
        let is_down = matches!(error, Unreachable::Missing(_) | Unreachable::Gone(_));
        if self.socket.is_some() || !is_down {
            return None;
        }
        offline::answer(self.config(), request.clone(), nix::unistd::getuid().as_raw())
    }

    /// Says loudly that no guard has answered.
    fn tell_offline(&self, answer: &Answer, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        // What status asks about is not there.
        let exit =
            if matches!(answer, Answer::Status(_) | Answer::Top(_)) { Exit::Unreachable } else { exit_of(answer) };
        if self.out.json {
            let mut value = serde_json::to_value(answer).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.insert("daemon".to_owned(), "down".into());
            }
            return self.out.value(&value, exit);
        }
        self.out.complain("WARNING: the gateway is not running; done on its store and the pinned maps", exit);
        self.show(answer, Path::new(""), exit, show)
    }

    /// Takes everything out of the kernel, with the running gateway or without.
    pub(super) fn detach(&self) -> Exit {
        let locations = match self.locations() {
            Ok(locations) => locations,
            Err(errors) => return self.out.fail(&errors.to_string(), Exit::Usage),
        };
        let socket = self.socket.as_ref().unwrap_or(&locations.control_socket);
        match client::ask(socket, &Request::Detach) {
            Err(Unreachable::Missing(_) | Unreachable::Gone(_)) if self.socket.is_none() => {}
            Err(error) => return self.unreachable(&error),
            Ok(answer) => return self.tell(&answer, socket, |_answer| None),
        }
        match offline::detach(&locations, nix::unistd::getuid().as_raw()) {
            Ok(answer) => self.tell_offline(&answer, |_answer| None),
            Err(reason) => self.out.fail(&reason, Exit::Refused),
        }
    }

    fn show(&self, answer: &Answer, socket: &Path, exit: Exit, show: impl FnOnce(&Answer) -> Option<String>) -> Exit {
        match answer {
            Answer::Done { message, .. } => self.out.text(&table::prose(&table::clean_lines(message)), exit),
            Answer::Refused { code, message } => {
                let refused = format!("refused ({}): {}", table::clean(code), table::clean_lines(message));
                self.out.complain(&table::prose(&refused), exit)
            }
            answer => match show(answer) {
                Some(text) => self.out.text(&text, exit),
                None => {
                    let garbled = Unreachable::Garbled(socket.to_owned(), "it answered something else".to_owned());
                    self.out.fail(&garbled.to_string(), Exit::Unreachable)
                }
            },
        }
    }
}

fn exit_of(answer: &Answer) -> Exit {
    match answer {
        Answer::Refused { code, .. } => exit_of_refusal(code),
        // A test that did not arrive.
        Answer::Alerts(report) if report.receivers.iter().any(|one| one.tested == Some(false)) => Exit::Refused,
        _ => Exit::Done,
    }
}

/// How a command ends that is refused with this code.
pub(super) fn exit_of_refusal(code: &str) -> Exit {
    match code {
        DENIED => Exit::Denied,
        UNKNOWN_KEY => Exit::Usage,
        _ => Exit::Refused,
    }
}

/// How a command ends that the running gateway does not answer.
pub(super) const fn exit_of_unreachable(error: &Unreachable) -> Exit {
    if matches!(error, Unreachable::Denied(_)) { Exit::Denied } else { Exit::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_exit_code() {
        let refused = |code: &str| Answer::Refused { code: code.to_owned(), message: String::new() };
        for (answer, expect) in [
            (Answer::Done { message: String::new(), changed: 0 }, Exit::Done),
            (refused("too_wide"), Exit::Refused),
            (refused(DENIED), Exit::Denied),
        ] {
            assert_eq!(exit_of(&answer), expect, "{answer:?}");
        }
        let socket = || PathBuf::from("/run/gateway/control.sock");
        for (error, expect) in
            [(Unreachable::Denied(socket()), Exit::Denied), (Unreachable::Missing(socket()), Exit::Unreachable)]
        {
            assert_eq!(exit_of_unreachable(&error), expect, "{error}");
        }
    }
}
