//! What each process of the gateway logs of itself: JSON lines on standard error.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::text::terminal::escape_json;

pub(crate) mod sparse;

/// Standard error, where no terminal obeys what others have said.
struct Escaped;

impl io::Write for Escaped {
    /// Takes a whole line: each event is one.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => io::Write::write_all(&mut io::stderr(), escape_json(text).as_bytes())?,
            Err(_no_text) => io::Write::write_all(&mut io::stderr(), line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::Write::flush(&mut io::stderr())
    }
}

/// Sets it up; a second call in the same process changes nothing.
pub(crate) fn start(filter: EnvFilter) {
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| Escaped).with_env_filter(filter);
    log.try_init().unwrap_or_default();
}

/// As much as `RUST_LOG` asks for, or what is worth knowing.
pub(crate) fn asked_for() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"))
}
