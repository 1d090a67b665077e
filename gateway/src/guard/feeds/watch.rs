//! Reads a feed's file again: when it has changed and stopped changing. Polled, so that it works on every
//! file system and however the file is replaced.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{
    MAX_BYTES,
    list::{FeedNews, digest, read_list},
};
use crate::settings::feed::{Feed, FeedPurpose};

/// A look reads no more files once what it has read has so many entries: the next look goes on.
const AT_ONCE: usize = 100_000;

/// What is remembered of each file.
#[derive(Debug, Default)]
pub(crate) struct FeedWatcher {
    seen: HashMap<String, FileState>,
    /// The feed that the next look begins with.
    next: Option<String>,
}

/// Modification time, size and inode.
type Stat = (i64, i64, u64, u64);

#[derive(Debug, Default)]
struct FileState {
    feed: Option<Feed>,
    last: Option<Stat>,
    /// When the file was last written, in seconds since 1970: also once it is gone.
    written: Option<i64>,
    handled: Option<Stat>,
    /// Why the file cannot be used, as it was told.
    unusable: Option<String>,
    /// The digest of the content that was told last.
    told: Option<String>,
}

impl FeedWatcher {
    /// Looks at the files; `in_force` has the digests of what is loaded, by feed. With `has_lists`, lists are on their
    /// way into force: no others that ban are read, so that only so many are in memory at once.
    pub(crate) fn poll(
        &mut self,
        feeds: &[Feed],
        in_force: &HashMap<String, String>,
        has_lists: bool,
    ) -> Vec<(Feed, FeedNews)> {
        self.seen.retain(|name, _| feeds.iter().any(|feed| feed.name == *name));
        let next = self.next.take_if(|_| !has_lists);
        let begin = next.and_then(|name| feeds.iter().position(|feed| feed.name == name)).unwrap_or(0);
        let (earlier, later) = feeds.split_at(begin);
        let (mut news, mut entries) = (Vec::new(), 0);
        for (feed, path) in later.iter().chain(earlier).filter_map(|feed| Some((feed, feed.path()?))) {
            if has_lists && feed.purpose == FeedPurpose::Ban {
                continue;
            }
            if entries >= AT_ONCE {
                self.next = Some(feed.name.clone());
                break;
            }
            let seen = self.seen.entry(feed.name.clone()).or_default();
            // The same file may be read in another way, and be for something else.
            let is_new = seen.feed.as_ref() != Some(feed);
            if is_new {
                *seen = FileState { feed: Some(feed.clone()), ..FileState::default() };
            }
            if let Some(one) = look((feed, path), seen, is_new, in_force.get(&feed.name)) {
                if let FeedNews::Changed(content) = &one {
                    entries += content.entries.len();
                }
                news.push((feed.clone(), one));
            }
        }
        news
    }
}

impl FeedWatcher {
    /// When each file was last written, as far as it was seen: milliseconds since 1970.
    pub(crate) fn written(&self) -> HashMap<String, u64> {
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        self.seen.iter().filter_map(|(name, seen)| Some((name.clone(), millis(seen.written?)))).collect()
    }
}

fn look(
    (feed, path): (&Feed, &Path),
    seen: &mut FileState,
    is_new: bool,
    in_force: Option<&String>,
) -> Option<FeedNews> {
    let unusable = |seen: &mut FileState, error: String| {
        let was = seen.unusable.replace(error.clone());
        (was.as_ref() != Some(&error)).then(|| FeedNews::Unusable(format!("{}: {error}", path.display())))
    };
    let stat = match stat(path) {
        Ok(stat) => stat,
        Err(error) => {
            (seen.last, seen.handled) = (None, None);
            return unusable(seen, error);
        }
    };
    let settled = seen.last.replace(stat) == Some(stat) || is_new;
    seen.written = Some(stat.0);
    if !settled || seen.handled == Some(stat) {
        return None;
    }
    seen.handled = Some(stat);
    let bytes = match content(path, stat) {
        Ok(Some(bytes)) => bytes,
        // It is looked at again once it has settled.
        Ok(None) => {
            (seen.last, seen.handled) = (None, None);
            return None;
        }
        Err(error) => return unusable(seen, error),
    };
    let digest = digest(feed, &bytes);
    if in_force == Some(&digest) {
        // What came in between was refused: the warning about it is over.
        let is_back = seen.told.take().is_some_and(|told| told != digest);
        return (seen.unusable.take().is_some() || is_back).then_some(FeedNews::Same);
    }
    let content = match read_list(feed, &bytes, digest) {
        Ok(content) => content,
        Err(error) => return unusable(seen, error),
    };
    seen.unusable = None;
    seen.told = Some(content.digest.clone());
    Some(FeedNews::Changed(content))
}

