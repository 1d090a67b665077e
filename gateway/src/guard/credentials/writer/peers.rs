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
    auth::api_key::{Tag, record::KeyRecord, text::KeyId},
    guard::credentials::{
        rows::KeyRow,
        store::remove_revocation,
        work::{OwnRevocations, PeerOutcome, PeerSays},
    },
};

/// The most revocations, and the most keys, that others are told of.
const MOST_OWN: usize = 8_000;

/// The most that one other machine may revoke here, and the most keys that it may make.
const MOST_OF_PEER: usize = 20_000;

/// The most API keys, over all machines.
const MOST_KEYS: usize = 1_000_000;

impl CredentialWriterState {
    /// What this machine revokes itself. `None`: it is not known.
    pub(super) fn own(&self, now: Now) -> Option<OwnRevocations> {
        let store = self.store.as_ref()?;
        let told = |error: &CredentialError| tracing::error!(%error, "other machines are not told of credentials");
        let rows = store.own_revocations(now.unix_millis, MOST_OWN + 1).inspect_err(told).ok()?;
        let (mut keys, mut rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.number == 0);
        let is_more = keys.len() > MOST_OWN || rows.len() > MOST_OWN;
        [&mut keys, &mut rows].into_iter().for_each(|rows| rows.truncate(MOST_OWN));
        rows.append(&mut keys);
        let (keys, pepper) = match &self.pepper {
            Some(pepper) => {
                let keys = store.own_keys(now.unix_seconds(), MOST_OWN).inspect_err(told).ok()?;
                (keys, Pepper::new(pepper).check())
            }
            None => (Vec::new(), Tag::default()),
        };
        Some(OwnRevocations { rows, is_more, keys, pepper })
    }

    /// Another machine says what it revokes. What fails is said again by its next whole.
    pub(super) fn peer(&mut self, mut said: PeerSays, now: Now) -> CredentialWork {
        if self.store.is_none() {
            return CredentialWork::default();
        }
        let (node, mut whole, keys) = (said.node.clone(), said.whole, mem::take(&mut said.keys));
        let (mut changes, mut changed, mut refused) = (Vec::new(), 0, 0);
        // Each is a transaction: the proxies are told of the one, whatever becomes of the other.
        let revoked = self.take(said, now);
        let keys = revoked.is_ok().then(|| self.take_keys(&node, keys, now));
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
        let taken = Some(PeerOutcome { node, whole, changed, refused });
        CredentialWork { changes, records: self.unrecorded(), taken, ..CredentialWork::default() }
    }

