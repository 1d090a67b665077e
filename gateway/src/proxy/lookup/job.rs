//! What a worker or the control thread hands to the thread that looks things up.

use std::{net::IpAddr, sync::Arc};

use gateway_common::source::Source;
use tokio::sync::oneshot;

use crate::{
    policy::{
        auth::{Lookup, LookupAnswer, jwt::KeySet},
        detect::HostQuestion,
    },
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
    /// It is a trusted proxy itself: nothing is held against it.
    pub(in crate::proxy) is_trusted: bool,
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
