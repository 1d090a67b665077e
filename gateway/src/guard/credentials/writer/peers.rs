//! Revocations and API keys of other machines, and what others are told of this one's.
//!
//! *Invariant:* each machine changes the keys that it has made, and lifts what it has revoked itself, and nothing else. What a machine has revoked that is not of
//! the cluster any more stays until an operator lifts it.

use std::{
    collections::{HashMap, HashSet},
    iter, mem,
};

use super::*;
use crate::{
    guard::credentials::{
        rows::KeyRow,
        store::remove_revocation,
        work::{OwnRevocations, PeerOutcome, PeerSays},
    },
    policy::auth::api_key::{Tag, record::KeyRecord, text::KeyId},
};

/// The most revocations, and the most keys, that others are told of all the time.
const MOST_OWN: usize = 8_000;

/// The keys of one page: of the others that are told of in turn.
const PAGE: usize = 4_000;

/// The most keys beyond the newest that are told of at once because they have changed. More come with the pages.
const MOST_CHANGED: usize = 1_000;

/// The most that one other machine may revoke here.
const MOST_OF_PEER: usize = 20_000;

/// The most keys that one other machine may make.
const MOST_KEYS_OF_PEER: usize = 250_000;

/// The most API keys, over all machines.
const MOST_KEYS: usize = 1_000_000;

/// Where a key stands among all: by when it was made, and its id.
fn place(row: &KeyRow) -> (u64, u64) {
    (row.created, row.record.id)
}

impl CredentialWriterState {
    /// What this machine revokes itself, and its newest keys, with those of `changes`. `None`: it is not known.
    pub(super) fn own(&mut self, changes: &[CredentialChange], now: Now) -> Option<OwnRevocations> {
        let store = self.store.as_ref()?;
        let told = |error: &CredentialError| tracing::error!(%error, "other machines are not told of credentials");
        // What has ended here is lifted on the others.
        let steady = self.steady.seconds(now).saturating_mul(1_000);
        let rows = store.own_revocations(steady, MOST_OWN + 1).inspect_err(told).ok()?;
        let (mut keys, mut rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.number == 0);
        let is_more = keys.len() > MOST_OWN || rows.len() > MOST_OWN;
        [&mut keys, &mut rows].into_iter().for_each(|rows| rows.truncate(MOST_OWN));
        rows.append(&mut keys);
        let (mut keys, pepper) = match &self.pepper {
            Some(pepper) => {
                let keys = store.own_keys(now.unix_seconds(), MOST_OWN).inspect_err(told).ok()?;
                (keys, Pepper::new(pepper).check())
            }
            None => (Vec::new(), Tag::default()),
        };
        let newest = keys.last().filter(|_| keys.len() == MOST_OWN).map(place);
        if newest.is_some() {
            let known: HashSet<u64> = keys.iter().map(|row| row.record.id).collect();
            let changed = changes.iter().filter_map(|change| match change {
                CredentialChange::Key(record) if !known.contains(&record.id) => Some(record.id),
                _ => None,
            });
            for id in changed.take(MOST_CHANGED) {
                let row = store.key(id).inspect_err(told).ok()?;
                keys.extend(row.filter(|row| !row.actor.starts_with(rows::PEER)));
            }
        }
        self.newest = newest;
        Some(OwnRevocations { rows, is_more, keys, pepper, is_more_keys: newest.is_some() })
    }

    /// The next page of the keys that this machine has made, but for the newest. After the last one they begin anew.
    pub(super) fn page(&mut self, now: Now) -> CredentialWork {
        let (Some(store), Some(pepper), Some(newest)) = (&self.store, &self.pepper, self.newest) else {
            self.paged = None;
            return CredentialWork { page: Some((Vec::new(), Tag::default())), ..CredentialWork::default() };
        };
        // The newest are others than before: some of them may have been told already.
        let is_behind = |place: &(u64, u64)| place.0 < newest.0 || place.0 == newest.0 && place.1 > newest.1;
        let from = self.paged.filter(is_behind).unwrap_or(newest);
        let rows = store.own_keys_behind(now.unix_seconds(), from, PAGE).unwrap_or_else(|error| {
            tracing::error!(%error, "other machines are not told of API keys");
            Vec::new()
        });
        self.paged = rows.last().filter(|_| rows.len() == PAGE).map(place);
        let page = Some((rows, Pepper::new(pepper).check()));
        CredentialWork { page, ..CredentialWork::default() }
    }

