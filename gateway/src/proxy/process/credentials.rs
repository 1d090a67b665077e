//! Puts API keys and revocations that the guard hands over into the tables that the workers share.

use std::os::fd::OwnedFd;

use anyhow::Context as _;

use crate::{
    message::credentials::{CredentialChange, CredentialReader, CredentialsHead},
    policy::auth::{
        api_key::{
            Pepper,
            table::{LoadedKeys, TableState},
        },
        revocation::RevocationChange,
        tables::CredentialTables,
    },
};

/// Takes over what has changed.
pub(super) fn change(tables: &CredentialTables, changes: Vec<CredentialChange>) {
    let (mut keys, mut gone, mut revocations) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        match change {
            CredentialChange::Key(key) => keys.push(key),
            CredentialChange::KeyGone(id) => gone.push(id),
            // In their order: what was revoked and then lifted is not revoked.
            CredentialChange::Revoked(what) => revocations.push(RevocationChange::Revoked(what)),
            CredentialChange::Lifted(what) => revocations.push(RevocationChange::Lifted(what)),
        }
    }
    tables.change(keys, &gone, revocations);
}

/// Takes over what a file says: all that there is if it `replaces` what is known, else what has changed.
///
/// # Errors
/// The file did not come, or cannot be read. What was known stays.
pub(super) fn load(tables: &CredentialTables, file: Option<OwnedFd>, replaces: bool) -> anyhow::Result<()> {
    let file = file.context("the guard's file of credentials did not come")?;
    let mut reader = CredentialReader::begin(file).context("the guard's file of credentials")?;
    if !replaces {
        while let Some(piece) = reader.piece()? {
            change(tables, piece);
        }
        return Ok(());
    }
    let (mut keys, mut revoked) = (LoadedKeys::default(), Vec::new());
    while let Some(piece) = reader.piece()? {
        for change in piece {
            match change {
                CredentialChange::Key(key) => keys.add(key),
                CredentialChange::Revoked(what) => revoked.push(what),
                CredentialChange::KeyGone(_) | CredentialChange::Lifted(_) => {}
            }
        }
    }
    let CredentialsHead { is_complete, awaits_file, .. } = reader.opening;
    if is_complete && !awaits_file {
        tables.replace(keys, revoked);
        tables.set_known();
    } else {
        // What else is known to be revoked is, and nothing is lifted: the store cannot be read, or what the file of
        // revocations says is still to come.
        tables.change(Vec::new(), &[], revoked.into_iter().map(RevocationChange::Revoked).collect());
        if is_complete {
            tables.keys.replace(keys);
        }
    }
    tables.keys.set_lost(reader.opening.lost_keys);
    tables.set_state(match reader.opening.pepper {
        Ok(pepper) => TableState::Ready(Pepper::new(&pepper).into()),
        Err(why) => TableState::Unknown(why),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::credentials::CredentialWriter,
        policy::auth::revocation::{Revocable, Revoked},
    };

    fn written(is_complete: bool, changes: &[CredentialChange]) -> OwnedFd {
        written_by((is_complete, false), changes)
    }

    /// The same, where the file of revocations may not have been read yet.
    fn written_by((is_complete, awaits_file): (bool, bool), changes: &[CredentialChange]) -> OwnedFd {
        let head = CredentialsHead { pepper: Err(String::new()), is_complete, awaits_file, lost_keys: false };
        let mut writer = CredentialWriter::begin(&head).unwrap();
        changes.iter().for_each(|change| writer.add(change.clone()).unwrap());
        writer.finish().unwrap()
    }

    /// Whether it is revoked in a proxy that starts with `before`, after these changes as one file and as one message.
    #[track_caller]
    fn check(before: &[CredentialChange], since: &[CredentialChange], is_revoked: bool) {
        for as_file in [true, false] {
            let tables = CredentialTables::default();
            load(&tables, Some(written(true, before)), true).unwrap();
            if as_file {
                load(&tables, Some(written(false, since)), false).unwrap();
            } else {
                change(&tables, since.to_vec());
            }
            let key = Revocable { key: Some(7), ..Revocable::default() };
            assert_eq!(tables.revocations.revokes(&key), is_revoked, "{before:?} {since:?}");
        }
    }

    #[test]
    fn j16_what_has_changed_counts_in_its_order() {
        let (revoked, lifted) = (CredentialChange::Revoked(Revoked::Key(7)), CredentialChange::Lifted(Revoked::Key(7)));
        let (revoked, lifted) = (|| revoked.clone(), || lifted.clone());
        check(&[], &[revoked()], true);
        check(&[], &[revoked(), lifted()], false);
        check(&[revoked()], &[lifted()], false);
        check(&[revoked()], &[lifted(), revoked()], true);
        check(&[], &[revoked(), lifted(), revoked(), lifted()], false);
    }

    /// What comes of a store that cannot be read adds to what is known, and says nothing of the rest.
    #[test]
    fn what_is_incomplete_takes_nothing_away() {
        let revoked = |key| CredentialChange::Revoked(Revoked::Key(key));
        for (loads, is_known, expect) in [
            (&[(false, 7)][..], false, &[7][..]),
            (&[(false, 7), (false, 8)], false, &[7, 8]),
            (&[(false, 7), (true, 8)], true, &[8]),
            (&[(true, 7), (false, 8)], true, &[7, 8]),
        ] {
            let tables = CredentialTables::default();
            for (is_complete, key) in loads {
                load(&tables, Some(written(*is_complete, &[revoked(*key)])), true).unwrap();
            }
            let is_revoked = |key| tables.revocations.revokes(&Revocable { key: Some(key), ..Revocable::default() });
            let found: Vec<u64> = (7..=9).filter(|key| is_revoked(*key)).collect();
            assert_eq!((tables.is_known(), &*found), (is_known, expect), "{loads:?}");
        }
    }

    /// Until the file of revocations was read, what is revoked is not known; a proxy that knew it once goes on.
    #[test]
    fn what_is_revoked_is_known_once_the_file_was_read() {
        let (whole, waits, none) = ((true, false), (true, true), (false, true));
        // Each load tells of another revocation; which of them count afterwards.
        for (loads, is_known, expect) in [
            (&[waits][..], false, &[0][..]),
            (&[none], false, &[0]),
            (&[none, waits], false, &[0, 1]),
            (&[waits, whole], true, &[1]),
            (&[whole, waits], true, &[0, 1]),
            (&[whole, none], true, &[0, 1]),
            (&[whole, waits, whole], true, &[2]),
        ] {
            let tables = CredentialTables::default();
            for (key, head) in (0..).zip(loads) {
                load(&tables, Some(written_by(*head, &[CredentialChange::Revoked(Revoked::Key(key))])), true).unwrap();
            }
            let is_revoked = |key| tables.revocations.revokes(&Revocable { key: Some(key), ..Revocable::default() });
            let found: Vec<u64> = (0..3).filter(|key| is_revoked(*key)).collect();
            assert_eq!((tables.is_known(), &*found), (is_known, expect), "{loads:?}");
        }
    }
}
