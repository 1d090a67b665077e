//! The files that names are resolved by, such as `/etc/resolv.conf`. Programs that manage them put new ones in their place,
//! which proxies and observers that run already cannot read: their sandbox has the files that were there before.
//!
//! *Invariant:* processes are replaced for that at most once within [`PACE`], whatever happens to the files, and not where
//! one that was started for another reason can read them.

use std::{collections::VecDeque, fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

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

/// How many starts are remembered, of processes that do not serve yet.
const MOST_STARTS: usize = 16;

/// Whether the processes of one kind can still read them.
#[derive(Debug)]
pub(in crate::guard::lifecycle) struct ResolverWatch {
    /// What the one that serves began with, as far as it is known.
    pub(in crate::guard::lifecycle) held: ResolverFiles,
    /// What the last look found.
    seen: ResolverFiles,
    /// The number of the last process that was started.
    newest: u64,
    /// What those began with that were started after the one that serves: from which number on.
    starts: VecDeque<(u64, ResolverFiles)>,
    /// When they were replaced last.
    replaced: Option<Instant>,
}

impl ResolverWatch {
    /// For processes that begin with these files.
    pub(in crate::guard::lifecycle) const fn new(held: ResolverFiles) -> Self {
        Self { held, seen: held, newest: 0, starts: VecDeque::new(), replaced: None }
    }

    /// Processes up to this number were there before: what they hold is known already.
    pub(in crate::guard::lifecycle) const fn adopt(&mut self, newest: u64) {
        self.newest = newest;
    }

    /// Before each look: processes up to the number `newest` were started, and this one serves. Those that were started since
    /// the look before can read at least what that one has found.
    pub(in crate::guard::lifecycle) fn follow(&mut self, newest: u64, serving: Option<u64>) {
        if newest > self.newest {
            self.starts.push_back((self.newest.saturating_add(1), self.seen));
            self.newest = newest;
            if self.starts.len() > MOST_STARTS {
                self.starts.pop_front();
            }
        }
        while let Some((first, files)) = self.starts.front().copied()
            && serving.is_some_and(|serving| first <= serving)
        {
            self.held = files;
            self.starts.pop_front();
        }
    }

    /// This is there now. Whether the processes are to be replaced: two looks in a row have found the same.
    pub(in crate::guard::lifecycle) fn is_due(&mut self, now: ResolverFiles, at: Instant) -> bool {
        let is_settled = std::mem::replace(&mut self.seen, now) == now;
        let may_replace = self.replaced.is_none_or(|last| at.saturating_duration_since(last) >= PACE);
        is_settled && may_replace && now.replace(&self.held)
    }

    /// They are being replaced. Should that fail, it is tried again.
    pub(in crate::guard::lifecycle) const fn replaced(&mut self, at: Instant) {
        self.replaced = Some(at);
    }
}

/// What is known of the files.
#[derive(Debug)]
pub(in crate::guard::lifecycle) struct WatchedResolver {
    pub(in crate::guard::lifecycle) proxies: ResolverWatch,
    pub(in crate::guard::lifecycle) observer: ResolverWatch,
    /// The observer that runs, by its process id, and its number among all that have run.
    observers: (Option<u32>, u64),
    pub(in crate::guard::lifecycle) is_looking: bool,
}

impl WatchedResolver {
    /// Looks at the files that the first processes begin with.
    pub(in crate::guard::lifecycle) fn begin() -> Self {
        let held = ResolverFiles::look();
        let (proxies, observer) = (ResolverWatch::new(held), ResolverWatch::new(held));
        Self { proxies, observer, observers: (None, 0), is_looking: false }
    }

    /// Before each look: the observer with this process id runs.
    pub(in crate::guard::lifecycle) fn follow_observer(&mut self, pid: Option<u32>) {
        let (known, number) = &mut self.observers;
        if pid.is_some() && *known != pid {
            *number += 1;
            // The first one may be of the guard before.
            if known.is_none() {
                self.observer.adopt(*number);
            }
            *known = pid;
        }
        self.observer.follow(*number, Some(*number));
    }

    /// What the processes that serve can read, for a guard after this one.
    pub(in crate::guard::lifecycle) const fn held(&self) -> [ResolverFiles; 2] {
        [self.proxies.held, self.observer.held]
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
        watch.adopt(1);
        // After how many seconds which process is the last that was started, which serves, which file is found, and whether
        // that is a reason.
        for (at, newest, serving, inode, expect) in [
            (2, 1, 1, Some(1), false),
            (4, 1, 1, Some(2), false),
            (6, 1, 1, Some(2), true),
            (8, 2, 1, Some(2), false),
            (10, 2, 2, Some(2), false),
            // Another one for each look.
            (12, 2, 2, Some(3), false),
            (14, 2, 2, Some(4), false),
            (16, 2, 2, Some(4), false),
            (64, 2, 2, Some(4), false),
            (66, 2, 2, Some(4), true),
            (68, 3, 2, Some(4), false),
            // It never got ready.
            (70, 3, 2, Some(4), false),
            (126, 3, 2, Some(4), true),
            (128, 4, 4, Some(4), false),
            (200, 4, 4, None, false),
            (202, 4, 4, None, false),
            (204, 4, 4, Some(4), false),
            (206, 4, 4, Some(4), false),
            // One was started for another reason just before the file was replaced, and one after it.
            (208, 5, 5, Some(5), false),
            (210, 6, 5, Some(5), true),
            (212, 6, 6, Some(5), false),
            (300, 6, 6, Some(6), false),
            (301, 7, 7, Some(6), false),
            (303, 7, 7, Some(6), false),
            (400, 7, 7, Some(6), false),
            // It dies, and none serves.
            (402, 8, 0, Some(7), false),
            (404, 9, 9, Some(7), false),
            (406, 9, 9, Some(7), false),
        ] {
            let now = begin + Duration::from_secs(at);
            watch.follow(newest, (serving > 0).then_some(serving));
            let is_due = watch.is_due(files(inode), now);
            assert_eq!(is_due, expect, "after {at} s");
            if is_due {
                watch.replaced(now);
            }
        }
        (100..200).for_each(|newest| watch.follow(newest, Some(9)));
        assert_eq!(watch.starts.len(), MOST_STARTS);
    }

    #[test]
    fn an_observer_that_was_started_again_reads_what_was_there() {
        let begin = Instant::now();
        let (held, replaced) = (files(Some(1)), files(Some(2)));
        for (pids, expect) in [
            ([Some(7), Some(7), Some(7), Some(7)], true),
            ([Some(7), None, None, None], true),
            ([Some(7), Some(7), None, Some(8)], false),
            // It was started before anybody knew of the new file.
            ([Some(7), Some(8), Some(8), Some(8)], true),
            // The observer of the guard before.
            ([None, Some(7), Some(7), Some(7)], true),
        ] {
            let (proxies, observer) = (ResolverWatch::new(held), ResolverWatch::new(held));
            let mut watched = WatchedResolver { proxies, observer, observers: (None, 0), is_looking: false };
            let looks = [held, held, replaced, replaced];
            let is_due = looks.into_iter().zip(pids).map(|(look, pid)| {
                watched.follow_observer(pid);
                watched.observer.is_due(look, begin)
            });
            assert_eq!(is_due.fold(false, |_before, is_due| is_due), expect, "{pids:?}");
        }
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