    /// Another machine says what it revokes. What fails is said again by its next whole.
    pub(super) fn peer(&mut self, mut said: PeerSays, now: Now) -> CredentialWork {
        if self.store.is_none() {
            return CredentialWork::default();
        }
        let (node, mut whole, keys) = (said.node.clone(), said.whole, mem::take(&mut said.keys));
        let (mut changes, mut changed, mut refused, mut no_room) = (Vec::new(), 0, 0, 0);
        // Each is a transaction: the proxies are told of the one, whatever becomes of the other.
        let revoked = self.take(said, now);
        let keys = revoked.is_ok().then(|| self.take_keys(&node, keys, &mut no_room, now));
        for taken in iter::once(revoked).chain(keys) {
            match taken {
                Ok((more, more_changed, more_refused)) => {
                    changes.extend(more);
                    (changed, refused) = (changed + more_changed, refused + more_refused);
                }
                Err(error) => {
                    tracing::error!(%error, node, "what another machine revokes could not be taken over");
                    whole = None;
                }
            }
        }
        let taken = Some(PeerOutcome { node, whole, changed, refused, no_room });
        CredentialWork { changes, records: self.unrecorded(), taken, ..CredentialWork::default() }
    }

    /// The same of API keys. Those that were made here, or on a third machine, are not another one's to change.
    fn take_keys(
        &mut self,
        node: &str,
        keys: Vec<(KeyRecord, u64, String, Tag)>,
        no_room: &mut u64,
        now: Now,
    ) -> Result<(Vec<CredentialChange>, u64, u64), CredentialError> {
        let actor = format!("{}{node}", rows::PEER);
        // Without [api_keys] there is nobody to be let in by them.
        let Some(pepper) =
            self.pepper.as_deref().map(|pepper| Pepper::new(pepper).check()).filter(|_| !keys.is_empty())
        else {
            return Ok((Vec::new(), 0, 0));
        };
        let store = self.store()?;
        let (mut all, mut its) = store.count_keys(&actor)?;
        let (mut changes, mut refused, mut written) = (Vec::new(), 0, Vec::new());
        for (record, created, _by, hashed_with) in keys {
            let known = store.key(record.id)?;
            // Another machine may have revoked it before it was heard of.
            let is_revoked = record.is_revoked || known.is_none() && store.is_revoked(&Revoked::Key(record.id))?;
            let revoked = is_revoked.then_some(now.unix_millis);
            let row = KeyRow {
                actor: actor.clone(),
                created: created.min(now.unix_millis),
                used: None,
                revoked: known.as_ref().and_then(|known| known.revoked).or(revoked),
                // By which one is that machine's to know.
                replaced_by: record.is_replaced.then_some(0),
                record,
            };
            let is_revoked = row.revoked.is_some();
            let row = KeyRow { record: KeyRecord { is_revoked, ..row.record }, ..row };
            match known {
                _ if hashed_with != pepper => refused += 1,
                Some(known) if known.actor != actor || known.record.tag != row.record.tag => refused += 1,
                Some(known) if known.record == row.record => {}
                None if all >= MOST_KEYS || its >= MOST_KEYS_OF_PEER => {
                    (refused, *no_room) = (refused + 1, *no_room + 1)
                }
                known => {
                    (all, its) = if known.is_none() { (all + 1, its + 1) } else { (all, its) };
                    written.push((row, known.is_none()));
                }
            }
        }
        if written.is_empty() {
            return Ok((changes, 0, refused));
        }
        let changed = u64::try_from(written.len()).unwrap_or(u64::MAX);
        let change = store.change()?;
        for (row, is_new) in written {
            if is_new {
                rows::put_key(&change, &row)?;
            } else {
                rows::update_key(&change, &row)?;
            }
            changes.push(CredentialChange::Key(row.record));
        }
        store::record(&change, "api_key_peer", &json!({"actor": actor, "changed": changed}))?;
        change.commit()?;
        Ok((changes, changed, refused))
    }

