//! Verifies records that were exported, by themselves: neither the chain nor its store is at hand, only the keys.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::Deserialize;

use super::{
    files::LONGEST,
    outside::Outside,
    public_keys::PublicKeys,
    record::Record,
    verify::{BadRecord, Verification, verification},
    walk::Walk,
};

/// The last line of an export: what it says of itself.
#[derive(Deserialize)]
struct Trailer {
    export: u64,
    records: u64,
    first: Option<u64>,
    last: Option<u64>,
}

/// Whether an export in JSON is whole, and signed by one of `keys`.
///
/// # Errors
/// The file cannot be read.
pub fn verify_export(
    path: &Path,
    keys: PublicKeys,
    outside: Outside,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<Verification> {
    let mut file = File::open(path)?;
    let bad = |line: u64, reason: &str| {
        let bad = BadRecord { file: path.to_owned(), line, seq: 0, reason: reason.to_owned() };
        Ok(Verification { first_bad: Some(bad), files: 1, ..Verification::default() })
    };
    let Some((end, trailer)) = trailer(&mut file)? else {
        return bad(1, "the export has no end: its last line does not say what it holds (`gateway audit export`)");
    };
    if trailer.export != 1 {
        return bad(1, "the export is of another version");
    }
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    BufReader::new(file.by_ref().take(LONGEST.min(end))).read_until(b'\n', &mut first)?;
    let Ok(record) = serde_json::from_slice::<Record<'_>>(first.trim_ascii_end()) else {
        return match trailer.records {
            0 => bad(1, "the export holds no record: there is nothing to verify"),
            _ => bad(1, "the line is no audit record"),
        };
    };
    let mut visit = |_line: &super::ChainLine<'_>| Ok(());
    let (before, prev) = (record.seq.saturating_sub(1), record.prev.to_owned());
    let begin = record.seq;
    let mut walk = Walk::new(path, None, keys, outside, &mut visit).after(before, prev);
    file.seek(SeekFrom::Start(0))?;
    let mut done = 0;
    walk.read(path, file.take(end), &mut |bytes| {
        done += bytes;
        progress(done, end);
    })?;
    let mut found = verification(walk.finish(false), 1);
    let last = begin + found.records.saturating_sub(1);
    if found.first_bad.is_none() {
        let line = found.records + 1;
        let is_as_told = (trailer.records, trailer.first, trailer.last) == (found.records, Some(begin), Some(last));
        let reason = if !is_as_told {
            Some("the last line says that there are other records: some were cut off".to_owned())
        } else if found.checkpoint.is_none() {
            Some("no checkpoint in it is signed by a key that is believed: nothing vouches for the records".to_owned())
        } else {
            None
        };
        found.first_bad = reason.map(|reason| BadRecord { file: path.to_owned(), line, seq: last + 1, reason });
    }
    if let Some(head) = &found.checkpoint
        && head.seq < last.saturating_sub(1)
    {
        found.notes.push(format!("records {} to {last} are not signed yet: export them again later", head.seq + 2));
    }
    Ok(found)
}

/// Where the last line begins, and what it says; `None`: it is no trailer.
fn trailer(file: &mut File) -> io::Result<Option<(u64, Trailer)>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(LONGEST).read_to_end(&mut end)?;
    let text = end.trim_ascii_end();
    let at = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let trailer = text.get(at..).and_then(|line| serde_json::from_slice(line).ok());
    Ok(trailer.map(|trailer| (start + u64::try_from(at).unwrap_or(0), trailer)))
}
