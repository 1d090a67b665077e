//! The rows of the store: a key and a revocation, as they are written and read.

use rusqlite::{Connection, Row, params};

use crate::policy::auth::{
    api_key::{
        record::{KeyRecord, Network, Profile},
        text::KeyId,
    },
    revocation::Revoked,
};

/// A key, with all that is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    /// What proxies know of it.
    pub(crate) record: KeyRecord,
    /// Who made it.
    pub(crate) actor: String,
    /// When: milliseconds since the Unix epoch.
    pub(crate) created: u64,
    /// When it was used last, to an hour: seconds since the Unix epoch.
    pub(crate) used: Option<u64>,
    /// When it was revoked: milliseconds since the Unix epoch.
    pub(crate) revoked: Option<u64>,
    /// The key that took its place.
    pub(crate) replaced_by: Option<u64>,
}

/// A revocation, with all that is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevocationRow {
    /// Its number.
    pub(crate) number: u64,
    /// What is revoked.
    pub(crate) revoked: Revoked,
    /// When it is over: seconds since the Unix epoch.
    pub(crate) expires: Option<u64>,
    /// Why, for people.
    pub(crate) reason: String,
    /// Who did it; `file`: it stands in the file of revocations.
    pub(crate) actor: String,
    /// When: milliseconds since the Unix epoch.
    pub(crate) added: u64,
}

/// Whose revocations stand in the file.
pub(crate) const FILE: &str = "file";

/// How the names of those begin who revoke on other machines.
pub(crate) const PEER: &str = crate::guard::cluster::fact::ACTOR;

pub(super) const TABLES: &str = "
    CREATE TABLE key (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        tag BLOB NOT NULL,
        roles TEXT NOT NULL,
        sources TEXT NOT NULL,
        hosts TEXT NOT NULL,
        expires INTEGER,
        is_foreign INTEGER NOT NULL,
        actor TEXT NOT NULL,
        created INTEGER NOT NULL,
        used INTEGER,
        revoked INTEGER,
        replaced_by INTEGER,
        plan TEXT
    ) STRICT;
    CREATE INDEX key_by_name ON key (name, id);
    CREATE TABLE revocation (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        issuer TEXT NOT NULL,
        value TEXT NOT NULL,
        before INTEGER NOT NULL,
        expires INTEGER,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        added INTEGER NOT NULL,
        is_of_file INTEGER NOT NULL,
        UNIQUE (issuer, value, kind, before, is_of_file)
    ) STRICT;
    CREATE INDEX revocation_expires ON revocation (expires) WHERE expires IS NOT NULL;
    CREATE TABLE unrecorded (number INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, members TEXT NOT NULL) STRICT;
    CREATE TABLE pepper (one INTEGER PRIMARY KEY CHECK (one = 1), tag BLOB NOT NULL) STRICT;
";

