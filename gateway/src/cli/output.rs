//! Output of commands: results to standard output, errors to standard error, colour for terminals only.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
};

use serde::Serialize;

use super::{exit::Exit, table};
use crate::guard::control::ControlAnswer;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandOutput {
    /// Exactly one JSON value on standard output.
    pub(super) json: bool,
    /// Whether standard error takes colour (<https://no-color.org>).
    pub(super) colour: bool,
}

impl CommandOutput {
    pub(super) fn new(json: bool) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: wanted && io::stderr().is_terminal() }
    }

    /// Writes one JSON value.
    pub(super) fn value(self, value: &impl Serialize, exit: Exit) -> Exit {
        match serde_json::to_string(value) {
            Ok(text) => self.text(&text, exit),
            Err(error) => self.complain(&error.to_string(), Exit::Refused),
        }
    }

    /// Writes text and a line's end to standard output. A reader that went away (`gateway ... | head`) is no fault.
    pub(super) fn text(self, text: &str, exit: Exit) -> Exit {
        match write(io::stdout().lock(), text) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.complain(&format!("error: cannot write to standard output: {error}"), Exit::Refused)
            }
            _ => exit,
        }
    }

    /// Writes one of many lines to standard output.
    ///
    /// # Errors
    /// Nobody reads it any more, or it cannot be written.
    pub(super) fn line(self, text: &str) -> io::Result<()> {
        write(io::stdout().lock(), text)
    }

    /// Writes a complaint to standard error, in lines that fit.
    pub(super) fn complain(self, text: &str, exit: Exit) -> Exit {
        self.complain_as_is(&table::prose(text), exit)
    }

    /// Writes to standard error what has its lines already. There is nobody to tell if that fails.
    pub(super) fn complain_as_is(self, text: &str, exit: Exit) -> Exit {
        drop(write(io::stderr().lock(), text));
        exit
    }

    /// Says why a command could not be done, in both forms.
    pub(super) fn fail(self, message: &str, exit: Exit) -> Exit {
        if self.json {
            let answer = ControlAnswer::Refused { code: exit.code().to_owned(), message: message.to_owned() };
            return self.value(&answer, exit);
        }
        // Faults of a configuration say that they are errors.
        if message.starts_with("error") {
            return self.complain_as_is(&table::drawn(message), exit);
        }
        self.complain(&format!("error: {message}"), exit)
    }
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
