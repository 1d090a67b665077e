//! What is observed: a signal, whose it is, and what of the request rules tell apart.

use std::{net::IpAddr, sync::Arc};

use gateway_common::source::Source;

use super::standing::AnswerClass;
use crate::{signal::Signal, web::request_id::RequestId};

/// Whom a bucket is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// Its hash.
    Ja4(u64),
    /// Its hash.
    Principal(u64),
    /// Its hash.
    Session(u64),
    /// A source, or the network that a rule adds up.
    Source(Source),
    /// The hash of a bucket that is about others than one source, and of a source that has come once since it is full.
    Trial(u64),
}

/// A signal to count.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Which.
    pub signal: Signal,
    /// Who is told apart by limits and bans.
    pub source: Source,
    /// The client's.
    pub address: IpAddr,
    /// Who the client is, or says it is; `None`: nobody knows.
    pub principal: Option<&'a str>,
    /// The request.
    pub id: RequestId,
    /// The limits that refused it.
    pub limits: &'a [Arc<str>],
    /// What else rules tell requests apart by.
    pub facts: ObservedFacts<'a>,
}

/// What rules tell requests apart by. What is not known is never counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObservedFacts<'a> {
    /// The canonical path.
    pub path: Option<&'a str>,
    /// What [`Detector::agent`](super::Detector::agent) made of the `User-Agent`.
    pub agent: Option<u32>,
    /// The fingerprint of the TLS hello.
    pub ja4: Option<&'a str>,
    /// The route, by its place, where an upstream has answered.
    pub route: Option<usize>,
    /// When the token ends by which the principal is proved: with the principal it tells one session from another.
    pub session: Option<u64>,
}

/// An upstream's answer.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamAnswer {
    /// Of which route, by its place.
    pub route: usize,
    /// By which upstream, by its place.
    pub upstream: usize,
    /// The status.
    pub status: u16,
    /// Whether the client has proved who it is.
    pub is_identified: bool,
}

impl UpstreamAnswer {
    /// What it says about the client, where it says anything.
    #[must_use]
    pub const fn signal(&self) -> Option<Signal> {
        match self.class() {
            None => None,
            Some(AnswerClass::Served) => Some(Signal::Served),
            Some(class) => class.failure(),
        }
    }

    pub(super) const fn class(&self) -> Option<AnswerClass> {
        match self.status {
            101 | 200..=399 => Some(AnswerClass::Served),
            401 => Some(AnswerClass::Unauthorized),
            403 => Some(AnswerClass::Forbidden),
            404 | 410 => Some(AnswerClass::NotFound),
            500..=599 => Some(AnswerClass::Error),
            _ => None,
        }
    }
}