/// The record of the audit chain up to which the store knows what became of its keys. A store of an earlier version has
/// no such table, and an earlier version does not look at it.
pub(super) const SEEN: &str = "
    CREATE TABLE IF NOT EXISTS seen (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
";

/// Of a store of an earlier version, which does not look at it.
pub(super) const PLAN: &str = "ALTER TABLE key ADD COLUMN plan TEXT";

/// SQLite's integers are signed; ids are not.
pub(super) const fn signed(id: u64) -> i64 {
    id.cast_signed()
}

fn time(value: Option<u64>) -> Option<i64> {
    value.and_then(|value| i64::try_from(value).ok())
}

fn of_time(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

/// Texts as one: none of them has a space.
fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(" ")
}

fn split(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A row of `key`; `None`: it holds what this program never wrote.
pub(super) fn key(row: &Row<'_>) -> rusqlite::Result<Option<KeyRow>> {
    let (sources, roles, hosts): (String, String, String) = (row.get("sources")?, row.get("roles")?, row.get("hosts")?);
    let sources: Result<Vec<Network>, _> = split(&sources).iter().map(|text| text.parse().map(Network)).collect();
    let tag: Vec<u8> = row.get("tag")?;
    let (Ok(sources), Ok(tag)) = (sources, tag.try_into()) else { return Ok(None) };
    let (revoked, replaced_by): (Option<i64>, Option<i64>) = (row.get("revoked")?, row.get("replaced_by")?);
    // A damaged file that an earlier version wrote has no such column.
    let plan: Option<String> = row.get("plan").unwrap_or_default();
    let id: i64 = row.get("id")?;
    Ok(Some(KeyRow {
        record: KeyRecord {
            id: id.cast_unsigned(),
            tag,
            name: row.get("name")?,
            profile: Profile { roles: split(&roles), sources, hosts: split(&hosts), plan },
            expires: of_time(row.get("expires")?),
            is_revoked: revoked.is_some(),
            is_replaced: replaced_by.is_some(),
            is_foreign: row.get("is_foreign")?,
        },
        actor: row.get("actor")?,
        created: of_time(row.get("created")?).unwrap_or(0),
        used: of_time(row.get("used")?),
        revoked: of_time(revoked),
        replaced_by: replaced_by.map(i64::cast_unsigned),
    }))
}

/// Writes a key that is not there yet.
pub(super) fn put_key(connection: &Connection, row: &KeyRow) -> rusqlite::Result<usize> {
    let KeyRow { record, actor, created, used, revoked, replaced_by } = row;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO key (id, name, tag, roles, sources, hosts, expires, is_foreign, actor, created, used,
             revoked, replaced_by, plan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        signed(record.id),
        record.name,
        &record.tag[..],
        joined(record.profile.roles.iter().cloned()),
        joined(record.profile.sources.iter().map(|Network(source)| source.to_string())),
        joined(record.profile.hosts.iter().cloned()),
        time(record.expires),
        record.is_foreign,
        actor,
        time(Some(*created)),
        time(*used),
        time(*revoked),
        replaced_by.map(signed),
        record.profile.plan,
    ])
}

/// Writes what another machine says of a key that it has made. What is revoked here stays so.
pub(super) fn update_key(connection: &Connection, row: &KeyRow) -> rusqlite::Result<()> {
    let KeyRow { record, revoked, replaced_by, .. } = row;
    let mut update = connection.prepare_cached(
        "UPDATE key SET roles = ?, sources = ?, hosts = ?, plan = ?, expires = ?, revoked = ifnull(revoked, ?),
             replaced_by = ifnull(replaced_by, ?) WHERE id = ?",
    )?;
    let values = params![
        joined(record.profile.roles.iter().cloned()),
        joined(record.profile.sources.iter().map(|Network(source)| source.to_string())),
        joined(record.profile.hosts.iter().cloned()),
        record.profile.plan,
        time(record.expires),
        time(*revoked),
        replaced_by.map(signed),
        signed(record.id),
    ];
    update.execute(values).map(drop)
}

/// What is revoked, as columns: kind, issuer, value, moment.
pub(super) fn columns(revoked: &Revoked) -> (&'static str, &str, String, i64) {
    let moment = |before: &Option<u64>| time(*before).unwrap_or(-1);
    match revoked {
        Revoked::Key(id) => ("key", "", KeyId(*id).to_string(), -1),
        Revoked::Issuer { issuer, before } => ("issuer", issuer, String::new(), moment(before)),
        Revoked::Subject { issuer, subject, before } => ("subject", issuer, subject.clone(), moment(before)),
        Revoked::Token { issuer, id } => ("token", issuer, id.clone(), -1),
        Revoked::Signer { issuer, kid } => ("signer", issuer, kid.clone(), -1),
    }
}

/// A row of `revocation`; `None`: it holds what this program never wrote.
pub(super) fn revocation(row: &Row<'_>) -> rusqlite::Result<Option<RevocationRow>> {
    let (kind, issuer, value): (String, String, String) = (row.get("kind")?, row.get("issuer")?, row.get("value")?);
    let before = of_time(row.get("before")?);
    let revoked = match kind.as_str() {
        "key" => value.parse().ok().map(|KeyId(id)| Revoked::Key(id)),
        "issuer" => Some(Revoked::Issuer { issuer, before }),
        "subject" => Some(Revoked::Subject { issuer, subject: value, before }),
        "token" => Some(Revoked::Token { issuer, id: value }),
        "signer" => Some(Revoked::Signer { issuer, kid: value }),
        _ => None,
    };
    let Some(revoked) = revoked else { return Ok(None) };
    Ok(Some(RevocationRow {
        number: of_time(row.get("number")?).unwrap_or(0),
        revoked,
        expires: of_time(row.get("expires")?),
        reason: row.get("reason")?,
        actor: row.get("actor")?,
        added: of_time(row.get("added")?).unwrap_or(0),
    }))
}

/// What `is_of_file` says of who revoked something: several may revoke the same, and each lifts its own. 0: an operator;
/// 1: the file; more: another machine.
fn origin(actor: &str) -> i64 {
    if actor == FILE {
        return 1;
    }
    let Some(node) = actor.strip_prefix(PEER) else { return 0 };
    // FNV-1a: the same in every version of this program.
    let hash = node
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 2).cast_signed().saturating_add(2)
}

/// Writes a revocation; whether there was none like it. One that is there already lasts as long as the longer of both.
pub(super) fn put_revocation(connection: &Connection, row: &RevocationRow) -> rusqlite::Result<bool> {
    let (kind, issuer, value, before) = columns(&row.revoked);
    let is_of_file = origin(&row.actor);
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO revocation (kind, issuer, value, before, expires, reason, actor, added, is_of_file)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let added = time(Some(row.added));
    let values = params![kind, issuer, value, before, time(row.expires), row.reason, row.actor, added, is_of_file];
    if insert.execute(values)? > 0 {
        return Ok(true);
    }
    let mut longer = connection.prepare_cached(
        "UPDATE revocation SET expires = CASE WHEN ?1 IS NULL OR expires IS NULL THEN NULL ELSE max(expires, ?1) END
             WHERE kind = ?2 AND issuer = ?3 AND value = ?4 AND before = ?5 AND is_of_file = ?6",
    )?;
    longer.execute(params![time(row.expires), kind, issuer, value, before, is_of_file])?;
    Ok(false)
}

/// Whether something is revoked by a row.
pub(super) fn is_revoked(connection: &Connection, revoked: &Revoked) -> rusqlite::Result<bool> {
    let (kind, issuer, value, before) = columns(revoked);
    let mut query = connection.prepare_cached(
        "SELECT 1 FROM revocation WHERE kind = ? AND issuer = ? AND value = ? AND before = ? LIMIT 1",
    )?;
    query.exists(params![kind, issuer, value, before])
}

/// Notes up to which record of the audit chain the store knows what became of its keys.
pub(super) fn put_seen(connection: &Connection, seq: u64, hash: &str) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO seen (one, seq, hash) VALUES (1, ?, ?)")?;
    put.execute(params![signed(seq), hash]).map(drop)
}
