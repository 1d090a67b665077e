//! Marks connections of clients who proved who they are: while the kernel's packet budget of all sources is spent, they are
//! served before unknown ones.
//!
//! The mark is the priority of the connection's socket. It needs no right and no message, and is gone with the connection.
//!
//! *Invariant:* so many connections of one principal are marked at most. A mark goes once the credential behind it expires
//! or is revoked, and when the client is over a limit; it does not come back for [`PAUSE`] then.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    rc::Weak,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gateway_common::maps::FAST_LANE;

use crate::{
    os::clock::SECOND,
    policy::auth::{Identity, tables::CredentialTables},
};

/// How long a client that was over a limit stays unmarked: nanoseconds.
const PAUSE: u64 = 10 * SECOND;

/// How long a connection is not tried again whose principal has enough marked ones, unless one of them leaves: nanoseconds.
/// The count of those is behind a lock that all workers share.
const FULL: u64 = SECOND;

/// In so many parts it is counted who leaves, by the hashes of principals.
const PARTS: usize = 64;

/// The mark of one connection.
#[derive(Default)]
pub(in crate::proxy) struct FastLane {
    socket: OnceCell<Weak<dyn Prioritized>>,
    mark: RefCell<Option<MarkedIdentity>>,
    /// Not marked before: `CLOCK_MONOTONIC`, nanoseconds.
    not_before: Cell<u64>,
    /// The principal that had enough marked connections, how many had left then, and until when that is taken to be so.
    full: Cell<(u64, u64, u64)>,
}

/// What has a priority: the socket of a connection.
pub(super) trait Prioritized {
    /// Sets it. `false`: it stays what it was.
    fn set_priority(&self, priority: u32) -> bool;
}

/// What a connection is marked for.
struct MarkedIdentity {
    /// The hash of the principal.
    principal: u64,
    identity: Arc<Identity>,
    /// Up to which [`CredentialTables::epoch`] the identity is known not to be revoked.
    epoch: u64,
}

/// How many connections of each principal are marked, over all workers. At most as many principals as connections.
pub(in crate::proxy) struct MarkedConnections {
    by_principal: Mutex<HashMap<u64, u32>>,
    /// How many have left, by parts of the principals.
    left: [AtomicU64; PARTS],
    seed: RandomState,
    marked: AtomicU64,
    over: AtomicU64,
}

impl FastLane {
    /// The connection has its socket.
    pub(super) fn opened(&self, socket: Weak<dyn Prioritized>) {
        self.socket.set(socket).unwrap_or_default();
    }

    fn set_priority(&self, priority: u32) -> bool {
        self.socket.get().and_then(Weak::upgrade).is_some_and(|socket| socket.set_priority(priority))
    }

    /// A client has proved who it is: its connection is marked unless it is already, or `most` of the principal's are.
    pub(in crate::proxy) fn enter(
        &self,
        all: &MarkedConnections,
        identity: &Arc<Identity>,
        epoch: u64,
        most: u32,
        now: u64,
    ) {
        if self.mark.borrow().is_some() || now < self.not_before.get() {
            return;
        }
        let principal = all.seed.hash_one(identity.principal());
        let left = all.left(principal);
        let (full, before, until) = self.full.get();
        if now < until && full == principal && left == before {
            return;
        }
        if !all.enter(principal, most) {
            self.full.set((principal, left, now.saturating_add(FULL)));
            return;
        }
        if self.set_priority(FAST_LANE) {
            *self.mark.borrow_mut() = Some(MarkedIdentity { principal, identity: Arc::clone(identity), epoch });
        } else {
            // The connection is served as any other.
            all.leave(principal);
        }
    }

    /// The client is over a limit: it has to wait its turn as anybody else.
    pub(in crate::proxy) fn lose(&self, all: &MarkedConnections, now: u64) {
        if self.leave(all) {
            self.not_before.set(now.saturating_add(PAUSE));
        }
    }

    /// The mark is taken back; whether there was one.
    pub(in crate::proxy) fn leave(&self, all: &MarkedConnections) -> bool {
        let Some(mark) = self.mark.borrow_mut().take() else { return false };
        all.leave(mark.principal);
        // A stream that is gone has closed its socket, or is about to.
        self.set_priority(0);
        true
    }

    /// Takes the mark back where what it rests on holds no more. `now` is in seconds since the Unix epoch.
    pub(in crate::proxy) fn review(&self, all: &MarkedConnections, tables: &CredentialTables, now: u64) {
        let is_over = match &mut *self.mark.borrow_mut() {
            None => return,
            Some(mark) if mark.identity.expires() < now => true,
            Some(mark) => {
                let epoch = tables.epoch();
                // An API key may end without any change.
                let is_over = if epoch == mark.epoch {
                    tables.has_lost_a_key(&mark.identity, now)
                } else {
                    tables.is_revoked(&mark.identity, now)
                };
                mark.epoch = epoch;
                is_over
            }
        };
        if is_over {
            self.leave(all);
        }
    }
}

