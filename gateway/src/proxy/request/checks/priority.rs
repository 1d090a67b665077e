//! Which class a request is of, and whether the gateway has too much to do for that class.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::{
    collections::mix::mix,
    os::clock,
    policy::admission::{Class, ClassMatcher, Shed},
    proxy::request::exchange::Exchange,
    refusal::{Refusal, Reject},
};

impl Exchange {
    /// The class of the request, now that it is known who asks.
    ///
    /// # Errors
    /// [`Reject::Unavailable`]: there is too much to do, and this class is not served now.
    #[inline]
    pub(in crate::proxy::request) fn prioritize(&self) -> Result<Class, Refusal> {
        let snapshot = self.listener.snapshot();
        let (Some(classes), Some(route)) = (&snapshot.classes, self.routing.route) else {
            return Ok(Class::default());
        };
        let class = classes.find(&ClassMatcher { identity: self.identity.as_deref(), route });
        self.connection.note_class(class, self.identity.is_some());
        if snapshot.settings.priority.overload.is_none() {
            return Ok(class);
        }
        let shed = if self.worker.shared.is_over_memory() && class != Class::default() {
            self.worker.shared.note_shed();
            Some((Shed::Memory, "over proxy.max_memory"))
        } else {
            let pressure = self.worker.pressure.get();
            let is_shed =
                pressure.is_on() && pressure.sheds(class, classes.count(), self.number_of_client(), clock::monotonic());
            is_shed.then_some((Shed::Cpu, "the worker has too much to do: [overload]"))
        };
        let Some((why, detail)) = shed else { return Ok(class) };
        classes.shed(class, why);
        Err(Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, detail) })
    }

    /// The upstream has, or has not, taken it.
    #[inline]
    pub(in crate::proxy::request) fn served(&self, class: Class, is_shed: bool) {
        match &self.listener.snapshot().classes {
            None => {}
            Some(classes) if is_shed => classes.shed(class, Shed::Upstream),
            Some(classes) => classes.serve(class),
        }
    }

    /// A number that tells those apart who share what is short: principals, and the sources of requests without one.
    pub(in crate::proxy::request) fn number_of_caller(&self) -> u64 {
        self.identity.as_deref().map_or_else(
            || self.number_of_client(),
            |identity| {
                let mut hasher = DefaultHasher::new();
                identity.principal().hash(&mut hasher);
                hasher.finish()
            },
        )
    }

    /// A number that clients are told apart by, wherever they connect.
    fn number_of_client(&self) -> u64 {
        match self.client.source.address() {
            std::net::IpAddr::V4(address) => mix(u32::from(address).into()),
            std::net::IpAddr::V6(address) => {
                let [first, second] = [u128::from(address) >> 64, u128::from(address) & u128::from(u64::MAX)];
                mix(u64::try_from(first).unwrap_or(0)) ^ u64::try_from(second).unwrap_or(0)
            }
        }
    }
}
