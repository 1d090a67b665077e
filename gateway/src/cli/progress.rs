//! Progress of a long command: a bar on a terminal, now and then a line in a file.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a terminal is told, and how often a file.
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(2);

/// How wide the bar is, in characters.
const WIDTH: u64 = 30;

/// How far a command is, on standard error.
pub(super) struct Progress {
    total: u64,
    /// What is counted.
    unit: &'static str,
    terminal: bool,
    quiet: bool,
    told: Instant,
    drawn: bool,
}

impl Progress {
    pub(super) fn new(total: u64, unit: &'static str, quiet: bool) -> Self {
        Self { total, unit, terminal: io::stderr().is_terminal(), quiet, told: Instant::now(), drawn: false }
    }

    /// `done` of the total are done.
    pub(super) fn tell(&mut self, done: u64) {
        let every = if self.terminal { OFTEN } else { SELDOM };
        if self.quiet || self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        self.write(&line(done, self.total, self.unit, self.terminal));
    }

    /// What is going on now that no number tells.
    pub(super) fn say(&mut self, what: &str) {
        if !self.quiet && self.terminal {
            self.write(what);
        }
    }

    /// Leaves nothing on the terminal.
    pub(super) fn clear(&self) {
        if self.drawn && self.terminal {
            drop(io::stderr().write_all(b"\r\x1b[K"));
        }
    }

    fn write(&mut self, text: &str) {
        self.drawn = true;
        let text = if self.terminal { format!("\r{text}\x1b[K") } else { format!("{text}\n") };
        // Nobody is left to be told if that fails.
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

fn line(done: u64, total: u64, unit: &str, bar: bool) -> String {
    let done = done.min(total);
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
    if !bar {
        return format!("{percent} % ({done} of {total} {unit})");
    }
    let filled = percent * WIDTH / 100;
    let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
    format!("[{bar}] {percent:>3} % ({done} of {total} {unit})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(5, 10, "lines", false), "50 % (5 of 10 lines)");
        assert_eq!(line(0, 0, "lines", false), "100 % (0 of 0 lines)");
        assert_eq!(line(99, 10, "lines", true), "[##############################] 100 % (10 of 10 lines)");
        assert_eq!(line(1, 3, "MiB", true), "[#########.....................]  33 % (1 of 3 MiB)");
    }
}
