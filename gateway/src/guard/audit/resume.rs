//! Finds where a chain goes on at the guard's start, and what was found wrong with it.
//!
//! Only the files that hold what the store does not know are read: how long a start takes does not grow with the chain.

use std::{fs::File, io, path::Path};

use super::{
    files::{self, Closed},
    finding::AuditFinding,
    key::SigningKey,
    outside::Outside,
    redo::Redo,
    walk::{ChainFault, Visit, Walk, Walked},
};
use crate::{anchor::SignedHead, guard::store::CommittedHead, text::counted::counted};

/// Where writing goes on.
pub(super) struct ResumePoint {
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) first: String,
    /// Of the file that is written: its length, and the number of its first record.
    pub(super) length: u64,
    pub(super) file_first: u64,
    pub(super) checkpoint: Option<SignedHead>,
    pub(super) rotated_to: Option<Vec<u8>>,
    /// What was told of a key that others can read.
    pub(super) exposed: Option<String>,
}

/// Reads the end of a chain: `closed` files and the one at `path`, which is open.
pub(super) fn resume(
    path: &Path,
    file: &File,
    closed: &[Closed],
    anchor: Option<&CommittedHead>,
    key: &SigningKey,
) -> io::Result<(ResumePoint, Vec<AuditFinding>)> {
    let walked = walk(path, file, closed, anchor, key)?;
    let mut findings = Vec::new();
    if walked.torn > 0 {
        // Where the file cannot be written this is done once it can.
        if let Err(error) = file.set_len(walked.length) {
            tracing::error!(%error, "the end of the audit chain is torn");
        }
        let text = format!("the last line was cut off in the middle: {} bytes of it were removed", walked.torn);
        findings.push(AuditFinding::recovered(text, None, Redo::new()));
    }
    let anchored = anchor.map_or(0, |anchor| anchor.seq);
    let Walked { seq, hash, first, length, file_first, checkpoint, rotated_to, exposed, is_told, .. } = walked;
    let mut head = ResumePoint { seq, hash, first, length, file_first: 0, checkpoint, rotated_to, exposed };
    match walked.fault {
        // A line that was torn is told above, unless it was complete once.
        Some(fault) if !(fault.torn && seq >= anchored) => {
            let ChainFault { file, line, reason, .. } = fault;
            let text = format!("{}, line {line}: {reason}", file.display());
            findings.push(AuditFinding { redo: walked.redo, is_told, ..AuditFinding::broken(text) });
        }
        _ if anchor.is_none() && head.seq > 1 => {
            let text = format!(
                "the audit chain is whole and holds {}, the store knows of none: the store was replaced",
                counted(head.seq, "record", "records")
            );
            findings.push(AuditFinding { redo: walked.redo, ..AuditFinding::new("store_replaced", text) });
        }
        _ if head.seq > anchored => {
            let ahead = head.seq - anchored;
            let text = format!(
                "{} ahead of the store, as after a crash, or where the store is a copy from before: what the chain tells of \
                 counts, and of lists what the kernel holds",
                counted(ahead, "record is", "records are")
            );
            findings.push(AuditFinding::recovered(text, Some([anchored + 1, head.seq]), walked.redo));
        }
        _ => {}
    }
    if let Some(anchor) = anchor {
        if findings.iter().any(|finding| finding.tampered && !finding.is_told) || head.seq < anchor.seq {
            // The next record follows what the store knows, not what was put in its place, and is numbered after both:
            // the break stays visible however far the chain grows.
            head.seq = head.seq.max(anchor.seq);
            head.hash.clone_from(&anchor.hash);
        }
        head.first.clone_from(&anchor.first);
    }
    // What somebody else wrote there must not decide how the file is called once it is closed.
    let after = closed.last().map_or(0, |closed| closed.first);
    head.file_first = file_first.filter(|first| *first > after && *first <= head.seq).unwrap_or(head.seq + 1);
    Ok((head, findings))
}

fn walk(
    path: &Path,
    file: &File,
    closed: &[Closed],
    anchor: Option<&CommittedHead>,
    key: &SigningKey,
) -> io::Result<Walked> {
    let from = begin(path, closed, anchor)?;
    let visit: &mut Visit<'_> = &mut |_line| Ok(());
    let mut walk = Walk::new(path, anchor, key.public().clone(), Outside::default(), visit);
    if let Some(before) = from.checked_sub(1).and_then(|before| closed.get(before))
        && let Some((seq, hash, _)) = files::last_record(&before.path)?
    {
        walk = walk.after(seq, hash);
    }
    for one in closed.iter().skip(from) {
        let read = walk.read(&one.path, files::open_closed(&one.path)?, &mut |_| {});
        read.or_else(|error| walk.damaged(error))?;
    }
    walk.read(path, file, &mut |_| {})?;
    Ok(walk.finish(key.replaces))
}

/// The first of the closed files that has to be read; none has to be where this is their number.
fn begin(path: &Path, closed: &[Closed], anchor: Option<&CommittedHead>) -> io::Result<usize> {
    let Some(anchor) = anchor else { return Ok(0) };
    // The record that the store knows is read, so that it is compared.
    if files::first_record(path)?.is_some_and(|(first, ..)| first <= anchor.seq) {
        return Ok(closed.len());
    }
    Ok(closed.iter().rposition(|one| one.first <= anchor.seq).unwrap_or(0))
}
