//! What operators do with API keys: make, rotate, revoke, show, import.

use super::*;
use crate::{
    guard::{
        control::{KeyMade, KeyPage, KeyShown},
        credentials::{rows::KeyRow, work::described},
    },
    os::clock::rfc3339,
    policy::auth::api_key::{
        record::{KeyRecord, Network, Profile},
        sha256,
        text::{self, KeyId},
    },
    text::counted::counted,
};

/// How many keys are shown on one page.
const PAGE: usize = 500;

impl CredentialWriterState {
    fn pepper(&self) -> Result<Pepper, Refused> {
        let why = self.trouble.as_deref().unwrap_or("there is no [api_keys] in the configuration");
        let pepper = self.pepper.as_deref().map(Pepper::new);
        pepper.ok_or_else(|| Refused::new("keys_unavailable", format!("nothing was changed: {why}")))
    }

    /// A key with a new secret: what is stored of it, and its text.
    fn draft(
        &self,
        prefix: &str,
        name: String,
        profile: Profile,
        expires: Option<u64>,
    ) -> Result<(KeyRecord, String), Refused> {
        let pepper = self.pepper()?;
        let (id, text) = text::generate(prefix)
            .map_err(|_unspecified| Refused::new("no_randomness", "the machine has no randomness"))?;
        let tag = pepper.tag(&sha256(text.as_bytes()));
        let (is_revoked, is_replaced, is_foreign) = (false, false, false);
        let record = KeyRecord { id: id.0, tag, name, profile, expires, is_revoked, is_replaced, is_foreign };
        Ok((record, text))
    }

    pub(super) fn make(
        &mut self,
        prefix: &str,
        name: String,
        profile: Profile,
        expires: Option<u64>,
        actor: &str,
        now: Now,
    ) -> CommandResult {
        let (record, text) = self.draft(prefix, name, profile, expires)?;
        let store = self.store()?;
        if let Some(known) = store.named(&record.name)?.into_iter().find(|key| is_good(key, now)) {
            let (name, id) = (&record.name, KeyId(known.record.id));
            let hint = "rotate it (`gateway key rotate`), revoke it first, or choose another name";
            return Err(Refused::new("exists", format!("{name} has the API key {id} already: {hint}")).into());
        }
        let row = row(record, actor, now);
        let change = store.change()?;
        if rows::put_key(&change, &row)? == 0 {
            return Err(Refused::new("exists", "an API key has this id already: try again").into());
        }
        let members = described(&row.record, [("actor", actor.into())]);
        store::record(&change, "api_key_new", &members)?;
        change.commit()?;
        Ok((made(&row.record, text, None), vec![CredentialChange::Key(row.record)]))
    }

    pub(super) fn rotate(
        &mut self,
        prefix: &str,
        what: &str,
        overlap: u64,
        expires: Option<u64>,
        actor: &str,
        now: Now,
    ) -> CommandResult {
        let good: Vec<KeyRow> = self.find(what)?.into_iter().filter(|key| is_good(key, now)).collect();
        // Of a key that is being rotated already, the newest goes on.
        let old = good.into_iter().find(|key| key.replaced_by.is_none());
        let Some(old) = old else {
            return Err(
                Refused::new("not_good", format!("{what} is revoked, expired or replaced: make a new key")).into()
            );
        };
        if let Some(node) = old.actor.strip_prefix(rows::PEER) {
            let what = format!("the machine {node} has made {what}: rotate it there");
            return Err(Refused::new("of_peer", what).into());
        }
        let until = now.unix_seconds().saturating_add(overlap);
        let old_expires = old.record.expires.map_or(until, |expires| expires.min(until));
        let expires = expires.or(old.record.expires.filter(|expires| *expires > until));
        let (record, text) = self.draft(prefix, old.record.name.clone(), old.record.profile.clone(), expires)?;
        let row = row(record, actor, now);
        let change = self.store()?.change()?;
        if rows::put_key(&change, &row)? == 0 {
            return Err(Refused::new("exists", "an API key has this id already: try again").into());
        }
        change.execute(
            "UPDATE key SET expires = ?, replaced_by = ? WHERE id = ?",
            [i64::try_from(old_expires).unwrap_or(i64::MAX), rows::signed(row.record.id), rows::signed(old.record.id)],
        )?;
        let replaces = ("replaces", KeyId(old.record.id).to_string().into());
        let ends = ("until", rfc3339(old_expires.saturating_mul(1_000)).into());
        let members = described(&row.record, [("actor", actor.into()), replaces, ends]);
        store::record(&change, "api_key_rotate", &members)?;
        change.commit()?;
        let before = KeyRecord { expires: Some(old_expires), is_replaced: true, ..old.record.clone() };
        let answer = made(&row.record, text, Some((old.record.id, old_expires)));
        Ok((answer, vec![CredentialChange::Key(row.record), CredentialChange::Key(before)]))
    }

