//! What a proxy is handed at its start: all keys and revocations as they were at some moment, and what has changed since.

use std::{io, os::fd::OwnedFd};

use crate::message::{
    ToProxy,
    credentials::{CredentialChange, CredentialWriter, CredentialsHead},
};

/// How many changes may follow the file at least. Over that, another one is to be gathered.
const MOST: usize = 5_000;

/// One more change may follow for so many bytes of the file: a large one is seldom gathered.
const BYTES: u64 = 512;

/// What a proxy is handed at its start.
pub(crate) struct Handed {
    /// `None`: there is nothing yet.
    whole: Option<OwnedFd>,
    /// What has changed since it was gathered, in order.
    since: Vec<CredentialChange>,
    /// How many changes may follow.
    most: usize,
    /// It is not known what other machines have revoked, and that counts.
    pub(crate) is_stale: bool,
}

impl Handed {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self { whole: None, since: Vec::new(), most: MOST, is_stale: false }
    }

    /// All that is known now.
    pub(crate) fn replace(&mut self, whole: OwnedFd) {
        let bytes = rustix::fs::fstat(&whole).map_or(0, |found| u64::try_from(found.st_size).unwrap_or(0));
        self.most = usize::try_from(bytes / BYTES).unwrap_or(MOST).max(MOST);
        self.whole = Some(whole);
        self.since.clear();
    }

    /// Something has changed. `true`: so much that all of it is to be gathered anew.
    pub(crate) fn change(&mut self, changes: &[CredentialChange]) -> bool {
        let before = self.since.len();
        self.since.extend_from_slice(changes);
        // Once: what comes while it is gathered is in it.
        before < self.most && self.since.len() >= self.most
    }

    /// The messages that hand it over.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn opening(&self) -> io::Result<Vec<(ToProxy, Vec<OwnedFd>)>> {
        let mut messages = Vec::new();
        if self.is_stale {
            messages.push((ToProxy::RevocationsStale(true), Vec::new()));
        }
        if let Some(whole) = &self.whole {
            messages.push((ToProxy::Credentials { replaces: true }, vec![whole.try_clone()?]));
        }
        // Without a whole the proxy does not know what is revoked, but for this.
        if !self.since.is_empty() {
            messages.push((ToProxy::Credentials { replaces: false }, vec![written(&self.since)?]));
        }
        Ok(messages)
    }
}

/// Many changes as a file in memory.
///
/// # Errors
/// Out of descriptors or memory.
pub(crate) fn written(changes: &[CredentialChange]) -> io::Result<OwnedFd> {
    let pepper = Err(String::new());
    let head = CredentialsHead { pepper, is_complete: false, awaits_file: false, lost_keys: false };
    let mut writer = CredentialWriter::begin(&head)?;
    changes.iter().try_for_each(|change| writer.add(change.clone()))?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that starts refuses what may be revoked from its first request on.
    #[test]
    fn a_proxy_that_starts_knows_whether_it_is_known_what_others_have_revoked() {
        let mut handed = Handed::new();
        for (is_stale, has_whole) in [(false, false), (true, false), (true, true), (false, true)] {
            handed.is_stale = is_stale;
            if has_whole {
                handed.replace(written(&[]).unwrap());
            }
            let messages: Vec<ToProxy> = handed.opening().unwrap().into_iter().map(|(message, _)| message).collect();
            let stale = is_stale.then_some(ToProxy::RevocationsStale(true));
            let whole = has_whole.then_some(ToProxy::Credentials { replaces: true });
            assert_eq!(messages, stale.into_iter().chain(whole).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_has_changed_is_handed_without_the_rest() {
        let (whole, since) = (ToProxy::Credentials { replaces: true }, ToProxy::Credentials { replaces: false });
        for (has_whole, has_changed, expect) in [
            (false, false, vec![]),
            (false, true, vec![since.clone()]),
            (true, false, vec![whole.clone()]),
            (true, true, vec![whole, since]),
        ] {
            let mut handed = Handed::new();
            if has_whole {
                handed.replace(written(&[]).unwrap());
            }
            if has_changed {
                handed.change(&[CredentialChange::KeyGone(7)]);
            }
            let messages: Vec<ToProxy> = handed.opening().unwrap().into_iter().map(|(message, _)| message).collect();
            assert_eq!(messages, expect);
        }
    }
}
