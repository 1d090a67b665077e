//! Who was last behind a source, and its last requests: so that `gateway why` can name them.
//!
//! *Invariant:* so many of each, and of a name so many bytes.

use serde::{Deserialize, Serialize};

use crate::{os::clock::SECOND, web::request_id::RequestId};

/// The longest name of a principal that is kept, in bytes.
pub(super) const LONGEST_NAME: usize = 128;

/// How many principals of a source are named, and how many of its requests: the last of each.
pub(super) const PRINCIPALS: usize = 4;
pub(super) const REQUESTS: usize = 8;

/// A request that is over, as it can be found in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRequest {
    /// Its id.
    pub id: RequestId,
    /// The status that it was answered with.
    pub status: u16,
    /// It began so many seconds ago.
    pub seconds_ago: u64,
}

/// What was last seen of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// Hashes and names, the last one first.
    pub(super) principals: Vec<(u64, Box<str>)>,
    /// Ids and statuses, and when each began, in a ring.
    requests: [Option<(RequestId, u16, u64)>; REQUESTS],
    next: usize,
}

impl Recent {
    pub(super) fn principal(&mut self, name: &str, hash: u64) {
        if let Some(at) = self.principals.iter().position(|(known, _)| *known == hash) {
            if let Some(first) = self.principals.get_mut(..=at) {
                first.rotate_right(1);
            }
            return;
        }
        self.principals.truncate(PRINCIPALS - 1);
        self.principals.insert(0, (hash, beginning(name).into()));
    }

    pub(super) fn request(&mut self, id: RequestId, status: u16, now: u64) {
        if let Some(place) = self.requests.get_mut(self.next) {
            *place = Some((id, status, now));
        }
        self.next = (self.next + 1) % REQUESTS;
    }

    pub(super) fn last_requests(&self, now: u64) -> Vec<LastRequest> {
        let (newer, older) = self.requests.split_at(self.next.min(REQUESTS));
        let all = newer.iter().rev().chain(older.iter().rev()).flatten();
        all.map(|(id, status, at)| LastRequest {
            id: *id,
            status: *status,
            seconds_ago: now.saturating_sub(*at) / SECOND,
        })
        .collect()
    }
}

/// As much of a name as is kept.
pub(super) fn beginning(name: &str) -> &str {
    name.get(..name.floor_char_boundary(LONGEST_NAME)).unwrap_or_default()
}
