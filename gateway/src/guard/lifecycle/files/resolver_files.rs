//! The files that names are resolved by, such as `/etc/resolv.conf`. Programs that manage them put new ones in their place,
//! which proxies and observers that run already cannot read: their sandbox has the files that were there before.
//!
//! *Invariant:* processes are replaced for that at most once within [`PACE`], whatever happens to the files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::os::sandbox::{READ_AGAIN, RESOLVER};

/// The shortest time between two replacements.
const PACE: Duration = Duration::from_secs(60);

/// Device and inode of each file; `None`: it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct ResolverFiles([Option<(u64, u64)>; READ_AGAIN.len()]);

impl ResolverFiles {
    /// Looks at them.
    pub(in crate::guard::lifecycle) fn look() -> Self {
        Self(READ_AGAIN.map(|path| identity(Path::new(path), &RESOLVER)))
    }

    /// Whether a process that began with `before` cannot read what is there now. What is gone nobody can read.
    fn replace(&self, before: &Self) -> bool {
        self.0.iter().zip(&before.0).any(|(now, before)| now.is_some() && now != before)
    }
}

/// What a rule for the file is a rule for: the file that the path leads to, or the folder of `readable` that it is in.
fn identity(path: &Path, readable: &[&str]) -> Option<(u64, u64)> {
    let target = fs::canonicalize(path).ok()?;
    let folder = readable.iter().map(Path::new).find(|folder| target.starts_with(folder));
    let found = fs::metadata(folder.unwrap_or(&target)).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether the processes of one kind can still read them.
#[derive(Debug)]
pub(in crate::guard::lifecycle) struct ResolverWatch {
    /// What they began with, as far as it is known.
    pub(in crate::guard::lifecycle) held: ResolverFiles,
    /// What the last look found.
    seen: ResolverFiles,
    /// When they were replaced last.
    replaced: Option<Instant>,
}

impl ResolverWatch {
    /// For processes that begin with these files.
    pub(in crate::guard::lifecycle) const fn new(held: ResolverFiles) -> Self {
        Self { held, seen: held, replaced: None }
    }

    /// This is there now. Whether the processes are to be replaced: two looks in a row have found the same.
    pub(in crate::guard::lifecycle) fn is_due(&mut self, now: ResolverFiles, at: Instant) -> bool {
        let is_settled = std::mem::replace(&mut self.seen, now) == now;
        let may_replace = self.replaced.is_none_or(|last| at.saturating_duration_since(last) >= PACE);
        is_settled && may_replace && now.replace(&self.held)
    }

    /// They are being replaced.
    pub(in crate::guard::lifecycle) const fn replaced(&mut self, at: Instant) {
        (self.held, self.replaced) = (self.seen, Some(at));
    }

    /// They could not be replaced. It is tried again.
    pub(in crate::guard::lifecycle) fn failed(&mut self) {
        self.held = ResolverFiles::default();
    }
}

/// What is known of the files.
#[derive(Debug)]
pub(in crate::guard::lifecycle) struct WatchedResolver {
    pub(in crate::guard::lifecycle) proxies: ResolverWatch,
    pub(in crate::guard::lifecycle) observer: ResolverWatch,
    pub(in crate::guard::lifecycle) is_looking: bool,
}

impl WatchedResolver {
    /// Looks at the files that the first processes begin with.
    pub(in crate::guard::lifecycle) fn begin() -> Self {
        let held = ResolverFiles::look();
        Self { proxies: ResolverWatch::new(held), observer: ResolverWatch::new(held), is_looking: false }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The first of the files is this one; the others are not there.
    fn files(first: Option<u64>) -> ResolverFiles {
        let mut files = ResolverFiles::default();
        files.0[0] = first.map(|inode| (1, inode));
        files
    }

    #[test]
    fn processes_are_replaced_once_for_a_change_and_never_in_a_loop() {
        let begin = Instant::now();
        let mut watch = ResolverWatch::new(files(Some(1)));
        // After how many seconds which file is found, and whether that is a reason.
        for (at, inode, expect) in [
            (2, Some(1), false),
            (4, Some(2), false),
            (6, Some(2), true),
            (8, Some(2), false),
            // Another one for each look.
            (10, Some(3), false),
            (12, Some(4), false),
            (14, Some(4), false),
            (64, Some(4), false),
            (66, Some(4), true),
            (200, None, false),
            (202, None, false),
            (204, Some(4), false),
            (206, Some(4), false),
            (208, Some(5), false),
            (210, Some(5), true),
        ] {
            let now = begin + Duration::from_secs(at);
            let is_due = watch.is_due(files(inode), now);
            assert_eq!(is_due, expect, "after {at} s");
            if is_due {
                watch.replaced(now);
            }
        }
        watch.failed();
        let later = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!([212, 269, 270].map(|at| watch.is_due(files(Some(5)), later(at))), [false, false, true]);
    }

    #[test]
    fn what_a_rule_is_for() {
        let folder = std::env::temp_dir().join(format!("gateway-resolver-files-{}", std::process::id()));
        let [file, other, link, stub] = ["file", "other", "link", "run/stub"].map(|name| folder.join(name));
        fs::create_dir_all(folder.join("run")).unwrap();
        let run = folder.join("run").canonicalize().unwrap();
        let readable = [run.to_str().unwrap()];
        let mut known = None;
        let mut check = |path: &Path, expect: bool, why: &str| {
            let now = identity(path, &readable);
            assert_eq!(now != known, expect, "{why}: {now:?} {known:?}");
            known = now;
        };
        let replace = |path: &Path, text: &str| {
            fs::write(&other, text).unwrap();
            fs::rename(&other, path).unwrap();
        };
        check(&file, false, "not there");
        fs::write(&file, "1").unwrap();
        check(&file, true, "there");
        fs::write(&file, "2").unwrap();
        check(&file, false, "written in place");
        symlink(&file, &link).unwrap();
        check(&link, false, "by a link");
        // Kept open, as a rule keeps it: its number is not given to another file.
        let _held = fs::File::open(&file).unwrap();
        replace(&file, "3");
        check(&link, true, "another file, by a link");
        fs::write(&stub, "4").unwrap();
        fs::remove_file(&link).unwrap();
        symlink(&stub, &link).unwrap();
        check(&link, true, "in a folder that may be read");
        replace(&stub, "5");
        check(&link, false, "another file in that folder");
        fs::remove_dir_all(folder).unwrap();
    }
}
