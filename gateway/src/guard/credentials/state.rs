//! What the guard's loop keeps of API keys and revocations.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    revoked_file::RevokedFileWatch,
    rows::KeyRow,
    unconfirmed::Unconfirmed,
    work::{ConfiguredCredentials, OwnRevocations},
    writer::CredentialWriterHandle,
};
use crate::{
    guard::cluster::fact::{ClusterFact, is_tellable, is_tellable_key},
    policy::auth::{api_key::Tag, revocation::Revoked},
};

/// What the loop keeps of credentials.
#[derive(Default)]
pub(crate) struct CredentialState {
    /// `None`: its thread cannot be started.
    pub(crate) writer: Option<CredentialWriterHandle>,
    /// What it was told last that the configuration asks for.
    pub(crate) wanted: Option<ConfiguredCredentials>,
    /// The writer has opened that once, or could not.
    pub(crate) is_configured: bool,
    pub(crate) unconfirmed: Unconfirmed,
    /// The number of the last record that the audit chain has.
    pub(crate) recorded: i64,
    /// Keys that were used, and when: what the store is still to learn.
    pub(crate) used: HashMap<u64, u64>,
    /// What the writer says that an operator should know.
    pub(crate) warnings: Vec<String>,
    /// The same of the file of revocations.
    pub(crate) file_warning: Option<String>,
    /// Looks at that file.
    pub(crate) file: RevokedFileWatch,
    /// A configuration waits until the store is open: the proxy that compiled it, and the number of its reload.
    pub(crate) awaited: Option<(u64, u64)>,
    /// What other machines are told.
    pub(crate) shared: SharedRevocations,
    /// By which number the last whole of each other machine is known again, once it is taken over.
    pub(crate) wholes: HashMap<String, u64>,
}

/// What other machines are told of what is revoked here.
#[derive(Default)]
pub(crate) struct SharedRevocations {
    /// `None`: it is not known yet.
    own: Option<BTreeMap<Revoked, ClusterFact>>,
    /// API keys by their ids.
    keys: BTreeMap<u64, ClusterFact>,
    /// There is more.
    is_more: bool,
    /// There are more keys. They are told in turn: with each whole as many of these as it has room for.
    is_more_keys: bool,
    page: VecDeque<ClusterFact>,
    is_page_asked: bool,
    /// The last whole had no room for any of them.
    is_page_late: bool,
    /// What has changed since it was told.
    changes: Vec<ClusterFact>,
}

/// The most changes that wait to be told. Over it they come with the next whole.
const MOST_CHANGES: usize = 1_000;

impl SharedRevocations {
    /// This is revoked here now. `true`: nothing was known before, so that all of it is to be told.
    pub(crate) fn know(&mut self, own: OwnRevocations) -> bool {
        let fact = |row: super::rows::RevocationRow| {
            let revoked = row.revoked.clone();
            let (expires, at, by, reason) = (row.expires, row.added, row.actor, row.reason);
            (row.revoked, ClusterFact::Revoke { revoked, expires, at, by, reason })
        };
        (self.is_more, self.is_more_keys) = (own.is_more, own.is_more_keys);
        self.is_page_late &= own.is_more_keys;
        let tellable = own.rows.into_iter().filter(|row| {
            self.is_more |= !is_tellable(&row.revoked);
            is_tellable(&row.revoked)
        });
        let pepper = own.pepper;
        let keys: BTreeMap<u64, ClusterFact> = key_facts(own.keys, pepper).collect();
        // What is told of a key now is newer than what a page says.
        self.page.retain(|fact| self.is_more_keys && id(fact).is_none_or(|id| !keys.contains_key(&id)));
        let keys_before = std::mem::replace(&mut self.keys, keys);
        let own: BTreeMap<Revoked, ClusterFact> = tellable.map(fact).collect();
        let Some(before) = self.own.replace(own) else { return true };
        let own = self.own.iter().flatten();
        let mut changes: Vec<ClusterFact> =
            own.filter(|(revoked, fact)| before.get(*revoked) != Some(fact)).map(|(_, fact)| fact.clone()).collect();
        if !self.is_more {
            let gone = before.into_keys().filter(|revoked| self.own.iter().all(|own| !own.contains_key(revoked)));
            changes.extend(gone.map(|revoked| ClusterFact::Restore { revoked }));
        }
        let keys = self.keys.iter().filter(|(id, fact)| keys_before.get(*id) != Some(*fact));
        changes.extend(keys.map(|(_, fact)| fact.clone()));
        let room = MOST_CHANGES.saturating_sub(self.changes.len());
        self.changes.extend(changes.into_iter().take(room));
        false
    }