    pub(super) fn revoke_key(&mut self, what: &str, reason: &str, actor: &str, now: Now) -> CommandResult {
        let keys: Vec<KeyRow> = self.find(what)?.into_iter().filter(|key| key.revoked.is_none()).collect();
        if keys.is_empty() {
            return Err(Refused::new("revoked_already", format!("{what} is revoked already")).into());
        }
        let change = self.store()?.change()?;
        let millis = i64::try_from(now.unix_millis).unwrap_or(i64::MAX);
        for key in &keys {
            change.execute("UPDATE key SET revoked = ? WHERE id = ?", [millis, rows::signed(key.record.id)])?;
            let members = json!({"actor": actor, "key": KeyId(key.record.id).to_string(), "name": key.record.name,
                "reason": reason});
            store::record(&change, "api_key_revoke", &members)?;
        }
        change.commit()?;
        let ids: Vec<String> = keys.iter().map(|key| KeyId(key.record.id).to_string()).collect();
        let name = keys.first().map_or("", |key| &key.record.name);
        let message = format!("revoked: {} ({name})", ids.join(", "));
        let changed = u64::try_from(keys.len()).unwrap_or(0);
        let gone = |key: KeyRow| CredentialChange::Key(KeyRecord { is_revoked: true, ..key.record });
        Ok((ControlAnswer::Done { message, changed }, keys.into_iter().map(gone).collect()))
    }

    pub(super) fn show(&mut self, what: &str) -> CommandResult {
        let keys = self.find(what)?.iter().map(shown).collect();
        Ok((ControlAnswer::Keys(Box::new(KeyPage { keys, next: None })), Vec::new()))
    }

    pub(super) fn list(&mut self, after: Option<(String, u64)>) -> CommandResult {
        let page = self.store()?.page(after.as_ref().map(|(name, id)| (name.as_str(), *id)), PAGE)?;
        let last = page.last().filter(|_| page.len() == PAGE);
        let next = last.map(|key| (key.record.name.clone(), KeyId(key.record.id).to_string()));
        let keys = page.iter().map(shown).collect();
        Ok((ControlAnswer::Keys(Box::new(KeyPage { keys, next })), Vec::new()))
    }

    pub(super) fn import(&mut self, keys: Vec<KeyRecord>, actor: &str, now: Now) -> CommandResult {
        let pepper = self.pepper()?;
        let rows: Vec<KeyRow> =
            keys.into_iter().map(|key| row(KeyRecord { tag: pepper.tag(&key.tag), ..key }, actor, now)).collect();
        let store = self.store()?;
        let change = store.change()?;
        let mut new = Vec::new();
        let mut known: u64 = 0;
        for row in rows {
            if rows::put_key(&change, &row)? > 0 {
                new.push(row.record);
                continue;
            }
            let same: Vec<u8> =
                change
                    .query_row("SELECT tag FROM key WHERE id = ?", [rows::signed(row.record.id)], |row| row.get(0))?;
            if same != row.record.tag {
                let id = KeyId(row.record.id);
                return Err(Refused::new(
                    "exists",
                    format!("the id {id} is that of another API key: nothing of this part is imported"),
                )
                .into());
            }
            known += 1;
        }
        let added = u64::try_from(new.len()).unwrap_or(0);
        if added > 0 {
            store::record(&change, "api_key_import", &json!({"actor": actor, "keys": added}))?;
        }
        change.commit()?;
        let (imported, known) = (counted(added, "API key is", "API keys are"), counted(known, "was", "were"));
        let message = format!("{imported} imported, {known} there already");
        Ok((ControlAnswer::Done { message, changed: added }, new.into_iter().map(CredentialChange::Key).collect()))
    }

    /// The key of an id, or all keys of a name. Ids first: a key that is named by the id of another is not meant.
    fn find(&mut self, what: &str) -> Result<Vec<KeyRow>, CredentialError> {
        let store = self.store()?;
        let by_id = what.parse().ok().map(|KeyId(id)| store.key(id)).transpose()?.flatten();
        let found = match by_id {
            Some(key) => vec![key],
            None => store.named(what)?,
        };
        if found.is_empty() {
            let hint = "`gateway key list` shows names and ids";
            return Err(Refused::new("not_found", format!("there is no API key {what}: {hint}")).into());
        }
        Ok(found)
    }
}

fn row(record: KeyRecord, actor: &str, now: Now) -> KeyRow {
    let (actor, created) = (actor.to_owned(), now.unix_millis);
    KeyRow { record, actor, created, used: None, revoked: None, replaced_by: None }
}

fn is_good(key: &KeyRow, now: Now) -> bool {
    key.revoked.is_none() && key.record.expires.is_none_or(|expires| expires > now.unix_seconds())
}

fn moment(seconds: u64) -> String {
    rfc3339(seconds.saturating_mul(1_000))
}

fn made(record: &KeyRecord, key: String, replaces: Option<(u64, u64)>) -> ControlAnswer {
    ControlAnswer::KeyMade(Box::new(KeyMade {
        id: KeyId(record.id).to_string(),
        name: record.name.clone(),
        key,
        expires: record.expires.map(moment),
        replaces: replaces.map(|(id, _)| KeyId(id).to_string()),
        replaced_until: replaces.map(|(_, until)| moment(until)),
        warning: None,
    }))
}

fn shown(key: &KeyRow) -> KeyShown {
    let KeyRow { record, actor, created, used, revoked, replaced_by } = key;
    KeyShown {
        id: KeyId(record.id).to_string(),
        name: record.name.clone(),
        roles: record.profile.roles.clone(),
        from: record.profile.sources.iter().map(|Network(source)| source.to_string()).collect(),
        hosts: record.profile.hosts.clone(),
        plan: record.profile.plan.clone(),
        created: rfc3339(*created),
        actor: actor.clone(),
        expires: record.expires.map(moment),
        expires_seconds: record.expires,
        used: used.map(moment),
        revoked: revoked.map(rfc3339),
        replaced_by: replaced_by.map(|id| KeyId(id).to_string()),
    }
}
