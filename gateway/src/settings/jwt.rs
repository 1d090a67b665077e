//! `[jwt]` and `[issuer.NAME]`: whose tokens are accepted, and how strictly.

use std::time::Duration;

use super::{claims::ClaimRules, outbound};
use crate::{identity::claim::ClaimPath, os::file::NamedFile, web::url::Url};

/// Whose tokens are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Each has another `iss`.
    pub issuers: Vec<Issuer>,
    /// `jwt.cache`: how many verified tokens are remembered, over all issuers and workers.
    pub cache: usize,
    /// The claims that conditions of routes look at: what is remembered of a token beside its principal and roles.
    pub kept: Vec<ClaimPath>,
    /// How the principals of introspection servers begin.
    pub others: Vec<String>,
}

impl Settings {
    /// Whether a subject of an issuer without a name begins as the principals of another do.
    #[must_use]
    pub fn is_others(&self, subject: &str) -> bool {
        let begins = |name: &str| subject.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        let names = self.issuers.iter().filter_map(|other| other.rules.name.as_deref());
        names.chain(self.others.iter().map(String::as_str)).any(begins)
    }
}

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Its table: `jwt`, or `issuer.NAME`.
    pub key: String,
    /// `issuer`: what `iss` must be, byte for byte.
    pub issuer: String,
    /// What its tokens are verified by.
    pub keys: KeySource,
    /// `type`: what the header's `typ` must be, without regard to case; `None` for any that is not for something else.
    pub typ: Option<String>,
    /// What of its tokens' claims counts.
    pub rules: ClaimRules,
}

/// What tokens are verified by.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `discovery`: a key set of public keys, fetched from where the issuer's metadata says that it is. The URL is the
    /// issuer's own.
    Discovery(Box<KeyFetch>),
    /// `jwks`: a key set (RFC 7517) of public keys.
    Jwks(NamedFile),
    /// `secret`: what issuer and gateway share, for HMAC.
    Secret(NamedFile),
    /// `jwks_url`: a key set of public keys, fetched.
    Url(Box<KeyFetch>),
}

impl KeySource {
    /// How the keys are fetched, where they are.
    #[must_use]
    pub const fn fetch(&self) -> Option<&KeyFetch> {
        match self {
            Self::Discovery(fetch) | Self::Url(fetch) => Some(fetch),
            Self::Jwks(_) | Self::Secret(_) => None,
        }
    }

    /// The file with the key set, where it is in one.
    #[must_use]
    pub const fn key_set_file(&self) -> Option<&NamedFile> {
        match self {
            Self::Jwks(file) => Some(file),
            Self::Discovery(_) | Self::Secret(_) | Self::Url(_) => None,
        }
    }

    /// Whether it is a secret that issuer and gateway share.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

/// How keys are fetched: `[issuer.NAME.fetch]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetch {
    /// Where.
    pub url: Url,
    /// How the server there is asked.
    pub server: outbound::OutboundServer,
    /// How long a request waits for keys at most. `wait`.
    pub wait: Duration,
    /// The longest time between two fetches. `refresh`.
    pub refresh: Duration,
    /// The shortest time between two fetches. `cooldown`.
    pub cooldown: Duration,
    /// How long keys are good after the last fetch that brought them. `stale_for`.
    pub stale_for: Duration,
}

/// Keys that were not confirmed for so long are told of, if they are good for much longer.
const STALE: Duration = Duration::from_secs(3_600);

impl KeyFetch {
    /// After which time without a fetch that succeeds somebody is told: before the keys are no longer good, and not while
    /// one fetch has failed alone.
    #[must_use]
    pub fn told_after(&self) -> Duration {
        STALE.min(self.stale_for / 2).max(self.refresh * 2)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{path::PathBuf, sync::Arc};

    use super::*;
    use crate::settings::tls;

    /// The defaults, of an issuer on this host.
    pub(crate) fn fetch() -> KeyFetch {
        let ca = NamedFile { path: PathBuf::new(), bytes: Arc::default() };
        let tls = tls::UpstreamTls { ca, server_name: None, certificate: None, accepts_any: false, pins: Vec::new() };
        let seconds = Duration::from_secs;
        let server = outbound::OutboundServer { tls, allow_private: false, allow_http: true, timeout: seconds(5) };
        let url = Url::parse("http://localhost:9100/jwks").unwrap();
        let (wait, refresh, cooldown) = (seconds(2), seconds(900), seconds(10));
        KeyFetch { url, server, wait, refresh, cooldown, stale_for: seconds(86_400) }
    }

    #[test]
    fn stale_keys_are_told_of_in_time() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        // `refresh`, `stale_for`, and when it is told.
        for (refresh, stale_for, expect) in
            [(15, 1_440, 60), (15, 90, 45), (15, 40, 30), (60, 1_440, 120), (360, 2_880, 720), (1, 1, 2)]
        {
            let fetch = KeyFetch { refresh: minutes(refresh), stale_for: minutes(stale_for), ..fetch() };
            assert_eq!(fetch.told_after(), minutes(expect), "{refresh} {stale_for}");
        }
    }
}
