//! Rotates the files of the access log when they are due, and has them compressed beside the loop.

use tokio::sync::mpsc;

use crate::{
    guard::{
        lifecycle::service::{Done, Service, in_background},
        log_files,
    },
    os::{self, SchedulingPolicy, clock::Now},
    settings::access_log::Output,
};

/// Rotated files are looked after every so many seconds, and after each rotation.
const TIDY: u64 = 60;

impl Service<'_> {
    /// Rotates what is due, every second.
    pub(in crate::guard::lifecycle) fn rotate_logs(&mut self, beside: &mpsc::Sender<Done>) {
        let now = Now::read();
        let settings = &self.config.proxy.access_log;
        let opened = settings.outputs.iter().filter(|output| output.is_opened()).zip(&self.supervisor.access_logs);
        let mut due = Vec::new();
        for (place, (output, opened)) in opened.enumerate() {
            let Output::File(file) = output else { continue };
            let Some(rotate) = &file.rotate else { continue };
            if log_files::is_due(rotate, opened, now.unix_millis) {
                due.push((place, file.path.clone(), log_files::rotate(&file.path, opened, now.unix_millis)));
            }
        }
        for (place, path, rotated) in &mut due {
            let reopened = std::mem::replace(rotated, Err(std::io::ErrorKind::Other.into()));
            match reopened.and_then(|file| self.supervisor.reopen(*place, file)) {
                Ok(()) => tracing::info!(file = %path.display(), "the access log is rotated"),
                Err(error) => self.complain_of_rotation(path, &error),
            }
        }
        if !due.is_empty() || self.ticks % TIDY == 1 {
            self.tidy_logs(now, beside);
        }
    }

    fn complain_of_rotation(&self, path: &std::path::Path, error: &std::io::Error) {
        // It is tried every second.
        if let Some(others) = self.background.rotation_failed.is_due(os::clock::monotonic()) {
            tracing::error!(file = %path.display(), %error, others, "the access log cannot be rotated");
        }
    }

    fn tidy_logs(&mut self, now: Now, beside: &mpsc::Sender<Done>) {
        let files: Vec<_> =
            self.config.proxy.access_log.files().filter(|file| file.rotate.is_some()).cloned().collect();
        if files.is_empty() || std::mem::replace(&mut self.background.is_tidying, true) {
            return;
        }
        in_background(beside, move || {
            // Nobody waits for it, so it interrupts nobody.
            os::schedule(SchedulingPolicy::Batch).unwrap_or_default();
            let faults = files.iter().flat_map(|file| log_files::tidy(file, now.unix_millis)).collect();
            os::schedule(SchedulingPolicy::Normal).unwrap_or_default();
            Done::Tidied(faults)
        });
    }

    /// Rotated files were looked after.
    pub(in crate::guard::lifecycle) fn tidied(&mut self, faults: &[String]) {
        self.background.is_tidying = false;
        for fault in faults {
            tracing::warn!("a rotated log file stays as it is: {fault}");
        }
    }
}
