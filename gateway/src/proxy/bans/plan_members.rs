//! Where members of plans have connections, as the guard is told: at once, and again for as long as they live.
//!
//! *Invariant:* at most [`MAX_PLAN_MEMBERS`] are told of at a time. Over that some are not, until they are told of again.

use std::{cell::RefCell, collections::HashSet};

use crate::{
    message::{MAX_PLAN_MEMBERS, PlanMember},
    os::clock::SECOND,
};

/// After so long all of them are told again.
const AGAIN: u64 = 20 * SECOND;

/// What one worker is to tell.
#[derive(Default)]
pub(in crate::proxy) struct PlanMembers(RefCell<Fresh>);

#[derive(Default)]
struct Fresh {
    members: HashSet<PlanMember>,
    told: u64,
    all_told: u64,
}

impl PlanMembers {
    /// A connection of a member is new.
    pub(in crate::proxy) fn note(&self, member: PlanMember) {
        let mut fresh = self.0.borrow_mut();
        if fresh.members.len() < MAX_PLAN_MEMBERS {
            fresh.members.insert(member);
        }
    }

    /// What to tell, at most once a second. `all` says of every connection what is to be told, where that is due.
    pub(in crate::proxy) fn take(&self, now: u64, all: impl FnOnce() -> Vec<PlanMember>) -> Option<Vec<PlanMember>> {
        let mut fresh = self.0.borrow_mut();
        if now.saturating_sub(fresh.told) < SECOND {
            return None;
        }
        fresh.told = now;
        if now.saturating_sub(fresh.all_told) >= AGAIN {
            fresh.all_told = now;
            let room = MAX_PLAN_MEMBERS.saturating_sub(fresh.members.len());
            fresh.members.extend(all().into_iter().take(room));
        }
        (!fresh.members.is_empty()).then(|| fresh.members.drain().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d06_new_ones_are_told_soon_and_all_again_and_never_too_many() {
        let members = PlanMembers::default();
        let member = |number: u32| PlanMember {
            source: gateway_common::source::Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64),
            principal: 1,
            plan: "gold".to_owned(),
        };
        let told = |now: u64| members.take(now * SECOND, || vec![member(1), member(2)]).map_or(0, |told| told.len());
        assert_eq!(told(100), 2);
        members.note(member(3));
        members.note(member(3));
        assert_eq!((told(101), told(102), told(119), told(120)), (1, 0, 0, 2));
        (0..10_000).for_each(|number| members.note(member(number)));
        assert_eq!(told(150), MAX_PLAN_MEMBERS);
    }
}
