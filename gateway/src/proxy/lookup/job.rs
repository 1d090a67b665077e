//! What a worker or the control thread hands to the thread that looks things up.

use std::{net::IpAddr, sync::Arc};

use gateway_common::source::Source;
use tokio::sync::oneshot;

use crate::{
    policy::{
        auth::{Lookup, LookupAnswer, jwt::KeySet},
        detect::{HostQuestion, Observed, ObservedFacts},
    },
    signal::Signal,
    tls::hello::Ja4,
    web::request_id::RequestId,
};

/// For whom something is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Requester {
    pub(in crate::proxy) source: Source,
    pub(in crate::proxy) address: IpAddr,
    /// The trusted proxy that the request came through.
    pub(in crate::proxy) relay: Option<IpAddr>,
    pub(in crate::proxy) id: RequestId,
    /// The fingerprint of its TLS hello: rules may add up by it.
    pub(in crate::proxy) ja4: Option<Ja4>,
    /// It is a trusted proxy itself: nothing is held against it.
    pub(in crate::proxy) is_trusted: bool,
}

impl Requester {
    /// What rules count of it if its token is by a key that is nobody's: as it is noted, so it is taken back.
    pub(in crate::proxy) fn observed(&self) -> Observed<'_> {
        let Self { source, address, id, .. } = *self;
        let ja4 = self.ja4.as_ref().and_then(|ja4| std::str::from_utf8(ja4).ok());
        let facts = ObservedFacts { ja4, ..ObservedFacts::default() };
        Observed { signal: Signal::UnknownKey, source, address, principal: None, id, limits: &[], facts }
    }
}

/// What the thread has to do.
pub(super) enum LookupJob {
    /// Find this out.
    Find(Lookup, Requester, oneshot::Sender<LookupAnswer>),
    /// Keep these keys up to date, and no others.
    Keep(Vec<Arc<KeySet>>),
    /// Find out whether this is a crawler.
    Verify(HostQuestion),
}