    /// What changes for the proxies, how much has changed, and how much there was no room for.
    fn take(&mut self, said: PeerSays, now: Now) -> Result<(Vec<CredentialChange>, u64, u64), CredentialError> {
        let actor = format!("{}{}", rows::PEER, said.node);
        let steady = self.steady.seconds(now);
        let store = self.store()?;
        let mut known: HashMap<Revoked, RevocationRow> =
            store.revocations_of(&actor)?.into_iter().map(|row| (row.revoked.clone(), row)).collect();
        let mut all = store.count_revocations()?;
        let mut gone: Vec<RevocationRow> = Vec::new();
        if said.is_all {
            let stays: HashSet<&Revoked> = said.revoked.iter().map(|(revoked, ..)| revoked).collect();
            gone.extend(known.extract_if(|revoked, _| !stays.contains(revoked)).map(|(_, row)| row));
        }
        gone.extend(said.restored.iter().filter_map(|revoked| known.remove(revoked)));
        let is_over = |expires: &Option<u64>| expires.is_some_and(|expires| expires <= steady);
        let is_new = |revoked: &Revoked, expires: &Option<u64>| {
            known.get(revoked).is_none_or(|row| row.expires != *expires) && !is_over(expires)
        };
        // A key that is known here stays revoked, also once that machine does not speak of it any more.
        let mut keys = Vec::new();
        for (revoked, expires, at, reason) in &said.revoked {
            if let Revoked::Key(id) = revoked
                && !is_over(expires)
                && let Some(key) = store.key(*id)?.filter(|key| key.revoked.is_none())
            {
                keys.push((key.record, *at.min(&now.unix_millis), reason.clone()));
            }
        }
        let new: Vec<_> = said.revoked.into_iter().filter(|(revoked, expires, ..)| is_new(revoked, expires)).collect();
        if gone.is_empty() && new.is_empty() && keys.is_empty() {
            return Ok((Vec::new(), 0, 0));
        }
        let (mut changes, mut refused) = (Vec::new(), 0);
        let (removed, mut added) = (gone.len(), 0_usize);
        let revoked_keys = keys.len();
        let change = store.change()?;
        for (record, at, reason) in keys {
            let revoke = "UPDATE key SET revoked = ifnull(revoked, ?) WHERE id = ?";
            change.prepare_cached(revoke)?.execute([rows::signed(at), rows::signed(record.id)])?;
            let members = json!({"actor": actor, "key": KeyId(record.id).to_string(), "name": record.name,
                "reason": reason});
            store::record(&change, "api_key_revoke", &members)?;
            changes.push(CredentialChange::Key(KeyRecord { is_revoked: true, ..record }));
        }
        for row in gone {
            changes.extend(remove_revocation(&change, row)?.map(CredentialChange::Lifted));
            all = all.saturating_sub(1);
        }
        let mut own = known.len();
        for (revoked, expires, at, reason) in new {
            if !known.contains_key(&revoked) {
                if all >= revocation::MOST || own >= MOST_OF_PEER {
                    refused += 1;
                    continue;
                }
                (all, own) = (all + 1, own + 1);
            }
            let added_at = at.min(now.unix_millis);
            let row = RevocationRow { number: 0, revoked, expires, reason, actor: actor.clone(), added: added_at };
            if rows::put_revocation(&change, &row)? {
                added += 1;
                changes.push(CredentialChange::Revoked(row.revoked));
            }
        }
        if removed > 0 || added > 0 {
            let members = json!({"actor": actor, "added": added, "removed": removed});
            store::record(&change, "revocation_peer", &members)?;
        }
        change.commit()?;
        Ok((changes, u64::try_from(removed + added + revoked_keys).unwrap_or(u64::MAX), refused))
    }
}

#[cfg(test)]
mod tests;
