//! What every command is told, and how it asks the running gateway or, without one, what that left behind.

use std::path::{Path, PathBuf};

use super::{exit::Exit, output::CommandOutput, table};
use crate::{
    config::{self, Config, Diagnostics, Disk, Files as _, Locations, Permitted},
    guard::{
        control::{
            ControlAnswer, ControlRequest, DENIED, UNKNOWN_KEY,
            client::{self, Unreachable},
        },
        offline::{self, OfflineFailure},
    },
};

/// What every command is told.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) config: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
    pub(super) out: CommandOutput,
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
        let socket = found.control_socket.display();
        let what = in_short(errors).unwrap_or_default();
        let note = format!("note: {what}; the gateway is looked for at {socket}");
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
    pub(super) fn ask(&self, request: &ControlRequest, show: impl FnOnce(&ControlAnswer) -> Option<String>) -> Exit {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(exit) => return exit,
        };
        let (answer, is_down) = match client::ask(&socket, request) {
            Ok(answer) => (answer, false),
            Err(error) => match self.ask_offline(request, &error) {
                Some(Ok(answer)) => (answer, true),
                Some(Err(no_answer)) => return self.no_answer(request, &error, &no_answer),
                None => return self.unreachable(&error),
            },
        };
        if is_down { self.tell_offline(&answer, show) } else { self.tell(&answer, &socket, show) }
    }

    /// Says why the running gateway does not answer.
    pub(super) fn unreachable(&self, error: &Unreachable) -> Exit {
        self.out.fail(&self.told(error), exit_of_unreachable(error))
    }

    /// Why the running gateway does not answer: a configuration that is not valid may name another place than the gateway
    /// has.
    pub(super) fn told(&self, error: &Unreachable) -> String {
        let is_down = matches!(error, Unreachable::Missing(_) | Unreachable::Gone(_));
        let is_looked_for = self.socket.is_none() && is_down;
        match is_looked_for.then(|| self.wrong_configuration()).flatten() {
            Some(wrong) => format!("{wrong}: the gateway is looked for where this file says it is, and {error}"),
            None => error.to_string(),
        }
    }

    /// What is wrong with the configuration, in short, where that has not been told yet.
    fn wrong_configuration(&self) -> Option<String> {
        let path = self.config();
        Locations::load(path, &Disk).ok()?;
        if Disk.read(path).is_ok_and(|text| text.trim_ascii().is_empty()) {
            return Some(format!("{} is empty", path.display()));
        }
        let errors = self.without_secrets().err().filter(Diagnostics::readable)?;
        let what = in_short(&errors)?;
        Some(format!("{what} (see `gateway check`)"))
    }

    /// Says why neither the running gateway answers nor what it has left behind.
    pub(super) fn no_answer(&self, request: &ControlRequest, error: &Unreachable, no_answer: &OfflineFailure) -> Exit {
        let told = format!("{}\n{}", self.told(error), no_answer.message);
        self.out.fail(&told, exit_of_no_answer(request, no_answer))
    }

    pub(super) fn tell(
        &self,
        answer: &ControlAnswer,
        socket: &Path,
        show: impl FnOnce(&ControlAnswer) -> Option<String>,
    ) -> Exit {
        let exit = exit_of(answer);
        if self.out.json {
            return self.out.value(answer, exit);
        }
        self.show(answer, socket, exit, show)
    }

    /// What store and pinned maps say, where nobody answers at the configured socket. `None`: nothing can be said.
    pub(super) fn ask_offline(
        &self,
        request: &ControlRequest,
        error: &Unreachable,
    ) -> Option<Result<ControlAnswer, OfflineFailure>> {
        let is_down = matches!(error, Unreachable::Missing(_) | Unreachable::Gone(_));
        if self.socket.is_some() || !is_down {
            return None;
        }
        offline::answer(self.config(), request.clone(), nix::unistd::getuid().as_raw())
    }

    /// Says loudly that no guard has answered.
    fn tell_offline(&self, answer: &ControlAnswer, show: impl FnOnce(&ControlAnswer) -> Option<String>) -> Exit {
        // What status asks about is not there.
        let exit = if matches!(answer, ControlAnswer::Status(_) | ControlAnswer::Top(_)) {
            Exit::Unreachable
        } else {
            exit_of(answer)
        };
        if self.out.json {
            let mut value = serde_json::to_value(answer).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.insert("daemon".to_owned(), "down".into());
            }
            return self.out.value(&value, exit);
        }
        self.out.complain(
            "WARNING: the gateway is not running; done on what it has left: the store, and maps in the kernel if any",
            exit,
        );
        self.show(answer, Path::new(""), exit, show)
    }

    /// Takes everything out of the kernel, with the running gateway or without.
    pub(super) fn detach(&self) -> Exit {
        let locations = match self.locations() {
            Ok(locations) => locations,
            Err(errors) => return self.out.fail(&errors.to_string(), Exit::Usage),
        };
        let socket = self.socket.as_ref().unwrap_or(&locations.control_socket);
        match client::ask(socket, &ControlRequest::Detach) {
            Err(Unreachable::Missing(_) | Unreachable::Gone(_)) if self.socket.is_none() => {}
            Err(error) => return self.unreachable(&error),
            Ok(answer) => return self.tell(&answer, socket, |_answer| None),
        }
        match offline::detach(&locations, nix::unistd::getuid().as_raw()) {
            Ok(answer) => self.tell_offline(&answer, |_answer| None),
            Err(OfflineFailure { message, is_denied }) => {
                self.out.fail(&message, if is_denied { Exit::Denied } else { Exit::Refused })
            }
        }
    }

    fn show(
        &self,
        answer: &ControlAnswer,
        socket: &Path,
        exit: Exit,
        show: impl FnOnce(&ControlAnswer) -> Option<String>,
    ) -> Exit {
        match answer {
            ControlAnswer::Done { message, .. } => self.out.text(&table::prose(&table::clean_lines(message)), exit),
            ControlAnswer::Refused { code, message } => {
                let refused = format!("refused ({}): {}", table::clean(code), table::clean_lines(message));
                self.out.complain(&refused, exit)
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

/// The first fault of a configuration, in one line.
fn in_short(errors: &Diagnostics) -> Option<String> {
    let fault = errors.shown().next()?;
    let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
    let key = if fault.key.is_empty() { String::new() } else { format!("{}: ", fault.key) };
    Some(format!("{}{line}: {key}{}", fault.file, table::clean(fault.message)))
}

fn exit_of(answer: &ControlAnswer) -> Exit {
    match answer {
        ControlAnswer::Refused { code, .. } => exit_of_refusal(code),
        // A test that did not arrive.
        ControlAnswer::Alerts(report) if report.receivers.iter().any(|one| one.tested == Some(false)) => Exit::Refused,
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

/// How a command ends that neither the running gateway answers nor what it has left behind. Whoever asks how it is learns
/// that it is down.
pub(super) const fn exit_of_no_answer(request: &ControlRequest, no_answer: &OfflineFailure) -> Exit {
    let asks_how_it_is = matches!(request, ControlRequest::Status | ControlRequest::Top);
    if no_answer.is_denied && !asks_how_it_is { Exit::Denied } else { Exit::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_exit_code() {
        let refused = |code: &str| ControlAnswer::Refused { code: code.to_owned(), message: String::new() };
        for (answer, expect) in [
            (ControlAnswer::Done { message: String::new(), changed: 0 }, Exit::Done),
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
        for (request, is_denied, expect) in [
            (ControlRequest::Status, true, Exit::Unreachable),
            (ControlRequest::BlockFlush, true, Exit::Denied),
            (ControlRequest::BlockFlush, false, Exit::Unreachable),
        ] {
            let no_answer = OfflineFailure { is_denied, message: String::new() };
            assert_eq!(exit_of_no_answer(&request, &no_answer), expect, "{request:?}");
        }
    }

    /// Whoever empties the file of a running gateway is not told to look for its socket.
    #[test]
    fn a_configuration_that_is_not_valid_is_blamed_before_the_socket() {
        let path = std::env::temp_dir().join(format!("gateway-context-{}.toml", std::process::id()));
        let socket = || Some(PathBuf::from("/run/gateway/control.sock"));
        let (missing, denied) = (Unreachable::Missing("/x".into()), Unreachable::Denied("/x".into()));
        for (text, socket, error, begins) in [
            (
                "",
                None,
                &missing,
                "FILE is empty: the gateway is looked for where this file says it is, and there is no /x",
            ),
            (" \n\n", None, &missing, "FILE is empty"),
            ("[guard]\nmax_bans = 0\n", None, &missing, "FILE:"),
            ("", socket(), &missing, "there is no /x"),
            ("", None, &denied, "/x is not for this user"),
            // That is told before.
            ("[guard\n", None, &missing, "there is no /x"),
        ] {
            std::fs::write(&path, text).unwrap();
            let context = Context { config: Some(path.clone()), socket, out: CommandOutput::new(true) };
            let told = context.told(error).replace(&path.display().to_string(), "FILE");
            assert!(told.starts_with(begins), "{text:?}: {told}");
        }
        std::fs::remove_file(&path).unwrap();
        let context = Context { config: Some(path), socket: None, out: CommandOutput::new(true) };
        let errors = context.without_secrets().unwrap_err();
        assert!(errors.shown().all(|fault| fault.hint.is_some_and(|hint| hint.contains("`gateway init "))), "{errors}");
    }
}
