//! How figures are printed, and how far the bench has come.

use std::io::{IsTerminal as _, Write as _};

/// Tells on standard error how far something has come, where somebody looks.
pub(super) struct Progress {
    what: &'static str,
    is_watched: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        let is_watched = std::io::stderr().is_terminal();
        if !is_watched {
            eprintln!("{what} ...");
        }
        Self { what, is_watched }
    }

    pub(super) fn tell(&self, now: u64, all: u64) {
        if self.is_watched {
            eprint!("\r{}: {now} of {all}  ", self.what);
            std::io::stderr().flush().unwrap();
        }
    }

    pub(super) fn done(self) {
        if self.is_watched {
            eprint!("\r{:78}\r", "");
        }
    }
}

/// Nothing of nothing has no share.
pub(super) fn percent(part: usize, all: usize) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / all as f64) }
}

/// The median.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// The median and the most.
pub(super) fn delays(values: &[f64], digits: usize) -> String {
    let most = values.iter().copied().reduce(f64::max);
    match median(values).zip(most) {
        Some((median, most)) => format!("{median:.digits$}, {most:.digits$}"),
        None => "-".to_owned(),
    }
}
