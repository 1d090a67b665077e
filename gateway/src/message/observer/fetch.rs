//! What the observer fetches for the guard, which connects to nobody: lists by URL.
//!
//! The body comes in a file in memory that the guard made, of a size that nobody can change. The guard reads a copy of it:
//! what the observer writes afterwards changes nothing.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

use super::alert::{address, word};
use crate::{
    diagnostic::Diagnostic,
    outbound::Server,
    settings::{crowdsec::LocalApi, feed::FeedSource},
};

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fetch {
    /// A list.
    Feed {
        /// Its name in the configuration that the observer has.
        name: String,
        /// What the server called the last one; empty: nothing.
        etag: String,
        /// When the server said that the last one had changed; empty: never.
        last_modified: String,
    },
    /// Decisions of CrowdSec.
    Decisions {
        /// All of them, and not the news alone.
        startup: bool,
    },
    /// Bans that CrowdSec is told of.
    Alerts(Vec<ToldBan>),
    /// Sources whose bans CrowdSec was told of and that were lifted; `None`: all of them.
    Lifted(Vec<Option<String>>),
}

/// The most bans that CrowdSec is told of at once.
pub const MAX_TOLD: usize = 50;

/// A ban that CrowdSec is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldBan {
    /// Who, as the command line has it.
    pub source: String,
    /// By what: `gateway/RULE`.
    pub scenario: String,
    /// Why, for people.
    pub reason: String,
    /// When: milliseconds since 1970.
    pub began: u64,
    /// For how long.
    pub seconds: u64,
}

/// What became of it; `Err`: why there is no answer, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched(pub Result<FetchAnswer, String>);

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// How long the body is, in bytes.
    pub length: u64,
    /// What the server calls it; empty: nothing.
    pub etag: String,
    /// When the server says that it changed; empty: never.
    pub last_modified: String,
    /// How many seconds the server wants to be left alone.
    pub retry_after: u64,
    /// What is at `sha256_url`, where there is one.
    pub checksum: Option<String>,
    /// The signature of the list, where it is signed.
    pub signature: Option<String>,
}

/// The longest text that a server may call something by, and the longest reason, in bytes.
pub const LONGEST_TEXT: usize = 512;

/// The longest file of checksums, in bytes.
pub const LONGEST_CHECKSUM: usize = 16 * 1_024;

/// The longest signature, in bytes: minisign has room for comments of 8 KiB.
pub const LONGEST_SIGNATURE: usize = 16 * 1_024;

/// The most sources that CrowdSec is told of at once whose bans were lifted.
pub const MAX_LIFTED: usize = 10;

/// A file in memory with room for `most` bytes, that nobody can make shorter or longer.
///
/// # Errors
/// Out of descriptors.
pub(crate) fn room(most: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("gateway-fetch", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    // Nothing of it takes memory before it is written.
    ftruncate(&memory, most)?;
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(memory)
}

/// A copy of its first `length` bytes.
///
/// # Errors
/// There are not so many.
pub(crate) fn copy(memory: OwnedFd, length: u64) -> io::Result<Vec<u8>> {
    let file = File::from(memory);
    if length > file.metadata()?.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than there is room for"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The lists that are fetched, with what their files hold.
pub(in crate::message) fn complete(feeds: Vec<(usize, FeedSource)>, faults: &mut Vec<Diagnostic>) -> Vec<FeedSource> {
    let complete = |(index, mut source): (usize, FeedSource)| {
        let table = format!("feed[{index}]");
        let dial = source.dial.clone();
        let token = source.token.as_ref().map_or(Ok(()), |file| word(file, "token_file"));
        for judged in [token, address(&mut source.url, &dial)] {
            faults.extend(judged.err().map(|fault| fault.under(&table)));
        }
        if !dial.ca.path.as_os_str().is_empty() {
            let unusable = Server::new(&dial.server()).err().unwrap_or_default();
            faults.extend(unusable.into_iter().map(|fault| fault.under(&table)));
        }
        source
    };
    feeds.into_iter().map(complete).collect()
}

/// How CrowdSec is asked, with what its files hold.
pub(in crate::message) fn complete_crowdsec(api: &LocalApi, faults: &mut Vec<Diagnostic>) {
    let key = api.key.as_ref().map_or(Ok(()), |file| word(file, "key_file"));
    let password = api.machine.as_ref().map_or(Ok(()), |machine| word(&machine.password, "password_file"));
    faults.extend([key, password].into_iter().filter_map(Result::err).map(|fault| fault.under("crowdsec")));
    if !api.dial.ca.path.as_os_str().is_empty() {
        let unusable = Server::new(&api.dial.server()).err().unwrap_or_default();
        faults.extend(unusable.into_iter().map(|fault| fault.under("crowdsec")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_makes_room_longer_or_shorter() {
        let memory = room(1 << 20).unwrap();
        let other = File::from(memory.try_clone().unwrap());
        other.write_all_at(b"192.0.2.1", 0).unwrap();
        assert!(other.set_len(1 << 30).is_err() && other.set_len(0).is_err());
        assert!(other.write_all_at(b"x", 1 << 20).is_err(), "it has an end");
        assert_eq!(copy(memory.try_clone().unwrap(), 9).unwrap(), b"192.0.2.1");
        assert!(copy(memory, (1 << 20) + 1).is_err());
    }
}
