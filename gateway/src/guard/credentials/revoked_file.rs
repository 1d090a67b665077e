//! The file of revocations: one a line, read again when it has changed and stopped changing.
//!
//! | line | revokes |
//! |---|---|
//! | `jti ISSUER ID` | one token |
//! | `sub ISSUER SUBJECT` | all tokens of a subject |
//! | `issuer ISSUER` | all tokens of an issuer |
//! | `issued-before TIME ISSUER` | those that were issued before |
//! | `issued-before TIME ISSUER SUBJECT` | the same of one subject |
//! | `kid ISSUER KID` | whatever an issuer has signed by one of its keys |
//! | `key ID` | an API key |
//!
//! *Invariant:* a file that is gone, that may still be written, or a line of which cannot be read, lifts nothing: what can be
//! read is revoked, and what was revoked stays so.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::policy::auth::{
    api_key::text::KeyId,
    revocation::{MOST, Revoked},
};

/// The largest file, in bytes.
const LARGEST: u64 = 256 << 20;

/// How many lines that cannot be read are told one by one.
const TOLD: usize = 5;

/// What is new about the file.
pub(crate) struct FileRead {
    /// What it revokes.
    pub(crate) revoked: Vec<Revoked>,
    /// What is wrong with it, for people; empty: nothing is.
    pub(crate) faults: Vec<String>,
    /// It has not changed for a while: what it does not say is lifted, if nothing is wrong with it.
    pub(crate) is_settled: bool,
    /// Its lines were read. Of those that have faults nothing is known.
    pub(crate) is_read: bool,
}

/// Looks at the file now and then.
#[derive(Default)]
pub(crate) struct RevokedFile {
    last: Option<Stat>,
    handled: Option<Stat>,
    is_unusable: bool,
}

/// Which file is looked at, and what is remembered of it.
pub(crate) struct RevokedFileWatch {
    /// `None`: there is no file.
    path: Option<PathBuf>,
    /// Counts the files: what was read of an earlier one is not what is revoked.
    epoch: u64,
    /// Absent while it looks.
    file: Option<RevokedFile>,
    /// It was looked at.
    was_looked_at: bool,
    /// It could be read once.
    was_read: bool,
}

impl Default for RevokedFileWatch {
    fn default() -> Self {
        let file = Some(RevokedFile::default());
        Self { path: None, epoch: 0, file, was_looked_at: false, was_read: false }
    }
}

impl RevokedFileWatch {
    /// The configuration in force names this file. `true`: that is another one than before.
    pub(crate) fn follow(&mut self, path: Option<&PathBuf>) -> bool {
        let is_other = self.path.as_ref() != path;
        if is_other {
            *self = Self { path: path.cloned(), epoch: self.epoch + 1, ..Self::default() };
        }
        is_other
    }

    pub(crate) const fn has_file(&self) -> bool {
        self.path.is_some()
    }

    /// Nobody has looked at it yet, and nobody does.
    pub(crate) const fn is_unseen(&self) -> bool {
        self.has_file() && !self.was_looked_at && self.file.is_some()
    }

    /// It is looked at for the first time.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.has_file() && !self.was_looked_at
    }

    /// It could be read once.
    pub(crate) const fn was_read(&self) -> bool {
        self.was_read
    }

    /// What looks at the file, beside the loop. `None`: there is no file, or it is looked at.
    pub(crate) fn begin(&mut self) -> Option<RevokedFileLook> {
        let path = self.path.clone()?;
        Some(RevokedFileLook { path, epoch: self.epoch, file: self.file.take()? })
    }

    /// It was looked at: what is new. Nothing, if another file has taken its place meanwhile.
    pub(crate) fn end(&mut self, look: RevokedFileLook, read: Option<FileRead>) -> Option<FileRead> {
        if look.epoch != self.epoch {
            return None;
        }
        (self.file, self.was_looked_at) = (Some(look.file), true);
        self.was_read |= read.as_ref().is_some_and(|read| read.is_read);
        read
    }
}

/// Looks at the file once.
pub(crate) struct RevokedFileLook {
    path: PathBuf,
    epoch: u64,
    file: RevokedFile,
}

impl RevokedFileLook {
    /// What is new.
    pub(crate) fn poll(&mut self) -> Option<FileRead> {
        self.file.poll(&self.path)
    }
}

/// Modification time, size and inode.
type Stat = (i64, i64, u64, u64);