impl Default for MarkedConnections {
    fn default() -> Self {
        Self {
            by_principal: Mutex::default(),
            left: [const { AtomicU64::new(0) }; PARTS],
            seed: RandomState::default(),
            marked: AtomicU64::default(),
            over: AtomicU64::default(),
        }
    }
}

impl MarkedConnections {
    fn part(&self, principal: u64) -> Option<&AtomicU64> {
        self.left.get(usize::try_from(principal % PARTS as u64).unwrap_or(0))
    }

    /// How many have left of this principal and of some others.
    fn left(&self, principal: u64) -> u64 {
        self.part(principal).map_or(0, |left| left.load(Ordering::Relaxed))
    }

    /// Counts a connection of a principal. `false`: it has `most` already.
    fn enter(&self, principal: u64, most: u32) -> bool {
        let mut known = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.entry(principal).or_default();
        if *count >= most {
            self.over.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        *count += 1;
        self.marked.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn leave(&self, principal: u64) {
        let mut known = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known.get_mut(&principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                known.remove(&principal);
            }
            self.marked.fetch_sub(1, Ordering::Relaxed);
            // Behind the count: whoever sees it finds room.
            if let Some(left) = self.part(principal) {
                left.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many connections are marked.
    pub(in crate::proxy) fn marked(&self) -> u64 {
        self.marked.load(Ordering::Relaxed)
    }

    /// How often a connection was not marked because its principal has enough of them.
    pub(in crate::proxy) fn over(&self) -> u64 {
        self.over.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// A socket, and the mark of its connection.
    #[derive(Default)]
    struct End {
        priority: Cell<u32>,
        is_gone: Cell<bool>,
        lane: FastLane,
    }

    impl Prioritized for End {
        fn set_priority(&self, priority: u32) -> bool {
            if !self.is_gone.get() {
                self.priority.set(priority);
            }
            !self.is_gone.get()
        }
    }

    fn end() -> Rc<End> {
        let end = Rc::new(End::default());
        let socket: Weak<End> = Rc::downgrade(&end);
        end.lane.opened(socket);
        end
    }

    #[test]
    fn a_mark_comes_with_a_proof_and_goes_with_it() {
        let (all, tables) = (MarkedConnections::default(), CredentialTables::default());
        let (end, ada) = (end(), Arc::new(Identity::of("ada", &[])));
        let is = |priority, marked| assert_eq!((end.priority.get(), all.marked()), (priority, marked));
        end.lane.enter(&all, &ada, 0, 1, SECOND);
        is(FAST_LANE, 1);
        end.lane.review(&all, &tables, 0);
        is(FAST_LANE, 1);
        // The token has expired.
        end.lane.review(&all, &tables, u64::MAX);
        is(0, 0);
        end.lane.enter(&all, &ada, 0, 1, SECOND);
        // The client is over a limit.
        end.lane.lose(&all, SECOND);
        end.lane.enter(&all, &ada, 0, 1, 2 * SECOND);
        is(0, 0);
        end.lane.enter(&all, &ada, 0, 1, 12 * SECOND);
        is(FAST_LANE, 1);
        assert!(end.lane.leave(&all) && !end.lane.leave(&all));
        end.is_gone.set(true);
        end.lane.enter(&all, &ada, 0, 1, 12 * SECOND);
        is(0, 0);
    }

    #[test]
    fn d06_one_principal_marks_no_more_than_it_may() {
        let all = MarkedConnections::default();
        let ends: Vec<_> = (0..3).map(|_| end()).collect();
        let mallory = Arc::new(Identity::of("mallory", &[]));
        ends.iter().for_each(|end| end.lane.enter(&all, &mallory, 0, 2, SECOND));
        let priorities: Vec<u32> = ends.iter().map(|end| end.priority.get()).collect();
        assert_eq!((priorities, all.marked(), all.over()), (vec![FAST_LANE, FAST_LANE, 0], 2, 1));
        // Without asking for a lock each time: once is enough while nobody leaves, or once a second.
        (0..100).for_each(|_| ends[2].lane.enter(&all, &mallory, 0, 2, SECOND));
        assert_eq!(all.over(), 1);
        // Another client over the same connection is none of that.
        ends[2].lane.enter(&all, &Arc::new(Identity::of("ada", &[])), 0, 2, SECOND);
        assert_eq!((ends[2].priority.get(), all.marked()), (FAST_LANE, 3));
        assert!(ends[2].lane.leave(&all));
        assert!(ends[0].lane.leave(&all));
        ends[2].lane.enter(&all, &mallory, 0, 2, SECOND);
        assert_eq!((ends[2].priority.get(), all.marked()), (FAST_LANE, 2));
        assert!(ends[1..].iter().all(|end| end.lane.leave(&all)));
        assert!(all.by_principal.lock().unwrap().is_empty());
    }
}
