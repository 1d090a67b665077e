//! What HTTP/1 and HTTP/2 ask of whoever answers their requests. The protocols read requests and write responses; they
//! know no route, no upstream, no log and no ban.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{Method, Response, Version, request::Parts, uri::PathAndQuery};
use http_body::Body;

use super::raw_head::RawHead;
use crate::{
    refusal::Refusal,
    settings::{proxy::HeadLimits, timeouts::Timeouts},
};

/// How a request begins: its method, its version, and its path as it came, where it has one.
pub(super) type RequestLine = (Method, Version, Option<PathAndQuery>);

/// Answers the requests of one connection.
pub(super) trait Service {
    /// The body of a request. The default is none.
    type RequestBody: Default;
    type ResponseBody: SendBody;

    /// How large the head of a request may be.
    fn head_limits(&self) -> HeadLimits;

    /// How long a client may take.
    fn timeouts(&self) -> Timeouts;

    /// The response to a request.
    fn respond(
        &self,
        head: Box<Parts>,
        body: Self::RequestBody,
    ) -> impl Future<Output = Response<Self::ResponseBody>> + 'static;

    /// The response to what is no request, or is one that is too large. `line`: how it begins, where that could be read.
    fn refuse(&self, line: Option<RequestLine>, refusal: Refusal) -> Response<Self::ResponseBody>;

    /// The response in place of one that broke off before any of it was sent. `None`: there is none.
    fn replace(&self, broken: &mut Self::ResponseBody) -> Option<Response<Self::ResponseBody>>;

    /// The response in place of a tunnel whose client has sent bytes before it knew of one.
    fn refuse_tunnel(&self, tunnel: <Self::ResponseBody as SendBody>::Tunnel) -> Response<Self::ResponseBody>;

    /// Notes a request that gets no response.
    fn malformed(&self, detail: &'static str);

    /// Notes that the client is too slow with taking a response.
    fn too_slow(&self, detail: &'static str);
}

/// The body of a response, as the protocols send it.
pub(super) trait SendBody: Body<Data = Bytes> + Unpin {
    /// What carries the bytes of a connection that speaks no HTTP any more.
    type Tunnel;

    /// The tunnel that the connection becomes once the head is sent. `None`: it stays what it is.
    fn take_tunnel(&mut self) -> Option<Self::Tunnel>;

    /// Whether the request was answered before its body was read: the client may still be sending it.
    fn leaves_unread(&self) -> bool;

    /// The head of the response, where that passes as it came from the upstream. Its header map has additions alone.
    fn take_raw_head(&mut self) -> Option<RawHead>;

    /// How long a client may take nothing of it, and how many bytes it has to take a second while it is waited for.
    /// `None`: as long as it likes.
    fn stall_limits(&self) -> Option<(Duration, u64)>;
}

/// Why a request's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Its framing is broken.
    Broken,
    /// The client left.
    Gone,
    /// It is larger than the route takes.
    TooLarge,
    /// The client stopped sending.
    TooSlow,
}

impl fmt::Display for BodyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Broken => "request body broken",
            Self::Gone => "client left",
            Self::TooLarge => "request body too large",
            Self::TooSlow => "request body too slow",
        })
    }
}

impl Error for BodyError {}