    /// The same of API keys. Those that were made here, or on a third machine, are not another one's to change.
    fn take_keys(
        &mut self,
        node: &str,
        keys: Vec<(KeyRecord, u64, String, Tag)>,
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
                None if all >= MOST_KEYS || its >= MOST_OF_PEER => refused += 1,
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
        let is_over = |expires: &Option<u64>| expires.is_some_and(|expires| expires <= now.unix_seconds());
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
mod tests {
    use std::slice;

    use super::*;
    use crate::{auth::api_key::record::Profile, guard::control::Answer};

    const NOW: Now = Now { monotonic: 0, unix_millis: 1_800_000_000_000 };

    fn desk(name: &str) -> (CredentialWriterState, PathBuf) {
        let folder = std::env::temp_dir().join(format!("gateway-peers-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let mut desk = CredentialWriterState::new(folder.clone());
        desk.work(Job::Share { nodes: vec!["a".to_owned(), "b".to_owned()], now: NOW });
        desk.work(Job::Configure { wanted: ConfiguredCredentials::Revocations, now: NOW });
        (desk, folder)
    }

    fn token(id: &str) -> Revoked {
        Revoked::Token { issuer: "i".to_owned(), id: id.to_owned() }
    }

    /// What another machine says: all that it revokes, or what is new.
    fn says(node: &str, revoked: &[&str], restored: &[&str], whole: Option<u64>) -> PeerSays {
        let revoked = revoked.iter().map(|id| (token(id), None, NOW.unix_millis, "tests".to_owned()));
        PeerSays {
            node: node.to_owned(),
            revoked: revoked.collect(),
            restored: restored.iter().map(|id| token(id)).collect(),
            keys: Vec::new(),
            is_all: whole.is_some(),
            whole,
        }
    }

    fn order(desk: &mut CredentialWriterState, order: CredentialCommand) -> (Answer, CredentialWork) {
        let (to, _waits) = tokio::sync::oneshot::channel();
        let mut worked = desk.work(Job::Order { order, actor: "operator:0".to_owned(), now: NOW, to });
        let (answer, _to) = worked.answer.take().unwrap();
        (answer, worked)
    }

    fn revoke(desk: &mut CredentialWriterState, id: &str) -> CredentialWork {
        order(desk, CredentialCommand::Revoke { revoked: token(id), expires: None, reason: String::new() }).1
    }

    #[track_caller]
    fn hears(desk: &mut CredentialWriterState, said: PeerSays, expect: &[CredentialChange]) {
        let worked = desk.work(Job::Peer { said, now: NOW });
        assert_eq!(worked.changes, expect);
        assert!(worked.taken.is_some() && worked.own.is_none(), "what others revoke is not passed on");
    }

    fn revoked(id: &str) -> CredentialChange {
        CredentialChange::Revoked(token(id))
    }

    fn lifted(id: &str) -> CredentialChange {
        CredentialChange::Lifted(token(id))
    }

    #[test]
    fn each_machine_lifts_what_it_has_revoked_itself() {
        let (mut desk, folder) = desk("lift");
        hears(&mut desk, says("a", &["1", "2"], &[], Some(1)), &[revoked("1"), revoked("2")]);
        hears(&mut desk, says("a", &["1", "2"], &[], Some(2)), &[]);
        hears(&mut desk, says("b", &["2"], &[], Some(3)), &[revoked("2")]);
        hears(&mut desk, says("b", &[], &["1"], None), &[]);
        hears(&mut desk, says("a", &[], &["2"], None), &[]);
        hears(&mut desk, says("b", &[], &["2"], None), &[lifted("2")]);
        assert_eq!(revoke(&mut desk, "1").own.unwrap().rows.len(), 1, "its own alone is told");
        hears(&mut desk, says("a", &[], &[], Some(4)), &[]);
        hears(&mut desk, says("a", &["3"], &[], None), &[revoked("3")]);
        // A whole that is not all of it lifts nothing.
        hears(&mut desk, PeerSays { is_all: false, ..says("a", &[], &[], Some(5)) }, &[]);
        hears(&mut desk, says("a", &["4"], &[], Some(6)), &[lifted("3"), revoked("4")]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_operator_lifts_what_a_machine_said_that_is_gone() {
        let (mut desk, folder) = desk("gone");
        hears(&mut desk, says("a", &["1"], &[], Some(1)), &[revoked("1")]);
        let number = desk.store().unwrap().revocations(0, 9).unwrap()[0].number;
        let (answer, _) = order(&mut desk, CredentialCommand::Lift { number });
        assert!(matches!(&answer, Answer::Refused { code, .. } if code == "of_peer"), "{answer:?}");
        desk.work(Job::Share { nodes: vec!["b".to_owned()], now: NOW });
        let (answer, worked) = order(&mut desk, CredentialCommand::Lift { number });
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        assert_eq!(worked.changes, [lifted("1")]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn desk_with_keys(name: &str) -> (CredentialWriterState, PathBuf, Tag) {
        let (mut desk, folder) = desk(name);
        desk.work(Job::Configure { wanted: ConfiguredCredentials::Keys(Some(vec![7; 32])), now: NOW });
        (desk, folder, Pepper::new(&[7; 32]).check())
    }

    fn key(id: u64, change: &dyn Fn(&mut KeyRecord)) -> KeyRecord {
        let (expires, is_revoked, is_replaced, is_foreign) = (None, false, false, false);
        let (name, profile) = (format!("key-{id}"), Profile::default());
        let mut record = KeyRecord { id, tag: [7; 32], name, profile, expires, is_revoked, is_replaced, is_foreign };
        change(&mut record);
        record
    }

    /// `a` has made these keys.
    fn told(records: &[KeyRecord], pepper: Tag) -> PeerSays {
        let keys = records.iter().map(|record| (record.clone(), 5, "operator:0".to_owned(), pepper));
        PeerSays { keys: keys.collect(), ..says("a", &[], &[], None) }
    }

    #[test]
    fn a_key_of_another_machine_is_good_here_and_its_own_to_change() {
        let (mut desk, folder, pepper) = desk_with_keys("keys");
        let first = key(1, &|_| {});
        let changed = |record: &KeyRecord| CredentialChange::Key(record.clone());
        hears(&mut desk, told(slice::from_ref(&first), pepper), &[changed(&first)]);
        hears(&mut desk, told(slice::from_ref(&first), pepper), &[]);
        hears(&mut desk, told(&[key(2, &|_| {})], [9; 32]), &[]);
        // Another machine, or another tag, changes nothing of it.
        hears(
            &mut desk,
            PeerSays { node: "b".to_owned(), ..told(&[key(1, &|key| key.is_revoked = true)], pepper) },
            &[],
        );
        hears(&mut desk, told(&[key(1, &|key| key.tag = [8; 32])], pepper), &[]);
        let rotated = key(1, &|key| (key.expires, key.is_replaced) = (Some(NOW.unix_seconds() + 60), true));
        hears(&mut desk, told(slice::from_ref(&rotated), pepper), &[changed(&rotated)]);
        // Revoked here: its own machine does not make it good again.
        let (answer, _) =
            order(&mut desk, CredentialCommand::RevokeKey { what: "key-1".to_owned(), reason: String::new() });
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        let later = key(1, &|key| key.expires = Some(NOW.unix_seconds() + 90));
        let worked = desk.work(Job::Peer { said: told(&[later], pepper), now: NOW });
        assert!(matches!(&worked.changes[..], [CredentialChange::Key(key)] if key.is_revoked), "{:?}", worked.changes);
        let rotate = |what: &str| CredentialCommand::Rotate {
            prefix: "gwk".to_owned(),
            what: what.to_owned(),
            overlap: 0,
            expires: None,
        };
        hears(&mut desk, told(&[key(3, &|_| {})], pepper), &[changed(&key(3, &|_| {}))]);
        let (answer, _) = order(&mut desk, rotate("key-3"));
        assert!(matches!(&answer, Answer::Refused { code, .. } if code == "of_peer"), "{answer:?}");
        // What others have made is not passed on; what is made here is told.
        let make = CredentialCommand::Make {
            prefix: "gwk".to_owned(),
            name: "own".to_owned(),
            profile: Profile::default(),
            expires: None,
        };
        let own = order(&mut desk, make).1.own.unwrap();
        assert_eq!((own.keys.len(), &*own.keys[0].record.name, own.pepper), (1, "own", pepper));
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Whoever made a key, and whatever came first: it is revoked for ever, and other machines speak of it for 90 days.
    #[test]
    fn a_key_that_another_machine_has_revoked_stays_revoked() {
        let (mut desk, folder, pepper) = desk_with_keys("stays");
        let make = CredentialCommand::Make {
            prefix: "gwk".to_owned(),
            name: "own".to_owned(),
            profile: Profile::default(),
            expires: None,
        };
        let own = order(&mut desk, make).1.own.unwrap().keys[0].record.id;
        let expires = Some(NOW.unix_seconds() + 90 * 86_400);
        // An earlier version wrote this row alone.
        let row = RevocationRow {
            number: 0,
            revoked: Revoked::Key(2),
            expires,
            reason: "lost (operator:0)".to_owned(),
            actor: "cluster:b".to_owned(),
            added: NOW.unix_millis,
        };
        let change = desk.store().unwrap().change().unwrap();
        rows::put_key(
            &change,
            &KeyRow {
                record: key(2, &|_| {}),
                actor: "operator:0".to_owned(),
                created: 5,
                used: None,
                revoked: None,
                replaced_by: None,
            },
        )
        .unwrap();
        rows::put_revocation(&change, &row).unwrap();
        change.commit().unwrap();
        desk.work(Job::Peer { said: told(&[key(1, &|_| {})], pepper), now: NOW });
        let all = [own, 1, 2, 3];
        let revoked = all.map(|id| (Revoked::Key(id), expires, NOW.unix_millis, row.reason.clone()));
        let said = PeerSays { revoked: revoked.to_vec(), ..says("b", &[], &[], Some(1)) };
        let worked = desk.work(Job::Peer { said, now: NOW });
        let is_told = |id: u64| {
            let is_it = |change: &&CredentialChange| matches!(change, CredentialChange::Key(key) if key.id == id && key.is_revoked);
            worked.changes.iter().any(|change| is_it(&change))
        };
        assert_eq!(all.map(is_told), [true, true, true, false], "the last is not known here yet");
        assert_eq!(worked.records.iter().filter(|record| record.event == "api_key_revoke").count(), 3);
        desk.work(Job::Peer { said: told(&[key(3, &|_| {})], pepper), now: NOW });
        // Long after, nobody speaks of them any more.
        let after = Now { unix_millis: NOW.unix_millis + 91 * 86_400_000, ..NOW };
        desk.work(Job::Peer { said: says("b", &[], &[], Some(2)), now: after });
        for id in all {
            let key = desk.store().unwrap().key(id).unwrap().unwrap();
            assert!(key.record.is_revoked && key.revoked == Some(NOW.unix_millis), "{key:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Its keys cannot be written: what it revokes is told to the proxies all the same, and it is asked for all again.
    #[test]
    fn what_is_revoked_is_told_whatever_becomes_of_keys() {
        let (mut desk, folder, pepper) = desk_with_keys("broken");
        let change = desk.store().unwrap().change().unwrap();
        let broken = "CREATE TRIGGER broken BEFORE INSERT ON key BEGIN SELECT RAISE(ABORT, 'full'); END";
        change.execute_batch(broken).unwrap();
        change.commit().unwrap();
        let said = PeerSays { keys: told(&[key(1, &|_| {})], pepper).keys, ..says("a", &["1"], &[], Some(1)) };
        let worked = desk.work(Job::Peer { said, now: NOW });
        assert_eq!(worked.changes, [revoked("1")]);
        assert_eq!(worked.taken, Some(PeerOutcome { node: "a".to_owned(), whole: None, changed: 1, refused: 0 }));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_one_machine_may_revoke_is_bounded() {
        let (mut desk, folder) = desk("bounded");
        let ids: Vec<String> = (0..MOST_OF_PEER + 7).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let worked = desk.work(Job::Peer { said: says("a", &ids, &[], Some(1)), now: NOW });
        let taken = worked.taken.unwrap();
        assert_eq!((worked.changes.len(), taken.changed, taken.refused), (MOST_OF_PEER, 20_000, 7));
        hears(&mut desk, says("b", &["x"], &[], None), &[revoked("x")]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
