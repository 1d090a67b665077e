//! Which class a request is of, and what became of the requests of each.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    identity::claim::ClaimPath,
    policy::{
        auth::Identity,
        limit::{PlanMembership, plan_of},
    },
    settings::{
        limit::Plan,
        priority::{self, MAX_CONFIGURED},
        route::Route,
    },
};

/// The most classes.
pub(super) const MAX_CLASSES: usize = MAX_CONFIGURED + 2;

/// The class of whoever is known, and in no other.
const AUTHENTICATED: &str = "authenticated";

/// The class of everybody else.
const UNKNOWN: &str = "unknown";

/// A class: 0 is the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(u8);

impl Class {
    /// Its place: 0 is the highest.
    pub(super) fn place(self) -> usize {
        usize::from(self.0).min(MAX_CLASSES - 1)
    }

    /// The class at a place.
    #[cfg(test)]
    pub(super) const fn at(place: u8) -> Self {
        Self(place)
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The worker has too much to do.
    Cpu,
    /// The proxy has too much memory.
    Memory,
    /// Its upstream has too many requests.
    Upstream,
}

impl Shed {
    /// Every one, in the order of their declaration, as metrics have them.
    pub const ALL: [(Self, &str); 3] = [(Self::Cpu, "cpu"), (Self::Memory, "memory"), (Self::Upstream, "upstream")];
}

/// What decides the class of a request.
#[derive(Clone, Copy, Debug)]
pub struct ClassMatcher<'a> {
    /// Whoever asks, where that is known.
    pub identity: Option<&'a Identity>,
    /// The index of the route.
    pub route: usize,
}

/// The classes of a configuration, the highest first.
#[derive(Debug)]
pub struct Classes {
    all: Box<[CompiledClass]>,
    plans: Box<[PlanMembership]>,
    authenticated: Class,
    unknown: Class,
}

#[derive(Debug)]
struct CompiledClass {
    name: Box<str>,
    /// Whether it is one that was configured.
    rules: Option<ClassRules>,
    counts: Arc<ClassCounts>,
}

#[derive(Debug)]
struct ClassRules {
    needs_identity: bool,
    /// Indices into [`Classes::plans`].
    plans: Box<[usize]>,
    roles: Box<[String]>,
    principals: Box<[String]>,
    /// By the index of the route; `None`: all of them.
    routes: Option<Box<[bool]>>,
}

/// What became of the requests of a class.
#[derive(Debug, Default)]
struct ClassCounts {
    served: AtomicU64,
    /// Connections.
    closed: AtomicU64,
    shed: [AtomicU64; Shed::ALL.len()],
}

/// What is told of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSum {
    /// Its name.
    pub name: String,
    /// Requests that went on.
    pub served: u64,
    /// Idle connections that were closed as there was little room for others.
    pub closed: u64,
    /// Requests that were refused, in the order of [`Shed::ALL`].
    pub shed: [u64; Shed::ALL.len()],
}

impl Classes {
    /// Compiles the classes. `kept`: the claims that identities keep. `before`: the classes until now; those of the same
    /// name go on with their counts.
    #[must_use]
    pub fn new(
        settings: &priority::Settings,
        plans: &[Plan],
        routes: &[Route],
        kept: &[ClaimPath],
        before: Option<&Self>,
    ) -> Self {
        let count = |name: &str| {
            let known = before.and_then(|before| before.all.iter().find(|class| &*class.name == name));
            known.map(|known| Arc::clone(&known.counts)).unwrap_or_default()
        };
        let mut all: Vec<(i64, CompiledClass)> = Vec::new();
        for class in settings.classes.iter().take(MAX_CONFIGURED) {
            let rules = Some(ClassRules::new(class, plans, routes));
            all.push((
                class.rank,
                CompiledClass { name: class.name.as_str().into(), rules, counts: count(&class.name) },
            ));
        }
        for (rank, name) in [(0, AUTHENTICATED), (-1, UNKNOWN)] {
            all.push((rank, CompiledClass { name: name.into(), rules: None, counts: count(name) }));
        }
        // Among equals, what was configured counts first.
        all.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let place = |name: &str| {
            let place = all.iter().position(|(_, class)| &*class.name == name && class.rules.is_none());
            Class(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0))
        };
        let (authenticated, unknown) = (place(AUTHENTICATED), place(UNKNOWN));
        Self {
            plans: plans.iter().map(|plan| PlanMembership::new(plan, kept)).collect(),
            all: all.into_iter().map(|(_, class)| class).collect(),
            authenticated,
            unknown,
        }
    }

    /// The class of a request.
    #[must_use]
    pub fn find(&self, asks: &ClassMatcher<'_>) -> Class {
        if self.all.len() > 2 {
            let plan = asks.identity.and_then(|identity| plan_of(&self.plans, identity));
            let fits = |class: &CompiledClass| class.rules.as_ref().is_some_and(|rules| rules.fit(asks, plan));
            if let Some(place) = self.all.iter().position(fits) {
                return Class(u8::try_from(place).unwrap_or(u8::MAX));
            }
        }
        if asks.identity.is_some() { self.authenticated } else { self.unknown }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.all.len()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, class: Class) -> &str {
        self.all.get(class.place()).map_or(UNKNOWN, |class| &class.name)
    }

    /// A request of this class goes on.
    pub fn serve(&self, class: Class) {
        if let Some(class) = self.all.get(class.place()) {
            class.counts.served.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request of this class is refused.
    pub fn shed(&self, class: Class, why: Shed) {
        if let Some(count) = self.all.get(class.place()).and_then(|class| class.counts.shed.get(why as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request of somebody who is not known yet is refused.
    pub fn shed_unknown(&self, why: Shed) {
        self.shed(self.unknown, why);
    }

    /// So many idle connections on which nobody is known are closed to make room.
    pub fn close_unknown(&self, connections: u64) {
        if let Some(class) = self.all.get(self.unknown.place()) {
            class.counts.closed.fetch_add(connections, Ordering::Relaxed);
        }
    }

    /// What became of requests so far.
    #[must_use]
    pub fn sums(&self) -> Vec<ClassSum> {
        let sum = |class: &CompiledClass| ClassSum {
            name: class.name.to_string(),
            served: class.counts.served.load(Ordering::Relaxed),
            closed: class.counts.closed.load(Ordering::Relaxed),
            shed: class.counts.shed.each_ref().map(|count| count.load(Ordering::Relaxed)),
        };
        self.all.iter().map(sum).collect()
    }
}

impl ClassRules {
    fn new(class: &priority::PriorityClass, plans: &[Plan], routes: &[Route]) -> Self {
        let plan = |name: &String| plans.iter().position(|plan| plan.name == *name);
        let is_called = |route: &Route| class.routes.iter().any(|name| route.is_called(name));
        Self {
            needs_identity: class.needs_identity(),
            plans: class.plans.iter().filter_map(plan).collect(),
            roles: class.roles.as_slice().into(),
            principals: class.principals.as_slice().into(),
            routes: (!class.routes.is_empty()).then(|| routes.iter().map(is_called).collect()),
        }
    }

    fn fit(&self, asks: &ClassMatcher<'_>, plan: Option<usize>) -> bool {
        if self.routes.as_ref().is_some_and(|routes| routes.get(asks.route) != Some(&true)) {
            return false;
        }
        if !self.needs_identity {
            return true;
        }
        asks.identity.is_some_and(|identity| {
            plan.is_some_and(|plan| self.plans.contains(&plan))
                || self.principals.iter().any(|principal| principal == identity.principal())
                || identity.roles().any(|role| self.roles.iter().any(|own| own == role))
        })
    }
}
