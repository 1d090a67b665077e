//! Reads a chain from its end backwards: what is looked for at every start costs no more with a chain that grows.
//!
//! *Invariant:* nothing is verified here. What a record tells of counts only once the chain is read as a whole.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::ControlFlow,
    path::Path,
};

use super::{
    files::{self, LONGEST},
    record::Record,
};
use crate::guard::state_files::not_files;

/// How much is read at once, in bytes.
const PIECE: u64 = 64 * 1024;

/// What a record says of itself.
pub(crate) struct Recent<'line> {
    pub(crate) seq: u64,
    pub(crate) hash: &'line str,
    pub(crate) event: &'line str,
}

/// Tells `visit` of the records of the chain in `state_dir`, the newest first, until it has seen enough. A line that is no
/// record is left out.
///
/// # Errors
/// The files cannot be read.
pub(crate) fn newest_first(state_dir: &Path, mut visit: impl FnMut(Recent<'_>) -> ControlFlow<()>) -> io::Result<()> {
    if let Some(odd) = not_files(state_dir).next() {
        return Err(io::Error::other(format!("{} is no regular file", odd.display())));
    }
    let mut each = |line: &[u8]| match serde_json::from_slice::<Record<'_>>(line) {
        Ok(Record { seq, hash, event, .. }) => visit(Recent { seq, hash, event }),
        Err(_no_record) => ControlFlow::Continue(()),
    };
    for opened in files::open_all(state_dir)?.into_iter().rev() {
        let (file, length) = opened.plain()?;
        if lines_backwards(file, length, &mut each)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells `each` of the lines of a file, the last first. A last line without its end is left out.
fn lines_backwards(
    mut file: File,
    length: u64,
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut at = length;
    // What was read and is not told yet: it begins in the middle of a line, or at the file's beginning.
    let mut rest: Vec<u8> = Vec::new();
    let mut has_end = false;
    while at > 0 {
        let piece = at.min(PIECE);
        at -= piece;
        file.seek(SeekFrom::Start(at))?;
        let mut read = Vec::new();
        file.by_ref().take(piece).read_to_end(&mut read)?;
        read.append(&mut rest);
        rest = read;
        if !has_end {
            let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            has_end = end > 0;
            rest.truncate(end);
        }
        while let Some(line) = rest.strip_suffix(b"\n") {
            let begin = line.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
            let Some(begin) = begin.or((at == 0).then_some(0)) else { break };
            if each(line.get(begin..).unwrap_or_default()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            rest.truncate(begin);
        }
        if u64::try_from(rest.len()).unwrap_or(u64::MAX) > LONGEST {
            return Err(io::Error::other("the audit chain has a line that is longer than any record"));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::guard::state_files::LOG;

    #[test]
    fn every_record_from_the_end_to_the_beginning() {
        let folder = std::env::temp_dir().join(format!("gateway-audit-newest-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Longer than what is read at once, so that a line lies across two pieces.
        let line = |seq: u64| {
            let reason = "x".repeat(usize::try_from(seq % 7).unwrap() * 1_000);
            format!(
                "{{\"seq\":{seq},\"time\":\"t\",\"event\":\"ban\",\"reason\":\"{reason}\",\"prev\":\"\",\"hash\":\"h{seq}\"}}\n"
            )
        };
        let lines = |from: u64, to: u64| (from..=to).map(line).collect::<String>();
        fs::write(folder.join(files::closed_name(1)), lines(1, 90)).unwrap();
        fs::write(folder.join(LOG), lines(91, 100) + "{\"seq\":101,\"ti").unwrap();
        let read = |most: usize| {
            let mut seen = Vec::new();
            let read = newest_first(&folder, |record| {
                assert_eq!((record.hash, record.event), (&*format!("h{}", record.seq), "ban"));
                seen.push(record.seq);
                if seen.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            read.map(|()| seen).map_err(|error| error.to_string())
        };
        for most in [1, 10, 11, 100, 1_000] {
            let expected: Vec<u64> = (1..=100).rev().take(most).collect();
            assert_eq!(read(most), Ok(expected), "{most}");
        }
        fs::write(folder.join(files::closed_name(1)), "rubbish\n".to_owned() + &lines(2, 90) + "torn").unwrap();
        assert_eq!(read(1_000).unwrap().len(), 99);
        fs::write(folder.join(files::closed_name(1)), "x".repeat(200_000) + "\n").unwrap();
        assert!(read(1_000).unwrap_err().contains("longer than any record"));
        assert_eq!(read(10).unwrap().len(), 10, "what is not needed is not read");
        fs::remove_dir_all(&folder).unwrap();
    }
}