impl RevokedFile {
    /// What is new; `None`: nothing, or it is still being written.
    pub(crate) fn poll(&mut self, path: &Path) -> Option<FileRead> {
        let is_first = self.last.is_none() && self.handled.is_none() && !self.is_unusable;
        let stat = match fs::metadata(path) {
            Ok(found) if found.is_file() => of(&found),
            Ok(_) => return self.unusable(path, "is no regular file"),
            Err(error) => return self.unusable(path, &error.to_string()),
        };
        let is_settled = self.last.replace(stat) == Some(stat);
        if !(is_settled || is_first) || self.handled == Some(stat) {
            return None;
        }
        if stat.2 > LARGEST {
            return self.unusable(path, "is over 256 MiB");
        }
        let mut bytes = Vec::new();
        // Opening a pipe that was put there meanwhile would wait for ever.
        let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let read_all = |file: fs::File| {
            (&file).take(LARGEST).read_to_end(&mut bytes)?;
            file.metadata()
        };
        match opened.and_then(read_all) {
            Ok(found) => {
                // Written while it was read: what is missing in it may still come.
                let is_settled = is_settled && of(&found) == stat;
                // At the start it is not waited for, and read again once it has settled.
                self.handled = is_settled.then_some(stat);
                self.is_unusable = false;
                Some(FileRead { is_settled, ..read(&bytes) })
            }
            Err(error) => self.unusable(path, &error.to_string()),
        }
    }

    fn unusable(&mut self, path: &Path, why: &str) -> Option<FileRead> {
        (self.last, self.handled) = (None, None);
        let faults = vec![format!("{}: {why}", path.display())];
        let is_news = !std::mem::replace(&mut self.is_unusable, true);
        is_news.then_some(FileRead { revoked: Vec::new(), faults, is_settled: false, is_read: false })
    }
}

fn of(found: &fs::Metadata) -> Stat {
    (found.mtime(), found.mtime_nsec(), found.size(), found.ino())
}

fn read(text: &[u8]) -> FileRead {
    let (mut revoked, mut faults, mut wrong) = (Vec::new(), Vec::new(), 0_u64);
    for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
        // One such line keeps no other from counting.
        let line = str::from_utf8(line).map(str::trim).map_err(|_not| "it is not in UTF-8");
        if line.is_ok_and(|line| line.is_empty() || line.starts_with('#')) {
            continue;
        }
        let has_room = revoked.len() < MOST;
        let parsed = if has_room { line.and_then(parse) } else { Err("one too many: there may be a million") };
        match parsed {
            Ok(one) => revoked.push(one),
            Err(why) => {
                wrong += 1;
                if faults.len() < TOLD {
                    faults.push(format!("line {number}: {why}"));
                }
            }
        }
    }
    let untold = wrong.saturating_sub(u64::try_from(faults.len()).unwrap_or(0));
    if untold > 0 {
        faults.push(format!("{untold} more lines"));
    }
    if text.is_empty() {
        faults.push("it is empty: if nothing is to be revoked, write a comment (#) to it".to_owned());
    } else if !text.ends_with(b"\n") {
        faults.push("its last line has no end: a part of it may be missing".to_owned());
    }
    FileRead { revoked, faults, is_settled: true, is_read: true }
}

/// Reads one line.
fn parse(line: &str) -> Result<Revoked, &'static str> {
    const FORMS: &str = "write `jti ISSUER ID`, `sub ISSUER SUBJECT`, `issuer ISSUER`, `issued-before TIME ISSUER [SUBJECT]`, `kid ISSUER KID` or `key ID`";
    let (kind, rest) = line.split_once(char::is_whitespace).ok_or(FORMS)?;
    let rest = rest.trim_start();
    let two = || rest.split_once(char::is_whitespace).map(|(one, two)| (one.to_owned(), two.trim_start().to_owned()));
    match kind {
        "jti" => two().map(|(issuer, id)| Revoked::Token { issuer, id }).ok_or(FORMS),
        "sub" => two().map(|(issuer, subject)| Revoked::Subject { issuer, subject, before: None }).ok_or(FORMS),
        "kid" => two().map(|(issuer, kid)| Revoked::Signer { issuer, kid }).ok_or(FORMS),
        "issuer" if two().is_none() => Ok(Revoked::Issuer { issuer: rest.to_owned(), before: None }),
        "issued-before" => {
            let (time, rest) = two().ok_or(FORMS)?;
            let before = Some(moment(&time).ok_or("no time: write it as 2026-01-31T12:00:00Z")?);
            Ok(match rest.split_once(char::is_whitespace) {
                Some((issuer, subject)) => {
                    let (issuer, subject) = (issuer.to_owned(), subject.trim_start().to_owned());
                    Revoked::Subject { issuer, subject, before }
                }
                None => Revoked::Issuer { issuer: rest, before },
            })
        }
        "key" => rest.parse().map(|KeyId(id)| Revoked::Key(id)),
        _ => Err(FORMS),
    }
}

