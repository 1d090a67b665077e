//! API keys and revocations as the command line asks for them, and as they are told.

use serde::{Deserialize, Serialize};

use crate::policy::auth::api_key::record::Network;

/// What a new API key is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whom it names: the principal is `key:` and this.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// After how many seconds it expires; absent: never.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// From where it may be used; empty: from everywhere.
    #[serde(default)]
    pub from: Vec<Network>,
    /// For which hosts; empty: for all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The plan that limits allow it; absent: the one that its roles or its name give.
    #[serde(default)]
    pub plan: Option<String>,
}

/// A key that was made elsewhere: its hash, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedKey {
    /// Its id, if it is written as this gateway writes keys; absent: another program has made it, in its own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The SHA-256 of its whole text, hexadecimal.
    pub sha256: String,
    /// As in [`NewKey`].
    pub name: String,
    /// As in [`NewKey`].
    #[serde(default)]
    pub roles: Vec<String>,
    /// As in [`NewKey`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// As in [`NewKey`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// As in [`NewKey`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// When it expires: seconds since the Unix epoch; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// Which tokens are to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensOf {
    /// The issuer: the name of its table, or its `iss`.
    pub issuer: String,
    /// The one with this `jti`.
    #[serde(default)]
    pub id: Option<String>,
    /// Those of this subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// Those that were issued before: seconds since the Unix epoch.
    #[serde(default)]
    pub before: Option<u64>,
    /// Those that are signed by the issuer's key of this `kid`.
    #[serde(default)]
    pub kid: Option<String>,
}

/// A new key. Nobody is told its text again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMade {
    /// Its id.
    pub id: String,
    /// Whom it names.
    pub name: String,
    /// Its text: the secret.
    pub key: String,
    /// RFC 3339, UTC; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The key that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Until when that one is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_until: Option<String>,
    /// What is not sure; absent: every proxy knows of the key, and of the end of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl std::fmt::Debug for KeyMade {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "KeyMade({})", self.id)
    }
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// In the order of their names.
    pub keys: Vec<KeyShown>,
    /// Name and id of the last one; absent: there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<(String, String)>,
}

/// A key as it is shown: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyShown {
    /// Its id.
    pub id: String,
    /// Whom it names.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// From where it may be used; empty: from everywhere.
    pub from: Vec<String>,
    /// For which hosts; empty: for all.
    pub hosts: Vec<String>,
    /// The plan that it has; absent: the one that its roles or its name give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// RFC 3339, UTC.
    pub created: String,
    /// Who made it.
    pub actor: String,
    /// RFC 3339, UTC; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The same, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
    /// When it was used last, to an hour: RFC 3339, UTC; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// When it was revoked: RFC 3339, UTC; absent: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// The key that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
}

/// A page of revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationPage {
    /// In the order of their numbers.
    pub revocations: Vec<RevocationShown>,
    /// The number of the last one; absent: there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationShown {
    /// Its number.
    pub number: u64,
    /// What is revoked, as a sentence.
    pub what: String,
    /// When it is over: RFC 3339, UTC; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// Who did it; `file`: it stands in the file of revocations.
    pub actor: String,
    /// RFC 3339, UTC.
    pub added: String,
}
