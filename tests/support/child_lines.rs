//! The lines that a child process prints, each waited for no longer than a state may take, or than is said.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::wait::{SOON, until};

/// What a child prints, line by line.
#[derive(Debug)]
pub struct ChildLines {
    lines: Receiver<String>,
    timeout: Duration,
}

impl ChildLines {
    /// Reads what `child` prints from now on.
    ///
    /// # Panics
    /// If its standard output is no pipe, or somebody else reads it.
    #[must_use]
    pub fn of(child: &mut Child) -> Self {
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        thread::spawn(move || {
            // The test may have ended.
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        Self { lines, timeout: SOON }
    }

    /// Waits so long for each line.
    #[must_use]
    pub fn patient(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl Iterator for ChildLines {
    type Item = String;

    /// The next line; `None` once the child has closed its output.
    fn next(&mut self) -> Option<String> {
        use std::sync::mpsc::TryRecvError::{Disconnected, Empty};
        until("a line of a child", self.timeout, || match self.lines.try_recv() {
            Ok(line) => Some(Some(line)),
            Err(Disconnected) => Some(None),
            Err(Empty) => None,
        })
    }
}
