//! What a line of an access log says of one request, whatever wrote it.

use std::net::IpAddr;

use crate::{signal::Signal, web::request_id::RequestId};

/// What is known of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When it began: milliseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) client: IpAddr,
    pub(super) path: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) ja4: Option<String>,
    /// Who proved to have sent it.
    pub(super) principal: Option<String>,
    pub(super) route: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) limit: Option<String>,
    pub(super) status: u16,
    /// The gateway's own: those of other servers say nothing to it.
    pub(super) id: Option<RequestId>,
    /// A gateway wrote it: it says what it refused, and why.
    pub(super) is_ours: bool,
    pub(super) what: What,
}

/// What the line says about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An upstream has answered: the status tells.
    Answered,
    /// Nothing: the gateway refused it for no fault of the client, or its client had left.
    Nothing,
    /// The gateway's own word.
    Signal(Signal),
}

impl Record {
    /// What a line of text says, which no gateway wrote.
    pub(super) fn of_text(time: jiff::Timestamp, client: IpAddr, request: &str, status: u16) -> Option<Self> {
        let path = request.split(' ').nth(1).and_then(path_of);
        Some(Self {
            time: u64::try_from(time.as_millisecond()).ok()?,
            client: client.to_canonical(),
            what: of_others(status, path.is_some()),
            path,
            agent: None,
            ja4: None,
            principal: None,
            route: None,
            upstream: None,
            limit: None,
            status,
            id: None,
            is_ours: false,
        })
    }
}

/// The path of a request target or URL, without its query.
pub(super) fn path_of(target: &str) -> Option<String> {
    let from = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.get(rest.find('/')?..)?,
        _ => target,
    };
    let path = from.split(['?', '#']).next().unwrap_or(from);
    path.starts_with('/').then(|| path.to_owned())
}

/// What a status says where it is not said who answered. These are the server's own, by their meaning. `has_path`: the
/// request has one, or it is not known.
pub(super) const fn of_others(status: u16, has_path: bool) -> What {
    match status {
        408 => What::Signal(Signal::SlowClient),
        413 | 414 | 431 => What::Signal(Signal::TooLarge),
        429 => What::Signal(Signal::OverLimit),
        400 if !has_path => What::Signal(Signal::BadRequest),
        0 | 499 => What::Nothing,
        _ => What::Answered,
    }
}
