//! Whether files have stopped changing. One that was put in the place of another is whole at once. One that is written in place may
//! be half of what it will be, and still be valid: it has to stay as it is for some time.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// So many looks in a row must find a file the same that was written in place, or for the first time.
const QUIET: u32 = 3;

/// Modification time, size and inode; `None`: it cannot be looked at.
type Stat = Option<(i64, i64, u64, u64)>;

/// What is remembered of files.
#[derive(Debug, Default)]
pub(in crate::guard::lifecycle) struct Settling {
    seen: HashMap<PathBuf, Seen>,
    /// What was told of last.
    told: Option<HashMap<PathBuf, Stat>>,
}

#[derive(Debug)]
struct Seen {
    stat: Stat,
    /// How many looks in a row found it so, after the first.
    quiet: u32,
    /// How many must.
    needs: u32,
}

impl Settling {
    /// Looks at files. Whether all of them have stopped changing, and are not as they were when that was told last.
    pub(in crate::guard::lifecycle) fn look(&mut self, files: impl Iterator<Item = PathBuf>) -> bool {
        let stats: HashMap<PathBuf, Stat> = files.map(|path| (path.clone(), stat(&path))).collect();
        self.seen.retain(|path, _| stats.contains_key(path));
        for (path, stat) in &stats {
            match self.seen.get_mut(path) {
                Some(seen) if seen.stat == *stat => seen.quiet = seen.quiet.saturating_add(1),
                Some(seen) => *seen = Seen { stat: *stat, quiet: 0, needs: needs(seen.stat, *stat) },
                None => drop(self.seen.insert(path.clone(), Seen { stat: *stat, quiet: 0, needs: QUIET })),
            }
        }
        if self.seen.values().any(|seen| seen.quiet < seen.needs) || self.told.as_ref() == Some(&stats) {
            return false;
        }
        self.told = Some(stats);
        true
    }

    /// The same, which tells again of what it has told.
    pub(in crate::guard::lifecycle) fn again(self) -> Self {
        Self { told: None, ..self }
    }
}

/// How many looks must find a file the same that was so before.
fn needs(before: Stat, now: Stat) -> u32 {
    match (before, now) {
        (_, None) => 1,
        (Some((_, _, _, before)), Some((_, _, _, now))) if before != now => 1,
        (_, Some(_)) => QUIET,
    }
}

fn stat(path: &Path) -> Stat {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_place_must_stay_longer() {
        let folder = std::env::temp_dir().join(format!("gateway-settling-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [file, other] = ["file", "other"].map(|name| folder.join(name));
        let write = |text: &str| fs::write(&file, text).unwrap();
        let replace = |text: &str| {
            fs::write(&other, text).unwrap();
            fs::rename(&other, &file).unwrap();
        };
        write("1");
        let mut settling = Settling::default();
        let mut check = |looks: &[bool], why: &str| {
            for (at, expect) in looks.iter().enumerate() {
                assert_eq!(settling.look([file.clone()].into_iter()), *expect, "{why}: look {at}");
            }
        };
        check(&[false, false, false, true, false], "the first");
        write("12");
        check(&[false, false], "in place");
        write("123");
        check(&[false, false, false, true, false], "in place once more");
        replace("1234");
        check(&[false, true, false], "another file");
        replace("12345");
        check(&[false], "another file");
        write("123456");
        check(&[false, false, false, true], "and that in place");
        fs::remove_file(&file).unwrap();
        check(&[false, true, false], "gone");
        write("1");
        check(&[false, false, false, true], "back");
        settling = settling.again();
        assert!(settling.look([file.clone()].into_iter()), "told again");
        fs::remove_dir_all(folder).unwrap();
    }
}
