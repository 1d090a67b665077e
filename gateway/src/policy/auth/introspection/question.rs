//! A question about a token: what its server is asked, and what comes of it.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use gateway_common::source::Source;

use super::{
    answer::{SIGNED_TYPE, is_signed},
    request::IntrospectionRequest,
    server::{AskedServer, ServerEvent, ServerResponse, TokenHash},
};
use crate::{
    os::clock::Now,
    policy::auth::{
        Identity,
        jwt::{KeySet, KeysLookup, statement},
    },
    refusal::{Refusal, Reject},
    settings::introspection::IntrospectionServer as Settings,
};

/// A question to ask a server. It stands for itself: whatever configuration is in force when the answer comes.
#[derive(Clone)]
pub struct Question {
    pub(super) server: Arc<AskedServer>,
    /// By which keys signed answers are verified.
    pub(super) keys: Option<Arc<KeySet>>,
    pub(super) token: Box<str>,
    pub(super) hash: TokenHash,
    /// Whose request caused it.
    pub(super) source: Source,
}

impl Question {
    /// What is the same for all questions about one token of one server, and for no others.
    #[must_use]
    pub const fn id(&self) -> [u8; 32] {
        self.hash
    }

    /// How its server is asked.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.server.settings
    }

    /// The longest that a request waits for what comes of it.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let keys = self.keys.as_ref().and_then(|keys| keys.fetch()).map_or(Duration::ZERO, |fetch| fetch.wait);
        // What is under way takes as long at most, and says how it ended.
        self.settings().outbound.timeout.saturating_add(keys).saturating_add(Duration::from_secs(1))
    }

    /// The key that a signed answer is by, where it has to be looked for first: the issuer's keys were rotated.
    #[must_use]
    pub fn missing_key(&self, received: &ServerResponse<'_>, now: Now) -> Option<KeysLookup> {
        let keys = self.keys.as_ref().filter(|_| is_signed(received.status, received.headers))?;
        let name = statement::missing_key(keys, received.body.trim_ascii(), now)?;
        Some(KeysLookup { set: Arc::clone(keys), name })
    }

    /// What another question about the same token has found since this one was made: then nobody is asked again.
    #[must_use]
    pub fn answered(&self, now: Now) -> Option<Result<Arc<Identity>, Refusal>> {
        let known = self.server.remember(&self.hash, now)?;
        // It was let through to ask.
        self.server.undecided();
        Some(known)
    }

    /// A place among the questions that are under way; `None`: there are too many.
    #[must_use]
    pub fn begin(&self) -> Option<UnderWay> {
        self.server.begin().then(|| UnderWay(Arc::clone(&self.server)))
    }

    /// What its server is asked. `nonce` has to be another each time.
    #[must_use]
    pub fn request(&self, nonce: u128, now: Now) -> IntrospectionRequest {
        self.server.request(&self.token, nonce, now)
    }

    /// Its server was not asked after all, or its answer cannot be read yet, for a reason of the gateway's own.
    #[must_use]
    pub fn unasked(&self, why: Cow<'static, str>) -> Refusal {
        self.server.undecided();
        Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, why) }
    }

    /// Remembers what came of asking, the answer or why there is none: whom the token proves. The event is for the
    /// operator.
    pub fn received(
        &self,
        received: Result<ServerResponse<'_>, &str>,
        now: Now,
    ) -> (Result<Arc<Identity>, Refusal>, Option<ServerEvent>) {
        let verify = |signed: &[u8]| match &self.keys {
            Some(keys) => statement::read(keys, SIGNED_TYPE, signed, now),
            None => Err("there is no issuer whose keys verify signed answers"),
        };
        let found = self.server.received(&self.hash, received, &verify, now);
        // Here, not where the request goes on: its client may be gone by now.
        self.server.settle(self.source, &self.hash, now);
        found
    }
}

/// A question is under way until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<AskedServer>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Why an answer proves nothing yet: for the log.
pub const NO_KEY: &str = "the answer is signed by a key that was not fetched yet, and no others can be fetched now";

/// Why nobody was asked: for the log.
pub const BUSY: &str = "too many questions to the introspection server are under way";

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        write!(out, "Question({:?})", self.server)
    }
}
