//! Where a running gateway is found by its configuration, right or wrong in all else.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{
    diagnostics::Diagnostics,
    document::Document,
    files::Files,
    reader::Reader,
    syntax,
    table::Table,
    tables::{self, guard},
};
use crate::diagnostic::Diagnostic;

/// What the command line must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// As [`Settings::control_socket`](crate::settings::guard::Settings::control_socket).
    pub control_socket: PathBuf,
    /// As [`Settings::state_dir`](crate::settings::guard::Settings::state_dir).
    pub state_dir: PathBuf,
    /// As [`Settings::pin_dir`](crate::settings::guard::Settings::pin_dir).
    pub pin_dir: PathBuf,
}

impl Default for Locations {
    fn default() -> Self {
        Self {
            control_socket: guard::CONTROL_SOCKET.into(),
            state_dir: guard::STATE_DIR.into(),
            pin_dir: guard::PIN_DIR.into(),
        }
    }
}

impl Locations {
    /// Reads the three keys and nothing else: the gateway may run by an earlier, valid version of the file.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML.
    pub fn load(path: &Path, files: &dyn Files) -> Result<Self, Diagnostics> {
        let document = syntax::read(path, files)?;
        let parsed = DeTable::parse(document.text())
            .map_err(|error| Diagnostics::from_diagnostics(&document, vec![Diagnostic::new("", error.message())]))?;
        Ok(Self::of(&document, files, parsed.get_ref()))
    }

    /// What can be made out of a file that [`Self::load`] refuses: the gateway that runs by an earlier version of it is
    /// still to be found. What cannot be made out is the default.
    #[must_use]
    pub fn salvage(path: &Path, files: &dyn Files) -> Self {
        let Ok(content) = files.read(path) else { return Self::default() };
        let content = String::from_utf8_lossy(&content);
        // Line by line: a bracket that is missing further up takes everything behind it along.
        let is_asked = |line: &&str| {
            let name = line.trim_start().split(['=', ' ', '\t']).next().unwrap_or_default();
            matches!(name, "control_socket" | "state_dir" | "pin_dir") && DeTable::parse(line).is_ok()
        };
        let lines: Vec<&str> = ["[guard]"].into_iter().chain(content.lines().filter(is_asked)).collect();
        let document = Document::without_places(path, lines.join("\n").into());
        let (root, _twice) = DeTable::parse_recoverable(document.text());
        Self::of(&document, files, root.get_ref())
    }

    fn of(document: &Document, files: &dyn Files, root: &DeTable<'_>) -> Self {
        let reader = Reader::new(document, files);
        let table = Table::root(&reader, root, tables::KEYS).table("guard", guard::KEYS);
        let default = Self::default();
        Self {
            control_socket: table.path("control_socket").unwrap_or(default.control_socket),
            state_dir: table.path("state_dir").unwrap_or(default.state_dir),
            pin_dir: table.path("pin_dir").unwrap_or(default.pin_dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Bundle;

    #[test]
    fn what_is_no_toml_is_read_as_far_as_it_can_be() {
        const DEFAULT: &str = "/run/gateway/control.sock";
        for (text, socket) in [
            ("[guard]\ncontrol_socket = \"/a\"\n[[listener\nx = 1\n", "/a"),
            ("[guard]\ncontrol_socket = \"a\"\nx = [\n", "/etc/gateway/a"),
            ("[guard]\ncontrol_socket = \"/a\n", DEFAULT),
            ("x = [\n[guard]\n control_socket=\"/a\" # here\ncontrol_sockets = \"/b\"\n", "/a"),
            ("control_socket = \"/a\"\ncontrol_socket = \"/b\"\n[x", "/a"),
            ("[guard]\ncontrol_socket = 7\n", DEFAULT),
            ("[guard\n", DEFAULT),
            ("", DEFAULT),
        ] {
            let path = PathBuf::from("/etc/gateway/gateway.toml");
            let bundle = Bundle { path: path.clone(), text: text.to_owned(), ..Bundle::default() };
            assert_eq!(Locations::salvage(&path, &bundle).control_socket, Path::new(socket), "{text:?}");
        }
        let nothing = Bundle::default();
        assert_eq!(Locations::salvage(Path::new("/x"), &nothing), Locations::default());
    }
}
