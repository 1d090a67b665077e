//! What `watch --kernel` asks for.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// Which packets the kernel program is to write lines about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traced {
    /// Of whom, an address or a prefix; `None`: everybody's.
    pub source: Option<String>,
    /// Only those that are dropped or answered.
    pub drops_only: bool,
}

impl Traced {
    /// Of whom.
    ///
    /// # Errors
    /// The text is neither an address nor a prefix.
    pub fn source(&self) -> Result<Option<Source>, String> {
        let parse = |text: &String| text.parse::<Source>().map_err(|error| format!("{text:?}: {error}"));
        self.source.as_ref().map(parse).transpose()
    }
}
