//! Decides what a line of a plain list says: one address, prefix or range, then anything.

use super::{Listed, sources};

pub(super) fn line(line: &str, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    let line = line.split(['#', ';']).next().unwrap_or_default().trim();
    if line.is_empty() {
        return Ok(());
    }
    // "a - b" is a range with space in it; else what follows the first word is somebody's note.
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default().trim_end_matches(',');
    let word = match (words.next(), words.next()) {
        (Some("-"), Some(last)) => format!("{first}-{last}"),
        _ => first.to_owned(),
    };
    sources(&word, |source| each(Listed { source, seconds: None, reason: None }))
}
