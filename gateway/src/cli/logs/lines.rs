//! Lines of a log file, one by one.

use std::io::{self, BufRead as _, BufReader, Read};

/// The longest line that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The next whole line, and how long it is in the file. `None`: there is no other yet.
pub(super) fn next_line(reader: &mut BufReader<impl Read>) -> io::Result<Option<(String, u64)>> {
    let mut line = Vec::new();
    let length = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    line.pop();
    Ok(Some((String::from_utf8_lossy(&line).into_owned(), u64::try_from(length).unwrap_or(u64::MAX))))
}