/// A moment in seconds since the Unix epoch: the next whole one, as tokens say when they were issued in whole seconds.
pub(crate) fn moment(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    u64::try_from(time.as_second().saturating_add(up)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: Option<Revoked>) {
        assert_eq!(parse(line).ok(), expect, "{line}");
    }

    #[test]
    fn lines() {
        let issuer = || "https://i.example".to_owned();
        check("jti https://i.example a-b", Some(Revoked::Token { issuer: issuer(), id: "a-b".to_owned() }));
        check(
            "sub\thttps://i.example\tAda L",
            Some(Revoked::Subject { issuer: issuer(), subject: "Ada L".to_owned(), before: None }),
        );
        check("kid https://i.example  k 1", Some(Revoked::Signer { issuer: issuer(), kid: "k 1".to_owned() }));
        check("kid https://i.example", None);
        check("issuer https://i.example", Some(Revoked::Issuer { issuer: issuer(), before: None }));
        let before = Some(1_767_225_600);
        check(
            "issued-before 2026-01-01T00:00:00Z https://i.example",
            Some(Revoked::Issuer { issuer: issuer(), before }),
        );
        check(
            "issued-before 2025-12-31T23:59:59.5Z https://i.example",
            Some(Revoked::Issuer { issuer: issuer(), before }),
        );
        check(
            "issued-before 2026-01-01T01:00:00+01:00 https://i.example ada",
            Some(Revoked::Subject { issuer: issuer(), subject: "ada".to_owned(), before }),
        );
        check("key 0000000000z", Some(Revoked::Key(61)));
        for wrong in [
            "jti",
            "jti a",
            "sub a",
            "issuer",
            "issuer a b",
            "issued-before now a",
            "issued-before a",
            "key 7",
            "user a b",
            "a",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let text = format!("# a comment\n\nkey 0000000000z\n{}", "rubbish\n".repeat(9));
        let FileRead { revoked, faults, .. } = read(text.as_bytes());
        assert_eq!(revoked, [Revoked::Key(61)]);
        assert_eq!((faults.len(), &*faults[5]), (6, "4 more lines"));
        assert!(faults[0].starts_with("line 4: write `jti"), "{faults:?}");
        let FileRead { revoked, faults, .. } = read(b"# caf\xe9\r\njti i caf\xe9\r\nkey 0000000000z\r\n");
        assert_eq!(revoked, [Revoked::Key(61)]);
        assert_eq!(faults, ["line 1: it is not in UTF-8", "line 2: it is not in UTF-8"]);
        // One that is being written.
        for (text, fault) in [
            ("", Some("it is empty")),
            ("\n", None),
            ("# nothing\n", None),
            ("key 0000000000z\n", None),
            ("key 0000000000z\n# a", Some("has no end")),
            ("key 0000000000z", Some("has no end")),
        ] {
            let FileRead { faults, .. } = read(text.as_bytes());
            assert!(faults.len() == usize::from(fault.is_some()), "{text:?}: {faults:?}");
            assert!(fault.is_none_or(|fault| faults[0].contains(fault)), "{text:?}: {faults:?}");
        }
    }

    #[test]
    fn a_file_is_read_when_it_has_changed_and_settled() {
        let folder = std::env::temp_dir().join(format!("gateway-revoked-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("revoked.txt");
        let mut file = RevokedFile::default();
        assert!(file.poll(&path).is_some_and(|read| read.faults.len() == 1 && !read.is_read), "it is not there");
        assert!(file.poll(&path).is_none(), "told once");
        fs::write(&path, "key 0000000000z\n").unwrap();
        assert!(file.poll(&path).is_none(), "it may still be written");
        let told = file.poll(&path).unwrap();
        assert_eq!((told.revoked, told.is_settled), (vec![Revoked::Key(61)], true));
        assert!(file.poll(&path).is_none());
        // At the start what it says is known at once, and lifts nothing before it has settled.
        let mut started = RevokedFile::default();
        let read: Vec<_> = (0..3).map(|_| started.poll(&path).map(|read| (read.revoked, read.is_settled))).collect();
        assert_eq!(read, [Some((vec![Revoked::Key(61)], false)), Some((vec![Revoked::Key(61)], true)), None]);
        fs::remove_file(&path).unwrap();
        assert!(file.poll(&path).is_some_and(|read| read.revoked.is_empty() && !read.faults.is_empty()));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// A file that a reload has removed, or put back, while it was read: what was read of it before does not count.
    #[test]
    fn what_was_read_of_another_file_is_dropped() {
        let (one, two) = (PathBuf::from("one"), PathBuf::from("two"));
        for (follows, counts) in [
            (&[][..], true),
            (&[Some(&one)], true),
            (&[None], false),
            (&[Some(&two)], false),
            (&[None, Some(&one)], false),
        ] {
            let mut watch = RevokedFileWatch::default();
            assert!(watch.begin().is_none(), "there is no file");
            assert!(watch.follow(Some(&one)) && watch.has_file());
            let look = watch.begin().unwrap();
            assert!(watch.begin().is_none(), "it is looked at");
            for path in follows {
                watch.follow(*path);
            }
            let (revoked, faults) = (vec![Revoked::Key(1)], Vec::new());
            let read = FileRead { revoked, faults, is_settled: true, is_read: true };
            assert_eq!(watch.end(look, Some(read)).is_some(), counts, "{follows:?}");
            assert_eq!(watch.was_read(), counts, "{follows:?}");
            assert_eq!(watch.begin().is_some(), watch.has_file(), "{follows:?}");
        }
    }
}
