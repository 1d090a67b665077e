//! The file of revocations: looked at beside the loop, and given to the writer of the store.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    guard::{
        credentials::{
            revoked_file::{FileRead, RevokedFileLook},
            work::CredentialJob,
        },
        lifecycle::service::{Done, Ready, Service, in_background},
    },
    os::clock::Now,
};

/// How long a start waits for the file, before it goes on with what the store has.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of a file that cannot be read.
const STAYS: &str = "nothing is lifted until all of it can be read";

/// The same where it could not be read since the start.
const UNKNOWN: &str = "what it says is not known: `revocation.unavailable` says what becomes of tokens and API keys at \
                       proxies that start";

impl Service<'_> {
    /// Reads the file before the first proxy is started: a line may have been added while the gateway did not run. What it
    /// says comes into the store as soon as that is open.
    pub(in crate::guard::lifecycle) async fn read_revocations(
        &mut self,
        beside: &mpsc::Sender<Done>,
        done: &mut mpsc::Receiver<Done>,
        prepared: &mpsc::Sender<Ready>,
    ) {
        let until = Instant::now() + READ_WITHIN;
        self.look_at_revocations(beside);
        while self.credentials.file.is_awaited() {
            let Ok(Some(one)) = timeout_at(until, done.recv()).await else { break };
            self.done(one, prepared);
        }
    }

    /// Looks at a file at once that a reload has brought.
    pub(in crate::guard::lifecycle) fn look_at_new_revocations(&mut self, beside: &mpsc::Sender<Done>) {
        if self.credentials.file.is_unseen() {
            self.look_at_revocations(beside);
        }
    }

    pub(super) fn look_at_revocations(&mut self, beside: &mpsc::Sender<Done>) {
        if let Some(mut look) = self.credentials.file.begin() {
            in_background(beside, move || {
                let read = look.poll();
                Done::Revocations(look, read)
            });
        }
    }

    /// The file of revocations was looked at.
    pub(in crate::guard::lifecycle) fn looked_at_revocations(&mut self, look: RevokedFileLook, read: Option<FileRead>) {
        let Some(FileRead { revoked, faults, is_settled, is_read }) = self.credentials.file.end(look, read) else {
            return;
        };
        let is_whole = faults.is_empty() && is_settled;
        self.credentials.file_warning = (!faults.is_empty()).then(|| {
            let then = if self.credentials.file.was_read() { STAYS } else { UNKNOWN };
            let warning = format!("the file of revocations: {}; {then}", faults.join("; "));
            tracing::error!("{warning}");
            warning
        });
        // Of one that cannot be read, nothing is known that the store is to have.
        if is_read {
            self.give(CredentialJob::File { revoked, is_whole, now: Now::read() });
        }
    }
}