    /// What has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<ClusterFact> {
        std::mem::take(&mut self.changes)
    }

    /// Whether a page of keys is to be asked for.
    pub(crate) fn take_page_due(&mut self) -> bool {
        self.is_more_keys && self.page.is_empty() && !std::mem::replace(&mut self.is_page_asked, true)
    }

    /// The next page.
    pub(crate) fn know_page(&mut self, rows: Vec<KeyRow>, pepper: Tag) {
        self.is_page_asked = false;
        let is_told = |id: &u64| self.keys.contains_key(id);
        self.page = key_facts(rows, pepper).filter(|(id, _)| !is_told(id)).map(|(_, fact)| fact).collect();
    }

    /// Keys for which a whole may have room.
    pub(crate) fn page(&self) -> Vec<ClusterFact> {
        self.page.iter().cloned().collect()
    }

    /// It had room for so many of them.
    pub(crate) fn page_told(&mut self, count: usize) {
        self.is_page_late = count == 0 && !self.page.is_empty();
        self.page.drain(..count.min(self.page.len()));
    }

    /// What an operator should know.
    fn warnings(&self) -> impl Iterator<Item = String> {
        let late = "other machines do not hear of the oldest API keys: there is no room beside all else that this machine tells";
        let more =
            "this machine revokes more than it can tell other machines: one that joins now does not know the oldest";
        let is_more = self.is_more && self.own.is_some();
        [(self.is_page_late, late), (is_more, more)]
            .into_iter()
            .filter(|(is_so, _)| *is_so)
            .map(|(_, text)| text.to_owned())
    }

    /// All of it. Where it is not known, or too much, nothing is lifted by it.
    pub(crate) fn facts(&self) -> impl Iterator<Item = ClusterFact> {
        let more = (self.is_more || self.own.is_none()).then_some(ClusterFact::MoreRevoked);
        let own = self.own.iter().flatten().map(|(_, fact)| fact.clone());
        more.into_iter().chain(own).chain(self.keys.values().cloned())
    }
}

/// Keys as others are told of them, by their ids.
fn key_facts(rows: Vec<KeyRow>, pepper: Tag) -> impl Iterator<Item = (u64, ClusterFact)> {
    rows.into_iter().filter(|row| is_tellable_key(&row.record)).map(move |row| {
        let (id, record) = (row.record.id, Box::new(row.record));
        (id, ClusterFact::Key { record, created: row.created, by: row.actor, pepper })
    })
}

fn id(fact: &ClusterFact) -> Option<u64> {
    match fact {
        ClusterFact::Key { record, .. } => Some(record.id),
        _ => None,
    }
}

impl CredentialState {
    /// Whether proxies that start know what there is to know.
    pub(crate) const fn is_settled(&self) -> bool {
        self.writer.is_none() || self.is_configured
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let late = self.file.is_awaited().then(|| "the file of revocations was not read yet".to_owned());
        self.warnings.iter().chain(&self.file_warning).cloned().chain(late).chain(self.shared.warnings())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guard::credentials::rows::RevocationRow, policy::auth::api_key::record::KeyRecord};

    fn row(key: u64, expires: Option<u64>) -> RevocationRow {
        let (reason, actor) = ("tests".to_owned(), "operator:0".to_owned());
        RevocationRow { number: 0, revoked: Revoked::Key(key), expires, reason, actor, added: 7 }
    }

