//! The plan of the client at the other end of a connection, where that gives its source a budget in the kernel.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Weak},
};

use gateway_common::source::Source;

use crate::{
    message::PlanMember,
    policy::auth::{Identity, tables::CredentialTables},
};

/// The plan that a client has proved to have over a connection; most have none.
#[derive(Default)]
pub(in crate::proxy) struct ProvedPlan {
    proved: RefCell<Option<Box<Proved>>>,
    /// Who was found to have none, by the configuration of this number.
    without: RefCell<(Weak<Identity>, u64)>,
}

struct Proved {
    plan: Box<str>,
    identity: Arc<Identity>,
}

impl ProvedPlan {
    /// The client may have proved to have a plan: what to tell the guard. That it has one is asked for once in the life of a
    /// connection; that it has none, once for each identity and `configuration`, which is a number.
    pub(in crate::proxy) fn prove<'a>(
        &self,
        source: Source,
        identity: &Arc<Identity>,
        configuration: u64,
        plan: impl FnOnce() -> Option<&'a str>,
    ) -> Option<PlanMember> {
        let has_none = || {
            let without = self.without.borrow();
            // While the weak pointer is here, nobody else gets its address.
            without.0.as_ptr() == Arc::as_ptr(identity) && without.1 == configuration
        };
        if self.proved.borrow().is_some() || has_none() {
            return None;
        }
        let Some(plan) = plan() else {
            *self.without.borrow_mut() = (Arc::downgrade(identity), configuration);
            return None;
        };
        let proved = Proved { plan: plan.into(), identity: Arc::clone(identity) };
        let member = proved.member(source);
        *self.proved.borrow_mut() = Some(Box::new(proved));
        Some(member)
    }

    /// What to tell the guard again, for as long as the proof holds. `now` is in seconds since the Unix epoch.
    pub(in crate::proxy) fn member(&self, source: Source, tables: &CredentialTables, now: u64) -> Option<PlanMember> {
        let mut proved = self.proved.borrow_mut();
        let holds = |proved: &Proved| proved.identity.expires() >= now && !tables.is_revoked(&proved.identity, now);
        if proved.as_deref().is_some_and(|proved| !holds(proved)) {
            *proved = None;
        }
        proved.as_ref().map(|proved| proved.member(source))
    }
}

impl Proved {
    fn member(&self, source: Source) -> PlanMember {
        // Without a random key: all proxies give the same principals the same numbers.
        let mut hasher = DefaultHasher::new();
        self.identity.principal().hash(&mut hasher);
        PlanMember { source, principal: hasher.finish(), plan: self.plan.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_of_while_what_proved_it_holds() {
        let (plan, tables) = (ProvedPlan::default(), CredentialTables::default());
        let (source, ada) = ("192.0.2.7".parse().unwrap(), Arc::new(Identity::of("ada", &[])));
        assert_eq!(plan.member(source, &tables, 0), None);
        let eve = Arc::new(Identity::of("eve", &[]));
        assert_eq!(plan.prove(source, &eve, 1, || None), None);
        assert_eq!(plan.prove(source, &eve, 1, || panic!("it is known that it has none")), None);
        assert_eq!(plan.prove(source, &ada, 1, || None), None, "another client over the same connection");
        let told = plan.prove(source, &ada, 2, || Some("gold")).unwrap();
        assert_eq!((told.source, told.plan.as_str()), (source, "gold"));
        assert_eq!(plan.prove(source, &ada, 1, || Some("silver")), None, "once in the life of a connection");
        assert_eq!(plan.member(source, &tables, 0), Some(told));
        assert_eq!(plan.member(source, &tables, 1), None, "the token has expired");
        assert_eq!(plan.member(source, &tables, 0), None);
    }
}
