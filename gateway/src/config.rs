//! Decides whether a `gateway.toml` is valid: the only place that knows TOML.

use std::{io, path::Path, sync::Arc};

use crate::{guard, proxy};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guard's part.
    pub guard: guard::settings::Settings,
    /// The proxy's part.
    pub proxy: proxy::settings::Settings,
}

/// Where files that the configuration names are read from: the disk, or what the guard has read already.
pub trait Files {
    /// The whole content of `path`.
    ///
    /// # Errors
    /// As reading a file.
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>>;
}
