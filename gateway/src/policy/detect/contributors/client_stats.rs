//! What one source or principal had on one route: in the present minute, and in the one before.

use std::net::IpAddr;

use super::deviating::{Completed, MAX_REQUESTS};
use crate::{settings::anomalies::ClientMeasure, web::request_id::RequestId};

/// Whether the wall clock was set back since `before`: a request that is noted late is a minute early at most.
pub(super) const fn is_set_back(before: u64, minute: u64) -> bool {
    minute.saturating_add(1) < before
}

/// What somebody had in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u32,
    pub(super) failures: u32,
    pub(super) errors: u32,
    /// Refused by a limit: limits see to that, and these are no failures.
    pub(super) limited: u32,
    /// Not answered at all: the client has left, be it because it waited in vain.
    pub(super) left: u32,
}

impl Counts {
    pub(super) fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.failures = self.failures.saturating_add(more.failures);
        self.errors = self.errors.saturating_add(more.errors);
        self.limited = self.limited.saturating_add(more.limited);
        self.left = self.left.saturating_add(more.left);
    }

    pub(super) const fn of(self, measure: ClientMeasure) -> u32 {
        match measure {
            ClientMeasure::Errors => self.errors,
            ClientMeasure::Failures => self.failures,
            ClientMeasure::Requests => self.requests,
        }
    }

    /// How many were served.
    pub(super) const fn served(self) -> u32 {
        let answered = self.requests.saturating_sub(self.left);
        answered.saturating_sub(self.failures).saturating_sub(self.errors).saturating_sub(self.limited)
    }
}

/// The last few requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    requests: [RequestId; MAX_REQUESTS],
    count: usize,
}

impl Latest {
    const NONE: Self = Self { requests: [RequestId(0); MAX_REQUESTS], count: 0 };

    fn note(&mut self, id: RequestId) {
        if let Some(place) = self.requests.get_mut(self.count % MAX_REQUESTS) {
            *place = id;
        }
        self.count = self.count.wrapping_add(1);
    }

    pub(super) fn list(&self) -> impl Iterator<Item = RequestId> {
        self.requests.into_iter().take(self.count)
    }
}

/// What one source or principal had on one route.
#[derive(Clone, Debug)]
pub(super) struct ClientStats {
    /// Of a principal.
    pub(super) name: Option<Box<str>>,
    pub(super) address: IpAddr,
    pub(super) relay: Option<IpAddr>,
    minute: u64,
    /// Of that minute, and of the one before.
    counts: [Counts; 2],
    /// The first minute in which it was served; 0: it never was.
    pub(super) served: u64,
    pub(super) failed: Latest,
    pub(super) latest: Latest,
}

impl ClientStats {
    pub(super) fn new(name: Option<Box<str>>, completed: &Completed<'_>) -> Self {
        Self {
            name,
            address: completed.address,
            relay: completed.relay,
            minute: completed.minute,
            counts: [Counts::default(); 2],
            served: 0,
            failed: Latest::NONE,
            latest: Latest::NONE,
        }
    }

    /// Counts a request; whether it is the first of its minute.
    pub(super) fn note(&mut self, completed: &Completed<'_>) -> bool {
        if is_set_back(self.minute, completed.minute) {
            self.counts = [Counts::default(); 2];
            self.minute = completed.minute;
            // It was served before this, whatever the clock said then.
            self.served = self.served.min(self.minute.saturating_sub(1));
        }
        match completed.minute.saturating_sub(self.minute) {
            0 => {}
            1 => self.counts = [Counts::default(), self.counts[0]],
            _ => self.counts = [Counts::default(); 2],
        }
        // One that was over a moment ago, and is noted late, counts now.
        self.minute = self.minute.max(completed.minute);
        (self.address, self.relay) = (completed.address, completed.relay);
        let is_first = self.counts[0].requests == 0;
        let class = completed.status.map_or(0, |status| status / 100);
        let limited = u32::from(completed.status == Some(429));
        let (failures, errors) = (u32::from(class == 4) - limited, u32::from(class == 5));
        let left = u32::from(completed.status.is_none());
        self.counts[0].add(Counts { requests: 1, failures, errors, limited, left });
        if matches!(class, 2 | 3) && self.served == 0 {
            self.served = self.minute;
        }
        self.latest.note(completed.id);
        if failures + errors > 0 {
            self.failed.note(completed.id);
        }
        is_first
    }

    /// What it had in a minute, where that is known.
    pub(super) const fn at(&self, minute: u64) -> Counts {
        const NONE: Counts = Counts { requests: 0, failures: 0, errors: 0, limited: 0, left: 0 };
        match self.minute.checked_sub(minute) {
            Some(0) => self.counts[0],
            Some(1) => self.counts[1],
            _ => NONE,
        }
    }

    /// How much would be lost with it.
    pub(super) fn worth(&self, now: u64) -> (u32, u32, u64) {
        let (mut both, before) = (self.at(now), self.at(now.saturating_sub(1)));
        both.add(before);
        (both.failures.saturating_add(both.errors), both.requests, self.minute)
    }
}
