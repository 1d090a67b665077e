//! Reads the list of a feed, from wherever its bytes came.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::{LineError, read_services};
use crate::{
    guard::control::ImportEntry,
    settings::feed::{Feed, FeedPurpose},
};

/// How many errors of one list are told one by one.
const TOLD: usize = 100;

/// The most entries of a list that is fetched: a short range of CSV may stand for many.
const MOST_FETCHED: usize = 2_000_000;

/// What is new about a feed.
#[derive(Debug)]
pub(crate) enum FeedNews {
    /// It has another content, which is ready to be judged.
    Changed(FileContent),
    /// It can be used again, and has the content that is in force.
    Same,
    /// It cannot be used, and why.
    Unusable(String),
}

/// A list as it was read.
#[derive(Debug)]
pub(crate) struct FileContent {
    /// Of its bytes and of its settings.
    pub(crate) digest: String,
    /// What it lists.
    pub(crate) entries: Vec<ImportEntry>,
    /// Lines that cannot be read, the first of them.
    pub(crate) errors: Vec<LineError>,
    /// How many there are.
    pub(crate) failed: u64,
    /// There is nothing in it, not even a remark: it may be on its way.
    pub(crate) is_blank: bool,
}

/// Of the bytes of a list, and of the settings that say how they are read.
pub(crate) fn digest(feed: &Feed, bytes: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(format!("{:?} {:?} {}\n", feed.format, feed.ban, feed.shadow).as_bytes());
    if feed.purpose != FeedPurpose::Ban {
        // The same list that bans is another one.
        hash.update(format!("{}\n", feed.purpose.name()).as_bytes());
    }
    if !feed.services.is_empty() {
        hash.update(format!("{:?}\n", feed.services).as_bytes());
    }
    hash.update(bytes);
    HEXLOWER.encode(hash.finish().as_ref())
}

/// Reads a list.
///
/// # Errors
/// It is none.
pub(crate) fn read_list(feed: &Feed, bytes: &[u8], digest: String) -> Result<FileContent, String> {
    let (mut entries, mut errors, mut failed, mut is_too_long) = (Vec::new(), Vec::new(), 0, false);
    let most = if feed.fetched().is_some() { MOST_FETCHED } else { usize::MAX };
    let bound = feed.ban.map(|ban| ban.as_secs().max(1));
    let read = read_services(bytes, feed.format, &feed.services, |line, read| match read {
        Ok(_) if entries.len() >= most => is_too_long = true,
        Ok(listed) => {
            let seconds = match (bound, listed.seconds) {
                (Some(bound), Some(said)) => Some(said.min(bound)),
                (bound, said) => said.or(bound),
            };
            entries.push(ImportEntry(line, listed.source, seconds, listed.reason));
        }
        Err(message) => {
            failed += 1;
            if errors.len() < TOLD {
                errors.push(LineError { line, message });
            }
        }
    });
    read.map_err(|error| error.to_string())?;
    if is_too_long {
        return Err(format!("has more than {most} entries"));
    }
    Ok(FileContent { digest, entries, errors, failed, is_blank: bytes.trim_ascii().is_empty() })
}
