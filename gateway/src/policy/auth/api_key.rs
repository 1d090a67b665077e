//! API keys: whether a request presents one that is in force, and whom it names.
//!
//! A key is found by its id and verified by a hash: HMAC-SHA-256, by the pepper, of the SHA-256 of its text. Whoever reads
//! the store has no key, and whoever has the pepper as well has none either: 256 random bits cannot be guessed.
//!
//! *Invariant:* nothing of a secret is in a refusal. A key that is not in the table takes as long as one that is.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::HeaderMap;

use self::table::{Key, TableState};
use crate::{
    diagnostic::Diagnostic,
    os::clock::Now,
    policy::auth::{Identity, revocation::Revocable, tables::CredentialTables},
    refusal::{Refusal, Reject, TokenFault},
    settings::api_keys,
    signal::Signal,
};

mod pepper;
pub mod record;
pub mod table;
pub mod text;

pub use pepper::{Pepper, Tag, sha256};

#[cfg(test)]
mod tests;

/// Keys that other programs have made are no longer than this, in bytes.
const LONGEST: usize = 512;

/// Where a request comes from, and to which host it goes.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The client's address; `None`: a trusted proxy does not name it.
    pub client: Option<IpAddr>,
    /// The host that is asked, without its port, in lower case.
    pub host: &'a str,
}

/// The API keys of one configuration: where they stand in a request, and which there are.
#[derive(Debug)]
pub struct ApiKeys {
    settings: api_keys::Settings,
    tables: Arc<CredentialTables>,
}

impl ApiKeys {
    /// Over the tables, which outlive every configuration.
    ///
    /// # Errors
    /// The pepper is too short.
    pub fn new(settings: &api_keys::Settings, tables: Arc<CredentialTables>) -> Result<Self, Diagnostic> {
        if settings.pepper.as_ref().is_some_and(|file| file.bytes.len() < Pepper::SHORTEST) {
            let what = format!("has fewer than {} bytes: it could be guessed", Pepper::SHORTEST);
            let wrong = Diagnostic::new("api_keys.pepper_file", what);
            return Err(wrong.hint("write 32 random bytes to it: head -c 32 /dev/urandom"));
        }
        Ok(Self { settings: settings.clone(), tables })
    }

    /// The key of a request; `None`: the request has none.
    ///
    /// # Errors
    /// [`Reject::BadRequest`]: there are two.
    pub fn find<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Refusal> {
        let mut values = headers.get_all(&self.settings.header).iter();
        let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
        if more.is_some() {
            return Err(Refusal::new(Reject::BadRequest, "more than one API key"));
        }
        Ok(Some(value.as_bytes()))
    }

    /// Judges a key.
    ///
    /// # Errors
    /// [`Reject::InvalidCredentials`], whose detail names the check that failed and whose signal says what that means;
    /// [`Reject::Unavailable`] while it is not known which keys there are.
    pub fn judge(&self, key: &[u8], used: Use<'_>, now: Now) -> Result<Arc<Identity>, Refusal> {
        let id = match text::read(key, &self.settings.prefix) {
            Ok(id) => Some(id),
            Err(text::Malformed::Checksum) => {
                return Err(refused(TokenFault::Unfit, "the API key has a wrong checksum: a part of it is wrong"));
            }
            Err(text::Malformed::Foreign) => None,
        };
        let state = self.tables.keys.state();
        let pepper = match &**state {
            TableState::Ready(pepper) => pepper,
            TableState::Unknown(why) => return Err(Refusal::new(Reject::Unavailable, why.clone())),
        };
        if id.is_none() && (key.len() > LONGEST || !self.tables.keys.has_foreign()) {
            return Err(refused(TokenFault::Unfit, "the API key is not in the form of this gateway's keys"));
        }
        let sha256 = sha256(key);
        let id = id.unwrap_or_else(|| text::KeyId::of_foreign(&sha256));
        let tag = pepper.tag(&sha256);
        let known = self.tables.keys.find(id);
        // Whose key it says that it is, by its id: a name would tell which keys there are.
        let claiming = |refusal: Refusal| refusal.claiming(&format!("key:{id}"));
        // As long, whether there is such a key or not.
        let is_right = verify_slices_are_equal(known.as_ref().map_or(&[0; 32], |known| &known.tag), &tag).is_ok();
        let Some(known) = known else {
            if self.tables.keys.has_lost() {
                // Nothing is held against a client whose key may be among those.
                let why = format!("there is no API key {id}, and keys were lost");
                let nobody_to_blame = Refusal { signal: None, ..Refusal::new(Reject::InvalidCredentials, why) };
                return Err(claiming(nobody_to_blame));
            }
            return Err(claiming(refused(TokenFault::UnknownKey, format!("there is no API key {id}"))));
        };
        if !is_right {
            return Err(claiming(refused(TokenFault::Forged, format!("not the secret of the API key {id}"))));
        }
        let seconds = now.unix_seconds();
        let listed = Revocable { key: Some(id.0), ..Revocable::default() };
        let is_revoked = known.is_revoked || self.tables.revocations.revokes(&listed);
        check(&known, is_revoked, id, used, seconds).map_err(claiming)?;
        self.tables.keys.note_use(id, &known, seconds);
        Ok(known.identity(id))
    }
}

fn check(key: &Key, is_revoked: bool, id: text::KeyId, used: Use<'_>, seconds: u64) -> Result<(), Refusal> {
    let name = &key.name;
    if is_revoked {
        return Err(refused(TokenFault::Revoked, format!("the API key {id} ({name}) is revoked")));
    }
    if key.expires.is_some_and(|expires| expires <= seconds) {
        return Err(refused(TokenFault::Expired, format!("the API key {id} ({name}) has expired")));
    }
    // The client is not told that its key is right: it may have found it.
    let elsewhere =
        |what: String| Refusal { signal: Some(Signal::Forbidden), ..Refusal::new(Reject::InvalidCredentials, what) };
    if !key.profile.allows_source(used.client) {
        let from = used.client.map_or_else(|| "an unknown address".to_owned(), |client| client.to_string());
        return Err(elsewhere(format!("the API key {id} ({name}) may not be used from {from}")));
    }
    if !key.profile.allows_host(used.host) {
        return Err(elsewhere(format!("the API key {id} ({name}) may not be used for {}", used.host)));
    }
    Ok(())
}

fn refused(fault: TokenFault, detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal { signal: Some(fault.signal()), ..Refusal::new(Reject::InvalidCredentials, detail) }
}
