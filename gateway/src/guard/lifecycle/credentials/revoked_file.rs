//! The file of revocations: looked at beside the loop, and given to the writer of the store.

use tokio::sync::mpsc;

use crate::{
    guard::{
        credentials::{
            revoked_file::{FileRead, RevokedFileLook},
            work::CredentialJob,
        },
        lifecycle::service::{Done, Service, in_background},
    },
    os::clock::Now,
};

impl Service<'_> {
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
        let Some(FileRead { revoked, faults, is_settled }) = self.credentials.file.end(look, read) else { return };
        let is_whole = faults.is_empty() && is_settled;
        self.credentials.file_warning = (!faults.is_empty()).then(|| {
            let told = faults.join("; ");
            let warning = format!("the file of revocations: {told}; nothing is lifted until all of it can be read");
            tracing::error!("{warning}");
            warning
        });
        self.give(CredentialJob::File { revoked, is_whole, now: Now::read() });
    }
}
