//! Reads and writes a row of the ban store.

use rusqlite::Row;

use super::{
    error::StoreError,
    record::{BanDeadline, BanEnd, BanRecord},
};

/// SQLite's integers are signed; nothing here comes near the sign bit but "never", which is `NULL`.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(|value| u64::try_from(value).ok()).unwrap_or(0))
}

pub(super) fn optional(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(|value| u64::try_from(value).ok()))
}

pub(super) fn record(row: &Row<'_>) -> Result<BanRecord, StoreError> {
    let id = unsigned(row, "id")?;
    numbered(row, id).map_err(|error| of_ban(error, id))
}

/// Says which ban it is that cannot be read.
pub(super) fn of_ban(error: StoreError, id: u64) -> StoreError {
    match error {
        StoreError::Database(_) if error.is_of_a_row() => StoreError::Row { what: "a value", id },
        error => error,
    }
}

fn numbered(row: &Row<'_>, id: u64) -> Result<BanRecord, StoreError> {
    let source: String = row.get("source")?;
    let evidence: String = row.get("evidence")?;
    let (how, at): (Option<String>, _) = (row.get("how")?, optional(row, "ended")?);
    Ok(BanRecord {
        id,
        source: source.parse().map_err(|_error| StoreError::Row { what: "a source", id })?,
        reason: row.get("reason")?,
        actor: row.get("actor")?,
        rule: row.get("rule")?,
        relay: match row.get::<_, Option<String>>("relay")? {
            Some(relay) => Some(relay.parse().map_err(|_error| StoreError::Row { what: "a relay", id })?),
            None => None,
        },
        evidence: evidence
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_error| StoreError::Row { what: "evidence", id })?,
        shadow: row.get("shadow")?,
        started: unsigned(row, "started")?,
        expires: optional(row, "expires")?,
        boot: row.get("boot")?,
        expires_monotonic: optional(row, "expires_monotonic")?,
        reaction_micros: optional(row, "reaction_micros")?,
        connections_closed: row.get("connections_closed")?,
        ended: at.map(|at| BanEnd { at, how: how.unwrap_or_default() }),
        confirm: match (optional(row, "confirm_by")?, optional(row, "confirm_monotonic")?) {
            (Some(unix_millis), Some(monotonic)) => Some(BanDeadline { unix_millis, monotonic }),
            _ => None,
        },
        packets: unsigned(row, "packets")?,
        bytes: unsigned(row, "bytes")?,
    })
}
