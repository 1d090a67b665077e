//! Token introspection (RFC 7662): whether a bearer token that says nothing by itself is good, as its server says.
//!
//! *Invariant:* a token is shown to one server alone, the one whose `token_prefix` it begins with. What is not certain is
//! refused: without an answer there is no identity, and no signal either, for that is no fault of the client. Everything
//! that is remembered has a fixed capacity and is keyed by a keyed hash of the token: no token stays in memory.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use gateway_common::source::Source;

use self::{question::Question, server::AskedServer};
use super::{
    Identity,
    invalid::Invalid,
    jwt::Jwt,
    lookup::{AuthOutcome, Lookup},
    role_paths::UnseenRoles,
};
use crate::{
    diagnostic::Diagnostic, identity::claim::ClaimPath, os::clock::Now, refusal::Refusal,
    settings::introspection::IntrospectionServer as Settings,
};

pub mod question;

mod answer;
mod breaker;
mod request;
mod server;

pub use answer::MAX_ANSWER;
pub use request::IntrospectionRequest;
pub use server::{RESULTS, ServerEvent, ServerResponse};

#[cfg(test)]
pub(super) mod tests;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 4 * 1024;

/// All servers that are asked about tokens.
#[derive(Debug, Default)]
pub struct Introspection {
    servers: Vec<Arc<AskedServer>>,
}

impl Introspection {
    /// Reads and checks what the gateway proves itself with.
    ///
    /// # Errors
    /// Every fault, under its key: `introspection.NAME.client_secret`.
    pub fn new(settings: &[Settings], kept: &[ClaimPath]) -> Result<Self, Vec<Diagnostic>> {
        Self::default().succeeded_by(settings, kept)
    }

    /// The servers of another configuration. What has not changed is shared, with all that is remembered.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(&self, settings: &[Settings], kept: &[ClaimPath]) -> Result<Self, Vec<Diagnostic>> {
        let (mut servers, mut diagnostics) = (Vec::new(), Vec::new());
        for settings in settings {
            let before = self.servers.iter().find(|server| server.settings == *settings && server.kept == kept);
            match before.map_or_else(|| AskedServer::new(settings, kept).map(Arc::new), |server| Ok(Arc::clone(server)))
            {
                Ok(server) => servers.push(server),
                Err(diagnostic) => diagnostics.push(diagnostic.under(&settings.key)),
            }
        }
        if diagnostics.is_empty() { Ok(Self { servers }) } else { Err(diagnostics) }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Of each server: its table, what became of requests with its tokens since the last call, in the order of
    /// [`RESULTS`], and whether it is left alone.
    pub fn take_counts(&self) -> impl Iterator<Item = (&str, [u64; RESULTS.len()], bool)> {
        self.servers.iter().map(|server| {
            let (counts, is_paused) = server.take_counts();
            (server.settings.key.as_str(), counts, is_paused)
        })
    }

    /// Where roles are read from that no token has had yet, of many.
    pub fn unseen_roles(&self) -> impl Iterator<Item = UnseenRoles> {
        self.servers.iter().flat_map(|server| server.role_paths.unseen())
    }

    /// Whether some server is asked about tokens that look like JWTs.
    #[must_use]
    pub fn accepts_jwts(&self, token: &[u8]) -> bool {
        self.find(token).is_some_and(|server| server.settings.accepts_jwts)
    }

    /// Judges a token by what is remembered. `answer`: what its server was found to say, where it was asked.
    pub(super) fn authenticate(
        &self,
        token: &[u8],
        source: Source,
        answer: Option<&Result<Arc<Identity>, Refusal>>,
        jwt: Option<&Arc<Jwt>>,
        now: Now,
    ) -> AuthOutcome {
        let Some(token) = std::str::from_utf8(token).ok().filter(|token| is_token(token)) else {
            return AuthOutcome::refused(Invalid::malformed("it is no bearer token (RFC 6750 2.1)").into());
        };
        let Some(server) = self.find(token.as_bytes()) else {
            return AuthOutcome::refused(Invalid::unfit("it begins as the tokens of no server do").into());
        };
        if let Some(answer) = answer {
            return answer.clone().into();
        }
        if is_jwt(token.as_bytes()) && !server.settings.accepts_jwts {
            return AuthOutcome::refused(
                Invalid::unfit("it is a JWT, and its server is asked about others alone").into(),
            );
        }
        let hash = server.hash(token);
        let keys = |server: &AskedServer| {
            let issuer = server.settings.issuer.as_deref().filter(|_| server.settings.signed)?;
            jwt?.keys_of(issuer).cloned()
        };
        match server.remember(&hash, now).or_else(|| server.admit(source, now).err().map(Err)) {
            Some(decided) => decided.into(),
            None => AuthOutcome::Needs(Lookup::Introspection(Question {
                server: Arc::clone(server),
                keys: keys(server),
                token: token.into(),
                hash,
                source,
            })),
        }
    }

    /// The one server that a token is shown to: that of the longest beginning that fits.
    fn find(&self, token: &[u8]) -> Option<&Arc<AskedServer>> {
        let fits = |server: &&Arc<AskedServer>| token.starts_with(server.settings.token_prefix.as_bytes());
        self.servers.iter().filter(fits).max_by_key(|server| server.settings.token_prefix.len())
    }
}

/// Whether a text can be a bearer token: what RFC 6750 2.1 calls `b64token`.
fn is_token(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    !letters.is_empty() && text.len() <= MAX_TOKEN && letters.bytes().all(is_letter)
}

/// Whether a token looks like a JWT: three parts, the first of which begins as a JSON object does in base64url, whether
/// a name follows the `{` or white space.
pub(super) fn is_jwt(token: &[u8]) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let header = parts.next().unwrap_or_default();
    let begins_as_object = match header {
        [b'e', b'w'..=b'z', ..] => true,
        // White space may stand before the object. No issuer is known that writes it.
        [b'C' | b'D' | b'I', ..] => {
            BASE64URL_NOPAD.decode(header).is_ok_and(|text| text.trim_ascii_start().starts_with(b"{"))
        }
        _ => false,
    };
    begins_as_object && parts.clone().count() == 2 && parts.all(|part| !part.is_empty())
}
