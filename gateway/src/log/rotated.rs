//! The names of log files that were rotated: the file's own, and when it was rotated.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// The moment in a name: it sorts as text.
const FORM: &str = "%Y%m%dT%H%M%S.%3fZ";

/// What a compressed file ends with.
pub const COMPRESSED: &str = ".gz";

/// What a file that is being compressed ends with.
pub const PARTIAL: &str = ".gz.part";

/// A file that was rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Where it is.
    pub path: PathBuf,
    /// When it was rotated, milliseconds since the Unix epoch.
    pub at: u64,
    /// Whether it is compressed.
    pub is_compressed: bool,
}

/// A path with something more at its end.
#[must_use]
pub fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What `path` is renamed to when it is rotated at `unix_millis`.
#[must_use]
pub fn name(path: &Path, unix_millis: u64) -> PathBuf {
    let moment = i64::try_from(unix_millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    with(path, &format!(".{}", moment.unwrap_or(Timestamp::MAX).strftime(FORM)))
}

/// The rotated files of `path`, the oldest first. One that is there in both forms was being compressed when somebody
/// died: the file that is not compressed has everything.
///
/// # Errors
/// The folder cannot be read.
pub fn list(path: &Path) -> io::Result<Vec<Rotated>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(own) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(moment) = name.to_str().and_then(|name| name.strip_prefix(own)?.strip_prefix('.')) else { continue };
        let (moment, is_compressed) = match moment.strip_suffix(COMPRESSED) {
            Some(moment) => (moment, true),
            None => (moment, false),
        };
        let Some(at) = read(moment) else { continue };
        // A link or a folder of this name is not ours.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            found.push(Rotated { path: entry.path(), at, is_compressed });
        }
    }
    found.sort_by_key(|rotated| (rotated.at, rotated.is_compressed));
    found.dedup_by_key(|rotated| rotated.at);
    Ok(found)
}

/// The moment that a name has. Exactly as it is written: whatever is but similar is somebody else's.
fn read(moment: &str) -> Option<u64> {
    let (date, rest) = moment.split_once('T')?;
    let (time, millis) = rest.strip_suffix('Z')?.split_once('.')?;
    if (date.len(), time.len(), millis.len()) != (8, 6, 3) {
        return None;
    }
    let all = [date, time, millis];
    if !all.iter().all(|digits| digits.bytes().all(|digit| digit.is_ascii_digit())) {
        return None;
    }
    let part = |text: &str, from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    let (date, time) = (
        [part(date, 0, 4), part(date, 4, 6), part(date, 6, 8)].join("-"),
        [part(time, 0, 2), part(time, 2, 4), part(time, 4, 6)].join(":"),
    );
    let moment: Timestamp = format!("{date}T{time}.{millis}Z").parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let folder = std::env::temp_dir().join(format!("gateway-rotated-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join("access.log");
        let first = name(&log, 1_764_000_000_123);
        assert_eq!(first, with(&log, ".20251124T160000.123Z"));
        let (second, third) = (name(&log, 1_764_000_000_124), name(&log, 1_864_000_000_000));
        let not_ours = [
            "access.log",
            "access.log.1",
            "access.log.20251124",
            "access.log.20251124T160000.123Z.gz.part",
            "access.log.20251124T160000.1Z",
            "other.log.20251124T160000.123Z",
            "access.log.99991399T160000.123Z",
        ];
        for path in not_ours.iter().map(|name| folder.join(name)).chain([first.clone(), third.clone()]) {
            fs::write(path, "x").unwrap();
        }
        fs::write(with(&first, COMPRESSED), "x").unwrap();
        fs::write(with(&second, COMPRESSED), "x").unwrap();
        fs::create_dir_all(name(&log, 1_964_000_000_000)).unwrap();
        let found: Vec<_> = list(&log).unwrap().into_iter().map(|it| (it.path, it.is_compressed)).collect();
        assert_eq!(found, [(first, false), (with(&second, COMPRESSED), true), (third, false)]);
        fs::remove_dir_all(folder).unwrap();
    }
}
