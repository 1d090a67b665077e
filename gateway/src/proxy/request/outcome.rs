//! What came of a request: what the log, metrics and rules are told of it.

use std::{borrow::Cow, cell::Cell, rc::Rc, sync::Arc};

use crate::{
    proxy::upstream::Attempts,
    refusal::{RefusalRow, violation::Violation},
    signal::Signal,
};

/// What the log says of a client that left before it was answered.
pub(super) const CLIENT_LEFT: u16 = 499;

/// What came of the request.
pub(in crate::proxy) struct Outcome {
    pub(in crate::proxy) status: u16,
    /// Bytes of the request's body so far.
    pub(in crate::proxy) bytes_in: Option<Rc<Cell<u64>>>,
    pub(in crate::proxy) bytes_out: u64,
    /// Messages of gRPC in the request's body so far.
    pub(super) messages_in: Option<Rc<Cell<u64>>>,
    /// Why a tunnel ended, if neither side ended it.
    pub(in crate::proxy) ended: Option<&'static str>,
    /// Whether it went to its upstream.
    pub(super) forwarded: bool,
    pub(super) refused: Option<(RefusalRow, Cow<'static, str>)>,
    /// The limits that it is over, by their names.
    pub(super) policies: Box<[Arc<str>]>,
    /// The rules of its route that it breaks.
    pub(super) violations: Box<[Violation]>,
    /// The rule that asked for a ban because of it.
    pub(super) rule: Option<Box<str>>,
    /// What would have been refused, were it enforced: the requirement in shadow or `waf`, and why.
    pub(super) would_deny: Option<(&'static str, Cow<'static, str>)>,
    /// What it says about its source besides what its refusal does.
    pub(super) signal: Option<Signal>,
    /// What a contract that only reports would have refused it for.
    pub(super) would_refuse: Option<Cow<'static, str>>,
    /// What of it is unusual for its principal.
    pub(super) unusual: Option<&'static str>,
    /// How it was forwarded, once that is over.
    pub(super) attempts: Attempts,
    /// The status of a gRPC call.
    pub(super) grpc_status: Option<u32>,
}

impl Outcome {
    /// What the log says of why it ended like this, or of all that would have refused it.
    pub(super) fn detail(&self) -> Option<Cow<'_, str>> {
        if let Some((_, detail)) = &self.refused {
            return Some(Cow::Borrowed(&**detail));
        }
        match (&self.would_deny, &self.would_refuse) {
            (Some((_, one)), Some(other)) => Some(format!("{one}; {other}").into()),
            (Some((_, detail)), None) | (None, Some(detail)) => Some(Cow::Borrowed(&**detail)),
            (None, None) => self.unusual.or(self.ended).map(Cow::Borrowed),
        }
    }

    /// What would have refused it, for the log: a requirement in shadow, the firewall, or the document of its API.
    pub(super) fn would_deny(&self) -> Option<&'static str> {
        let of_document = self.would_refuse.as_ref().map(|_| "api");
        self.would_deny.as_ref().map(|(what, _)| *what).or(of_document)
    }

    /// What it says about its source, for the log.
    pub(super) fn signal(&self) -> Option<Signal> {
        let refused = self.refused.as_ref().and_then(|(row, _)| row.signal);
        let unusual = self.unusual.filter(|_| self.refused.is_none()).map(|_| Signal::Unusual);
        self.signal.or(refused).or(unusual)
    }

    /// What is logged if the client leaves before it is answered.
    pub(super) fn unanswered() -> Self {
        Self {
            status: CLIENT_LEFT,
            bytes_in: None,
            bytes_out: 0,
            messages_in: None,
            ended: None,
            forwarded: false,
            refused: None,
            policies: Box::default(),
            violations: Box::default(),
            rule: None,
            would_deny: None,
            signal: None,
            would_refuse: None,
            unusual: None,
            attempts: Attempts::none(),
            grpc_status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reject;

    #[test]
    fn all_that_would_have_refused_a_request_is_told() {
        let waf = ("waf", Cow::Borrowed("waf a: xss"));
        let document = Cow::Borrowed("query limit: maximum");
        for (would_deny, would_refuse, is_refused, expect) in [
            (None, None, false, (None, None)),
            (Some(waf.clone()), None, false, (Some("waf"), Some("waf a: xss"))),
            (None, Some(document.clone()), false, (Some("api"), Some("query limit: maximum"))),
            (Some(waf.clone()), Some(document.clone()), false, (Some("waf"), Some("waf a: xss; query limit: maximum"))),
            (Some(waf), Some(document), true, (Some("waf"), Some("no token"))),
        ] {
            let refused = is_refused.then(|| (Reject::BadRequest.row(), Cow::Borrowed("no token")));
            let outcome = Outcome { would_deny, would_refuse, refused, ..Outcome::unanswered() };
            assert_eq!((outcome.would_deny(), outcome.detail().as_deref()), expect);
        }
    }
}
