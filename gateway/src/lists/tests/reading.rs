//! What it means to read a list of sources safely, for all bytes there are: used by
//! the tests here, and by a fuzzer.

use super::{ListFormat, Listed, read, stream};
use crate::settings::guard::LONGEST_BAN;

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 200;

/// What is wrong with how `bytes` are read, as a list of any format; `None`: nothing is.
#[must_use]
pub fn fault(bytes: &[u8]) -> Option<String> {
    let mut wrong = None;
    let formats = ListFormat::NAMES.iter().map(|(_, format)| Some(*format)).chain([None]);
    for format in formats {
        let unreadable = read(bytes, format, |_line, read| {
            if let Ok(listed) = read {
                wrong = wrong.take().or_else(|| listed_fault(&listed));
            }
        });
        if unreadable.as_ref().is_ok_and(|found| format.is_some_and(|format| format != *found)) {
            return Some(format!("a list that is said to be {format:?} is read as {unreadable:?}"));
        }
    }
    let streamed = stream(bytes, Some("own")).unwrap_or_default();
    wrong.or_else(|| streamed.new.iter().find_map(|(_, listed)| listed_fault(listed)))
}

/// An entry is bounded, and is read again as it was written.
fn listed_fault(listed: &Listed) -> Option<String> {
    let reason = listed.reason.as_deref().unwrap_or_default();
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Some(format!("{reason:?} is no reason"));
    }
    if listed.seconds.is_some_and(|seconds| seconds > LONGEST_BAN.as_secs()) {
        return Some(format!("{listed:?} lasts for too long"));
    }
    let mut again = Vec::new();
    let text = listed.source.to_string();
    let read = read(text.as_bytes(), Some(ListFormat::Plain), |_line, read| again.push(read.map(|it| it.source)));
    (read.is_err() || again != [Ok(listed.source)]).then(|| format!("{text} is read as {again:?}"))
}
