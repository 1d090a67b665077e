//! Decides where a running gateway is found by its configuration, right or wrong in all else.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{Document, Errors, Files, process, table::Reader, table::Table};
use crate::fault::Fault;

/// What the command line must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// As [`Settings::control_socket`](crate::guard::settings::Settings::control_socket).
    pub control_socket: PathBuf,
    /// As [`Settings::state_dir`](crate::guard::settings::Settings::state_dir).
    pub state_dir: PathBuf,
    /// As [`Settings::pin_dir`](crate::guard::settings::Settings::pin_dir).
    pub pin_dir: PathBuf,
}

impl Default for Locations {
    fn default() -> Self {
        Self {
            control_socket: process::CONTROL_SOCKET.into(),
            state_dir: process::STATE_DIR.into(),
            pin_dir: process::PIN_DIR.into(),
        }
    }
}

impl Locations {
    /// Reads the three keys and nothing else: the gateway may run by an earlier, valid version of the file.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML.
    pub fn load(path: &Path, files: &dyn Files) -> Result<Self, Errors> {
        let document = Document::read(path, files)?;
        let parsed = DeTable::parse(document.text())
            .map_err(|error| Errors::from_faults(&document, vec![Fault::new("", error.message())]))?;
        let reader = Reader::new(&document, files);
        let mut guard = Table::root(&reader, parsed.get_ref()).table("guard");
        let default = Self::default();
        Ok(Self {
            control_socket: guard.path("control_socket").unwrap_or(default.control_socket),
            state_dir: guard.path("state_dir").unwrap_or(default.state_dir),
            pin_dir: guard.path("pin_dir").unwrap_or(default.pin_dir),
        })
    }
}