fn stat(path: &Path) -> Result<Stat, String> {
    of(&fs::metadata(path).map_err(|error| error.to_string())?)
}

fn of(found: &fs::Metadata) -> Result<Stat, String> {
    if !found.is_file() {
        return Err("not a regular file".to_owned());
    }
    Ok((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// What is in the file; `None` if it is not the file that was looked at, or is being written.
fn content(path: &Path, looked: Stat) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: io::Error| error.to_string();
    // A pipe that was put in the file's place must not be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let same = || Ok::<_, String>(of(&file.metadata().map_err(failed)?)? == looked);
    if !same()? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    (&file).take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(same()?.then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::feed::FeedPlace;

    #[test]
    fn only_the_file_that_was_looked_at() {
        let folder = std::env::temp_dir().join(format!("gateway-feed-kinds-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, pipe) = (folder.join("file"), folder.join("pipe"));
        fs::write(&file, "192.0.2.1\n").unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let looked = stat(&file).unwrap();
        assert_eq!(content(&file, looked), Ok(Some(b"192.0.2.1\n".to_vec())));
        for not_one in [&folder, &pipe] {
            assert_eq!(stat(not_one), Err("not a regular file".to_owned()));
            // Put in its place after it was looked at: nobody waits for a writer.
            assert_eq!(content(not_one, looked), Err("not a regular file".to_owned()));
        }
        fs::write(&file, "192.0.2.").unwrap();
        assert_eq!(content(&file, looked), Ok(None), "cut short meanwhile");
        fs::remove_dir_all(&folder).unwrap();
    }

    /// However many files there are, only so much of them is in memory at once, and each has its turn.
    #[test]
    fn a_look_reads_so_much_and_the_next_goes_on() {
        let folder = std::env::temp_dir().join(format!("gateway-feed-many-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let feed = |name: &str, purpose| Feed::new(name.to_owned(), FeedPlace::File(folder.join(name)), purpose);
        let long = "192.0.2.1\n".repeat(AT_ONCE / 2 + 1);
        let mut feeds = Vec::new();
        for name in ["long-1", "long-2", "long-3"] {
            fs::write(folder.join(name), &long).unwrap();
            feeds.push(feed(name, FeedPurpose::Ban));
        }
        for number in 0..70 {
            let name = format!("short-{number}");
            fs::write(folder.join(&name), format!("192.0.2.{number}\n")).unwrap();
            feeds.push(feed(&name, FeedPurpose::Ban));
        }
        fs::write(folder.join("spared"), "198.51.100.1\n").unwrap();
        feeds.push(feed("spared", FeedPurpose::NeverBan));
        let (mut watcher, mut in_force) = (FeedWatcher::default(), HashMap::new());
        for (has_lists, expect, first) in
            [(true, 1, "spared"), (false, 2, "long-1"), (true, 0, ""), (false, 71, "long-3"), (false, 0, "")]
        {
            let news = watcher.poll(&feeds, &in_force, has_lists);
            assert_eq!((news.len(), news.first().map_or("", |(feed, _)| feed.name.as_str())), (expect, first));
            for (feed, news) in news {
                let FeedNews::Changed(content) = news else { panic!("it cannot be read") };
                in_force.insert(feed.name, content.digest);
            }
        }
        assert_eq!(in_force.len(), feeds.len());
        // One that changes all the time keeps the others from nothing.
        for name in ["long-1", "long-2", "long-3"] {
            fs::write(folder.join(name), format!("{long}192.0.2.2\n")).unwrap();
        }
        let names = |news: Vec<(Feed, FeedNews)>| news.into_iter().map(|(feed, _)| feed.name).collect::<Vec<_>>();
        assert!(watcher.poll(&feeds, &in_force, false).is_empty(), "they may still be written");
        assert_eq!(names(watcher.poll(&feeds, &in_force, false)), ["long-1", "long-2"]);
        fs::write(folder.join("long-1"), format!("{long}192.0.2.3\n")).unwrap();
        assert_eq!(names(watcher.poll(&feeds, &in_force, false)), ["long-3"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn changes_once_they_have_settled() {
        let path = std::env::temp_dir().join(format!("gateway-feed-{}", std::process::id()));
        let feeds = [Feed::new("f".to_owned(), FeedPlace::File(path.clone()), FeedPurpose::Ban)];
        let mut watcher = FeedWatcher::default();
        let mut in_force = HashMap::new();
        let mut poll = |in_force: &HashMap<String, String>| {
            let mut news = watcher.poll(&feeds, in_force, false);
            news.pop().map(|(_, news)| match news {
                FeedNews::Changed(content) => {
                    (content.entries.len().to_string() + "/" + &content.failed.to_string(), content.digest)
                }
                FeedNews::Same => ("same".to_owned(), String::new()),
                FeedNews::Unusable(_) => ("unusable".to_owned(), String::new()),
            })
        };
        assert_eq!(poll(&in_force).unwrap().0, "unusable");
        assert_eq!(poll(&in_force), None, "told once");
        fs::write(&path, "192.0.2.1\nx\n").unwrap();
        assert_eq!(poll(&in_force), None, "it may still be written");
        let (told, digest) = poll(&in_force).unwrap();
        assert_eq!(told, "1/1");
        in_force.insert("f".to_owned(), digest);
        assert_eq!(poll(&in_force), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(poll(&in_force).unwrap().0, "unusable");
        fs::write(&path, "192.0.2.1\nx\n").unwrap();
        assert_eq!(poll(&in_force), None);
        assert_eq!(poll(&in_force).unwrap().0, "same");
        fs::write(&path, "192.0.2.1\n192.0.2.0/24\n").unwrap();
        assert_eq!(poll(&in_force), None);
        let (_, digest) = poll(&in_force).unwrap();
        in_force.insert("f".to_owned(), digest.clone());
        assert_eq!(poll(&in_force), None);
        // Content that is refused and taken back: the warning about it ends.
        fs::write(&path, "x\n").unwrap();
        assert_eq!(poll(&in_force), None);
        assert_eq!(poll(&in_force).unwrap().0, "0/1");
        fs::write(&path, "192.0.2.1\n192.0.2.0/24\n").unwrap();
        assert_eq!(poll(&in_force), None);
        assert_eq!(poll(&in_force).unwrap().0, "same");
        // Another reason is told, too.
        for unusable in ["<html>", "[{\"a\":"] {
            fs::write(&path, unusable).unwrap();
            assert_eq!(poll(&in_force), None);
            assert_eq!(poll(&in_force).unwrap().0, "unusable", "{unusable}");
        }
        fs::write(&path, "192.0.2.1\n192.0.2.0/24\n").unwrap();
        assert_eq!(poll(&in_force), None);
        assert_eq!(poll(&in_force).unwrap().0, "same");
        // The same file, for something else.
        let other = [Feed { purpose: FeedPurpose::Crawlers, ..feeds[0].clone() }];
        let news = watcher.poll(&other, &in_force, false).pop().unwrap().1;
        assert!(matches!(&news, FeedNews::Changed(content) if content.digest != digest), "{news:?}");
        fs::remove_file(&path).unwrap();
    }
}