    #[test]
    fn others_are_told_of_what_has_changed() {
        let mut shared = SharedRevocations::default();
        assert_eq!(
            shared.facts().collect::<Vec<_>>(),
            [ClusterFact::MoreRevoked],
            "nothing is known: nothing is lifted"
        );
        let mut know = |rows: &[RevocationRow], is_more| {
            let own = OwnRevocations { rows: rows.to_vec(), is_more, ..OwnRevocations::default() };
            let is_first = shared.know(own);
            let told = |fact: ClusterFact| match fact {
                ClusterFact::Revoke { revoked: Revoked::Key(key), expires, .. } => (key, true, expires),
                ClusterFact::Restore { revoked: Revoked::Key(key) } => (key, false, None),
                other => panic!("{other:?}"),
            };
            let changes: Vec<_> = shared.take_changes().into_iter().map(told).collect();
            (is_first, changes, shared.facts().count())
        };
        assert_eq!(know(&[row(1, None)], false), (true, vec![], 1));
        assert_eq!(know(&[row(1, None), row(2, None)], false), (false, vec![(2, true, None)], 2));
        assert_eq!(know(&[row(1, Some(9))], false), (false, vec![(1, true, Some(9)), (2, false, None)], 1));
        // What is left out is not lifted by that.
        assert_eq!(know(&[row(3, None)], true), (false, vec![(3, true, None)], 2));
        let long =
            RevocationRow { revoked: Revoked::Token { issuer: "i".to_owned(), id: "x".repeat(2_000) }, ..row(0, None) };
        assert_eq!(know(&[long], false), (false, vec![], 1));
    }

    /// Keys beyond the newest are told in turn, as wholes have room; what has changed is told at once, and not by an older page.
    #[test]
    fn more_keys_are_told_in_turn() {
        let mut shared = SharedRevocations::default();
        let key = |id: u64, is_revoked: bool| {
            let (name, profile) = (format!("key-{id}"), crate::policy::auth::api_key::record::Profile::default());
            let (expires, tag, is_replaced, is_foreign) = (None, [7; 32], false, false);
            let record = KeyRecord { id, tag, name, profile, expires, is_revoked, is_replaced, is_foreign };
            KeyRow { record, actor: "operator:0".to_owned(), created: 5, used: None, revoked: None, replaced_by: None }
        };
        let ids = |facts: Vec<ClusterFact>| facts.iter().filter_map(id).collect::<Vec<_>>();
        let own = |keys: &[u64], is_more_keys| OwnRevocations {
            keys: keys.iter().map(|id| key(*id, *id > 100)).collect(),
            is_more_keys,
            ..OwnRevocations::default()
        };
        shared.know(own(&[1, 2], false));
        assert!(!shared.take_page_due(), "these are all");
        shared.know(own(&[1, 2], true));
        assert_eq!((shared.take_page_due(), shared.take_page_due()), (true, false), "asked for once");
        shared.know_page([2, 3, 4, 5, 106].map(|id| key(id, false)).to_vec(), [0; 32]);
        assert_eq!(ids(shared.page()), [3, 4, 5, 106]);
        shared.page_told(1);
        assert!(!shared.take_page_due() && shared.warnings().next().is_none());
        shared.take_changes();
        shared.know(own(&[1, 2, 106], true));
        assert_eq!((ids(shared.take_changes()), ids(shared.page())), (vec![106], vec![4, 5]));
        shared.page_told(0);
        assert_eq!(shared.warnings().count(), 1, "there is no room");
        shared.page_told(2);
        assert_eq!((shared.warnings().count(), shared.take_page_due()), (0, true));
        shared.know_page(Vec::new(), [0; 32]);
        assert!(shared.take_page_due(), "from the beginning");
        shared.know(own(&[1, 2], false));
        assert!(shared.page().is_empty() && !shared.take_page_due());
    }
}
